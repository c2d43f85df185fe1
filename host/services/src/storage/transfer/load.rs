//! Documents into a collection, in batches.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;

use super::{CollectionMeta, Refused, TransferError, TransferStore};
use crate::storage::{Change, Find, Result, StoreError, Update};

/// Documents of a batch.
const BATCH: usize = 1_000;
/// Bytes at which a batch is sent, full or not.
const BATCH_BYTES: usize = 4 << 20;

/// What happens to documents that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stop the import before it begins.
    Refuse,
    /// Their collection is dropped before the first batch goes in.
    Drop,
    /// They stay; those with an `_id` that comes again are replaced.
    Upsert,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Lines that were read.
    pub documents: u64,
    /// Those that were there already, bit by bit.
    pub unchanged: u64,
}

/// Fills one collection.
pub struct Loader<'s> {
    store: &'s dyn TransferStore,
    collection: String,
    existing: Existing,
    /// The collection is still to be dropped: nothing of the new text is in.
    drops: bool,
    batch: Vec<RawDocumentBuf>,
    /// The line of each document of the batch.
    lines: Vec<u64>,
    bytes: usize,
    loaded: Loaded,
}

impl<'s> Loader<'s> {
    /// Looks whether there is room for what comes, as `existing` says. What is to
    /// be dropped stays until the first batch is read.
    pub async fn start(
        store: &'s dyn TransferStore,
        collection: &str,
        existing: Existing,
    ) -> Result<Self, TransferError> {
        if existing == Existing::Refuse && is_occupied(store, collection).await? {
            return Err(TransferError::Occupied(collection.to_owned()));
        }
        Ok(Self {
            store,
            collection: collection.to_owned(),
            existing,
            drops: existing == Existing::Drop,
            batch: Vec::new(),
            lines: Vec::new(),
            bytes: 0,
            loaded: Loaded::default(),
        })
    }

    /// Adds the document of a line; answers how many were added so far.
    pub async fn push(
        &mut self,
        number: u64,
        document: RawDocumentBuf,
    ) -> Result<u64, TransferError> {
        if let Some(reason) = self.store.would_change(&document) {
            self.end_early().await?;
            return Err(TransferError::Line { number, reason });
        }
        self.bytes += document.as_bytes().len();
        self.batch.push(document);
        self.lines.push(number);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(self.loaded.documents + self.batch.len() as u64)
    }

    /// Whether the old documents are there still, which are to be dropped.
    pub fn is_untouched(&self) -> bool {
        self.drops
    }

