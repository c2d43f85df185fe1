//! A copy of the whole store, taken while it is in use.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::engine::file::{sync_folder, with_suffix};
use crate::engine::sqlite::unavailable;
use crate::error::{Error, Result};

/// Pages that are copied between two looks at the progress: 4 MiB.
const STEP: i32 = 1024;

/// How far a copy has come: bytes that are done, and all.
pub(crate) type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// Copies the store of `source` to `target`, which must not exist unless it is to
/// be replaced. The copy is complete and on the disk when it appears under its
/// name; a file that it replaces is whole until then.
pub(crate) fn copy(
    source: &Connection,
    target: &Path,
    replace: bool,
    progress: Progress<'_>,
) -> Result<()> {
    let io = |error: std::io::Error| Error::Unavailable(Box::new(error));
    if !replace && target.try_exists().map_err(io)? {
        return Err(Error::Invalid(format!(
            "the backup {} exists already",
            target.display()
        )));
    }
    remove_left_over(target);
    let (partial, file) = make_partial(target).map_err(io)?;
    let copied = snapshot(source, &partial, progress).and_then(|()| {
        file.sync_all().map_err(io)?;
        std::fs::rename(&partial, target).map_err(io)?;
        sync_folder(target)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

/// A new file beside the target, private and of a name of its own, and its lock:
/// two backups to one target do not meet before the rename.
fn make_partial(target: &Path) -> std::io::Result<(PathBuf, File)> {
    loop {
        // Its keys are random, which is all that a free name takes.
        let random = RandomState::new().hash_one(target);
        let partial = with_suffix(target, &format!(".{random:016x}.partial"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&partial) {
            // Another backup may take it for a left-over until it is locked.
            Ok(file) if is_mine(&file) && partial.try_exists()? => return Ok((partial, file)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the lock was free, which says that nobody writes the file. SQLite has
/// locks of another kind on Unix; elsewhere ours would keep it out.
fn is_mine(file: &File) -> bool {
    !cfg!(unix) || file.try_lock().is_ok()
}

/// Removes what backups to this target that were killed left behind. Best effort;
/// where files are not locked, nobody knows which are left over.
fn remove_left_over(target: &Path) {
    let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
        return;
    };
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|_| cfg!(unix)) {
        let other = entry.file_name();
        let random = other
            .to_str()
            .and_then(|other| other.strip_prefix(name)?.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".partial"));
        let is_partial = random.is_some_and(|random| {
            random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if is_partial
            && File::open(entry.path())
                .is_ok_and(|file| is_mine(&file) && std::fs::remove_file(entry.path()).is_ok())
        {
            tracing::warn!(
                "removed {}, of a backup that was broken off",
                entry.path().display()
            );
        }
    }
}

/// Copies within one read transaction: all pages are then of one moment, and a
/// writer, in this process or another, makes the copy neither wait nor restart.
fn snapshot(source: &Connection, target: &Path, progress: Progress<'_>) -> Result<()> {
    source.execute_batch("BEGIN").map_err(unavailable)?;
    let copied = source
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(unavailable)
        .and_then(|()| pages(source, target, progress));
    // Ending a transaction that only read has nothing to lose.
    let ended = source.execute_batch("COMMIT").map_err(unavailable);
    copied.and(ended)
}

fn pages(source: &Connection, target: &Path, progress: Progress<'_>) -> Result<()> {
    let page: u32 = source
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(unavailable)?;
    let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * u64::from(page);
    let mut copy = Connection::open(target).map_err(unavailable)?;
    {
        let backup = Backup::new(source, &mut copy).map_err(unavailable)?;
        loop {
            let step = backup.step(STEP).map_err(unavailable)?;
            let state = backup.progress();
            progress(
                bytes(state.pagecount - state.remaining),
                bytes(state.pagecount),
            );
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                // Nobody else has the new file, and readers of a log do not wait.
                _ => return Err(Error::Unavailable("the copy's file is locked".into())),
            }
        }
    }
    copy.close().map_err(|(_, error)| unavailable(error))
}
