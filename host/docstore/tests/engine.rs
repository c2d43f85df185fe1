//! The store as its callers use it, on a real file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::Path;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_docstore::model::{Change, Find, IndexSpec, Update};
use coglex_docstore::{Error, Options, Store};

fn open(folder: &Path) -> Store {
    Store::open(
        &folder.join("data.db"),
        Options {
            readers: 2,
            ..Options::default()
        },
    )
    .unwrap()
}

fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

fn regex(pattern: &str, options: &str) -> Bson {
    let (pattern, options) = (
        pattern.to_owned().try_into().unwrap(),
        options.to_owned().try_into().unwrap(),
    );
    Bson::RegularExpression(bson::Regex { pattern, options })
}

fn index(keys: Document) -> IndexSpec {
    IndexSpec {
        name: None,
        keys,
        unique: false,
        sparse: false,
        expire_after: None,
    }
}

fn operators(filter: Document, operators: Document) -> Update {
    Update {
        filter,
        change: Change::Operators(operators),
        many: false,
        upsert: false,
        array_filters: vec![],
    }
}

async fn insert(store: &Store, documents: impl IntoIterator<Item = Document>) {
    store
        .insert("things", documents.into_iter().map(raw).collect())
        .await
        .unwrap();
}

async fn find(store: &Store, find: Find) -> Vec<Document> {
    let documents = store
        .find("things", find)
        .await
        .unwrap()
        .all()
        .await
        .unwrap();
    documents
        .iter()
        .map(|document| Document::try_from(document).unwrap())
        .collect()
}

async fn ids(store: &Store, filter: Document) -> Vec<Bson> {
    let found = find(
        store,
        Find {
            filter,
            ..Find::default()
        },
    )
    .await;
    found
        .into_iter()
        .map(|document| document.get("_id").unwrap().clone())
        .collect()
}

fn ints(range: impl IntoIterator<Item = i32>) -> Vec<Bson> {
    range.into_iter().map(Bson::Int32).collect()
}

#[tokio::test]
async fn documents_live_through_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.ping().await.unwrap();
    assert_eq!(store.get("things", 1.into()).await.unwrap(), None);
    insert(
        &store,
        [
            doc! { "_id": 1, "a": "one" },
            doc! { "_id": "two", "a": [1, { "b": 2 }] },
        ],
    )
    .await;
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(
        store.get("things", 1.into()).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        store.insert("things", vec![raw(doc! { "_id": 9 })]).await,
        Err(Error::Unavailable(_))
    ));

    let store = open(folder.path());
    assert_eq!(store.collections().await.unwrap(), ["things"]);
    let found = store.get("things", 1.0.into()).await.unwrap().unwrap();
    assert_eq!(found, raw(doc! { "_id": 1, "a": "one" }));
    assert_eq!(ids(&store, doc! { "a.b": 2 }).await, ["two".into()]);
    assert_eq!(ids(&store, doc! { "a": "one" }).await, ints([1]));
}

