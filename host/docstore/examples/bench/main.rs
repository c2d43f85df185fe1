//! Measures the store beside a bare append-and-fsync log and bare SQLite, on the
//! same disk, in one run, in turns.
//!
//! `cargo run --release -p coglex-docstore --example bench -- [folder [part]]`, where the part is
//! `inserts`, `gets`, `reads` or `reopen`, and all of them unless it is given.
//!
//! Ratios taken in one run mean the same on any machine; the absolute figures do
//! not. `cargo xtask bench` puts what is printed into its report.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program for the terminal, which may give up"
)]

mod yardstick;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_docstore::model::{Find, IndexSpec};
use coglex_docstore::{Options, Store};
use rusqlite::params;
use yardstick::Yardstick;

const DOCUMENTS: i64 = 100_000;
const ROUNDS: usize = 3;
const RUN: Duration = Duration::from_secs(3);
/// Set in the process that is killed.
const VICTIM: &str = "DOCSTORE_BENCH_VICTIM";

fn document(id: i64) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&doc! {
        "_id": id, "name": format!("user {id}"), "email": format!("user{id}@example.com"), "age": id % 90,
        "score": (id % 1_000) as f64 / 10.0, "active": id % 2 == 0, "group": id % 1_000,
        "address": { "street": "1 Long Street", "city": "Springfield", "zip": "12345" },
        "tags": ["alpha", "beta", "gamma"], "bio": "x".repeat(60),
    })
    .unwrap()
}

/// What one run showed.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    slow: Duration,
    cpu_micros: f64,
}

/// Runs `work` from `clients` tasks for a while.
async fn load<F, W>(clients: i64, work: W) -> Sample
where
    F: Future<Output = ()> + Send,
    W: Fn(i64) -> F + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let (start, used) = (Instant::now(), cpu());
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
    Sample {
        rate,
        slow: times[times.len() * 99 / 100],
        cpu_micros: (cpu() - used).as_secs_f64() * 1e6 / times.len() as f64,
    }
}

/// CPU time of this process, threads that have ended included.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name and the state letter, of which only the letter is
    // not a number; some are negative.
    let fields: Vec<i64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // User and system time, in hundredths of a second.
    let ticks = fields.get(10).unwrap_or(&0) + fields.get(11).unwrap_or(&0);
    Duration::from_millis(10 * ticks.unsigned_abs())
}

fn median(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = samples.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Sample {
        rate: of(|sample| sample.rate),
        slow: Duration::from_secs_f64(of(|sample| sample.slow.as_secs_f64())),
        cpu_micros: of(|sample| sample.cpu_micros),
    }
}

/// A row of the table; without a yardstick, only what a single operation costs.
fn row(case: &str, what: &str, sample: Sample, yardstick: Option<f64>) {
    let shown = |number: Option<f64>| number.map_or("".into(), |number| format!("{number:.2}"));
    println!(
        "| {case} | {what} | {:.0} | {} | {} | {:.1} |",
        sample.rate,
        shown(yardstick.map(|yardstick| sample.rate / yardstick)),
        shown((!sample.slow.is_zero()).then_some(sample.slow.as_secs_f64() * 1e3)),
        sample.cpu_micros,
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        return write_for_ever(Path::new(&folder)).await;
    }
    let folder = match std::env::args().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let part = std::env::args().nth(2);
    let asked = |name: &str| part.as_deref().is_none_or(|part| part == name);
    println!("| In-process | | operations/s | ÷ log | p99 ms | CPU µs |");
    println!("|---|---|---:|---:|---:|---:|");
    for clients in [1, 32] {
        if asked("inserts") {
            inserts(folder.path(), clients).await;
        }
    }
    let path = folder.path().join("read.db");
    let store = Store::open(&path, Options::default()).unwrap();
    let bare = folder.path().join("read-bare.db");
    batches(&store, &bare).await;
    if asked("gets") {
        gets(&store, &bare).await;
    }
    println!("\n| Reading {DOCUMENTS} documents | best | ns a document | CPU ns a document |");
    println!("|---|---:|---:|---:|");
    if asked("reads") {
        reads(&store).await;
    }
    store.close().await;
    if asked("reopen") {
        reopen(folder.path(), &path);
    }
}

/// Durable inserts: log, SQLite, store, and again.
async fn inserts(folder: &Path, clients: i64) {
    let mut samples = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        let file = |name: &str| folder.join(format!("{name}-{clients}-{round}"));
        for (at, yardstick) in [
            Yardstick::log(&file("log")),
            Yardstick::sqlite(&file("sqlite")),
        ]
        .into_iter()
        .enumerate()
        {
            let sample = load(clients, move |n| {
                let yardstick = yardstick.clone();
                async move { yardstick.write(document(n).into_bytes()).await }
            });
            samples[at].push(sample.await);
        }
        let store = Store::open(&file("store"), Options::default()).unwrap();
        let writing = store.clone();
        let sample = load(clients, move |n| {
            let store = writing.clone();
            async move { store.insert("users", vec![document(n)]).await.unwrap() }
        });
        samples[2].push(sample.await);
        store.close().await;
    }
    let case = format!("durable insert, {clients} clients");
    let log = median(&samples[0]).rate;
    for (what, samples) in ["log", "SQLite", "store"].iter().zip(&samples) {
        row(&case, what, median(samples), Some(log));
    }
}

