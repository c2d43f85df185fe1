//! One upload, from its first byte to its document.

use std::sync::Arc;

use bson::{Bson, DateTime, doc};
use bytes::Bytes;
use coglex_services::caller::Caller;
use coglex_services::grants::Verb;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::archive::{Archive, Inner};
use crate::blob::{BlobKey, BlobWriter, new_nonce, new_reference};
use crate::error::{Error, Result};
use crate::media;
use crate::settings::CollectionSettings;
use crate::usage::Room;

/// Bytes that are hashed where they are. More of them go to the blocking pool,
/// beside being written.
const HASH_HERE: usize = 16 << 10;

/// What an upload says of its file before its bytes come.
#[derive(Debug, Clone, Default)]
pub struct NewFile {
    /// The name, as [`crate::file_name`] has let it through.
    pub name: String,
    /// The media type that the sender declares.
    pub media_type: Option<String>,
    /// Who it belongs to, where the collection has owners.
    pub owner: Option<Bson>,
    /// The reference, if it was given out before; else a fresh one.
    pub reference: Option<String>,
    /// Bytes that are announced, to refuse what is too large before it comes.
    pub size: Option<u64>,
    /// A bound of this upload's own, beside the collection's.
    pub limit: Option<u64>,
}

/// An upload. Dropped before [`Upload::finish`] has resolved, it takes back what
/// it has written.
pub struct Upload {
    archive: Arc<Inner>,
    caller: Caller,
    collection: String,
    file: NewFile,
    reference: String,
    key: BlobKey,
    writer: Option<Box<dyn BlobWriter>>,
    hash: Sha256,
    size: u64,
    limit: u64,
    /// The first bytes, until the type is known.
    head: Vec<u8>,
    checked: bool,
}

impl Archive {
    /// Begins an upload: checks what can be known before there are bytes.
    pub async fn begin(&self, caller: &Caller, collection: &str, file: NewFile) -> Result<Upload> {
        let (limit, _) = self.check(caller, collection, &file, None).await?;
        let inner = &self.inner;
        let reference = match &file.reference {
            Some(reference) => reference.clone(),
            None => new_reference()?,
        };
        let key = BlobKey::of_file(self.home().await?, collection, &reference, &new_nonce()?);
        let key = key.ok_or_else(Error::no_file)?;
        Ok(Upload {
            writer: Some(inner.blobs.create(&key).await?),
            archive: Arc::clone(inner),
            caller: caller.clone(),
            collection: collection.to_owned(),
            file,
            reference,
            key,
            hash: Sha256::new(),
            size: 0,
            limit,
            head: Vec::new(),
            checked: false,
        })
    }

    /// Whether a file may be uploaded, as far as that is known before it comes;
    /// answers how many bytes it may have, and with the room for it. `begun` is for
    /// uploads in parts; see [`crate::usage`].
    pub(crate) async fn check(
        &self,
        caller: &Caller,
        collection: &str,
        file: &NewFile,
        begun: Option<DateTime>,
    ) -> Result<(u64, Room)> {
        let inner = &self.inner;
        inner
            .documents
            .check_files(caller, collection, Verb::Insert)?;
        let settings = inner.settings.of(collection);
        let limit = settings.file_limit.min(file.limit.unwrap_or(u64::MAX));
        if file.size.is_some_and(|size| size > limit) {
            return Err(Error::FileTooLarge { limit });
        }
        if settings.owners.is_some() && file.owner.is_none() {
            return Err(Error::Service(coglex_services::Error::Forbidden(format!(
                "files in `{collection}` belong to users: sign in to upload"
            ))));
        }
        // At least a byte has to fit; the rest is seen when the size is known.
        let expected = file.size.unwrap_or(1);
        let owner = file.owner.as_ref();
        let room = inner.usages.room(
            &inner.documents,
            collection,
            settings,
            owner,
            expected,
            begun,
        );
        Ok((limit, room.await?))
    }
}

