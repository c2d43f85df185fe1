//! Whole collections out of a store and into one, as lines of text.
//!
//! For an operator who moves between stores, or wants to read what is in one:
//! everything is there, hidden fields and the server's own collections too. The
//! command line calls this; which files there are is its matter. A line is a
//! document as canonical Extended JSON, exactly (see [`line`](mod@line)), and documents
//! keep their order. Memory is bounded by a batch and by the longest line.

mod embedded;
pub mod line;
mod load;
mod meta;

use std::io::Write;

use async_trait::async_trait;
use bson::{RawDocument, RawDocumentBuf};
use futures_util::TryStreamExt as _;

use super::{DocumentStore, DocumentStream, IndexSpec, Result, StoreError};

pub use load::{Existing, Loaded, Loader};
pub use meta::CollectionMeta;

/// What a transfer needs of a store beyond the port.
#[async_trait]
pub trait TransferStore: DocumentStore {
    /// The collections that hold documents of their own, sorted: no views, and
    /// nothing of the database's own.
    async fn own_collections(&self) -> Result<Vec<String>>;

    /// All documents in natural order.
    async fn documents(&self, collection: &str) -> Result<DocumentStream>;

    /// The indexes beside that on `_id`.
    async fn own_indexes(&self, collection: &str) -> Result<Indexes>;

    /// Drops a collection with all that is in it.
    async fn drop_collection(&self, collection: &str) -> Result<()>;

    /// Inserts in order. When one fails, those before it are in, and those after
    /// it are not.
    async fn load(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<(), Refused>;

    /// Why the store would keep something else than this document, if it would.
    fn would_change(&self, document: &RawDocument) -> Option<String>;
}

/// The indexes of a collection.
#[derive(Debug, Default, PartialEq)]
pub struct Indexes {
    /// Those that every store can have.
    pub portable: Vec<IndexSpec>,
    /// Names of those that only this store can have, and why.
    pub left_out: Vec<(String, String)>,
}

/// A document that a store did not take.
#[derive(Debug)]
pub struct Refused {
    /// Its place among those that were given.
    pub index: usize,
    /// Why.
    pub error: StoreError,
}

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A line is no document, or one that the store does not take.
    #[error("line {number}: {reason}")]
    Line {
        /// From 1.
        number: u64,
        /// In words for whoever wrote it.
        reason: String,
    },
    /// The target holds documents already.
    #[error("the collection {0} holds documents already")]
    Occupied(String),
    /// An index cannot be made.
    #[error("the index {name} cannot be made")]
    Index {
        /// The index.
        name: String,
        /// Why.
        #[source]
        error: StoreError,
    },
    /// The schema cannot be set.
    #[error("the schema of the collection cannot be set")]
    Schema(#[source] StoreError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The text cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Documents in all.
    pub documents: u64,
    /// Those that Extended JSON cannot say, written as their bytes.
    pub as_bytes: u64,
}

/// Writes every document of a collection, one on each line. `progress` hears how
/// many are written.
pub async fn export(
    store: &dyn TransferStore,
    collection: &str,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, TransferError> {
    let mut exported = Exported::default();
    let mut documents = store.documents(collection).await?;
    let mut text = Vec::new();
    while let Some(document) = documents.try_next().await? {
        text.clear();
        let form = line::write(&document, &mut text);
        out.write_all(&text)?;
        exported.documents += 1;
        exported.as_bytes += u64::from(form == line::Form::Bytes);
        progress(exported.documents);
    }
    Ok(exported)
}

/// Which of these collections hold documents.
pub async fn occupied(store: &dyn TransferStore, names: &[&str]) -> Result<Vec<String>> {
    let mut occupied = Vec::new();
    for name in names {
        if load::is_occupied(store, name).await? {
            occupied.push((*name).to_owned());
        }
    }
    Ok(occupied)
}
