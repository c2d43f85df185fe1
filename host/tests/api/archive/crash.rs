//! A server that is killed while files are uploaded has whole files or none.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::Value;

use super::{ROOT, bytes, download, files_below, form, list, multipart, sha256};
use crate::support::{API_KEY, PATIENCE, TestServer, coglex};

const WRITERS: u64 = 8;

/// `COGLEX_CRASH_ROUNDS` for more than three rounds.
#[test]
fn a_kill_during_uploads_leaves_whole_files_and_nothing_else() {
    let rounds = std::env::var("COGLEX_CRASH_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let mut dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    let mut left = 0;
    for round in 0..rounds {
        let server = start(dir);
        let url = server.url.clone();
        let (killed, told) = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let url = &url;
                    scope.spawn(move || upload_until_killed(url, round * 1000 + writer * 100))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(250 + round % 7 * 40));
            let killed = server.kill();
            let told: Vec<_> = writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect();
            (killed, told)
        });
        acknowledged.extend(told);
        let folder = killed.path().join("coglex-data/files");
        let blobs = files_below(&folder).len();
        check(killed.path());
        let server = start(killed);
        let api = server.api();
        let listed = list(&api, "files");
        settled(&folder, listed.len());
        left += blobs - listed.len();
        let mut there = BTreeMap::new();
        for file in &listed {
            let reference = file["_id"].as_str().unwrap();
            there.insert(reference.to_owned(), file);
        }
        for (reference, (seed, length)) in &acknowledged {
            let file = there
                .get(reference)
                .unwrap_or_else(|| panic!("{reference} is lost"));
            assert_eq!(file["_sha256"], sha256(&bytes(*seed, *length)));
        }
        // Acknowledged or not: what is there is whole.
        for file in listed.iter().rev().take(40) {
            whole(&api, file);
        }
        dir = server.kill();
    }
    assert!(
        acknowledged.len() as u64 >= rounds,
        "only {} uploads were acknowledged in {rounds} rounds",
        acknowledged.len()
    );
    println!(
        "{rounds} kills, {} acknowledged uploads, none lost; {left} left-overs, all removed",
        acknowledged.len()
    );
}

fn start(dir: tempfile::TempDir) -> TestServer {
    TestServer::start_in(dir, &["--storage-page-limit", "100000"], |command| {
        command.env("SERVER_SECRET", API_KEY);
    })
}

/// `coglex check` finds the store sound, and counts what is left.
fn check(dir: &Path) {
    let checked = coglex(dir).arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{text}{errors}");
}

fn whole(api: &crate::support::Client, file: &Value) {
    let got = download(api, "files", file["_id"].as_str().unwrap());
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(file["_filesize"], got.body.len());
    assert_eq!(file["_sha256"], sha256(&got.body));
}

/// The sweep of the start has removed all blobs that no file has.
fn settled(folder: &Path, files: usize) {
    let start = std::time::Instant::now();
    loop {
        let blobs = files_below(folder).len();
        if blobs == files {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{blobs} blobs of {files} files");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends files until the server is gone; those that were acknowledged, by reference.
fn upload_until_killed(url: &str, first: u64) -> Vec<(String, (u64, usize))> {
    let http = Client::builder().timeout(PATIENCE).build().unwrap();
    let mut told = Vec::new();
    for n in 0..100 {
        let seed = first + n;
        // None is empty: those have no blob.
        let length = 1 + usize::try_from(seed * 7919 % 3_000_000).unwrap();
        let request = http
            .post(format!("{url}{ROOT}/upload/files/"))
            .header("X-API-Key", API_KEY);
        let body = form("a", "a/b", &bytes(seed, length));
        match multipart(request, body).send() {
            Ok(response) if response.status() == 200 => match response.json::<Value>() {
                Ok(reference) => {
                    told.push((reference.as_str().unwrap().to_owned(), (seed, length)));
                }
                Err(_) => break,
            },
            Ok(other) => panic!("{}", other.status()),
            Err(_) => break,
        }
    }
    told
}

#[test]
fn check_counts_and_removes_what_uploads_have_left() {
    let server = TestServer::start();
    let api = server.api();
    super::upload(&api, "files", "kept", "a/b", b"kept");
    let gone = super::upload(&api, "files", "gone", "a/b", b"gone");
    api.delete(&format!("/service/storage/v1/files/{gone}/"))
        .json();
    let dir = server.kill();
    let folder = dir.path().join("coglex-data/files");
    // What somebody else has put there stays.
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    let run = |arguments: &[&str]| {
        let ran = coglex(dir.path()).args(arguments).output().unwrap();
        assert!(ran.status.success());
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(files_below(&folder).len(), 3);
    let told = run(&["check"]);
    assert!(told.contains("2 blobs, 1 left-over of uploads"), "{told}");
    assert_eq!(files_below(&folder).len(), 3);
    let told = run(&["check", "--repair"]);
    assert!(told.contains("1 left-over of uploads removed"), "{told}");
    assert_eq!(files_below(&folder).len(), 2);
    let told = run(&["check"]);
    assert!(told.contains("1 blob, no left-overs"), "{told}");
    let server = start(dir);
    assert_eq!(list(&server.api(), "files").len(), 1);
}
