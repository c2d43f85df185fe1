//! What an operator does to a store's file from outside of the process that
//! serves it: copy it, check it, put a copy in its place.
//!
//! Copying and checking read one snapshot and need no lock, so they work beside
//! a server. Restoring takes the store's lock and is refused while anybody has
//! the store open. All of it blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::engine::backup;
use crate::engine::candidates::Limits;
use crate::engine::catalog::Catalog;
use crate::engine::check;
use crate::engine::file::{create_private, is_locked, lock, sync_folder, with_suffix};
use crate::engine::sqlite::{self, Session};
use crate::error::{Error, Result};
use crate::model::CheckReport;

/// Bytes at the start of an SQLite file that say what it is
/// (<https://www.sqlite.org/fileformat.html#the_database_header>).
const HEADER: usize = 100;

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// What was found in the copy before it was put in place.
    pub report: CheckReport,
    /// Where the store that was there before is kept now.
    pub kept: Option<PathBuf>,
}

/// Whether a process has the store open, at this moment.
pub fn is_in_use(store: &Path) -> Result<bool> {
    is_locked(store)
}

/// Copies the store, as it is at one moment, to a file. Other processes may read
/// and write the store meanwhile. `progress` hears bytes done and bytes in all.
///
/// The target appears whole under its name, or not at all. `Invalid` when there
/// is no store, or when the target exists and is not to be replaced.
pub fn backup(
    store: &Path,
    target: &Path,
    replace: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    if is_same_file(store, target) {
        return Err(Error::Invalid(
            "a store cannot be backed up onto itself".into(),
        ));
    }
    let connection = open(store)?;
    backup::copy(&connection, target, replace, progress)
}

/// Reads the whole store, as it is at one moment, and reports what is wrong.
/// Other processes may read and write it meanwhile. `Invalid` when there is no
/// store; what cannot be read is a problem in the report.
pub fn check(store: &Path) -> Result<CheckReport> {
    let connection = open(store)?;
    let mut session = Session::new(&connection);
    let report = session.snapshot(|session| {
        let catalog = Catalog::load(session.connection)?;
        check::check(session, &catalog, &Limits::default())
    });
    Ok(report.unwrap_or_else(|error| CheckReport {
        problems: vec![format!("the file cannot be read: {}", cause(&error))],
        ..CheckReport::default()
    }))
}

/// Puts a backup in the store's place. Nobody may have the store open.
///
/// The backup is copied beside the store and checked there first, so that the
/// place holds the old store until one rename makes it hold the new one. An old
/// store is refused unless it is to be replaced, and then kept beside under the
/// name `<store>.<kept_as>`, a store like any other.
///
/// `Invalid` when the backup is damaged or no backup, when there is a store that
/// may not be replaced; `Unavailable` when somebody has the store open.
pub fn restore(backup: &Path, store: &Path, replace: bool, kept_as: &str) -> Result<Restored> {
    if is_same_file(backup, store) {
        return Err(Error::Invalid("the backup is the store itself".into()));
    }
    let _lock = lock(store)?;
    let is_there = store.try_exists().map_err(io)?;
    if is_there && !replace {
        return Err(Error::Invalid(format!(
            "there is a store already at {}",
            store.display()
        )));
    }
    let aside = with_suffix(store, ".restore");
    remove(&aside);
    let restored = prepare(backup, &aside).and_then(|report| {
        let kept = match is_there {
            true => Some(keep(store, &with_suffix(store, &format!(".{kept_as}")))?),
            false => None,
        };
        if let Err(error) = swap(&aside, store) {
            // One file under two names would be two stores that know nothing of
            // each other: the old one has its own again, and that alone.
            if let Some(kept) = &kept {
                let _ = fs::hard_link(with_suffix(kept, "-wal"), with_suffix(store, "-wal"));
                forget(kept);
            }
            return Err(error);
        }
        sync_folder(store)?;
        Ok(Restored { report, kept })
    });
    if restored.is_err() {
        remove(&aside);
    }
    restored
}

