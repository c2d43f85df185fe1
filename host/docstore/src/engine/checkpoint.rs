//! Moving committed pages from the write-ahead log into the file.
//!
//! A thread of its own does it while the writer goes on. A log that grows all the
//! same, because writes never pause, is emptied by the writer itself between two
//! transactions, which is short as most of it has been moved by then.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::engine::sqlite;

/// The log's size, in pages of 4 KiB, at which the writer empties it.
const LOG_PAGES: i64 = 16_384;
/// Transactions after which the thread looks at the log.
const EVERY: u32 = 64;
/// How long the log may hold something in an idle store.
const IDLE: Duration = Duration::from_secs(1);

/// Shared by the writer and the checkpoint thread.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    state: Mutex<State>,
    wake: Condvar,
    crowded: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    transactions: u32,
    closed: bool,
}

impl Checkpointer {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer committed a transaction.
    pub(crate) fn written(&self) {
        let mut state = self.lock();
        state.transactions += 1;
        if state.transactions == EVERY {
            self.wake.notify_one();
        }
    }

    /// Called by the writer between two transactions.
    pub(crate) fn make_room(&self, connection: &Connection) {
        if self.crowded.swap(false, Ordering::Relaxed) {
            checkpoint(connection, "TRUNCATE");
        }
    }

    /// The writer's last act: the file alone holds everything.
    pub(crate) fn finish(&self, connection: &Connection) {
        self.lock().closed = true;
        self.wake.notify_one();
        checkpoint(connection, "TRUNCATE");
    }

    /// The checkpoint thread's life.
    pub(crate) fn run(&self, path: &Path) {
        let connection = match sqlite::open_other(path, false) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "checkpoints cannot run"
                );
                return;
            }
        };
        loop {
            let mut state = self.lock();
            let mut idle = false;
            while !state.closed && state.transactions < EVERY && !(idle && state.transactions > 0) {
                let (again, timeout) = self
                    .wake
                    .wait_timeout(state, IDLE)
                    .unwrap_or_else(PoisonError::into_inner);
                state = again;
                idle = timeout.timed_out();
            }
            if state.closed {
                return;
            }
            state.transactions = 0;
            drop(state);
            if checkpoint(&connection, "PASSIVE") > LOG_PAGES {
                self.crowded.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Runs a checkpoint; answers the pages in the log.
fn checkpoint(connection: &Connection, mode: &str) -> i64 {
    let pages = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get(1)
    });
    pages.unwrap_or_else(|error| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a checkpoint failed"
        );
        0
    })
}