#[tokio::test]
async fn finds_filter_sort_skip_limit_and_project() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        (0..10).map(|n| doc! { "_id": n, "n": n, "even": n % 2 == 0 }),
    )
    .await;
    assert_eq!(ids(&store, doc! {}).await, ints(0..10));
    assert_eq!(
        ids(&store, doc! { "even": true, "n": { "$gt": 3 } }).await,
        ints([4, 6, 8])
    );
    let sorted = find(
        &store,
        Find {
            filter: doc! { "even": true },
            sort: Some(doc! { "n": -1 }),
            skip: 1,
            limit: Some(2),
            projection: Some(doc! { "n": 1, "_id": 0 }),
            ..Find::default()
        },
    );
    assert_eq!(sorted.await, [doc! { "n": 6 }, doc! { "n": 4 }]);
    let compound = find(
        &store,
        Find {
            sort: Some(doc! { "even": 1, "n": -1 }),
            limit: Some(1),
            ..Find::default()
        },
    );
    assert_eq!(compound.await, [doc! { "_id": 9, "n": 9, "even": false }]);
    let page = find(
        &store,
        Find {
            skip: 3,
            limit: Some(2),
            ..Find::default()
        },
    )
    .await;
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].get_i32("_id").unwrap(), 3);
    assert_eq!(
        find(
            &store,
            Find {
                limit: Some(0),
                ..Find::default()
            }
        )
        .await,
        []
    );
    assert_eq!(
        find(
            &store,
            Find {
                skip: 100,
                ..Find::default()
            }
        )
        .await,
        []
    );
    assert_eq!(store.count("things", doc! {}).await.unwrap(), 10);
    assert_eq!(
        store.count("things", doc! { "even": true }).await.unwrap(),
        5
    );
    assert_eq!(store.count("nothing", doc! {}).await.unwrap(), 0);
    assert_eq!(
        store
            .find("nothing", Find::default())
            .await
            .unwrap()
            .all()
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_sort_puts_types_and_arrays_in_mongodbs_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [
            doc! { "_id": 1, "v": "text" },
            doc! { "_id": 2, "v": 5 },
            doc! { "_id": 3 },
            doc! { "_id": 4, "v": [9, 1] },
            doc! { "_id": 5, "v": true },
            doc! { "_id": 6, "v": [] },
            doc! { "_id": 7, "v": { "a": 1 } },
        ],
    )
    .await;
    let order = |sort: Document| {
        let store = store.clone();
        async move {
            let found = find(
                &store,
                Find {
                    sort: Some(sort),
                    ..Find::default()
                },
            )
            .await;
            found
                .iter()
                .map(|document| document.get_i32("_id").unwrap())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(order(doc! { "v": 1 }).await, [6, 3, 4, 2, 1, 7, 5]);
    assert_eq!(order(doc! { "v": -1 }).await, [5, 7, 1, 4, 2, 3, 6]);
    let error = store
        .find(
            "things",
            Find {
                sort: Some(doc! { "v": 2 }),
                ..Find::default()
            },
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("1 or -1"));
}

#[tokio::test]
async fn large_results_come_in_bounded_batches_and_see_later_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for chunk in 0..10 {
        insert(
            &store,
            (0..500).map(|n| doc! { "_id": chunk * 500 + n, "n": n }),
        )
        .await;
    }
    let mut cursor = store.find("things", Find::default()).await.unwrap();
    let first = cursor.next_batch().await.unwrap().unwrap();
    assert!(first.len() <= 1_000);
    // Nothing is pinned meanwhile: what goes is gone, what comes is seen.
    store
        .delete("things", doc! { "_id": 4_999 }, false)
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 5_000 }]).await;
    let rest = cursor.all().await.unwrap();
    assert_eq!(first.len() + rest.len(), 5_000);
    assert_eq!(rest.last().unwrap().get_i32("_id").unwrap(), 5_000);

    let mut sorted = store
        .find(
            "things",
            Find {
                sort: Some(doc! { "_id": -1 }),
                ..Find::default()
            },
        )
        .await
        .unwrap();
    let mut last = i32::MAX;
    while let Some(batch) = sorted.next_batch().await.unwrap() {
        for document in batch {
            let id = document.get_i32("_id").unwrap();
            assert!(id < last);
            last = id;
        }
    }
    assert_eq!(last, 0);

    insert(
        &store,
        (0..4).map(|n| doc! { "_id": format!("big{n}"), "s": "x".repeat(700_000) }),
    )
    .await;
    let filter = doc! { "_id": { "$type": "string" } };
    let mut big = store
        .find(
            "things",
            Find {
                filter,
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(big.next_batch().await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn a_sort_beyond_its_bound_is_refused_unless_limited() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_result_bytes: 10_000,
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    insert(
        &store,
        (0..1_000).map(|n| doc! { "_id": n, "n": 1_000 - n }),
    )
    .await;
    let sort = |limit| Find {
        sort: Some(doc! { "n": 1 }),
        limit,
        ..Find::default()
    };
    let error = store
        .find("things", sort(None))
        .await
        .unwrap()
        .all()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let found = find(&store, sort(Some(2))).await;
    assert_eq!(found[0].get_i32("_id").unwrap(), 999);
}

#[tokio::test]
async fn an_insert_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 1 }]).await;
    let error = store
        .insert(
            "things",
            vec![raw(doc! { "_id": 2 }), raw(doc! { "_id": 1.0 })],
        )
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::DuplicateKey { ref index } if index == "_id_"),
        "{error}"
    );
    assert_eq!(ids(&store, doc! {}).await, ints([1]));
    let error = store
        .insert("things", vec![raw(doc! { "a": 1 })])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    let error = store
        .insert("new", vec![raw(doc! { "_id": 1 }), raw(doc! { "_id": 1 })])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DuplicateKey { .. }));
    assert_eq!(
        store.collections().await.unwrap(),
        ["things"],
        "the collection went with the insert"
    );
    store
        .insert("new", vec![raw(doc! { "_id": 1 })])
        .await
        .unwrap();
    assert_eq!(store.count("new", doc! {}).await.unwrap(), 1);
    assert!(matches!(
        store.insert("a$b", vec![raw(doc! { "_id": 1 })]).await,
        Err(Error::Invalid(_))
    ));
    store.insert("empty", vec![]).await.unwrap();
}

