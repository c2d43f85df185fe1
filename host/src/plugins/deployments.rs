//! What was deployed through the admin API: each version's bytes and, for every
//! plugin, which of them should serve. Kept in the document store, in collections
//! of the server's own, so that all hosts of one database see the same and a
//! backup of the store has it all.
//!
//! The registry asks and follows; what a host serves in the end is its plugin
//! folder. This file knows neither the folder nor how a component is loaded.

use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, RawDocumentBuf, doc};
use bytes::Bytes;
use coglex_services::storage::{Change, DocumentStore, Find, StoreError, Update};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};

/// One document for each plugin: `_id` is its name.
const PLUGINS: &str = "_coglex_plugins";
/// The components in pieces: `_id` is `name:digest:index`.
const CHUNKS: &str = "_coglex_plugin_chunks";
/// A piece is this long, or less where documents have to be smaller.
const CHUNK_BYTES: usize = 1 << 20;
/// Pieces that are written at once: together far below what a transaction of
/// MongoDB may hold.
const CHUNKS_AT_ONCE: usize = 4;
/// Versions that are kept of each plugin.
const KEPT: usize = 10;
/// Tries to change a plugin's document that other hosts change too.
const TRIES: usize = 8;

/// Why a deployment could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// The store failed.
    #[error("the deployed plugins cannot be read or kept")]
    Store(#[from] StoreError),
    /// A document is not one of ours, or bytes are not those that were kept.
    #[error("what was kept of the plugin {0} is damaged")]
    Damaged(String),
    /// Other hosts kept changing the same plugin.
    #[error("the plugin {0} is being changed by somebody else")]
    Contended(String),
}

/// One version of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// When it was deployed last.
    pub deployed: DateTime,
}

/// What all hosts should do about one plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The plugin's name.
    pub name: String,
    /// Counts the changes of this document; hosts remember which they followed.
    pub revision: i64,
    /// The digest of the version that should serve; nothing for a plugin that
    /// was only ever put into a folder.
    pub serving: Option<String>,
    /// Whether it must not be served.
    pub disabled: bool,
    /// Whether it was removed: hosts that had it take it away.
    pub removed: bool,
    /// The versions that are kept, the one that was deployed last at the end.
    pub versions: Vec<Version>,
}

impl Deployment {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            revision: 0,
            serving: None,
            disabled: false,
            removed: false,
            versions: Vec::new(),
        }
    }

    /// Puts a version last, where it stood before or not, and forgets the oldest
    /// past the limit.
    pub fn add(&mut self, version: Version) {
        self.versions.retain(|own| own.digest != version.digest);
        self.versions.push(version);
        let serving = self.serving.clone();
        while self.versions.len() > KEPT {
            // The one that serves is what a rollback comes back to.
            let spared = |own: &Version| Some(&own.digest) == serving.as_ref();
            let oldest = self.versions.iter().position(|own| !spared(own));
            self.versions.remove(oldest.unwrap_or(0));
        }
    }

    /// The version before the one with this digest; the last if that is none of
    /// ours, such as a file that somebody put into the folder.
    pub fn before(&self, digest: Option<&str>) -> Option<&Version> {
        let at = self
            .versions
            .iter()
            .position(|own| Some(own.digest.as_str()) == digest);
        let before = at.unwrap_or(self.versions.len()).checked_sub(1)?;
        self.versions.get(before)
    }

    /// The one version whose digest starts with this.
    pub fn named(&self, start: &str) -> Option<&Version> {
        let mut found = self
            .versions
            .iter()
            .filter(|own| own.digest.starts_with(start));
        found.next().filter(|_| found.next().is_none())
    }

    fn has(&self, digest: &str) -> bool {
        self.versions.iter().any(|own| own.digest == digest)
    }

    fn fields(&self) -> Document {
        let versions = self.versions.iter().map(|version| {
            // At most 128 MiB.
            let bytes = i64::try_from(version.bytes).unwrap_or(i64::MAX);
            doc! { "digest": &version.digest, "bytes": bytes, "deployed": version.deployed }
        });
        doc! {
            "revision": self.revision,
            "serving": self.serving.clone(),
            "disabled": self.disabled,
            "removed": self.removed,
            "versions": versions.collect::<Vec<_>>(),
        }
    }

    fn read(document: &Document) -> Option<Self> {
        let versions = document.get_array("versions").ok()?.iter().map(|version| {
            let version = version.as_document()?;
            Some(Version {
                digest: version.get_str("digest").ok()?.to_owned(),
                bytes: u64::try_from(version.get_i64("bytes").ok()?).ok()?,
                deployed: *version.get_datetime("deployed").ok()?,
            })
        });
        Some(Self {
            name: document.get_str("_id").ok()?.to_owned(),
            revision: document.get_i64("revision").ok()?,
            serving: document.get_str("serving").ok().map(str::to_owned),
            disabled: document.get_bool("disabled").ok()?,
            removed: document.get_bool("removed").ok()?,
            versions: versions.collect::<Option<_>>()?,
        })
    }
}

