//! Writing. Whatever returns has been made durable.

use serde::Serialize;

use super::{by_id, to_json, wit};
use crate::error::{Error, Result};
use crate::id::Id;

/// Inserts a document; answers with its `_id`, which the server generates unless
/// the document has one.
pub fn insert<T: Serialize + ?Sized>(collection: &str, document: &T) -> Result<Id> {
    let ids = wit::insert(collection, &[to_json("document", document)?])?;
    match ids.as_slice() {
        [id] => parse_id(id),
        _ => Err(Error::Mismatch(format!(
            "the server answered one insert with {} ids",
            ids.len()
        ))),
    }
}

/// Inserts documents, all or none; answers with their `_id`s in order.
pub fn insert_many<T: Serialize>(
    collection: &str,
    documents: impl IntoIterator<Item = T>,
) -> Result<Vec<Id>> {
    let texts = documents
        .into_iter()
        .map(|document| to_json("document", &document))
        .collect::<Result<Vec<_>>>()?;
    wit::insert(collection, &texts)?
        .iter()
        .map(|id| parse_id(id))
        .collect()
}

/// Applies a MongoDB update to the first document that matches, or to all with
/// [`many`](Update::many).
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let updated = storage::update("items", json!({"done": false}), json!({"$set": {"done": true}}))
///     .many()
///     .run()?;
/// log::info!("{} items are done now", updated.modified);
/// # Ok(()) }
/// ```
pub fn update(
    collection: impl Into<String>,
    filter: impl Serialize,
    update: impl Serialize,
) -> Update {
    Update {
        collection: collection.into(),
        parts: to_json("filter", &filter)
            .and_then(|filter| Ok((filter, to_json("update", &update)?))),
        options: wit::UpdateOptions {
            many: false,
            upsert: false,
        },
    }
}

/// Applies a MongoDB update to the document with this `_id`.
pub fn update_by_id(
    collection: &str,
    id: impl Into<Id>,
    change: impl Serialize,
) -> Result<Updated> {
    update(collection, by_id(id), change).run()
}

/// An update in the making; see [`update`](fn@update).
#[must_use = "an update does nothing until `.run()`"]
pub struct Update {
    collection: String,
    parts: Result<(String, String)>,
    options: wit::UpdateOptions,
}

impl Update {
    /// Every match rather than the first.
    pub fn many(mut self) -> Self {
        self.options.many = true;
        self
    }

    /// Inserts a document made of filter and update when nothing matches.
    pub fn upsert(mut self) -> Self {
        self.options.upsert = true;
        self
    }

    /// Does it.
    pub fn run(self) -> Result<Updated> {
        let (filter, update) = self.parts?;
        let outcome = wit::update(&self.collection, &filter, &update, self.options)?;
        Ok(Updated {
            matched: outcome.matched,
            modified: outcome.modified,
            upserted_id: outcome.upserted_id.as_deref().map(parse_id).transpose()?,
        })
    }
}

/// How many documents an update met.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Updated {
    /// Documents that the filter matched.
    pub matched: u64,
    /// Documents that the update changed; at most `matched`.
    pub modified: u64,
    /// The `_id` of the document that an upsert made.
    pub upserted_id: Option<Id>,
}

/// Deletes the first document that matches, or all with
/// [`many`](Delete::many).
pub fn delete(collection: impl Into<String>, filter: impl Serialize) -> Delete {
    Delete {
        collection: collection.into(),
        filter: to_json("filter", &filter),
        many: false,
    }
}

/// Deletes the document with this `_id`; tells whether there was one.
pub fn delete_by_id(collection: &str, id: impl Into<Id>) -> Result<bool> {
    Ok(delete(collection, by_id(id)).run()? > 0)
}

/// A delete in the making; see [`delete`](fn@delete).
#[must_use = "a delete does nothing until `.run()`"]
pub struct Delete {
    collection: String,
    filter: Result<String>,
    many: bool,
}

impl Delete {
    /// Every match rather than the first.
    pub fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// Does it; answers with how many documents are gone.
    pub fn run(self) -> Result<u64> {
        Ok(wit::delete(&self.collection, &self.filter?, self.many)?)
    }
}

fn parse_id(text: &str) -> Result<Id> {
    serde_json::from_str(text).map_err(|error| {
        Error::Mismatch(format!(
            "an `_id` is neither a string nor an ObjectId: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn updates_carry_filter_and_options() {
        let update = update("items", json!({"a": 1}), json!({"$inc": {"n": 1}}))
            .many()
            .upsert();
        assert!(update.options.many && update.options.upsert);
        assert_eq!(
            update.parts.unwrap(),
            (r#"{"a":1}"#.to_owned(), r#"{"$inc":{"n":1}}"#.to_owned())
        );
    }

    #[test]
    fn a_delete_whose_filter_cannot_be_json_does_not_run() {
        let bad = std::collections::BTreeMap::from([(vec![1u8], 1)]);
        assert!(matches!(
            delete("items", bad).many().run(),
            Err(Error::Invalid(_))
        ));
    }

    #[test]
    fn an_id_filter_is_extended_json() {
        assert_eq!(
            by_id("507f1f77bcf86cd799439011"),
            json!({"_id": {"$oid": "507f1f77bcf86cd799439011"}})
        );
        assert_eq!(by_id(Id::Text("x".to_owned())), json!({"_id": "x"}));
    }
}
