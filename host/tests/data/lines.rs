//! What an import does with each kind of text.

use bson::raw::CString;
use bson::{RawDocumentBuf, doc};
use coglex_services::storage::transfer::line;
use coglex_services::storage::{Find, IndexSpec};
use futures_util::TryStreamExt as _;
use serde_json::json;

use crate::support::{TestServer, coglex};
use crate::{raw, run, run_with, with_store};

/// The documents of a collection, as a shell prints them.
fn stored(dir: &std::path::Path, collection: &str) -> Vec<bson::Document> {
    with_store(dir, async |store| {
        let found = store.find(collection, Find::default()).await.unwrap();
        let found = found.all().await.unwrap();
        found
            .iter()
            .map(|document| bson::Document::try_from(document.as_ref()).unwrap())
            .collect()
    })
}

#[test]
fn lines_from_anywhere_go_into_one_collection() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = "{\"_id\": 1, \"a\": 1.5}\r\n\n{\"a\": {\"$date\": \"1970-01-01T00:00:00Z\"}, \"_id\": \"x\"}";
    let none = run_with(coglex(dir), &["import", "-"], text.as_bytes()).refused();
    assert!(none.contains("give one --collection"), "{none}");
    let said = run_with(
        coglex(dir),
        &["import", "-", "--collection", "c"],
        text.as_bytes(),
    )
    .ok();
    assert_eq!(said, "imported 2 documents in 1 collection\n");
    let time = bson::DateTime::from_millis(0);
    assert_eq!(
        stored(dir, "c"),
        [doc! { "_id": 1, "a": 1.5 }, doc! { "_id": "x", "a": time }]
    );
    std::fs::write(dir.join("more.jsonl"), "{\"_id\": 2}\n").unwrap();
    let occupied = run(dir, &["import", "more.jsonl", "--collection", "c"]).refused();
    assert!(
        occupied.contains("holds documents already") && occupied.contains("--drop"),
        "{occupied}"
    );
    run(
        dir,
        &["import", "more.jsonl", "--collection", "c", "--drop"],
    )
    .ok();
    assert_eq!(stored(dir, "c"), [doc! { "_id": 2 }]);
}

#[test]
fn a_bad_line_is_named_and_the_import_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let import = |text: &str, more: &[&str]| {
        std::fs::write(dir.join("in.jsonl"), text).unwrap();
        run(
            dir,
            &[&["import", "in.jsonl", "--collection", "c"], more].concat(),
        )
    };
    let nothing = "{\"$collection\": \"c\"}\n{\"$end\": {}}\n";
    std::fs::write(dir.join("empty.jsonl"), nothing).unwrap();
    for (line, says) in [
        ("{\"_id\": 2", "in.jsonl: line 3: not valid JSON"),
        ("{\"a\": 2}", "in.jsonl: line 3: the document has no `_id`"),
        (
            "{\"_id\": [1]}",
            "in.jsonl: line 3: the _id cannot be an array",
        ),
        (
            "{\"_id\": 2, \"$set\": 1}",
            "in.jsonl: line 3: the field name '$set' starts with '$'",
        ),
        (
            "{\"_id\": 1}",
            "in.jsonl: line 3: duplicate key for index _id_",
        ),
        ("{\"_id\": {\"$oid\": 1}}", "in.jsonl: line 3: at `_id`"),
    ] {
        let text = format!("{{\"_id\": 1}}\n\n{line}\n{{\"_id\": 4}}\n");
        run(dir, &["import", "empty.jsonl", "--drop"]).ok();
        let error = import(&text, &[]).refused();
        assert!(error.contains(says), "{line}: {error}");
        assert_eq!(stored(dir, "c"), [doc! { "_id": 1 }], "{line}");
    }
    let said = import(
        "{\"_id\": 1}\n{\"_id\": 3, \"b\": 1}\n{\"_id\": 4}\n",
        &["--upsert"],
    )
    .ok();
    assert_eq!(
        said,
        "imported 3 documents in 1 collection; 1 of them were there already\n"
    );
    // Changed ones are replaced, in their place; of two with one `_id` the later
    // stays, and equal numbers are one `_id`.
    let said = import(
        "{\"_id\": 3, \"b\": 2}\n{\"_id\": 5}\n{\"_id\": 5, \"n\": 2}\n{\"_id\": {\"$numberDouble\": \"4.0\"}, \"n\": 3}\n",
        &["--upsert"],
    )
    .ok();
    assert!(said.contains("imported 4 documents"), "{said}");
    assert_eq!(
        stored(dir, "c"),
        [
            doc! { "_id": 1 },
            doc! { "_id": 3, "b": 2 },
            doc! { "_id": 4.0, "n": 3 },
            doc! { "_id": 5, "n": 2 },
        ]
    );
    let both = import("", &["--upsert", "--drop"]).refused();
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn a_document_that_cannot_be_replaced_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let old = [doc! { "_id": 1, "b": 1 }, doc! { "_id": 2, "b": 2 }];
    with_store(dir, async |store| {
        let unique = IndexSpec {
            name: None,
            keys: doc! { "b": 1 },
            unique: true,
            sparse: false,
            expire_after: None,
        };
        store.create_index("c", unique).await.unwrap();
        store
            .insert("c", old.iter().cloned().map(raw).collect())
            .await
            .unwrap();
    });
    // Two fields of one name, which only an insert takes.
    let mut twice = RawDocumentBuf::new();
    for (name, value) in [("_id", 1), ("b", 2), ("x", 1), ("x", 2)] {
        twice.append(CString::try_from(name).unwrap(), value);
    }
    let mut line = Vec::new();
    line::write(&twice, &mut line);
    let error = run_with(
        coglex(dir),
        &["import", "-", "--collection", "c", "--upsert"],
        &line,
    );
    let error = error.refused();
    assert!(
        error.contains("line 1: duplicate key for index b_1"),
        "{error}"
    );
    let mut there = stored(dir, "c");
    there.sort_by_key(|document| document.get_i32("_id").unwrap());
    assert_eq!(there, old);
}

