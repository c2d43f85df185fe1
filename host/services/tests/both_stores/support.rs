//! A fresh store for a case, and few-letter helpers for the cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bson::{Bson, Document, RawDocumentBuf};
use coglex_services::storage::embedded::EmbeddedStore;
use coglex_services::storage::mongo::MongoStore;
use coglex_services::storage::{
    Change, DocumentStore, DocumentStream, Find, IndexSpec, StoreError, Update,
};
use futures_util::TryStreamExt as _;

pub(crate) type Store = Arc<dyn DocumentStore>;

pub(crate) async fn on_embedded<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    case(Arc::new(store.clone())).await;
    store.close().await;
}

pub(crate) async fn on_mongodb<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(uri) = std::env::var("COGLEX_TEST_MONGODB_URI") else {
        eprintln!("SKIPPED: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        return;
    };
    let name = format!(
        "coglex_test_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let store = MongoStore::connect(&uri, Some(&name)).await.unwrap();
    case(Arc::new(store.clone())).await;
    store.drop_database().await.unwrap();
    store.close().await;
}

pub(crate) fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap()
}

pub(crate) async fn insert(
    store: &Store,
    collection: &str,
    documents: &[Document],
) -> Result<(), StoreError> {
    store
        .insert(collection, documents.iter().map(raw).collect())
        .await
}

pub(crate) async fn collect(stream: DocumentStream) -> Vec<Document> {
    let raw: Vec<RawDocumentBuf> = stream.try_collect().await.unwrap();
    raw.iter()
        .map(|raw| Document::try_from(raw).unwrap())
        .collect()
}

pub(crate) async fn find(store: &Store, collection: &str, find: Find) -> Vec<Document> {
    collect(store.find(collection, find).await.unwrap()).await
}

pub(crate) async fn all(store: &Store, collection: &str, filter: Document) -> Vec<Document> {
    find(
        store,
        collection,
        Find {
            filter,
            ..Find::default()
        },
    )
    .await
}

pub(crate) async fn one(store: &Store, collection: &str, id: impl Into<Bson>) -> Document {
    Document::try_from(store.get(collection, id.into()).await.unwrap().unwrap()).unwrap()
}

pub(crate) fn set(filter: Document, operators: Document) -> Update {
    Update {
        filter,
        change: Change::Operators(operators),
        many: false,
        upsert: false,
        array_filters: Vec::new(),
    }
}

pub(crate) fn index(keys: Document, unique: bool, sparse: bool) -> IndexSpec {
    IndexSpec {
        name: None,
        keys,
        unique,
        sparse,
        expire_after: None,
    }
}
