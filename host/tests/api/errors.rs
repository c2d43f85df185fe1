//! What surrounds every route: problems, ids, limits, CORS, the end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{API_KEY, PATIENCE, Send as _, TestServer};

/// Writes to the socket and reads until the server closes it.
fn raw(server: &TestServer, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may answer and close before it has read everything.
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn unknown_paths_and_methods_are_problems() {
    let server = TestServer::start();
    let client = server.anonymous();
    for path in [
        "/",
        "/nope",
        "/service",
        "/service/storage",
        "/service/storage/v2/c",
        "/admin",
        "/static",
        "/healthz/x",
    ] {
        client.get(path).problem(404, "not_found");
    }
    let check = |method: Method, path: &str, allow: &str| {
        let reply = client.request(method, path).reply();
        reply.problem(405, "method_not_allowed");
        let mut methods: Vec<&str> = reply.header("allow").split(',').map(str::trim).collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allow, "{path}");
    };
    check(Method::POST, "/healthz", "GET,HEAD");
    check(
        Method::PUT,
        "/service/storage/v1/c/",
        "DELETE,GET,HEAD,PATCH,POST",
    );
    check(
        Method::POST,
        "/service/storage/v1/c/id",
        "DELETE,GET,HEAD,PATCH",
    );
    check(Method::GET, "/service/auth/v1/signup/users/", "POST");
    check(
        Method::DELETE,
        "/service/auth/v1/signout/users",
        "GET,HEAD,POST",
    );
}

#[test]
fn every_response_has_a_request_id_and_takes_a_sane_one() {
    let server = TestServer::start();
    let client = server.anonymous();
    let id = |given: &str| {
        let reply = client
            .request(Method::GET, "/healthz")
            .header("X-Request-Id", given)
            .reply();
        reply.header("x-request-id").to_owned()
    };
    assert_eq!(id("trace-42"), "trace-42");
    let longest = "a".repeat(64);
    assert_eq!(id(&longest), longest);
    for bad in ["a".repeat(65).as_str(), "two words", ""] {
        assert_ne!(id(bad), bad);
    }
    let (first, second) = (client.get("/healthz"), client.get("/nope"));
    assert!(!first.header("x-request-id").is_empty());
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[test]
fn every_response_forbids_guessing_its_type() {
    let server = TestServer::start();
    for path in ["/healthz", "/nope", "/service/storage/v1/c"] {
        assert_eq!(
            server
                .anonymous()
                .get(path)
                .header("x-content-type-options"),
            "nosniff",
            "{path}"
        );
    }
}

#[test]
fn a_live_server_is_ready() {
    let server = TestServer::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            server.anonymous().get(path).json(),
            json!({ "status": "ok" }),
            "{path}"
        );
    }
}

#[test]
fn heads_are_bounded_in_size_and_number() {
    let server = TestServer::with(&["--server-header-limit", "16 KiB"]);
    let large = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    assert!(raw(&server, large.as_bytes()).starts_with("HTTP/1.1 431"));
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    assert!(raw(&server, many.as_bytes()).starts_with("HTTP/1.1 431"));
    let fine = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(raw(&server, fine.as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(raw(&server, b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_head_that_never_ends_costs_a_connection_only_for_a_while() {
    let server = TestServer::with(&["--server-header-timeout", "300ms"]);
    let start = Instant::now();
    raw(&server, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    // So does one that is idle.
    raw(&server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let server = TestServer::with(&["--server-body-timeout", "200ms"]);
    let head = format!(
        "POST /service/storage/v1/c HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{{"
    );
    let answer = raw(&server, head.as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"),
        "{answer}"
    );
}

#[test]
fn a_response_that_nobody_reads_is_given_up() {
    let server = TestServer::with(&["--server-write-timeout", "300ms"]);
    // More than the buffers of both ends' sockets hold.
    let file = server.dir.path().join("static/large");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::File::create(&file)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let read = |pause: Duration| {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /static/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        std::thread::sleep(pause);
        // A reset is an end as well.
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        answer.len()
    };
    assert!(read(Duration::ZERO) > 64 << 20);
    assert!(read(Duration::from_secs(2)) < 64 << 20);
}

#[test]
fn a_body_without_a_key_is_refused_before_it_arrives() {
    let server = TestServer::start();
    let head = "POST /service/storage/v1/c HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
    let start = Instant::now();
    let answer = raw(&server, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_arrives() {
    let server = TestServer::start();
    let head = format!(
        "POST /service/storage/v1/c HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
    );
    assert!(raw(&server, head.as_bytes()).starts_with("HTTP/1.1 413"));
}

#[test]
fn cors_is_off_unless_an_origin_is_configured() {
    let ask = |server: &TestServer, origin: &str| {
        let preflight = server
            .anonymous()
            .request(Method::OPTIONS, "/service/storage/v1/c")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "PATCH")
            .header("Access-Control-Request-Headers", "x-api-key")
            .reply();
        let simple = server
            .anonymous()
            .request(Method::GET, "/healthz")
            .header("Origin", origin)
            .reply();
        let allowed = |name: &str| preflight.header(name).to_owned();
        assert_eq!(
            simple.header("access-control-allow-origin"),
            preflight.header("access-control-allow-origin")
        );
        (
            allowed("access-control-allow-origin"),
            allowed("access-control-allow-credentials"),
        )
    };
    let none = (String::new(), String::new());
    assert_eq!(ask(&TestServer::start(), "https://app.example"), none);
    let server = TestServer::with(&[
        "--server-cors-origins",
        "https://app.example,https://b.example",
    ]);
    assert_eq!(
        ask(&server, "https://app.example"),
        ("https://app.example".into(), "true".into())
    );
    assert_eq!(ask(&server, "https://evil.example").0, "");
    let server = TestServer::with(&["--server-cors-origins", "*"]);
    assert_eq!(
        ask(&server, "https://evil.example"),
        ("*".into(), String::new())
    );
}

#[cfg(unix)]
#[test]
fn requests_in_flight_end_well_when_the_server_is_asked_to_stop() {
    let mut server = TestServer::start();
    let mut socket = begin(&server);
    server.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        TcpStream::connect(server.address()).is_err(),
        "still accepts"
    );
    socket
        .write_all(br#"{"document": {"_id": "late"}}"#)
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\"late\""),
        "{answer}"
    );
    assert!(server.wait().success());
}

/// Sends a head whose body is to follow, and waits until the server wants it.
#[cfg(unix)]
fn begin(server: &TestServer) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /service/storage/v1/c HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 29\r\nExpect: 100-continue\r\n\r\n"
    );
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket
}

#[cfg(unix)]
#[test]
fn a_request_that_outstays_the_grace_is_cut() {
    // Without the cut it would go on until its body times out.
    let mut server = TestServer::with(&["--server-shutdown-grace", "200ms"]);
    let _socket = begin(&server);
    server.terminate();
    assert!(server.wait().success());
}

#[cfg(unix)]
#[test]
fn who_asks_twice_need_not_wait() {
    let mut server = TestServer::with(&["--server-shutdown-grace", "10m"]);
    let _socket = begin(&server);
    server.terminate();
    std::thread::sleep(Duration::from_millis(300));
    server.terminate();
    assert!(server.wait().success());
}
