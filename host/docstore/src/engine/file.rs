//! The file itself: made private, locked against other processes, and sure to be
//! there after a power cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long a new process waits for its predecessor to let go of the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The path of a file beside another: `documents.db` and `-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// SQLite lets several processes in; our catalogue in memory does not.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let unavailable = |error: std::io::Error| Error::Unavailable(Box::new(error));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(with_suffix(path, ".lock"))
        .map_err(unavailable)?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Unavailable(
                    format!("another process uses the store {}", path.display()).into(),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
    }
}

/// Whether somebody holds the lock now.
pub(crate) fn is_locked(path: &Path) -> Result<bool> {
    match File::open(with_suffix(path, ".lock")) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Error::Unavailable(Box::new(error))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::Unavailable(Box::new(error))),
    }
}

/// Makes the file, readable by its owner alone; SQLite gives its log the same
/// mode. One that is there stays as
/// it is.
pub(crate) fn create_private(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Unavailable(Box::new(error))),
    }
}

/// A new file survives a power cut only when its folder's entry does.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::Unavailable(Box::new(error)))?;
    }
    Ok(())
}
