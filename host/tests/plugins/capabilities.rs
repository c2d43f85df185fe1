//! What guests can call, through the real binary: a fixture does step by step
//! what a test tells it, and says what came of each.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::Client;

/// All that the fixture asks for.
const ALLOW: &str = r#"
[plugins.allow.fixture-capabilities]
storage = [{ collection = "*", verbs = ["read", "insert", "update", "delete"] }]
auth = [{ collection = "users", verbs = ["lookup", "signup", "verify"] }]
functions = ["*"]
secrets = ["*"]
kv = true

[plugins.secrets.fixture-capabilities]
token = "the-token-of-the-tests"
"#;

fn host() -> Host {
    Host::with(&["fixture-capabilities", "fixture-echo"], ALLOW)
}

/// What came of the steps, asked for through the app.
#[track_caller]
fn steps(client: &Client, steps: Value) -> Vec<Value> {
    serde_json::from_value(client.post("/steps", &steps).json()).unwrap()
}

/// Each step with what should come of it: a value, or the kind of an error.
#[track_caller]
fn check(client: &Client, table: &[(Value, Value)]) {
    let asked: Vec<&Value> = table.iter().map(|(step, _)| step).collect();
    let came = steps(client, json!(asked));
    for ((step, expected), came) in table.iter().zip(came) {
        let matches = match expected["error"].as_str() {
            Some(kind) => came["error"] == kind,
            None => came["ok"] == *expected,
        };
        assert!(matches, "{step}\n expected {expected}\n came {came}");
    }
}

fn refused(kind: &str) -> Value {
    json!({ "error": kind })
}

#[test]
fn every_operation_on_documents_is_there() {
    let host = host();
    check(
        &host.server.anonymous(),
        &[
            (
                json!({"do": "insert", "of": "items", "documents": [
                    {"_id": "a", "n": 1, "tags": ["x", "y"], "list": [{"k": 1, "v": 0}, {"k": 2, "v": 0}]},
                    {"_id": "b", "n": 2, "tags": ["y"]},
                    {"_id": "c", "n": 3, "tags": []},
                ]}),
                json!(["a", "b", "c"]),
            ),
            (
                json!({"do": "insert", "of": "items", "documents": [{"_id": "d"}, {"_id": "a"}]}),
                refused("conflict"),
            ),
            (json!({"do": "count", "of": "items"}), json!(3)),
            (
                json!({"do": "distinct", "of": "items", "path": "tags", "filter": {"n": 1}}),
                json!(["x", "y"]),
            ),
            (
                json!({"do": "aggregate", "of": "items", "pipeline": [
                    {"$sort": {"n": -1}}, {"$project": {"_id": 1}},
                ]}),
                json!([{"_id": "c"}, {"_id": "b"}, {"_id": "a"}]),
            ),
            (
                json!({"do": "aggregate", "of": "items", "pipeline": [{"$out": "other"}]}),
                refused("invalid"),
            ),
            (
                json!({"do": "aggregate", "of": "items", "pipeline": [
                    {"$lookup": {"from": "users", "localField": "n", "foreignField": "n", "as": "u"}},
                ]}),
                refused("access-denied"),
            ),
            (
                json!({"do": "update", "of": "items", "filter": {"_id": "a"},
                    "update": {"$set": {"list.$[x].v": 7}}, "array_filters": [{"x.k": 2}]}),
                json!([1, 1, null]),
            ),
            (
                json!({"do": "get", "of": "items", "id": "a"}),
                json!({"_id": "a", "n": 1, "tags": ["x", "y"], "list": [{"k": 1, "v": 0}, {"k": 2, "v": 7}]}),
            ),
            (
                json!({"do": "update", "of": "items", "filter": {"_id": "a"},
                    "update": {"$set": {"list.$[x].v": 7}}, "array_filters": [{"x._password": 2}]}),
                refused("access-denied"),
            ),
            (
                json!({"do": "update", "of": "items", "filter": {"_id": "e"}, "update": {"$inc": {"n": 5}}, "upsert": true}),
                json!([0, 0, "e"]),
            ),
            (
                json!({"do": "replace", "of": "items", "filter": {"_id": "e"}, "document": {"new": true}}),
                json!([1, 1, null]),
            ),
            (
                json!({"do": "one", "of": "items", "filter": {"_id": "e"}}),
                json!({"_id": "e", "new": true}),
            ),
            (
                json!({"do": "replace", "of": "items", "filter": {"_id": "f"}, "document": {"x": 1}, "upsert": true}),
                json!([0, 0, "f"]),
            ),
            (
                json!({"do": "replace", "of": "items", "filter": {"_id": "f"}, "document": {"$set": {"x": 1}}}),
                refused("invalid"),
            ),
            (
                json!({"do": "delete", "of": "items", "filter": {"n": {"$gt": 1}}}),
                json!(2),
            ),
            (
                json!({"do": "find", "of": "other"}),
                refused("access-denied"),
            ),
        ],
    );
}