    /// Sends what came before a bad line; but the old documents are not given up
    /// for less than a batch of new ones.
    pub async fn end_early(&mut self) -> Result<(), TransferError> {
        match self.drops {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Drops what is there, once, if that is what is wanted.
    async fn make_room(&mut self) -> Result<(), TransferError> {
        if self.drops {
            self.store.drop_collection(&self.collection).await?;
            self.drops = false;
        }
        Ok(())
    }

    /// Sends what is left.
    async fn flush(&mut self) -> Result<(), TransferError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.make_room().await?;
        let batch = std::mem::take(&mut self.batch);
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        let sent = match self.existing {
            Existing::Upsert => self.upsert(&batch).await,
            Existing::Refuse | Existing::Drop => self.store.load(&self.collection, &batch).await,
        };
        self.loaded.documents += batch.len() as u64;
        sent.map_err(|Refused { index, error }| {
            let number = lines.get(index).copied().unwrap_or_default();
            match error {
                StoreError::Unavailable(_) | StoreError::Timeout => error.into(),
                other => TransferError::Line {
                    number,
                    reason: reason(&other),
                },
            }
        })
    }

    /// Sends what is left, makes the indexes and sets the schema. They come last:
    /// filling an index at once is faster than key by key, and documents may be
    /// older than the schema.
    pub async fn finish(mut self, meta: &CollectionMeta) -> Result<Loaded, TransferError> {
        self.flush().await?;
        // A collection of no documents, too.
        self.make_room().await?;
        for index in &meta.indexes {
            let made = self.store.create_index(&self.collection, index.clone());
            made.await.map_err(|error| TransferError::Index {
                name: index.name(),
                error,
            })?;
        }
        if let Some(validator) = &meta.validator {
            let set = self
                .store
                .set_validator(&self.collection, Some(validator.clone()));
            set.await.map_err(TransferError::Schema)?;
        }
        Ok(self.loaded)
    }

    /// Inserts what is new, in one go, and replaces what differs. When an import
    /// is repeated, most is there already and is only read.
    async fn upsert(&mut self, batch: &[RawDocumentBuf]) -> Result<(), Refused> {
        let first = |error| Refused { index: 0, error };
        let ids: Vec<Bson> = batch.iter().map(|one| id(one)).collect();
        let filter = doc! { "_id": { "$in": ids } };
        let find = Find {
            filter,
            ..Find::default()
        };
        let mut found = self
            .store
            .find(&self.collection, find)
            .await
            .map_err(first)?;
        let mut fates = vec![Fate::New; batch.len()];
        while let Some(there) = found.try_next().await.map_err(first)? {
            for (document, fate) in batch.iter().zip(&mut fates) {
                if id_bytes(document) == id_bytes(&there) {
                    *fate = match document.as_bytes() == there.as_bytes() {
                        true => Fate::Same,
                        false => Fate::Changed,
                    };
                }
            }
        }
        let mut new = Vec::new();
        let mut places = Vec::new();
        for (index, (document, fate)) in batch.iter().zip(&fates).enumerate() {
            match fate {
                Fate::New => {
                    new.push(document.clone());
                    places.push(index);
                }
                Fate::Same => self.loaded.unchanged += 1,
                Fate::Changed => self
                    .replace(document)
                    .await
                    .map_err(|error| Refused { index, error })?,
            }
        }
        let mut from = 0;
        while let Some(rest) = new.get(from..).filter(|rest| !rest.is_empty()) {
            let Err(refused) = self.store.load(&self.collection, rest).await else {
                break;
            };
            let at = from + refused.index;
            let index = places.get(at).copied().unwrap_or_default();
            match (refused.error, new.get(at)) {
                // The same `_id` twice in the text, or equal in another type
                // (1 and 1.0): the later wins.
                (StoreError::DuplicateKey { index: name }, Some(document)) if name == "_id_" => {
                    self.replace(document)
                        .await
                        .map_err(|error| Refused { index, error })?;
                }
                (error, _) => return Err(Refused { index, error }),
            }
            from = at + 1;
        }
        Ok(())
    }

    async fn replace(&self, document: &RawDocumentBuf) -> Result<()> {
        let filter = doc! { "_id": { "$eq": id(document) } };
        let whole = Document::try_from(document.as_ref()).ok().filter(|whole| {
            RawDocumentBuf::try_from(whole).is_ok_and(|back| back.as_bytes() == document.as_bytes())
        });
        let Some(whole) = whole else {
            // Two fields of one name fit only a raw document, and those can only
            // be inserted.
            let find = Find {
                filter: filter.clone(),
                ..Find::default()
            };
            let old = self.store.find(&self.collection, find).await?;
            let old: Vec<RawDocumentBuf> = old.try_collect().await?;
            self.store.delete(&self.collection, filter, false).await?;
            let insert = self.store.insert(&self.collection, vec![document.clone()]);
            let inserted = insert.await;
            if inserted.is_err() {
                // Refused, by a unique index say: the old one is not lost for it.
                let back = self.store.load(&self.collection, &old).await;
                if let Err(Refused { error, .. }) = back {
                    tracing::error!(
                        collection = %self.collection,
                        "a document that could not be replaced could not be put back: {error}"
                    );
                }
            }
            return inserted;
        };
        let update = Update {
            filter,
            change: Change::Replacement(whole),
            many: false,
            upsert: true,
            array_filters: Vec::new(),
        };
        self.store.update(&self.collection, update).await.map(drop)
    }
}

/// What is to be done with a document of a batch.
#[derive(Debug, Clone, Copy)]
enum Fate {
    New,
    Changed,
    Same,
}

fn reason(error: &StoreError) -> String {
    match error {
        StoreError::DocumentInvalid { failures } => match failures.first() {
            Some(first) => format!("{error}: {} {}", first.path, first.detail),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

/// Whether a collection holds documents.
pub(super) async fn is_occupied(store: &dyn TransferStore, collection: &str) -> Result<bool> {
    let find = Find {
        limit: Some(1),
        ..Find::default()
    };
    let mut found = store.find(collection, find).await?;
    Ok(found.try_next().await?.is_some())
}

fn id(document: &RawDocument) -> Bson {
    let id = document.get("_id").ok().flatten();
    id.and_then(|id| Bson::try_from(id).ok())
        .unwrap_or(Bson::Null)
}

/// Type and bytes of the `_id`: equal ones are one document's.
fn id_bytes(document: &RawDocument) -> Option<RawBsonRef<'_>> {
    document.get("_id").ok().flatten()
}
