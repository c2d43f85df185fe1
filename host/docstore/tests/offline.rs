//! Copies, checks and restores from outside of the process that has the store.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::doc;
use coglex_docstore::{Error, Options, Store, offline};
use support::{index, insert, open, raw};

fn ignore(_: u64, _: u64) {}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A store of 300 documents with an index, closed; and a backup of it.
async fn backed_up(folder: &Path) -> (PathBuf, PathBuf) {
    let store = open(folder);
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..300).map(|n| doc! { "_id": n, "a": n % 3 })).await;
    store.close().await;
    let (path, copy) = (folder.join("data.db"), folder.join("copy"));
    offline::backup(&path, &copy, false, &mut ignore).unwrap();
    (path, copy)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::Invalid(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_backup_beside_a_writer_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(
        &store,
        (0..2_000).map(|n| doc! { "_id": n, "a": "x".repeat(2_000) }),
    )
    .await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        async move {
            // Pairs that are inserted at once: a copy has both or none.
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let pair = [format!("l{n}"), format!("r{n}")];
                let pair = pair.map(|id| raw(doc! { "_id": id, "pair": n }));
                store.insert("things", pair.into()).await.unwrap();
                n += 1;
            }
            n
        }
    });
    let path = folder.path().join("data.db");
    for round in 0..5 {
        let (path, target) = (path.clone(), folder.path().join(format!("copy{round}")));
        let (steps, copied) = tokio::task::spawn_blocking(move || {
            let mut steps = Vec::new();
            offline::backup(&path, &target, false, &mut |done, all| {
                steps.push((done, all));
            })
            .unwrap();
            (steps, target)
        })
        .await
        .unwrap();
        let (done, all) = *steps.last().unwrap();
        assert!(done == all && all > 4_000_000, "{steps:?}");
        assert!(steps.windows(2).all(|two| two[0].0 < two[1].0));
        assert_eq!(offline::check(&copied).unwrap().problems, [""; 0]);
        let copy = Store::open(&copied, Options::default()).unwrap();
        let odd = copy
            .aggregate(
                "things",
                vec![
                    doc! { "$match": { "pair": { "$exists": true } } },
                    doc! { "$group": { "_id": "$pair", "n": { "$sum": 1 } } },
                    doc! { "$match": { "n": { "$ne": 2 } } },
                ],
                None,
            )
            .await
            .unwrap();
        assert_eq!(odd.len(), 0, "half pairs");
        copy.close().await;
    }
    // The check beside the writer, too.
    assert_eq!(offline::check(&path).unwrap().problems, [""; 0]);
    done.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
    store.close().await;
}

#[tokio::test]
async fn a_target_is_replaced_only_when_told_and_never_the_store_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    let again = offline::backup(&path, &copy, false, &mut ignore);
    assert!(refusal(again).contains("exists already"));
    offline::backup(&path, &copy, true, &mut ignore).unwrap();
    let onto = offline::backup(&path, &path, true, &mut ignore);
    assert!(refusal(onto).contains("onto itself"));
    let none = offline::backup(&folder.path().join("no"), &copy, true, &mut ignore);
    assert!(refusal(none).contains("no store at"));
    assert_eq!(names(folder.path()), ["copy", "data.db", "data.db.lock"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_restore_brings_the_backup_back_and_keeps_the_old_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    let store = open(folder.path());
    store.delete("things", doc! {}, true).await.unwrap();
    insert(&store, [doc! { "_id": "later" }]).await;

    let target = path.clone();
    let (backup, used) = (copy.clone(), store.clone());
    let refused =
        tokio::task::spawn_blocking(move || offline::restore(&backup, &target, true, "old"))
            .await
            .unwrap();
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    used.close().await;

    assert!(refusal(offline::restore(&copy, &path, false, "old")).contains("a store already"));
    let restored = offline::restore(&copy, &path, true, "old").unwrap();
    assert_eq!(
        (restored.report.documents, restored.report.collections),
        (300, 1)
    );
    let kept = restored.kept.unwrap();
    assert_eq!(kept, folder.path().join("data.db.old"));
    assert_eq!(
        names(folder.path()),
        ["copy", "data.db", "data.db.lock", "data.db.old"]
    );
    let store = open(folder.path());
    assert_eq!(
        store.count("things", doc! { "a": 1 }, None).await.unwrap(),
        100
    );
    assert_eq!(store.check().await.unwrap().problems, [""; 0]);
    insert(&store, [doc! { "_id": "new" }]).await;
    store.close().await;
    let old = Store::open(&kept, Options::default()).unwrap();
    assert_eq!(old.count("things", doc! {}, None).await.unwrap(), 1);
    old.close().await;
    // Back to where no store was.
    std::fs::remove_file(&path).unwrap();
    let restored = offline::restore(&copy, &path, false, "old").unwrap();
    assert_eq!(restored.kept, None);
    assert_eq!(offline::check(&path).unwrap().documents, 300);
}

#[tokio::test]
async fn the_log_of_a_store_that_was_killed_is_not_taken_for_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    let store = open(folder.path());
    insert(&store, (1_000..1_500).map(|n| doc! { "_id": n, "a": n })).await;
    // As a kill leaves it: the file and a log that was not moved into it.
    let killed = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("data.db{suffix}");
        std::fs::copy(folder.path().join(&name), killed.path().join(&name)).unwrap();
    }
    store.close().await;
    drop(path);
    let path = killed.path().join("data.db");
    let kept = offline::restore(&copy, &path, true, "old")
        .unwrap()
        .kept
        .unwrap();
    assert_eq!(offline::check(&path).unwrap().documents, 300);
    assert_eq!(
        offline::check(&kept).unwrap().documents,
        800,
        "the log's are in it"
    );

    // The same with a file that is too damaged to be opened.
    std::fs::copy(folder.path().join("data.db"), &path).unwrap();
    std::fs::write(&path, b"rubbish").unwrap();
    std::fs::write(killed.path().join("data.db-wal"), b"a log").unwrap();
    offline::restore(&copy, &path, true, "bad").unwrap();
    assert_eq!(offline::check(&path).unwrap().documents, 300);
    assert_eq!(
        std::fs::read(killed.path().join("data.db.bad-wal")).unwrap(),
        b"a log"
    );
    assert_eq!(
        std::fs::read(killed.path().join("data.db.bad")).unwrap(),
        b"rubbish"
    );
}