/// Batches of a thousand, each one durable; leaves the documents to be read.
async fn batches(store: &Store, bare: &Path) {
    let timed = |documents: i64, start: Instant, used: Duration| Sample {
        rate: documents as f64 / start.elapsed().as_secs_f64(),
        slow: Duration::ZERO,
        cpu_micros: (cpu() - used).as_secs_f64() * 1e6 / documents as f64,
    };
    let connection = yardstick::table(bare);
    let (start, used) = (Instant::now(), cpu());
    let mut insert = connection.prepare(yardstick::INSERT).unwrap();
    for chunk in 0..DOCUMENTS / 1_000 {
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        for id in chunk * 1_000..(chunk + 1) * 1_000 {
            let document = document(id);
            insert
                .execute(params![id, id.to_be_bytes(), document.as_bytes()])
                .unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
    }
    let sqlite = timed(DOCUMENTS, start, used);
    let (start, used) = (Instant::now(), cpu());
    for chunk in 0..DOCUMENTS / 1_000 {
        let documents = (chunk * 1_000..(chunk + 1) * 1_000).map(document).collect();
        store.insert("users", documents).await.unwrap();
    }
    let ours = timed(DOCUMENTS, start, used);
    row("batch insert, per document", "SQLite", sqlite, None);
    row("batch insert, per document", "store", ours, None);
    for keys in [doc! { "group": 1 }, doc! { "age": 1, "score": -1 }] {
        let spec = IndexSpec {
            name: None,
            keys: keys.clone(),
            unique: false,
            sparse: false,
            expire_after: None,
        };
        let (start, used) = (Instant::now(), cpu());
        store.create_index("users", spec).await.unwrap();
        let made = timed(DOCUMENTS, start, used);
        row(&format!("making the index {keys}"), "store", made, None);
    }
}

async fn gets(store: &Store, bare: &Path) {
    let connection = yardstick::table(bare);
    let mut select = connection
        .prepare("SELECT doc FROM t WHERE idk = ?1")
        .unwrap();
    let (start, used) = (Instant::now(), cpu());
    let mut count = 0;
    while start.elapsed() < RUN {
        let id = count * 7_919 % DOCUMENTS;
        let found: Vec<u8> = select
            .query_row([id.to_be_bytes()], |row| row.get(0))
            .unwrap();
        assert!(!found.is_empty());
        count += 1;
    }
    let sqlite = Sample {
        rate: count as f64 / start.elapsed().as_secs_f64(),
        slow: Duration::ZERO,
        cpu_micros: (cpu() - used).as_secs_f64() * 1e6 / count as f64,
    };
    row("get by id, on its own thread", "SQLite", sqlite, None);
    for clients in [1, 32] {
        let reading = store.clone();
        let sample = load(clients, move |n| {
            let store = reading.clone();
            async move {
                let id = Bson::Int64(n * 7_919 % DOCUMENTS);
                assert!(store.get("users", id).await.unwrap().is_some());
            }
        });
        let case = format!("get by id, {clients} clients");
        row(&case, "store", sample.await, None);
    }
}

async fn reads(store: &Store) {
    let timed = async |what: &str, find: Find, documents: i64, count: bool| {
        let (mut best, mut runs) = (Duration::MAX, 0);
        let (begun, used) = (Instant::now(), cpu());
        while begun.elapsed() < RUN / 3 {
            let start = Instant::now();
            if count {
                store
                    .count("users", find.filter.clone(), None)
                    .await
                    .unwrap();
            } else {
                let found = store.find("users", find.clone()).await.unwrap();
                found.all().await.unwrap();
            }
            best = best.min(start.elapsed());
            runs += 1;
        }
        let each = best.as_nanos() as f64 / documents as f64;
        let cpu = (cpu() - used).as_nanos() as f64 / (runs * documents) as f64;
        println!("| {what} | {best:.1?} | {each:.0} | {cpu:.0} |");
    };
    let by = |filter: Document| Find {
        filter,
        ..Find::default()
    };
    for (what, filter) in [
        (
            "scan, two predicates",
            doc! { "score": { "$gt": 50.0 }, "active": true },
        ),
        ("scan, nested predicate", doc! { "address.city": "Nowhere" }),
        ("scan, pattern", doc! { "bio": { "$regex": "yy" } }),
    ] {
        timed(what, by(filter), DOCUMENTS, true).await;
    }
    for (what, filter, part) in [
        ("index, one key", doc! { "group": 77 }, 1_000),
        (
            "index, range",
            doc! { "group": { "$gte": 100, "$lt": 200 } },
            10,
        ),
        ("everything", doc! {}, 1),
    ] {
        timed(what, by(filter), DOCUMENTS / part, false).await;
    }
    for (what, sort, documents) in [
        ("20 by index order", doc! { "_id": -1 }, 20),
        ("20 by sorting all", doc! { "score": -1 }, DOCUMENTS),
    ] {
        let page = Find {
            sort: Some(sort),
            limit: Some(20),
            ..Find::default()
        };
        timed(what, page, documents, false).await;
    }
}

/// Inserts until killed.
async fn write_for_ever(folder: &Path) {
    let store = Store::open(&folder.join("read.db"), Options::default()).unwrap();
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let id = DOCUMENTS + writer + 32 * n;
                    // Those of an earlier life are there.
                    let _ = store.insert("users", vec![document(id)]).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Kills a process that writes, and opens what it leaves.
fn reopen(folder: &Path, path: &Path) {
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .env(VICTIM, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(1_500));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let start = Instant::now();
        let store = Store::open(path, Options::default()).unwrap();
        slowest = slowest.max(start.elapsed());
        drop(store);
        // The store's threads let go of the file a moment later.
        while Store::open(path, Options::default()).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    println!("| opening after a kill under 32 writers, the slowest of five | {slowest:.1?} | | |");
}
