//! The same walk on every backend: a folder, GridFS and a bucket.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use reqwest::Method;
use serde_json::json;

use super::{ROOT, bytes, delete, download, list, send, sha256, upload};
use crate::mongodb::database_address;
use crate::support::{API_KEY, Send as _, TestServer};

/// Starts a server whose files are in a folder.
fn folder() -> Option<TestServer> {
    Some(TestServer::start())
}

/// One whose files and documents are in MongoDB.
fn gridfs() -> Option<TestServer> {
    let address = database_address()?;
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--archive-backend", "gridfs"];
    Some(TestServer::start_in(dir, &flags, |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env(
                "MONGODB_URI",
                format!("mongodb://{address}/?directConnection=true"),
            )
            .env("MONGODB_DATABASE", unique("coglex_files"));
    }))
}

/// One whose files are in a bucket, with the documents beside it.
fn s3() -> Option<TestServer> {
    let Ok(endpoint) = std::env::var("COGLEX_TEST_S3_ENDPOINT") else {
        eprintln!("skipped: COGLEX_TEST_S3_ENDPOINT is not set; `cargo xtask test` sets it");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let prefix = unique("prefix");
    let flags = [
        "--archive-backend",
        "s3",
        "--archive-s3-bucket",
        "files",
        "--archive-s3-prefix",
        &prefix,
        "--archive-s3-endpoint",
        &endpoint,
    ];
    Some(TestServer::start_in(dir, &flags, |command| {
        for (setting, name) in [("ACCESS", "access"), ("SECRET", "secret")] {
            let value = std::env::var(format!("COGLEX_TEST_S3_{setting}_KEY"));
            let value = value.unwrap_or_else(|_| panic!("the {name} key of the bucket"));
            command.env(format!("COGLEX_ARCHIVE_S3_{setting}_KEY"), value);
        }
        command.env("SERVER_SECRET", API_KEY);
    }))
}

fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    format!("{name}_{}_{nanos}_{next}", std::process::id())
}

macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod on_a_folder {
            $(#[test] fn $test() { super::$test(super::folder()); })*
        }
        mod on_gridfs {
            $(#[test] fn $test() { super::$test(super::gridfs()); })*
        }
        mod on_s3 {
            $(#[test] fn $test() { super::$test(super::s3()); })*
        }
    };
}

on_every_backend!(
    a_file_comes_back_as_it_was_sent,
    ranges_are_answered_as_the_standard_says,
    conditions_are_answered_as_the_standard_says,
    files_are_listed_and_queried,
    what_is_forged_reads_and_deletes_nothing,
    uploads_in_parallel_do_not_mix,
    parts_become_a_file,
);

fn a_file_comes_back_as_it_was_sent(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    // Around the sizes of chunks, pieces and parts.
    for (seed, length) in [
        0, 1, 65_535, 65_537, 261_120, 261_121, 1_200_000, 12_000_000,
    ]
    .into_iter()
    .enumerate()
    {
        let sent = bytes(seed as u64, length);
        let name = format!("Übersicht {length}.bin");
        let reference = upload(&api, "files", &name, "application/x-tests", &sent);
        assert_eq!(reference.len(), 32);
        for path in [
            format!("{ROOT}/download/files/{reference}/"),
            format!("{ROOT}/download/files/{reference}"),
        ] {
            let got = api.get(&path);
            assert_eq!(got.status, 200, "{length}: {}", got.text());
            assert!(got.body == sent, "{length}: {} bytes", got.body.len());
            assert_eq!(got.header("content-type"), "application/x-tests");
            assert_eq!(got.header("content-length"), length.to_string());
            assert_eq!(got.header("etag"), format!("\"{}\"", sha256(&sent)));
            assert_eq!(got.header("accept-ranges"), "bytes");
            assert_eq!(got.header("cache-control"), "private, no-cache");
            assert_eq!(got.header("x-content-type-options"), "nosniff");
            assert!(got.header("content-security-policy").contains("sandbox"));
            assert_eq!(
                got.header("content-disposition"),
                format!(
                    "attachment; filename=\"_bersicht {length}.bin\"; filename*=UTF-8''%C3%9Cbersicht%20{length}.bin"
                )
            );
        }
        let head = api
            .request(Method::HEAD, &format!("{ROOT}/download/files/{reference}/"))
            .reply();
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), length.to_string());
        let metadata = api
            .get(&format!("/service/storage/v1/files/{reference}/"))
            .json();
        assert_eq!(metadata["_filename"], name);
        assert_eq!(metadata["_filesize"], length);
        assert_eq!(metadata["_filetype"], "application/x-tests");
        assert_eq!(metadata["_sha256"], sha256(&sent));
        assert!(metadata["_uploaded"]["$date"].is_string(), "{metadata}");
        assert_eq!(metadata.get("_coglex"), None);

        assert_eq!(delete(&api, "files", &reference).json(), true);
        download(&api, "files", &reference).problem(404, "not_found");
        delete(&api, "files", &reference).problem(404, "not_found");
        api.get(&format!("/service/storage/v1/files/{reference}/"))
            .problem(404, "not_found");
    }
}

