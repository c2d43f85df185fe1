//! `/service/auth/v1`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Send as _, TestServer, with_query};

fn path(action: &str, realm: &str) -> String {
    format!("/service/auth/v1/{action}/{realm}/")
}

fn credentials(key: &str, password: &str) -> Value {
    json!({ "_key": key, "_password": password })
}

fn sign_up(api: &Client, key: &str) -> String {
    let body = json!({ "_key": key, "_password": "correct horse", "document": { "name": "Ann" } });
    api.post(&path("signup", "users"), &body)
        .json()
        .as_str()
        .unwrap()
        .to_owned()
}

fn sign_in(api: &Client, key: &str, password: &str) -> Reply {
    api.post(&path("signin", "users"), &credentials(key, password))
}

fn token(reply: &Reply) -> String {
    reply.json()["_token"].as_str().unwrap().to_owned()
}

fn session_of(api: &Client, realm: &str, token: &str) -> Value {
    api.request(Method::GET, &path("session", realm))
        .bearer_auth(token)
        .reply()
        .json()
}

#[test]
fn a_user_signs_up_in_has_a_session_and_signs_out() {
    let server = TestServer::start();
    let api = server.api();
    let id = sign_up(&api, "ann@example.org");
    let signed_in = sign_in(&api, "ann@example.org", "correct horse");
    let user = signed_in.json();
    assert_eq!(user["_id"], json!({ "$oid": id }));
    assert_eq!(
        (&user["_key"], &user["name"]),
        (&json!("ann@example.org"), &json!("Ann"))
    );
    assert!(
        user.get("_password").is_none() && user.get("_coglex").is_none(),
        "{user}"
    );
    assert!(user["_expires"].as_i64().unwrap() > 1_700_000_000);
    let token = token(&signed_in);
    let session = session_of(&api, "users", &token);
    assert_eq!(
        session,
        json!({ "_id": { "$oid": id }, "_key": "ann@example.org", "name": "Ann" })
    );
    // Signing out needs no key.
    let out = server
        .anonymous()
        .request(Method::POST, &path("signout", "users"))
        .bearer_auth(&token)
        .reply();
    assert_eq!(out.json(), true);
    assert_eq!(session_of(&api, "users", &token), Value::Null);
}

#[test]
fn a_browser_needs_nothing_but_its_cookie() {
    let server = TestServer::start();
    let api = server.api().with_cookies();
    sign_up(&api, "ann");
    let signed_in = sign_in(&api, "ann", "correct horse");
    let cookie = signed_in.header("set-cookie");
    assert!(
        cookie.starts_with("coglex_users=") && cookie.contains("; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    assert!(
        cookie.contains("; Path=/; Max-Age=") && !cookie.contains("Secure"),
        "{cookie}"
    );
    assert_eq!(signed_in.header("cache-control"), "no-store");
    assert_eq!(api.get(&path("session", "users")).json()["_key"], "ann");
    assert_eq!(api.get(&path("session", "admins")).json(), Value::Null);
    let out = api.get(&path("signout", "users"));
    assert_eq!(out.json(), true);
    assert!(
        out.header("set-cookie")
            .starts_with("coglex_users=; Path=/; Max-Age=0"),
        "{:?}",
        out.headers
    );
    assert_eq!(api.get(&path("session", "users")).json(), Value::Null);
}

#[test]
fn cookies_are_secure_when_clients_come_over_https() {
    let server = TestServer::with(&["--server-public-url", "https://api.example"]);
    let api = server.api();
    sign_up(&api, "ann");
    let cookie = sign_in(&api, "ann", "correct horse")
        .header("set-cookie")
        .to_owned();
    assert!(cookie.starts_with("__Host-coglex_users="), "{cookie}");
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"),
        "{cookie}"
    );
    // A header that any client can send decides nothing.
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    let body = credentials("ann", "correct horse");
    let reply = api
        .request(Method::POST, &path("signin", "users"))
        .header("X-Forwarded-Proto", "https")
        .json(&body)
        .reply();
    assert!(!reply.header("set-cookie").contains("Secure"));
}

#[test]
fn all_failed_sign_ins_look_alike() {
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    let mut unmet = credentials("ann", "correct horse");
    unmet["query"] = json!({ "name": "Eve" });
    let details: Vec<String> = [
        credentials("ann", "wrong"),
        credentials("eve", "correct horse"),
        unmet,
    ]
    .iter()
    .map(|body| {
        api.post(&path("signin", "users"), body)
            .problem(404, "not_found")
    })
    .collect();
    assert!(
        details.iter().all(|detail| detail == &details[0]),
        "{details:?}"
    );
    api.post(
        &path("signin", "admins"),
        &credentials("ann", "correct horse"),
    )
    .problem(404, "not_found");
    let mut met = credentials("ann", "correct horse");
    met["query"] = json!({ "name": "Ann" });
    assert_eq!(api.post(&path("signin", "users"), &met).status, 200);
}

