//! The file: reopening, locking, expiry, backup, checks, and a full disk.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::doc;
use coglex_docstore::model::{Find, IndexSpec, Update};
use coglex_docstore::{Error, Options, Store};
use support::{ids, index, insert, ints, open, operators, raw};

#[tokio::test]
async fn documents_live_through_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.ping().await.unwrap();
    assert_eq!(store.get("things", 1.into()).await.unwrap(), None);
    insert(
        &store,
        [
            doc! { "_id": 1, "a": "one" },
            doc! { "_id": "two", "a": [1, { "b": 2 }] },
        ],
    )
    .await;
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store.close().await;
    assert!(matches!(
        store.get("things", 1.into()).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(
        store.insert("things", vec![raw(doc! { "_id": 9 })]).await,
        Err(Error::Unavailable(_))
    ));

    let store = open(folder.path());
    assert_eq!(store.collections().await.unwrap(), ["things"]);
    let found = store.get("things", 1.0.into()).await.unwrap().unwrap();
    assert_eq!(found, raw(doc! { "_id": 1, "a": "one" }));
    assert_eq!(ids(&store, doc! { "a.b": 2 }).await, ["two".into()]);
    assert_eq!(ids(&store, doc! { "a": "one" }).await, ints([1]));
}

#[tokio::test]
async fn a_second_user_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let path = folder.path().join("data.db");
    let second = tokio::task::spawn_blocking(move || Store::open(&path, Options::default()))
        .await
        .unwrap();
    let error = second.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("another process uses the store"), "{cause}");
    drop(store);
    open(folder.path()).ping().await.unwrap();
}

#[tokio::test]
async fn a_foreign_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE mine(a)")
        .unwrap();
    let error = Store::open(&path, Options::default()).unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("another program")
    );
}

