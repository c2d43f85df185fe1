//! The database itself is killed under load and started again: clients see 503
//! meanwhile, the server recovers by itself, and nothing that was acknowledged
//! is lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::support::{API_KEY, PATIENCE, TestServer};

const THINGS: &str = "/service/storage/v1/things/";
const WRITERS: usize = 8;
/// A cold Python on a loaded machine needs a while.
const START: Duration = Duration::from_secs(60);

/// What the writers have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    acknowledged: Mutex<BTreeSet<String>>,
    refused: AtomicUsize,
}

#[test]
fn a_database_that_is_killed_under_load_loses_nothing_acknowledged() {
    let Some(python) = std::env::var_os("COGLEX_TEST_PYTHON").map(PathBuf::from) else {
        eprintln!("skipped: COGLEX_TEST_PYTHON is not set; `cargo xtask test` sets it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let database = Database::start(&python, folder.path(), address);
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &[], |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env(
                "MONGODB_URI",
                format!("mongodb://{address}/?directConnection=true"),
            )
            .env("MONGODB_DATABASE", "restart");
    });
    let seen = Seen::default();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (url, seen) = (&server.url, &seen);
            scope.spawn(move || write(url, writer, seen));
        }
        // Whatever fails here, the writers end.
        let _stop = Stop(&seen.stop);
        until("writes are acknowledged", || count(&seen) > 3 * WRITERS);

        drop(database);
        let refused = seen.refused.load(Ordering::SeqCst);
        until("writers are refused", || {
            seen.refused.load(Ordering::SeqCst) > refused + WRITERS
        });
        let api = server.api();
        api.get("/readyz").problem(503, "unavailable");
        assert_eq!(api.get("/healthz").status, 200, "the process is well");

        let before = count(&seen);
        let _database = Database::start(&python, folder.path(), address);
        until("the server is ready again", || {
            api.get("/readyz").status == 200
        });
        until("writes are acknowledged again", || {
            count(&seen) > before + WRITERS
        });
        seen.stop.store(true, Ordering::SeqCst);
        // The database has to be there until the last writer is answered.
        check(&server, &seen);
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < 2 * PATIENCE, "not within time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn count(seen: &Seen) -> usize {
    seen.acknowledged.lock().unwrap().len()
}

/// Inserts one document after another, and notes which were acknowledged. While
/// the database is away the answer is 503, and nothing else.
fn write(url: &str, writer: usize, seen: &Seen) {
    let http = Client::builder().timeout(PATIENCE).build().unwrap();
    for n in 0.. {
        if seen.stop.load(Ordering::SeqCst) {
            return;
        }
        let id = format!("{writer}-{n}");
        let body = json!({"document": {"_id": id, "filler": "x".repeat(200)}});
        let reply = http
            .post(format!("{url}{THINGS}"))
            .header("x-api-key", API_KEY)
            .json(&body)
            .send()
            .unwrap();
        match reply.status().as_u16() {
            200 => drop(seen.acknowledged.lock().unwrap().insert(id)),
            503 => {
                let problem: Value = reply.json().unwrap();
                assert_eq!(problem["code"], "unavailable", "{problem}");
                seen.refused.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
            // The driver tries once more. A server that remembers what it did for
            // a session answers 200 then; this one has forgotten with the kill.
            409 => {}
            status => panic!("{status}: {}", reply.text().unwrap()),
        }
    }
}

/// Every acknowledged document is there and whole.
fn check(server: &TestServer, seen: &Seen) {
    let api = server.api();
    for id in seen.acknowledged.lock().unwrap().iter() {
        let document = api.get(&format!("{THINGS}{id}/")).json();
        assert_eq!(document["filler"].as_str().map(str::len), Some(200), "{id}");
    }
}

/// A server that is killed when dropped. It flushes each commit to the disk,
/// which is not its default.
struct Database(Child);

impl Database {
    fn start(python: &Path, folder: &Path, address: SocketAddr) -> Self {
        let log = folder.join("log");
        let out = File::create(&log).unwrap();
        let child = Command::new(python)
            .args([
                "-m",
                "secantus",
                "--host",
                "127.0.0.1",
                "--sync-on-commit",
                "--port",
            ])
            .arg(address.port().to_string())
            .arg("--storage-path")
            .arg(folder.join("data"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let mut database = Self(child);
        let start = Instant::now();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        // The log, too: another program could have taken the port.
        while !said().contains("listening on") || TcpStream::connect(address).is_err() {
            let ended = database.0.try_wait().unwrap().is_some();
            assert!(!ended && start.elapsed() < START, "it said:\n{}", said());
            thread::sleep(Duration::from_millis(50));
        }
        database
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