#[tokio::test]
async fn updates_count_matches_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        (0..5).map(|n| doc! { "_id": n, "n": n, "tags": ["a", "b"] }),
    )
    .await;
    let one = store
        .update(
            "things",
            operators(doc! { "n": { "$gte": 2 } }, doc! { "$set": { "x": 1 } }),
        )
        .await
        .unwrap();
    assert_eq!((one.matched, one.modified), (1, 1));
    assert_eq!(
        ids(&store, doc! { "x": 1 }).await,
        ints([2]),
        "the first in natural order"
    );
    let many = Update {
        many: true,
        ..operators(doc! { "n": { "$gte": 2 } }, doc! { "$set": { "x": 1 } })
    };
    let many = store.update("things", many).await.unwrap();
    assert_eq!(
        (many.matched, many.modified),
        (3, 2),
        "one had the value already"
    );
    let none = store
        .update(
            "things",
            operators(doc! { "n": 99 }, doc! { "$set": { "x": 1 } }),
        )
        .await
        .unwrap();
    assert_eq!((none.matched, none.modified), (0, 0));
    store
        .update(
            "things",
            operators(
                doc! { "_id": 0, "tags": "b" },
                doc! { "$set": { "tags.$": "c" } },
            ),
        )
        .await
        .unwrap();
    assert_eq!(
        find(
            &store,
            Find {
                filter: doc! { "_id": 0 },
                ..Find::default()
            }
        )
        .await[0]
            .get_array("tags")
            .unwrap()[1],
        "c".into()
    );
    let replacement = Update {
        change: Change::Replacement(doc! { "z": 1 }),
        ..operators(doc! { "_id": 1 }, doc! {})
    };
    assert_eq!(
        store.update("things", replacement).await.unwrap().modified,
        1
    );
    assert_eq!(
        store.get("things", 1.into()).await.unwrap().unwrap(),
        raw(doc! { "_id": 1, "z": 1 })
    );
    let error = store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "_id": 2 } }),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    let growing = doc! { "$set": { "s": "x".repeat(17 << 20) } };
    let error = store
        .update("things", operators(doc! { "_id": 1 }, growing))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn a_failed_multi_update_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": "text" }],
    )
    .await;
    let update = Update {
        many: true,
        ..operators(doc! {}, doc! { "$inc": { "n": 1 } })
    };
    assert!(matches!(
        store.update("things", update).await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(store.count("things", doc! { "n": 1 }).await.unwrap(), 1);
}

#[tokio::test]
async fn an_upsert_inserts_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let upsert = || Update {
        upsert: true,
        ..operators(
            doc! { "k": "a", "n": { "$gt": 0 } },
            doc! { "$inc": { "n": 1 }, "$setOnInsert": { "new": true } },
        )
    };
    let first = store.update("things", upsert()).await.unwrap();
    assert!(first.matched == 0 && matches!(first.upserted_id, Some(Bson::ObjectId(_))));
    let second = store.update("things", upsert()).await.unwrap();
    assert_eq!(
        (second.matched, second.modified, second.upserted_id),
        (1, 1, None)
    );
    let found = find(
        &store,
        Find {
            projection: Some(doc! { "_id": 0 }),
            ..Find::default()
        },
    )
    .await;
    assert_eq!(found, [doc! { "k": "a", "n": 2, "new": true }]);
}

#[tokio::test]
async fn deletes_take_one_or_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "n": 1 })
            },
        )
        .await
        .unwrap();
    insert(&store, (0..6).map(|n| doc! { "_id": n, "n": n })).await;
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, false)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, true)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, true)
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.delete("nothing", doc! {}, true).await.unwrap(), 0);
    assert_eq!(ids(&store, doc! {}).await, ints(0..3));
    insert(&store, [doc! { "_id": 7, "n": 4 }]).await;
    assert_eq!(store.delete("things", doc! {}, true).await.unwrap(), 4);
}

