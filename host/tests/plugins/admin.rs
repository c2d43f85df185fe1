//! What operators do to plugins: over the admin API, by `coglex plugin`, by
//! signals. What was deployed survives restarts; what fails changes nothing.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::{Host, component};
use crate::support::{ADMIN_KEY, API_KEY, PATIENCE, Reply, Send as _, coglex};

const NAME: &str = "versioned";

fn versions() -> (Vec<u8>, Vec<u8>) {
    (
        component("fixture-versioned"),
        component("fixture-versioned-2"),
    )
}

fn at(rest: &str) -> String {
    format!("/admin/v1/plugins/{rest}")
}

fn put(host: &Host, name: &str, wasm: &[u8]) -> Reply {
    let admin = host.server.admin();
    admin
        .request(Method::PUT, &at(&format!("{name}/")))
        .body(wasm.to_vec())
        .reply()
}

fn post(host: &Host, rest: &str) -> Reply {
    host.server.admin().request(Method::POST, &at(rest)).reply()
}

fn show(host: &Host, name: &str) -> Value {
    host.server.admin().get(&at(&format!("{name}/"))).json()
}

fn answer(host: &Host) -> String {
    host.server.anonymous().get("/versioned").text()
}

/// Waits until the plugin's status fulfils this.
#[track_caller]
fn wait_for(host: &Host, name: &str, fulfils: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let reply = host.server.admin().get(&at(&format!("{name}/")));
        if reply.status == 200 && fulfils(&reply.json()) {
            return reply.json();
        }
        assert!(start.elapsed() < PATIENCE, "{}", reply.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_deployed_component_serves_at_once_and_is_described() {
    let (first, _) = versions();
    let host = Host::with(&[], "");
    let deployed = put(&host, NAME, &first).json();
    assert_eq!(answer(&host), "1");
    assert_eq!(deployed["state"], "serving");
    assert_eq!(deployed["bytes"], first.len());
    assert_eq!(deployed["functions"][0]["name"], "fixture_version");
    let paths: Vec<_> = deployed["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["path"])
        .collect();
    assert!(paths.contains(&&json!("/versioned/only-1")), "{paths:?}");
    assert_eq!(deployed["versions"][0]["digest"], deployed["digest"]);
    assert_eq!(deployed["versions"][0]["serving"], true);
    assert_eq!(deployed["granted"], json!({}));
    assert_eq!(deployed["error"], Value::Null);
    assert!(deployed["budget"]["cpu_ms"].as_u64().unwrap() > 0);

    host.server.anonymous().get("/versioned");
    let seen = show(&host, NAME);
    assert!(seen["calls"].as_u64().unwrap() >= 2, "{seen}");
    let list = host.server.admin().get("/admin/v1/plugins").json();
    assert_eq!(
        (&list[0]["name"], &list[0]["digest"]),
        (&json!(NAME), &seen["digest"])
    );
    assert_eq!(list[0]["functions"], 1);
    host.server
        .admin()
        .get(&at("nobody/"))
        .problem(404, "not_found");
}

#[test]
fn versions_go_back_and_forth_and_survive_a_restart() {
    let (first, second) = versions();
    // The first one comes by hand: deploying over it keeps it, too.
    let host = Host::with(&[], "");
    host.deploy(NAME, &first);
    host.answers("/versioned", "1");
    assert_eq!(show(&host, NAME)["deployed"], Value::Null);
    assert_eq!(
        post(&host, "versioned/rollback/").problem(409, "no_such_version"),
        "no version of this plugin was deployed, so none is kept"
    );

    assert_eq!(
        put(&host, NAME, &second).json()["versions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(answer(&host), "2");
    let digests: Vec<String> = show(&host, NAME)["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["digest"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        post(&host, "versioned/rollback").json()["digest"],
        digests[0].as_str()
    );
    assert_eq!(answer(&host), "1");
    post(&host, "versioned/rollback/").problem(409, "no_such_version");
    let forth = format!("versioned/rollback/?version={}", &digests[1][..10]);
    assert_eq!(post(&host, &forth).json()["digest"], digests[1].as_str());
    assert_eq!(answer(&host), "2");
    post(&host, "versioned/rollback/?version=ffffffffff").problem(409, "no_such_version");
    post(&host, "versioned/rollback/").json();

    let host = Host::start(host.server.kill(), &[]);
    assert_eq!(answer(&host), "1");
    assert_eq!(show(&host, NAME)["versions"].as_array().unwrap().len(), 2);
    post(&host, &forth).json();
    assert_eq!(answer(&host), "2");
}

#[test]
fn what_was_deployed_comes_back_to_an_empty_folder_and_later_edits_are_kept() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    put(&host, NAME, &second).json();
    let dir = host.server.kill();
    let data = dir.path().join("coglex-data");
    // A store that was restored from a backup, on a new machine.
    fs::remove_dir_all(data.join("plugins")).unwrap();
    fs::remove_file(data.join("deployed.json")).unwrap();
    let host = Host::start(dir, &[]);
    assert_eq!(answer(&host), "2");
    // Somebody puts another file there: a restart does not undo that.
    host.deploy(NAME, &first);
    host.answers("/versioned", "1");
    let host = Host::start(host.server.kill(), &[]);
    assert_eq!(answer(&host), "1");
}

#[test]
fn a_component_that_cannot_serve_is_refused_with_the_reason_and_changes_nothing() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    put(&host, NAME, &first).json();
    let before = show(&host, NAME);
    for (name, wasm, reason) in [
        (NAME, b"not wasm".to_vec(), "not a WebAssembly component"),
        (NAME, Vec::new(), "not a WebAssembly component"),
        (NAME, b"\0asm\x01\0\0\0".to_vec(), "core WebAssembly module"),
        (
            NAME,
            first[..first.len() / 2].to_vec(),
            "cannot be compiled",
        ),
        (NAME, component("fixture-ungranted"), "imports"),
        // The same routes under another name.
        ("other", second, "already answered by"),
    ] {
        let why = put(&host, name, &wasm).problem(422, "plugin_refused");
        assert!(why.contains(reason), "{why}");
    }
    let after = show(&host, NAME);
    assert_eq!(
        (&after["digest"], &after["versions"], &after["error"]),
        (&before["digest"], &before["versions"], &Value::Null)
    );
    assert_eq!(answer(&host), "1");
    host.server
        .admin()
        .get(&at("other/"))
        .problem(404, "not_found");
    let files: Vec<_> = fs::read_dir(host.plugins())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(files, ["versioned.wasm"]);
}

#[test]
fn names_that_mean_something_elsewhere_are_refused() {
    let host = Host::with(&[], "");
    let (first, _) = versions();
    for name in [
        "..%2f..%2fevil",
        "..%00",
        "a%2fb",
        "UPPER",
        "a.b",
        "a%00b",
        "a%5cb",
        "a:b",
        "%C3%A4",
        &"x".repeat(65),
    ] {
        put(&host, name, &first).problem(400, "invalid_plugin_name");
        post(&host, &format!("{name}/enable/")).problem(404, "not_found");
        post(&host, &format!("{name}/rollback/")).problem(404, "not_found");
        host.server
            .admin()
            .get(&at(&format!("{name}/logs/")))
            .problem(404, "not_found");
        host.server
            .admin()
            .delete(&at(&format!("{name}/")))
            .problem(404, "not_found");
    }
    let data = host.server.dir.path().join("coglex-data");
    assert_eq!(fs::read_dir(data.join("plugins")).unwrap().count(), 0);
}

#[test]
fn a_body_is_not_read_without_the_key_nor_past_the_limit() {
    let host = Host::with(&[], "");
    // Announced, never sent: an answer comes only if nobody waits for the body.
    let refused = |headers: &str| {
        let mut stream = TcpStream::connect(host.server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        write!(
            stream,
            "PUT /admin/v1/plugins/a/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        )
        .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(refused("Content-Length: 1000000\r\n"), "401");
    assert_eq!(
        refused(&format!(
            "X-Admin-Key: {API_KEY}\r\nContent-Length: 1000000\r\n"
        )),
        "401"
    );
    let huge = 4u64 << 30;
    assert_eq!(
        refused(&format!(
            "X-Admin-Key: {ADMIN_KEY}\r\nContent-Length: {huge}\r\n"
        )),
        "413"
    );
    for (method, rest) in [
        (Method::GET, ""),
        (Method::GET, "a/"),
        (Method::PUT, "a/"),
        (Method::DELETE, "a/"),
        (Method::POST, "a/rollback/"),
        (Method::POST, "a/enable/"),
        (Method::POST, "a/disable/"),
        (Method::GET, "a/logs/"),
        (Method::GET, "a/logs/?follow=true"),
    ] {
        let reply = host.server.api().request(method, &at(rest)).reply();
        reply.problem(401, "admin_key_required");
    }
}

#[test]
fn a_disabled_plugin_stays_disabled_over_restarts_and_deployments() {
    let (first, second) = versions();
    let host = Host::with(&["fixture-echo"], "");
    put(&host, NAME, &first).json();
    assert_eq!(
        post(&host, "versioned/disable/").json()["state"],
        "disabled"
    );
    host.server
        .api()
        .get("/versioned")
        .problem(404, "not_found");
    let run = host
        .server
        .api()
        .post("/service/execution/v1/execute/fixture_version/", &json!({}));
    run.problem(404, "not_found");
    // Also one that was never deployed.
    assert_eq!(
        post(&host, "fixture-echo/disable/").json()["state"],
        "disabled"
    );

    let host = Host::start(host.server.kill(), &[]);
    host.has_status("/versioned", 404);
    let list = host.server.admin().get("/admin/v1/plugins/").json();
    let states: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|own| &own["state"])
        .collect();
    assert_eq!(states, ["disabled", "disabled"]);
    assert_eq!(put(&host, NAME, &second).json()["state"], "disabled");
    host.deploy(NAME, &first);
    std::thread::sleep(Duration::from_millis(300));
    host.has_status("/versioned", 404);
    assert_eq!(post(&host, "versioned/enable/").json()["state"], "serving");
    assert_eq!(answer(&host), "1");
    assert_eq!(
        post(&host, "fixture-echo/enable/").json()["state"],
        "serving"
    );
    post(&host, "nobody/disable/").problem(404, "not_found");
}

#[test]
fn a_removed_plugin_is_gone_with_its_versions() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    put(&host, NAME, &first).json();
    put(&host, NAME, &second).json();
    let remove = || host.server.admin().delete(&at("versioned/"));
    assert_eq!(remove().json(), json!(1));
    host.has_status("/versioned", 404);
    remove().problem(404, "not_found");
    host.server
        .admin()
        .get(&at("versioned/"))
        .problem(404, "not_found");
    assert_eq!(fs::read_dir(host.plugins()).unwrap().count(), 0);
    let host = Host::start(host.server.kill(), &[]);
    host.has_status("/versioned", 404);
    assert_eq!(
        put(&host, NAME, &first).json()["versions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(answer(&host), "1");
}

#[test]
fn deploying_and_rolling_back_under_load_fails_no_request() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    put(&host, NAME, &first).json();
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
        for round in 0..10 {
            put(&host, NAME, if round % 2 == 0 { &second } else { &first }).json();
            post(&host, "versioned/rollback/").json();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(served.load(Ordering::Relaxed) > 100);
}

#[test]
fn the_log_of_a_plugin_can_be_read_and_followed() {
    let (first, second) = versions();
    let host = Host::with(&["fixture-hostile"], "");
    put(&host, NAME, &first).json();
    let logs = |rest: &str| {
        host.server
            .admin()
            .get(&at(&format!("versioned/logs/{rest}")))
    };
    let lines = logs("").json();
    let messages: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        ["plugin loaded", "plugin deployed by the operator"]
    );
    assert_eq!(lines[0]["level"], "info");
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(logs("?lines=1").json().as_array().unwrap().len(), 1);
    logs("?lines=many").problem(400, "invalid_input");

    let request = host
        .server
        .admin()
        .request(Method::GET, &at("versioned/logs/?follow=true&lines=1"));
    let response = request.send().unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = BufReader::new(response)
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.starts_with("data:"));
    assert!(events.next().unwrap().contains("deployed by the operator"));
    put(&host, NAME, &second).json();
    assert!(events.next().unwrap().contains("plugin loaded"));
}

#[test]
fn a_server_that_ends_does_not_wait_for_those_who_follow_a_log() {
    let mut host = Host::with(&["fixture-echo"], "");
    let request = host
        .server
        .admin()
        .request(Method::GET, &at("fixture-echo/logs/?follow=true"));
    let following = request.send().unwrap();
    host.server.terminate();
    let start = Instant::now();
    assert!(host.server.wait().success());
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop(following);
}

#[test]
fn a_hang_up_takes_over_grants_settings_and_log_filter_and_says_what_has_to_wait() {
    let config = |extra: &str| format!("[log]\nfilter = \"info\"\n{extra}");
    let host = Host::with(&["myapi"], &config(""));
    assert_eq!(show(&host, "myapi")["state"], "failed");
    let path = host.server.dir.path().join("coglex.toml");
    let hang_up = || {
        let id = host.server.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &id])
                .status()
                .unwrap()
                .success()
        );
    };
    let allow = "[plugins.allow.myapi]\nstorage = [{ collection = \"*\", verbs = [\"read\", \"insert\", \"update\", \"delete\"] }]\n";
    fs::write(
        &path,
        config(&format!(
            "{allow}[plugins.budgets.myapi]\ncpu_ms = 77\n[server]\nbody_limit = \"1 MiB\"\n"
        )),
    )
    .unwrap();
    hang_up();
    let status = wait_for(&host, "myapi", |status| status["state"] == "serving");
    assert_eq!(status["budget"]["cpu_ms"], 77);
    assert_eq!(status["refused"], json!([]));
    host.logged(&["server.body_limit has changed", "next start"]);

    // A configuration that cannot be read changes nothing.
    fs::write(&path, "[server]\nprot = 1\n").unwrap();
    hang_up();
    host.logged(&["stays as it was", "server.prot"]);
    assert_eq!(show(&host, "myapi")["budget"]["cpu_ms"], 77);

    fs::write(&path, config(&format!("{allow}[plugins.max_budget]\n"))).unwrap();
    hang_up();
    wait_for(&host, "myapi", |status| status["budget"]["cpu_ms"] != 77);
    assert_eq!(show(&host, "myapi")["state"], "serving");
    assert!(!host.log().contains("coglex::access"));
    let louder = config(allow).replace("info", "info,coglex::access=debug");
    fs::write(&path, louder).unwrap();
    hang_up();
    let start = Instant::now();
    while !host.log().contains("coglex::access") && start.elapsed() < PATIENCE {
        host.server.anonymous().get("/healthz");
    }
    host.logged(&["coglex::access", "answered"]);
    // Grants can be taken away, too: then it cannot be linked, and what was
    // loaded before must not go on with what it had.
    fs::write(&path, config("")).unwrap();
    hang_up();
    wait_for(&host, "myapi", |status| status["state"] == "failed");
}

#[test]
fn what_crashes_at_load_again_and_again_is_quarantined_until_its_file_changes() {
    let (first, _) = versions();
    let host = Host::with(&[], "");
    host.deploy(NAME, &component("fixture-crashing"));
    let status = wait_for(&host, NAME, |status| status["state"] == "quarantined");
    assert!(
        status["error"]["reason"]
            .as_str()
            .unwrap()
            .contains("describe"),
        "{status}"
    );
    assert!(status["error"]["times"].as_u64().unwrap() >= 3, "{status}");
    assert!(status["error"]["retry_in_ms"].is_u64(), "{status}");
    let list = host.server.admin().get("/admin/v1/plugins/").json();
    assert_eq!(list[0]["state"], "quarantined");
    host.deploy(NAME, &first);
    host.answers("/versioned", "1");
    assert_eq!(show(&host, NAME)["error"], Value::Null);
    // A version that crashes cannot replace one that does not.
    put(&host, NAME, &component("fixture-crashing")).problem(422, "plugin_refused");
    assert_eq!(answer(&host), "1");
}

#[test]
fn every_host_of_a_database_gets_what_was_deployed_on_one() {
    let Ok(uri) = std::env::var("COGLEX_TEST_MONGODB_URI") else {
        eprintln!("skipped: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        return;
    };
    let database = format!("coglex_deploy_{}", std::process::id());
    let join = || {
        let flags = ["--mongodb-uri", &uri, "--mongodb-database", &database];
        Host::flags(&[], "", &flags)
    };
    let (first, second) = versions();
    let (one, two) = (join(), join());
    put(&one, NAME, &first).json();
    two.answers("/versioned", "1");
    put(&two, NAME, &second).json();
    assert_eq!(show(&two, NAME)["versions"].as_array().unwrap().len(), 2);
    one.answers("/versioned", "2");
    assert_eq!(show(&one, NAME)["versions"], show(&two, NAME)["versions"]);
    post(&one, "versioned/rollback/").json();
    two.answers("/versioned", "1");

    // Who joins later has it from the start.
    let three = join();
    assert_eq!(answer(&three), "1");
    // A file that somebody puts into one host's folder is that host's.
    three.deploy(NAME, &second);
    three.answers("/versioned", "2");
    post(&two, "versioned/disable/").json();
    for host in [&one, &two, &three] {
        host.has_status("/versioned", 404);
    }
    post(&one, "versioned/enable/").json();
    two.answers("/versioned", "1");
    three.answers("/versioned", "2");
    two.server.admin().delete(&at("versioned/")).json();
    for host in [&one, &two, &three] {
        host.has_status("/versioned", 404);
        assert_eq!(fs::read_dir(host.plugins()).unwrap().count(), 0);
    }
}

#[test]
fn a_component_with_an_interpreter_in_it_is_not_too_large() {
    // A custom section at its end makes it as large as Python's are, and nothing
    // else (WebAssembly's core specification, section 5.5.3).
    let padded = |mut wasm: Vec<u8>, fill: u8| {
        let content = 20 << 20;
        let mut size = content + 2;
        wasm.push(0);
        while size >= 0x80 {
            wasm.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        wasm.extend([size as u8, 1, b'x']);
        wasm.resize(wasm.len() + content, fill);
        wasm
    };
    let (first, second) = versions();
    let host = Host::with(&[], "");
    let large = padded(first, 7);
    assert_eq!(put(&host, NAME, &large).json()["bytes"], large.len());
    put(&host, NAME, &padded(second, 8)).json();
    assert_eq!(answer(&host), "2");
    post(&host, "versioned/rollback/").json();
    assert_eq!(answer(&host), "1");
    let kept = fs::read(host.plugins().join("versioned.wasm")).unwrap();
    assert!(kept == large);
}

#[test]
fn a_plugin_gets_no_more_than_the_ceiling_of_what_it_asks_for() {
    let ask = "[budget]\ncpu_ms = 60000\nmemory_mib = 1024\nhost_calls = 7\n";
    let budget = |config: &str| {
        let host = Host::with(&[], config);
        fs::write(host.plugins().join("versioned.toml"), ask).unwrap();
        put(&host, NAME, &versions().0).json()["budget"].clone()
    };
    // Without a ceiling the default budget is one.
    let plain = budget("");
    assert_eq!(
        (&plain["cpu_ms"], &plain["memory"]),
        (&json!(10_000), &json!(128 << 20))
    );
    assert_eq!(plain["host_calls"], 7);
    let raised = budget("[plugins.max_budget]\ncpu_ms = 20000\nmemory_mib = 256\n");
    assert_eq!(
        (&raised["cpu_ms"], &raised["memory"]),
        (&json!(20_000), &json!(256 << 20))
    );
    assert_eq!(raised["wall_ms"], plain["wall_ms"]);
}

/// `coglex plugin …` in a folder, against a server.
fn cli(host: &Host, dir: &Path, arguments: &[&str]) -> Output {
    coglex(dir)
        .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
        .arg("plugin")
        .args(arguments)
        .args(["--server", &host.server.url])
        .output()
        .unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(err.lines().count(), 1, "{err}");
    err
}

#[test]
fn the_command_line_does_it_all() {
    let (first, second) = versions();
    let host = Host::with(&[], "");
    let dir = tempfile::tempdir().unwrap();
    let cli = |arguments: &[&str]| cli(&host, dir.path(), arguments);
    fs::write(dir.path().join("versioned.wasm"), first).unwrap();
    fs::write(dir.path().join("second.wasm"), second).unwrap();
    assert_eq!(said(&cli(&["list"])), "there are no plugins\n");
    assert!(
        said(&cli(&["deploy", "versioned.wasm"])).starts_with("versioned is deployed: serving")
    );
    assert_eq!(answer(&host), "1");
    said(&cli(&["deploy", "second.wasm", "--name", "versioned"]));
    assert_eq!(answer(&host), "2");
    let list = said(&cli(&["list"]));
    assert!(
        list.starts_with("NAME") && list.contains("serving"),
        "{list}"
    );
    let json: Value = serde_json::from_str(&said(&cli(&["list", "--json"]))).unwrap();
    assert_eq!(json[0]["name"], NAME);
    let shown = said(&cli(&["inspect", NAME]));
    for part in [
        "/versioned/only-2",
        "fixture_version",
        "asks for",
        "budget of a call",
        "VERSION",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    said(&cli(&["rollback", NAME]));
    assert_eq!(answer(&host), "1");
    assert!(complaint(&cli(&["rollback", NAME])).contains("no older version"));
    said(&cli(&["disable", NAME]));
    host.has_status("/versioned", 404);
    said(&cli(&["enable", NAME]));
    assert_eq!(answer(&host), "1");
    let log = said(&cli(&["logs", NAME, "-n", "2"]));
    assert_eq!(log.lines().count(), 2, "{log}");
    fs::write(dir.path().join("bad.wasm"), "x").unwrap();
    assert!(complaint(&cli(&["deploy", "bad.wasm"])).contains("not a WebAssembly component"));
    assert!(complaint(&cli(&["deploy", "Bad Name.wasm"])).contains("--name"));
    assert_eq!(said(&cli(&["remove", NAME])), "versioned is removed\n");
    assert!(complaint(&cli(&["inspect", NAME])).contains("no plugin of this name"));
}

#[test]
fn the_command_line_follows_a_log() {
    let host = Host::with(&["fixture-echo"], "");
    let dir = tempfile::tempdir().unwrap();
    let mut child = coglex(dir.path())
        .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
        .args([
            "plugin",
            "logs",
            "fixture-echo",
            "--follow",
            "--server",
            &host.server.url,
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("plugin loaded"));
    post(&host, "fixture-echo/disable/").json();
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .contains("switched by the operator")
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_key_is_found_where_the_server_keeps_it_or_asked_for() {
    let host = Host::with(&[], "");
    let dir = tempfile::tempdir().unwrap();
    let list = |key: Option<&str>| {
        let mut command = coglex(dir.path());
        if let Some(key) = key {
            command.env("COGLEX_ADMIN_KEY", key);
        }
        command
            .args(["plugin", "list", "--server", &host.server.url])
            .output()
            .unwrap()
    };
    assert!(complaint(&list(None)).contains("COGLEX_ADMIN_KEY"));
    assert!(complaint(&list(Some("a-wrong-admin-key"))).contains("another admin key"));
    fs::create_dir(dir.path().join("coglex-data")).unwrap();
    fs::write(dir.path().join("coglex-data/admin-key"), ADMIN_KEY).unwrap();
    said(&list(None));
    let nobody = coglex(dir.path())
        .args(["plugin", "list", "--server", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(complaint(&nobody).contains("does the server run?"));
}

#[test]
fn a_component_is_inspected_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("myapi.wasm"), component("myapi")).unwrap();
    let inspect = |arguments: &[&str]| {
        let output = coglex(dir.path())
            .args(["plugin", "inspect"])
            .args(arguments)
            .output();
        output.unwrap()
    };
    let denied: Value = serde_json::from_str(&said(&inspect(&["myapi.wasm", "--json"]))).unwrap();
    assert!(
        denied["error"]
            .as_str()
            .unwrap()
            .contains("the operator allows none"),
        "{denied}"
    );
    assert_eq!(denied["granted"], json!({}));
    assert!(!denied["refused"].as_array().unwrap().is_empty());
    assert!(
        !denied["routes"].as_array().unwrap().is_empty(),
        "told all the same"
    );
    let imports = denied["imports"].as_array().unwrap();
    assert!(
        imports
            .iter()
            .any(|import| import.as_str().unwrap().starts_with("coglex:storage/"))
    );
    assert!(said(&inspect(&["myapi.wasm"])).contains("it would not be served"));

    let allow = "storage = [{ collection = \"*\", verbs = [\"read\", \"insert\", \"update\", \"delete\"] }]";
    fs::write(
        dir.path().join("coglex.toml"),
        format!("[plugins.allow.myapi]\n{allow}\n"),
    )
    .unwrap();
    let shown = said(&inspect(&["myapi.wasm"]));
    assert!(
        shown.contains("it would be served") && !shown.contains("refused"),
        "{shown}"
    );
    // Another name has other grants.
    assert!(said(&inspect(&["./myapi.wasm", "--name", "other"])).contains("would not be served"));
    fs::write(dir.path().join("bad.wasm"), "x").unwrap();
    assert!(complaint(&inspect(&["bad.wasm"])).contains("not a WebAssembly component"));
    assert!(complaint(&inspect(&["missing.wasm"])).contains("cannot read"));
    assert!(
        !dir.path().join("coglex-data").exists(),
        "nothing is left behind"
    );
}
