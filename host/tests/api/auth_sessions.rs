//! Refresh tokens, the sessions that users see and end, and the cookies of browsers,
//! asked of the real binary.

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth_tokens::{ann, session};
use crate::mongodb;
use crate::support::{Client, Reply, Send as _, TestServer};

const SIGN_IN: &str = "/service/auth/v1/signin/users/";
const SESSION: &str = "/service/auth/v1/session/users/";
const SESSIONS: &str = "/service/auth/v1/sessions/users/";
const TOKEN: &str = "/service/auth/v1/token/users/";
const SIGN_OUT: &str = "/service/auth/v1/signout/users/";

fn sign_in(api: &Client) -> Value {
    let body = json!({ "_key": "ann", "_password": "correct horse" });
    api.post(SIGN_IN, &body).json()
}

fn renew(server: &TestServer, token: &Value) -> Reply {
    let body = json!({ "_refresh_token": token });
    server.anonymous().post(TOKEN, &body)
}

fn asked(client: &Client, method: Method, path: &str, token: &Value) -> Reply {
    let request = client.request(method, path);
    request
        .bearer_auth(token.as_str().unwrap_or_default())
        .reply()
}

/// The whole walk, whatever the store.
fn a_session_is_renewed_listed_and_ended(server: &TestServer) {
    let api = server.api();
    let first = ann(&api);
    let renewed = renew(server, &first["_refresh_token"]);
    assert_eq!(renewed.header("cache-control"), "no-store");
    assert!(renewed.header("set-cookie").starts_with("coglex_users="));
    let second = renewed.json();
    assert_eq!(
        (&second["_key"], second.get("_password")),
        (&json!("ann"), None)
    );
    assert_ne!(second["_refresh_token"], first["_refresh_token"]);
    assert_eq!(session(&api, &second["_token"])["_key"], "ann");
    // The same once more, in case the answer was lost.
    let again = renew(server, &first["_refresh_token"]).json();
    assert_eq!(again["_refresh_token"], second["_refresh_token"]);
    // Two steps back is a copy, and ends the session.
    let third = renew(server, &second["_refresh_token"]).json();
    renew(server, &first["_refresh_token"]).problem(401, "refresh_token_invalid");
    renew(server, &third["_refresh_token"]).problem(401, "refresh_token_invalid");
    assert_eq!(session(&api, &third["_token"]), Value::Null);

    let (own, other) = (
        sign_in(&api)["_token"].clone(),
        sign_in(&api)["_token"].clone(),
    );
    let named = api
        .request(Method::POST, SIGN_IN)
        .header("User-Agent", "Toaster/2.0");
    let toaster = named.json(&json!({ "_key": "ann", "_password": "correct horse" }));
    let toaster = toaster.reply().json()["_token"].clone();
    // No key is needed: the token is the proof.
    let open = server.anonymous();
    let sessions = asked(&open, Method::GET, SESSIONS, &own).json();
    assert_eq!(sessions.as_array().unwrap().len(), 3, "{sessions}");
    let of = |name: &str, value: Value| {
        let sessions = sessions.as_array().unwrap();
        let found = sessions.iter().find(|session| session[name] == value);
        found.cloned().unwrap()
    };
    let toasters = of("agent", json!("Toaster/2.0"));
    assert_eq!(
        (&toasters["address"], &toasters["current"]),
        (&json!("127.0.0.1"), &json!(false))
    );
    for name in ["created", "used", "expires"] {
        assert!(toasters[name]["$date"].is_string(), "{toasters}");
    }
    assert!(!sessions.to_string().contains("refresh"), "{sessions}");
    let one = format!("{SESSIONS}{}/", toasters["id"].as_str().unwrap());
    assert_eq!(asked(&open, Method::DELETE, &one, &own).json(), true);
    asked(&open, Method::DELETE, &one, &own).problem(404, "not_found");
    assert_eq!(session(&api, &toaster), Value::Null);
    assert_eq!(asked(&open, Method::DELETE, SESSIONS, &own).json(), 1);
    assert_eq!(session(&api, &other), Value::Null);
    assert_eq!(session(&api, &own)["_key"], "ann");
}

#[test]
fn sessions_on_the_embedded_store() {
    a_session_is_renewed_listed_and_ended(&TestServer::start());
}

#[test]
fn sessions_on_mongodb_and_on_every_host_of_it() {
    let Some(address) = mongodb::database_address() else {
        return;
    };
    let database = format!("coglex_sessions_{}", std::process::id());
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
    a_session_is_renewed_listed_and_ended(&one);
    // What one host opens, renews or ends, the other knows at once.
    let user = sign_in(&one.api());
    assert_eq!(session(&two.api(), &user["_token"])["_key"], "ann");
    let renewed = renew(&two, &user["_refresh_token"]).json();
    assert_eq!(session(&one.api(), &renewed["_token"])["_key"], "ann");
    let out = asked(&one.anonymous(), Method::POST, SIGN_OUT, &renewed["_token"]);
    assert_eq!(out.json(), true);
    assert_eq!(session(&two.api(), &renewed["_token"]), Value::Null);
    renew(&two, &renewed["_refresh_token"]).problem(401, "refresh_token_invalid");
    let kept = sign_in(&two.api());
    let body = json!({ "_key": "ann", "document": { "_password": "battery staple" } });
    assert_eq!(
        one.api()
            .patch("/service/auth/v1/refresh/users/", &body)
            .json(),
        1
    );
    assert_eq!(session(&two.api(), &kept["_token"]), Value::Null);
}

