//! Reads of one document on the thread that asks.
//!
//! Handing such a read to a reader's thread costs more than the read, which takes
//! some microseconds when its pages are in memory. When they are not, the thread
//! waits for the disk, and an async worker must not: as soon as one read was slow,
//! those after it take the detour over the readers' threads for a while. Nobody
//! waits here: a connection that is in use, or that finds anything unusual, sends
//! its caller to the readers too.
//!
//! Beginning and ending a transaction costs as much as the read within it, so a
//! connection keeps its snapshot until something is committed. Checkpoints need
//! all snapshots to end, and say so.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use rusqlite::Connection;

use crate::engine::sqlite::{self, Sql, blob};
use crate::error::Result;

/// A read that takes longer waited for something.
const SLOW: Duration = Duration::from_micros(500);
/// How many reads make the detour after a slow one.
const DETOUR: u32 = 32;
/// Collections whose statement a connection keeps.
const STATEMENTS: usize = 128;

/// Connections for short reads, none of them bound to a thread.
#[derive(Debug)]
pub(crate) struct Direct {
    connections: Vec<Mutex<Slot>>,
    /// Counts commits, and whatever else no snapshot may outlast, twice each: odd
    /// while one is under way.
    commits: AtomicU64,
    detour: AtomicU32,
}

/// One connection, and the snapshot that it keeps.
#[derive(Debug)]
struct Slot {
    /// None when the store is closed.
    connection: Option<Connection>,
    /// What the count was when the snapshot was taken.
    snapshot: Option<u64>,
}

impl Direct {
    /// Opens `count` connections on the file.
    pub(crate) fn open(path: &Path, count: usize) -> Result<Self> {
        let connect = |_| {
            let connection = sqlite::open_other(path, true)?;
            // Whatever is locked is read elsewhere.
            connection
                .busy_timeout(Duration::ZERO)
                .map_err(sqlite::unavailable)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(Mutex::new(Slot {
                connection: Some(connection),
                snapshot: None,
            }))
        };
        Ok(Direct {
            connections: (0..count).map(connect).collect::<Result<_>>()?,
            commits: AtomicU64::new(0),
            detour: AtomicU32::new(0),
        })
    }

    /// The document under this key, or none; no answer if it is for a reader's
    /// thread to find out.
    pub(crate) fn get(&self, collection: i64, key: &[u8]) -> Option<Option<RawDocumentBuf>> {
        let detour = self.detour.load(Ordering::Relaxed);
        if detour > 0 {
            // Two that count at the same time may count one too few.
            self.detour.store(detour - 1, Ordering::Relaxed);
            return None;
        }
        let mut slot = self
            .connections
            .iter()
            .find_map(|slot| match slot.try_lock() {
                Ok(slot) => Some(slot),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            })?;
        let begun = Instant::now();
        let commits = self.commits.load(Ordering::Acquire);
        let found = slot.get(commits, collection, key);
        // One read may see what is being committed, so the next must not see less.
        let under_way = !commits.is_multiple_of(2);
        if under_way || found.is_none() {
            slot.release();
        }
        drop(slot);
        if begun.elapsed() > SLOW {
            self.detour.store(DETOUR, Ordering::Relaxed);
        }
        found
    }

    /// Runs a commit. Snapshots from before it are of no use to those who read
    /// later.
    pub(crate) fn commit<T>(&self, commit: impl FnOnce() -> T) -> T {
        self.commits.fetch_add(1, Ordering::AcqRel);
        let outcome = commit();
        self.commits.fetch_add(1, Ordering::AcqRel);
        outcome
    }

    /// Runs something that snapshots would be in the way of: those that are there
    /// end before, and reads keep none until it is done. For the thread that
    /// commits, as the count tells of one thing at a time.
    pub(crate) fn without_snapshots<T>(&self, work: impl FnOnce() -> T) -> T {
        self.commit(|| {
            self.release();
            work()
        })
    }

    /// Ends the snapshots that are there, each after the read that uses it.
    pub(crate) fn release(&self) {
        for slot in &self.connections {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.release();
        }
    }

    /// Lets go of the file.
    pub(crate) fn close(&self) {
        for slot in &self.connections {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.connection = None;
        }
    }
}

impl Slot {
    fn get(&mut self, commits: u64, collection: i64, key: &[u8]) -> Option<Option<RawDocumentBuf>> {
        if self.snapshot != Some(commits) {
            self.release();
            control(self.connection.as_ref()?, Sql::Begin)?;
            self.snapshot = Some(commits);
        }
        let connection = self.connection.as_ref()?;
        let mut statement = connection
            .prepare_cached(&Sql::GetById.text(collection))
            .ok()?;
        let mut rows = statement.query([key]).ok()?;
        let Some(row) = rows.next().ok()? else {
            return Some(None);
        };
        let document = blob(row, 0).ok()?.to_vec();
        RawDocumentBuf::from_bytes(document).ok().map(Some)
    }

    /// Ends the snapshot.
    fn release(&mut self) {
        self.snapshot = None;
        let open = |connection: &&Connection| !connection.is_autocommit();
        if let Some(connection) = self.connection.as_ref().filter(open)
            && control(connection, Sql::Commit).is_none()
        {
            // A connection that cannot end a transaction is of no more use.
            self.connection = None;
        }
    }
}

fn control(connection: &Connection, sql: Sql) -> Option<()> {
    let mut statement = connection.prepare_cached(&sql.text(0)).ok()?;
    statement.execute([]).ok().map(drop)
}
