//! Passwords: what makes one good, how one is changed, and what becomes of those who
//! guess; asked of the real binary.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth_tokens::{ann, session};
use crate::support::{API_KEY, Client, Reply, Send as _, TestServer};

const SIGN_UP: &str = "/service/auth/v1/signup/users/";
const SIGN_IN: &str = "/service/auth/v1/signin/users/";
const PASSWORD: &str = "/service/auth/v1/password/users/";

fn credentials(key: &str, password: &str) -> Value {
    json!({ "_key": key, "_password": password })
}

/// A sign-in from another address, as a proxy tells it.
fn from(api: &Client, address: &str, key: &str, password: &str) -> Reply {
    let request = api.request(Method::POST, SIGN_IN);
    let request = request.header("X-Forwarded-For", address);
    request.json(&credentials(key, password)).reply()
}

#[test]
fn new_passwords_are_long_and_uncommon() {
    let server = TestServer::start();
    let api = server.api();
    for (password, says) in [
        ("short", "at least 8"),
        ("Password123", "many people"),
        ("ann@example.org", "`_key`"),
        (&"x".repeat(257), "at most 256"),
    ] {
        let refused = api.post(SIGN_UP, &credentials("ann@example.org", password));
        let detail = refused.problem(400, "invalid_input");
        assert!(detail.contains(says), "{detail}");
    }
    api.post(SIGN_UP, &credentials("ann@example.org", "correct horse"))
        .json();
    let body = json!({ "_key": "ann@example.org", "document": { "_password": "iloveyou1" } });
    let detail = api
        .patch("/service/auth/v1/refresh/users/", &body)
        .problem(400, "invalid_input");
    assert!(detail.contains("many people"), "{detail}");
}

#[test]
fn realms_have_policies_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "[auth]\npassword_min = 10\n\n[auth.realms.admins]\nsign_up = \"closed\"\n\n\
        [auth.realms.devices]\npassword_min = 4\npassword_allow_common = true\naccess_ttl = \"1h\"\n";
    std::fs::write(dir.path().join("coglex.toml"), settings).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
    });
    let api = server.api();
    let sign_up = |realm: &str, password: &str| {
        let path = format!("/service/auth/v1/signup/{realm}/");
        api.post(&path, &credentials("ann", password))
    };
    sign_up("users", "nine char").problem(400, "invalid_input");
    assert_eq!(sign_up("users", "ten chars.").status, 200);
    sign_up("admins", "correct horse").problem(403, "forbidden");
    assert_eq!(sign_up("devices", "1234").status, 200);
    let path = "/service/auth/v1/signin/devices/";
    let device = api.post(path, &credentials("ann", "1234")).json();
    let lives = device["_expires"].as_i64().unwrap() - now();
    assert!((3_590..=3_601).contains(&lives), "{lives}");
    let printed = crate::support::coglex(server.dir.path())
        .arg("config")
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.contains("[auth.realms.admins]\nsign_up = \"closed\"\n"),
        "{printed}"
    );
    assert!(printed.contains("access_ttl = \"3600000ms\""), "{printed}");
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[test]
fn a_realms_settings_are_checked_at_the_start() {
    for (settings, says) in [
        ("[auth.realms.users]\npassword_min = 0\n", "users"),
        ("[auth.realms.users]\nsession_ttl = \"1y\"\n", "session_ttl"),
        ("[auth.realms.users]\nno_such = 1\n", "no_such"),
        ("[auth]\nsession_ttl = \"100d\"\n", "session_max_ttl"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("coglex.toml"), settings).unwrap();
        let output = crate::support::coglex(dir.path())
            .arg("serve")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(says),
            "{settings}: {said}"
        );
    }
}

