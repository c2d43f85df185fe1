//! Scoped API keys, asked of the real binary.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::both::{database, on_both_stores, on_mongodb};
use crate::mongodb::database_address;
use crate::support::{ADMIN_KEY, Client, Reply, Send as _, TestServer, coglex};

const KEYS: &str = "/service/auth/v1/keys/";
const NOTES: &str = "/service/storage/v1/notes/";
const SIGN_UP: &str = "/service/auth/v1/signup/users/";
const SIGN_IN: &str = "/service/auth/v1/signin/users/";

/// A request with a key.
fn with(client: &Client, key: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
    let request = client.request(method, path).header("X-API-Key", key);
    match body {
        Some(body) => request.json(body).reply(),
        None => request.reply(),
    }
}

fn make(server: &TestServer, order: &Value) -> (String, String) {
    let made = server.api().post(KEYS, order).json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

#[test]
fn a_key_opens_what_it_was_made_for_and_nothing_else() {
    on_both_stores(&[], |server| {
        let (api, anonymous) = (server.api(), server.anonymous());
        for (id, public) in [("a", true), ("b", false)] {
            api.post(
                NOTES,
                &json!({"document": {"_id": id, "public": public, "secret": 1}}),
            )
            .json();
        }
        let (_, key) = make(
            server,
            &json!({
                "name": "shop",
                "grants": {"storage": [
                    {"collection": "notes", "verbs": ["read"], "filter": {"public": true}, "fields": ["public"]},
                    {"collection": "orders", "verbs": ["insert"]},
                ]},
            }),
        );
        let get = |path: &str| with(&anonymous, &key, Method::GET, path, None);
        assert_eq!(get(NOTES).json(), json!({"_id": "a", "public": true}));
        assert_eq!(
            get(&format!("{NOTES}a/")).json(),
            json!({"_id": "a", "public": true})
        );
        get(&format!("{NOTES}b/")).problem(404, "not_found");
        assert_eq!(get(&format!("{NOTES}count/")).json(), json!(1));
        get("/service/storage/v1/notes/?query=%7B%22secret%22%3A1%7D").problem(403, "forbidden");
        assert_eq!(get("/service/storage/v1/").json(), json!(["notes"]));
        let document = json!({"document": {"_id": "o"}});
        let post = |path: &str| with(&anonymous, &key, Method::POST, path, Some(&document));
        assert_eq!(post("/service/storage/v1/orders/").json(), "o");
        post(NOTES).problem(403, "forbidden");
        for (method, path, body) in [
            (Method::GET, "/service/storage/v1/orders/", None),
            (Method::GET, "/service/storage/v1/_coglex_api_keys/", None),
            (Method::GET, "/service/storage/v1/notes/indexes/", None),
            (Method::DELETE, "/service/storage/v1/notes/a/", None),
            (
                Method::PATCH,
                "/service/storage/v1/notes/a/",
                Some(&document),
            ),
            (
                Method::POST,
                SIGN_UP,
                Some(&json!({"_key": "x", "_password": "correct horse"})),
            ),
            (
                Method::POST,
                SIGN_IN,
                Some(&json!({"_key": "x", "_password": "correct horse"})),
            ),
            (Method::GET, "/service/auth/v1/session/users/", None),
            (
                Method::POST,
                "/service/execution/v1/execute/f/",
                Some(&json!({})),
            ),
            (
                Method::POST,
                "/service/execution/v1/jobs/f/",
                Some(&json!({})),
            ),
            (Method::GET, "/service/execution/v1/jobs/", None),
            (Method::GET, KEYS, None),
            (
                Method::POST,
                KEYS,
                Some(&json!({"name": "x", "routes": ["*"]})),
            ),
        ] {
            let reply = with(&anonymous, &key, method.clone(), path, body);
            assert_eq!(reply.status, 403, "{method} {path}: {}", reply.text());
        }
        // It is not the admin key, and not told from nonsense on admin routes.
        let admin = anonymous.request(Method::GET, "/admin/v1/plugins/");
        admin
            .header("X-Admin-Key", &key)
            .reply()
            .problem(401, "admin_key_required");
    });
}

#[test]
fn a_key_is_shown_once_and_listed_without_itself() {
    on_both_stores(&[], |server| {
        let order = json!({
            "name": "till", "routes": ["/a/*"], "expires": "2130-01-31T00:00:00Z",
            "addresses": ["127.0.0.0/8", "2001:db8::1"],
        });
        let (id, key) = make(server, &order);
        let by_operator = server
            .admin()
            .post(KEYS, &json!({"name": "op", "routes": ["*"]}))
            .json();
        assert_eq!(by_operator["created_by"], "admin_key");
        let listed = server.api().get(KEYS);
        assert_eq!(listed.header("cache-control"), "no-store");
        assert!(!listed.text().contains(&key[10..30]), "{}", listed.text());
        let listed = listed.json();
        let ours = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["id"] == id.as_str())
            .unwrap();
        assert_eq!(
            (
                &ours["name"],
                &ours["created_by"],
                &ours["routes"],
                &ours["addresses"]
            ),
            (
                &json!("till"),
                &json!("api_key"),
                &json!(["/a/*"]),
                &json!(["127.0.0.0/8", "2001:db8::1/128"])
            )
        );
        assert_eq!(ours["expires"]["$date"], "2130-01-31T00:00:00Z");
        assert_eq!(
            server.api().get(&format!("{KEYS}{id}/")).json()["id"],
            id.as_str()
        );
        assert_eq!(server.admin().delete(&format!("{KEYS}{id}/")).json(), 1);
        server
            .api()
            .delete(&format!("{KEYS}{id}/"))
            .problem(404, "not_found");
        with(&server.anonymous(), &key, Method::GET, NOTES, None).problem(401, "api_key_required");
        server
            .anonymous()
            .get(KEYS)
            .problem(401, "api_key_required");
        for (wrong, code) in [
            (json!([]), "invalid_json"),
            (json!({"routes": ["*"]}), "invalid_input"),
            (json!({"name": "x"}), "invalid_input"),
            (
                json!({"name": "x", "routes": ["*"], "more": 1}),
                "invalid_input",
            ),
            (
                json!({"name": "x", "routes": ["*"], "expires": 1}),
                "invalid_input",
            ),
            (
                json!({"name": "x", "routes": ["*"], "addresses": ["here"]}),
                "invalid_input",
            ),
            (
                json!({"name": "x", "grants": {"storage": [{"collection": "c", "verbs": ["see"]}]}}),
                "invalid_input",
            ),
            (
                json!({"name": "x", "grants": {"storage": [{"collection": "c", "verbs": ["read"], "filter": {"$where": "1"}}]}}),
                "invalid_input",
            ),
        ] {
            server.api().post(KEYS, &wrong).problem(400, code);
        }
    });
}

