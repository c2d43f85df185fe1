//! The storage service: MongoDB-style documents under the rules of the house.

use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf};

use crate::caller::Caller;
use crate::error::Result;
use crate::storage::{Change, DocumentStore, Find, UpdateOutcome};

pub use crate::storage::DocumentStream;

/// Limits of the storage service.
#[derive(Debug, Clone)]
pub struct DocumentLimits {
    /// The most documents that one HTTP request returns.
    pub page: u64,
    /// Bytes of one document.
    pub document_bytes: usize,
    /// Nesting of documents, filters and updates.
    pub depth: usize,
}

/// The storage service.
#[derive(Clone)]
pub struct Documents {
    pub(crate) store: Arc<dyn DocumentStore>,
    pub(crate) limits: Arc<DocumentLimits>,
}

#[allow(unused_variables, reason = "skeleton")]
impl Documents {
    /// A service over `store`.
    pub fn new(store: Arc<dyn DocumentStore>, limits: DocumentLimits) -> Self {
        Self { store, limits: Arc::new(limits) }
    }

    /// The limits in force.
    pub fn limits(&self) -> &DocumentLimits {
        &self.limits
    }

    /// Whether the store answers, for readiness.
    pub async fn ping(&self) -> Result<()> {
        todo!()
    }

    /// Documents that match, as a stream. `find.limit` is the caller's to set.
    pub async fn find(&self, caller: &Caller, collection: &str, find: Find) -> Result<DocumentStream> {
        todo!()
    }

    /// The document with this id. In a path, 24 hex digits mean an ObjectId or
    /// else the string; see [`id_filter`].
    pub async fn get(&self, caller: &Caller, collection: &str, id: Bson, projection: Option<Document>) -> Result<Option<RawDocumentBuf>> {
        todo!()
    }

    /// How many match.
    pub async fn count(&self, caller: &Caller, collection: &str, filter: Document) -> Result<u64> {
        todo!()
    }

    /// Inserts all or none; answers with the ids, generated where absent.
    pub async fn insert(&self, caller: &Caller, collection: &str, documents: Vec<Document>) -> Result<Vec<Bson>> {
        todo!()
    }

    /// Applies a change to the first match, or to all with `many`.
    pub async fn update(&self, caller: &Caller, collection: &str, filter: Document, change: Change, many: bool, upsert: bool) -> Result<UpdateOutcome> {
        todo!()
    }

    /// Deletes the first match, or all with `many`; answers how many.
    pub async fn delete(&self, caller: &Caller, collection: &str, filter: Document, many: bool) -> Result<u64> {
        todo!()
    }

    /// Names of the collections that the caller may know of.
    pub async fn collections(&self, caller: &Caller) -> Result<Vec<String>> {
        todo!()
    }
}

/// The filter for an id in a URL path: 24 hex digits may be an ObjectId or a
/// string of that shape, anything else is a string.
pub fn id_filter(id: &str) -> Document {
    match bson::oid::ObjectId::parse_str(id) {
        Ok(oid) => bson::doc! { "_id": { "$in": [oid, id] } },
        Err(_) => bson::doc! { "_id": id },
    }
}
