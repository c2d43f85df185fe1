//! The SQL: opening the file, its tables, and every statement that runs on them.
//!
//! A collection with id 7 is the table `c7(rid, idk, doc)`: the row's number, which
//! gives the natural order and never changes; the `_id` as an ordered key; the
//! BSON. An index with id 9 is the table `i9(key, rid)`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Row, Statement};

use crate::error::{Error, Result};

/// Marks the file as ours ("Cglx").
const APPLICATION_ID: i32 = 0x4367_6C78;
/// The layout of tables and keys that this version reads and writes.
const FORMAT: i32 = 1;
/// How long a connection waits for another's lock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Prepared statements that a connection holds before it starts afresh.
const MAX_STATEMENTS: usize = 1_000;

/// A statement. Those about a table are prepared once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sql {
    Begin,
    /// Reads something small, so that the snapshot begins now.
    Touch,
    BeginImmediate,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    GetById,
    GetByRid,
    RidById,
    Scan,
    Count,
    Insert,
    Replace,
    Delete,
    IndexInsert,
    IndexDelete,
    IndexRange,
    IndexKey,
    IndexForward,
    IndexBackward,
    IdRange,
    IdForward,
    IdBackward,
    IndexEntry,
    IndexCount,
    IndexClear,
    IdRebuild,
}

impl Sql {
    pub(crate) fn text(self, table: i64) -> String {
        match self {
            Sql::Begin => "BEGIN".into(),
            Sql::Touch => "SELECT id FROM collections LIMIT 1".into(),
            Sql::BeginImmediate => "BEGIN IMMEDIATE".into(),
            Sql::Commit => "COMMIT".into(),
            Sql::Rollback => "ROLLBACK".into(),
            Sql::Savepoint => "SAVEPOINT request".into(),
            Sql::Release => "RELEASE request".into(),
            Sql::RollbackTo => "ROLLBACK TO request".into(),
            Sql::GetById => format!("SELECT doc FROM c{table} WHERE idk = ?1"),
            Sql::GetByRid => format!("SELECT doc FROM c{table} WHERE rid = ?1"),
            Sql::RidById => format!("SELECT rid FROM c{table} WHERE idk = ?1"),
            Sql::Scan => format!("SELECT rid, doc FROM c{table} WHERE rid > ?1 ORDER BY rid"),
            Sql::Count => format!("SELECT count(*) FROM c{table}"),
            Sql::Insert => format!("INSERT INTO c{table}(idk, doc) VALUES (?1, ?2)"),
            Sql::Replace => format!("UPDATE c{table} SET doc = ?2 WHERE rid = ?1"),
            Sql::Delete => format!("DELETE FROM c{table} WHERE rid = ?1"),
            Sql::IndexInsert => format!("INSERT INTO i{table}(key, rid) VALUES (?1, ?2)"),
            Sql::IndexDelete => format!("DELETE FROM i{table} WHERE key = ?1 AND rid = ?2"),
            Sql::IndexRange => format!("SELECT rid FROM i{table} WHERE key >= ?1 AND key < ?2"),
            Sql::IndexKey => format!(
                "SELECT rid FROM i{table} WHERE key = ?1 AND rid > ?2 ORDER BY rid LIMIT ?3"
            ),
            Sql::IndexEntry => format!("SELECT 1 FROM i{table} WHERE key = ?1 AND rid = ?2"),
            Sql::IndexCount => format!("SELECT count(*) FROM i{table}"),
            Sql::IndexClear => format!("DELETE FROM i{table}"),
            Sql::IdRebuild => format!("REINDEX c{table}"),
            Sql::IndexForward => format!(
                "SELECT key, rid FROM i{table} WHERE (key, rid) > (?1, ?2) AND key < ?3 ORDER BY key, rid LIMIT ?4"
            ),
            Sql::IndexBackward => format!(
                "SELECT key, rid FROM i{table} WHERE (key, rid) < (?1, ?2) AND key >= ?3 ORDER BY key DESC, rid DESC LIMIT ?4"
            ),
            Sql::IdRange => format!("SELECT rid FROM c{table} WHERE idk >= ?1 AND idk < ?2"),
            // The unused row number keeps the parameters of both kinds alike.
            Sql::IdForward => format!(
                "SELECT idk, rid FROM c{table} WHERE idk >= ?1 AND (idk > ?1 OR ?2 = 0) AND idk < ?3 ORDER BY idk LIMIT ?4"
            ),
            Sql::IdBackward => format!(
                "SELECT idk, rid FROM c{table} WHERE idk < ?1 AND ?2 >= 0 AND idk >= ?3 ORDER BY idk DESC LIMIT ?4"
            ),
        }
    }
}