#[test]
fn a_key_counts_only_from_where_it_may_be_used() {
    let server = TestServer::with(&["--server-trusted-proxies", "1"]);
    let order = json!({"name": "x", "addresses": ["192.0.2.0/24"], "grants": {"storage": [{"collection": "notes", "verbs": ["read"]}]}});
    let (_, key) = make(&server, &order);
    let from = |forwarded: &str| {
        let request = server
            .anonymous()
            .request(Method::GET, &format!("{NOTES}count/"));
        let request = request
            .header("X-API-Key", &key)
            .header("X-Forwarded-For", forwarded);
        request.reply()
    };
    assert_eq!(from("192.0.2.9").json(), 0);
    from("192.0.3.9").problem(401, "api_key_required");
    // What the client itself writes is not believed.
    from("192.0.2.9, 203.0.113.1").problem(401, "api_key_required");
}

#[test]
fn a_revoked_key_is_dead_on_every_host_at_once() {
    let Some(address) = database_address() else {
        return;
    };
    let name = database();
    let (here, there) = (
        on_mongodb(&address, &name, &[]),
        on_mongodb(&address, &name, &[]),
    );
    let order =
        json!({"name": "x", "grants": {"storage": [{"collection": "notes", "verbs": ["read"]}]}});
    let (id, key) = make(&here, &order);
    let count = |server: &TestServer| {
        with(
            &server.anonymous(),
            &key,
            Method::GET,
            &format!("{NOTES}count/"),
            None,
        )
    };
    assert_eq!(
        (count(&here).json(), count(&there).json()),
        (json!(0), json!(0))
    );
    here.api().delete(&format!("{KEYS}{id}/")).json();
    count(&there).problem(401, "api_key_required");
    count(&here).problem(401, "api_key_required");
}