#[test]
fn nothing_is_dropped_for_a_text_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let old = [doc! { "_id": "old" }];
    with_store(dir, async |store| {
        store.insert("c", vec![raw(old[0].clone())]).await.unwrap();
    });
    // More than a batch, then a line that is no document.
    let late = (0..1_500).fold(String::new(), |text, n| {
        text + &format!("{{\"_id\":{n}}}\n")
    });
    let late = late + "rubbish\n";
    let cut = "{\"$collection\": \"c\"}\n{\"_id\": 1}\n";
    for (text, named, says) in [
        (
            &b"\x1f\x8b\x08\0compressed\n\xff"[..],
            true,
            "line 1: not valid",
        ),
        (late.as_bytes(), true, "line 1501: not valid JSON"),
        (b"{\"_id\": 1}\n{\"_id\"", true, "line 2: not valid JSON"),
        (cut.as_bytes(), false, "cut off: its end is missing"),
    ] {
        std::fs::write(dir.join("in"), text).unwrap();
        let named = match named {
            true => &["--collection", "c"][..],
            false => &[],
        };
        let file = [&["import", "in", "--drop"], named].concat();
        let error = run(dir, &file).refused();
        assert!(
            error.contains(says) && error.contains("nothing was dropped"),
            "{error}"
        );
        assert_eq!(stored(dir, "c"), old, "{says}");
        if text.len() > 1_000 {
            continue;
        }
        // A pipe is read but once: its first batch decides.
        let pipe = [&["import", "-", "--drop"], named].concat();
        let error = run_with(coglex(dir), &pipe, text).refused();
        assert!(error.contains(says), "{error}");
        assert_eq!(stored(dir, "c"), old, "{says}");
    }
    let folder = dir.join("out");
    run(dir, &["export", "out"]).ok();
    std::fs::write(folder.join("c.jsonl"), "").unwrap();
    let error = run(dir, &["import", "out", "--drop"]).refused();
    assert!(error.contains("a part is missing"), "{error}");
    assert_eq!(stored(dir, "c"), old);
}

#[test]
fn an_export_of_which_a_part_is_missing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    with_store(dir, async |store| {
        for name in ["a", "b"] {
            let documents = (0..3).map(|n| raw(doc! { "_id": n }));
            store.insert(name, documents.collect()).await.unwrap();
        }
    });
    let stream = run(dir, &["export", "-"]).ok();
    let cut = stream.rsplit_once("{\"$end\"").unwrap().0;
    let error = run_with(coglex(dir), &["import", "-", "--drop"], cut.as_bytes()).refused();
    assert!(error.contains("cut off"), "{error}");
    let more = format!("{stream}{{\"_id\": 9}}\n");
    let error = run_with(coglex(dir), &["import", "-", "--drop"], more.as_bytes()).refused();
    assert!(error.contains("after its end"), "{error}");
    run_with(coglex(dir), &["import", "-", "--drop"], stream.as_bytes()).ok();

    let said = run(dir, &["export", "out"]).ok();
    assert!(
        said.contains("exported 6 documents in 2 collections"),
        "{said}"
    );
    let again = run(dir, &["export", "out"]).refused();
    assert!(again.contains("is not empty"), "{again}");
    let occupied = run(dir, &["import", "out"]).refused();
    assert!(
        occupied.contains("a holds documents already, and so do 1 others"),
        "{occupied}"
    );
    let missing = run(dir, &["export", "other", "--collection", "nope"]).refused();
    assert!(missing.contains("no collection nope"), "{missing}");
    std::fs::write(dir.join("out/a.jsonl"), "{\"_id\": 1}\n").unwrap();
    let error = run(dir, &["import", "out", "--drop"]).refused();
    assert!(error.contains("a part is missing"), "{error}");
    let list = std::fs::read_to_string(dir.join("out/collections.json")).unwrap();
    std::fs::write(
        dir.join("out/collections.json"),
        list.replace("a.jsonl", "../a.jsonl"),
    )
    .unwrap();
    let error = run(dir, &["import", "out", "--drop"]).refused();
    assert!(error.contains("not one in this folder"), "{error}");
    std::fs::remove_file(dir.join("out/collections.json")).unwrap();
    let error = run(dir, &["import", "out", "--drop"]).refused();
    assert!(error.contains("no complete export"), "{error}");
}

