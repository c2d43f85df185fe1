//! The audit log, as operators read it from the real binary.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::both::on_both_stores;
use crate::support::{PATIENCE, Send as _, TestServer};

const SIGN_IN: &str = "/service/auth/v1/signin/users/";

/// Entries that there are, or will be soon.
fn entries(server: &TestServer, query: &[(&str, &str)], wanted: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let found = server.admin().find("/admin/v1/audit/", query).json();
        let found = found.as_array().unwrap().clone();
        if found.len() >= wanted || start.elapsed() > PATIENCE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_is_done_to_accounts_and_the_server_is_written_down() {
    on_both_stores(&[], |server| {
        let api = server.api();
        let account = json!({"_key": "ann@example.com", "_password": "correct horse"});
        api.post("/service/auth/v1/signup/users/", &account).json();
        let wrong = json!({"_key": "ann@example.com", "_password": "a wrong secret"});
        for _ in 0..3 {
            api.post(SIGN_IN, &wrong).problem(404, "not_found");
        }
        let sign_in = api
            .request(Method::POST, SIGN_IN)
            .header("User-Agent", "Browser 1");
        let user = sign_in.json(&account).reply().json();
        let token = user["_token"].as_str().unwrap().to_owned();
        let change = json!({"_password": "correct horse", "_new_password": "battery staple"});
        let changed = server
            .anonymous()
            .request(Method::POST, "/service/auth/v1/password/users/");
        changed.bearer_auth(&token).json(&change).reply().json();
        let made = api
            .post(
                "/service/auth/v1/keys/",
                &json!({"name": "x", "routes": ["*"]}),
            )
            .json();
        let rules = server
            .admin()
            .request(Method::PUT, "/admin/v1/collections/notes/rules/");
        rules.json(&json!({"users": {"read": true}})).reply().json();
        let guess = server.anonymous().request(Method::GET, "/admin/v1/audit/");
        guess
            .header("X-Admin-Key", "guessed")
            .reply()
            .problem(401, "admin_key_required");
        server
            .anonymous()
            .request(Method::GET, "/service/storage/v1/")
            .header("X-API-Key", "guessed")
            .reply();

        let one = |query: &[(&str, &str)]| {
            let found = entries(server, query, 1);
            assert_eq!(found.len(), 1, "{query:?}: {found:?}");
            found[0].clone()
        };
        let failed = one(&[("action", "sign_in"), ("outcome", "failure")]);
        assert_eq!(
            (
                &failed["subject"],
                &failed["realm"],
                &failed["address"],
                &failed["actor"],
                &failed["status"]
            ),
            (
                &json!("ann@example.com"),
                &json!("users"),
                &json!("127.0.0.1"),
                &json!("api_key"),
                &json!(404)
            )
        );
        let good = one(&[("action", "sign_in"), ("outcome", "success")]);
        assert_eq!(
            (&good["agent"], &good["count"]),
            (&json!("Browser 1"), &json!(1))
        );
        assert!(good["request_id"].is_string() && good["at"]["$date"].is_string());
        let changed = one(&[("action", "password.change")]);
        assert_eq!(changed["subject"], "ann@example.com");
        assert!(
            changed["actor"]
                .as_str()
                .unwrap()
                .starts_with("user:users:")
        );
        let key = one(&[("action", "api_key.create")]);
        assert_eq!(key["target"], made["id"]);
        let rules = one(&[
            ("action", "admin.collections.rules.set"),
            ("actor", "admin"),
        ]);
        assert_eq!(rules["target"], "notes");
        assert_eq!(one(&[("action", "admin.audit.read")])["outcome"], "failure");
        assert_eq!(one(&[("action", "api_key.refused")])["outcome"], "failure");
        assert_eq!(entries(server, &[("action", "admin.*")], 2).len(), 2);

        // No secret is in it, whatever was sent.
        let all = server
            .admin()
            .find("/admin/v1/audit/", &[("limit", "1000")])
            .text();
        for secret in [
            "correct horse",
            "battery staple",
            "a wrong secret",
            &token,
            made["key"].as_str().unwrap(),
            "guessed",
        ] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
        // Nor is it a collection that clients could ask.
        api.get("/service/storage/v1/_coglex_audit/")
            .problem(403, "forbidden");
        server
            .api()
            .get("/admin/v1/audit/")
            .problem(401, "admin_key_required");
    });
}

#[test]
fn what_repeats_itself_is_one_entry_that_counts() {
    on_both_stores(
        &[
            "--auth-sign-in-failures",
            "0",
            "--auth-address-failures",
            "0",
        ],
        |server| {
            let api = server.api();
            for attempt in 0..60 {
                // Two keys, many times.
                let wrong =
                    json!({"_key": format!("user{}", attempt % 2), "_password": "a wrong secret"});
                api.post(SIGN_IN, &wrong).problem(404, "not_found");
            }
            let start = Instant::now();
            loop {
                let found = entries(server, &[("action", "sign_in")], 2);
                let counted: i64 = found
                    .iter()
                    .map(|entry| entry["count"].as_i64().unwrap())
                    .sum();
                // A minute may have passed in between.
                assert!(found.len() <= 6, "{found:?}");
                if counted == 60 {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{found:?}");
                std::thread::sleep(Duration::from_millis(200));
            }
        },
    );
}

#[test]
fn the_log_is_read_in_pages_and_by_what_is_wanted() {
    let server = TestServer::start();
    for n in 0..5 {
        let path = format!("/admin/v1/collections/c{n}/rules/");
        let set = server.admin().request(Method::PUT, &path);
        set.json(&json!({"users": {"read": true}})).reply().json();
    }
    let mut seen = Vec::new();
    let mut path = "/admin/v1/audit/?limit=2&action=admin.*".to_owned();
    loop {
        let page = server.admin().get(&path);
        seen.extend(
            page.json()
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["target"].clone()),
        );
        let link = page.header("link").to_owned();
        let Some((next, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            break;
        };
        path = next.to_owned();
    }
    assert_eq!(seen, ["c4", "c3", "c2", "c1", "c0"]);
    let count = |query: &[(&str, &str)]| {
        server
            .admin()
            .find("/admin/v1/audit/", query)
            .json()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(&[("target", "c3")]), 1);
    assert_eq!(count(&[("until", "2020-01-01T00:00:00Z")]), 0);
    assert_eq!(count(&[("since", "2020-01-01T00:00:00Z")]), 5);
    for (name, wrong) in [
        ("outcome", "x"),
        ("since", "x"),
        ("before", "x"),
        ("limit", "0"),
        ("limit", "1001"),
    ] {
        server
            .admin()
            .find("/admin/v1/audit/", &[(name, wrong)])
            .problem(400, "invalid_input");
    }
    let off = TestServer::with(&["--audit-retention", "0s"]);
    let set = off
        .admin()
        .request(Method::PUT, "/admin/v1/collections/c/rules/");
    set.json(&json!({"users": {"read": true}})).reply().json();
    assert_eq!(off.admin().get("/admin/v1/audit/").json(), json!([]));
}

#[test]
fn users_who_are_made_without_a_key_are_told_of_by_name() {
    on_both_stores(&["--auth-anonymous=true"], |server| {
        let made = server
            .api()
            .post("/service/auth/v1/anonymous/users/", &json!({}))
            .json();
        let key = json!({"_key": "ann@example.com", "_password": "correct horse"});
        let promoted = server
            .anonymous()
            .request(Method::POST, "/service/auth/v1/anonymous/users/promote/");
        let token = made["_token"].as_str().unwrap();
        promoted.bearer_auth(token).json(&key).reply().json();
        let one = |action: &str| {
            let found = entries(server, &[("action", action)], 1);
            assert_eq!(found.len(), 1, "{action}: {found:?}");
            (found[0]["actor"].clone(), found[0]["subject"].clone())
        };
        assert_eq!(
            one("auth.anonymous"),
            (json!("api_key"), made["_key"].clone())
        );
        let (actor, subject) = one("auth.anonymous.promote");
        assert!(
            actor.as_str().unwrap().starts_with("user:users:"),
            "{actor}"
        );
        assert_eq!(subject, "ann@example.com");
    });
}
