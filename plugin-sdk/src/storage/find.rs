//! Reading.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{from_json, to_json, wit};
use crate::error::{Error, Result};

/// The most documents that one round trip to the server brings, unless told
/// otherwise. Large enough to make the trip's cost vanish, small enough to keep
/// a batch in the instance's memory.
const BATCH: u32 = 200;

/// Finds documents of a collection: all of them, until narrowed.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let titles: Vec<Value> = storage::find("items")
///     .filter(json!({"type": "important"}))
///     .project(json!({"title": 1}))
///     .sort(json!({"created": -1}))
///     .skip(20)
///     .limit(20)
///     .all()?;
/// # Ok(()) }
/// ```
#[must_use = "a find does nothing until `.one()`, `.all()`, `.iter()` or `.count()`"]
pub fn find(collection: impl Into<String>) -> Find {
    Find {
        collection: collection.into(),
        filter: None,
        projection: None,
        sort: None,
        skip: 0,
        limit: None,
        batch: BATCH,
        error: None,
    }
}

/// A find in the making; see [`find`].
#[derive(Debug)]
#[must_use = "a find does nothing until `.one()`, `.all()`, `.iter()` or `.count()`"]
pub struct Find {
    collection: String,
    filter: Option<String>,
    projection: Option<String>,
    sort: Option<String>,
    skip: u64,
    limit: Option<u64>,
    batch: u32,
    /// The first part that could not be written, reported when the find runs.
    error: Option<Error>,
}

impl Find {
    /// Only documents that match, e.g. `json!({"done": false})`.
    pub fn filter(mut self, filter: impl Serialize) -> Self {
        self.filter = self.text("filter", &filter);
        self
    }

    /// Only these fields, or all but these, e.g. `json!({"title": 1})`.
    pub fn project(mut self, projection: impl Serialize) -> Self {
        self.projection = self.text("projection", &projection);
        self
    }

    /// In this order, e.g. `json!({"created": -1})`.
    pub fn sort(mut self, sort: impl Serialize) -> Self {
        self.sort = self.text("sort", &sort);
        self
    }

    /// Passes over the first `n` matches.
    pub fn skip(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// At most `n` documents.
    pub fn limit(mut self, n: u64) -> Self {
        self.limit = Some(n);
        self
    }

    /// How many documents one round trip to the server brings (200). Fewer save
    /// memory when documents are large.
    pub fn batch(mut self, n: u32) -> Self {
        self.batch = n.max(1);
        self
    }

    /// The first match, or none.
    pub fn one<T: DeserializeOwned>(self) -> Result<Option<T>> {
        self.limit(1).iter()?.next().transpose()
    }

    /// Every match.
    pub fn all<T: DeserializeOwned>(self) -> Result<Vec<T>> {
        self.iter()?.collect()
    }

    /// Every match, one by one, fetched in batches: memory stays small however
    /// many there are.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut total = 0.0;
    /// for order in storage::find("orders").iter::<Value>()? {
    ///     total += order?["amount"].as_f64().unwrap_or_default();
    /// }
    /// # Ok(()) }
    /// ```
    pub fn iter<T: DeserializeOwned>(self) -> Result<Documents<T>> {
        let (collection, options, batch) = self.options()?;
        let cursor = wit::find(&collection, &options)?;
        let left = options.limit.unwrap_or(u64::MAX);
        Ok(Documents {
            collection,
            cursor: Some(cursor),
            ready: Vec::new().into_iter(),
            batch,
            left,
            document: PhantomData,
        })
    }

    /// The different values at a path of the documents that match; of an array its
    /// elements. In no order; sort, skip and limit do not matter.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// # fn main() -> Result<()> {
    /// let tags: Vec<String> = storage::find("items").filter(json!({"done": false})).distinct("tags")?;
    /// # Ok(()) }
    /// ```
    pub fn distinct<T: DeserializeOwned>(self, path: &str) -> Result<Vec<T>> {
        let (collection, options, _) = self.options()?;
        let values = wit::distinct(&collection, path, &options.filter)?;
        let value = |text: &String| {
            serde_json::from_str(text).map_err(|error| {
                Error::Mismatch(format!(
                    "a value of `{path}` in `{collection}` does not fit the type: {error}"
                ))
            })
        };
        values.iter().map(value).collect()
    }

    /// How many documents match the filter; skip and limit do not matter.
    pub fn count(self) -> Result<u64> {
        let (collection, options, _) = self.options()?;
        Ok(wit::count(&collection, &options.filter)?)
    }

    fn options(self) -> Result<(String, wit::FindOptions, u32)> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let batch = match self.limit {
            Some(limit) => self
                .batch
                .min(u32::try_from(limit).unwrap_or(u32::MAX))
                .max(1),
            None => self.batch,
        };
        let options = wit::FindOptions {
            filter: self.filter.unwrap_or_else(|| "{}".to_owned()),
            projection: self.projection,
            sort: self.sort,
            skip: self.skip,
            limit: self.limit,
        };
        Ok((self.collection, options, batch))
    }

