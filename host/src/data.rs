//! What an operator does with what is stored, from the command line: back up,
//! restore, check, export, import. It opens the store itself, apart from any
//! server, and knows nothing of HTTP.

mod export;
mod file;
mod import;
mod progress;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use coglex_docstore::offline;
use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use coglex_services::storage::mongo::MongoStore;
use coglex_services::storage::transfer::{Existing, TransferStore};

use crate::config::{self, Config};
use crate::shutdown;

pub(crate) use file::{backup, check, restore};

/// The name of the file that makes a folder an export. It is written last.
const CONTENTS: &str = "collections.json";
/// What it says it is.
const FORMAT: &str = "coglex-export";
/// The key of a line in a stream that begins a collection, and its name.
const BEGIN: &str = "$collection";
/// The key of a stream's last line.
const END: &str = "$end";

/// Writes the documents of the configured store into a folder, or to standard
/// output when it is `-`; all collections when none is chosen.
pub(crate) fn export(config: &Config, target: &Path, chosen: &[String]) -> anyhow::Result<()> {
    until_interrupted(async {
        let (store, _snapshot) = open_for_export(config).await?;
        let done = export::run(store.as_ref(), target, chosen).await;
        store.close().await;
        done
    })
}

/// Reads documents from a folder, a file or, when it is `-`, standard input,
/// into the configured store.
pub(crate) fn import(
    config: &Config,
    source: &Path,
    chosen: &[String],
    existing: Existing,
) -> anyhow::Result<()> {
    until_interrupted(async {
        let store = open_for_import(config).await?;
        let done = import::run(store.as_ref(), source, chosen, existing).await;
        store.close().await;
        done
    })
}

/// Runs to the end, or until Ctrl-C or SIGTERM: what is dropped then tidies up.
fn until_interrupted(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => done,
            () = shutdown::requested() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // A copy that goes on in the background ends with the process.
    runtime.shutdown_background();
    done
}

/// The store, and the folder of its copy if it had to be copied.
async fn open_for_export(
    config: &Config,
) -> anyhow::Result<(Box<dyn TransferStore>, Option<Snapshot>)> {
    if config.mongodb.uri.is_some() {
        return Ok((open_mongo(config).await?, None));
    }
    let path = config.store_path();
    if !path.try_exists().context("cannot look for the store")? {
        bail!("there is no store at {}", path.display());
    }
    Snapshot::remove_left_over(&config.data.dir);
    if !offline::is_in_use(&path)? {
        return Ok((open_embedded(config, &path)?, None));
    }
    let snapshot = Snapshot::make(&config.data.dir)?;
    let copy = snapshot.dir.join("documents.db");
    let (from, to) = (path, copy.clone());
    tokio::task::spawn_blocking(move || offline::backup(&from, &to, false, &mut |_, _| {}))
        .await?
        .context("cannot copy the store, which a server uses")?;
    Ok((open_embedded(config, &copy)?, Some(snapshot)))
}

async fn open_for_import(config: &Config) -> anyhow::Result<Box<dyn TransferStore>> {
    if config.mongodb.uri.is_some() {
        return open_mongo(config).await;
    }
    config::private_dir(&config.data.dir)?;
    let path = config.store_path();
    refuse_in_use(&path)?;
    open_embedded(config, &path)
}

fn open_embedded(config: &Config, path: &Path) -> anyhow::Result<Box<dyn TransferStore>> {
    let options = EmbeddedOptions {
        max_document_bytes: config.storage.document_limit,
        // Documents whose time has come are the server's to delete.
        expire_every: Duration::from_secs(365 * 86_400),
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open(path, options)
        .with_context(|| format!("cannot open the store {}", path.display()))?;
    Ok(Box::new(store))
}

async fn open_mongo(config: &Config) -> anyhow::Result<Box<dyn TransferStore>> {
    let uri = config.mongodb.uri.as_ref();
    let uri = uri.map(config::Secret::expose).unwrap_or_default();
    let store = MongoStore::connect(uri, config.mongodb.database.as_deref())
        .await
        .context("the setting mongodb.uri cannot be used")?;
    use coglex_services::storage::DocumentStore as _;
    store.ping().await.context("MongoDB does not answer")?;
    Ok(Box::new(store))
}

fn refuse_in_use(path: &Path) -> anyhow::Result<()> {
    // A server that was just told to stop may take a moment to let go.
    let patience = Instant::now() + Duration::from_secs(2);
    while offline::is_in_use(path)? {
        if Instant::now() >= patience {
            bail!("a server uses the store {}: stop it first", path.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A private folder that is removed in the end, or, after a kill, by the next
/// export. A lock on a file in it says that it is in use.
struct Snapshot {
    dir: PathBuf,
    _lock: File,
}

impl Snapshot {
    fn make(data_dir: &Path) -> anyhow::Result<Self> {
        loop {
            let random = getrandom::u64().context("the system has no randomness")?;
            let dir = data_dir.join(format!("export-{random:016x}.tmp"));
            config::private_dir(&dir)?;
            // Another export may take the folder for a left-over until it is
            // locked; who has the lock of a folder that is there keeps it.
            match Self::lock(&dir) {
                Ok(Some(lock)) if dir.is_dir() => return Ok(Self { dir, _lock: lock }),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot use the folder {}", dir.display()));
                }
                _ => {}
            }
        }
    }

    /// The folder's lock, unless somebody has it.
    fn lock(dir: &Path) -> std::io::Result<Option<File>> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes what exports that were killed left behind. Best effort.
    fn remove_left_over(data_dir: &Path) {
        let entries = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let is_copy = name.starts_with("export-") && name.ends_with(".tmp");
            if is_copy && let Ok(Some(_lock)) = Self::lock(&entry.path()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // Nobody is left to be told; the name says what it is.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
