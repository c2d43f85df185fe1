//! What the operator decides about files.

use std::collections::BTreeMap;
use std::time::Duration;

/// Settings of the archive.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// What holds for collections that are not named.
    pub common: CollectionSettings,
    /// What holds for the named ones, whole.
    pub collections: BTreeMap<String, CollectionSettings>,
    /// How long a blob without a document is left alone: longer than any upload
    /// takes from its first byte to its document.
    pub orphan_age: Duration,
    /// How long an upload that is sent in parts may take.
    pub resumable_ttl: Duration,
    /// The longest life of a signed URL.
    pub url_ttl: Duration,
    /// Bytes of the largest image that is shown smaller.
    pub thumbnail_source: u64,
    /// Pixels of the largest.
    pub thumbnail_pixels: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            common: CollectionSettings::default(),
            collections: BTreeMap::new(),
            orphan_age: Duration::from_secs(3600),
            resumable_ttl: Duration::from_secs(24 * 3600),
            url_ttl: Duration::from_secs(7 * 24 * 3600),
            thumbnail_source: 32 << 20,
            thumbnail_pixels: 50_000_000,
        }
    }
}

impl ArchiveSettings {
    /// What holds for a collection.
    pub fn of(&self, collection: &str) -> &CollectionSettings {
        self.collections.get(collection).unwrap_or(&self.common)
    }
}

/// Settings of one collection's files.
#[derive(Debug, Clone)]
pub struct CollectionSettings {
    /// Bytes of the largest file.
    pub file_limit: u64,
    /// Bytes of all files; no bound when absent.
    pub quota: Option<u64>,
    /// How many files there may be.
    pub max_files: Option<u64>,
    /// The users' collection whose signed-in users own what they upload; an
    /// upload needs one then.
    pub owners: Option<String>,
    /// Bytes of all files of one owner.
    pub owner_quota: Option<u64>,
    /// Media types that are taken, `image/png` or `image/*`; all when empty.
    pub types: Vec<String>,
    /// Whether files can be read without a key.
    pub public: bool,
}

impl Default for CollectionSettings {
    fn default() -> Self {
        Self {
            file_limit: 1 << 30,
            quota: None,
            max_files: None,
            owners: None,
            owner_quota: None,
            types: Vec::new(),
            public: false,
        }
    }
}
