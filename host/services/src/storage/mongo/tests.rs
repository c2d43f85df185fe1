//! What needs no server, and what only the adapter's inside can show. The rest
//! is in the suite that runs on every store.

use super::*;

#[tokio::test]
async fn a_uri_that_cannot_be_used_is_invalid_and_not_repeated() {
    for uri in [
        "",
        "http://user:hunter2@localhost",
        "mongodb://user:hunter2@",
        "mongodb://user:hunter2@localhost:port/",
        "mongodb://user:hunter2@localhost/?w=-5",
        "mongodb://user:hunter2@localhost/?authMechanism=none",
    ] {
        let error = MongoStore::connect(uri, Some("d")).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{uri}: {error:?}");
        assert!(
            !format!("{error:?} {error}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn the_database_is_the_uris_unless_one_is_set() {
    let uri = "mongodb://user:hunter2@127.0.0.1:1/mine?authSource=admin";
    let store = MongoStore::connect(uri, None).await.unwrap();
    assert_eq!(store.database.name(), "mine");
    assert!(!format!("{store:?}").contains("hunter2"));
    let store = MongoStore::connect(uri, Some("other")).await.unwrap();
    assert_eq!(store.database.name(), "other");
    let store = MongoStore::connect("mongodb://127.0.0.1:1", None)
        .await
        .unwrap();
    assert_eq!(store.database.name(), "coglex");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let uri = "mongodb://127.0.0.1:1/d?serverSelectionTimeoutMS=100";
    let store = MongoStore::connect(uri, None).await.unwrap();
    assert!(matches!(
        store.ping().await,
        Err(StoreError::Unavailable(_))
    ));
    let found = store.find("c", Find::default()).await;
    assert!(matches!(found.err(), Some(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn without_transactions_a_failed_batch_is_taken_out_again() {
    let Ok(uri) = std::env::var("COGLEX_TEST_MONGODB_URI") else {
        eprintln!("SKIPPED: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        return;
    };
    let name = format!("coglex_test_order_{}", std::process::id());
    let store = MongoStore::connect(&uri, Some(&name)).await.unwrap();
    let raw = |id: i32| RawDocumentBuf::try_from(&doc! { "_id": id }).unwrap();
    store.insert("c", vec![raw(2)]).await.unwrap();
    let target = store.raw("c");
    let failed = insert_in_order(&target, &[raw(0), raw(1), raw(2), raw(3)]).await;
    assert!(matches!(failed, Err(StoreError::DuplicateKey { index }) if index == "_id_"));
    assert_eq!(store.count("c", doc! {}, None).await.unwrap(), 1);
    assert!(store.get("c", Bson::Int32(2)).await.unwrap().is_some());
    insert_in_order(&target, &[raw(0), raw(1)]).await.unwrap();
    assert_eq!(store.count("c", doc! {}, None).await.unwrap(), 3);
    store.drop_database().await.unwrap();
}