/// A connection with its prepared statements.
pub(crate) struct Session<'c> {
    pub(crate) connection: &'c Connection,
    statements: HashMap<(Sql, i64), Statement<'c>>,
}

impl<'c> Session<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Session {
            connection,
            statements: HashMap::new(),
        }
    }

    fn statement(&mut self, sql: Sql, table: i64) -> Result<&mut Statement<'c>> {
        use std::collections::hash_map::Entry;
        if self.statements.len() > MAX_STATEMENTS {
            self.statements.clear();
        }
        match self.statements.entry((sql, table)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let statement = self
                    .connection
                    .prepare(&sql.text(table))
                    .map_err(unavailable)?;
                Ok(entry.insert(statement))
            }
        }
    }

    /// Runs a statement that yields nothing.
    pub(crate) fn execute(
        &mut self,
        sql: Sql,
        table: i64,
        params: impl Params,
    ) -> Result<(), StatementError> {
        let statement = self.statement(sql, table).map_err(StatementError::Other)?;
        match statement.execute(params) {
            Ok(_) => Ok(()),
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ErrorCode::ConstraintViolation =>
            {
                Err(StatementError::Duplicate)
            }
            Err(error) => Err(StatementError::Other(unavailable(error))),
        }
    }

    /// Runs a statement about the transaction.
    pub(crate) fn control(&mut self, sql: Sql) -> Result<()> {
        self.execute(sql, 0, []).map_err(StatementError::into_error)
    }

    /// Shows each row to `visit` until it answers false.
    pub(crate) fn rows(
        &mut self,
        sql: Sql,
        table: i64,
        params: impl Params,
        mut visit: impl FnMut(&Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let mut rows = self
            .statement(sql, table)?
            .query(params)
            .map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            if !visit(row)? {
                break;
            }
        }
        Ok(())
    }

    /// The first row, as `read` sees it.
    pub(crate) fn first<T>(
        &mut self,
        sql: Sql,
        table: i64,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut found = None;
        self.rows(sql, table, params, |row| {
            found = Some(read(row)?);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Runs `work` on one snapshot of the data; on the current one, if there is.
    pub(crate) fn snapshot<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if !self.connection.is_autocommit() {
            return work(self);
        }
        self.control(Sql::Begin)?;
        let answer = self
            .first(Sql::Touch, 0, [], |_| Ok(()))
            .and_then(|_| work(self));
        // Ending a transaction that only read has nothing to lose.
        let ended = self.control(Sql::Commit);
        let answer = answer?;
        ended?;
        Ok(answer)
    }
}

/// Why a statement failed.
pub(crate) enum StatementError {
    /// A unique key is taken.
    Duplicate,
    Other(Error),
}

impl StatementError {
    pub(crate) fn into_error(self) -> Error {
        match self {
            StatementError::Duplicate => Error::DuplicateKey {
                index: "_id_".into(),
            },
            StatementError::Other(error) => error,
        }
    }

    /// The error, when the statement fills the index of this name.
    pub(crate) fn of_index(self, name: &str) -> Error {
        match self {
            StatementError::Duplicate => Error::DuplicateKey {
                index: name.to_owned(),
            },
            StatementError::Other(error) => error,
        }
    }
}

/// Every failure of SQLite itself means that the store cannot do its work.
pub(crate) fn unavailable(error: rusqlite::Error) -> Error {
    Error::Unavailable(Box::new(error))
}

/// A reader that knows of a table before its snapshot does meets this; a fresh
/// snapshot cures it.
pub(crate) fn is_stale(error: &Error) -> bool {
    match error {
        Error::Unavailable(cause) => cause
            .downcast_ref::<rusqlite::Error>()
            .is_some_and(|error| error.to_string().contains("no such table")),
        _ => false,
    }
}

/// A column's bytes, in place.
pub(crate) fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8]> {
    match row.get_ref(column).map_err(unavailable)? {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(crate::value::Corrupt.into()),
    }
}