/// Copies the backup to `aside` and makes sure that it is a sound store.
fn prepare(backup: &Path, aside: &Path) -> Result<CheckReport> {
    let mut source = File::open(backup).map_err(|error| {
        Error::Invalid(format!(
            "the backup {} cannot be opened: {error}",
            backup.display()
        ))
    })?;
    // SQLite would take an empty file for an empty database.
    let mut header = [0; HEADER];
    if source.read_exact(&mut header).is_err() || !sqlite::is_ours(&header) {
        return Err(damaged(backup, "it is no copy of a document store"));
    }
    source.rewind().map_err(io)?;
    create_private(aside)?;
    let mut copy = OpenOptions::new().write(true).open(aside).map_err(io)?;
    std::io::copy(&mut source, &mut copy).map_err(io)?;
    drop(copy);
    let writer = sqlite::open_writer(aside).map_err(|error| damaged(backup, &cause(&error)))?;
    let mode: String = writer
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| damaged(backup, &error.to_string()))?;
    close(writer)?;
    if mode != "wal" {
        return Err(Error::Unavailable(
            format!("the restored file has the journal mode {mode}").into(),
        ));
    }
    let report = check(aside)?;
    if let Some(problem) = report.problems.first() {
        return Err(damaged(backup, problem));
    }
    File::open(aside)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    Ok(report)
}

/// Puts the new file in the store's place.
fn swap(aside: &Path, store: &Path) -> Result<()> {
    // A log without its store would be taken for the new one's.
    for suffix in ["-wal", "-shm"] {
        remove_file(&with_suffix(store, suffix))?;
    }
    fs::rename(aside, store).map_err(io)
}

/// Gives the store a second name, which keeps it when its first is taken.
fn keep(store: &Path, kept: &Path) -> Result<PathBuf> {
    // The file alone then holds everything. One that is too damaged for this is
    // kept with its log, which has its second name before anything is tried:
    // whoever closes a store last deletes the log's first.
    let (log, kept_log) = (with_suffix(store, "-wal"), with_suffix(kept, "-wal"));
    let has_log = fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0);
    if has_log {
        fs::hard_link(&log, &kept_log).map_err(io)?;
    }
    let named = settle(store).and_then(|is_whole| {
        if has_log && is_whole {
            remove_file(&kept_log)?;
        } else if has_log {
            // The first name again, should it be gone: nothing is replaced yet.
            let _ = fs::hard_link(&kept_log, &log);
        }
        fs::hard_link(store, kept).map_err(io)
    });
    if let Err(error) = named {
        if has_log {
            let _ = fs::remove_file(&kept_log);
        }
        return Err(error);
    }
    if let Err(error) = sync_folder(kept) {
        forget(kept);
        return Err(error);
    }
    Ok(kept.to_owned())
}

/// Moves the store's log into its file. Whether the file is whole now: not when
/// the store is damaged. `Unavailable` when somebody reads it, for the log then
/// stays.
fn settle(store: &Path) -> Result<bool> {
    let settled = sqlite::open_writer(store).and_then(|connection| {
        // The row's first column (<https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>).
        let is_busy: bool = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(sqlite::unavailable)?;
        close(connection)?;
        Ok(is_busy)
    });
    match settled {
        Ok(false) => Ok(true),
        Ok(true) => Err(Error::Unavailable(
            "a backup or a check is reading the store: wait until it is done".into(),
        )),
        Err(error) => {
            tracing::warn!("the store that is replaced is damaged: {}", cause(&error));
            Ok(false)
        }
    }
}

/// Takes back the second name.
fn forget(kept: &Path) {
    for suffix in ["", "-wal"] {
        let _ = fs::remove_file(with_suffix(kept, suffix));
    }
}

/// A connection that only reads. SQLite would make a file that is not there.
fn open(store: &Path) -> Result<Connection> {
    if !store.try_exists().map_err(io)? {
        return Err(Error::Invalid(format!(
            "there is no store at {}",
            store.display()
        )));
    }
    sqlite::open_other(store, true)
}

fn close(connection: Connection) -> Result<()> {
    connection
        .close()
        .map_err(|(_, error)| sqlite::unavailable(error))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(error)),
        _ => Ok(()),
    }
}

/// Left-overs of an earlier restore, or of this one. Best effort: nobody reads
/// them.
fn remove(aside: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(aside, suffix));
    }
}

fn damaged(backup: &Path, problem: &str) -> Error {
    Error::Invalid(format!(
        "the backup {} cannot be used: {problem}",
        backup.display()
    ))
}

/// What an operator can act on: the innermost error's words.
fn cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn io(error: std::io::Error) -> Error {
    Error::Unavailable(Box::new(error))
}
