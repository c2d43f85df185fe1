//! What the tests of the store share.
#![allow(dead_code, reason = "no test program uses all of it")]

use std::path::Path;

use bson::{Bson, Document, RawDocumentBuf};
use coglex_docstore::model::{Change, Find, IndexSpec, Update};
use coglex_docstore::{Options, Store};

pub(crate) fn open(folder: &Path) -> Store {
    Store::open(
        &folder.join("data.db"),
        Options {
            readers: 2,
            ..Options::default()
        },
    )
    .unwrap()
}

pub(crate) fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

pub(crate) fn regex(pattern: &str, options: &str) -> Bson {
    let (pattern, options) = (
        pattern.to_owned().try_into().unwrap(),
        options.to_owned().try_into().unwrap(),
    );
    Bson::RegularExpression(bson::Regex { pattern, options })
}

pub(crate) fn index(keys: Document) -> IndexSpec {
    IndexSpec {
        name: None,
        keys,
        unique: false,
        sparse: false,
        expire_after: None,
    }
}

pub(crate) fn operators(filter: Document, operators: Document) -> Update {
    Update {
        filter,
        change: Change::Operators(operators),
        many: false,
        upsert: false,
        array_filters: vec![],
    }
}

pub(crate) async fn insert(store: &Store, documents: impl IntoIterator<Item = Document>) {
    store
        .insert("things", documents.into_iter().map(raw).collect())
        .await
        .unwrap();
}

pub(crate) async fn find(store: &Store, find: Find) -> Vec<Document> {
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

pub(crate) async fn ids(store: &Store, filter: Document) -> Vec<Bson> {
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

pub(crate) fn ints(range: impl IntoIterator<Item = i32>) -> Vec<Bson> {
    range.into_iter().map(Bson::Int32).collect()
}
