//! Killing a process that writes: nothing that it acknowledged may be lost, and
//! nothing may be torn.
//!
//! The test runs its own program again as the process to be killed. In that one,
//! 32 writers insert, update and delete, each its own documents and one that all
//! share, and tell each acknowledged step over a pipe. What a writer does next is
//! known beforehand, so that what must be in the store is known to the byte: the
//! acknowledged steps, and the one under way whole or not at all.
//!
//! A killed process leaves the operating system alive, so this is about the
//! order of writes and recovery, not about what a disk loses with its power. Six
//! rounds by default; `COGLEX_CRASH_ROUNDS=200` for more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod plan;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use coglex_docstore::model::{Find, IndexSpec};
use coglex_docstore::{Options, Store};

use plan::{COLLECTION, COUNTERS, Model};

const FOLDER: &str = "DOCSTORE_CRASH_FOLDER";
const ROUND: &str = "DOCSTORE_CRASH_ROUND";
const WRITERS: u32 = 32;
/// Rounds whose documents stay, so that the file does not grow without end and
/// pages are used again.
const KEPT_ROUNDS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

fn open(folder: &Path) -> Store {
    Store::open(
        &folder.join("data.db"),
        Options {
            readers: 2,
            ..Options::default()
        },
    )
    .unwrap()
}

fn index(keys: Document, unique: bool) -> IndexSpec {
    IndexSpec {
        name: None,
        keys,
        unique,
        sparse: false,
        expire_after: None,
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The process that is killed. Without its variables, it is no test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let round: u32 = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = open(Path::new(&folder));
    for spec in [
        index(doc! { "tags": 1 }, false),
        index(doc! { "serial": 1 }, true),
        index(doc! { "batch": 1 }, false),
        index(doc! { "writer": 1, "n": -1 }, false),
    ] {
        store.create_index(COLLECTION, spec).await.unwrap();
    }
    // The harness has begun a line on the same pipe.
    say("\n");
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                plan::run(&store, writer, &plan::step(round, writer, n)).await;
                say(&format!("done {writer} {n}\n"));
            }
        }));
    }
    // An index that comes and goes, so that a kill also meets that.
    tasks.push(tokio::spawn(async move {
        loop {
            store
                .create_index(COLLECTION, index(doc! { "version": 1 }, false))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            store.drop_index(COLLECTION, "version_1").await.unwrap();
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
}

/// What is known of the store.
#[derive(Default)]
struct Known {
    /// The documents of each round and writer.
    documents: BTreeMap<(u32, u32), Model>,
    /// How far each writer has counted.
    counted: Vec<i64>,
    acknowledged: u64,
    /// Steps that were under way and turned out to have happened.
    unannounced: u64,
    slowest_open: Duration,
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds: u32 = std::env::var("COGLEX_CRASH_ROUNDS").map_or(6, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut known = Known {
        counted: vec![0; WRITERS as usize],
        ..Known::default()
    };
    for round in 0..rounds {
        let (mut victim, lines) = start(folder.path(), round);
        let mut told: BTreeMap<u32, u32> = BTreeMap::new();
        // Another moment each time, and in some rounds one while the store is
        // being opened or its indexes are made.
        if round % 8 == 7 {
            std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 60)));
        } else {
            let first = lines.recv_timeout(PATIENCE).expect("the victim writes");
            note(&first, &mut told);
            std::thread::sleep(Duration::from_millis(u64::from(round * 37 % 400)));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        for line in lines {
            note(&line, &mut told);
        }
        known.acknowledged += told.values().map(|n| u64::from(*n) + 1).sum::<u64>();

        let begun = Instant::now();
        let store = open(folder.path());
        known.slowest_open = known.slowest_open.max(begun.elapsed());
        verify(&store, round, &told, &mut known).await;
        if let Some(old) = round.checked_sub(KEPT_ROUNDS) {
            store
                .delete(COLLECTION, doc! { "round": old }, true)
                .await
                .unwrap();
            known.documents.retain(|(round, _), _| *round > old);
        }
        store.close().await;
    }
    println!(
        "{rounds} kills, {} acknowledged writes, none lost; {} more had happened; \
         opening took {:?} at most",
        known.acknowledged, known.unannounced, known.slowest_open
    );
    assert!(
        known.acknowledged > 20 * u64::from(rounds),
        "only {} acknowledgements in {rounds} rounds",
        known.acknowledged
    );
}

/// Starts a process that writes until it is killed; what it says comes line by
/// line.
fn start(folder: &Path, round: u32) -> (Child, Receiver<String>) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if line.starts_with("done ") && sender.send(line).is_err() {
                break;
            }
        }
    });
    (victim, lines)
}