#[test]
fn users_change_their_password_if_they_know_the_old_one() {
    let server = TestServer::start();
    let api = server.api();
    let own = ann(&api);
    let other = api
        .post(SIGN_IN, &credentials("ann", "correct horse"))
        .json();
    let change = |token: &Value, old: &str, new: &str| {
        // Without the API key: browsers do not have it.
        let request = server.anonymous().request(Method::POST, PASSWORD);
        let request = request.bearer_auth(token.as_str().unwrap_or_default());
        request
            .json(&json!({ "_password": old, "_new_password": new }))
            .reply()
    };
    change(&own["_token"], "wrong horse", "battery staple").problem(403, "wrong_password");
    change(&own["_token"], "correct horse", "short").problem(400, "invalid_input");
    change(&Value::Null, "correct horse", "battery staple").problem(401, "session_required");
    for missing in [json!({ "_password": "x" }), json!({ "_new_password": "x" })] {
        let request = api.request(Method::POST, PASSWORD).json(&missing);
        request.reply().problem(400, "invalid_input");
    }
    assert_eq!(session(&api, &other["_token"])["_key"], "ann");
    assert_eq!(
        change(&own["_token"], "correct horse", "battery staple").json(),
        true
    );
    assert_eq!(session(&api, &own["_token"])["_key"], "ann");
    assert_eq!(session(&api, &other["_token"]), Value::Null);
    api.post(SIGN_IN, &credentials("ann", "correct horse"))
        .problem(404, "not_found");
    assert_eq!(
        api.post(SIGN_IN, &credentials("ann", "battery staple"))
            .status,
        200
    );
}

#[test]
fn who_has_stolen_a_session_cannot_guess_its_password_for_long() {
    let server = TestServer::with(&["--auth-sign-in-failures", "3"]);
    let token = ann(&server.api())["_token"].clone();
    let guess = || {
        let request = server.anonymous().request(Method::POST, PASSWORD);
        let body = json!({ "_password": "a guess", "_new_password": "battery staple" });
        request
            .bearer_auth(token.as_str().unwrap())
            .json(&body)
            .reply()
    };
    for _ in 0..3 {
        guess().problem(403, "wrong_password");
    }
    guess().problem(429, "too_many_attempts");
}

#[test]
fn guessers_wait_and_do_not_lock_out_whom_they_guess_at() {
    let server = TestServer::with(&[
        "--auth-sign-in-failures",
        "3",
        "--server-trusted-proxies",
        "1",
    ]);
    let api = server.api();
    ann(&api);
    for key in ["ann", "nobody"] {
        for _ in 0..3 {
            from(&api, "192.0.2.1", key, "a guess").problem(404, "not_found");
        }
        let refused = from(&api, "192.0.2.1", key, "a guess");
        refused.problem(429, "too_many_attempts");
        assert_eq!(refused.header("retry-after"), "1");
    }
    // Nor can the guesser know whether this one was right.
    from(&api, "192.0.2.1", "ann", "correct horse").problem(429, "too_many_attempts");
    assert_eq!(from(&api, "192.0.2.2", "ann", "correct horse").status, 200);
    let start = Instant::now();
    while from(&api, "192.0.2.1", "ann", "correct horse").status != 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn one_password_on_many_users_is_slowed_by_address() {
    let server = TestServer::with(&[
        "--auth-address-failures",
        "5",
        "--server-trusted-proxies",
        "1",
    ]);
    let api = server.api();
    ann(&api);
    let home = "192.0.2.1";
    assert_eq!(from(&api, home, "ann", "correct horse").status, 200);
    let mut tried = 0;
    while from(&api, home, &format!("user{tried}"), "Summer2026").status == 404 {
        tried += 1;
    }
    assert_eq!(tried, 6);
    let refused = from(&api, home, "somebody", "Summer2026");
    refused.problem(429, "too_many_attempts");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 1);
    // Ann has a session from there.
    assert_eq!(from(&api, home, "ann", "correct horse").status, 200);
    from(&api, "192.0.2.2", "user0", "Summer2026").problem(404, "not_found");
}
