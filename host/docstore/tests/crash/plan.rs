//! What each writer does, step by step, and what that comes to: both the process
//! that is killed and the test that looks afterwards ask here.

use std::collections::BTreeMap;

use bson::{Document, RawDocumentBuf, doc};
use coglex_docstore::model::{Change, Update};
use coglex_docstore::{Error, Store};

pub(crate) const COLLECTION: &str = "things";
/// The document that all writers count in.
pub(crate) const COUNTERS: &str = "counters";

/// One write, which happens whole or not at all.
pub(crate) enum Step {
    /// One document, or several at once.
    Insert(Vec<Document>),
    /// Several, of which the last is there already: none is inserted.
    Clash(Vec<Document>),
    /// All documents of a batch get a higher version and another tag.
    Mark {
        batch: String,
        tag: String,
    },
    Delete(String),
    /// The writer's counter.
    Count,
}

/// A writer's own documents by `_id`.
pub(crate) type Model = BTreeMap<String, Document>;

/// The step `n` of a writer in a round of killing.
pub(crate) fn step(round: u32, writer: u32, n: u32) -> Step {
    let batch = |n: u32| format!("{round}-{writer}-{n}");
    let document = |n: u32, part: u32| {
        // Mostly small; some need pages of their own.
        let size = if n % 64 == 3 { 20_000 } else { n * 31 % 700 };
        let id = format!("{}-{part}", batch(n));
        doc! {
            "_id": &id, "batch": batch(n), "round": round, "writer": writer, "n": n, "serial": id,
            "tags": ["x", format!("w{writer}"), n % 7], "version": 0,
            "fill": "f".repeat(usize::try_from(size).unwrap()),
        }
    };
    match n % 8 {
        0 | 1 => Step::Insert(vec![document(n, 0)]),
        2 => Step::Insert((0..5).map(|part| document(n, part)).collect()),
        3 => Step::Mark {
            batch: batch(n - 1),
            tag: format!("m{n}"),
        },
        4 => Step::Mark {
            batch: batch(n - 4),
            tag: "one".into(),
        },
        5 => Step::Delete(format!("{}-0", batch(n - 4))),
        6 => Step::Clash(vec![document(n, 0), document(n, 1), document(n - 6, 0)]),
        _ => Step::Count,
    }
}

/// Does the step.
pub(crate) async fn run(store: &Store, writer: u32, step: &Step) {
    let raw = |documents: &[Document]| {
        documents
            .iter()
            .map(|document| RawDocumentBuf::try_from(document).unwrap())
            .collect()
    };
    let update = |filter: Document, operators: Document| Update {
        filter,
        change: Change::Operators(operators),
        many: true,
        upsert: false,
        array_filters: vec![],
    };
    match step {
        Step::Insert(documents) => store.insert(COLLECTION, raw(documents)).await.unwrap(),
        Step::Clash(documents) => {
            let refused = store.insert(COLLECTION, raw(documents)).await.unwrap_err();
            assert!(matches!(refused, Error::DuplicateKey { .. }), "{refused}");
        }
        Step::Mark { batch, tag } => {
            let change = doc! { "$inc": { "version": 1 }, "$push": { "tags": tag } };
            let outcome = store
                .update(COLLECTION, update(doc! { "batch": batch }, change))
                .await
                .unwrap();
            assert!(outcome.modified > 0, "{batch}");
        }
        Step::Delete(id) => {
            let deleted = store
                .delete(COLLECTION, doc! { "_id": id }, false)
                .await
                .unwrap();
            assert_eq!(deleted, 1, "{id}");
        }
        Step::Count => {
            let change = doc! { "$inc": { format!("w{writer}"): 1_i64 } };
            let update = Update {
                upsert: true,
                many: false,
                ..update(doc! { "_id": COUNTERS }, change)
            };
            store.update(COLLECTION, update).await.unwrap();
        }
    }
}

/// What the step makes of the writer's documents; answers by how much it counts.
pub(crate) fn apply(model: &mut Model, step: &Step) -> i64 {
    match step {
        Step::Insert(documents) => {
            for document in documents {
                model.insert(document.get_str("_id").unwrap().into(), document.clone());
            }
        }
        Step::Mark { batch, tag } => {
            for document in model.values_mut() {
                if document.get_str("batch").unwrap() == batch {
                    let version = document.get_i32("version").unwrap();
                    document.insert("version", version + 1);
                    document
                        .get_array_mut("tags")
                        .unwrap()
                        .push(tag.clone().into());
                }
            }
        }
        Step::Delete(id) => drop(model.remove(id)),
        Step::Clash(_) => {}
        Step::Count => return 1,
    }
    0
}