#[test]
fn what_is_not_a_refresh_token_is_refused_and_told_apart_by_nothing() {
    let server = TestServer::start();
    let user = ann(&server.api());
    let good = user["_refresh_token"].as_str().unwrap();
    let admins = server.anonymous().post(
        "/service/auth/v1/token/admins/",
        &json!({ "_refresh_token": good }),
    );
    let mut details = vec![admins.problem(401, "refresh_token_invalid")];
    for wrong in [
        "",
        "x",
        &good[..good.len() - 1],
        &good.replace("cgrt_", ""),
        user["_token"].as_str().unwrap(),
    ] {
        let reply = renew(&server, &json!(wrong));
        details.push(reply.problem(401, "refresh_token_invalid"));
    }
    details.dedup();
    assert_eq!(details.len(), 1, "{details:?}");
    renew(&server, &json!({ "$ne": null })).problem(400, "invalid_input");
    renew(&server, &json!(null)).problem(400, "invalid_input");
    server
        .anonymous()
        .post(
            "/service/auth/v1/token/_coglex/",
            &json!({ "_refresh_token": good }),
        )
        .problem(403, "forbidden");
    assert_eq!(renew(&server, &json!(good)).status, 200);
}

#[test]
fn own_sessions_are_nobody_elses() {
    let server = TestServer::start();
    let api = server.api();
    ann(&api);
    for client in [server.anonymous(), server.api()] {
        client.get(SESSIONS).problem(401, "session_required");
        client.delete(SESSIONS).problem(401, "session_required");
        let one = format!("{SESSIONS}{}/", "0".repeat(64));
        client.delete(&one).problem(401, "session_required");
    }
    let admin = json!({ "_key": "ann", "_password": "correct horse" });
    api.post("/service/auth/v1/signup/admins/", &admin).json();
    let admin = api.post("/service/auth/v1/signin/admins/", &admin).json();
    asked(&api, Method::GET, SESSIONS, &admin["_token"]).problem(401, "session_required");
}

/// A browser that was signed in, and what its requests say of where they are from.
fn from_page(browser: &Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = browser.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.reply()
}

#[test]
fn pages_of_other_sites_cannot_use_a_users_cookie() {
    let server = TestServer::with(&["--server-cors-origins", "https://app.example"]);
    // Signed in with the key by some backend; the browser has the cookie alone.
    let signed_in = server.api().post(
        "/service/auth/v1/signup/users/",
        &json!({ "_key": "ann", "_password": "correct horse" }),
    );
    signed_in.json();
    let body = json!({ "_key": "ann", "_password": "correct horse" });
    let reply = server.api().post(SIGN_IN, &body);
    let cookie = reply
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let browser = server.anonymous();
    let delete = |headers: &[(&str, &str)]| {
        let with_cookie = [&[("Cookie", cookie.as_str())], headers].concat();
        from_page(&browser, Method::DELETE, SESSIONS, &with_cookie)
    };
    let evil = "https://evil.example";
    delete(&[("Sec-Fetch-Site", "cross-site"), ("Origin", evil)])
        .problem(403, "cross_site_request");
    delete(&[("Sec-Fetch-Site", "same-site"), ("Origin", evil)]).problem(403, "cross_site_request");
    delete(&[("Sec-Fetch-Site", "cross-site")]).problem(403, "cross_site_request");
    delete(&[("Origin", evil)]).problem(403, "cross_site_request");
    delete(&[("Origin", "null")]).problem(403, "cross_site_request");
    let spoofed = [("Origin", evil), ("X-Forwarded-Host", "evil.example")];
    delete(&spoofed).problem(403, "cross_site_request");
    // The server's own pages, those of an origin that was named, and what is no page.
    assert_eq!(delete(&[("Sec-Fetch-Site", "same-origin")]).json(), 0);
    assert_eq!(delete(&[("Origin", &server.url)]).json(), 0);
    let own = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://app.example"),
    ];
    assert_eq!(delete(&own).json(), 0);
    assert_eq!(delete(&[]).json(), 0);

    // Signing out changes something, also by GET: a link elsewhere does not do it.
    let is_signed_in = || {
        let request = server.api().request(Method::GET, SESSION);
        request.header("Cookie", &cookie).reply().json() != Value::Null
    };
    let out = |headers: &[(&str, &str)]| {
        let with_cookie = [&[("Cookie", cookie.as_str())], headers].concat();
        let reply = from_page(&browser, Method::GET, SIGN_OUT, &with_cookie);
        assert_eq!(reply.json(), true);
        reply
    };
    let forged = out(&[("Sec-Fetch-Site", "cross-site")]);
    assert!(is_signed_in() && forged.header("set-cookie").is_empty());
    out(&[("Sec-Fetch-Site", "same-origin")]);
    assert!(!is_signed_in());
}

#[test]
fn over_https_cookies_are_tied_to_the_host() {
    let server = TestServer::with(&["--server-public-url", "https://api.example"]);
    let api = server.api();
    ann(&api);
    let reply = api.post(
        SIGN_IN,
        &json!({ "_key": "ann", "_password": "correct horse" }),
    );
    let cookie = reply
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let with = |cookie: &str| {
        let request = api.request(Method::GET, SESSION);
        request.header("Cookie", cookie).reply().json()
    };
    assert_eq!(with(&cookie)["_key"], "ann");
    // A neighbour of the host can set this one, and nobody believes it.
    assert_eq!(with(cookie.strip_prefix("__Host-").unwrap()), Value::Null);
    let out = api
        .request(Method::POST, SIGN_OUT)
        .header("Cookie", &cookie)
        .reply();
    assert!(
        out.header("set-cookie")
            .starts_with("__Host-coglex_users=; Path=/; Max-Age=0")
    );
    assert_eq!(with(&cookie), Value::Null);
}
