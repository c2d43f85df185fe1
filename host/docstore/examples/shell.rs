//! Answers one operation a line, in Extended JSON, from a throw-away store.
//!
//! For comparing the store with other engines: a driver in any language writes
//! `{"op": "find", "collection": "c", "filter": {…}, …}` and reads `{"ok": […]}` or
//! `{"error": "…"}`. Operations: `insert`, `find`, `update`, `delete`, `aggregate`,
//! `distinct`, `index`, `drop`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for another program, which may give up"
)]

use std::io::BufRead;

use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_docstore::model::{Change, Find, IndexSpec, Update};
use coglex_docstore::{Error, Options, Result, Store};

fn document(request: &Document, name: &str) -> Option<Document> {
    request.get_document(name).ok().cloned()
}

fn list(request: &Document, name: &str) -> Vec<Document> {
    let values = request.get_array(name).cloned().unwrap_or_default();
    values
        .into_iter()
        .filter_map(|value| value.as_document().cloned())
        .collect()
}

fn number(request: &Document, name: &str) -> Option<u64> {
    match request.get(name) {
        Some(Bson::Int32(number)) => u64::try_from(*number).ok(),
        Some(Bson::Int64(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn decoded(documents: Vec<RawDocumentBuf>) -> Bson {
    let decode = |document: RawDocumentBuf| Bson::Document(Document::try_from(document).unwrap());
    Bson::Array(documents.into_iter().map(decode).collect())
}

async fn answer(store: &Store, request: &Document) -> Result<Bson> {
    let collection = request.get_str("collection").unwrap_or("c");
    let filter = document(request, "filter").unwrap_or_default();
    let many = request.get_bool("many").unwrap_or(false);
    match request.get_str("op").unwrap_or_default() {
        "insert" => {
            let documents = list(request, "documents");
            let raw = documents
                .iter()
                .map(|document| RawDocumentBuf::try_from(document).unwrap());
            store.insert(collection, raw.collect()).await?;
            Ok(Bson::Null)
        }
        "find" => {
            let find = Find {
                filter,
                projection: document(request, "projection"),
                sort: document(request, "sort"),
                skip: number(request, "skip").unwrap_or(0),
                limit: number(request, "limit"),
                max_time: None,
            };
            Ok(decoded(store.find(collection, find).await?.all().await?))
        }
        "update" => {
            let update = document(request, "update").unwrap_or_default();
            let operators = update
                .keys()
                .next()
                .is_some_and(|name| name.starts_with('$'));
            let change = if operators {
                Change::Operators(update)
            } else {
                Change::Replacement(update)
            };
            let update = Update {
                filter,
                change,
                many,
                upsert: request.get_bool("upsert").unwrap_or(false),
                array_filters: list(request, "arrayFilters"),
            };
            let outcome = store.update(collection, update).await?;
            Ok(Bson::Array(vec![
                Bson::Int64(outcome.matched.cast_signed()),
                Bson::Int64(outcome.modified.cast_signed()),
            ]))
        }
        "delete" => Ok(Bson::Int64(
            store.delete(collection, filter, many).await?.cast_signed(),
        )),
        "aggregate" => Ok(decoded(
            store
                .aggregate(collection, list(request, "pipeline"), None)
                .await?,
        )),
        "distinct" => {
            let path = request.get_str("path").unwrap_or_default();
            Ok(Bson::Array(
                store.distinct(collection, path, filter, None).await?,
            ))
        }
        "index" => {
            let keys = document(request, "keys").unwrap_or_default();
            let unique = request.get_bool("unique").unwrap_or(false);
            let sparse = request.get_bool("sparse").unwrap_or(false);
            let spec = IndexSpec {
                name: None,
                keys,
                unique,
                sparse,
                expire_after: None,
            };
            store.create_index(collection, spec).await?;
            Ok(Bson::Null)
        }
        "drop" => Ok(Bson::Boolean(store.drop_collection(collection).await?)),
        other => Err(Error::Invalid(format!("unknown operation '{other}'"))),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        readers: 1,
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    for line in std::io::stdin().lock().lines() {
        let json: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let request = Bson::try_from(json).unwrap();
        let reply = match answer(&store, request.as_document().unwrap()).await {
            Ok(value) => doc! { "ok": value },
            Err(error) => doc! { "error": error.to_string() },
        };
        println!("{}", Bson::Document(reply).into_canonical_extjson());
    }
}
