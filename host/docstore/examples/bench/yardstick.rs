//! What durability costs at the least: one thread that takes whatever waits,
//! makes it durable at once, and only then answers.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

pub(crate) const INSERT: &str = "INSERT INTO t(rid, idk, doc) VALUES (?1, ?2, ?3)";

/// A way to a thread that writes.
#[derive(Clone)]
pub(crate) struct Yardstick(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl Yardstick {
    /// A file that is only appended to.
    pub(crate) fn log(path: &Path) -> Self {
        let mut file = File::create(path).unwrap();
        Self::start(move || {
            move |batch: &[Vec<u8>]| {
                file.write_all(&batch.concat()).unwrap();
                file.sync_data().unwrap();
            }
        })
    }

    /// A table of SQLite, with the store's settings.
    pub(crate) fn sqlite(path: &Path) -> Self {
        let path = path.to_owned();
        Self::start(move || {
            // Statements borrow it for as long as the thread lives.
            let connection: &'static Connection = Box::leak(Box::new(table(&path)));
            let mut insert = connection.prepare(INSERT).unwrap();
            let mut last = 0_i64;
            move |batch: &[Vec<u8>]| {
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                for document in batch {
                    last += 1;
                    insert
                        .execute(params![last, last.to_be_bytes(), document])
                        .unwrap();
                }
                connection.execute_batch("COMMIT").unwrap();
            }
        })
    }

    /// `make` runs on the thread and makes what writes a batch.
    fn start<W: FnMut(&[Vec<u8>])>(make: impl FnOnce() -> W + Send + 'static) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(1_024);
        std::thread::spawn(move || {
            let mut write = make();
            let mut crowded = false;
            while let Some((bytes, reply)) = receiver.blocking_recv() {
                let (mut replies, mut batch) = (vec![reply], vec![bytes]);
                // After a flush all clients wake at once; a log that did not let
                // them speak first would flush for each.
                if crowded {
                    std::thread::sleep(Duration::from_micros(50));
                }
                while let Ok((bytes, reply)) = receiver.try_recv() {
                    batch.push(bytes);
                    replies.push(reply);
                }
                write(&batch);
                crowded = replies.len() > 1;
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        });
        Yardstick(sender)
    }

    pub(crate) async fn write(&self, bytes: Vec<u8>) {
        let (reply, done) = oneshot::channel();
        self.0.send((bytes, reply)).await.unwrap();
        done.await.unwrap();
    }
}

/// A collection's table, as the store lays it out.
pub(crate) fn table(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;
             CREATE TABLE IF NOT EXISTS t(rid INTEGER PRIMARY KEY, idk BLOB NOT NULL UNIQUE, doc BLOB NOT NULL) STRICT;",
        )
        .unwrap();
    connection
}
