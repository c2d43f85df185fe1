//! Write hooks, and what else functions declare, through the real binary: on the
//! embedded store and on MongoDB.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::{Client, PATIENCE, with_query};

/// All that the fixture asks for.
pub(crate) const ALLOW: &str = r#"
[plugins.allow.fixture-hooks]
functions = ["one_to_five"]
[[plugins.allow.fixture-hooks.storage]]
collection = "*"
verbs = ["read", "insert", "update", "delete", "hook"]
[[plugins.allow.fixture-hooks.auth]]
collection = "users"
verbs = ["signup"]
"#;

const ORDERS: &str = "/service/storage/v1/orders/";
const AUDIT: &str = "/service/storage/v1/audit/";
const SIGN_UP: &str = "/service/auth/v1/signup/users/";
const REFRESH: &str = "/service/auth/v1/refresh/users/";

/// Where the documents of a case are.
struct Store(Option<(String, String)>);

impl Store {
    /// A database of its own; nothing when there is no server.
    fn mongodb() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let uri = std::env::var("COGLEX_TEST_MONGODB_URI").ok();
        if uri.is_none() {
            eprintln!("skipped: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("coglex_hooks_{}_{number}", std::process::id());
        Some(Self(Some((uri?, database))))
    }

    fn host(&self) -> Host {
        self.host_with(&[])
    }

    fn host_with(&self, flags: &[&str]) -> Host {
        let mut flags = flags.to_vec();
        if let Some((uri, database)) = &self.0 {
            flags.extend(["--mongodb-uri", uri, "--mongodb-database", database]);
        }
        Host::flags(&["fixture-hooks"], ALLOW, &flags)
    }
}

/// Makes each case a test per store.
macro_rules! on_both_stores {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $case() {
                super::$case(&super::Store(None));
            })*
        }
        mod mongodb {
            $(#[test]
            fn $case() {
                if let Some(store) = super::Store::mongodb() {
                    super::$case(&store);
                }
            })*
        }
    };
}

on_both_stores!(
    hooks_change_and_refuse_inserts_in_their_order,
    hooks_see_updates_upserts_and_replacements,
    a_hook_may_read_what_is_about_to_be_deleted,
    hooks_after_a_write_run_as_jobs_that_know_what_came_of_it,
    a_large_insert_is_told_in_parts,
    a_hook_that_fails_stops_the_write_or_does_not,
    hooks_that_write_nest_four_deep,
    hooks_see_sign_ups_and_changes_of_users_without_what_is_hidden,
    the_filter_of_a_grant_holds_after_a_hook_changed_the_write,
);

fn path(collection: &str, id: &str) -> String {
    format!("/service/storage/v1/{collection}/{id}/")
}

#[track_caller]
fn insert(api: &Client, collection: &str, document: Value) -> Value {
    let path = format!("/service/storage/v1/{collection}/");
    api.post(&path, &json!({ "document": document })).json()
}

#[track_caller]
fn count(api: &Client, collection: &str, filter: Value) -> i64 {
    let path = format!("/service/storage/v1/{collection}/count/");
    let reply = api.get(&with_query(&path, &[("query", &filter.to_string())]));
    let count: i64 = serde_json::from_str(&reply.text()).unwrap();
    count
}

