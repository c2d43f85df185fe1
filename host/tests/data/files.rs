//! Backup, restore and check.

use bson::doc;
use serde_json::json;

use crate::support::{API_KEY, TestServer};
use crate::{raw, run, with_store};

const THINGS: &str = "/service/storage/v1/things/";

#[test]
fn a_store_is_backed_up_beside_its_server_and_restored_after_it() {
    let mut server = TestServer::start();
    let api = server.api();
    for n in 0..20 {
        api.post(
            THINGS,
            &json!({"document": {"_id": format!("n{n}"), "a": n}}),
        )
        .json();
    }
    let dir = server.dir.path().to_owned();
    let said = run(&dir, &["backup", "copy.db"]).ok();
    assert!(
        said.contains("backed up") && said.contains("copy.db"),
        "{said}"
    );
    let again = run(&dir, &["backup", "copy.db"]).refused();
    assert!(again.contains("--force replaces it"), "{again}");
    run(&dir, &["backup", "copy.db", "--force"]).ok();
    let report = run(&dir, &["check"]).ok();
    assert!(report.contains("no problems"), "{report}");
    assert!(counted(&report), "{report}");

    api.delete(&format!("{THINGS}n7")).json();
    api.post(THINGS, &json!({"document": {"_id": "later"}}))
        .json();
    let busy = run(&dir, &["restore", "copy.db", "--force"]).refused();
    assert!(busy.contains("a server uses the store"), "{busy}");
    let busy = run(&dir, &["check", "--repair"]).refused();
    assert!(busy.contains("a server uses the store"), "{busy}");
    server.terminate();
    assert!(server.wait().success());

    let there = run(&dir, &["restore", "copy.db"]).refused();
    assert!(there.contains("--force replaces it"), "{there}");
    let none = run(&dir, &["restore", "nothing.db", "--force"]).refused();
    assert!(none.contains("nothing.db cannot be opened"), "{none}");
    let said = run(&dir, &["restore", "copy.db", "--force"]).ok();
    assert!(counted(&said), "{said}");
    let kept = said.split("kept as ").nth(1).unwrap().trim();
    assert!(kept.contains("documents.db.replaced-20"), "{said}");
    assert!(dir.join(kept).is_file());

    let server = TestServer::start_in(
        std::mem::replace(&mut server.dir, tempfile::tempdir().unwrap()),
        &[],
        |command| {
            command.env("SERVER_SECRET", API_KEY);
        },
    );
    let api = server.api();
    assert_eq!(api.get(&format!("{THINGS}count")).json(), json!(20));
    assert_eq!(
        api.get(&format!("{THINGS}later")).status,
        404,
        "it came after the backup"
    );
    api.post(THINGS, &json!({"document": {"_id": "new"}}))
        .json();
}

/// Whether `said` counts the twenty documents of the test, with or without the one
/// that the server keeps of its own when it looks after files.
fn counted(said: &str) -> bool {
    let words: Vec<&str> = said.split([' ', ',']).collect();
    words
        .windows(2)
        .any(|pair| matches!(pair, ["20" | "21", "documents"]))
}

#[test]
fn a_check_finds_damage_and_repairs_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let none = run(dir, &["check"]).refused();
    assert!(none.contains("there is no store at"), "{none}");
    with_store(dir, async |store| {
        let index = coglex_services::storage::IndexSpec {
            name: None,
            keys: doc! { "a": 1 },
            unique: false,
            sparse: false,
            expire_after: None,
        };
        store.create_index("things", index).await.unwrap();
        let documents = (0..500).map(|n| raw(doc! { "_id": n, "a": format!("key{n:04}") }));
        store.insert("things", documents.collect()).await.unwrap();
    });
    let path = dir.join("coglex-data/documents.db");
    run(dir, &["check"]).ok();
    // The key stands in the document, after its field's name, and in the index;
    // pages may hold remnants of it, too.
    let mut bytes = std::fs::read(&path).unwrap();
    let (field, key) = (b"a\0\x08\0\0\0", b"key0123");
    let in_index: Vec<usize> = (field.len()..bytes.len() - key.len())
        .filter(|at| bytes[*at..].starts_with(key) && !bytes[..*at].ends_with(field))
        .collect();
    assert!(!in_index.is_empty());
    for at in in_index {
        bytes[at + 6] = b'!';
    }
    std::fs::write(&path, &bytes).unwrap();

    let damaged = run(dir, &["check"]);
    assert!(
        damaged.out.contains("index a_1 lacks a key of row"),
        "{}",
        damaged.out
    );
    assert!(damaged.refused().contains("coglex check --repair"));
    let repaired = run(dir, &["check", "--repair"]).ok();
    assert!(repaired.contains("no problems"), "{repaired}");
    run(dir, &["check"]).ok();

    // A damaged document is no index's matter.
    let mut bytes = std::fs::read(&path).unwrap();
    let in_document: Vec<usize> = (0..bytes.len() - 13)
        .filter(|at| bytes[*at..].starts_with(b"a\0\x08\0\0\0key0321"))
        .collect();
    assert!(!in_document.is_empty());
    for at in in_document {
        bytes[at + 2] = 0xFF;
    }
    std::fs::write(&path, &bytes).unwrap();
    let lost = run(dir, &["check", "--repair"]).refused();
    assert!(lost.contains("restore a backup"), "{lost}");
}

#[test]
fn what_is_in_mongodb_is_not_a_file_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["backup", "x"][..], &["restore", "x"], &["check"]] {
        let args = [command, &["--mongodb-uri", "mongodb://127.0.0.1:1/x"]].concat();
        let error = run(dir.path(), &args).refused();
        assert!(
            error.contains("mongodump") && error.contains("coglex export"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("bad"), "rubbish").unwrap();
    let error = run(dir, &["restore", "bad"]).refused();
    assert!(error.contains("no copy of a document store"), "{error}");
    assert!(!dir.join("coglex-data/documents.db").exists());
}
