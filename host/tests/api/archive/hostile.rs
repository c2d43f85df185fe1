//! Names, bodies and requests that are meant to do harm.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;

use super::{BOUNDARY, ROOT, download, files_below, form, list, multipart, send, upload};
use crate::support::{API_KEY, Client, PATIENCE, Reply, Send as _, TestServer};

fn post(api: &Client, body: impl Into<Vec<u8>>) -> Reply {
    let request = api.request(Method::POST, &format!("{ROOT}/upload/files/"));
    multipart(request, body.into()).reply()
}

/// A part with this head.
fn part(head: &str) -> String {
    format!("--{BOUNDARY}\r\n{head}\r\n\r\nbytes\r\n--{BOUNDARY}--\r\n")
}

#[track_caller]
fn nothing_is_left(server: &TestServer) {
    assert!(list(&server.api(), "files").is_empty());
    let folder = server.dir.path().join("coglex-data/files");
    let start = std::time::Instant::now();
    // What was given up is removed behind the answer.
    while !files_below(&folder).is_empty() {
        assert!(start.elapsed() < PATIENCE, "{:?}", files_below(&folder));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn names_are_names_and_no_paths() {
    let server = TestServer::start();
    let api = server.api();
    for (given, kept) in [
        ("../../../etc/passwd", "passwd"),
        ("C:\\windows\\system32\\cmd.exe", "cmd.exe"),
        ("/etc/shadow", "shadow"),
        ("a;b=c.txt", "a;b=c.txt"),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
        ("日本語.txt", "日本語.txt"),
        ("con", "con"),
        ("-rf", "-rf"),
    ] {
        let reference = upload(&api, "files", given, "a/b", b"x");
        let path = format!("/service/storage/v1/files/{reference}/");
        assert_eq!(api.get(&path).json()["_filename"], kept);
        assert_eq!(download(&api, "files", &reference).text(), "x");
    }
    // Bytes lie under names that we have made.
    let folder = server.dir.path().join("coglex-data/files");
    for file in files_below(&folder) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
            "{name}"
        );
    }
    let long = "x".repeat(300);
    for bad in ["", "..", ".", "a/", "...", "a\u{202e}fdp.exe", &long] {
        send(&api, "files", bad, "a/b", b"x").problem(400, "invalid_input");
    }
    // No header can hold it.
    send(&api, "files", "a\u{1}", "a/b", b"x").problem(400, "invalid_multipart");
    assert_eq!(list(&api, "files").len(), 8);
}

#[test]
fn types_that_are_no_types_are_not_kept() {
    let server = TestServer::start();
    let api = server.api();
    for (declared, bytes, kept) in [
        ("text/html; charset=utf-8", &b"x"[..], "text/html"),
        ("application/octet-stream", b"%PDF-1.7\n", "application/pdf"),
        ("nonsense", b"%PDF-1.7\n", "application/pdf"),
        ("a/b/c", b"x", "application/octet-stream"),
        ("", b"x", "application/octet-stream"),
        ("image/png", b"%PDF-1.7\n", "image/png"),
    ] {
        let sent = send(&api, "files", "a", declared, bytes);
        if sent.status == 400 {
            // A head that no parser takes.
            continue;
        }
        let reference = sent.json();
        let path = format!("/service/storage/v1/files/{}/", reference.as_str().unwrap());
        let metadata = api.get(&path).json();
        assert_eq!(metadata["_filetype"], kept, "{declared}");
        if bytes.starts_with(b"%PDF") {
            assert_eq!(metadata["_detected"], "application/pdf");
        }
    }
}

#[test]
fn bodies_that_are_no_forms_are_refused() {
    let server = TestServer::start();
    let api = server.api();
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"";
    let check = |body: Vec<u8>, status: u16, code: &str| {
        post(&api, body).problem(status, code);
    };
    check(Vec::new(), 400, "body_cut");
    check(b"no form at all".to_vec(), 400, "body_cut");
    check(format!("--{BOUNDARY}--\r\n").into(), 400, "invalid_input");
    let no_name = "Content-Disposition: form-data; name=\"file\"";
    check(part(no_name).into(), 400, "invalid_input");
    let other = "Content-Disposition: form-data; name=\"other\"; filename=\"a\"";
    check(part(other).into(), 400, "invalid_input");
    // Cut anywhere, it is no file.
    let whole = part(file);
    for cut in [10, BOUNDARY.len() + 20, whole.len() - BOUNDARY.len() - 10] {
        check(whole.as_bytes()[..cut].to_vec(), 400, "body_cut");
    }
    let end = format!("--{BOUNDARY}--\r\n");
    let twice = format!("{}{whole}", whole.strip_suffix(&end).unwrap());
    check(twice.into(), 400, "invalid_input");
    let heads: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    check(
        part(&format!("{heads}{file}")).into(),
        400,
        "invalid_multipart",
    );
    let endless = format!("--{BOUNDARY}\r\nX-A: {}", "a".repeat(3 << 20));
    check(endless.into(), 400, "invalid_multipart");
    let field = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n{}\r\n{}",
        "a".repeat(3 << 20),
        part(file)
    );
    check(field.into(), 400, "invalid_multipart");
    let many: String = (0..40)
        .map(|n| {
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f{n}\"\r\n\r\nx\r\n")
        })
        .collect();
    check(
        format!("{many}{}", part(file)).into(),
        400,
        "invalid_multipart",
    );

    let send_as = |kind: &str| {
        let request = api.request(Method::POST, &format!("{ROOT}/upload/files/"));
        request
            .header("content-type", kind)
            .body(part(file))
            .reply()
    };
    send_as("application/json").problem(415, "unsupported_media_type");
    send_as("multipart/form-data").problem(400, "invalid_multipart");
    let long = format!("multipart/form-data; boundary={}", "b".repeat(100));
    send_as(&long).problem(400, "invalid_multipart");
    nothing_is_left(&server);
}

