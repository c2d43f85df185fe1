//! One misdeed after the other, each by a Rust guest through the real binary.
//! After each, the others are served at once, and nothing that the guest held is
//! held any more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::{API_KEY, PATIENCE};

const GUESTS: [&str; 4] = [
    "fixture-hostile",
    "fixture-hostile-wasi",
    "fixture-capabilities",
    "fixture-echo",
];

/// Budgets that are spent in a moment.
const TIGHT: [&str; 12] = [
    "--plugins-budget-cpu",
    "500ms",
    "--plugins-budget-wall",
    "2s",
    "--plugins-budget-memory",
    "48 MiB",
    "--plugins-budget-response",
    "1 MiB",
    "--plugins-budget-host-call-bytes",
    "4 MiB",
    "--plugins-budget-host-calls",
    "200",
];

fn host() -> Host {
    let large = "x".repeat(256 << 10);
    let config = format!(
        r#"
        [plugins.allow.fixture-hostile]
        storage = [{{ collection = "hostile", verbs = ["read"] }}]
        [plugins.settings.fixture-hostile]
        large = "{large}"
        [plugins.allow.fixture-capabilities]
        storage = [{{ collection = "*", verbs = ["read", "insert", "update", "delete"] }}]
        auth = [{{ collection = "users", verbs = ["lookup", "signup", "verify"] }}]
        functions = ["*"]
        secrets = ["*"]
        kv = true
        "#
    );
    Host::flags(&GUESTS, &config, &TIGHT)
}

