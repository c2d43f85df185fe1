//! Requests that plugins send: to what they were granted, and nowhere else.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::guests::{Host, component};

/// A server outside of Coglex, which counts the connections that it gets.
struct Outside {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Outside {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone();
                std::thread::spawn(move || serve(stream, tls));
            }
        });
        Self { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One request for each connection; a client that goes away is no failure.
fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    let _ = match tls {
        None => answer(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).unwrap();
            answer(StreamOwned::new(connection, stream))
        }
    };
}

fn answer(stream: impl Read + Write) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": "))
            .map_or("", |(_, value)| value)
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let out = stream.get_mut();
    match path {
        "/redirect" => out.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        ),
        "/stall" => {
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")?;
            out.flush()?;
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        "/silent" => {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        "/cut" => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
        "/endless" => {
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                out.write_all(&[b'x'; 65536])?;
            }
        }
        _ => {
            let told = format!(
                "{} host={} from={} body={}",
                head.lines().next().unwrap_or_default(),
                header("host:"),
                header("x-from:"),
                String::from_utf8_lossy(&body)
            );
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}",
                told.len()
            )
        }
    }?;
    stream.get_mut().flush()
}

/// A server with the guest that sends, which asks for `asked` and is allowed
/// `allowed`: entries of an `egress` list.
fn host(asked: &str, allowed: &str, extra: &str) -> Host {
    let config = format!("[plugins.allow.fixture-fetch]\negress = [{allowed}]\n{extra}");
    let host = Host::with(&[], &config);
    let manifest = format!("[grants]\negress = [{asked}]\n");
    fs::write(host.plugins().join("fixture-fetch.toml"), manifest).unwrap();
    host.deploy("fixture-fetch", &component("fixture-fetch"));
    host.has_status("/fetch", 405);
    host
}

fn fetch(host: &Host, wanted: Value) -> Value {
    let reply = host.server.api().post("/fetch", &wanted);
    assert_eq!(
        reply.status,
        200,
        "{}; the log:\n{}",
        reply.text(),
        host.log()
    );
    reply.json()
}

fn get(host: &Host, url: &str) -> Value {
    fetch(host, json!({ "method": "GET", "url": url }))
}

#[test]
fn a_request_goes_to_a_granted_origin_and_no_other() {
    let (granted, other) = (Outside::start(None), Outside::start(None));
    let (port, other_port) = (granted.port, other.port);
    let entry = format!(r#"{{ origin = "http://localhost:{port}", private = true }}"#);
    let host = host(&entry, &entry, "");

    let url = format!("http://LocalHost:{port}/a/b?c=d");
    let reply = fetch(&host, json!({ "method": "POST", "url": url, "body": "hi" }));
    assert_eq!(reply["status"], 200);
    let body = reply["body"].as_str().unwrap();
    assert!(body.starts_with("POST /a/b?c=d HTTP/1.1 host="), "{body}");
    assert!(body.ends_with("from=fetch body=hi"), "{body}");

    for url in [
        format!("http://localhost:{other_port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ] {
        let denied = get(&host, &url);
        assert!(
            denied["denied"].as_str().unwrap().contains("egress"),
            "{url}: {denied}"
        );
    }
    assert_eq!(
        get(&host, &format!("http://localhost:{port}@evil.test/"))["error"],
        "invalid"
    );
    assert_eq!((granted.connections(), other.connections()), (1, 0));
    host.logged(&["fixture-fetch", "no grant covers it"]);
}

#[test]
fn asking_is_not_enough_and_neither_is_allowing() {
    let outside = Outside::start(None);
    let entry = format!(
        r#"{{ origin = "http://localhost:{}", private = true }}"#,
        outside.port
    );
    let url = format!("http://localhost:{}/", outside.port);
    for (asked, allowed) in [(entry.as_str(), ""), ("", entry.as_str())] {
        let host = host(asked, allowed, "");
        assert!(get(&host, &url)["denied"].is_string());
    }
    assert_eq!(outside.connections(), 0);
}

#[test]
fn a_name_with_a_private_address_needs_a_private_grant() {
    let outside = Outside::start(None);
    let private = format!(
        r#"{{ origin = "http://localhost:{}", private = true }}"#,
        outside.port
    );
    let public = private.replace(", private = true", "");
    let host = host(&private, &public, "");
    let denied = get(&host, &format!("http://localhost:{}/", outside.port));
    assert!(
        denied["denied"].as_str().unwrap().contains("private"),
        "{denied}"
    );
    assert_eq!(outside.connections(), 0);
}

#[test]
fn answers_are_told_as_they_are_and_cut_by_the_budget() {
    let outside = Outside::start(None);
    let entry = format!(
        r#"{{ origin = "http://localhost:{}", private = true }}"#,
        outside.port
    );
    let budget = "[plugins.budgets.fixture-fetch]\nhost_call_mib = 1\n";
    let host = host(&entry, &entry, budget);
    let base = format!("http://localhost:{}", outside.port);

    // Not followed: where it leads was not granted.
    let redirect = get(&host, &format!("{base}/redirect"));
    assert_eq!(redirect["status"], 302);
    assert_eq!(redirect["location"], "http://169.254.169.254/");

    let stalled = json!({ "method": "GET", "url": format!("{base}/stall"), "timeout_ms": 200 });
    assert_eq!(fetch(&host, stalled)["error"], "unavailable");
    let silent = json!({ "method": "GET", "url": format!("{base}/silent"), "timeout_ms": 200 });
    assert_eq!(fetch(&host, silent)["error"], "timeout");
    assert_eq!(get(&host, &format!("{base}/cut"))["error"], "unavailable");
    assert_eq!(
        get(&host, &format!("{base}/endless"))["error"],
        "unavailable"
    );
    assert_eq!(get(&host, &format!("{base}/fine"))["status"], 200);
}

#[test]
fn certificates_are_checked() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let outside = Outside::start(Some(Arc::new(config)));
    let entry = format!(
        r#"{{ origin = "https://localhost:{}", private = true }}"#,
        outside.port
    );
    let url = format!("https://localhost:{}/", outside.port);

    let stranger = host(&entry, &entry, "");
    assert_eq!(get(&stranger, &url)["error"], "unavailable");

    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("authority.pem");
    fs::write(&authority, issued.cert.pem()).unwrap();
    let extra = format!(
        "[plugins]\negress_authorities = {:?}\n",
        authority.to_str().unwrap()
    );
    let trusting = host(&entry, &entry, &extra);
    let reply = get(&trusting, &url);
    assert_eq!(reply["status"], 200, "{reply}");
    // The name counts, too: the certificate is not for the address.
    assert!(get(&trusting, &url.replace("localhost", "127.0.0.1"))["denied"].is_string());
}