#[test]
fn a_key_is_a_string_and_never_an_operator() {
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    let any = json!({ "_key": { "$ne": null }, "_password": "correct horse" });
    for action in ["signup", "signin"] {
        let detail = api
            .post(&path(action, "users"), &any)
            .problem(400, "invalid_input");
        assert!(detail.contains("`_key`"), "{detail}");
        let detail = api
            .post(&path(action, "users"), &json!({ "_key": "x" }))
            .problem(400, "invalid_input");
        assert!(detail.contains("`_password`"), "{detail}");
    }
    let detail = api
        .patch(
            &path("refresh", "users"),
            &json!({ "_key": 7, "document": {} }),
        )
        .problem(400, "invalid_input");
    assert!(detail.contains("`_key`"), "{detail}");
    let mut overriding = credentials("eve", "correct horse");
    overriding["query"] = json!({ "$or": [{ "_key": "ann" }, {}] });
    let reply = api.post(&path("signin", "users"), &overriding);
    assert!([400, 403, 404].contains(&reply.status), "{}", reply.text());
}

#[test]
fn a_key_signs_up_once() {
    let server = TestServer::start();
    let api = server.api();
    let keys: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    server
                        .api()
                        .post(
                            &path("signup", "users"),
                            &credentials("ann", "correct horse"),
                        )
                        .status
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(
        keys.iter().filter(|status| **status == 200).count(),
        1,
        "{keys:?}"
    );
    assert_eq!(
        keys.iter().filter(|status| **status == 400).count(),
        15,
        "{keys:?}"
    );
    // Another collection is another realm.
    assert_eq!(
        api.post(
            &path("signup", "admins"),
            &credentials("ann", "other password")
        )
        .status,
        200
    );
}

#[test]
fn what_a_document_says_of_key_and_password_is_ignored_at_sign_up() {
    let server = TestServer::start();
    let api = server.api();
    let body = json!({
        "_key": "ann", "_password": "correct horse",
        "document": { "_key": "eve", "_password": "x", "name": "Ann" },
    });
    api.post(&path("signup", "users"), &body).json();
    assert_eq!(sign_in(&api, "ann", "correct horse").json()["name"], "Ann");
    sign_in(&api, "eve", "x").problem(404, "not_found");
}

#[test]
fn a_new_password_ends_the_other_sessions() {
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    let (own, other) = (
        token(&sign_in(&api, "ann", "correct horse")),
        token(&sign_in(&api, "ann", "correct horse")),
    );
    let body = json!({ "_key": "ann", "document": { "_password": "battery staple" } });
    let changed = api
        .request(Method::PATCH, &path("refresh", "users"))
        .bearer_auth(&own)
        .json(&body)
        .reply();
    assert_eq!(changed.json(), 1);
    assert_eq!(session_of(&api, "users", &own)["_key"], "ann");
    assert_eq!(session_of(&api, "users", &other), Value::Null);
    sign_in(&api, "ann", "correct horse").problem(404, "not_found");
    assert_eq!(sign_in(&api, "ann", "battery staple").status, 200);
}

#[test]
fn refresh_changes_a_user_and_tells_how_many() {
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    sign_up(&api, "bob");
    let refresh = |key: &str, document: Value| {
        api.patch(
            &path("refresh", "users"),
            &json!({ "_key": key, "document": document }),
        )
    };
    assert_eq!(
        refresh("ann", json!({ "name": "Anne", "address.city": "Ulm" })).json(),
        1
    );
    assert_eq!(refresh("ann", json!({ "name": "Anne" })).json(), 0);
    refresh("eve", json!({ "name": "Eve" })).problem(404, "not_found");
    refresh("ann", json!({ "_key": "bob" })).problem(409, "conflict");
    refresh("ann", json!({ "_key": { "$ne": 1 } })).problem(400, "invalid_input");
    assert_eq!(refresh("ann", json!({ "_key": "anne" })).json(), 1);
    let user = sign_in(&api, "anne", "correct horse").json();
    assert_eq!(
        (&user["name"], &user["address"]),
        (&json!("Anne"), &json!({ "city": "Ulm" }))
    );
    api.patch(&path("refresh", "users"), &json!({ "_key": "anne" }))
        .problem(400, "invalid_input");
}

