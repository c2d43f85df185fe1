//! Looking after what crashes leave: blobs that no document stands for, and
//! uploads that were never completed.

use std::time::SystemTime;

use coglex_services::documents::files::OwnCollection;
use futures_util::StreamExt as _;

use crate::archive::Archive;
use crate::blob::BlobKey;
use crate::error::Result;

/// What a sweep has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Blobs that no document stands for, past their age.
    pub orphans: u64,
    /// Uploads in parts whose time is over.
    pub expired: u64,
}

impl Archive {
    /// Removes blobs without a document that nobody has written to since `before`,
    /// and uploads in parts that have expired. No upload that has written its last
    /// byte by then may still be under way, on this host or another. `dry`: only
    /// counts them.
    pub async fn sweep(&self, before: SystemTime, dry: bool) -> Result<SweepReport> {
        let mut report = SweepReport {
            expired: self.sweep_resumable(dry).await?,
            ..SweepReport::default()
        };
        let mut blobs = self.inner.blobs.list(self.home().await?).await?;
        while let Some(blob) = blobs.next().await {
            let blob = blob?;
            report.blobs += 1;
            let is_old = blob.modified <= before;
            // The blob's age is asked first: a document may appear at any time
            // beside a young one.
            if !is_old || self.is_wanted(&blob.key).await? {
                continue;
            }
            report.orphans += 1;
            if !dry {
                self.inner.blobs.delete(&blob.key).await?;
            }
        }
        Ok(report)
    }

    /// When a blob without a document must have been written to last, for it to
    /// be nobody's while uploads are under way.
    pub fn old(&self) -> SystemTime {
        let age = self.inner.settings.orphan_age;
        SystemTime::now()
            .checked_sub(age)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    async fn is_wanted(&self, key: &BlobKey) -> Result<bool> {
        let documents = &self.inner.documents;
        match key.collection() {
            Some(collection) => {
                let record = documents.file_record(&collection, key.reference()).await?;
                let blob = record
                    .as_ref()
                    .and_then(|record| record.get_str("blob").ok());
                Ok(blob == Some(key.nonce()))
            }
            // A part is named by the upload that it belongs to.
            None => {
                let filter = bson::doc! { "parts.key": key.reference() };
                let found = documents.own_many(&OwnCollection::UPLOADS, filter, 1);
                Ok(!found.await?.is_empty())
            }
        }
    }
}

impl SweepReport {
    /// Tells the operator, if there was something to be done.
    pub fn log(&self) {
        if self.orphans > 0 || self.expired > 0 {
            tracing::info!(
                orphans = self.orphans,
                expired = self.expired,
                "files of uploads that were broken off are removed"
            );
        }
    }
}