#[test]
fn conditions_of_a_grant_follow_the_session() {
    let host = host();
    let api = host.server.api();
    for (key, n) in [("ann", 1), ("bob", 2)] {
        let body = json!({"_key": key, "_password": "correct horse"});
        let id = api.post("/service/auth/v1/signup/users/", &body).json();
        let note = json!({"document": {"_id": format!("of {key}"), "owner": {"$oid": id}, "title": key, "n": n, "hidden": n}});
        api.post("/service/storage/v1/notes/", &note).json();
    }
    check(
        &host.server.anonymous(),
        &[
            (
                json!({"do": "find", "of": "notes"}),
                refused("access-denied"),
            ),
            (
                json!({"do": "insert", "of": "notes", "documents": [{"title": "x"}]}),
                refused("access-denied"),
            ),
            (json!({"do": "require", "of": "users"}), refused("problem")),
        ],
    );
    let ann = host.server.api().with_cookies();
    ann.post(
        "/service/auth/v1/signin/users/",
        &json!({"_key": "ann", "_password": "correct horse"}),
    )
    .json();
    check(
        &ann,
        &[
            (
                json!({"do": "find", "of": "notes"}),
                json!([{"_id": "of ann", "title": "ann", "n": 1}]),
            ),
            (
                json!({"do": "get", "of": "notes", "id": "of bob"}),
                json!(null),
            ),
            (json!({"do": "count", "of": "notes"}), json!(1)),
            (
                json!({"do": "distinct", "of": "notes", "path": "title"}),
                json!(["ann"]),
            ),
            (
                json!({"do": "distinct", "of": "notes", "path": "hidden"}),
                refused("access-denied"),
            ),
            (
                json!({"do": "count", "of": "notes", "filter": {"hidden": 1}}),
                refused("access-denied"),
            ),
            (
                json!({"do": "aggregate", "of": "notes", "pipeline": [{"$group": {"_id": null, "all": {"$push": "$$ROOT"}}}]}),
                json!([{"_id": null, "all": [{"_id": "of ann", "title": "ann", "n": 1}]}]),
            ),
            (
                json!({"do": "insert", "of": "notes", "documents": [{"_id": "new", "title": "mine"}]}),
                json!(["new"]),
            ),
            (
                json!({"do": "update", "of": "notes", "filter": {}, "update": {"$inc": {"n": 10}}, "many": true}),
                json!([2, 2, null]),
            ),
            (
                json!({"do": "update", "of": "notes", "filter": {}, "update": {"$set": {"owner": 1}}}),
                refused("access-denied"),
            ),
            (
                json!({"do": "replace", "of": "notes", "filter": {"_id": "new"}, "document": {"title": "x"}}),
                refused("access-denied"),
            ),
            (
                json!({"do": "delete", "of": "notes", "filter": {}}),
                json!(2),
            ),
        ],
    );
    let left = api
        .find("/service/storage/v1/notes/", &[("many", "true")])
        .json();
    assert_eq!(
        (left.as_array().unwrap().len(), &left[0]["n"]),
        (1, &json!(2))
    );
}

#[test]
fn accounts_can_be_made_found_and_verified() {
    let host = host();
    let client = host.server.anonymous();
    let sign_up = json!({"do": "sign_up", "of": "users", "key": "ann", "password": "correct horse", "document": {"name": "Ann"}});
    let made = steps(&client, json!([sign_up]));
    let id = made[0]["ok"].clone();
    let user =
        json!({"key": "ann", "id": id, "document": {"_id": id, "_key": "ann", "name": "Ann"}});
    let verify = |key: &str, password: &str| json!({"do": "verify", "of": "users", "key": key, "password": password});
    check(
        &client,
        &[
            (sign_up, refused("conflict")),
            (
                json!({"do": "lookup", "of": "users", "key": "ann"}),
                user.clone(),
            ),
            (
                json!({"do": "lookup_by_id", "of": "users", "id": id}),
                user.clone(),
            ),
            (
                json!({"do": "lookup", "of": "users", "key": "bob"}),
                json!(null),
            ),
            (verify("ann", "correct horse"), user),
            (verify("ann", "wrong"), json!(null)),
            (verify("bob", "correct horse"), json!(null)),
            (verify("ann", ""), refused("invalid")),
            (
                json!({"do": "lookup", "of": "admins", "key": "ann"}),
                refused("access-denied"),
            ),
            (
                json!({"do": "lookup", "of": "_coglex_kv", "key": "ann"}),
                refused("access-denied"),
            ),
        ],
    );
    // The account is one like any other.
    let body = json!({"_key": "ann", "_password": "correct horse"});
    host.server
        .api()
        .post("/service/auth/v1/signin/users/", &body)
        .json();
}

