//! Blobs as files of a folder.
//!
//! A blob is written under its final name: nobody reads it before a document
//! names it, so there is nothing to be renamed into place. Reads and writes run
//! on the blocking pool, one piece at a time, so that a slow client holds no
//! thread while it waits.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::blob::{BlobEntry, BlobKey, BlobStore, BlobWriter, ByteStream};
use crate::error::{Error, Result};

/// Bytes that are read at once. Two pieces of a download are in memory: the one
/// that is sent and the next.
const READ: usize = 512 << 10;

/// Bytes of a small file, which is read where it is opened.
const SMALL: u64 = 64 << 10;

/// Bytes that are gathered before they are written.
const WRITE: usize = 1 << 20;

/// A folder of blobs.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    root: Arc<Path>,
    durable: Durable,
}

/// Folders whose own names are durable. Of one that is merely there that is not
/// known: another upload may have made it a moment ago.
type Durable = Arc<Mutex<HashSet<PathBuf>>>;

impl FolderBlobs {
    /// Blobs in this folder, which is made with the first of them, readable by its
    /// owner alone.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into().into(),
            durable: Durable::default(),
        }
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(key.path())
    }
}

#[async_trait]
impl BlobStore for FolderBlobs {
    async fn create(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(FolderWriter {
            path: self.path(key),
            durable: Arc::clone(&self.durable),
            file: None,
            gathered: BytesMut::new(),
            done: false,
        }))
    }

    async fn open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        let path = self.path(key);
        let length = range.end.saturating_sub(range.start);
        let first = usize::try_from(length.min(SMALL)).unwrap_or(0);
        // Small files are read where they are opened.
        let (file, first) = run(move || {
            let file = File::open(path)?;
            let piece = match length <= SMALL {
                true => read_at(&file, range.start, first)?,
                false => Bytes::new(),
            };
            Ok((file, piece))
        })
        .await?;
        if length <= SMALL {
            return Ok(stream::iter([Ok(first)]).boxed());
        }
        let reading = Reading {
            file: Arc::new(file),
            at: range.start,
            end: range.end,
            next: None,
        };
        Ok(stream::try_unfold(reading, Reading::piece).boxed())
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        let path = self.path(key);
        run(move || remove(&path)).await
    }

    async fn list(&self, home: &str) -> Result<BoxStream<'static, Result<BlobEntry>>> {
        let root = Arc::clone(&self.root);
        let home = home.to_owned();
        let spaces = run({
            let root = Arc::clone(&root);
            move || folders(&root, &home)
        })
        .await?;
        // One folder of blobs at a time is in memory, of up to 256 in a space.
        let entries = stream::iter(spaces)
            .then(move |space| {
                let root = Arc::clone(&root);
                run(move || entries(&root, &space))
            })
            .map_ok(|entries| stream::iter(entries).map(Ok))
            .try_flatten();
        Ok(entries.boxed())
    }
}

/// A download on its way.
struct Reading {
    file: Arc<File>,
    /// Where the next piece begins that nobody reads yet.
    at: u64,
    end: u64,
    /// The next piece, which is read while this one is sent.
    next: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Reading {
    async fn piece(mut self) -> Result<Option<(Bytes, Self)>> {
        let piece = match self.next.take() {
            Some(reading) => reading,
            None => match self.begin() {
                Some(reading) => reading,
                None => return Ok(None),
            },
        };
        let bytes = piece
            .await
            .map_err(Error::unavailable)?
            .map_err(Error::unavailable)?;
        self.next = self.begin();
        Ok(Some((bytes, self)))
    }

    fn begin(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let left = self.end.saturating_sub(self.at);
        let length = usize::try_from(left).unwrap_or(READ).min(READ);
        if length == 0 {
            return None;
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        self.at += length as u64;
        Some(spawn_blocking(move || read_at(&file, at, length)))
    }
}

/// A blob on its way to disk.
struct FolderWriter {
    path: PathBuf,
    durable: Durable,
    file: Option<Arc<File>>,
    gathered: BytesMut,
    /// Finished, or taken back.
    done: bool,
}

impl FolderWriter {
    async fn write_out(&mut self) -> Result<()> {
        let bytes = self.gathered.split().freeze();
        let file = self.file.clone();
        let path = self.path.clone();
        let file = run(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(create(&path)?),
            };
            (&*file).write_all(&bytes)?;
            Ok(file)
        })
        .await?;
        self.file = Some(file);
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for FolderWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() >= WRITE {
            self.write_out().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let rest = self.gathered.split().freeze();
        let file = self.file.clone();
        let path = self.path.clone();
        let durable = Arc::clone(&self.durable);
        run(move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(create(&path)?),
            };
            (&*file).write_all(&rest)?;
            file.sync_all()?;
            sync_folders(&path, &durable)
        })
        .await?;
        self.done = true;
        Ok(())
    }

    async fn abort(mut self: Box<Self>) {
        self.done = true;
        let path = self.path.clone();
        if let Err(error) = run(move || remove(&path)).await {
            tracing::warn!(
                error = error.with_causes(),
                "an upload that was given up is left for the next sweep"
            );
        }
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if self.done || self.file.is_none() {
            return;
        }
        let path = std::mem::take(&mut self.path);
        // A client that went away in the middle.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || remove(&path));
        }
    }
}

/// Runs on the blocking pool.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let done =
        spawn_blocking(work).map(|joined| joined.map_err(Error::unavailable)?.map_err(failed));
    done.await
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::Missing,
        _ => Error::unavailable(error),
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                make_folder(folder)?;
            }
            options.open(path)
        }
        opened => opened,
    }
}

/// Makes a folder and those above it.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    match builder.create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a blob's name durable, and those of the folders that it is in.
fn sync_folders(blob: &Path, durable: &Durable) -> io::Result<()> {
    let Some(folder) = blob.parent() else {
        return Ok(());
    };
    sync_folder(Some(folder))?;
    let known = || durable.lock().unwrap_or_else(PoisonError::into_inner);
    if !known().contains(folder) {
        sync_folder(folder.parent())?;
        let space = folder.parent();
        let home = space.and_then(Path::parent);
        let root = home.and_then(Path::parent);
        sync_folder(home)?;
        sync_folder(root)?;
        sync_folder(root.and_then(Path::parent))?;
        known().insert(folder.to_owned());
    }
    Ok(())
}

/// Makes the names in a folder durable.
fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    match folder {
        #[cfg(unix)]
        Some(folder) => {
            let folder = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            };
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(unix)]
fn read_at(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

#[cfg(not(unix))]
fn read_at(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = file;
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// `home/space/fan` of every folder that can hold blobs of a home.
fn folders(root: &Path, home: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let spaces = match names(&root.join(home)) {
        // Nothing was ever uploaded.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        spaces => spaces?,
    };
    for space in spaces {
        let space = format!("{home}/{space}");
        for fan in names(&root.join(&space)).unwrap_or_default() {
            found.push(format!("{space}/{fan}"));
        }
    }
    Ok(found)
}

fn entries(root: &Path, folder: &str) -> io::Result<Vec<BlobEntry>> {
    let mut found = Vec::new();
    for name in names(&root.join(folder)).unwrap_or_default() {
        let path = format!("{folder}/{name}");
        // Whatever else somebody has put here is not ours to look after.
        let Some(key) = BlobKey::from_path(&path) else {
            continue;
        };
        match fs::metadata(root.join(path)).and_then(|file| file.modified()) {
            Ok(modified) => found.push(BlobEntry { key, modified }),
            // Deleted a moment ago.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}