#[tokio::test]
async fn a_store_that_is_read_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (_, copy) = backed_up(folder.path()).await;
    let store = open(folder.path());
    insert(&store, (1_000..1_500).map(|n| doc! { "_id": n, "a": n })).await;
    let killed = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("data.db{suffix}");
        std::fs::copy(folder.path().join(&name), killed.path().join(&name)).unwrap();
    }
    store.close().await;
    let path = killed.path().join("data.db");
    // As a backup has it: a snapshot that began before.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM sqlite_schema";
    reader.query_row(count, [], |_| Ok(())).unwrap();
    let refused = offline::restore(&copy, &path, true, "old").unwrap_err();
    let Error::Unavailable(cause) = refused else {
        panic!("{refused:?}");
    };
    assert!(cause.to_string().contains("reading the store"), "{cause}");
    let left = names(killed.path());
    assert!(left.iter().all(|name| !name.contains("old")), "{left:?}");
    assert_eq!(offline::check(&path).unwrap().documents, 800);
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    let restored = offline::restore(&copy, &path, true, "old").unwrap();
    let kept = restored.kept.unwrap();
    assert_eq!(offline::check(&kept).unwrap().documents, 800);
    assert_eq!(offline::check(&path).unwrap().documents, 300);
}

#[tokio::test]
async fn an_old_store_that_cannot_be_kept_stays_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    std::fs::write(&path, b"rubbish").unwrap();
    let log = folder.path().join("data.db-wal");
    std::fs::write(&log, b"a log").unwrap();
    // The name is taken.
    std::fs::write(folder.path().join("data.db.old"), b"other").unwrap();
    offline::restore(&copy, &path, true, "old").unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"rubbish");
    assert_eq!(std::fs::read(&log).unwrap(), b"a log");
    let other = std::fs::read(folder.path().join("data.db.old")).unwrap();
    assert_eq!(other, b"other");
    assert!(!folder.path().join("data.db.old-wal").exists());
}

#[tokio::test]
async fn backups_to_one_target_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    // What a killed one left goes; a file of another kind of name stays.
    let left = folder.path().join("copy.0123456789abcdef.partial");
    let other = folder.path().join("copy.2026.partial");
    std::fs::write(&left, b"a half").unwrap();
    std::fs::write(&other, b"mine").unwrap();
    // The second begins and ends while the first is at work.
    let mut is_first = true;
    offline::backup(&path, &copy, true, &mut |_, _| {
        if std::mem::take(&mut is_first) {
            offline::backup(&path, &copy, true, &mut ignore).unwrap();
            assert_eq!(offline::check(&copy).unwrap().documents, 300);
        }
    })
    .unwrap();
    assert_eq!(offline::check(&copy).unwrap().documents, 300);
    assert_eq!(left.exists(), !cfg!(unix));
    assert!(other.exists());
    let left = names(folder.path());
    assert_eq!(
        left,
        ["copy", "copy.2026.partial", "data.db", "data.db.lock"]
    );
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = backed_up(folder.path()).await;
    let good = std::fs::read(&copy).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    // A byte of a document in some leaf page: lengths no longer add up.
    let place = good.windows(4).rposition(|four| four == b"_id\0").unwrap();
    flipped[place + 3] = b'x';
    for bad in [
        Vec::new(),
        b"rubbish".to_vec(),
        good[..good.len() / 2].to_vec(),
        flipped,
    ] {
        std::fs::write(&copy, &bad).unwrap();
        let sentence = refusal(offline::restore(&copy, &path, true, "old"));
        assert!(sentence.contains("cannot be used"), "{sentence}");
        assert_eq!(names(folder.path()), ["copy", "data.db", "data.db.lock"]);
        assert!(std::fs::read(&path).unwrap() == before);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_problem_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = backed_up(folder.path()).await;
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[4096..8192] {
        *byte = 0xEE;
    }
    std::fs::write(&path, bytes).unwrap();
    let report = offline::check(&path).unwrap();
    assert!(!report.problems.is_empty());
}
