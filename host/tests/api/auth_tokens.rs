//! Access tokens and the keys that sign them, asked of the real binary.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Client, Send as _, TestServer, coglex};

const SIGN_IN: &str = "/service/auth/v1/signin/users/";
const SESSION: &str = "/service/auth/v1/session/users/";
const JWKS: &str = "/.well-known/jwks.json";

/// Signs Ann up and in.
pub(crate) fn ann(api: &Client) -> Value {
    let body = json!({ "_key": "ann", "_password": "correct horse" });
    api.post("/service/auth/v1/signup/users/", &body).json();
    api.post(SIGN_IN, &body).json()
}

pub(crate) fn session(api: &Client, token: &Value) -> Value {
    let request = api.request(Method::GET, SESSION);
    request.bearer_auth(token.as_str().unwrap()).reply().json()
}

fn part(token: &Value, index: usize) -> Value {
    let part = token.as_str().unwrap().split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap()
}

#[test]
fn a_token_says_what_it_has_to_and_lives_for_minutes() {
    let server = TestServer::with(&[
        "--auth-access-ttl",
        "5m",
        "--auth-issuer",
        "https://a.example",
    ]);
    let user = ann(&server.api());
    let token = &user["_token"];
    let (header, claims) = (part(token, 0), part(token, 1));
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("HS256"), &json!("JWT"))
    );
    assert_eq!(header["kid"].as_str().unwrap().len(), 32);
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!("https://a.example"), &json!("users"))
    );
    assert!(
        claims["sub"]
            .as_str()
            .unwrap()
            .contains(user["_id"]["$oid"].as_str().unwrap())
    );
    let lives = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((300..=302).contains(&lives), "{claims}");
    assert_eq!(claims["exp"], user["_expires"]);
    let other = server
        .api()
        .post(
            SIGN_IN,
            &json!({ "_key": "ann", "_password": "correct horse" }),
        )
        .json();
    assert_ne!(part(&other["_token"], 1)["jti"], claims["jti"]);
    // The server's own answer about secret keys is that there is nothing to see.
    let jwks = server.anonymous().get(JWKS);
    assert_eq!(jwks.json(), json!({ "keys": [] }));
}

#[test]
fn everybody_can_verify_what_was_signed_with_eddsa() {
    let server = TestServer::with(&["--auth-token-algorithm", "EdDSA"]);
    let user = ann(&server.api());
    let header = part(&user["_token"], 0);
    assert_eq!(header["alg"], "EdDSA");
    let reply = server.anonymous().get(JWKS);
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    assert_eq!(
        server.anonymous().get("/.well-known/jwks.json/").json(),
        reply.json()
    );
    let keys = reply.json();
    let key = &keys["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["use"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("sig"))
    );
    assert_eq!(
        (&key["alg"], &key["kid"]),
        (&json!("EdDSA"), &header["kid"])
    );
    assert!(key.get("d").is_none(), "{key}");
    assert_eq!(session(&server.api(), &user["_token"])["_key"], "ann");

    // What is public is not good as a secret, whatever the token says of itself.
    let claims = user["_token"].as_str().unwrap().split('.').nth(1).unwrap();
    for algorithm in ["none", "None", "HS256", "HS512", "ES256"] {
        let forged = json!({ "typ": "JWT", "alg": algorithm, "kid": header["kid"] });
        let forged = format!("{}.{claims}.", BASE64.encode(forged.to_string()));
        assert_eq!(
            session(&server.api(), &forged.into()),
            Value::Null,
            "{algorithm}"
        );
    }
    server
        .anonymous()
        .post(JWKS, &json!({}))
        .problem(405, "method_not_allowed");
}

#[test]
fn operators_rotate_keys_and_nobody_is_signed_out() {
    let server = TestServer::start();
    let (api, admin) = (server.api(), server.admin());
    let before = ann(&api);
    for client in [server.anonymous(), server.api()] {
        client
            .get("/admin/v1/auth/keys/")
            .problem(401, "admin_key_required");
        let rotate = client.post("/admin/v1/auth/keys/rotate/", &json!({}));
        rotate.problem(401, "admin_key_required");
    }
    let keys = admin.post("/admin/v1/auth/keys/rotate/", &json!({})).json();
    assert_eq!(keys.as_array().unwrap().len(), 2, "{keys}");
    assert_eq!(
        (&keys[0]["signs"], &keys[1]["signs"]),
        (&json!(true), &json!(false))
    );
    assert!(
        keys[0].get("until").is_none() && keys[1]["until"]["$date"].is_string(),
        "{keys}"
    );
    let after = api
        .post(
            SIGN_IN,
            &json!({ "_key": "ann", "_password": "correct horse" }),
        )
        .json();
    assert_eq!(part(&after["_token"], 0)["kid"], keys[0]["kid"]);
    for token in [&before["_token"], &after["_token"]] {
        assert_eq!(session(&api, token)["_key"], "ann");
    }
    // From the command line, and with an end to all that was signed before.
    let told = |arguments: &[&str]| {
        let mut command: Command = coglex(server.dir.path());
        command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
        let output = command
            .args(["auth"])
            .args(arguments)
            .args(["--server", &server.url])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let listed = told(&["keys"]);
    assert!(
        listed.contains(keys[0]["kid"].as_str().unwrap()) && listed.contains("verifies until"),
        "{listed}"
    );
    let rotated = told(&["rotate-keys", "--revoke"]);
    assert_eq!(rotated.lines().count(), 2, "{rotated}");
    for token in [&before["_token"], &after["_token"]] {
        assert_eq!(session(&api, token), Value::Null);
    }
    // Sessions have not ended: their refresh tokens are not signed with these keys.
    let renewed = server.anonymous().post(
        "/service/auth/v1/token/users/",
        &json!({ "_refresh_token": after["_refresh_token"] }),
    );
    assert_eq!(session(&api, &renewed.json()["_token"])["_key"], "ann");
}

#[test]
fn keys_outlive_a_restart_and_change_with_the_signing_key() {
    let server = TestServer::start();
    let token = ann(&server.api())["_token"].clone();
    let dir = server.kill();
    let with = |key: &'static str| {
        move |command: &mut Command| {
            command.env("SERVER_SECRET", crate::support::API_KEY);
            command.env("COGLEX_AUTH_SIGNING_KEY", key);
        }
    };
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
    });
    assert_eq!(session(&server.api(), &token)["_key"], "ann");
    let dir = server.kill();
    let server = TestServer::start_in(dir, &[], with("another-signing-key-which-is-long-enough"));
    assert_eq!(session(&server.api(), &token), Value::Null);
    let again = server
        .api()
        .post(
            SIGN_IN,
            &json!({ "_key": "ann", "_password": "correct horse" }),
        )
        .json();
    assert_eq!(session(&server.api(), &again["_token"])["_key"], "ann");
}

#[test]
fn an_expired_token_is_no_session_and_its_cookie_still_is() {
    let server = TestServer::with(&["--auth-access-ttl", "1s"]);
    let api = server.api();
    let browser = server.api().with_cookies();
    let user = ann(&browser);
    assert_eq!(session(&api, &user["_token"])["_key"], "ann");
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while session(&api, &user["_token"]) != Value::Null {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(browser.get(SESSION).json()["_key"], "ann");
}
