//! The archive service: what HTTP handlers and host functions call, each with its
//! [`Caller`].

use std::ops::Range;
use std::sync::Arc;

use bson::{DateTime, Document, RawDocumentBuf};
use coglex_services::caller::Caller;
use coglex_services::documents::DocumentStream;
use coglex_services::documents::files::OwnCollection;
use coglex_services::grants::Verb;
use coglex_services::storage::Find;
use coglex_services::{Clock, Documents};
use futures_util::{StreamExt as _, stream};
use tokio::sync::OnceCell;

use crate::blob::{BlobKey, BlobStore, ByteStream, is_home, new_home};
use crate::error::{Error, Result};
use crate::resumable::Completing;
use crate::settings::{ArchiveSettings, CollectionSettings};
use crate::thumbnail::Thumbnails;
use crate::usage::Usages;

/// The archive, cheap to clone.
#[derive(Clone)]
pub struct Archive {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) documents: Documents,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) settings: ArchiveSettings,
    pub(crate) clock: Clock,
    pub(crate) usages: Usages,
    pub(crate) thumbnails: Thumbnails,
    pub(crate) completing: Completing,
    home: OnceCell<String>,
}

/// A file as the archive noted it. Nobody can have changed it.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Its name, for people.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its media type: as declared, else as seen.
    pub media_type: String,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// When it was uploaded.
    pub uploaded: DateTime,
    /// What the caller may see of its document.
    pub document: RawDocumentBuf,
    pub(crate) key: BlobKey,
}

impl StoredFile {
    fn read(
        home: &str,
        collection: &str,
        reference: &str,
        record: &Document,
        document: RawDocumentBuf,
    ) -> Option<Self> {
        Some(Self {
            name: record.get_str("name").ok()?.to_owned(),
            size: u64::try_from(record.get_i64("size").ok()?).ok()?,
            media_type: record.get_str("type").ok()?.to_owned(),
            sha256: record.get_str("sha256").ok()?.to_owned(),
            uploaded: *record.get_datetime("uploaded").ok()?,
            document,
            key: BlobKey::of_file(home, collection, reference, record.get_str("blob").ok()?)?,
        })
    }

    /// A strong validator (RFC 9110, section 8.8.3): the bytes never change.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.sha256)
    }
}

impl Archive {
    /// An archive over documents and blobs.
    pub fn new(
        documents: Documents,
        blobs: Arc<dyn BlobStore>,
        settings: ArchiveSettings,
        clock: Clock,
    ) -> Self {
        let thumbnails = Thumbnails::new(&settings);
        Self {
            inner: Arc::new(Inner {
                documents,
                blobs,
                settings,
                clock,
                usages: Usages::default(),
                thumbnails,
                completing: Completing::default(),
                home: OnceCell::new(),
            }),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &ArchiveSettings {
        &self.inner.settings
    }

    /// Those of one collection.
    pub fn settings_of(&self, collection: &str) -> &CollectionSettings {
        self.inner.settings.of(collection)
    }

    /// What stands for the database in the names of its blobs. Without it, a server
    /// that was started with another database and the same folder or bucket would
    /// take all files for left-overs.
    pub(crate) async fn home(&self) -> Result<&str> {
        let home = self.inner.home.get_or_try_init(|| self.read_home());
        Ok(home.await?.as_str())
    }

    async fn read_home(&self) -> Result<String> {
        const ID: &str = "home";
        let documents = &self.inner.documents;
        loop {
            if let Some(known) = documents.own(&OwnCollection::ARCHIVE, ID).await? {
                let home = known.get_str("home").ok().filter(|home| is_home(home));
                return home.map(str::to_owned).ok_or_else(|| {
                    Error::unavailable("the database does not say where its files are")
                });
            }
            let fresh = bson::doc! { "_id": ID, "home": new_home()? };
            match documents.own_insert(&OwnCollection::ARCHIVE, &fresh).await {
                // Another host has been faster.
                Ok(()) | Err(coglex_services::Error::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A file's name, size and the like; `NotFound` when the reference is not
    /// that of a file that the caller may read.
    pub async fn file(
        &self,
        caller: &Caller,
        collection: &str,
        reference: &str,
    ) -> Result<StoredFile> {
        self.find(caller, collection, reference, Verb::Read).await
    }

    async fn find(
        &self,
        caller: &Caller,
        collection: &str,
        reference: &str,
        verb: Verb,
    ) -> Result<StoredFile> {
        let documents = &self.inner.documents;
        if !crate::blob::is_reference(reference) {
            // The caller may be refused all the same.
            documents.check_files(caller, collection, verb)?;
            return Err(Error::no_file());
        }
        let found = documents.file(caller, collection, reference, verb).await?;
        let home = self.home().await?;
        found
            .and_then(|file| {
                StoredFile::read(home, collection, reference, &file.record, file.shown)
            })
            .ok_or_else(Error::no_file)
    }

    /// Bytes of a file, from a range that lies within its size.
    pub async fn open(&self, file: &StoredFile, range: Range<u64>) -> Result<ByteStream> {
        if range.is_empty() {
            // Empty files have no blob.
            return Ok(stream::empty().boxed());
        }
        self.inner.blobs.open(&file.key, range).await
    }

    /// The documents of a collection's files.
    pub async fn list(
        &self,
        caller: &Caller,
        collection: &str,
        find: Find,
    ) -> Result<DocumentStream> {
        Ok(self.inner.documents.files(caller, collection, find).await?)
    }

    /// How many files match.
    pub async fn count(&self, caller: &Caller, collection: &str, filter: Document) -> Result<u64> {
        let documents = &self.inner.documents;
        Ok(documents.count_files(caller, collection, filter).await?)
    }

    /// Deletes a file: its document, and then its bytes. `NotFound` when the
    /// reference is not that of a file; no other document is ever deleted.
    pub async fn delete(&self, caller: &Caller, collection: &str, reference: &str) -> Result<()> {
        let file = self
            .find(caller, collection, reference, Verb::Delete)
            .await?;
        let filter = bson::doc! { "_id": reference };
        let deleted = self
            .inner
            .documents
            .delete(caller, collection, filter, false)
            .await?;
        if deleted == 0 {
            return Err(Error::no_file());
        }
        // The file is gone whatever becomes of its bytes: the sweep finds them.
        if let Err(error) = self.inner.blobs.delete(&file.key).await {
            tracing::warn!(
                error = error.with_causes(),
                "the bytes of a deleted file are left for the next sweep"
            );
        }
        Ok(())
    }
}