/// The deployments of one database.
pub struct Deployments {
    store: Arc<dyn DocumentStore>,
    chunk_bytes: usize,
}

impl Deployments {
    /// Those in this store, whose documents may have so many bytes.
    pub fn new(store: Arc<dyn DocumentStore>, document_limit: usize) -> Self {
        Self {
            store,
            // Half, because a piece has a name and a frame too.
            chunk_bytes: CHUNK_BYTES.min(document_limit / 2),
        }
    }

    /// All of them, also of plugins that were removed.
    pub async fn all(&self) -> Result<Vec<Deployment>, DeploymentError> {
        let found = self.store.find(PLUGINS, Find::default()).await?;
        let raw: Vec<RawDocumentBuf> = found.try_collect().await?;
        raw.iter().map(read).collect()
    }

    /// Changes what is said of a plugin, atomically among all hosts, after its
    /// versions' bytes were kept. Pieces of versions that it no longer lists are
    /// deleted.
    pub async fn change(
        &self,
        name: &str,
        change: impl Fn(&mut Deployment),
    ) -> Result<Deployment, DeploymentError> {
        for _ in 0..TRIES {
            let found = self.get(name).await?;
            let mut new = found.clone().unwrap_or_else(|| Deployment::new(name));
            change(&mut new);
            new.revision += 1;
            if self.replace(found.as_ref(), &new).await? {
                let old = found.map_or_else(Vec::new, |old| old.versions);
                for gone in old.iter().filter(|old| !new.has(&old.digest)) {
                    // The change is made; what stays behind only takes space.
                    if let Err(error) = self.forget(name, &gone.digest).await {
                        tracing::warn!(plugin.name = name, %error, "an old version was not deleted");
                    }
                }
                return Ok(new);
            }
        }
        Err(DeploymentError::Contended(name.to_owned()))
    }

    /// Keeps a version's bytes. They are there for good once a deployment names
    /// the version.
    pub async fn keep(
        &self,
        name: &str,
        digest: &str,
        wasm: &Bytes,
    ) -> Result<(), DeploymentError> {
        let there = self
            .store
            .count(CHUNKS, chunks_of(name, digest), None)
            .await?;
        if there == wasm.len().div_ceil(self.chunk_bytes) as u64 {
            return Ok(());
        }
        // Some may be left of a try that was cut, in other sizes even.
        self.forget(name, digest).await?;
        let mut batch = Vec::with_capacity(CHUNKS_AT_ONCE);
        for (index, piece) in wasm.chunks(self.chunk_bytes).enumerate() {
            let data = Binary {
                subtype: BinarySubtype::Generic,
                bytes: piece.to_vec(),
            };
            let document = doc! { "_id": chunk_id(name, digest, index), "data": data };
            batch.push(raw(&document, name)?);
            if batch.len() == CHUNKS_AT_ONCE {
                self.store
                    .insert(CHUNKS, std::mem::take(&mut batch))
                    .await?;
            }
        }
        if !batch.is_empty() {
            self.store.insert(CHUNKS, batch).await?;
        }
        Ok(())
    }

