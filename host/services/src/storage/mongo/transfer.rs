//! What a transfer needs of MongoDB.

use async_trait::async_trait;
use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use mongodb::IndexModel;
use mongodb::error::{Error as DriverError, ErrorKind};
use mongodb::options::Hint;

use super::error::{is_absent, store_error};
use super::{MongoStore, index_spec};
use crate::storage::transfer::{Indexes, Refused, TransferStore};
use crate::storage::{DocumentStream, Result, StoreError};

/// What `listIndexes` says of an index that every store can have
/// (<https://www.mongodb.com/docs/manual/reference/command/listIndexes/>).
const PORTABLE: [&str; 8] = [
    "v",
    "ns",
    "key",
    "name",
    "unique",
    "sparse",
    "expireAfterSeconds",
    "background",
];

#[async_trait]
impl TransferStore for MongoStore {
    async fn own_collections(&self) -> Result<Vec<String>> {
        let collections = self.database.list_collections();
        let collections = collections.filter(doc! { "type": "collection" });
        let found = match collections.await {
            Ok(cursor) => cursor.try_collect::<Vec<_>>().await,
            Err(error) => Err(error),
        };
        let mut names: Vec<String> = found
            .map_err(store_error)?
            .into_iter()
            .map(|collection| collection.name)
            .filter(|name| !name.starts_with("system."))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn documents(&self, collection: &str) -> Result<DocumentStream> {
        let target = self.raw(collection);
        let all = target.find(doc! {});
        // Said aloud, so that no index is thought to be a better way to all.
        let all = all.hint(Hint::Keys(doc! { "$natural": 1 }));
        let cursor = all.await.map_err(store_error)?;
        Ok(cursor.map(|document| document.map_err(store_error)).boxed())
    }

    async fn own_indexes(&self, collection: &str) -> Result<Indexes> {
        let command = doc! { "listIndexes": collection };
        let found = match self.database.run_cursor_command(command).await {
            Ok(cursor) => cursor.try_collect::<Vec<Document>>().await,
            Err(error) => Err(error),
        };
        let found = match found {
            Err(error) if is_absent(&error) => return Ok(Indexes::default()),
            found => found.map_err(store_error)?,
        };
        let mut indexes = Indexes::default();
        for index in found {
            let name = index.get_str("name").unwrap_or_default().to_owned();
            if name == "_id_" {
                continue;
            }
            match special(&index) {
                Some(why) => indexes.left_out.push((name, why)),
                None => {
                    let model: IndexModel = bson::deserialize_from_document(index)
                        .map_err(|error| StoreError::Unavailable(Box::new(error)))?;
                    indexes.portable.push(index_spec(model));
                }
            }
        }
        Ok(indexes)
    }

    async fn drop_collection(&self, collection: &str) -> Result<()> {
        match self.raw(collection).drop().await {
            Err(error) if !is_absent(&error) => Err(store_error(error)),
            _ => Ok(()),
        }
    }

    async fn load(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<(), Refused> {
        // In order and without a transaction: what an import has begun it may as
        // well keep, and the server says which document it stopped at.
        let inserted = self.raw(collection).insert_many(documents.iter()).await;
        inserted.map(drop).map_err(|error| Refused {
            index: place(&error),
            error: store_error(error),
        })
    }

    fn would_change(&self, document: &RawDocument) -> Option<String> {
        // https://www.mongodb.com/docs/manual/reference/bson-types/#timestamps
        let empty = document.iter().flatten().find(|(name, value)| {
            *name != "_id"
                && matches!(value, RawBsonRef::Timestamp(stamp) if stamp.time == 0 && stamp.increment == 0)
        });
        empty.map(|(name, _)| {
            format!(
                "the field `{name}` is an empty timestamp, which MongoDB would replace with the time of the insert"
            )
        })
    }
}

/// What about the index no other store has.
fn special(index: &Document) -> Option<String> {
    let option = index.iter().find(|(name, value)| {
        !PORTABLE.contains(&name.as_str()) && **value != Bson::Boolean(false)
    });
    if let Some((name, _)) = option {
        return Some(format!("it has the option `{name}`"));
    }
    let keys = index.get_document("key").ok()?;
    let (path, _) = keys.iter().find(|(path, direction)| {
        let plain = match direction {
            Bson::Int32(direction) => matches!(direction, 1 | -1),
            Bson::Int64(direction) => matches!(direction, 1 | -1),
            Bson::Double(direction) => direction.abs() == 1.0,
            _ => false,
        };
        !plain || path.contains("$**")
    })?;
    Some(format!("its key on `{path}` is neither 1 nor -1"))
}

/// The place of the document that an insert stopped at.
fn place(error: &DriverError) -> usize {
    match &*error.kind {
        ErrorKind::InsertMany(error) => error
            .write_errors
            .as_ref()
            .and_then(|errors| errors.first())
            .map_or(0, |error| error.index),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_indexes_are_portable() {
        let base = doc! { "v": 2, "key": { "a": 1, "b": -1.0 }, "name": "x" };
        for (field, value) in [
            ("unique", Bson::from(true)),
            ("sparse", true.into()),
            ("expireAfterSeconds", 5.into()),
            ("hidden", false.into()),
        ] {
            let mut index = base.clone();
            index.insert(field, value);
            assert_eq!(special(&index), None, "{index}");
        }
        for (field, value) in [
            ("partialFilterExpression", Bson::from(doc! { "a": 1 })),
            ("collation", doc! { "locale": "de" }.into()),
            ("hidden", true.into()),
            ("key", doc! { "a": "hashed" }.into()),
            ("key", doc! { "$**": 1 }.into()),
            ("key", doc! { "a": 2 }.into()),
        ] {
            let mut index = base.clone();
            index.insert(field, value);
            assert!(special(&index).is_some(), "{index}");
        }
    }
}
