//! Uploads in parts, by the protocol tus 1.0.0, from our own requests and from the
//! client that npm has for it.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::json;
use sha2::Digest as _;

use super::{ROOT, bytes, download, files_below, list};
use crate::support::{API_KEY, Client, PATIENCE, Reply, Send as _, TestServer};

const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const BYTES: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// Begins an upload; answers with its path.
#[track_caller]
pub(super) fn create(api: &Client, collection: &str, name: &str, length: usize) -> String {
    let created = begin(api, collection, name, length);
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.header("tus-resumable"), "1.0.0");
    created.header("location").to_owned()
}

fn begin(api: &Client, collection: &str, name: &str, length: usize) -> Reply {
    let metadata = format!(
        "filename {},filetype {},is_confidential",
        BASE64_STANDARD.encode(name),
        BASE64_STANDARD.encode("application/x-tests"),
    );
    api.request(Method::POST, &format!("{ROOT}/tus/{collection}/"))
        .header(VERSION.0, VERSION.1)
        .header("upload-length", length)
        .header("upload-metadata", metadata)
        .reply()
}

/// Appends bytes; answers with the offset after them.
#[track_caller]
pub(super) fn append(api: &Client, location: &str, offset: usize, bytes: &[u8]) -> usize {
    let sent = patch(api, location, offset, bytes, &[]);
    assert_eq!(sent.status, 204, "{}", sent.text());
    sent.header("upload-offset").parse().unwrap()
}

fn patch(
    api: &Client,
    location: &str,
    offset: usize,
    bytes: &[u8],
    more: &[(&str, &str)],
) -> Reply {
    let mut request = api.request(Method::PATCH, location);
    for (name, value) in [VERSION, BYTES].iter().chain(more) {
        request = request.header(*name, *value);
    }
    request
        .header("upload-offset", offset)
        .body(bytes.to_vec())
        .reply()
}

fn head(api: &Client, location: &str) -> Reply {
    api.request(Method::HEAD, location)
        .header(VERSION.0, VERSION.1)
        .reply()
}

#[track_caller]
fn offset(api: &Client, location: &str) -> usize {
    let told = head(api, location);
    assert_eq!(told.status, 200);
    assert_eq!(told.header("cache-control"), "no-store");
    told.header("upload-offset").parse().unwrap()
}

#[test]
fn the_server_says_what_it_can() {
    let server = TestServer::start();
    let told = server
        .anonymous()
        .request(Method::OPTIONS, &format!("{ROOT}/tus/files/"))
        .reply();
    assert_eq!(told.status, 204);
    assert_eq!(told.header("tus-version"), "1.0.0");
    assert_eq!(
        told.header("tus-extension"),
        "creation,expiration,checksum,termination"
    );
    assert_eq!(told.header("tus-max-size"), "1073741824");
    assert_eq!(told.header("tus-checksum-algorithm"), "sha1,sha256");
    let api = server.api();
    let old = api.request(Method::POST, &format!("{ROOT}/tus/files/"));
    let old = old.header("upload-length", 1).reply();
    old.problem(412, "unsupported_version");
    assert_eq!(old.header("tus-version"), "1.0.0");
    begin(&server.anonymous(), "files", "a", 1).problem(401, "api_key_required");
}

#[test]
fn parts_only_go_where_the_upload_stands() {
    let server = TestServer::start();
    let api = server.api();
    let location = create(&api, "files", "a.bin", 10);
    assert_eq!(append(&api, &location, 0, b"0123"), 4);
    let refused = patch(&api, &location, 0, b"0123", &[]);
    refused.problem(409, "wrong_offset");
    assert_eq!(refused.header("upload-offset"), "4");
    patch(&api, &location, 5, b"5", &[]).problem(409, "wrong_offset");
    patch(&api, &location, 4, b"4567890", &[]).problem(413, "file_too_large");
    assert_eq!(offset(&api, &location), 4);
    let other_kind = api
        .request(Method::PATCH, &location)
        .header(VERSION.0, VERSION.1)
        .header("upload-offset", 4)
        .body("x")
        .reply();
    other_kind.problem(415, "unsupported_media_type");
    // Nothing is a file yet.
    let reference = location.rsplit('/').next().unwrap();
    download(&api, "files", reference).problem(404, "not_found");
    assert!(list(&api, "files").is_empty());
    // Of another collection there is no such upload.
    let other = location.replace("/files/", "/others/");
    assert_eq!(head(&api, &other).status, 404);
    assert_eq!(append(&api, &location, 4, b"456789"), 10);
    let got = download(&api, "files", reference);
    assert_eq!(got.text(), "0123456789");
    assert_eq!(got.header("content-type"), "application/x-tests");
    assert_eq!(offset(&api, &location), 10);
    patch(&api, &location, 10, b"", &[]).problem(409, "wrong_offset");
    // An upload of nothing is a file at once.
    let empty = create(&api, "files", "empty", 0);
    let empty = empty.rsplit('/').next().unwrap();
    assert_eq!(download(&api, "files", empty).body, b"");
}

