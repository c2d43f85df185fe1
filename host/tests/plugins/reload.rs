//! Replacing components under a running server.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::guests::{Host, component};

const NAME: &str = "fixture-versioned";

fn versions() -> (Vec<u8>, Vec<u8>) {
    (component(NAME), component("fixture-versioned-2"))
}

#[test]
fn a_new_component_serves_the_next_request_with_its_new_routes_and_functions() {
    let (_, second) = versions();
    let host = Host::with(&[NAME], "");
    let api = host.server.api();
    assert_eq!(api.get("/versioned").text(), "1");
    assert_eq!(api.get("/versioned/only-1/").text(), "1");
    api.get("/versioned/only-2").problem(404, "not_found");

    host.deploy(NAME, &second);
    host.answers("/versioned", "2");
    assert_eq!(api.get("/versioned/only-2").text(), "2");
    api.get("/versioned/only-1").problem(404, "not_found");
    let run = api.post("/service/execution/v1/execute/fixture_version/", &json!({}));
    assert_eq!(run.json(), json!("2"));
}

#[test]
fn a_plugin_that_is_added_appears_and_one_that_is_removed_is_gone() {
    let host = Host::with(&[], "");
    host.has_status("/versioned", 404);
    host.deploy(NAME, &versions().0);
    host.answers("/versioned", "1");
    host.remove(NAME);
    host.has_status("/versioned", 404);
    let run = host
        .server
        .api()
        .post("/service/execution/v1/execute/fixture_version/", &json!({}));
    run.problem(404, "not_found");
}

#[test]
fn a_broken_component_keeps_the_last_good_one_and_the_log_says_why() {
    let (first, second) = versions();
    let host = Host::with(&[NAME], "");
    for (broken, why) in [
        (b"not wasm".to_vec(), "not a WebAssembly component"),
        (first[..first.len() / 2].to_vec(), "plugin not loaded"),
        (b"\0asm\x01\0\0\0".to_vec(), "core WebAssembly module"),
    ] {
        host.deploy(NAME, &broken);
        let line = host.logged(&["plugin not loaded", NAME, why]);
        assert!(line.contains("\"kept\":true"), "{line}");
        assert_eq!(host.server.api().get("/versioned").text(), "1");
    }
    host.deploy(NAME, &second);
    host.answers("/versioned", "2");
}

#[test]
fn a_component_that_is_written_slowly_and_in_place_is_loaded_once_it_is_whole() {
    let (_, second) = versions();
    let host = Host::with(&[NAME], "");
    let path = host.plugins().join(format!("{NAME}.wasm"));
    let mut file = fs::File::create(path).unwrap();
    for chunk in second.chunks(second.len() / 4 + 1) {
        std::io::Write::write_all(&mut file, chunk).unwrap();
        file.sync_all().unwrap();
        assert_ne!(host.server.api().get("/versioned").status, 404);
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(file);
    host.answers("/versioned", "2");
}

#[test]
fn a_request_in_flight_finishes_on_the_code_that_it_started_on() {
    let (_, second) = versions();
    let host = Host::with(&[NAME], "");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| host.server.api().get("/versioned/slow"));
        // It sleeps for half a second; the reload takes less.
        std::thread::sleep(Duration::from_millis(100));
        host.deploy(NAME, &second);
        let slow = slow.join().unwrap();
        assert_eq!((slow.status, slow.text().as_str()), (200, "1"));
    });
    host.answers("/versioned", "2");
}

#[test]
fn reloads_under_load_fail_no_request() {
    let (first, second) = versions();
    let host = Host::with(&[NAME], "");
    let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let client = host.server.anonymous();
                    while !done.load(Ordering::Relaxed) {
                        let reply = client.get("/versioned");
                        assert_eq!(reply.status, 200, "{}", reply.text());
                        assert!(["1", "2"].contains(&reply.text().as_str()));
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for round in 0..20 {
            let (bytes, version) = if round % 2 == 0 {
                (&second, "2")
            } else {
                (&first, "1")
            };
            host.deploy(NAME, bytes);
            host.answers("/versioned", version);
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(served.load(Ordering::Relaxed) > 100);
}

#[test]
fn what_was_compiled_once_is_taken_from_the_cache_by_the_next_start() {
    let host = Host::with(&[NAME], "");
    // Those with a dot are being written.
    let kept = |dir: &Path| -> Vec<(OsString, SystemTime)> {
        let files = fs::read_dir(dir.join("coglex-data/cache")).unwrap();
        files
            .map(|file| file.unwrap())
            .filter(|file| !file.file_name().to_string_lossy().starts_with('.'))
            .map(|file| {
                (
                    file.file_name(),
                    file.metadata().unwrap().created().unwrap(),
                )
            })
            .collect()
    };
    // What is kept is compiled well, some seconds after it serves.
    let begun = Instant::now();
    while kept(host.server.dir.path()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is kept");
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = kept(host.server.dir.path());
    let host = Host::start(host.server.kill(), &[]);
    assert_eq!(host.server.api().get("/versioned").text(), "1");
    // Longer than it would take to be compiled and kept once more.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(kept(host.server.dir.path()), before);
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_followed_to_another_release_and_to_nothing() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    let releases = tempfile::tempdir().unwrap();
    for (name, bytes) in [("one", &first), ("two", &second)] {
        fs::write(releases.path().join(name), bytes).unwrap();
    }
    // As release tools do: a new link, renamed over the old one.
    let link = |release: &str| {
        let aside = host.plugins().join(".link");
        std::os::unix::fs::symlink(releases.path().join(release), &aside).unwrap();
        fs::rename(aside, host.plugins().join(format!("{NAME}.wasm"))).unwrap();
    };
    link("one");
    host.answers("/versioned", "1");
    link("two");
    host.answers("/versioned", "2");
    // The target itself is replaced: no event of the folder tells that.
    let aside = releases.path().join("new");
    fs::write(&aside, &first).unwrap();
    fs::rename(aside, releases.path().join("two")).unwrap();
    host.answers("/versioned", "1");
    link("nowhere");
    host.has_status("/versioned", 404);
}

#[test]
fn an_editors_save_with_a_backup_and_a_swap_file_is_one_change() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    host.deploy(NAME, &first);
    host.answers("/versioned", "1");
    // Files beside that are no plugins, the old one moved away, the new one
    // written in its place, the backup deleted.
    let path = host.plugins().join(format!("{NAME}.wasm"));
    let backup = host.plugins().join(format!("{NAME}.wasm~"));
    let swap = host.plugins().join(format!(".{NAME}.wasm.swp"));
    fs::write(&swap, b"notes of the editor").unwrap();
    fs::rename(&path, &backup).unwrap();
    fs::write(&path, &second).unwrap();
    fs::remove_file(&backup).unwrap();
    fs::remove_file(&swap).unwrap();
    host.answers("/versioned", "2");
    assert!(!host.log().contains("plugin not loaded"), "{}", host.log());
}

#[test]
fn what_is_no_file_is_no_plugin() {
    let host = Host::with(&["fixture-echo"], "");
    fs::create_dir(host.plugins().join("folder.wasm")).unwrap();
    fs::write(host.plugins().join("README.md"), "not ours").unwrap();
    fs::write(host.plugins().join("Bad Name.wasm"), versions().0).unwrap();
    host.logged(&["plugin not loaded", "Bad Name", "lower-case"]);
    assert!(!host.log().contains("\"folder\""), "{}", host.log());
    host.remove("fixture-echo");
    host.logged(&["plugin unloaded", "fixture-echo"]);
}
