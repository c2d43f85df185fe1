//! A copy of the whole store, taken while it is in use.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use crate::engine::file::{create_private, sync_folder};
use crate::engine::sqlite::unavailable;
use crate::error::{Error, Result};

/// Copies the store of `source` to `target`, which must not exist. The copy is
/// complete and on the disk when it appears under its name.
pub(crate) fn copy(source: &Connection, target: &Path) -> Result<()> {
    let io = |error: std::io::Error| Error::Unavailable(Box::new(error));
    if target.try_exists().map_err(io)? {
        return Err(Error::Invalid(format!(
            "the backup {} exists already",
            target.display()
        )));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    let partial = Path::new(&name);
    let _ = std::fs::remove_file(partial);
    create_private(partial)?;
    let copied = pages(source, partial).and_then(|()| {
        File::open(partial)
            .and_then(|file| file.sync_all())
            .map_err(io)?;
        std::fs::rename(partial, target).map_err(io)?;
        sync_folder(target)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(partial);
    }
    copied
}

fn pages(source: &Connection, target: &Path) -> Result<()> {
    let mut copy = Connection::open(target).map_err(unavailable)?;
    {
        let backup = Backup::new(source, &mut copy).map_err(unavailable)?;
        // All pages in one step, and so of one moment: writers go on meanwhile.
        backup.step(-1).map_err(unavailable)?;
    }
    copy.close().map_err(|(_, error)| unavailable(error))
}
