//! `/static/`.

use std::fs;

use reqwest::Method;

use crate::support::{Reply, Send as _, TestServer};

/// A server whose static folder holds a page, a folder and a hidden file.
fn server() -> TestServer {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("static");
    fs::create_dir_all(files.join("sub/.git")).unwrap();
    fs::write(files.join("page.html"), "<p>0123456789</p>").unwrap();
    fs::write(files.join("sub/style.css"), "p {}").unwrap();
    fs::write(files.join("sub/index.html"), "index").unwrap();
    fs::write(files.join("sub/.git/config"), "hidden").unwrap();
    fs::write(files.join(".env"), "SECRET=1").unwrap();
    fs::write(dir.path().join("outside.txt"), "outside").unwrap();
    TestServer::start_in(dir, &[], |_| {})
}

fn get(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = server.anonymous().request(Method::GET, path);
    headers
        .iter()
        .fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
        .reply()
}

#[test]
fn files_are_served_openly_with_their_types() {
    let server = server();
    let page = get(&server, "/static/page.html", &[]);
    assert_eq!(
        (page.status, page.text().as_str()),
        (200, "<p>0123456789</p>")
    );
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-cache");
    assert!(
        get(&server, "/static/sub/style.css", &[])
            .header("content-type")
            .starts_with("text/css")
    );
    let head = server
        .anonymous()
        .request(Method::HEAD, "/static/page.html")
        .reply();
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, "17", 0)
    );
}

#[test]
fn a_file_that_has_not_changed_is_not_sent_again() {
    let server = server();
    let page = get(&server, "/static/page.html", &[]);
    let etag = page.header("etag");
    assert!(!etag.is_empty() && !page.header("last-modified").is_empty());
    let again = get(&server, "/static/page.html", &[("If-None-Match", etag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let since = get(
        &server,
        "/static/page.html",
        &[("If-Modified-Since", page.header("last-modified"))],
    );
    assert_eq!(since.status, 304);
    fs::write(server.dir.path().join("static/page.html"), "changed").unwrap();
    let changed = get(&server, "/static/page.html", &[("If-None-Match", etag)]);
    assert_eq!((changed.status, changed.text().as_str()), (200, "changed"));
}

#[test]
fn ranges_are_answered_in_part() {
    let server = server();
    let part = get(&server, "/static/page.html", &[("Range", "bytes=3-5")]);
    assert_eq!((part.status, part.text().as_str()), (206, "012"));
    assert_eq!(part.header("content-range"), "bytes 3-5/17");
    let beyond = get(&server, "/static/page.html", &[("Range", "bytes=100-")]);
    beyond.problem(416, "range_not_satisfiable");
    assert_eq!(beyond.header("content-range"), "bytes */17");
}

#[test]
fn folders_and_hidden_files_and_what_is_outside_do_not_exist() {
    let server = server();
    for path in [
        "/static",
        "/static/",
        "/static/sub",
        "/static/sub/",
        "/static/missing.txt",
        "/static/.env",
        "/static/%2eenv",
        "/static/sub/.git/config",
        "/static/%2e%2e/outside.txt",
        "/static/..%2foutside.txt",
        "/static/sub/..%2f..%2foutside.txt",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/page.html%00",
    ] {
        let reply = get(&server, path, &[]);
        assert!(
            [400, 404].contains(&reply.status),
            "{path}: {} {}",
            reply.status,
            reply.text()
        );
        assert_eq!(
            reply.header("content-type"),
            "application/problem+json",
            "{path}"
        );
    }
    let reply = server
        .anonymous()
        .request(Method::POST, "/static/page.html")
        .reply();
    reply.problem(405, "method_not_allowed");
}
