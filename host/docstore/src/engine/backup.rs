//! A copy of the whole store, taken while it is in use.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::engine::file::{create_private, sync_folder, with_suffix};
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
    let partial = with_suffix(target, ".partial");
    let _ = std::fs::remove_file(&partial);
    create_private(&partial)?;
    let copied = snapshot(source, &partial, progress).and_then(|()| {
        File::open(&partial)
            .and_then(|file| file.sync_all())
            .map_err(io)?;
        std::fs::rename(&partial, target).map_err(io)?;
        sync_folder(target)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    copied
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
