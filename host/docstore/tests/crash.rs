//! Killing a process that writes: nothing that it acknowledged may be lost, and
//! nothing may be torn.
//!
//! The test runs its own program again as the process to be killed. That one
//! inserts from many tasks and tells each acknowledged id over a pipe.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use coglex_docstore::model::{Find, IndexSpec};
use coglex_docstore::{Options, Store};

const FOLDER: &str = "DOCSTORE_CRASH_FOLDER";
const ROUND: &str = "DOCSTORE_CRASH_ROUND";
const ROUNDS: u32 = 6;
const WRITERS: u32 = 32;

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

/// The process that is killed. Without its variables, it is no test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let round = std::env::var(ROUND).unwrap();
    let store = open(Path::new(&folder));
    let index = |field: &str, unique| IndexSpec {
        name: None,
        keys: doc! { field: 1 },
        unique,
        sparse: false,
        expire_after: None,
    };
    store
        .create_index("things", index("tags", false))
        .await
        .unwrap();
    store
        .create_index("things", index("serial", true))
        .await
        .unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, round) = (store.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0_u64.. {
                    // A pair, so that half an insert would show.
                    let ids = [format!("{round}-{writer}-{n}-a"), format!("{round}-{writer}-{n}-b")];
                    let documents = ids.iter().map(|id| {
                        let size = usize::try_from(n % 700).unwrap();
                        let document = doc! { "_id": id, "serial": id, "tags": ["x", writer.to_string()], "fill": "f".repeat(size) };
                        RawDocumentBuf::try_from(&document).unwrap()
                    });
                    store.insert("things", documents.collect()).await.unwrap();
                    if n % 5 == 4 {
                        store.delete("things", doc! { "_id": &ids[0] }, false).await.unwrap();
                    }
                    let line = format!("{} {}\n", if n % 5 == 4 { "gone" } else { "kept" }, ids[0]);
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut told: Vec<(bool, String)> = Vec::new();
    for round in 0..ROUNDS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        let lines =
            std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
        // Another moment each time, from the first transactions on.
        std::thread::sleep(Duration::from_millis(60 + u64::from(round) * 110));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for line in lines.join().unwrap() {
            match line.split_once(' ') {
                Some(("kept", id)) => told.push((true, id.to_owned())),
                Some(("gone", id)) => told.push((false, id.to_owned())),
                // The test harness talks on the same pipe.
                _ => {}
            }
        }

        let store = open(folder.path());
        for (kept, id) in &told {
            let found = store.get("things", id.clone().into()).await.unwrap();
            assert_eq!(found.is_some(), *kept, "round {round}: {id}");
            let other = id.replace("-a", "-b");
            assert!(
                store.get("things", other.into()).await.unwrap().is_some(),
                "round {round}: the pair of {id}"
            );
        }
        let report = store.check().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "round {round}");
        if report.collections > 0 {
            let by_index = Find {
                filter: doc! { "tags": "x" },
                ..Find::default()
            };
            let found = store
                .find("things", by_index)
                .await
                .unwrap()
                .all()
                .await
                .unwrap()
                .len();
            assert_eq!(u64::try_from(found).unwrap(), report.documents);
        }
        store.close().await;
    }
    assert!(
        told.len() > 100,
        "only {} acknowledgements in {ROUNDS} rounds",
        told.len()
    );
}
