//! A find under way.

use std::sync::Arc;
use std::time::Instant;

use bson::RawDocumentBuf;

use crate::engine::candidates::Limits;
use crate::engine::read::{self, Progress, Query};
use crate::error::Result;
use crate::store::{Store, fresh};

/// The documents of a find, batch by batch. The store keeps nothing for a
/// cursor, so a slow consumer costs nobody anything.
#[derive(Debug)]
pub struct Cursor {
    store: Store,
    collection: String,
    query: Arc<Query>,
    /// Away while a reader works on it, and gone when a caller stopped waiting.
    progress: Option<Progress>,
    deadline: Option<Instant>,
}

impl Cursor {
    pub(crate) fn new(
        store: Store,
        collection: String,
        query: Query,
        deadline: Option<Instant>,
    ) -> Self {
        let progress = Some(Progress::start(&query));
        Cursor {
            store,
            collection,
            query: Arc::new(query),
            progress,
            deadline,
        }
    }

    /// The next documents, at least one; none at the end, and after an error or
    /// a call that was dropped before it answered.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<RawDocumentBuf>>> {
        let Some(mut progress) = self.progress.take() else {
            return Ok(None);
        };
        let (query, name) = (Arc::clone(&self.query), self.collection.clone());
        let catalog = Arc::clone(&self.store.0.catalog);
        let limits = Limits {
            deadline: self.deadline,
            abandoned: None,
        };
        let (documents, progress) = self
            .store
            .0
            .readers
            .run(limits, move |session, limits| {
                let documents = fresh(|| match catalog.get().get(&name) {
                    Some(collection) => {
                        read::batch(session, collection, &query, &mut progress, limits)
                    }
                    None => Ok(None),
                })?;
                Ok((documents, progress))
            })
            .await?;
        if documents.is_some() {
            self.progress = Some(progress);
        }
        Ok(documents)
    }

    /// All documents that are left. For results that are known to be small.
    pub async fn all(mut self) -> Result<Vec<RawDocumentBuf>> {
        let mut documents = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            documents.extend(batch);
        }
        Ok(documents)
    }
}
