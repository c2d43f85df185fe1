//! The embedded engine behind the port.
//!
//! The engine has the port's methods under the port's names, so that what is
//! left to do here is to turn its cursor's batches into a stream. Opening one is
//! the engine's own affair: [`EmbeddedStore::open`].

use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    DocumentStore, DocumentStream, Find, IndexSpec, Result, StoreError, Update, UpdateOutcome,
    Validator,
};

pub use coglex_docstore::{Options as EmbeddedOptions, Store as EmbeddedStore};

// In here `EmbeddedStore::x` is the engine's own method: an inherent one goes
// before a trait's.
#[async_trait]
impl DocumentStore for EmbeddedStore {
    async fn ping(&self) -> Result<()> {
        EmbeddedStore::ping(self).await
    }

    async fn get(&self, collection: &str, id: Bson) -> Result<Option<RawDocumentBuf>> {
        EmbeddedStore::get(self, collection, id).await
    }

    async fn find(&self, collection: &str, find: Find) -> Result<DocumentStream> {
        let cursor = EmbeddedStore::find(self, collection, find).await?;
        let batches = stream::try_unfold(cursor, async |mut cursor| {
            let batch = cursor.next_batch().await?;
            Ok::<_, StoreError>(batch.map(|batch| (stream::iter(batch).map(Ok), cursor)))
        });
        Ok(batches.try_flatten().boxed())
    }

    async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<u64> {
        EmbeddedStore::count(self, collection, filter, max_time).await
    }

    async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> Result<DocumentStream> {
        let found = EmbeddedStore::aggregate(self, collection, pipeline, max_time).await?;
        Ok(stream::iter(found).map(Ok).boxed())
    }

    async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<Vec<Bson>> {
        EmbeddedStore::distinct(self, collection, path, filter, max_time).await
    }

    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<()> {
        EmbeddedStore::insert(self, collection, documents).await
    }

    async fn update(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        EmbeddedStore::update(self, collection, update).await
    }

    async fn update_unvalidated(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        EmbeddedStore::update_unvalidated(self, collection, update).await
    }

    async fn delete(&self, collection: &str, filter: Document, many: bool) -> Result<u64> {
        EmbeddedStore::delete(self, collection, filter, many).await
    }

    async fn create_index(&self, collection: &str, index: IndexSpec) -> Result<()> {
        EmbeddedStore::create_index(self, collection, index).await
    }

    async fn indexes(&self, collection: &str) -> Result<Vec<IndexSpec>> {
        let indexes = EmbeddedStore::indexes(self, collection).await?;
        let named = |index: IndexSpec| IndexSpec {
            name: Some(index.name()),
            ..index
        };
        Ok(indexes.into_iter().map(named).collect())
    }

    async fn drop_index(&self, collection: &str, name: &str) -> Result<bool> {
        EmbeddedStore::drop_index(self, collection, name).await
    }

    async fn validator(&self, collection: &str) -> Result<Option<Validator>> {
        EmbeddedStore::validator(self, collection).await
    }

    async fn set_validator(&self, collection: &str, validator: Option<Validator>) -> Result<()> {
        EmbeddedStore::set_validator(self, collection, validator).await
    }

    async fn close(&self) {
        EmbeddedStore::close(self).await;
    }

    async fn collections(&self) -> Result<Vec<String>> {
        EmbeddedStore::collections(self).await
    }
}