/// Waits until so many documents of a collection match, and then a little, so
/// that more would be seen.
#[track_caller]
fn becomes(api: &Client, collection: &str, filter: Value, expected: i64) {
    let start = Instant::now();
    while count(api, collection, filter.clone()) < expected {
        assert!(
            start.elapsed() < PATIENCE,
            "there are only {} of {expected} in {collection}",
            count(api, collection, filter)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(api, collection, filter), expected);
}

/// What came of a write that the plugin's app makes.
#[track_caller]
fn by_guest(host: &Host, write: Value) -> Value {
    let reply = host
        .server
        .anonymous()
        .post("/hooks/writes", &json!([write]));
    reply.json()[0].clone()
}

fn hooks_change_and_refuse_inserts_in_their_order(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    let typed = json!({"_id": "a", "total": 3, "at": {"$date": "2026-01-02T03:04:05.678Z"}});
    assert_eq!(insert(&api, "orders", typed.clone()), "a");
    let mut expected = typed;
    expected["seen"] = json!(["stamp", "check"]);
    expected["by"] = json!("client");
    expected["as"] = json!("insert");
    assert_eq!(api.get(&path("orders", "a")).json(), expected);

    // All or nothing, and the sentence and code are the hook's.
    let batch = json!({"documents": [{"_id": "b", "total": 1}, {"_id": "c", "total": -1}]});
    let detail = api.post(ORDERS, &batch).problem(422, "negative_total");
    assert_eq!(detail, "an order costs something");
    assert_eq!(count(&api, "orders", json!({})), 1);
    let batch = json!({"documents": [{"_id": "b", "total": 1}, {"total": 2}]});
    let ids = api.post(ORDERS, &batch).json();
    assert_eq!(ids[0], "b");
    assert_eq!(
        count(&api, "orders", json!({"as": "insert", "by": "client"})),
        3
    );

    // What is wrong by itself is told as without hooks, and nobody is asked.
    let key = api.post(ORDERS, &json!({"document": {"_key": "x"}}));
    key.problem(403, "forbidden");
    api.post(ORDERS, &json!({"document": {"_id": "a", "total": 1}}))
        .problem(409, "conflict");
    // Hooks of a plugin that is gone are gone.
    host.remove("fixture-hooks");
    host.logged(&["plugin unloaded"]);
    insert(&api, "orders", json!({"_id": "z", "total": -1}));
    assert_eq!(
        api.get(&path("orders", "z")).json(),
        json!({"_id": "z", "total": -1})
    );
}

fn hooks_see_updates_upserts_and_replacements(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    insert(&api, "orders", json!({"_id": "a", "total": 3}));
    let change = |set: Value| json!({ "document": set });
    let a = path("orders", "a");
    assert_eq!(api.patch(&a, &change(json!({"total": 4}))).json(), 1);
    let found = api.get(&a).json();
    assert_eq!(
        (&found["total"], &found["as"], &found["seen"]),
        (&json!(4), &json!("update"), &json!(["stamp", "check"]))
    );
    api.patch(&a, &change(json!({"total": -4})))
        .problem(422, "negative_total");
    assert_eq!(api.get(&a).json()["total"], 4);

    // Many at once: what is asked for is shown, once.
    let many = with_query(ORDERS, &[("query", r#"{"total": {"$gt": 0}}"#)]);
    assert_eq!(api.patch(&many, &change(json!({"n": 1}))).json(), 1);

    // An upsert may be an insert, so no hook on inserts is got around by one.
    let upsert = |id: &str, total: i64| {
        let query = json!({ "_id": id }).to_string();
        let path = with_query(ORDERS, &[("query", &query), ("upsert", "true")]);
        api.patch(&path, &json!({"document": {"$set": {"total": total}}}))
    };
    upsert("u", -1).problem(422, "negative_total");
    upsert("u", 1).json();
    let found = api.get(&path("orders", "u")).json();
    assert_eq!(found["as"], "upsert");
    assert_eq!(found["seen"], json!(["stamp", "check"]));

    // The fixture may not write orders, so it is refused before a hook is asked.
    let replaced = by_guest(
        &host,
        json!({"into": "orders", "id": "a", "replacement": {"total": 5}}),
    );
    assert!(replaced["error"].as_str().unwrap().contains("not granted"));
}

fn a_hook_may_read_what_is_about_to_be_deleted(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    for (id, locked) in [("a", true), ("b", false), ("c", false)] {
        insert(&api, "orders", json!({"_id": id, "locked": locked}));
    }
    let detail = api.delete(&path("orders", "a")).problem(422, "locked");
    assert_eq!(detail, "1 of them are locked");
    assert_eq!(api.delete(&path("orders", "b")).json(), 1);
    api.delete(&with_query(ORDERS, &[("query", "{}")]))
        .problem(422, "locked");
    assert_eq!(count(&api, "orders", json!({})), 2);
    let open = with_query(ORDERS, &[("query", r#"{"locked": false}"#)]);
    assert_eq!(api.delete(&open).json(), 1);
}

fn hooks_after_a_write_run_as_jobs_that_know_what_came_of_it(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    insert(&api, "orders", json!({"_id": "a", "total": 3}));
    api.post(ORDERS, &json!({"document": {"_id": "a"}}))
        .problem(409, "conflict");
    let a = path("orders", "a");
    api.patch(&a, &json!({"document": {"total": 4}})).json();
    // Nothing is changed, so nothing is told.
    api.patch(&a, &json!({"document": {"total": 4}})).json();
    api.patch(
        &path("orders", "absent"),
        &json!({"document": {"total": 4}}),
    )
    .problem(404, "not_found");
    api.delete(&a).json();
    becomes(&api, "audit", json!({}), 3);

    let audit = |operation: &str| {
        let query = json!({ "operation": operation }).to_string();
        let mut found = api.find(AUDIT, &[("query", &query)]).json();
        found.as_object_mut().unwrap().remove("_id");
        found
    };
    assert_eq!(
        audit("insert"),
        json!({"operation": "insert", "totals": [3], "filter": null, "depth": 1,
            "outcome": {"ids": ["a"], "matched": 0, "modified": 0, "deleted": 0}})
    );
    let update = audit("update");
    assert_eq!(update["outcome"]["modified"], 1);
    assert!(update["filter"].to_string().contains("\"a\""), "{update}");
    assert_eq!(audit("delete")["outcome"]["deleted"], 1);

    // No job is left behind by the writes that came to nothing.
    let waiting = "/service/execution/v1/jobs/?state=waiting";
    assert!(!api.get(waiting).text().contains("audit_order"));
}

fn a_large_insert_is_told_in_parts(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    let text = "x".repeat(1_000);
    let documents: Vec<Value> = (0..1_200)
        .map(|n| json!({"_id": format!("d{n:05}"), "total": n, "text": text}))
        .collect();
    api.post(ORDERS, &json!({ "documents": documents })).json();
    // 1.2 MB, half a megabyte in a job.
    becomes(&api, "audit", json!({"operation": "insert"}), 3);
    let told = with_query(AUDIT, &[("many", "true")]);
    let told = api.get(&told).json();
    let totals = told.as_array().unwrap().iter();
    let mut totals: Vec<i64> = totals
        .flat_map(|part| part["totals"].as_array().unwrap())
        .map(|total| total.as_i64().unwrap())
        .collect();
    totals.sort_unstable();
    assert_eq!(totals, (0..1_200).collect::<Vec<_>>());
}

fn a_hook_that_fails_stops_the_write_or_does_not(store: &Store) {
    let host = store.host_with(&["--plugins-budget-cpu", "300ms"]);
    let api = host.server.api();
    let write = |into: &str, what: &str| {
        let path = format!("/service/storage/v1/{into}/");
        api.post(&path, &json!({"document": {"do": what}}))
    };
    let broken = [
        "trap", "number", "fewer", "id", "hidden", "operator", "deep",
    ];
    for what in broken {
        write("strict", what).problem(500, "hook_failed");
        write("lax", what).json();
    }
    write("strict", "loop").problem(504, "hook_deadline");
    write("lax", "loop").json();
    write("strict", "nothing").json();
    assert_eq!(count(&api, "strict", json!({})), 1);
    // What a hook made that cannot be used is not used in part, either.
    let lax = with_query("/service/storage/v1/lax/", &[("many", "true")]);
    for document in api.get(&lax).json().as_array().unwrap() {
        assert_eq!(document.as_object().unwrap().len(), 2, "{document}");
    }
    assert_eq!(count(&api, "lax", json!({})), 8);
    host.logged(&["the hook panics on purpose"]);
    host.logged(&["strict", "its answer cannot be used", "`_password`"]);
}

fn hooks_that_write_nest_four_deep(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    insert(&api, "chain", json!({"n": 0}));
    assert_eq!(count(&api, "chain", json!({})), 4);
    insert(&api, "echoes", json!({"n": 0}));
    becomes(&api, "echoes", json!({}), 4);
    let deepest = with_query("/service/storage/v1/echoes/", &[("query", r#"{"n": 3}"#)]);
    assert_eq!(api.get(&deepest).json()["depth"], 3);
}

fn hooks_see_sign_ups_and_changes_of_users_without_what_is_hidden(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    let sign_up = |key: &str, document: Value| {
        let body = json!({"_key": key, "_password": "a good password", "document": document});
        api.post(SIGN_UP, &body)
    };
    let id = sign_up("ann", json!({"name": "Ann"})).json();
    let found = api.get(&path(
        "users",
        id["$oid"].as_str().unwrap_or(id.as_str().unwrap_or("")),
    ));
    let found = found.json();
    assert_eq!(
        (&found["_key"], &found["name"], &found["plan"]),
        (&json!("ann"), &json!("Ann"), &json!("free"))
    );
    sign_up("bob", json!({"wish": "refuse"})).problem(422, "not_welcome");
    for wish in ["password", "session", "key"] {
        sign_up("bob", json!({ "wish": wish })).problem(500, "hook_failed");
    }
    assert_eq!(count(&api, "users", json!({})), 1);
    // A key that is taken is told before a hook is asked.
    sign_up("ann", json!({"wish": "refuse"})).problem(400, "invalid_input");

    let refresh =
        |document: Value| api.patch(REFRESH, &json!({"_key": "ann", "document": document}));
    assert_eq!(refresh(json!({"name": "Anna", "plan": "paid"})).json(), 1);
    let found = api.find(
        "/service/storage/v1/users/",
        &[("query", r#"{"_key": "ann"}"#)],
    );
    assert_eq!(found.json()["plan"], "free");
    refresh(json!({"wish": "refuse"})).problem(422, "not_welcome");
    for wish in ["password", "session", "key"] {
        refresh(json!({ "wish": wish })).problem(500, "hook_failed");
    }
    // The password alone is no concern of hooks; with other fields it is kept.
    assert_eq!(refresh(json!({"_password": "another password"})).json(), 1);
    let both = json!({"_password": "a third password", "name": "Ann", "_key": "ann2"});
    assert_eq!(refresh(both).json(), 1);
    let sign_in = |key: &str, password: &str| {
        api.post(
            "/service/auth/v1/signin/users/",
            &json!({"_key": key, "_password": password}),
        )
    };
    sign_in("ann2", "another password").problem(404, "not_found");
    assert_eq!(sign_in("ann2", "a third password").json()["name"], "Ann");

    // Who signs up through a plugin is looked at, too.
    let made = by_guest(
        &host,
        json!({"sign_up": "cyd", "document": {"wish": "refuse"}}),
    );
    let error = made["error"].as_str().unwrap();
    assert!(
        error.contains("not_welcome") && error.contains("not you"),
        "{error}"
    );
    let made = by_guest(&host, json!({"sign_up": "cyd", "document": {}}));
    assert!(made["ok"]["$oid"].is_string(), "{made}");
}

fn the_filter_of_a_grant_holds_after_a_hook_changed_the_write(store: &Store) {
    let host = store.host();
    let api = host.server.api();
    let into = |documents: Value| by_guest(&host, json!({"into": "mine", "insert": documents}));
    // Fields that the writer may not write a hook may.
    assert_eq!(into(json!([{"_id": "m1", "title": "x"}]))["ok"], 1);
    assert_eq!(
        api.get(&path("mine", "m1")).json(),
        json!({"_id": "m1", "title": "x", "team": "a", "stamped": true})
    );
    let refused = |answer: Value, part: &str| {
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(part), "{answer}");
    };
    refused(
        into(json!([{"_id": "m2"}, {"_id": "m3", "retag": "b"}])),
        "condition",
    );
    assert_eq!(count(&api, "mine", json!({})), 1);
    let set = |set: Value| by_guest(&host, json!({"into": "mine", "id": "m1", "set": set}));
    assert_eq!(set(json!({"title": "y"}))["ok"], 1);
    refused(set(json!({"retag": "b"})), "the grant depends on it");
    assert_eq!(api.get(&path("mine", "m1")).json()["title"], "y");
    // A guest's own write has its plugin as caller, and goes by its hooks.
    refused(
        by_guest(&host, json!({"into": "users", "insert": [{}]})),
        "not granted",
    );
}

#[test]
fn a_hook_that_was_not_granted_keeps_its_plugin_out() {
    let allow = ALLOW.replace(", \"hook\"]", "]");
    let host = Host::with(&["fixture-hooks"], &allow);
    host.logged(&[
        "plugin not loaded",
        "has a hook on the writes of",
        "not granted",
    ]);
    let api = host.server.api();
    insert(&api, "orders", json!({"total": -1}));
}

#[test]
fn what_functions_declare_is_shown_and_their_arguments_are_checked() {
    let host = Host::with(&["fixture-hooks"], ALLOW);
    let api = host.server.api();
    let call = |body: Value| api.post("/service/execution/v1/execute/one_to_five/", &body);
    assert_eq!(call(json!({"args": [3]})).json(), 3);
    assert_eq!(call(json!({"kwargs": {"n": 5}})).json(), 5);
    for (body, at) in [
        (json!({"args": [6]}), "/args/0"),
        (json!({"args": ["x"]}), "/args/0"),
        (json!({"args": [1, 2]}), "/args"),
        (json!({"kwargs": {"n": 0}}), "/kwargs/n"),
        (json!({"kwargs": {"m": 1}}), "/kwargs"),
    ] {
        let reply = call(body.clone());
        let problem: Value = serde_json::from_str(&reply.text()).unwrap();
        assert_eq!(problem["errors"][0]["path"], at, "{body}: {problem}");
        reply.problem(422, "input_mismatch");
    }

    // A plugin that calls it is told the same.
    assert_eq!(by_guest(&host, json!({"call": 2}))["ok"], 2);
    let error = by_guest(&host, json!({"call": 6}));
    let error = error["error"].as_str().unwrap();
    assert!(error.contains("/args/0"), "{error}");

    let shown = host
        .server
        .admin()
        .get("/admin/v1/plugins/fixture-hooks/")
        .json();
    let functions = shown["functions"].as_array().unwrap();
    let named = |name: &str| {
        let found = functions.iter().find(|function| function["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {shown}"))
    };
    assert_eq!(named("one_to_five")["args"]["maxItems"], 1);
    assert_eq!(named("one_to_five")["result"], json!({"type": "integer"}));
    let hook = &named("check_order")["hooks"][1];
    assert_eq!(
        *hook,
        json!({"moment": "before", "operation": "update", "collection": "orders",
            "order": 7, "fail_open": false})
    );
    assert_eq!(named("lax")["hooks"][0]["fail_open"], true);
}

#[test]
fn a_plugin_full_of_writers_does_not_wait_for_itself() {
    let host = Host::with(&["fixture-hooks"], ALLOW);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..24 {
            let host = &host;
            scope.spawn(move || {
                for n in 0..4 {
                    let id = format!("{writer}-{n}");
                    let write = json!({"into": "mine", "insert": [{"_id": id}]});
                    assert_eq!(by_guest(host, write)["ok"], 1);
                }
            });
        }
    });
    assert_eq!(
        count(&host.server.api(), "mine", json!({"stamped": true})),
        96
    );
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

/// Whoever was told that an order is there can rely on its hook.
#[test]
fn a_killed_server_loses_no_hook_after_an_acknowledged_write() {
    const WRITERS: usize = 4;
    let mut host = Host::with(&["fixture-hooks"], ALLOW);
    let mut acknowledged: Vec<i64> = Vec::new();
    for round in 0..2 {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let done = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (api, stop, done) = (host.server.api(), &stop, &done);
                scope.spawn(move || {
                    for n in 0.. {
                        let total = i64::try_from(round * 1_000_000 + writer * 10_000 + n).unwrap();
                        let body = json!({"document": {"total": total}});
                        let request = api.request(reqwest::Method::POST, ORDERS);
                        match request.json(&body).send() {
                            Ok(reply) if reply.status().is_success() => {
                                done.lock().unwrap().push(total);
                            }
                            _ => return,
                        }
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(400 + 150 * round as u64));
            // From under the writers; `kill` below only collects what is left.
            let killed = std::process::Command::new("kill")
                .args(["-9", &host.server.id().to_string()])
                .status();
            assert!(killed.unwrap().success());
            stop.store(true, Ordering::Relaxed);
        });
        acknowledged.extend(done.into_inner().unwrap());
        let dir = host.server.kill();
        host = Host::start(dir, &["--jobs-lease", "2s"]);
    }
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let api = host.server.api();
    let start = Instant::now();
    for total in acknowledged {
        while count(&api, "audit", json!({"totals": total})) == 0 {
            assert!(
                start.elapsed() < PATIENCE * 2,
                "order {total} was not told of"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