/// A column's integer.
pub(crate) fn integer(row: &Row<'_>, column: usize) -> Result<i64> {
    row.get(column).map_err(unavailable)
}

/// Whether a file that begins with these bytes is a store: SQLite's magic, and
/// our application id at offset 68.
pub(crate) fn is_ours(header: &[u8]) -> bool {
    header.starts_with(b"SQLite format 3\0")
        && header.get(68..72) == Some(&APPLICATION_ID.to_be_bytes())
}

/// Opens the connection that writes; makes the tables of a new file.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unavailable)?;
    configure(&connection)?;
    let id: i32 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .map_err(unavailable)?;
    let format: i32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(unavailable)?;
    match (id, format) {
        (APPLICATION_ID, FORMAT) => {}
        (APPLICATION_ID, other) => {
            return Err(Error::Unavailable(
                format!("the store has format {other}, and this version reads format {FORMAT}")
                    .into(),
            ));
        }
        (0, 0) => create(&connection)?,
        _ => {
            return Err(Error::Unavailable(
                "the file is an SQLite database of another program".into(),
            ));
        }
    }
    // The log is emptied by the checkpoint thread, not in the middle of a commit.
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
        .map_err(unavailable)?;
    Ok(connection)
}

/// Bounds the file's size, for this connection's writes.
pub(crate) fn bound(connection: &Connection, bytes: u64) -> Result<()> {
    let page: u32 = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(unavailable)?;
    let pages = (bytes / u64::from(page.max(1))).clamp(16, u64::from(u32::MAX - 1));
    connection
        .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        .map_err(unavailable)
}

/// Tells `hear` after each commit how many pages the log holds.
pub(crate) fn on_commit(
    connection: &mut Connection,
    hear: impl Fn(u32) + Send + 'static,
) -> Result<()> {
    let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
        hear(pages.unsigned_abs());
        Ok(())
    };
    connection.wal_hook(Some(hook)).map_err(unavailable)
}

/// Opens a connection for reading, or for checkpoints.
pub(crate) fn open_other(path: &Path, read_only: bool) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(unavailable)?;
    configure(&connection)?;
    if read_only {
        connection
            .execute_batch("PRAGMA query_only = ON")
            .map_err(unavailable)?;
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(PATIENCE).map_err(unavailable)?;
    // 16 MiB of page cache for each connection, beside the system's own.
    connection
        .execute_batch(
            "PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 2147418112;",
        )
        .map_err(unavailable)
}

fn create(connection: &Connection) -> Result<()> {
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(unavailable)?;
    if tables > 0 {
        return Err(Error::Unavailable(
            "the file is an SQLite database of another program".into(),
        ));
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             BEGIN IMMEDIATE;
             CREATE TABLE collections(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE) STRICT;
             CREATE TABLE indexes(id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL,
               name TEXT NOT NULL, spec BLOB NOT NULL, multikey INTEGER NOT NULL, positional INTEGER NOT NULL,
               UNIQUE(collection, name)) STRICT;
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {FORMAT};
             COMMIT;"
        ))
        .map_err(unavailable)
}
