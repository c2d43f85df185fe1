//! What was acknowledged is there after the server was killed, nothing is half
//! there, and `coglex check` finds the store sound.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{API_KEY, PATIENCE, TestServer, coglex, with_query};

const KEPT: &str = "/service/storage/v1/kept/";
const WRITERS: u32 = 32;

/// A writer's documents by `_id`.
type Model = BTreeMap<String, Value>;

/// `COGLEX_CRASH_ROUNDS` for more than three rounds.
#[test]
fn a_kill_during_writes_loses_nothing_that_was_acknowledged() {
    let rounds = std::env::var("COGLEX_CRASH_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let mut dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    // What is known of each round and writer: so many steps were acknowledged.
    let mut known = BTreeMap::new();
    for round in 0..rounds {
        let server = start(dir);
        if round == 0 {
            for index in [
                json!({"keys": {"batch": 1}}),
                json!({"keys": {"serial": 1}, "unique": true}),
            ] {
                server.api().post(&format!("{KEPT}indexes/"), &index).json();
            }
        }
        let url = server.url.clone();
        let (told, killed) = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let url = &url;
                        move || write_until_killed(url, round, writer)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(300 + u64::from(round % 5) * 70));
            let killed = server.kill();
            let told: Vec<u32> = writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect();
            (told, killed)
        });
        dir = killed;
        check(dir.path());
        acknowledged += told.iter().sum::<u32>();
        let server = start(dir);
        for (writer, told) in (0..).zip(told) {
            let steps = settle(&server, round, writer, told);
            known.insert((round, writer), steps);
        }
        for (&(round, writer), &steps) in &known {
            assert_eq!(found(&server, round, writer), model(round, writer, steps));
        }
        dir = server.kill();
    }
    assert!(
        acknowledged > 30 * rounds,
        "only {acknowledged} writes were acknowledged in {rounds} rounds"
    );
    println!("{rounds} kills, {acknowledged} acknowledged writes, none lost");
}

fn start(dir: tempfile::TempDir) -> TestServer {
    TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    })
}

/// `coglex check` reads every page, document and index.
#[track_caller]
fn check(dir: &Path) {
    let checked = coglex(dir).arg("check").output().unwrap();
    assert!(
        checked.status.success(),
        "{}{}",
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}

fn document(round: u32, writer: u32, n: u32, part: u32) -> Value {
    let id = format!("{round}-{writer}-{n}-{part}");
    json!({
        "_id": id, "serial": id, "batch": format!("{round}-{writer}-{n}"), "round": round,
        "writer": writer, "version": 0, "filler": "x".repeat((n * 37 % 900) as usize),
    })
}

/// The step `n` of a writer, as a request.
fn request(http: &Client, url: &str, round: u32, writer: u32, n: u32) -> RequestBuilder {
    let kept = format!("{url}{KEPT}");
    match n % 4 {
        0 => http
            .post(kept)
            .json(&json!({"document": document(round, writer, n, 0)})),
        1 => {
            let parts: Vec<Value> = (0..3)
                .map(|part| document(round, writer, n, part))
                .collect();
            http.post(kept).json(&json!({ "documents": parts }))
        }
        2 => {
            let query = json!({"batch": format!("{round}-{writer}-{}", n - 1)}).to_string();
            http.patch(with_query(&kept, &[("query", &query)]))
                .json(&json!({"document": {"$inc": {"version": 1}}}))
        }
        _ => http.delete(format!("{kept}{round}-{writer}-{}-0/", n - 3)),
    }
    .header("x-api-key", API_KEY)
}

/// What `steps` steps of a writer come to.
fn model(round: u32, writer: u32, steps: u32) -> Model {
    let mut model = Model::new();
    let insert = |model: &mut Model, n, part| {
        let document = document(round, writer, n, part);
        model.insert(document["_id"].as_str().unwrap().to_owned(), document);
    };
    for n in 0..steps {
        match n % 4 {
            0 => insert(&mut model, n, 0),
            1 => (0..3).for_each(|part| insert(&mut model, n, part)),
            2 => {
                for part in 0..3 {
                    let id = format!("{round}-{writer}-{}-{part}", n - 1);
                    model.get_mut(&id).unwrap()["version"] = json!(1);
                }
            }
            _ => drop(model.remove(&format!("{round}-{writer}-{}-0", n - 3))),
        }
    }
    model
}

/// Writes until the server is gone; answers how many steps it has confirmed.
fn write_until_killed(url: &str, round: u32, writer: u32) -> u32 {
    let http = Client::builder().timeout(PATIENCE).build().unwrap();
    for n in 0.. {
        match request(&http, url, round, writer, n).send() {
            Ok(reply) => assert_eq!(reply.status(), 200, "{}", reply.text().unwrap()),
            Err(_) => return n,
        }
    }
    0
}

fn found(server: &TestServer, round: u32, writer: u32) -> Model {
    let query = json!({"round": round, "writer": writer}).to_string();
    let params = [
        ("query", query.as_str()),
        ("many", "true"),
        ("limit", "1000"),
    ];
    let documents = server.api().find(KEPT, &params).json();
    let documents = documents.as_array().unwrap();
    assert!(documents.len() < 1000, "more than one page");
    documents
        .iter()
        .map(|document| {
            (
                document["_id"].as_str().unwrap().to_owned(),
                document.clone(),
            )
        })
        .collect()
}

/// How many steps have happened: those that were confirmed, and perhaps the one
/// that was under way, whole.
#[track_caller]
fn settle(server: &TestServer, round: u32, writer: u32, told: u32) -> u32 {
    let found = found(server, round, writer);
    let steps = [told, told + 1];
    let happened = steps
        .into_iter()
        .find(|steps| model(round, writer, *steps) == found);
    happened.unwrap_or_else(|| {
        panic!("round {round}: writer {writer} was told of {told} steps, and there are {found:?}")
    })
}
