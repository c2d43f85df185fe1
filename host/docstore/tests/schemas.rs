//! Schemas of collections in the store's file: that they last, leave with their
//! collection, and cost little. What they mean is told by the suite that runs on
//! every store, in the services.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking; clippy's exception covers only the functions marked as tests"
)]

mod support;

use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use coglex_docstore::model::{ValidationLevel, Validator};
use coglex_docstore::{Error, Options, Schema, Store};
use support::{insert, open, operators, raw};

fn strict(schema: Document) -> Option<Validator> {
    Some(Validator {
        schema,
        level: ValidationLevel::Strict,
    })
}

async fn is_refused(store: &Store, document: Document) -> bool {
    match store.insert("things", vec![raw(document)]).await {
        Ok(()) => false,
        Err(Error::DocumentInvalid { failures }) => {
            assert!(!failures.is_empty());
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_schema_outlives_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 1 }]).await;
    let moderate = Some(Validator {
        schema: doc! { "required": ["n"], "properties": { "n": { "pattern": "^ä" } } },
        level: ValidationLevel::Moderate,
    });
    store
        .set_validator("things", moderate.clone())
        .await
        .unwrap();
    store.close().await;

    let store = open(folder.path());
    assert_eq!(store.validator("things").await.unwrap(), moderate);
    assert_eq!(store.validator("others").await.unwrap(), None);
    assert!(is_refused(&store, doc! { "_id": 2 }).await);
    assert!(is_refused(&store, doc! { "_id": 2, "n": "b" }).await);
    assert!(!is_refused(&store, doc! { "_id": 2, "n": "äb" }).await);
    let spared = operators(doc! { "_id": 1 }, doc! { "$set": { "m": 1 } });
    assert_eq!(store.update("things", spared).await.unwrap().modified, 1);
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());

    let copy = folder.path().join("copy.db");
    store.backup(&copy).await.unwrap();
    store.set_validator("things", None).await.unwrap();
    store.close().await;
    let store = open(folder.path());
    assert_eq!(store.validator("things").await.unwrap(), None);
    assert!(!is_refused(&store, doc! { "_id": 3 }).await);
    let copy = Store::open(&copy, Options::default()).unwrap();
    assert_eq!(copy.validator("things").await.unwrap(), moderate);
}

#[tokio::test]
async fn a_schema_leaves_with_its_collection() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let schema = strict(doc! { "required": ["n"] });
    store.set_validator("things", schema).await.unwrap();
    assert_eq!(store.collections().await.unwrap(), ["things"]);
    store.drop_collection("things").await.unwrap();
    assert!(!is_refused(&store, doc! { "_id": 1 }).await);
    store.close().await;
    let store = open(folder.path());
    assert_eq!(store.validator("things").await.unwrap(), None);
    assert!(!is_refused(&store, doc! { "_id": 2 }).await);
    // Removing what is not there makes nothing.
    store.set_validator("others", None).await.unwrap();
    assert_eq!(store.collections().await.unwrap(), ["things"]);
}

#[tokio::test]
async fn a_refused_schema_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let schema = strict(doc! { "required": ["n"] });
    store.set_validator("things", schema.clone()).await.unwrap();
    let wrong = strict(doc! { "requires": ["n"] });
    let error = store.set_validator("things", wrong).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(store.validator("things").await.unwrap(), schema);
}

/// One writer's refusal takes nothing from those that share its transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_do_not_spread() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let schema = strict(doc! { "properties": { "n": { "maximum": 499 } } });
    store.set_validator("things", schema).await.unwrap();
    let writers: Vec<_> = (0..1_000)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { is_refused(&store, doc! { "_id": n, "n": n }).await })
        })
        .collect();
    for (n, writer) in writers.into_iter().enumerate() {
        assert_eq!(writer.await.unwrap(), n >= 500, "{n}");
    }
    assert_eq!(store.count("things", doc! {}, None).await.unwrap(), 500);
}

/// Lists that are compared, and many names, cost time in proportion to the
/// document.
#[test]
fn a_hostile_document_is_checked_in_bounded_time() {
    let values: Vec<Bson> = (0..10_000).map(Bson::Int32).collect();
    let schema = doc! { "properties": {
        "a": { "uniqueItems": true, "items": { "enum": values.clone() } },
    } };
    let schema = Schema::compile(&schema).unwrap();
    let long: Vec<Bson> = (0..200_000).map(|n| Bson::Int32(n % 10_000)).collect();
    let started = Instant::now();
    assert!(!schema.matches(&raw(doc! { "a": long })).unwrap());
    assert!(schema.matches(&raw(doc! { "a": values })).unwrap());

    let properties: Document = (0..1_900)
        .map(|n| (format!("p{n}"), doc! { "bsonType": "int" }.into()))
        .collect();
    let schema = doc! { "properties": properties, "additionalProperties": false };
    let schema = Schema::compile(&schema).unwrap();
    let wide: Document = (0..100_000)
        .map(|n| (format!("q{n}"), Bson::Int32(n)))
        .collect();
    assert_eq!(schema.failures(&raw(wide)).unwrap().len(), 10);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}
