//! Measures the store beside a bare append-and-fsync log on the same disk.
//!
//! `cargo run --release -p coglex-docstore --example bench -- [folder]`
//!
//! The log is what durability costs at the least: one file, one writer thread
//! that appends whatever waits and flushes once. Ratios to it, taken in one run,
//! mean the same on any machine; the absolute figures do not.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for the terminal, which may give up"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, doc};
use coglex_docstore::model::{Find, IndexSpec};
use coglex_docstore::{Options, Store};
use tokio::sync::{mpsc, oneshot};

const DOCUMENTS: i64 = 100_000;
const RUN: Duration = Duration::from_secs(4);

fn document(id: i64) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&doc! {
        "_id": id, "name": format!("user {id}"), "email": format!("user{id}@example.com"), "age": id % 90,
        "score": (id % 1_000) as f64 / 10.0, "active": id % 2 == 0, "group": id % 1_000,
        "address": { "street": "1 Long Street", "city": "Springfield", "zip": "12345" },
        "tags": ["alpha", "beta", "gamma"], "bio": "x".repeat(60),
    })
    .unwrap()
}

/// The bare log with group commit.
struct Log(mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>);

impl Log {
    fn open(path: &Path) -> Self {
        let mut file = File::create(path).unwrap();
        let (sender, mut receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>(1_024);
        std::thread::spawn(move || {
            let mut crowded = false;
            while let Some((bytes, reply)) = receiver.blocking_recv() {
                let mut replies = vec![reply];
                let mut batch = bytes;
                // After a flush all clients wake at once; a log that did not let
                // them speak first would flush for each.
                if crowded {
                    std::thread::sleep(Duration::from_micros(50));
                }
                while let Ok((bytes, reply)) = receiver.try_recv() {
                    batch.extend_from_slice(&bytes);
                    replies.push(reply);
                }
                file.write_all(&batch).unwrap();
                file.sync_data().unwrap();
                crowded = replies.len() > 1;
                for reply in replies {
                    let _ = reply.send(());
                }
            }
        });
        Log(sender)
    }

    async fn append(&self, bytes: Vec<u8>) {
        let (reply, done) = oneshot::channel();
        self.0.send((bytes, reply)).await.unwrap();
        done.await.unwrap();
    }
}

/// Runs `work` from `clients` tasks for a while; answers runs per second and the
/// 99th percentile of one.
async fn load<F, W>(clients: i64, work: W) -> (f64, Duration)
where
    F: Future<Output = ()> + Send,
    W: Fn(i64) -> F + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut n = client;
                while start.elapsed() < RUN {
                    let begun = Instant::now();
                    work(n).await;
                    times.push(begun.elapsed());
                    n += clients;
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let slow = times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or_default();
    (rate, slow)
}

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // User and system time, in hundredths of a second; the state letter is not
    // a number and so not counted.
    Duration::from_millis(10 * (fields.get(10).unwrap_or(&0) + fields.get(11).unwrap_or(&0)))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = match std::env::args().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    for clients in [1, 32] {
        let log = Arc::new(Log::open(&folder.path().join("log")));
        let (bare, bare_slow) = load(clients, move |n| {
            let log = Arc::clone(&log);
            async move { log.append(document(n).into_bytes()).await }
        })
        .await;
        let store = Store::open(
            &folder.path().join(format!("insert{clients}.db")),
            Options::default(),
        )
        .unwrap();
        let used = cpu();
        let writing = store.clone();
        let (rate, slow) = load(clients, move |n| {
            let store = writing.clone();
            async move { store.insert("users", vec![document(n)]).await.unwrap() }
        })
        .await;
        let used = (cpu() - used).as_secs_f64() * 1e6 / (rate * RUN.as_secs_f64());
        println!(
            "durable insert, {clients:2} clients: {rate:8.0}/s p99 {slow:?}, {used:.0} µs CPU; log {bare:8.0}/s p99 {bare_slow:?}; ratio {:.2}",
            rate / bare
        );
        store.close().await;
    }

    let path = folder.path().join("read.db");
    let store = Store::open(&path, Options::default()).unwrap();
    let start = Instant::now();
    for chunk in 0..DOCUMENTS / 1_000 {
        let documents = (chunk * 1_000..(chunk + 1) * 1_000).map(document).collect();
        store.insert("users", documents).await.unwrap();
    }
    println!(
        "batch insert: {:.0} documents/s",
        DOCUMENTS as f64 / start.elapsed().as_secs_f64()
    );
    for keys in [doc! { "group": 1 }, doc! { "age": 1, "score": -1 }] {
        let spec = IndexSpec {
            name: None,
            keys,
            unique: false,
            sparse: false,
            expire_after: None,
        };
        let start = Instant::now();
        store.create_index("users", spec).await.unwrap();
        println!("index of {DOCUMENTS} documents: {:?}", start.elapsed());
    }

    for clients in [1, 32] {
        let (reading, used) = (store.clone(), cpu());
        let (rate, slow) = load(clients, move |n| {
            let store = reading.clone();
            async move {
                let found = store
                    .get("users", (n * 7_919 % DOCUMENTS).into())
                    .await
                    .unwrap();
                assert!(found.is_some());
            }
        })
        .await;
        let used = (cpu() - used).as_secs_f64() * 1e6 / (rate * RUN.as_secs_f64());
        println!("get by id, {clients:2} clients: {rate:8.0}/s p99 {slow:?}, {used:.1} µs CPU");
    }

    let timed = async |what: &str, filter: Document, find: Find, documents: f64, count: bool| {
        let mut best = Duration::MAX;
        for _ in 0..7 {
            let start = Instant::now();
            if count {
                store.count("users", filter.clone()).await.unwrap();
            } else {
                store
                    .find("users", find.clone())
                    .await
                    .unwrap()
                    .all()
                    .await
                    .unwrap();
            }
            best = best.min(start.elapsed());
        }
        println!(
            "{what}: {best:?}, {:.0} ns a document",
            best.as_nanos() as f64 / documents
        );
    };
    let all = DOCUMENTS as f64;
    let scan = |filter: Document| (filter, Find::default(), DOCUMENTS as f64, true);
    let (filter, find, n, count) = scan(doc! { "score": { "$gt": 50.0 }, "active": true });
    timed("scan, two predicates", filter, find, n, count).await;
    let (filter, find, n, count) = scan(doc! { "address.city": "Nowhere" });
    timed("scan, nested predicate", filter, find, n, count).await;
    let (filter, find, n, count) = scan(doc! { "bio": { "$regex": "yy" } });
    timed("scan, pattern", filter, find, n, count).await;
    let find = |filter: Document| Find {
        filter,
        ..Find::default()
    };
    timed(
        "index, one key",
        doc! {},
        find(doc! { "group": 77 }),
        all / 1_000.0,
        false,
    )
    .await;
    timed(
        "index, range",
        doc! {},
        find(doc! { "group": { "$gte": 100, "$lt": 200 } }),
        all / 10.0,
        false,
    )
    .await;
    timed("everything", doc! {}, find(doc! {}), all, false).await;
    let page = |sort: Document| Find {
        sort: Some(sort),
        limit: Some(20),
        ..Find::default()
    };
    timed(
        "20 by index order",
        doc! {},
        page(doc! { "_id": -1 }),
        20.0,
        false,
    )
    .await;
    timed(
        "20 by sorting all",
        doc! {},
        page(doc! { "score": -1 }),
        all,
        false,
    )
    .await;

    store.close().await;
    let start = Instant::now();
    Store::open(&path, Options::default()).unwrap();
    println!("open: {:?}", start.elapsed());
}
