//! How far a long command has come, on a terminal; and what was done, anywhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Time between two updates of the line.
const EVERY: Duration = Duration::from_millis(100);

/// A line on standard error that is written over and over. Nothing where that is
/// no terminal.
pub(super) struct Progress {
    terminal: bool,
    next: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            next: Instant::now(),
        }
    }

    pub(super) fn show(&mut self, text: impl FnOnce() -> String) {
        if !self.terminal || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        // "\x1b[K" clears what a longer text left.
        let _ = write!(std::io::stderr(), "\r{}\x1b[K", text());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A result, on standard output.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", bytes as f64 / MIB),
    }
}

/// `1 document`, `2 documents`.
pub(super) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