#[test]
fn bytes_with_a_wrong_checksum_do_not_count() {
    let server = TestServer::start();
    let api = server.api();
    let location = create(&api, "files", "a.bin", 6);
    let sha1 = format!("sha1 {}", BASE64_STANDARD.encode(sha1_smol(b"abc")));
    let sha256 = format!(
        "sha256 {}",
        BASE64_STANDARD.encode(sha2::Sha256::digest(b"def"))
    );
    let wrong = patch(&api, &location, 0, b"abd", &[("upload-checksum", &sha1)]);
    wrong.problem(460, "checksum_mismatch");
    assert_eq!(offset(&api, &location), 0);
    let right = patch(&api, &location, 0, b"abc", &[("upload-checksum", &sha1)]);
    assert_eq!(right.status, 204, "{}", right.text());
    let right = patch(&api, &location, 3, b"def", &[("upload-checksum", &sha256)]);
    assert_eq!(right.status, 204, "{}", right.text());
    let unknown = patch(
        &api,
        &location,
        0,
        b"abc",
        &[("upload-checksum", "md5 AAAA")],
    );
    unknown.problem(400, "invalid_input");
}

/// SHA-1 of `abc`, from RFC 3174.
fn sha1_smol(bytes: &[u8]) -> Vec<u8> {
    assert_eq!(bytes, b"abc");
    hex::decode("a9993e364706816aba3e25717850c26c9cd0d89d").unwrap()
}

#[test]
fn an_upload_that_is_given_up_or_too_old_is_gone() {
    let server = TestServer::with(&["--archive-resumable-ttl", "1s"]);
    let api = server.api();
    let folder = server.dir.path().join("coglex-data/files");
    let location = create(&api, "files", "a.bin", 10);
    append(&api, &location, 0, b"0123");
    assert_eq!(files_below(&folder).len(), 1);
    let ended = api
        .request(Method::DELETE, &location)
        .header(VERSION.0, VERSION.1)
        .reply();
    assert_eq!(ended.status, 204);
    assert_eq!(head(&api, &location).status, 404);
    assert!(files_below(&folder).is_empty());

    let location = create(&api, "files", "b.bin", 10);
    append(&api, &location, 0, b"0123");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(head(&api, &location).status, 410);
    assert!(files_below(&folder).is_empty());
    assert_eq!(head(&api, &location).status, 404);
}