/// The same questions with and without indexes, over values of many types.
#[tokio::test]
async fn indexes_change_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let values = [
        Bson::Int32(1),
        Bson::Int32(2),
        Bson::Double(2.5),
        Bson::Int64(3),
        Bson::Null,
        "a".into(),
        "ab".into(),
        "b".into(),
        Bson::Boolean(true),
        bson::bson!([1, 5]),
        bson::bson!([]),
        bson::bson!({ "x": 1 }),
        bson::bson!([{ "x": 2 }, { "x": [3, 4] }]),
        bson::bson!([[1]]),
        Bson::Undefined,
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Double(f64::NAN),
        regex("^a", ""),
    ];
    let mut documents = vec![doc! { "_id": -1 }];
    for (n, a) in values.iter().enumerate() {
        for (m, b) in values.iter().enumerate() {
            let mut document =
                doc! { "_id": i32::try_from(n * values.len() + m).unwrap(), "a": a.clone() };
            // Two arrays of one document cannot share an index.
            if !matches!((a, b), (Bson::Array(_), Bson::Array(_))) {
                document.insert("b", b.clone());
            }
            documents.push(document);
        }
    }
    for set in ["plain", "indexed", "descending", "sparse", "compound"] {
        store
            .insert(set, documents.iter().cloned().map(raw).collect())
            .await
            .unwrap();
    }
    for path in ["a", "b", "a.x"] {
        store
            .create_index("indexed", index(doc! { path: 1 }))
            .await
            .unwrap();
        store
            .create_index("descending", index(doc! { path: -1 }))
            .await
            .unwrap();
        store
            .create_index(
                "sparse",
                IndexSpec {
                    sparse: true,
                    ..index(doc! { path: 1 })
                },
            )
            .await
            .unwrap();
    }
    store
        .create_index("compound", index(doc! { "a": 1, "b": -1 }))
        .await
        .unwrap();
    store
        .create_index("compound", index(doc! { "b": 1, "a": 1, "_id": 1 }))
        .await
        .unwrap();

    let mut filters = Vec::new();
    for operand in &values {
        for operator in ["$eq", "$gt", "$gte", "$lt", "$lte"] {
            let usable = match operand {
                Bson::Undefined => false,
                Bson::RegularExpression(_) => operator == "$eq",
                _ => true,
            };
            if usable {
                for path in ["a", "b", "a.x", "a.0"] {
                    filters.push(doc! { path: { operator: operand.clone() } });
                }
                filters.push(doc! { "a": { operator: operand.clone() }, "b": { "$gte": 2 } });
                filters.push(
                    doc! { "a": { "$in": [operand.clone(), 2] }, "b": { "$lt": "b", "$gte": "a" } },
                );
            }
        }
    }
    filters.extend([
        doc! { "a": { "$gt": 1, "$lt": 3 } },
        doc! { "a": { "$gt": 4, "$lt": 3 } },
        doc! { "a": { "$gte": 1, "$gt": 1, "$lte": 2 } },
        doc! { "a": { "$regex": "^a" } },
        doc! { "a": { "$regex": "^ab*" } },
        doc! { "a": { "$in": [] } },
        doc! { "a": { "$in": ["a", null] } },
        doc! { "a": { "$exists": false } },
        doc! { "a": { "$ne": 1 } },
        doc! { "$or": [{ "a": 1 }, { "b": "a" }] },
        doc! { "$and": [{ "a": { "$gte": 1 } }, { "a": { "$lte": 1 } }] },
        doc! { "_id": { "$in": [3, 1, 77] } },
        doc! { "_id": 5, "a": 1 },
        doc! { "_id": { "$gt": 300 } },
        doc! { "a.x": { "$gt": 1, "$lt": 3 } },
    ]);
    for filter in filters {
        let mut answers = Vec::new();
        for set in ["plain", "indexed", "descending", "sparse", "compound"] {
            let find = Find {
                filter: filter.clone(),
                ..Find::default()
            };
            answers.push((
                set,
                store.find(set, find).await.unwrap().all().await.unwrap(),
            ));
        }
        let (_, plain) = &answers[0];
        for (set, answer) in &answers[1..] {
            assert_eq!(answer.len(), plain.len(), "{set}: {filter}");
            assert_eq!(answer, plain, "{set}: {filter}");
        }
    }
}

#[tokio::test]
async fn indexes_follow_updates_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "tags": 1 }))
        .await
        .unwrap();
    insert(
        &store,
        [
            doc! { "_id": 1, "tags": ["a", "b"] },
            doc! { "_id": 2, "tags": "b" },
        ],
    )
    .await;
    assert_eq!(ids(&store, doc! { "tags": "b" }).await, ints([1, 2]));
    store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "tags": ["a", "c"] } }),
        )
        .await
        .unwrap();
    assert_eq!(ids(&store, doc! { "tags": "b" }).await, ints([2]));
    assert_eq!(ids(&store, doc! { "tags": "c" }).await, ints([1]));
    store
        .delete("things", doc! { "tags": "c" }, true)
        .await
        .unwrap();
    assert_eq!(ids(&store, doc! { "tags": "a" }).await, ints([]));
}