/// The others are served, and soon no call of a guest is under way.
#[track_caller]
fn goes_on(host: &Host, misdeed: &str) {
    let start = Instant::now();
    let reply = host.server.anonymous().get("/echo");
    assert_eq!(reply.status, 200, "after {misdeed}: {}", reply.text());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "after {misdeed}: {took:?}");
    for guest in GUESTS {
        let path = format!("/admin/v1/plugins/{guest}/");
        loop {
            let status = host.server.admin().get(&path).json();
            if status["running"] == 0 {
                break;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "after {misdeed}: {} calls of {guest} are under way",
                status["running"]
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn every_misdeed_ends_as_it_should_and_leaves_nothing_behind() {
    let host = host();
    // A misdeed, how it ends, and a word of what the log says of it.
    for (misdeed, status, code, logged) in [
        ("loop", 504, "app_deadline", "CPU budget"),
        ("sleep", 504, "app_deadline", "wall-clock budget"),
        ("memory", 500, "app_trapped", "memory_limit_reached"),
        ("huge-allocation", 500, "app_trapped", "memory"),
        ("recurse", 500, "app_trapped", "out of bounds memory access"),
        ("panic", 500, "app_trapped", "panics on purpose"),
        ("exit", 500, "app_trapped", "exit"),
        ("host-calls", 500, "app_trapped", "200 host calls"),
        (
            "huge-filter",
            500,
            "app_trapped",
            "too much data is being copied",
        ),
        (
            "huge-settings",
            500,
            "app_trapped",
            "bytes through host calls",
        ),
        ("big-response", 500, "app_trapped", "memory"),
        ("headers", 500, "app_invalid_response", "header"),
        ("header-values", 500, "app_invalid_response", "header"),
        ("giant-header", 500, "app_invalid_response", "header"),
        ("giant-name", 500, "app_invalid_response", "header"),
        ("status", 500, "app_invalid_response", "status"),
    ] {
        let reply = host.server.anonymous().get(&format!("/hostile/{misdeed}"));
        assert_eq!(reply.status, status, "{misdeed}: {}", reply.text());
        reply.problem(status, code);
        assert!(reply.body.len() < 1_000, "{misdeed}: {}", reply.text());
        host.logged(&[reply.header("x-request-id"), "fixture-hostile", logged]);
        goes_on(&host, misdeed);
    }
    // How these end depends on how fast the machine is.
    for misdeed in ["log-flood", "print-flood", "cursors", "many-headers"] {
        let reply = host.server.anonymous().get(&format!("/hostile/{misdeed}"));
        assert!(reply.status >= 500, "{misdeed}: {}", reply.text());
        goes_on(&host, misdeed);
    }
}

#[test]
fn functions_that_call_themselves_end_and_leave_nothing_behind() {
    let host = host();
    let steps = |function: &str, args: Value| {
        let step = json!([{"do": "call", "function": function, "args": args, "kwargs": {}}]);
        host.server.anonymous().post("/steps", &step)
    };
    // As deep as it goes, more often than there are places for nested calls.
    for _ in 0..70 {
        let deep = steps("relay", json!([0])).json();
        assert_eq!(deep, json!([{"ok": 7}]));
    }
    goes_on(&host, "relay");
    // As wide as it goes, on each level: the budget of the first call ends it.
    for _ in 0..5 {
        let wide = steps("fan", json!([1_000]));
        assert!(
            wide.status >= 500 || wide.text().contains("error"),
            "{}",
            wide.text()
        );
        goes_on(&host, "fan");
    }
    // What it calls traps or loops: its own trouble, which the caller is told of.
    let told = steps("panics", json!([]));
    assert!(told.text().contains("error"), "{}", told.text());
    goes_on(&host, "panics");
    let told = steps("loops", json!([]));
    assert!(
        told.status == 504 || told.text().contains("timeout"),
        "{}",
        told.text()
    );
    goes_on(&host, "loops");
    assert_eq!(steps("relay", json!([0])).json(), json!([{"ok": 7}]));
}

/// All that a standard component answers until the connection ends, and when.
fn raw(host: &Host, misdeed: &str) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    let mut stream = TcpStream::connect(host.server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /fixture-hostile-wasi/{misdeed} HTTP/1.1\r\nHost: test\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut all = Vec::new();
    // A connection that breaks is an end, too.
    let _ = stream.read_to_end(&mut all);
    (all, start.elapsed())
}

#[test]
fn streams_that_do_not_end_are_ended_and_leave_nothing_behind() {
    let host = host();
    for (misdeed, status, most) in [
        ("endless", 200, 2 << 20),
        ("drip", 200, 10_000),
        ("events", 200, 10_000),
        // Its head may not be out yet when it fails.
        ("broken", 0, 10_000),
        ("silent", 500, 10_000),
        ("deaf", 504, 10_000),
        ("pollables", 500, 10_000),
        ("fields", 500, 10_000),
    ] {
        let (answer, took) = raw(&host, misdeed);
        let text = String::from_utf8_lossy(&answer);
        let head = text.lines().next().unwrap_or_default();
        let early = status == 0 && head.is_empty();
        assert!(
            early || head.contains(&status.max(200).to_string()),
            "{misdeed}: {head}"
        );
        assert!(answer.len() < most, "{misdeed}: {} bytes", answer.len());
        assert!(took < Duration::from_secs(10), "{misdeed}: {took:?}");
        // What was cut does not look whole.
        let whole = text.contains("transfer-encoding: chunked") && text.ends_with("0\r\n\r\n");
        assert!(!whole, "{misdeed} looks as if it had ended well");
        goes_on(&host, misdeed);
    }
}

#[test]
fn headers_of_a_standard_component_have_an_end() {
    let host = host();
    let (answer, _) = raw(&host, "giant-headers");
    let text = String::from_utf8_lossy(&answer);
    assert!(answer.len() < 256 << 10, "{} bytes", answer.len());
    assert!(text.starts_with("HTTP/1.1 "), "{text:.200}");
    goes_on(&host, "giant-headers");
}

#[test]
fn clients_that_send_slowly_or_leave_hold_no_place() {
    let host = host();
    let begin = |head: &str| {
        let mut stream = TcpStream::connect(host.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{head}").unwrap();
        stream
    };
    // Half a body, and then nothing.
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf";
    let mut slow: Vec<TcpStream> = (0..20).map(|_| begin(head)).collect();
    assert_eq!(host.server.anonymous().get("/echo").status, 200);
    let mut answer = [0; 12];
    slow[0].read_exact(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    drop(slow);
    goes_on(&host, "half a body");
    // Whole requests, whose clients are gone before the answer.
    for misdeed in ["hostile/loop", "hostile/sleep", "fixture-hostile-wasi/drip"] {
        let head = format!("GET /{misdeed} HTTP/1.1\r\nHost: test\r\nX-API-Key: {API_KEY}\r\n\r\n");
        let gone: Vec<TcpStream> = (0..20).map(|_| begin(&head)).collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(gone);
        goes_on(&host, misdeed);
    }
}
