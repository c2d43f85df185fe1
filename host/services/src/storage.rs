//! The port to document stores. Services see nothing of the engine behind it.

pub mod embedded;
pub mod mongo;
pub mod transfer;

use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf};
pub use coglex_docstore::model::{
    Change, Find, IndexSpec, Update, UpdateOutcome, ValidationLevel, Validator,
};
pub use coglex_docstore::schema::{Failure, Schema};
use futures_util::stream::BoxStream;

pub use coglex_docstore::{Error as StoreError, Result};

/// Documents as they come from a store, raw, one by one.
pub type DocumentStream = BoxStream<'static, Result<RawDocumentBuf>>;

/// A store of documents with MongoDB's semantics. A write is durable when its
/// future resolves.
#[async_trait]
pub trait DocumentStore: Send + Sync + 'static {
    /// Whether the store answers.
    async fn ping(&self) -> Result<()>;
    /// The document with this `_id`.
    async fn get(&self, collection: &str, id: Bson) -> Result<Option<RawDocumentBuf>>;
    /// Documents that match, as a stream.
    async fn find(&self, collection: &str, find: Find) -> Result<DocumentStream>;
    /// How many match; `Timeout` when that takes longer than `max_time`.
    async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<u64>;
    /// Runs an aggregation pipeline. Which of MongoDB's stages there are is the
    /// engine's matter, and what is not there is `Invalid`.
    async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> Result<DocumentStream>;
    /// The different values at a path of the documents that match, in no order.
    /// An array counts as its elements. `Timeout` when that takes longer than
    /// `max_time`.
    async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<Vec<Bson>>;
    /// Inserts all or none; every document has an `_id`.
    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<()>;
    /// Whether an update of many documents that fails has changed none of them.
    fn updates_all_or_none(&self) -> bool {
        true
    }
    /// Changes documents, atomically for each.
    async fn update(&self, collection: &str, update: Update) -> Result<UpdateOutcome>;
    /// The same, but documents that do not satisfy the collection's schema are
    /// changed, too: for the server's own fields, which no schema speaks of. A
    /// store without schemas needs no method of its own.
    async fn update_unvalidated(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        self.update(collection, update).await
    }
    /// Deletes documents; answers how many.
    async fn delete(&self, collection: &str, filter: Document, many: bool) -> Result<u64>;
    /// Makes an index unless it is there.
    async fn create_index(&self, collection: &str, index: IndexSpec) -> Result<()>;
    /// The collection's indexes with their names, that on `_id` among them; none
    /// when there is no such collection.
    async fn indexes(&self, collection: &str) -> Result<Vec<IndexSpec>>;
    /// Drops an index; answers whether it was there.
    async fn drop_index(&self, collection: &str, name: &str) -> Result<bool>;
    /// What the collection's documents must look like. A store that knows no
    /// schemas need not say so.
    async fn validator(&self, _collection: &str) -> Result<Option<Validator>> {
        Ok(None)
    }
    /// Says what the collection's documents must look like, or no longer says so;
    /// makes the collection if it is not there. From then on writes that do not
    /// fit end in `DocumentInvalid`, on every host; what is there stays.
    async fn set_validator(&self, _collection: &str, _validator: Option<Validator>) -> Result<()> {
        Err(StoreError::Invalid("this store has no schemas".into()))
    }
    /// Names of the collections.
    async fn collections(&self) -> Result<Vec<String>>;
    /// Ends what the store has open, after the last operation. A store that has
    /// nothing open need not say so.
    async fn close(&self) {}
}