#[test]
fn functions_call_functions() {
    let host = host();
    let client = host.server.anonymous();
    let call = |function: &str, args: Value| json!({"do": "call", "function": function, "args": args, "kwargs": {}});
    check(
        &client,
        &[
            (call("add", json!([2, 3])), json!(5)),
            (
                json!({"do": "call", "function": "add", "args": [2], "kwargs": {"b": 5}}),
                json!(7),
            ),
            (call("add", json!([13, 1])), refused("problem")),
            (call("add", json!([1])), refused("problem")),
            (call("panics", json!([])), refused("other")),
            (call("not_there", json!([])), refused("invalid")),
            (call("echo_fails", json!([])), refused("access-denied")),
            (call("add", json!({"a": 1})), refused("invalid")),
            (
                json!({"do": "call", "function": "add", "args": [1, 2], "kwargs": [1]}),
                refused("invalid"),
            ),
            (call("relay", json!([0])), json!(7)),
        ],
    );
    // For the same client, under the same request.
    let reply = host
        .server
        .api()
        .post("/steps", &json!([call("echo_arguments", json!([1]))]));
    let caller = &reply.json()[0]["ok"]["caller"];
    assert_eq!(
        (&caller["api_key"], &caller["request_id"]),
        (&json!(true), &json!(reply.header("x-request-id")))
    );
}

#[test]
fn keys_and_values_last_beyond_a_call() {
    let host = host();
    let client = host.server.anonymous();
    check(
        &client,
        &[
            (json!({"do": "kv_get", "key": "a"}), json!(null)),
            (
                json!({"do": "kv_set", "key": "a", "value": "one"}),
                json!(null),
            ),
            (
                json!({"do": "kv_swap", "key": "a", "expected": "two", "value": "three"}),
                json!(false),
            ),
            (
                json!({"do": "kv_swap", "key": "a", "expected": "one", "value": "three"}),
                json!(true),
            ),
            (json!({"do": "kv_increment", "key": "n", "by": 5}), json!(5)),
            (
                json!({"do": "kv_increment", "key": "n", "by": -2}),
                json!(3),
            ),
            (
                json!({"do": "kv_increment", "key": "a"}),
                refused("mismatch"),
            ),
            (
                json!({"do": "kv_set", "key": "", "value": ""}),
                refused("invalid"),
            ),
            (
                json!({"do": "kv_set", "key": "short", "value": "x", "ttl": 1}),
                json!(null),
            ),
        ],
    );
    std::thread::sleep(Duration::from_millis(20));
    check(
        &client,
        &[
            (json!({"do": "kv_get", "key": "a"}), json!("three")),
            (json!({"do": "kv_get", "key": "n"}), json!("3")),
            (json!({"do": "kv_get", "key": "short"}), json!(null)),
            (json!({"do": "kv_keys", "prefix": ""}), json!(["a", "n"])),
            (json!({"do": "kv_delete", "key": "a"}), json!(true)),
            (json!({"do": "kv_delete", "key": "a"}), json!(false)),
        ],
    );
    // No client can reach what holds them.
    let reply = host.server.api().get("/service/storage/v1/_coglex_kv/");
    reply.problem(403, "forbidden");
}

#[test]
fn secrets_reach_their_plugin_and_no_log() {
    let host = host();
    check(
        &host.server.anonymous(),
        &[
            (
                json!({"do": "secret", "name": "token"}),
                json!("the-token-of-the-tests".len()),
            ),
            (json!({"do": "secret", "name": "unset"}), json!(null)),
            (
                json!({"do": "secret", "name": "other"}),
                refused("access-denied"),
            ),
            (json!({"do": "setting", "name": "token"}), json!(null)),
        ],
    );
    host.logged(&["the secret is ***"]);
    assert!(!host.log().contains("the-token-of-the-tests"));
}