#[test]
fn sessions_are_read_now_and_die_with_their_user() {
    let server = TestServer::start();
    let api = server.api();
    let id = sign_up(&api, "ann");
    let token = token(&sign_in(&api, "ann", "correct horse"));
    let user = format!("/service/storage/v1/users/{id}/");
    api.patch(&user, &json!({ "document": { "name": "Anne" } }))
        .json();
    assert_eq!(session_of(&api, "users", &token)["name"], "Anne");
    assert_eq!(session_of(&api, "admins", &token), Value::Null);
    api.delete(&user).json();
    assert_eq!(session_of(&api, "users", &token), Value::Null);
}

#[test]
fn tokens_that_are_not_ours_are_no_session_and_no_error() {
    let server = TestServer::start();
    let api = server.api();
    sign_up(&api, "ann");
    let good = token(&sign_in(&api, "ann", "correct horse"));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    for bad in [
        "x",
        "a.b.c",
        head,
        &format!("{head}."),
        &format!("{head}.{turned}"),
        &"x".repeat(8000),
    ] {
        assert_eq!(session_of(&api, "users", bad), Value::Null, "{bad}");
        let out = api
            .request(Method::POST, &path("signout", "users"))
            .bearer_auth(bad)
            .reply();
        assert_eq!(out.json(), true);
    }
    assert_eq!(session_of(&api, "users", &good)["_key"], "ann");
}

#[test]
fn sessions_outlive_a_restart_of_the_server() {
    let server = TestServer::start();
    sign_up(&server.api(), "ann");
    let token = token(&sign_in(&server.api(), "ann", "correct horse"));
    let dir = server.kill();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", "another-api-key");
    });
    // The API key has changed, and the key that signs sessions has not.
    let session = server
        .anonymous()
        .request(Method::GET, &path("session", "users"));
    let session = session
        .header("X-API-Key", "another-api-key")
        .bearer_auth(&token)
        .reply();
    assert_eq!(session.json()["_key"], "ann");
}

#[test]
fn every_route_but_signing_out_needs_the_api_key() {
    let server = TestServer::start();
    for (method, action) in [
        (Method::POST, "signup"),
        (Method::POST, "signin"),
        (Method::GET, "session"),
        (Method::PATCH, "refresh"),
    ] {
        let reply = server
            .anonymous()
            .request(method, &path(action, "users"))
            .body("{")
            .reply();
        reply.problem(401, "api_key_required");
    }
    for method in [Method::GET, Method::POST] {
        assert_eq!(
            server
                .anonymous()
                .request(method, &path("signout", "users"))
                .reply()
                .json(),
            true
        );
    }
}

#[test]
fn a_storm_of_sign_ins_is_turned_away_while_reads_go_on() {
    let slow = [
        "--auth-argon2-memory",
        "19 MiB",
        "--auth-argon2-passes",
        "8",
    ];
    let narrow = ["--auth-hash-concurrency", "1", "--auth-hash-queue", "1"];
    let patient = ["--auth-sign-in-failures", "0"];
    let server = TestServer::with(&[&slow[..], &narrow, &patient].concat());
    let api = server.api();
    sign_up(&api, "ann");
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|_| scope.spawn(|| sign_in(&server.api(), "ann", "wrong")))
            .collect();
        assert_eq!(api.get("/service/storage/v1/users/").status, 200);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status != 404).collect();
    assert!(!refused.is_empty());
    for reply in refused {
        reply.problem(503, "overloaded");
        assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
}

#[test]
fn realms_are_collections_that_a_client_may_name() {
    let server = TestServer::start();
    let api = server.api();
    for realm in ["system.users", "a%24b", "_coglex"] {
        let reply = api.post(&path("signup", realm), &credentials("ann", "correct horse"));
        assert!(
            [400, 403].contains(&reply.status),
            "{realm}: {}",
            reply.text()
        );
    }
    let query = with_query(&path("session", "users"), &[("x", "y")]);
    assert_eq!(api.get(&query).json(), Value::Null);
}

#[test]
fn sign_out_is_true_whatever_the_realm_and_the_token() {
    let server = TestServer::start();
    for realm in ["users", "_coglex", "a%24b", "system.users"] {
        let reply = server
            .anonymous()
            .request(Method::POST, &path("signout", realm))
            .bearer_auth("eyJhbGciOiJIUzI1NiJ9.e30.x")
            .reply();
        assert_eq!(reply.json(), json!(true), "{realm}");
    }
}
