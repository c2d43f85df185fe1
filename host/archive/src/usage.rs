//! Quotas: how much a collection and its owners hold.
//!
//! The documents are the truth: files vanish through storage, too, without the
//! archive being told. So usage is counted from them, under a lock for each
//! collection that has a quota, kept for a moment, and counted again before an
//! upload is refused. Counting reads the collection; collections without a quota
//! pay nothing. Several hosts can together go over a quota by what they take in
//! at the same time.
//!
//! Uploads in parts are counted with those that were begun before them: each may be
//! small, and their parts take room as files do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::{Bson, DateTime};
use coglex_services::Documents;
use coglex_services::documents::files::FileUsage;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::error::{Error, Result};
use crate::settings::CollectionSettings;

/// How long a count is believed.
const FRESH: Duration = Duration::from_secs(2);

/// Collections that are remembered; past it, all are forgotten.
const MOST: usize = 1024;

#[derive(Default)]
pub(crate) struct Usages {
    collections: Mutex<HashMap<String, Arc<AsyncMutex<Known>>>>,
}

/// What was counted, and when; all files, and those of owners.
#[derive(Default)]
struct Known {
    counted: HashMap<Option<String>, (Instant, FileUsage)>,
}

/// Room for one file. While it is held, no other file is added to the collection;
/// dropped, the room is free again.
pub(crate) struct Room {
    known: Option<OwnedMutexGuard<Known>>,
    owner: Option<String>,
    size: u64,
}

impl Usages {
    /// Makes room for a file of this size, or says that there is none. With a time,
    /// uploads in parts that last beyond it have their room, too.
    pub(crate) async fn room(
        &self,
        documents: &Documents,
        collection: &str,
        settings: &CollectionSettings,
        owner: Option<&Bson>,
        size: u64,
        begun: Option<DateTime>,
    ) -> Result<Room> {
        let whole = settings.quota.is_some() || settings.max_files.is_some();
        let owner_quota = settings.owner_quota.filter(|_| owner.is_some());
        if !whole && owner_quota.is_none() {
            return Ok(Room {
                known: None,
                owner: None,
                size,
            });
        }
        let mut known = self.of(collection).lock_owned().await;
        let begun = async |owner| match begun {
            Some(now) => documents.begun_usage(collection, owner, now).await,
            None => Ok(FileUsage::default()),
        };
        if whole {
            let begun = begun(None).await?;
            let size = size.saturating_add(begun.bytes);
            let fits = |usage: FileUsage| {
                usage.bytes.saturating_add(size) <= settings.quota.unwrap_or(u64::MAX)
                    && usage.files.saturating_add(begun.files)
                        < settings.max_files.unwrap_or(u64::MAX)
            };
            if !known.fits(documents, collection, None, &fits).await? {
                return Err(Error::QuotaExceeded(format!(
                    "the files of `{collection}` have no room for {size} bytes more"
                )));
            }
        }
        let owner_text = owner.map(ToString::to_string);
        if let Some(quota) = owner_quota {
            let begun = begun(owner).await?;
            let taken = size.saturating_add(begun.bytes);
            let fits = |usage: FileUsage| usage.bytes.saturating_add(taken) <= quota;
            if !known.fits(documents, collection, owner, &fits).await? {
                return Err(Error::QuotaExceeded(format!(
                    "your files in `{collection}` have no room for {size} bytes more"
                )));
            }
        }
        Ok(Room {
            known: Some(known),
            owner: owner_text,
            size,
        })
    }

    fn of(&self, collection: &str) -> Arc<AsyncMutex<Known>> {
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if collections.len() >= MOST && !collections.contains_key(collection) {
            // Those that are held stay with their holders.
            collections.clear();
        }
        Arc::clone(collections.entry(collection.to_owned()).or_default())
    }
}

impl Known {
    async fn fits(
        &mut self,
        documents: &Documents,
        collection: &str,
        owner: Option<&Bson>,
        fits: &(dyn Fn(FileUsage) -> bool + Sync),
    ) -> Result<bool> {
        let key = owner.map(ToString::to_string);
        if let Some((when, usage)) = self.counted.get(&key)
            && when.elapsed() < FRESH
            && fits(*usage)
        {
            return Ok(true);
        }
        let usage = documents.file_usage(collection, owner).await?;
        if self.counted.len() > MOST {
            self.counted.clear();
        }
        self.counted.insert(key, (Instant::now(), usage));
        Ok(fits(usage))
    }
}

impl Room {
    /// The file is there.
    pub(crate) fn take(mut self) {
        let Some(known) = &mut self.known else {
            return;
        };
        let owner = self.owner.take().map(Some);
        for key in [Some(None), owner].into_iter().flatten() {
            if let Some((_, usage)) = known.counted.get_mut(&key) {
                usage.files += 1;
                usage.bytes = usage.bytes.saturating_add(self.size);
            }
        }
    }
}
