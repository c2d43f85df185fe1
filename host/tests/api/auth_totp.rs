//! The second factor, asked of the real binary. The authenticator app is the test: it
//! has an HMAC of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::auth_tokens::{ann, session};
use crate::mongodb;
use crate::support::{Client, Reply, Send as _, TestServer};

const SIGN_IN: &str = "/service/auth/v1/signin/users/";
const TOTP: &str = "/service/auth/v1/totp/users/";
const PASSWORD: &str = "correct horse";

/// An authenticator app that was shown a secret, and the step of the last code that it
/// was asked for.
struct App {
    key: Vec<u8>,
    last: u64,
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl App {
    fn new(secret: &Value) -> Self {
        let key = BASE32_NOPAD.decode(secret.as_str().unwrap().as_bytes());
        Self {
            key: key.unwrap(),
            last: 0,
        }
    }

    fn code(&self, step: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.key);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag[19] & 15);
        let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }

    /// A code that was not asked for before: of the last step, this one or the next, so
    /// that a test need not wait for the clock until its fourth.
    fn next(&mut self) -> String {
        loop {
            let present = now() / 30;
            let step = (present - 1).max(self.last + 1);
            if step <= present + 1 {
                self.last = step;
                return self.code(step);
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// What cannot be a code now.
    fn wrong(&self) -> String {
        let present = now() / 30;
        let near: Vec<String> = (present - 3..present + 4)
            .map(|step| self.code(step))
            .collect();
        let mut all = (0..20).map(|number| format!("{number:06}"));
        all.find(|code| !near.contains(code)).unwrap()
    }
}

fn sign_in(server: &TestServer) -> Reply {
    let body = json!({ "_key": "ann", "_password": PASSWORD });
    server.api().post(SIGN_IN, &body)
}

fn challenge(server: &TestServer) -> Value {
    let reply = sign_in(server);
    reply.problem(401, "second_factor_required");
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["methods"], json!(["totp", "recovery_code"]));
    assert!(problem["_challenge_expires"].as_u64().unwrap() > now() + 200);
    assert_eq!(reply.headers.get("set-cookie"), None);
    problem["_challenge"].clone()
}

fn answer(server: &TestServer, challenge: &Value, code: &str) -> Reply {
    let body = json!({ "_challenge": challenge, "_code": code });
    server
        .anonymous()
        .post("/service/auth/v1/totp/users/signin/", &body)
}

fn own(client: &Client, path: &str, token: &Value, body: &Value) -> Reply {
    let request = client.request(Method::POST, &format!("{TOTP}{path}"));
    let request = request.bearer_auth(token.as_str().unwrap());
    request.json(body).reply()
}

fn state(server: &TestServer, token: &Value) -> Value {
    let request = server.anonymous().request(Method::GET, TOTP);
    request.bearer_auth(token.as_str().unwrap()).reply().json()
}

/// Ann, with a second factor: her token, her app, her recovery codes.
fn enabled(server: &TestServer) -> (Value, App, Vec<String>) {
    let token = ann(&server.api())["_token"].clone();
    let open = server.anonymous();
    let begun = own(&open, "", &token, &json!({ "_password": PASSWORD })).json();
    let mut app = App::new(&begun["secret"]);
    let confirmed = own(&open, "confirm/", &token, &json!({ "_code": app.next() })).json();
    let codes = confirmed["recovery_codes"].as_array().unwrap().iter();
    let codes: Vec<String> = codes
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    (token, app, codes)
}

/// Gives somebody a second factor who has no password and has just signed in.
pub(crate) fn enable(server: &TestServer, token: &Value) {
    let open = server.anonymous();
    let begun = own(&open, "", token, &json!({})).json();
    let mut app = App::new(&begun["secret"]);
    own(&open, "confirm/", token, &json!({ "_code": app.next() })).json();
}

/// The whole walk, whatever the store.
fn a_second_factor_is_set_up_used_and_disabled(server: &TestServer) {
    let open = server.anonymous();
    let token = ann(&server.api())["_token"].clone();
    let other = sign_in(server).json()["_token"].clone();
    assert_eq!(state(server, &token), json!({ "enabled": false }));

    // Setting it up takes the password, and is nothing until a code was shown.
    own(&open, "", &token, &json!({})).problem(403, "wrong_password");
    own(&open, "", &token, &json!({ "_password": "no" })).problem(403, "wrong_password");
    own(&open, "confirm/", &token, &json!({ "_code": "000000" })).problem(409, "totp_not_begun");
    let begun = own(&open, "", &token, &json!({ "_password": PASSWORD }));
    assert_eq!(begun.header("cache-control"), "no-store");
    let begun = begun.json();
    let secret = begun["secret"].as_str().unwrap();
    let uri = begun["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("otpauth://totp/coglex:ann?secret="),
        "{uri}"
    );
    assert!(uri.contains(secret), "{uri}");
    let mut app = App::new(&begun["secret"]);
    sign_in(server).json();
    let wrong = json!({ "_code": app.wrong() });
    own(&open, "confirm/", &token, &wrong).problem(403, "wrong_code");
    let first = app.next();
    let confirmed = own(&open, "confirm/", &token, &json!({ "_code": &first })).json();
    let codes: Vec<&str> = confirmed["recovery_codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap())
        .collect();
    assert_eq!(state(server, &token)["recovery_codes"], 10);
    // Sessions that were opened without it are over, but for this one.
    assert_eq!(session(&server.api(), &other), Value::Null);
    assert_eq!(session(&server.api(), &token)["_key"], "ann");
    own(&open, "", &token, &json!({ "_password": PASSWORD })).problem(409, "totp_enabled");

    // Nothing of it is shown to anybody.
    let document = server.api().find(
        "/service/storage/v1/users/",
        &[("query", r#"{"_key":"ann"}"#)],
    );
    assert_eq!(document.json().get("_coglex"), None);

    // The password alone opens nothing; the code that was shown counts no more.
    let asked = challenge(server);
    answer(server, &asked, &first).problem(403, "wrong_code");
    answer(server, &asked, &app.wrong()).problem(403, "wrong_code");
    let second = app.next();
    let user = answer(
        server,
        &asked,
        &format!("{} {}", &second[..3], &second[3..]),
    );
    assert!(user.header("set-cookie").starts_with("coglex_users="));
    let user = user.json();
    assert_eq!((&user["_key"], user.get("_coglex")), (&json!("ann"), None));
    assert_eq!(session(&server.api(), &user["_token"])["_key"], "ann");
    // A challenge is good once, and those before it are over with it.
    answer(server, &asked, codes[9]).problem(401, "challenge_invalid");

    // Recovery codes let in once each.
    let asked = challenge(server);
    answer(server, &asked, &codes[0].to_uppercase()).json();
    answer(server, &challenge(server), codes[0]).problem(403, "wrong_code");
    assert_eq!(state(server, &token)["recovery_codes"], 9);
    let both = json!({ "_password": PASSWORD, "_code": codes[1] });
    own(
        &open,
        "recovery/",
        &token,
        &json!({ "_password": PASSWORD, "_code": "1" }),
    )
    .problem(403, "wrong_code");
    let renewed = own(&open, "recovery/", &token, &both).json();
    let renewed = renewed["recovery_codes"].as_array().unwrap().clone();
    assert_eq!(renewed.len(), 10);
    answer(server, &challenge(server), codes[2]).problem(403, "wrong_code");

    // It takes both to disable it.
    own(
        &open,
        "disable/",
        &token,
        &json!({ "_password": "no", "_code": renewed[0] }),
    )
    .problem(403, "wrong_password");
    own(
        &open,
        "disable/",
        &token,
        &json!({ "_password": PASSWORD, "_code": codes[3] }),
    )
    .problem(403, "wrong_code");
    let both = json!({ "_password": PASSWORD, "_code": renewed[0] });
    assert_eq!(own(&open, "disable/", &token, &both).json(), true);
    own(&open, "disable/", &token, &both).problem(409, "totp_not_enabled");
    sign_in(server).json();
}

#[test]
fn a_second_factor_on_the_embedded_store() {
    a_second_factor_is_set_up_used_and_disabled(&TestServer::start());
}

#[test]
fn a_second_factor_on_mongodb_and_on_every_host_of_it() {
    let Some(address) = mongodb::database_address() else {
        return;
    };
    let database = format!("coglex_totp_{}", std::process::id());
    let host = || {
        TestServer::start_in(tempfile::tempdir().unwrap(), &[], |command| {
            let uri = format!("mongodb://{address}/?directConnection=true");
            command
                .env("SERVER_SECRET", crate::support::API_KEY)
                .env(
                    "COGLEX_AUTH_SIGNING_KEY",
                    "the-same-signing-key-on-all-hosts",
                )
                .env("MONGODB_URI", uri)
                .env("MONGODB_DATABASE", &database);
        })
    };
    let (one, two) = (host(), host());
    a_second_factor_is_set_up_used_and_disabled(&one);
    // A challenge of one host is answered at another, and good once on both.
    let token = sign_in(&one).json()["_token"].clone();
    let begun = own(
        &two.anonymous(),
        "",
        &token,
        &json!({ "_password": PASSWORD }),
    )
    .json();
    let mut app = App::new(&begun["secret"]);
    let confirmed = json!({ "_code": app.next() });
    own(&one.anonymous(), "confirm/", &token, &confirmed).json();
    let asked = challenge(&one);
    let code = app.next();
    answer(&two, &asked, &code).json();
    answer(&one, &asked, &app.next()).problem(401, "challenge_invalid");
    answer(&one, &challenge(&two), &code).problem(403, "wrong_code");
}

#[test]
fn one_code_used_by_many_at_once_opens_one_session() {
    let server = TestServer::start();
    let (_, mut app, _) = enabled(&server);
    let (asked, code) = (challenge(&server), app.next());
    let opened: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| answer(&server, &asked, &code).status))
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = opened.iter().filter(|status| **status == 200).count();
    assert_eq!(count, 1, "{opened:?}");
}

#[test]
fn guesses_at_codes_are_bounded_wherever_they_come_from() {
    // Not by address, which is off here, but by the user's own count.
    let server = TestServer::with(&[
        "--auth-sign-in-failures",
        "0",
        "--auth-address-failures",
        "0",
    ]);
    let (_, mut app, codes) = enabled(&server);
    let asked = challenge(&server);
    for _ in 0..5 {
        answer(&server, &asked, &app.wrong()).problem(403, "wrong_code");
    }
    let waits = answer(&server, &asked, &app.next());
    waits.problem(429, "too_many_attempts");
    let seconds: u64 = waits.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    // A new challenge is no new start, nor is a recovery code.
    answer(&server, &challenge(&server), &codes[0]).problem(429, "too_many_attempts");
    // Who has failed knew the password. With another one the user need not wait.
    let body = json!({ "_key": "ann", "document": { "_password": "battery staple" } });
    let changed = server.api().patch("/service/auth/v1/refresh/users/", &body);
    assert_eq!(changed.json(), 1);
    let body = json!({ "_key": "ann", "_password": "battery staple" });
    let asked = server.api().post(SIGN_IN, &body);
    let problem: Value = serde_json::from_slice(&asked.body).unwrap();
    answer(&server, &problem["_challenge"], &codes[0]).json();
}

#[test]
fn a_challenge_is_over_with_the_password_it_was_given_for() {
    let server = TestServer::start();
    let (_, mut app, _) = enabled(&server);
    let asked = challenge(&server);
    let body = json!({ "_key": "ann", "document": { "_password": "battery staple" } });
    let changed = server.api().patch("/service/auth/v1/refresh/users/", &body);
    assert_eq!(changed.json(), 1);
    answer(&server, &asked, &app.next()).problem(401, "challenge_invalid");
    for wrong in ["", "cgsf_", "cgsf_x.y"] {
        answer(&server, &json!(wrong), "000000").problem(401, "challenge_invalid");
    }
    answer(&server, &json!({ "$ne": 1 }), "000000").problem(400, "invalid_input");
    // The new password still asks for the second factor.
    let body = json!({ "_key": "ann", "_password": "battery staple" });
    server
        .api()
        .post(SIGN_IN, &body)
        .problem(401, "second_factor_required");
}

#[test]
fn without_its_signing_key_recovery_codes_still_let_in_and_operators_can_reset() {
    let server = TestServer::start();
    let (token, mut app, codes) = enabled(&server);
    let id = session(&server.api(), &token)["_id"]["$oid"].clone();
    let data = server.dir.path().join("coglex-data");
    let kept = std::fs::read_dir(&data).unwrap().filter_map(Result::ok);
    let key = kept.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains("signing")
    });
    std::fs::remove_file(key.unwrap()).unwrap();
    let dir = server.kill();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
        command.env("COGLEX_ADMIN_KEY", crate::support::ADMIN_KEY);
    });
    answer(&server, &challenge(&server), &app.next()).problem(403, "wrong_code");
    let user = answer(&server, &challenge(&server), &codes[0]).json();
    let path = format!("/admin/v1/auth/totp/users/{}/", id.as_str().unwrap());
    server
        .anonymous()
        .delete(&path)
        .problem(401, "admin_key_required");
    server
        .api()
        .delete(&path)
        .problem(401, "admin_key_required");
    assert_eq!(server.admin().delete(&path).json(), true);
    server.admin().delete(&path).problem(404, "not_found");
    assert_eq!(session(&server.api(), &user["_token"]), Value::Null);
    sign_in(&server).json();
}

#[test]
fn nobody_touches_anothers_second_factor() {
    let server = TestServer::start();
    let (_, _, codes) = enabled(&server);
    for path in ["", "confirm/", "recovery/", "disable/"] {
        let body = json!({ "_password": PASSWORD, "_code": codes[0] });
        let reply = server.anonymous().post(&format!("{TOTP}{path}"), &body);
        reply.problem(401, "session_required");
    }
    server
        .anonymous()
        .get(TOTP)
        .problem(401, "session_required");
    // Nor by what the API key opens.
    let body = json!({ "document": { "_coglex.totp": null } });
    let path = "/service/storage/v1/users/?query=%7B%7D";
    server.api().patch(path, &body).problem(403, "forbidden");
    assert_eq!(sign_in(&server).status, 401);
}
