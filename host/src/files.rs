//! The archive of a server: its store of blobs and its settings, from the
//! configuration; and looking after it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use coglex_archive::{
    Archive, ArchiveSettings, BlobStore, CollectionSettings, FolderBlobs, GridFsBlobs, S3Blobs,
    S3Settings, SweepReport, UrlKey,
};
use coglex_services::{Clock, Documents};

use crate::app::AppState;
use crate::config::{self, ArchiveBackend, ArchiveCollectionConfig, Config, Secret};

/// How often a server looks for what crashes have left.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// File systems may stamp a file with a time that is this much older than the
/// clock's.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// The archive, as it is configured.
pub(crate) fn open(config: &Config, documents: Documents, clock: Clock) -> anyhow::Result<Archive> {
    let settings = settings(config);
    Ok(Archive::new(documents, blobs(config)?, settings, clock))
}

/// What signed URLs are signed with.
pub(crate) fn url_key(config: &Config, clock: Clock) -> anyhow::Result<UrlKey> {
    let secret = config::signing_key(config.auth.signing_key.as_ref(), &config.data.dir)?;
    Ok(UrlKey::derive(secret.expose().as_bytes(), clock))
}

fn blobs(config: &Config) -> anyhow::Result<Arc<dyn BlobStore>> {
    let archive = &config.archive;
    Ok(match archive.backend {
        ArchiveBackend::Folder => Arc::new(FolderBlobs::new(config.files_dir())),
        ArchiveBackend::GridFs => {
            let Some(uri) = &config.mongodb.uri else {
                bail!("the setting archive.backend is gridfs, which needs mongodb.uri");
            };
            let database = config.mongodb.database.as_deref();
            Arc::new(GridFsBlobs::new(uri.expose(), database))
        }
        ArchiveBackend::S3 => {
            let given = |name: &str, value: &str| match value {
                "" => bail!("the setting archive.backend is s3, which needs archive.s3.{name}"),
                value => Ok(value.to_owned()),
            };
            let key = |name: &str, key: &Option<Secret>| {
                given(name, key.as_ref().map_or("", Secret::expose))
            };
            let s3 = &archive.s3;
            let settings = S3Settings {
                endpoint: given("endpoint", &s3.endpoint)?,
                region: s3.region.clone(),
                bucket: given("bucket", &s3.bucket)?,
                prefix: s3.prefix.clone(),
                access_key: key("access_key", &s3.access_key)?,
                secret_key: key("secret_key", &s3.secret_key)?,
            };
            Arc::new(S3Blobs::new(&settings).context("the settings archive.s3 cannot be used")?)
        }
    })
}

fn settings(config: &Config) -> ArchiveSettings {
    let archive = &config.archive;
    let common = ArchiveCollectionConfig::default();
    let of = |own: &ArchiveCollectionConfig| CollectionSettings {
        file_limit: own.file_limit.unwrap_or(archive.file_limit) as u64,
        quota: own.quota.map(|bytes| bytes as u64),
        max_files: own.max_files,
        owners: own.owners.clone(),
        owner_quota: own.owner_quota.map(|bytes| bytes as u64),
        types: own.types.clone().unwrap_or_else(|| archive.types.clone()),
        public: own.public,
    };
    ArchiveSettings {
        common: of(&common),
        collections: archive
            .collections
            .iter()
            .map(|(name, own)| (name.clone(), of(own)))
            .collect(),
        // Not every store tells when a blob was last written to: GridFS has the time of
        // its first chunk, and a folder that of the last full piece.
        orphan_age: archive.upload_timeout.saturating_add(archive.orphan_age),
        resumable_ttl: archive.resumable_ttl,
        url_ttl: archive.url_ttl,
        thumbnail_source: archive.thumbnail_source as u64,
        thumbnail_pixels: archive.thumbnail_pixels,
    }
}

/// Removes what crashes have left, now and then on.
pub(crate) async fn keep(state: AppState, started: SystemTime) {
    let archive = &state.archive;
    // Files and documents of this host alone: whatever was under way when it started
    // is over.
    let config = &state.config;
    let alone = config.mongodb.uri.is_none() && config.archive.backend == ArchiveBackend::Folder;
    let before = match alone {
        true => started.checked_sub(CLOCK_GRAIN).unwrap_or(started),
        false => archive.old(),
    };
    sweep(archive, before).await;
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        sweep(archive, archive.old()).await;
    }
}

async fn sweep(archive: &Archive, before: SystemTime) {
    match archive.sweep(before, false).await {
        Ok(report) => report.log(),
        Err(error) => tracing::warn!("files are not swept now: {}", error.with_causes()),
    }
}

/// Counts what crashes have left in the folder of files, and removes it unless
/// `dry`; for `coglex check`. No server may use the folder. Nothing where files are
/// elsewhere, or have never been.
pub(crate) async fn check(
    config: &Config,
    documents: Documents,
    dry: bool,
) -> anyhow::Result<Option<SweepReport>> {
    if config.archive.backend != ArchiveBackend::Folder || !config.files_dir().is_dir() {
        return Ok(None);
    }
    let archive = open(config, documents, Clock::default())?;
    Ok(Some(archive.sweep(SystemTime::now(), dry).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sweep_takes_what_is_still_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        let given = [("UPLOAD_TIMEOUT", "6h"), ("ORPHAN_AGE", "60s")];
        let loaded = config::load(&config::Inputs {
            directory: dir.path().to_owned(),
            environment: given
                .map(|(name, value)| (format!("COGLEX_ARCHIVE_{name}"), value.to_owned()))
                .into(),
            ..config::Inputs::default()
        });
        let age = settings(&loaded.unwrap().config).orphan_age;
        assert_eq!(age, Duration::from_secs(6 * 3600 + 60));
    }
}