fn ranges_are_answered_as_the_standard_says(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    let sent = bytes(7, 700_000);
    let reference = upload(&api, "files", "a.bin", "application/x-tests", &sent);
    let path = format!("{ROOT}/download/files/{reference}/");
    let get = |range: &str| {
        api.request(Method::GET, &path)
            .header("range", range)
            .reply()
    };
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=261119-261121", 261_119, 261_122),
        ("bytes=-5", 699_995, 700_000),
        ("bytes=500000-", 500_000, 700_000),
        ("bytes=1-99999999", 1, 700_000),
    ] {
        let got = get(range);
        assert_eq!(got.status, 206, "{range}");
        assert!(got.body == sent[start..end], "{range}");
        assert_eq!(
            got.header("content-range"),
            format!("bytes {start}-{}/700000", end - 1)
        );
        assert_eq!(got.header("content-length"), (end - start).to_string());
        assert_eq!(got.header("content-type"), "application/x-tests");
    }
    let got = get("bytes=700000-");
    got.problem(416, "range_not_satisfiable");
    assert_eq!(got.header("content-range"), "bytes */700000");
    assert_eq!(get("bytes=x").status, 200);

    let got = get("bytes=10-19, 400000-400009,-3");
    assert_eq!(got.status, 206);
    let kind = got.header("content-type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let mut expected = Vec::new();
    for (start, end) in [(10, 20), (400_000, 400_010), (699_997, 700_000)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/x-tests\r\nContent-Range: bytes {start}-{}/700000\r\n\r\n",
            end - 1
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&sent[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(got.body == expected, "{}", got.text());
    assert_eq!(got.header("content-length"), expected.len().to_string());
}

fn conditions_are_answered_as_the_standard_says(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    let reference = upload(&api, "files", "a.txt", "text/plain", b"0123456789");
    let path = format!("{ROOT}/download/files/{reference}/");
    let whole = api.get(&path);
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    let (etag, date) = (whole.header("etag"), whole.header("last-modified"));
    let check = |headers: &[(&str, &str)], status: u16| {
        let mut request = api.request(Method::GET, &path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let got = request.reply();
        assert_eq!(got.status, status, "{headers:?}");
        if status == 304 {
            assert_eq!(got.header("etag"), etag);
            assert!(got.body.is_empty());
        }
    };
    const OLD: &str = "Mon, 01 Jan 2001 00:00:00 GMT";
    check(&[("if-none-match", etag)], 304);
    check(&[("if-none-match", &format!("\"x\", W/{etag}"))], 304);
    check(&[("if-none-match", "*")], 304);
    check(&[("if-none-match", "\"x\"")], 200);
    check(&[("if-modified-since", date)], 304);
    check(&[("if-modified-since", OLD)], 200);
    check(
        &[("if-none-match", "\"x\""), ("if-modified-since", date)],
        200,
    );
    check(&[("if-match", etag)], 200);
    check(&[("if-match", "\"x\"")], 412);
    check(&[("if-match", &format!("W/{etag}"))], 412);
    check(&[("if-unmodified-since", OLD)], 412);
    check(&[("range", "bytes=0-1"), ("if-range", etag)], 206);
    check(&[("range", "bytes=0-1"), ("if-range", date)], 206);
    check(&[("range", "bytes=0-1"), ("if-range", "\"x\"")], 200);
    check(&[("range", "bytes=0-1"), ("if-range", OLD)], 200);
    check(&[("range", "bytes=0-1"), ("if-none-match", etag)], 304);
}

fn files_are_listed_and_queried(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    assert_eq!(list(&api, "files"), Vec::<serde_json::Value>::new());
    let storage = "/service/storage/v1/files/";
    api.post(storage, &json!({"document": {"_filename": "no file.txt"}}))
        .json();
    let mut references = Vec::new();
    for n in 0..5 {
        let name = format!("{n}.txt");
        references.push(upload(&api, "files", &name, "text/plain", &bytes(n, 10)));
    }
    // Clients add what they like.
    let tagged = format!("{storage}{}/", references[3]);
    api.patch(&tagged, &json!({"document": {"tag": "x"}}))
        .json();
    let listed = list(&api, "files");
    let mut names: Vec<_> = listed.iter().map(|f| f["_filename"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["0.txt", "1.txt", "2.txt", "3.txt", "4.txt"]);
    assert!(listed.iter().all(|file| file.get("_coglex").is_none()));
    let found = api.find(storage, &[("query", r#"{"tag": "x"}"#)]).json();
    assert_eq!(found["_filename"], "3.txt");
    let found = api.find(
        &format!("{ROOT}/files/"),
        &[("query", r#"{"tag": "x"}"#), ("count", "true")],
    );
    assert_eq!(found.header("x-total-count"), "1");
    assert_eq!(found.json()[0]["_filename"], "3.txt");
    let page = api.find(&format!("{ROOT}/files/"), &[("limit", "2")]);
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    assert!(page.header("link").contains("skip=2&limit=2"), "{page:?}");
    // Through storage a file is deleted as any document is.
    api.delete(&tagged).json();
    download(&api, "files", &references[3]).problem(404, "not_found");
}

fn what_is_forged_reads_and_deletes_nothing(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    let secret = upload(&api, "secrets", "s.txt", "text/plain", b"secret");
    let reference = upload(&api, "files", "a.txt", "text/plain", b"bytes");
    let storage = "/service/storage/v1/files/";
    // A document that says that it is a file is none.
    let forged = json!({"document": {
        "_id": "f".repeat(32), "_filename": "../../../../etc/passwd", "_filesize": 5,
        "_filepath": "/etc/passwd", "_filetype": "text/plain", "_sha256": "0".repeat(64),
    }});
    api.post(storage, &forged).json();
    download(&api, "files", &"f".repeat(32)).problem(404, "not_found");
    delete(&api, "files", &"f".repeat(32)).problem(404, "not_found");
    let copy = json!({"document": {"_id": secret, "_filename": "s.txt"}});
    api.post(storage, &copy).json();
    download(&api, "files", &secret).problem(404, "not_found");
    // What the archive notes cannot be written, seen or asked for.
    for change in [
        json!({"document": {"_coglex": {"file": {"name": "x"}}}}),
        json!({"document": {"_coglex.file.blob": "0000"}}),
        json!({"document": {"$rename": {"_coglex.file": "shown"}}}),
        json!({"document": {"$unset": {"_coglex": ""}}}),
    ] {
        let path = format!("{storage}{reference}/");
        assert_eq!(api.patch(&path, &change).status, 403, "{change}");
    }
    let query = r#"{"_coglex.file.size": 5}"#;
    assert_eq!(api.find(storage, &[("query", query)]).status, 403);
    // What can be written decides nothing.
    let change = json!({"document": {
        "_filename": "x\r\nSet-Cookie: a=b", "_filesize": 1, "_filetype": "text/html",
        "_sha256": "x", "_uploaded": null,
    }});
    api.patch(&format!("{storage}{reference}/"), &change).json();
    let got = download(&api, "files", &reference);
    assert_eq!((got.status, got.text().as_str()), (200, "bytes"));
    assert_eq!(got.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        got.header("content-disposition"),
        "attachment; filename=\"a.txt\""
    );
    // A deletion deletes files and nothing else.
    let id = api
        .post(storage, &json!({"document": {"kept": true}}))
        .json();
    delete(&api, "files", id.as_str().unwrap()).problem(404, "not_found");
    api.get(&format!("{storage}{}/", id.as_str().unwrap()))
        .json();
    for reference in ["..%2f..%2fdocuments.db", "secret", "..%5cx", "%00"] {
        download(&api, "files", reference).problem(404, "not_found");
        delete(&api, "files", reference).problem(404, "not_found");
    }
    for collection in ["_coglex_uploads", "_coglex_jobs", "system.users"] {
        send(&api, collection, "a", "text/plain", b"x").problem(403, "forbidden");
        download(&api, collection, &reference).problem(403, "forbidden");
    }
    let nobody = server.anonymous();
    send(&nobody, "files", "a", "text/plain", b"x").problem(401, "api_key_required");
    download(&nobody, "files", &reference).problem(401, "api_key_required");
    delete(&nobody, "files", &reference).problem(401, "api_key_required");
    nobody
        .get(&format!("{ROOT}/files/"))
        .problem(401, "api_key_required");
    assert_eq!(download(&api, "secrets", &secret).text(), "secret");
}

fn uploads_in_parallel_do_not_mix(server: Option<TestServer>) {
    let Some(server) = server else { return };
    thread::scope(|scope| {
        for n in 0..64 {
            let api = server.api();
            scope.spawn(move || {
                let sent = bytes(n, 40_000 + 9_973 * usize::try_from(n).unwrap());
                let reference = upload(&api, "files", &format!("{n}"), "a/b", &sent);
                let got = download(&api, "files", &reference);
                assert_eq!(got.status, 200, "{}", got.text());
                assert!(got.body == sent, "{n}");
            });
        }
    });
    let names: std::collections::BTreeSet<String> = list(&server.api(), "files")
        .iter()
        .map(|file| file["_filename"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 64);
}

/// Parts are blobs of their own, so each backend has a say.
fn parts_become_a_file(server: Option<TestServer>) {
    let Some(server) = server else { return };
    let api = server.api();
    let sent = bytes(3, 900_000);
    let location = super::tus::create(&api, "files", "parts.bin", sent.len());
    for (start, end) in [(0, 1), (1, 500_000), (500_000, 900_000)] {
        let offset = super::tus::append(&api, &location, start, &sent[start..end]);
        assert_eq!(offset, end);
    }
    let reference = location.rsplit('/').next().unwrap();
    assert!(download(&api, "files", reference).body == sent);
    assert_eq!(list(&api, "files")[0]["_sha256"], sha256(&sent));
}