fn note(line: &str, told: &mut BTreeMap<u32, u32>) {
    let mut numbers = line
        .split(' ')
        .skip(1)
        .map(|number| number.parse().unwrap());
    let (writer, n) = (numbers.next().unwrap(), numbers.next().unwrap());
    let before = told.insert(writer, n);
    assert_eq!(before.map_or(0, |before| before + 1), n, "writer {writer}");
}

/// Compares everything in the store with what is known, and learns which of the
/// steps that were under way have happened.
async fn verify(store: &Store, round: u32, told: &BTreeMap<u32, u32>, known: &mut Known) {
    let report = store.check().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new(), "round {round}");
    let mut found = read(store, Find::default()).await;
    let counters = found.remove(COUNTERS).unwrap_or_default();
    for writer in 0..WRITERS {
        let told = told.get(&writer).map_or(0, |n| n + 1);
        let mut model = Model::new();
        let mut counted = known.counted[writer as usize];
        for n in 0..told {
            counted += plan::apply(&mut model, &plan::step(round, writer, n));
        }
        let mut ahead = model.clone();
        let counted_ahead = counted + plan::apply(&mut ahead, &plan::step(round, writer, told));
        let prefix = format!("{round}-{writer}-");
        let actual: Model = found
            .iter()
            .filter(|(id, _)| id.starts_with(&prefix))
            .map(|(id, document)| (id.clone(), document.clone()))
            .collect();
        let counter = counters.get_i64(format!("w{writer}")).unwrap_or_default();
        if (&actual, counter) == (&ahead, counted_ahead) && (&model, counted) != (&ahead, counter) {
            known.unannounced += 1;
        } else {
            assert_eq!(counter, counted, "round {round}: counter of {writer}");
            assert!(
                actual == model,
                "round {round}: writer {writer} was told of {told} steps; lost: {:?}; \
                 not expected: {:?}; different: {:?}",
                model
                    .keys()
                    .filter(|id| !actual.contains_key(*id))
                    .collect::<Vec<_>>(),
                actual
                    .keys()
                    .filter(|id| !model.contains_key(*id))
                    .collect::<Vec<_>>(),
                actual
                    .iter()
                    .filter(|(id, document)| model.get(*id).is_some_and(|known| known != *document))
                    .collect::<Vec<_>>(),
            );
        }
        known.counted[writer as usize] = counter;
        known.documents.insert((round, writer), actual);
    }
    let expected: Model = known
        .documents
        .values()
        .flatten()
        .map(|(id, document)| (id.clone(), document.clone()))
        .collect();
    assert_eq!(found.len(), expected.len(), "round {round}");
    assert!(
        found == expected,
        "round {round}: an older document changed"
    );

    // The same by way of each index.
    for filter in [
        doc! { "tags": "x" },
        doc! { "serial": { "$gt": "" } },
        doc! { "batch": { "$gt": "" } },
        doc! { "writer": { "$gte": 0 } },
    ] {
        if report.collections == 0 {
            break;
        }
        let find = Find {
            filter,
            ..Find::default()
        };
        let plan = store.explain(COLLECTION, find.clone()).await.unwrap();
        let by_index = read(store, find.clone()).await;
        assert!(
            by_index == expected,
            "round {round}: {:?} by {plan}",
            find.filter
        );
    }
}

async fn read(store: &Store, find: Find) -> Model {
    let found = store.find(COLLECTION, find).await.unwrap();
    let documents = found.all().await.unwrap();
    documents
        .iter()
        .map(|raw| {
            let document = Document::try_from(raw).unwrap();
            (document.get_str("_id").unwrap().to_owned(), document)
        })
        .collect()
}
