//! What counts once: states that have come back, and the codes that a page trades for a
//! session. A small collection of the server's own, from which the store removes what is
//! over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use sha2::{Digest as _, Sha256};

use super::super::keys::later;
use super::super::{Inner, decoded};
use crate::error::{Error, Result};
use crate::storage::{IndexSpec, StoreError};

const COLLECTION: &str = "_coglex_oauth";
/// How long a page has to trade its code.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// Whether the index is known to be there, by which the store removes what is over.
#[derive(Default)]
pub(in crate::accounts) struct Indexed(AtomicBool);

impl Inner {
    /// Notes that a state has come back; false if it has before.
    pub(super) async fn use_state(&self, state: &str, until: i64) -> Result<bool> {
        self.keep(doc! {
            "_id": name("state", state),
            "expires": DateTime::from_millis(until),
        })
        .await
    }

    /// Keeps what a code is traded for; answers with the code.
    pub(super) async fn make_code(&self, mut what: Document) -> Result<String> {
        let code = super::flow::random()?;
        what.insert("_id", name("code", &code));
        what.insert("expires", later(self.clock.now(), CODE_LIFE));
        self.keep(what).await?;
        Ok(code)
    }

    /// What a code is traded for, once. Who asks with a code uses it up, whether or not
    /// all else is right.
    pub(super) async fn take_code(&self, code: &str) -> Result<Option<Document>> {
        let id = name("code", code);
        let Some(raw) = self.store.get(COLLECTION, Bson::from(id.as_str())).await? else {
            return Ok(None);
        };
        let kept = decoded(&raw)?;
        if self
            .store
            .delete(COLLECTION, doc! { "_id": id }, false)
            .await?
            == 0
        {
            return Ok(None);
        }
        let good = kept.get_datetime("expires");
        Ok(good
            .is_ok_and(|expires| *expires > self.clock.now())
            .then_some(kept))
    }

    async fn keep(&self, document: Document) -> Result<bool> {
        if !self.once.0.load(Ordering::Relaxed) {
            let index = IndexSpec {
                name: Some("expires".into()),
                keys: doc! { "expires": 1 },
                unique: false,
                sparse: false,
                expire_after: Some(Duration::ZERO),
            };
            self.store.create_index(COLLECTION, index).await?;
            self.once.0.store(true, Ordering::Relaxed);
        }
        let raw = RawDocumentBuf::try_from(&document)
            .map_err(|error| Error::Unavailable(Box::new(error)))?;
        match self.store.insert(COLLECTION, vec![raw]).await {
            Ok(()) => Ok(true),
            Err(StoreError::DuplicateKey { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Hashed: whoever reads the store cannot use what is in it.
fn name(kind: &str, secret: &str) -> String {
    format!("{kind}:{}", hex::encode(Sha256::digest(secret.as_bytes())))
}
