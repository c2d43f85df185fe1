//! What was acknowledged is there after the process was killed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::support::{API_KEY, TestServer};

#[test]
fn a_kill_during_inserts_loses_no_acknowledged_document() {
    let mut dir = tempfile::tempdir().unwrap();
    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..5 {
        let server = TestServer::start_in(dir, &[], |command| {
            command.env("SERVER_SECRET", API_KEY);
        });
        check(&server, &acknowledged);
        let url = server.url.clone();
        dir = std::thread::scope(|scope| {
            for writer in 0..8 {
                let (url, acknowledged) = (&url, &acknowledged);
                scope.spawn(move || {
                    write_until_killed(url, &format!("{round}-{writer}"), acknowledged)
                });
            }
            std::thread::sleep(Duration::from_millis(400));
            server.kill()
        });
    }
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let acknowledged_count = acknowledged.lock().unwrap().len();
    assert!(
        acknowledged_count > 100,
        "only {acknowledged_count} writes were acknowledged"
    );
    check(&server, &acknowledged);
}

/// Inserts until the server is gone; notes what it has confirmed.
fn write_until_killed(url: &str, writer: &str, acknowledged: &Mutex<BTreeSet<String>>) {
    let http = reqwest::blocking::Client::new();
    for n in 0.. {
        let id = format!("{writer}-{n}");
        let sent = http
            .post(format!("{url}/service/storage/v1/kept/"))
            .header("x-api-key", API_KEY)
            .json(&json!({"document": {"_id": id, "filler": "x".repeat(200)}}))
            .send();
        match sent {
            Ok(reply) if reply.status() == 200 => acknowledged.lock().unwrap().insert(id),
            _ => return,
        };
    }
}

/// Every acknowledged document is there and whole.
#[track_caller]
fn check(server: &TestServer, acknowledged: &Mutex<BTreeSet<String>>) {
    let api = server.api();
    for id in acknowledged.lock().unwrap().iter() {
        let document = api.get(&format!("/service/storage/v1/kept/{id}/")).json();
        assert_eq!(document["filler"].as_str().map(str::len), Some(200), "{id}");
    }
}