    fn text(&mut self, what: &str, value: &impl Serialize) -> Option<String> {
        match to_json(what, value) {
            Ok(text) => Some(text),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

/// Runs an aggregation pipeline over a collection. `pipeline` is a list of
/// stages.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// #[derive(Deserialize)]
/// struct Total {
///     #[serde(rename = "_id")]
///     customer: String,
///     total: f64,
/// }
///
/// # fn main() -> Result<()> {
/// let best: Vec<Total> = storage::aggregate("orders", json!([
///     {"$group": {"_id": "$customer", "total": {"$sum": "$amount"}}},
///     {"$sort": {"total": -1}},
///     {"$limit": 10},
/// ])).all()?;
/// # Ok(()) }
/// ```
pub fn aggregate(collection: impl Into<String>, pipeline: impl Serialize) -> Aggregate {
    Aggregate {
        collection: collection.into(),
        pipeline: stages(&pipeline),
        batch: BATCH,
    }
}

/// A pipeline as one text for each stage.
fn stages(pipeline: &impl Serialize) -> Result<Vec<String>> {
    let text = to_json("pipeline", pipeline)?;
    let stages: Vec<Box<RawValue>> = serde_json::from_str(&text)
        .map_err(|_| Error::Invalid("a pipeline is a list of stages".to_owned()))?;
    Ok(stages.iter().map(|stage| stage.get().to_owned()).collect())
}

/// An aggregation in the making; see [`aggregate`].
#[derive(Debug)]
#[must_use = "an aggregation does nothing until `.one()`, `.all()` or `.iter()`"]
pub struct Aggregate {
    collection: String,
    pipeline: Result<Vec<String>>,
    batch: u32,
}

impl Aggregate {
    /// How many documents one round trip to the server brings (200).
    pub fn batch(mut self, n: u32) -> Self {
        self.batch = n.max(1);
        self
    }

    /// The first document that comes out, or none.
    pub fn one<T: DeserializeOwned>(self) -> Result<Option<T>> {
        self.iter()?.next().transpose()
    }

    /// Every document that comes out.
    pub fn all<T: DeserializeOwned>(self) -> Result<Vec<T>> {
        self.iter()?.collect()
    }

    /// Every document that comes out, one by one, fetched in batches.
    pub fn iter<T: DeserializeOwned>(self) -> Result<Documents<T>> {
        let cursor = wit::aggregate(&self.collection, &self.pipeline?)?;
        Ok(Documents {
            collection: self.collection,
            cursor: Some(cursor),
            ready: Vec::new().into_iter(),
            batch: self.batch,
            left: u64::MAX,
            document: PhantomData,
        })
    }
}

/// The documents that a find or an aggregation yields. Ends after the first
/// error.
#[must_use = "documents are read as the iterator is asked for them"]
pub struct Documents<T> {
    collection: String,
    /// None once the server has no more.
    cursor: Option<wit::Cursor>,
    ready: std::vec::IntoIter<String>,
    batch: u32,
    /// What the limit leaves to read: with the last of them the server need not
    /// be asked whether there are more.
    left: u64,
    document: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Documents<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.ready.len() == 0 {
            match self.cursor.as_ref()?.next(self.batch) {
                Ok(batch) => self.ready = batch.into_iter(),
                Err(error) => {
                    self.cursor = None;
                    return Some(Err(error.into()));
                }
            }
        }
        let Some(text) = self.ready.next() else {
            self.cursor = None;
            return None;
        };
        let document = from_json(&self.collection, &text);
        if document.is_err() {
            self.cursor = None;
            self.ready = Vec::new().into_iter();
        }
        Some(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_find_without_a_filter_matches_everything() {
        let (collection, options, batch) = find("items").options().unwrap();
        assert_eq!(
            (collection.as_str(), options.filter.as_str(), batch),
            ("items", "{}", BATCH)
        );
        assert_eq!(
            (
                options.projection,
                options.sort,
                options.skip,
                options.limit
            ),
            (None, None, 0, None)
        );
    }

    #[test]
    fn parts_are_written_as_json_in_their_order() {
        let find = find("items")
            .filter(json!({"a": 1}))
            .sort(json!({"z": 1, "a": -1}))
            .project(json!({"b": 0}))
            .skip(3)
            .limit(7);
        let (_, options, batch) = find.options().unwrap();
        assert_eq!(options.filter, r#"{"a":1}"#);
        assert_eq!(options.sort.as_deref(), Some(r#"{"z":1,"a":-1}"#));
        assert_eq!(options.projection.as_deref(), Some(r#"{"b":0}"#));
        assert_eq!((options.skip, options.limit, batch), (3, Some(7), 7));
    }

    #[test]
    fn a_pipeline_is_a_list_of_stages() {
        let aggregate = aggregate("items", json!([{"$match": {"a": 1}}, {"$count": "n"}]));
        assert_eq!(
            aggregate.pipeline.unwrap(),
            [r#"{"$match":{"a":1}}"#, r#"{"$count":"n"}"#]
        );
        let error = stages(&json!({"$count": "n"})).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }

    #[test]
    fn a_filter_that_cannot_be_json_fails_when_the_find_runs() {
        // Were it forgotten instead, the find would match every document.
        let bad = std::collections::BTreeMap::from([(vec![1u8], 1)]);
        let error = find("items")
            .filter(bad)
            .filter(json!({}))
            .options()
            .unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}