#[tokio::test]
async fn unique_indexes_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let unique = |keys: Document| IndexSpec {
        unique: true,
        ..index(keys)
    };
    store
        .create_index("things", unique(doc! { "k": 1 }))
        .await
        .unwrap();
    insert(
        &store,
        [
            doc! { "_id": 1, "k": "a" },
            doc! { "_id": 2, "k": ["b", "b", "c"] },
        ],
    )
    .await;
    let duplicate = |result: Result<(), Error>| match result {
        Err(Error::DuplicateKey { index }) => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 3, "k": "a" })])
                .await
        ),
        "k_1"
    );
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 3, "k": ["x", "c"] })])
                .await
        ),
        "k_1"
    );
    insert(&store, [doc! { "_id": 3 }]).await;
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 4, "k": null })])
                .await
        ),
        "k_1"
    );
    let update = store
        .update(
            "things",
            operators(doc! { "_id": 3 }, doc! { "$set": { "k": "a" } }),
        )
        .await;
    assert_eq!(duplicate(update.map(drop)), "k_1");
    store
        .update(
            "things",
            operators(doc! { "_id": 2 }, doc! { "$set": { "k": ["c", "d"] } }),
        )
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 4, "k": "b" }]).await;

    let sparse = IndexSpec {
        sparse: true,
        ..unique(doc! { "email": 1 })
    };
    store.create_index("things", sparse).await.unwrap();
    store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "email": "e" } }),
        )
        .await
        .unwrap();
    let update = store
        .update(
            "things",
            operators(doc! { "_id": 2 }, doc! { "$set": { "email": "e" } }),
        )
        .await;
    assert_eq!(duplicate(update.map(drop)), "email_1");
    // On data that breaks it, the index is refused and leaves no trace.
    insert(
        &store,
        [
            doc! { "_id": 10, "k": 10, "v": 1 },
            doc! { "_id": 11, "k": 11, "v": 1 },
        ],
    )
    .await;
    assert_eq!(
        duplicate(store.create_index("things", unique(doc! { "v": 1 })).await),
        "v_1"
    );
    insert(&store, [doc! { "_id": 12, "k": 12, "v": 1 }]).await;
}

#[tokio::test]
async fn index_definitions_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let refuse = async |spec: IndexSpec, why: &str| {
        let error = store.create_index("things", spec).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().contains(why),
            "{error}"
        );
    };
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "_id": 1 }))
        .await
        .unwrap();
    refuse(
        IndexSpec {
            unique: true,
            ..index(doc! { "a": 1 })
        },
        "another index is named",
    )
    .await;
    refuse(
        IndexSpec {
            name: Some("x".into()),
            ..index(doc! { "a": 1 })
        },
        "same keys",
    )
    .await;
    refuse(index(doc! { "a": "text" }), "1 or -1").await;
    refuse(index(doc! {}), "1 to 32 fields").await;
    refuse(
        IndexSpec {
            expire_after: Some(Duration::from_secs(1)),
            ..index(doc! { "a": 1, "b": 1 })
        },
        "one field",
    )
    .await;
    refuse(
        IndexSpec {
            name: Some("_id_".into()),
            ..index(doc! { "b": 1 })
        },
        "taken",
    )
    .await;
    store
        .create_index("things", index(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "b": 1, "a": 1 }))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_find_ends_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, (0..2_000).map(|n| doc! { "_id": n })).await;
    let find = Find {
        filter: doc! { "x": 1 },
        max_time: Some(Duration::ZERO),
        ..Find::default()
    };
    let error = store
        .find("things", find)
        .await
        .unwrap()
        .all()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout));
}

#[tokio::test]
async fn a_second_user_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let path = folder.path().join("data.db");
    let second = tokio::task::spawn_blocking(move || Store::open(&path, Options::default()))
        .await
        .unwrap();
    let error = second.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("another process uses the store"), "{cause}");
    drop(store);
    open(folder.path()).ping().await.unwrap();
}

#[tokio::test]
async fn a_foreign_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE mine(a)")
        .unwrap();
    let error = Store::open(&path, Options::default()).unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("another program")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_32_concurrent_inserts_wins_a_unique_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "k": 1 })
            },
        )
        .await
        .unwrap();
    for round in 0..5 {
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    store
                        .insert(
                            "things",
                            vec![raw(doc! { "_id": format!("{round}/{n}"), "k": round })],
                        )
                        .await
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => won += 1,
                Err(Error::DuplicateKey { index }) => assert_eq!(index, "k_1"),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
    }
    assert_eq!(store.count("things", doc! {}).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_are_all_counted_while_readers_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 1, "n": 0 }]).await;
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let outcome = store
                        .update(
                            "things",
                            operators(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }),
                        )
                        .await;
                    assert_eq!(outcome.unwrap().modified, 1);
                    let read = store.get("things", 1.into()).await.unwrap().unwrap();
                    assert!(
                        read.get_i32("n").unwrap() >= 1,
                        "a writer sees its own write"
                    );
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = store.get("things", 1.into()).await.unwrap().unwrap();
    assert_eq!(found.get_i32("n").unwrap(), 400);
}