#[test]
fn what_was_not_granted_is_not_linked() {
    let one = |grants: &str| format!("[plugins.allow.fixture-capabilities]\n{grants}\n");
    let all = [
        "storage = [{ collection = \"*\", verbs = [\"read\"] }]",
        "auth = [{ collection = \"users\", verbs = [\"lookup\"] }]",
        "functions = [\"add\"]",
        "secrets = [\"token\"]",
        "kv = true",
    ];
    for left_out in 0..all.len() {
        let granted: Vec<&str> = (0..all.len())
            .filter(|n| *n != left_out)
            .map(|n| all[n])
            .collect();
        let host = Host::with(&["fixture-capabilities"], &one(&granted.join("\n")));
        let kind = all[left_out].split(' ').next().unwrap();
        host.logged(&[
            "fixture-capabilities",
            &format!("the operator allows none of the {kind} that it asks for"),
        ]);
        assert_eq!(
            host.server.anonymous().post("/steps", &json!([])).status,
            404,
            "{kind}"
        );
    }
}

/// Budgets that are spent in a moment.
fn tight() -> Host {
    Host::flags(
        &["fixture-capabilities", "fixture-echo"],
        ALLOW,
        &[
            "--plugins-budget-cpu",
            "500ms",
            "--plugins-budget-wall",
            "20s",
            "--plugins-budget-host-calls",
            "200",
            "--plugins-budget-log",
            "64 KiB",
        ],
    )
}

#[test]
fn a_call_costs_its_caller_what_the_called_spends() {
    let host = tight();
    let client = host.server.anonymous();
    let call = |function: &str, args: Value| json!({"do": "call", "function": function, "args": args, "kwargs": {}});

    // CPU: several that loop cost no more than one, whoever loops. Each by itself
    // would take half a second.
    let start = Instant::now();
    let loops: Vec<Value> = (0..20).map(|_| call("loops", json!([]))).collect();
    let reply = client.post("/steps", &json!(loops));
    assert!(
        reply.status == 504 || reply.json()[0]["error"] == "timeout",
        "{}",
        reply.text()
    );
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );

    // Host calls: a fan of 8^8 calls ends with the budget of the first.
    let start = Instant::now();
    let reply = client.post("/steps", &json!([call("fan", json!([8]))]));
    assert!(
        reply.status >= 500 || reply.json()[0]["error"].is_string(),
        "{}",
        reply.text()
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );

    // Log: many that write all that they may write no more than one.
    let before = host.log().len();
    let floods: Vec<Value> = (0..50).map(|_| call("floods_log", json!([]))).collect();
    client.post("/steps", &json!(floods));
    let written = host.log().len() - before;
    assert!(written < 512 << 10, "{written} bytes");
    assert_eq!(client.get("/echo").status, 200);
}

#[test]
fn nested_calls_leave_places_to_clients() {
    let host = Host::flags(
        &["fixture-capabilities", "fixture-echo"],
        ALLOW,
        &[
            "--plugins-budget-wall",
            "5s",
            "--plugins-budget-concurrency",
            "4",
            "--plugins-budget-queue",
            "64",
        ],
    );
    // More at once than there are places: none may wait for what another holds.
    let relay = json!([{"do": "call", "function": "relay", "args": [0], "kwargs": {}}]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| host.server.anonymous().post("/steps", &relay)))
            .collect();
        let mut deepest = 0;
        for call in calls {
            let reply = call.join().unwrap();
            if reply.status == 503 {
                continue;
            }
            let came = reply.json();
            assert!(came[0]["ok"] == 7 || came[0]["error"].is_string(), "{came}");
            deepest += u32::from(came[0]["ok"] == 7);
        }
        assert!(deepest > 0, "nobody came through");
    });
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(host.server.anonymous().get("/echo").status, 200);
    check(&host.server.anonymous(), &[(relay[0].clone(), json!(7))]);
}

#[test]
fn floods_of_keys_end_with_the_budget() {
    let host = Host::flags(
        &["fixture-capabilities", "fixture-echo"],
        ALLOW,
        &[
            "--plugins-budget-host-calls",
            "200",
            "--plugins-budget-host-call-bytes",
            "8 MiB",
        ],
    );
    let client = host.server.anonymous();
    for (step, budget) in [
        ("kv_flood", "bytes through host calls"),
        ("kv_flood_keys", "200 host calls"),
    ] {
        let reply = client.post("/steps", &json!([{"do": step}]));
        assert!(reply.status >= 500, "{}", reply.text());
        host.logged(&[reply.header("x-request-id"), budget]);
    }
    assert_eq!(client.get("/echo").status, 200);
    let keys = steps(&client, json!([{"do": "kv_keys", "prefix": "flood"}]));
    assert!(keys[0]["ok"].as_array().unwrap().len() <= 201, "{keys:?}");
}
