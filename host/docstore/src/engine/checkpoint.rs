//! Moving committed pages from the write-ahead log into the file.
//!
//! A thread of its own does it while the writer goes on. A log that grows all the
//! same, because writes never pause, is emptied by the writer itself between two
//! transactions, which is short as most of it has been moved by then.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::engine::direct::Direct;
use crate::engine::sqlite;

/// Pages of 4 KiB that the log may gain before the thread moves them.
const MOVE_AFTER: u32 = 1_024;
/// Pages in the log at which the writer starts it anew.
const RESTART_AFTER: u32 = 4_096;
/// How long the writer waits for reads to let go of the log.
const RESTART_PATIENCE: Duration = Duration::from_millis(10);
/// How long the log may hold something in an idle store.
const IDLE: Duration = Duration::from_secs(1);

/// Shared by the writer and the checkpoint thread.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    state: Mutex<State>,
    wake: Condvar,
    /// Held by whoever moves pages: SQLite lets one do it, and would refuse the
    /// other. That the writer waits is what keeps the log from growing without
    /// end while writes never pause.
    turn: Mutex<()>,
    /// Keeps snapshots that hold the log.
    direct: Arc<Direct>,
}

#[derive(Debug, Default)]
struct State {
    /// Pages in the log, as of the last commit.
    pages: u32,
    /// Pages that were in it when they were last moved.
    moved: u32,
    /// Pages at which to start the log anew, when that failed before.
    restart_at: u32,
    closed: bool,
}

impl State {
    fn waiting(&self) -> u32 {
        // A log that started anew counts from zero again.
        if self.pages < self.moved {
            self.pages
        } else {
            self.pages - self.moved
        }
    }
}

impl Checkpointer {
    pub(crate) fn new(direct: Arc<Direct>) -> Self {
        Checkpointer {
            state: Mutex::default(),
            wake: Condvar::new(),
            turn: Mutex::default(),
            direct,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called after each commit, with the pages that are in the log now.
    pub(crate) fn committed(&self, pages: u32) {
        let mut state = self.lock();
        state.pages = pages;
        if state.waiting() >= MOVE_AFTER {
            self.wake.notify_one();
        }
    }

    /// Called by the writer between two transactions.
    pub(crate) fn make_room(&self, connection: &Connection) {
        let pages = {
            let state = self.lock();
            if state.pages < state.restart_at.max(RESTART_AFTER) {
                return;
            }
            state.pages
        };
        let _turn = self.turn();
        // The log keeps its size, as overwriting is cheaper than growing. A
        // long read may be using it still: then it grows on, and is tried later.
        let restarted = connection.busy_timeout(RESTART_PATIENCE).is_ok()
            && self
                .direct
                .without_snapshots(|| checkpoint(connection, "RESTART"));
        if let Err(error) = connection.busy_timeout(sqlite::PATIENCE) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a time limit was not set"
            );
        }
        let mut state = self.lock();
        if restarted {
            (state.pages, state.moved, state.restart_at) = (0, 0, 0);
        } else {
            state.restart_at = pages.saturating_add(RESTART_AFTER);
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
            while !state.closed && state.waiting() < MOVE_AFTER && !(idle && state.waiting() > 0) {
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
            state.moved = state.pages;
            drop(state);
            let _turn = self.turn();
            self.direct.release();
            checkpoint(&connection, "PASSIVE");
            // Those that were taken meanwhile would go on looking into the log.
            self.direct.release();
        }
    }
}

/// Runs a checkpoint; answers whether it did all that its mode asks for.
fn checkpoint(connection: &Connection, mode: &str) -> bool {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    match connection.query_row(&sql, [], |row| row.get::<_, i64>(0)) {
        Ok(busy) => busy == 0,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a checkpoint failed"
            );
            false
        }
    }
}