#[test]
fn a_publishable_key_signs_users_in_and_acts_for_them() {
    on_both_stores(&[], |server| {
        let anonymous = server.anonymous();
        let (_, key) = make(
            server,
            &json!({"name": "web", "grants": {
                "auth": [{"collection": "users", "verbs": ["signup", "verify"]}],
                "storage": [{"collection": "notes", "verbs": ["read", "insert"], "filter": {"owner": "$caller.users"}}],
            }}),
        );
        let post =
            |path: &str, body: &Value| with(&anonymous, &key, Method::POST, path, Some(body));
        let account = |document: Value| json!({"_key": "ann", "_password": "correct horse", "document": document});
        // Whoever has a key that everybody has does not choose who to be.
        post(SIGN_UP, &account(json!({"roles": ["admin"]}))).problem(403, "forbidden");
        post(SIGN_UP, &account(json!({"_id": "somebody"}))).problem(403, "forbidden");
        post(SIGN_UP, &account(json!({"name": "Ann"}))).json();
        let user = post(SIGN_IN, &account(json!({}))).json();
        let token = user["_token"].as_str().unwrap();
        let update = json!({"_key": "ann", "document": {"roles": ["admin"]}});
        with(
            &anonymous,
            &key,
            Method::PATCH,
            "/service/auth/v1/refresh/users/",
            Some(&update),
        )
        .problem(403, "forbidden");
        // Without a user there is nobody to act for.
        post(NOTES, &json!({"document": {"n": 1}})).problem(403, "forbidden");
        let as_ann = |method: Method, path: &str| {
            anonymous
                .request(method, path)
                .header("X-API-Key", &key)
                .bearer_auth(token)
        };
        as_ann(Method::POST, NOTES)
            .json(&json!({"document": {"_id": "n"}}))
            .reply()
            .json();
        let found = as_ann(Method::GET, NOTES).reply().json();
        assert_eq!(found["owner"], user["_id"]);
        as_ann(Method::POST, NOTES)
            .json(&json!({"document": {"owner": "bob"}}))
            .reply()
            .problem(403, "forbidden");
        assert_eq!(
            as_ann(Method::GET, "/service/auth/v1/session/users/")
                .reply()
                .json()["_key"],
            "ann"
        );
    });
}

#[test]
fn operators_make_and_revoke_keys_by_the_command_line() {
    let server = TestServer::start();
    let run = |arguments: &[&str]| {
        let mut command: Command = coglex(server.dir.path());
        command.args(arguments).args(["--server", &server.url]);
        let output = command.env("COGLEX_ADMIN_KEY", ADMIN_KEY).output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        told
    };
    assert_eq!(run(&["keys", "list"]), "there are no scoped API keys\n");
    let grants = r#"{"storage": [{"collection": "notes", "verbs": ["read"]}]}"#;
    let made = run(&["keys", "create", "shop", "--grants", grants]);
    let key = made.lines().next().unwrap();
    let count = || {
        with(
            &server.anonymous(),
            key,
            Method::GET,
            &format!("{NOTES}count/"),
            None,
        )
    };
    assert_eq!(count().json(), 0);
    let listed: Value = serde_json::from_str(&run(&["keys", "list", "--json"])).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    assert!(run(&["keys", "list"]).contains("shop"));
    assert_eq!(run(&["keys", "revoke", id]), "revoked\n");
    count().problem(401, "api_key_required");
    // Rules and the log, by the same way.
    std::fs::write(
        server.dir.path().join("rules.json"),
        r#"{"users": {"read": true}}"#,
    )
    .unwrap();
    run(&["rules", "set", "notes", "rules.json"]);
    assert!(run(&["rules", "show", "notes"]).contains("\"read\": true"));
    assert!(run(&["rules", "list"]).contains("notes"));
    assert_eq!(run(&["rules", "remove", "notes"]), "removed\n");
    let log = run(&["audit", "--action", "api_key.*"]);
    assert!(
        log.contains("api_key.create") && log.contains("api_key.revoke"),
        "{log}"
    );
    assert!(!log.contains(key), "{log}");
    assert!(run(&["audit", "--action", "admin.collections.rules.set"]).contains("notes"));
}
