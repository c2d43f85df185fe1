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
            array_filters: Vec::new(),
        },
    }
}

/// Puts a document in the place of the first one that matches, whose `_id` it
/// keeps.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// storage::replace("items", json!({"title": "Milk"}), &json!({"title": "Bread", "done": false}))
///     .upsert()
///     .run()?;
/// # Ok(()) }
/// ```
pub fn replace<T: Serialize + ?Sized>(
    collection: impl Into<String>,
    filter: impl Serialize,
    document: &T,
) -> Replace {
    Replace {
        collection: collection.into(),
        parts: to_json("filter", &filter)
            .and_then(|filter| Ok((filter, to_json("document", document)?))),
        upsert: false,
    }
}

/// Puts a document in the place of the one with this `_id`.
pub fn replace_by_id<T: Serialize + ?Sized>(
    collection: &str,
    id: impl Into<Id>,
    document: &T,
) -> Result<Updated> {
    replace(collection, by_id(id), document).run()
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

    /// Says which elements of an array `$[name]` in a path means. Once for each
    /// name.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// # fn main() -> Result<()> {
    /// storage::update("lists", json!({}), json!({"$set": {"tasks.$[x].late": true}}))
    ///     .array_filter(json!({"x.due": {"$lt": {"$date": "2026-01-01T00:00:00Z"}}}))
    ///     .many()
    ///     .run()?;
    /// # Ok(()) }
    /// ```
    pub fn array_filter(mut self, filter: impl Serialize) -> Self {
        match to_json("array filter", &filter) {
            Ok(text) => self.options.array_filters.push(text),
            // The first failure is what the author should read.
            Err(error) => self.parts = self.parts.and(Err(error)),
        }
        self
    }

    /// Does it.
    pub fn run(self) -> Result<Updated> {
        let (filter, update) = self.parts?;
        wit::update(&self.collection, &filter, &update, &self.options)?.try_into()
    }
}

/// A replacement in the making; see [`replace`](fn@replace).
#[must_use = "a replacement does nothing until `.run()`"]
pub struct Replace {
    collection: String,
    parts: Result<(String, String)>,
    upsert: bool,
}

impl Replace {
    /// Inserts the document when nothing matches.
    pub fn upsert(mut self) -> Self {
        self.upsert = true;
        self
    }

    /// Does it.
    pub fn run(self) -> Result<Updated> {
        let (filter, document) = self.parts?;
        wit::replace(&self.collection, &filter, &document, self.upsert)?.try_into()
    }
}

impl TryFrom<wit::UpdateOutcome> for Updated {
    type Error = Error;

    fn try_from(outcome: wit::UpdateOutcome) -> Result<Self> {
        Ok(Self {
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
            .upsert()
            .array_filter(json!({"x": 1}));
        assert!(update.options.many && update.options.upsert);
        assert_eq!(update.options.array_filters, [r#"{"x":1}"#]);
        assert_eq!(
            update.parts.unwrap(),
            (r#"{"a":1}"#.to_owned(), r#"{"$inc":{"n":1}}"#.to_owned())
        );
    }

    #[test]
    fn a_delete_whose_filter_cannot_be_json_does_not_run() {
        let bad = std::collections::BTreeMap::from([(vec![1u8], 1)]);
        assert!(matches!(
            delete("items", bad.clone()).many().run(),
            Err(Error::Invalid(_))
        ));
        let update = update("items", json!({}), json!({})).array_filter(bad);
        assert!(matches!(update.run(), Err(Error::Invalid(_))));
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