#[test]
fn what_came_before_the_connection_broke_is_kept() {
    let server = TestServer::start();
    let api = server.api();
    let location = create(&api, "files", "a.bin", 100_000);
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: 100000\r\n\r\n"
    );
    let sent = bytes(1, 100_000);
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&sent[..60_000]).unwrap();
    socket.flush().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(socket);
    let start = std::time::Instant::now();
    let at = loop {
        let at = offset(&api, &location);
        if at > 0 {
            break at;
        }
        assert!(start.elapsed() < PATIENCE, "nothing is kept");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(at, 60_000);
    append(&api, &location, at, &sent[at..]);
    let reference = location.rsplit('/').next().unwrap();
    assert!(download(&api, "files", reference).body == sent);
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed() {
    let mut server = TestServer::start();
    let sent = bytes(2, 400_000);
    let location = create(&server.api(), "files", "a.bin", sent.len());
    let mut at = 0;
    for _ in 0..4 {
        at = append(&server.api(), &location, at, &sent[at..at + 100_000]);
        let dir = server.kill();
        server = TestServer::start_in(dir, &[], |command| {
            command.env("SERVER_SECRET", API_KEY);
        });
        assert_eq!(offset(&server.api(), &location), at);
    }
    let api = server.api();
    let reference = location.rsplit('/').next().unwrap();
    assert!(download(&api, "files", reference).body == sent);
    // One blob, and no part.
    let files = files_below(&server.dir.path().join("coglex-data/files"));
    assert_eq!(files.len(), 1, "{files:?}");
}

/// `tus-js-client` from npm, under node.
#[test]
fn the_client_from_npm_uploads_in_parts() {
    if std::env::var("COGLEX_TEST_WITHOUT").is_ok_and(|tools| tools.contains("node")) {
        eprintln!("skipped: there is no node");
        return;
    }
    let tools = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tus");
    std::fs::create_dir_all(&tools).unwrap();
    std::fs::write(tools.join("package.json"), r#"{"private": true}"#).unwrap();
    if !tools.join("node_modules/tus-js-client").is_dir() {
        let installed = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "tus-js-client@4.3.1"])
            .current_dir(&tools)
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
    }
    let server = TestServer::start();
    let sent = bytes(5, 3_000_000);
    let file = server.dir.path().join("sent.bin");
    std::fs::write(&file, &sent).unwrap();
    let script = tools.join("upload.js");
    std::fs::write(
        &script,
        r#"
const fs = require("fs");
const tus = require("tus-js-client");
const [endpoint, key, path] = process.argv.slice(2);
let broken = false;
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  chunkSize: 1000000,
  uploadSize: fs.statSync(path).size,
  headers: { "X-API-Key": key },
  metadata: { filename: "from node.bin", filetype: "application/x-tests" },
  retryDelays: [0, 100, 500],
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => { console.log(upload.url); },
});
upload.start();
"#,
    )
    .unwrap();
    let endpoint = format!("{}{ROOT}/tus/files/", server.url);
    let ran = Command::new("node")
        .arg(&script)
        .args([&endpoint, API_KEY, file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let url = String::from_utf8(ran.stdout).unwrap();
    let reference = url.trim().rsplit('/').next().unwrap();
    let api = server.api();
    let got = download(&api, "files", reference);
    assert!(got.body == sent, "{} bytes", got.body.len());
    assert_eq!(list(&api, "files")[0]["_filename"], json!("from node.bin"));
}

#[test]
fn uploads_that_were_only_begun_have_their_part_of_a_quota() {
    let dir = tempfile::tempdir().unwrap();
    let config = "
        [archive.collections.full]
        quota = 100
        [archive.collections.few]
        max_files = 2
        ";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let api = server.api();
    // Each would fit, and none is ever a file: their parts would fill the disk.
    let first = create(&api, "full", "a", 60);
    append(&api, &first, 0, &[1; 59]);
    begin(&api, "full", "b", 60).problem(413, "quota_exceeded");
    create(&api, "full", "c", 40);
    begin(&api, "full", "d", 1).problem(413, "quota_exceeded");
    // One that is a file counts once, and one that was given up does not.
    append(&api, &first, 59, &[1; 1]);
    assert_eq!(list(&api, "full").len(), 1);
    begin(&api, "full", "d", 1).problem(413, "quota_exceeded");
    create(&api, "few", "a", 1);
    let given_up = create(&api, "few", "b", 1);
    begin(&api, "few", "c", 1).problem(413, "quota_exceeded");
    let gone = api.request(Method::DELETE, &given_up);
    assert_eq!(gone.header(VERSION.0, VERSION.1).reply().status, 204);
    create(&api, "few", "c", 1);
}

#[test]
fn an_upload_whose_place_is_taken_is_given_up() {
    let server = TestServer::start();
    let api = server.api();
    let location = create(&api, "files", "a", 2);
    append(&api, &location, 0, b"0");
    let reference = location.rsplit('/').next().unwrap();
    let document = json!({"document": {"_id": reference}});
    api.post("/service/storage/v1/files/", &document).json();
    assert_eq!(patch(&api, &location, 1, b"1", &[]).status, 409);
    // Else each question would write the file once more.
    assert_eq!(head(&api, &location).status, 404);
    download(&api, "files", reference).problem(404, "not_found");
    let blobs = server.dir.path().join("coglex-data/files");
    assert!(files_below(&blobs).is_empty());
}