    /// The bytes of a version, checked against its digest.
    pub async fn fetch(&self, name: &str, digest: &str) -> Result<Bytes, DeploymentError> {
        let damaged = || DeploymentError::Damaged(name.to_owned());
        let mut wasm = Vec::new();
        // One by one: sorted together they could be more than a store may hold.
        for index in 0.. {
            let id = Bson::from(chunk_id(name, digest, index));
            let Some(piece) = self.store.get(CHUNKS, id).await? else {
                break;
            };
            let data = piece.get_binary("data").map_err(|_| damaged())?;
            wasm.extend_from_slice(data.bytes);
        }
        if digest_of(&wasm) == digest {
            Ok(wasm.into())
        } else {
            Err(damaged())
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Deployment>, DeploymentError> {
        let found = self.store.get(PLUGINS, Bson::from(name)).await?;
        found.as_ref().map(read).transpose()
    }

    /// Writes `new` unless somebody was faster.
    async fn replace(
        &self,
        old: Option<&Deployment>,
        new: &Deployment,
    ) -> Result<bool, DeploymentError> {
        let mut fields = new.fields();
        match old {
            Some(old) => {
                let update = Update {
                    filter: doc! { "_id": &new.name, "revision": old.revision },
                    change: Change::Operators(doc! { "$set": fields }),
                    many: false,
                    upsert: false,
                    array_filters: Vec::new(),
                };
                Ok(self.store.update(PLUGINS, update).await?.matched == 1)
            }
            None => {
                fields.insert("_id", &new.name);
                match self
                    .store
                    .insert(PLUGINS, vec![raw(&fields, &new.name)?])
                    .await
                {
                    Ok(()) => Ok(true),
                    Err(StoreError::DuplicateKey { .. }) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn forget(&self, name: &str, digest: &str) -> Result<(), DeploymentError> {
        let pieces = chunks_of(name, digest);
        self.store.delete(CHUNKS, pieces, true).await?;
        Ok(())
    }
}

/// SHA-256 in hex, as the runtime names components.
pub fn digest_of(wasm: &[u8]) -> String {
    hex::encode(Sha256::digest(wasm))
}

/// Names are `[a-z0-9_-]` and digests hex, so a `:` ends both.
fn chunk_id(name: &str, digest: &str, index: usize) -> String {
    format!("{name}:{digest}:{index:06}")
}

/// All pieces of a version: a range of the `_id`s, since `;` follows `:`.
fn chunks_of(name: &str, digest: &str) -> Document {
    let from = format!("{name}:{digest}:");
    doc! { "_id": { "$gte": from, "$lt": format!("{name}:{digest};") } }
}

fn raw(document: &Document, name: &str) -> Result<RawDocumentBuf, DeploymentError> {
    RawDocumentBuf::try_from(document).map_err(|_| DeploymentError::Damaged(name.to_owned()))
}

fn read(raw: &RawDocumentBuf) -> Result<Deployment, DeploymentError> {
    let name = raw.get_str("_id").unwrap_or("?");
    let document = Document::try_from(raw.as_ref()).ok();
    document
        .as_ref()
        .and_then(Deployment::read)
        .ok_or_else(|| DeploymentError::Damaged(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};

    use super::*;

    fn version(digest: &str) -> Version {
        Version {
            digest: digest.to_owned(),
            bytes: 1,
            deployed: DateTime::now(),
        }
    }

    #[test]
    fn versions_stand_in_the_order_of_their_last_deployment() {
        let mut deployment = Deployment::new("a");
        assert_eq!(deployment.before(None), None);
        for digest in ["one", "two", "three", "one"] {
            deployment.add(version(digest));
        }
        let before = |digest| deployment.before(digest).map(|own| own.digest.as_str());
        assert_eq!(before(Some("one")), Some("three"));
        assert_eq!(before(Some("three")), Some("two"));
        assert_eq!(before(Some("two")), None);
        assert_eq!(before(Some("a file of somebody's")), Some("one"));
        assert_eq!(deployment.named("o").unwrap().digest, "one");
        assert_eq!(deployment.named("t"), None, "two versions start so");
        assert_eq!(deployment.named("x"), None);
    }

    #[test]
    fn the_oldest_versions_go_and_the_serving_one_stays() {
        let mut deployment = Deployment::new("a");
        deployment.add(version("first"));
        deployment.serving = Some("first".to_owned());
        for number in 0..20 {
            deployment.add(version(&number.to_string()));
        }
        assert_eq!(deployment.versions.len(), KEPT);
        assert_eq!(deployment.versions[0].digest, "first");
        assert_eq!(deployment.versions[1].digest, "11");
    }

    #[tokio::test]
    async fn bytes_come_back_whole_and_go_with_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = Arc::new(EmbeddedStore::open(&path, EmbeddedOptions::default()).unwrap());
        let deployments = Deployments {
            store: store.clone(),
            chunk_bytes: 10,
        };
        let chunks = || store.count(CHUNKS, Document::new(), None);
        let bytes = |seed: u8, len: u8| Bytes::from_iter((0..len).map(|n| n ^ seed));
        // One plugin's name starts as another's.
        for (name, wasm) in [
            ("a", bytes(1, 125)),
            ("a-b", bytes(2, 40)),
            ("b", bytes(3, 1)),
        ] {
            let digest = digest_of(&wasm);
            for _ in 0..2 {
                deployments.keep(name, &digest, &wasm).await.unwrap();
            }
            assert_eq!(deployments.fetch(name, &digest).await.unwrap(), wasm);
        }
        assert_eq!(chunks().await.unwrap(), 13 + 4 + 1);
        let one = version(&digest_of(&bytes(1, 125)));
        let kept = deployments
            .change("a", |own| own.add(one.clone()))
            .await
            .unwrap();
        assert_eq!((kept.revision, kept.versions.as_slice()), (1, &[one][..]));
        let all = deployments.all().await.unwrap();
        assert_eq!(all, std::slice::from_ref(&kept));
        deployments
            .change("a", |own| own.versions.clear())
            .await
            .unwrap();
        assert_eq!(chunks().await.unwrap(), 4 + 1);
        let lost = deployments.fetch("a", &kept.versions[0].digest).await;
        assert!(matches!(lost, Err(DeploymentError::Damaged(_))), "{lost:?}");
    }

    #[tokio::test]
    async fn changes_by_many_hosts_all_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = Arc::new(EmbeddedStore::open(&path, EmbeddedOptions::default()).unwrap());
        let hosts: Vec<_> = (0..4)
            .map(|_| Deployments::new(store.clone(), 1 << 20))
            .collect();
        let changes = hosts
            .iter()
            .map(|host| host.change("a", |own| own.disabled ^= true));
        let done = futures_util::future::join_all(changes).await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        let all = hosts[0].all().await.unwrap();
        assert_eq!((all[0].revision, all[0].disabled), (4, false));
    }
}
