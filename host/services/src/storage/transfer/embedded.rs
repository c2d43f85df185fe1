//! What a transfer needs of the embedded store.

use async_trait::async_trait;
use bson::{RawDocument, RawDocumentBuf};

use super::{Indexes, Refused, TransferStore};
use crate::storage::embedded::EmbeddedStore;
use crate::storage::{DocumentStore, DocumentStream, Find, Result, StoreError};

#[async_trait]
impl TransferStore for EmbeddedStore {
    async fn own_collections(&self) -> Result<Vec<String>> {
        EmbeddedStore::collections(self).await
    }

    async fn documents(&self, collection: &str) -> Result<DocumentStream> {
        DocumentStore::find(self, collection, Find::default()).await
    }

    async fn own_indexes(&self, collection: &str) -> Result<Indexes> {
        let mut portable = DocumentStore::indexes(self, collection).await?;
        portable.retain(|index| index.name() != "_id_");
        Ok(Indexes {
            portable,
            left_out: Vec::new(),
        })
    }

    async fn drop_collection(&self, collection: &str) -> Result<()> {
        EmbeddedStore::drop_collection(self, collection)
            .await
            .map(drop)
    }

    async fn load(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<(), Refused> {
        let Err(error) = EmbeddedStore::insert(self, collection, documents.to_vec()).await else {
            return Ok(());
        };
        if matches!(error, StoreError::Unavailable(_)) {
            return Err(Refused { index: 0, error });
        }
        // All or none go in, and which one is to blame is not said.
        for (index, document) in documents.iter().enumerate() {
            EmbeddedStore::insert(self, collection, vec![document.clone()])
                .await
                .map_err(|error| Refused { index, error })?;
        }
        Ok(())
    }

    fn would_change(&self, _: &RawDocument) -> Option<String> {
        None
    }
}