#[tokio::test]
async fn documents_expire() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        expire_every: Duration::from_millis(20),
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    let spec = IndexSpec {
        expire_after: Some(Duration::from_secs(60)),
        ..index(doc! { "at": 1 })
    };
    store.create_index("things", spec).await.unwrap();
    let ago = |seconds: i64| {
        bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - seconds * 1_000)
    };
    let old = (0..1_200).map(|n| doc! { "_id": n, "at": ago(61) });
    insert(
        &store,
        old.chain([
            doc! { "_id": "young", "at": ago(30) },
            doc! { "_id": "none" },
            doc! { "_id": "text", "at": "1970" },
            doc! { "_id": "array", "at": [ago(10), ago(100)] },
        ]),
    )
    .await;
    for _ in 0..250 {
        if store.count("things", doc! {}, None).await.unwrap() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        ids(&store, doc! {}).await,
        ["young".into(), "none".into(), "text".into()]
    );
    store.close().await;
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..500).map(|n| doc! { "_id": n, "a": n % 3 })).await;
    let target = folder.path().join("copy.db");
    store.backup(&target).await.unwrap();
    assert!(matches!(
        store.backup(&target).await,
        Err(Error::Invalid(_))
    ));
    store.delete("things", doc! {}, true).await.unwrap();
    let copy = Store::open(&target, Options::default()).unwrap();
    assert_eq!(
        copy.count("things", doc! { "a": 1 }, None).await.unwrap(),
        167
    );
    assert_eq!(copy.check().await.unwrap().problems, Vec::<String>::new());
    assert!(!folder.path().join("copy.db.partial").exists());
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_and_a_rebuild_mends_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..50).map(|n| doc! { "_id": n, "a": [n, n + 1] })).await;
    let report = store.check().await.unwrap();
    assert_eq!(
        (report.collections, report.documents, report.problems.len()),
        (1, 50, 0)
    );
    store.close().await;
    {
        let file = rusqlite::Connection::open(folder.path().join("data.db")).unwrap();
        file.execute("DELETE FROM i1 WHERE rid = 7", []).unwrap();
        file.execute("UPDATE i1 SET rid = 9999 WHERE rid = 8", [])
            .unwrap();
    }
    let store = open(folder.path());
    let problems = store.check().await.unwrap().problems;
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem == "things: index a_1 lacks a key of row 7"),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("98 entries; its documents have 100")),
        "{problems:?}"
    );
    store.rebuild().await.unwrap();
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
    store.close().await;
    {
        let file = rusqlite::Connection::open(folder.path().join("data.db")).unwrap();
        file.execute("UPDATE c1 SET doc = substr(doc, 1, 10) WHERE rid = 3", [])
            .unwrap();
    }
    let store = open(folder.path());
    let problems = store.check().await.unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("row 3")),
        "{problems:?}"
    );
    let damaged = store
        .find(
            "things",
            Find {
                filter: doc! { "x": 1 },
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert!(matches!(damaged.all().await, Err(Error::Unavailable(_))));
    assert!(
        store.get("things", 4.into()).await.unwrap().is_some(),
        "the rest is readable"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_file_bytes: Some(1 << 20),
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    let big = |n: i32| raw(doc! { "_id": n, "s": "x".repeat(50_000) });
    let mut stored = 0;
    let refusal = loop {
        match store.insert("things", vec![big(stored)]).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, Error::Unavailable(_)), "{refusal}");
    assert!((10..21).contains(&stored), "{stored}");
    // Many at once: some fit, some do not, and what was refused is not there.
    let tasks: Vec<_> = (100..140)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                (
                    n,
                    store
                        .insert(
                            "things",
                            vec![raw(doc! { "_id": n, "s": "y".repeat(2_000) })],
                        )
                        .await
                        .is_ok(),
                )
            })
        })
        .collect();
    for task in tasks {
        let (n, accepted) = task.await.unwrap();
        assert_eq!(
            store.get("things", n.into()).await.unwrap().is_some(),
            accepted,
            "{n}"
        );
    }
    assert_eq!(
        store
            .delete("things", doc! { "_id": { "$lt": 5 } }, true)
            .await
            .unwrap(),
        5
    );
    store.insert("things", vec![big(1)]).await.unwrap();
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_find_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        &folder.path().join("data.db"),
        Options {
            readers: 1,
            ..Options::default()
        },
    )
    .unwrap();
    insert(&store, (0..20_000).map(|n| doc! { "_id": n })).await;
    for _ in 0..200 {
        let mut cursor = store
            .find(
                "things",
                Find {
                    filter: doc! { "x": 1 },
                    ..Find::default()
                },
            )
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::from_micros(50), cursor.next_batch()).await;
        if waited.is_err() {
            assert_eq!(
                cursor.next_batch().await.unwrap(),
                None,
                "a cursor that was given up has ended"
            );
        }
    }
    // The abandoned scans stopped: the one reader answers at once.
    tokio::time::timeout(Duration::from_secs(2), store.get("things", 1.into()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_long_update_is_cut_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_write_time: Duration::from_millis(20),
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    insert(&store, (0..30_000).map(|n| doc! { "_id": n, "n": 0 })).await;
    let update = Update {
        many: true,
        ..operators(doc! {}, doc! { "$inc": { "n": 1 } })
    };
    assert!(matches!(
        store.update("things", update).await,
        Err(Error::Timeout)
    ));
    assert_eq!(
        store.count("things", doc! { "n": 0 }, None).await.unwrap(),
        30_000
    );
    let one = operators(doc! { "_id": 5 }, doc! { "$inc": { "n": 1 } });
    assert_eq!(store.update("things", one).await.unwrap().modified, 1);
}

/// A log that must grow because a read holds it still serves writers, and is
/// emptied when the read is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_does_not_stop_writers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, (0..4_000).map(|n| doc! { "_id": n, "n": n })).await;
    let reading = store.clone();
    let long = tokio::spawn(async move {
        let pipeline = vec![
            doc! { "$lookup": { "from": "things", "pipeline": [{ "$match": { "x": 1 } }], "as": "x" } },
        ];
        reading
            .aggregate("things", pipeline, Some(Duration::from_secs(4)))
            .await
    });
    let mut slowest = Duration::ZERO;
    let mut written = 0;
    while !long.is_finished() {
        let start = std::time::Instant::now();
        store
            .insert(
                "big",
                vec![raw(doc! { "_id": written, "s": "x".repeat(2_000_000) })],
            )
            .await
            .unwrap();
        slowest = slowest.max(start.elapsed());
        written += 1;
    }
    let _ = long.await.unwrap();
    assert!(
        slowest < Duration::from_secs(3),
        "{written} writes, the slowest took {slowest:?}"
    );
    assert_eq!(store.check().await.unwrap().problems, Vec::<String>::new());
}

/// A read by id leaves a snapshot behind, which must not hold the log for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_starts_anew_though_nobody_reads_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 0 }]).await;
    assert!(store.get("things", 0.into()).await.unwrap().is_some());
    let mut written = 0_u64;
    for n in 0..60 {
        let big = doc! { "_id": n, "s": "x".repeat(2_000_000) };
        store.insert("big", vec![raw(big)]).await.unwrap();
        written += 2_000_000;
    }
    let log = std::fs::metadata(folder.path().join("data.db-wal")).unwrap();
    assert!(
        log.len() < written / 2,
        "{} bytes of log after {written} bytes",
        log.len()
    );
}

/// Reads by id keep snapshots, also while the writer would start the log anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_starts_anew_while_documents_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 0 }]).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    assert!(store.get("things", 0.into()).await.unwrap().is_some());
                }
            })
        })
        .collect();
    let mut written = 0_u64;
    for n in 0..600 {
        let big = doc! { "_id": n, "s": "x".repeat(200_000) };
        store.insert("big", vec![raw(big)]).await.unwrap();
        written += 200_000;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("data.db-wal")).unwrap();
    assert!(
        log.len() < written / 3,
        "{} bytes of log after {written} bytes",
        log.len()
    );
}