#[tokio::test]
async fn plans_use_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1, "b": -1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "c": 1 }))
        .await
        .unwrap();
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "u": 1 })
            },
        )
        .await
        .unwrap();
    store
        .create_index(
            "things",
            IndexSpec {
                sparse: true,
                ..index(doc! { "s": 1 })
            },
        )
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "tags": 1, "d": 1 }))
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 1, "tags": [1, 2], "u": 1 }]).await;
    let check = async |filter: Document, sort: Option<Document>, expected: &str| {
        let find = Find {
            filter: filter.clone(),
            sort: sort.clone(),
            ..Find::default()
        };
        let plan = store.explain("things", find).await.unwrap();
        let index = plan.get_str("index").unwrap_or_default();
        let sorted = plan.get_str("sort").unwrap_or_default();
        let told = format!("{} {index} {sorted}", plan.get_str("stage").unwrap());
        assert_eq!(told.trim(), expected, "{filter} {sort:?}");
    };
    check(doc! {}, None, "scan").await;
    check(doc! { "x": 1 }, None, "scan").await;
    check(doc! { "_id": 1, "c": 1 }, None, "ids").await;
    check(doc! { "_id": { "$in": [1, 2] } }, None, "ids").await;
    check(doc! { "_id": { "$gt": 1 } }, None, "index _id_").await;
    check(doc! { "a": 1 }, None, "index a_1_b_-1").await;
    check(doc! { "b": 1 }, None, "scan").await;
    check(doc! { "c": { "$gt": 1 } }, None, "index c_1").await;
    check(doc! { "c": { "$in": [1, 2] }, "x": 1 }, None, "index c_1").await;
    check(doc! { "c": { "$regex": "^abc" } }, None, "index c_1").await;
    check(doc! { "c": { "$regex": "abc" } }, None, "scan").await;
    check(doc! { "c": 1, "u": 1 }, None, "index u_1").await;
    check(doc! { "c": { "$gt": 1 }, "a": 1 }, None, "index a_1_b_-1").await;
    check(doc! { "c": [1] }, None, "scan").await;
    check(doc! { "c": null }, None, "index c_1").await;
    check(doc! { "s": null }, None, "scan").await;
    check(doc! { "s": "x" }, None, "index s_1").await;
    check(doc! { "tags": 1 }, None, "index tags_1_d_1").await;
    check(
        doc! { "$or": [{ "a": 1 }, { "c": { "$lt": 3 } }] },
        None,
        "union",
    )
    .await;
    check(doc! { "$or": [{ "a": 1 }, { "x": 1 }] }, None, "scan").await;
    check(
        doc! { "$or": [{ "a": 1 }, { "x": 1 }], "c": 1 },
        None,
        "index c_1",
    )
    .await;
    check(doc! {}, Some(doc! { "_id": -1 }), "index _id_ index").await;
    check(doc! {}, Some(doc! { "c": -1 }), "index c_1 index").await;
    check(
        doc! {},
        Some(doc! { "a": 1, "b": -1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! {},
        Some(doc! { "a": -1, "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(doc! {}, Some(doc! { "a": 1, "b": 1 }), "scan  memory").await;
    check(
        doc! { "a": 5 },
        Some(doc! { "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! { "a": 5 },
        Some(doc! { "a": 1, "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! { "a": { "$in": [5, 6] } },
        Some(doc! { "b": 1 }),
        "index a_1_b_-1 memory",
    )
    .await;
    check(doc! {}, Some(doc! { "tags": 1 }), "scan  memory").await;
    check(doc! {}, Some(doc! { "s": 1 }), "scan  memory").await;
    check(doc! { "x": 1 }, Some(doc! { "x": 1 }), "scan  memory").await;
}

/// Reading in the order of an index gives what sorting in memory gives.
#[tokio::test]
async fn sorts_by_index_and_in_memory_agree() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for set in ["plain", "indexed"] {
        let documents = (0..1_500_i32).map(|n| doc! { "_id": n, "a": n % 7, "b": n * 7_919 % 1_501, "c": format!("{}", n * 31 % 1_501) });
        store
            .insert(set, documents.map(raw).collect())
            .await
            .unwrap();
    }
    store
        .create_index("indexed", index(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    store
        .create_index("indexed", index(doc! { "c": -1 }))
        .await
        .unwrap();
    for (filter, sort) in [
        (doc! {}, doc! { "_id": -1 }),
        (
            doc! { "_id": { "$gte": 100, "$lt": 1_450 } },
            doc! { "_id": -1 },
        ),
        (doc! { "_id": { "$gt": 100 } }, doc! { "_id": 1 }),
        (doc! {}, doc! { "a": 1, "b": 1 }),
        (doc! {}, doc! { "a": -1, "b": -1 }),
        (doc! { "a": 3 }, doc! { "b": -1 }),
        (
            doc! { "a": 3, "b": { "$gt": 200, "$lte": 1_200 } },
            doc! { "b": 1 },
        ),
        (doc! { "b": { "$gt": 200 } }, doc! { "c": 1 }),
        (doc! { "c": { "$gte": "2", "$lt": "8" } }, doc! { "c": 1 }),
        (doc! { "c": { "$in": ["5", "77", "9"] } }, doc! { "c": -1 }),
    ] {
        for (skip, limit) in [(0, None), (0, Some(10)), (1_100, Some(20)), (3, None)] {
            let find = Find {
                filter: filter.clone(),
                sort: Some(sort.clone()),
                skip,
                limit,
                ..Find::default()
            };
            let mut answers = Vec::new();
            for set in ["plain", "indexed"] {
                answers.push(
                    store
                        .find(set, find.clone())
                        .await
                        .unwrap()
                        .all()
                        .await
                        .unwrap(),
                );
            }
            assert_eq!(answers[0], answers[1], "{filter} {sort} {skip} {limit:?}");
        }
    }
}

#[tokio::test]
async fn indexes_and_collections_are_listed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.indexes("things").await.unwrap(), []);
    insert(&store, (0..600).map(|n| doc! { "_id": n, "a": 1, "b": n })).await;
    let spec = IndexSpec {
        unique: true,
        sparse: true,
        ..index(doc! { "b": -1 })
    };
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store.create_index("things", spec.clone()).await.unwrap();
    let names = async || {
        let specs = store.indexes("things").await.unwrap();
        specs.iter().map(IndexSpec::name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["_id_", "a_1", "b_-1"]);

    // A find that reads an index goes on when the index is dropped under it.
    let filter = doc! { "a": 1, "b": { "$gte": 0 } };
    let mut cursor = store
        .find(
            "things",
            Find {
                filter,
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert!(cursor.next_batch().await.unwrap().is_some());
    assert!(store.drop_index("things", "a_1").await.unwrap());
    assert!(!store.drop_index("things", "a_1").await.unwrap());
    assert!(!store.drop_index("nothing", "a_1").await.unwrap());
    assert!(matches!(
        store.drop_index("things", "_id_").await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(names().await, ["_id_", "b_-1"]);
    assert_eq!(store.count("things", doc! { "a": 1 }).await.unwrap(), 600);

    assert!(store.drop_collection("things").await.unwrap());
    assert!(!store.drop_collection("things").await.unwrap());
    assert_eq!(store.collections().await.unwrap(), Vec::<String>::new());
    assert_eq!(store.count("things", doc! {}).await.unwrap(), 0);
    insert(
        &store,
        [doc! { "_id": 1, "b": 1 }, doc! { "_id": 2, "b": 1 }],
    )
    .await;
    store.close().await;
    let store = open(folder.path());
    assert_eq!(store.count("things", doc! { "b": 1 }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_find_outlives_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..3_000).map(|n| doc! { "_id": n, "a": n % 2 })).await;
    let find = Find {
        filter: doc! { "a": 1 },
        ..Find::default()
    };
    let mut cursor = store.find("things", find).await.unwrap();
    let first = cursor.next_batch().await.unwrap().unwrap().len();
    store.drop_index("things", "a_1").await.unwrap();
    assert_eq!(first + cursor.all().await.unwrap().len(), 1_500);
}

#[tokio::test]
async fn distinct_values_come_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [
            doc! { "_id": 1, "a": 1, "b": [{ "c": "x" }, { "c": ["y", "z"] }] },
            doc! { "_id": 2, "a": 1.0 },
            doc! { "_id": 3, "a": ["p", 1, ["q"]] },
            doc! { "_id": 4 },
            doc! { "_id": 5, "a": null },
        ],
    )
    .await;
    let distinct =
        async |path: &str, filter: Document| store.distinct("things", path, filter).await.unwrap();
    assert_eq!(
        distinct("a", doc! {}).await,
        [1.into(), "p".into(), bson::bson!(["q"]), Bson::Null]
    );
    assert_eq!(
        distinct("b.c", doc! {}).await,
        ["x".into(), "y".into(), "z".into()]
    );
    assert_eq!(
        distinct("a", doc! { "_id": { "$gt": 4 } }).await,
        [Bson::Null]
    );
    assert_eq!(store.distinct("nothing", "a", doc! {}).await.unwrap(), []);
}

#[tokio::test]
async fn documents_expire() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        expire_every: Duration::from_millis(20),
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    let spec = IndexSpec {
        expire_after: Some(Duration::from_secs(60)),
        ..index(doc! { "at": 1 })
    };
    store.create_index("things", spec).await.unwrap();
    let ago = |seconds: i64| {
        bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - seconds * 1_000)
    };
    let old = (0..1_200).map(|n| doc! { "_id": n, "at": ago(61) });
    insert(
        &store,
        old.chain([
            doc! { "_id": "young", "at": ago(30) },
            doc! { "_id": "none" },
            doc! { "_id": "text", "at": "1970" },
            doc! { "_id": "array", "at": [ago(10), ago(100)] },
        ]),
    )
    .await;
    for _ in 0..250 {
        if store.count("things", doc! {}).await.unwrap() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        ids(&store, doc! {}).await,
        ["young".into(), "none".into(), "text".into()]
    );
    store.close().await;
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..500).map(|n| doc! { "_id": n, "a": n % 3 })).await;
    let target = folder.path().join("copy.db");
    store.backup(&target).await.unwrap();
    assert!(matches!(
        store.backup(&target).await,
        Err(Error::Invalid(_))
    ));
    store.delete("things", doc! {}, true).await.unwrap();
    let copy = Store::open(&target, Options::default()).unwrap();
    assert_eq!(copy.count("things", doc! { "a": 1 }).await.unwrap(), 167);
    assert_eq!(copy.check().await.unwrap().problems, Vec::<String>::new());
    assert!(!folder.path().join("copy.db.partial").exists());
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_and_a_rebuild_mends_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..50).map(|n| doc! { "_id": n, "a": [n, n + 1] })).await;
    let report = store.check().await.unwrap();
    assert_eq!(
        (report.collections, report.documents, report.problems.len()),
        (1, 50, 0)
    );
    store.close().await;
    {
        let file = rusqlite::Connection::open(folder.path().join("data.db")).unwrap();
        file.execute("DELETE FROM i1 WHERE rid = 7", []).unwrap();
        file.execute("UPDATE i1 SET rid = 9999 WHERE rid = 8", [])
            .unwrap();
    }
    let store = open(folder.path());
    let problems = store.check().await.unwrap().problems;
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem == "things: index a_1 lacks a key of row 7"),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("98 entries; its documents have 100")),
        "{problems:?}"
    );
    store.rebuild().await.unwrap();
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
    store.close().await;
    {
        let file = rusqlite::Connection::open(folder.path().join("data.db")).unwrap();
        file.execute("UPDATE c1 SET doc = substr(doc, 1, 10) WHERE rid = 3", [])
            .unwrap();
    }
    let store = open(folder.path());
    let problems = store.check().await.unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("row 3")),
        "{problems:?}"
    );
    let damaged = store
        .find(
            "things",
            Find {
                filter: doc! { "x": 1 },
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert!(matches!(damaged.all().await, Err(Error::Unavailable(_))));
    assert!(
        store.get("things", 4.into()).await.unwrap().is_some(),
        "the rest is readable"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_file_bytes: Some(1 << 20),
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    let big = |n: i32| raw(doc! { "_id": n, "s": "x".repeat(50_000) });
    let mut stored = 0;
    let refusal = loop {
        match store.insert("things", vec![big(stored)]).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, Error::Unavailable(_)), "{refusal}");
    assert!((10..21).contains(&stored), "{stored}");
    // Many at once: some fit, some do not, and what was refused is not there.
    let tasks: Vec<_> = (100..140)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                (
                    n,
                    store
                        .insert(
                            "things",
                            vec![raw(doc! { "_id": n, "s": "y".repeat(2_000) })],
                        )
                        .await
                        .is_ok(),
                )
            })
        })
        .collect();
    for task in tasks {
        let (n, accepted) = task.await.unwrap();
        assert_eq!(
            store.get("things", n.into()).await.unwrap().is_some(),
            accepted,
            "{n}"
        );
    }
    assert_eq!(
        store
            .delete("things", doc! { "_id": { "$lt": 5 } }, true)
            .await
            .unwrap(),
        5
    );
    store.insert("things", vec![big(1)]).await.unwrap();
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_find_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        &folder.path().join("data.db"),
        Options {
            readers: 1,
            ..Options::default()
        },
    )
    .unwrap();
    insert(&store, (0..20_000).map(|n| doc! { "_id": n })).await;
    for _ in 0..200 {
        let mut cursor = store
            .find(
                "things",
                Find {
                    filter: doc! { "x": 1 },
                    ..Find::default()
                },
            )
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::from_micros(50), cursor.next_batch()).await;
        if waited.is_err() {
            assert_eq!(
                cursor.next_batch().await.unwrap(),
                None,
                "a cursor that was given up has ended"
            );
        }
    }
    // The abandoned scans stopped: the one reader answers at once.
    tokio::time::timeout(Duration::from_secs(2), store.get("things", 1.into()))
        .await
        .unwrap()
        .unwrap();
}