#[test]
fn chosen_collections_alone_are_moved() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    with_store(dir, async |store| {
        for name in ["a", "b", "c"] {
            store
                .insert(name, vec![raw(doc! { "_id": name })])
                .await
                .unwrap();
        }
    });
    run(
        dir,
        &["export", "two", "--collection", "c", "--collection", "a"],
    )
    .ok();
    assert_eq!(
        crate::contents(&dir.join("two"))
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        ["a.jsonl", "c.jsonl", "collections.json"]
    );
    let stream = run(dir, &["export", "-"]).ok();
    let other = tempfile::tempdir().unwrap();
    let other = other.path();
    let error = run(other, &["import", "../nowhere"]).refused();
    assert!(error.contains("cannot open"), "{error}");
    let said = run_with(
        coglex(other),
        &["import", "-", "--collection", "b"],
        stream.as_bytes(),
    )
    .ok();
    assert_eq!(said, "imported 1 document in 1 collection\n");
    let two = dir.join("two");
    run(
        other,
        &["import", two.to_str().unwrap(), "--collection", "c"],
    )
    .ok();
    let names = with_store(other, async |store| store.collections().await.unwrap());
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn a_store_that_a_server_uses_is_exported_and_not_imported_into() {
    let server = TestServer::start();
    let api = server.api();
    let dir = server.dir.path();
    let account = json!({"_key": "ann", "_password": "correct horse", "document": {}});
    api.post("/service/auth/v1/signup/users/", &account).json();
    // What a killed export left, and the copy of one that is at work.
    let data = dir.join("coglex-data");
    let (killed, at_work) = (data.join("export-1.tmp"), data.join("export-2.tmp"));
    for folder in [&killed, &at_work] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("documents.db"), "a copy").unwrap();
    }
    let lock = std::fs::File::create(at_work.join("lock")).unwrap();
    lock.lock().unwrap();
    let text = run(dir, &["export", "-", "--collection", "users"]).ok();
    assert!(!killed.exists() && at_work.join("documents.db").exists());
    drop(lock);
    std::fs::remove_dir_all(&at_work).unwrap();
    assert!(
        text.contains("\"_password\":\"$argon2id$"),
        "hidden fields are there: {text}"
    );
    assert!(text.contains("\"unique\":true"), "{text}");
    let left: Vec<_> = std::fs::read_dir(dir.join("coglex-data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("export"))
        .collect();
    assert_eq!(left, [""; 0], "the copy is gone");
    let error = run_with(coglex(dir), &["import", "-", "--upsert"], text.as_bytes()).refused();
    assert!(error.contains("a server uses the store"), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        run(dir, &["export", "out"]).ok();
        let mode = |path: &str| {
            std::fs::metadata(dir.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (
                mode("out"),
                mode("out/users.jsonl"),
                mode("out/collections.json")
            ),
            (0o700, 0o600, 0o600)
        );
    }

    // An account that moved signs in where it went.
    let other = tempfile::tempdir().unwrap();
    run_with(coglex(other.path()), &["import", "-"], text.as_bytes()).ok();
    let server = TestServer::start_in(other, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
    });
    let user = server
        .api()
        .post("/service/auth/v1/signin/users/", &account)
        .json();
    assert_eq!(user["_key"], "ann");
}

#[test]
fn a_store_of_none_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let error = run(dir.path(), &["export"]).refused();
    assert!(error.contains("there is no store at"), "{error}");
    assert!(!dir.path().join("coglex-data").exists(), "nothing is made");
    let error = run(dir.path(), &["backup", "x"]).refused();
    assert!(error.contains("there is no store at"), "{error}");
    // Streams without a consumer are no success.
    with_store(dir.path(), async |store| {
        let documents = (0..5_000).map(|n| raw(doc! { "_id": n, "filler": "x".repeat(200) }));
        store.insert("c", documents.collect()).await.unwrap();
        let found =
            coglex_services::storage::DocumentStore::find(store, "c", Find::default()).await;
        assert_eq!(
            found.unwrap().try_collect::<Vec<_>>().await.unwrap().len(),
            5_000
        );
        store.ping().await.unwrap();
    });
    let mut child = coglex(dir.path())
        .args(["export", "-"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(!child.wait().unwrap().success());
}