impl Upload {
    /// The reference that the file will have.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends bytes of the file.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.limit {
            return Err(Error::FileTooLarge { limit: self.limit });
        }
        self.size = size;
        if !self.checked {
            let missing = media::HEAD - self.head.len();
            self.head.extend(bytes.iter().take(missing));
            if self.head.len() >= media::HEAD {
                self.check_type()?;
            }
        }
        let Some(writer) = &mut self.writer else {
            return Err(Error::unavailable("the upload is over"));
        };
        if bytes.len() <= HASH_HERE {
            self.hash.update(&bytes);
            return writer.write(bytes).await;
        }
        let (mut hash, hashed) = (std::mem::take(&mut self.hash), bytes.clone());
        let hashing = spawn_blocking(move || {
            hash.update(&hashed);
            hash
        });
        let (hash, written) = tokio::join!(hashing, writer.write(bytes));
        self.hash = hash.map_err(Error::unavailable)?;
        written
    }

    /// Whether a file of this type may be here.
    fn check_type(&mut self) -> Result<()> {
        self.checked = true;
        let settings = self.settings();
        let seen = media::sniff(&self.head);
        let declared = self.media_type(seen);
        if media::allowed(&settings.types, &declared, seen) {
            return Ok(());
        }
        let looks = seen.map_or_else(String::new, |seen| format!(", which looks like {seen}"));
        Err(Error::TypeRefused(format!(
            "`{}` does not take files of the type {declared}{looks}",
            self.collection
        )))
    }

    fn settings(&self) -> &CollectionSettings {
        self.archive.settings.of(&self.collection)
    }

    fn media_type(&self, seen: Option<&str>) -> String {
        let declared = self.file.media_type.as_deref().and_then(media::essence);
        match (declared, seen) {
            // What browsers declare for what they do not know.
            (Some(declared), _) if declared != media::UNKNOWN => declared,
            (_, Some(seen)) => seen.to_owned(),
            _ => media::UNKNOWN.to_owned(),
        }
    }

    /// Makes the bytes durable, then the file visible; answers with its
    /// reference. Hooks on the collection have looked at its document by then.
    pub async fn finish(mut self) -> Result<String> {
        if !self.checked {
            self.check_type()?;
        }
        let Some(writer) = self.writer.take() else {
            return Err(Error::unavailable("the upload is over"));
        };
        // Room is held until the document is there.
        let archive = Arc::clone(&self.archive);
        let owner = self.file.owner.as_ref();
        let room = archive.usages.room(
            &archive.documents,
            &self.collection,
            archive.settings.of(&self.collection),
            owner,
            self.size,
            None,
        );
        let room = match room.await {
            Ok(room) => room,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        if self.size == 0 {
            // There is nothing to be kept.
            writer.abort().await;
        } else {
            writer.finish().await?;
        }
        let (document, record) = self.documents();
        let inserted = archive
            .documents
            .insert_file(&self.caller, &self.collection, document, record)
            .await;
        if let Err(error) = inserted {
            // Where nobody but the store knows whether the document is there, the
            // bytes are left to the sweep.
            if self.size > 0 && is_refusal(&error) {
                let deleted = archive.blobs.delete(&self.key).await;
                if let Err(error) = deleted {
                    tracing::warn!(
                        error = error.with_causes(),
                        "the bytes of a refused file are left for the next sweep"
                    );
                }
            }
            return Err(error.into());
        }
        room.take();
        Ok(std::mem::take(&mut self.reference))
    }

    /// What clients see of the file, and what the archive notes.
    fn documents(&self) -> (bson::Document, bson::Document) {
        let seen = media::sniff(&self.head);
        let media_type = self.media_type(seen);
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        let sha256 = hex::encode(self.hash.clone().finalize());
        let now = self.archive.clock.now();
        let mut document = doc! {
            "_id": &self.reference,
            "_filename": &self.file.name,
            "_filesize": size,
            "_filetype": &media_type,
            "_detected": seen,
            "_sha256": &sha256,
            "_uploaded": now,
        };
        let mut record = doc! {
            "blob": self.key.nonce(),
            "name": &self.file.name,
            "size": size,
            "type": media_type,
            "sha256": sha256,
            "uploaded": now,
        };
        if let Some(owner) = &self.file.owner {
            document.insert("_owner", owner.clone());
            record.insert("owner", owner.clone());
        }
        (document, record)
    }
}

/// Whether a failure says that nothing was written.
fn is_refusal(error: &coglex_services::Error) -> bool {
    use coglex_services::Error as E;
    !matches!(error, E::Unavailable(_) | E::Timeout)
}

impl Drop for Upload {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(writer), Ok(runtime)) = (self.writer.take(), runtime) {
            runtime.spawn(writer.abort());
        }
    }
}