#[test]
fn other_fields_are_passed_over() {
    let server = TestServer::start();
    let api = server.api();
    let before = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nA title\r\n"
    );
    let mut body = before.into_bytes();
    body.extend_from_slice(&form("a.txt", "text/plain", b"x\r\n--no boundary\r\n"));
    let reference = post(&api, body).json();
    let got = download(&api, "files", reference.as_str().unwrap());
    assert_eq!(got.body, b"x\r\n--no boundary\r\n");
}

#[test]
fn files_over_their_limits_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = "
        [archive]
        file_limit = '3 MiB'
        [archive.collections.small]
        file_limit = 10
        [archive.collections.images]
        types = ['image/*']
        [archive.collections.full]
        quota = '100 B'
        max_files = 3
        ";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let api = server.api();
    let large = vec![1; (3 << 20) + 1];
    send(&api, "files", "a", "a/b", &large).problem(413, "file_too_large");
    upload(&api, "others", "a", "a/b", &large[1..]);
    send(&api, "small", "a", "a/b", &[1; 11]).problem(413, "file_too_large");
    upload(&api, "small", "a", "a/b", &[1; 10]);
    let png = b"\x89PNG\r\n\x1a\n0000";
    upload(&api, "images", "a", "image/png", png);
    send(&api, "images", "a", "text/html", png).problem(415, "file_type_refused");
    let html = b"<!DOCTYPE html><html></html>";
    send(&api, "images", "a", "image/png", html).problem(415, "file_type_refused");
    let first = upload(&api, "full", "a", "a/b", &[1; 60]);
    send(&api, "full", "b", "a/b", &[1; 41]).problem(413, "quota_exceeded");
    upload(&api, "full", "b", "a/b", &[1; 30]);
    upload(&api, "full", "c", "a/b", &[1; 1]);
    send(&api, "full", "d", "a/b", &[1; 1]).problem(413, "quota_exceeded");
    // Also where it was deleted behind the archive's back.
    api.delete(&format!("/service/storage/v1/full/{first}/"))
        .json();
    upload(&api, "full", "d", "a/b", &[1; 60]);
    // Announced, it is refused unread.
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(
        socket,
        "POST {ROOT}/upload/small/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 999999999999\r\n\r\n"
    )
    .unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    nothing_is_left_but(&server, 7);
}

/// Blobs, among them that of a file that was deleted through storage.
#[track_caller]
fn nothing_is_left_but(server: &TestServer, blobs: usize) {
    let folder = server.dir.path().join("coglex-data/files");
    let start = std::time::Instant::now();
    while files_below(&folder).len() != blobs {
        assert!(start.elapsed() < PATIENCE, "{:?}", files_below(&folder));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_quota_holds_for_uploads_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[archive.collections.full]\nquota = 1000\n";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let taken: usize = std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..32)
            .map(|_| {
                let api = server.api();
                scope.spawn(
                    move || match send(&api, "full", "a", "a/b", &[1; 100]).status {
                        200 => 1,
                        413 => 0,
                        other => panic!("{other}"),
                    },
                )
            })
            .collect();
        uploads
            .into_iter()
            .map(|upload| upload.join().unwrap())
            .sum()
    });
    assert_eq!(taken, 10);
    nothing_is_left_but(&server, 10);
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let server = TestServer::start();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let body = form("a", "a/b", &vec![1; 8 << 20]);
    write!(
        socket,
        "POST {ROOT}/upload/files/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    socket.write_all(&body[..6 << 20]).unwrap();
    let folder = server.dir.path().join("coglex-data/files");
    let start = std::time::Instant::now();
    while files_below(&folder).is_empty() {
        assert!(start.elapsed() < PATIENCE, "nothing is written");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(socket);
    nothing_is_left(&server);
}

#[test]
fn a_client_that_stops_sending_is_given_up() {
    let server = TestServer::with(&["--server-body-timeout", "300ms"]);
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = form("a", "a/b", b"some bytes");
    write!(
        socket,
        "POST {ROOT}/upload/files/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 1000\r\n\r\n"
    )
    .unwrap();
    socket.write_all(&body[..body.len() - 30]).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    nothing_is_left(&server);
}

#[test]
fn other_methods_and_paths_are_told_apart() {
    let server = TestServer::start();
    let api = server.api();
    let check = |method: Method, path: &str, status: u16| {
        let got = api
            .request(method.clone(), &format!("{ROOT}{path}"))
            .reply();
        assert_eq!(got.status, status, "{method} {path}: {}", got.text());
        if status == 405 {
            assert!(!got.header("allow").is_empty());
        }
    };
    check(Method::GET, "/upload/files/", 405);
    check(Method::POST, "/download/files/x/", 405);
    check(Method::GET, "/delete/files/x/", 405);
    check(Method::GET, "/sign/files/", 405);
    check(Method::PUT, "/files/", 405);
    check(Method::GET, "/a/b/c/d/", 404);
    check(Method::POST, "/upload/", 405);
    let bad = json!({"document": {"_id": "x"}});
    api.post(&format!("{ROOT}/sign/files/"), &bad)
        .problem(400, "invalid_input");
}
