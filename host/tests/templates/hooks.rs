//! Hooks, schedules and schemas that guests in JavaScript and Python declare.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::Client;
use crate::tools::{LOADING, build, without};

const ASKS: &str = "[grants]\nstorage = [{ collection = \"orders\", verbs = [\"hook\"] }]\n";

/// Both guests do the same: orders need a total and begin as new ones, and only
/// whole numbers are doubled.
fn hooks_answer(host: &Host, plugin: &str) {
    let api = host.server.api();
    let double = |body: Value| api.post("/service/execution/v1/execute/double/", &body);
    loaded(&api, host);
    assert_eq!(double(json!({"kwargs": {"n": 4}})).json(), 8);
    let reply = double(json!({"kwargs": {"n": "x"}}));
    assert!(reply.text().contains("/kwargs/n"), "{}", reply.text());
    reply.problem(422, "input_mismatch");

    let insert = |document: Value| {
        let body = json!({ "document": document });
        api.post("/service/storage/v1/orders/", &body)
    };
    insert(json!({"_id": "a", "total": 3, "at": {"$date": "2026-01-02T03:04:05Z"}})).json();
    assert_eq!(
        api.get("/service/storage/v1/orders/a/").json(),
        json!({"_id": "a", "total": 3, "at": {"$date": "2026-01-02T03:04:05Z"}, "state": "new"})
    );
    let detail = insert(json!({"_id": "b"})).problem(422, "no_total");
    assert_eq!(detail, "an order needs a total");

    let shown = host.server.admin();
    let shown = shown.get(&format!("/admin/v1/plugins/{plugin}/")).json();
    let functions = shown["functions"].as_array().unwrap();
    let named = |name: &str| functions.iter().find(|one| one["name"] == name).unwrap();
    let schedule = &named("double")["schedules"][0];
    assert_eq!(
        *schedule,
        json!({"cron": "0 3 1 1 *", "args": "[]", "kwargs": "{\"n\":1}"}),
        "{shown}"
    );
    assert_eq!(
        named("check_order")["hooks"],
        json!([{"moment": "before", "operation": "insert", "collection": "orders",
            "order": 5, "fail_open": false}])
    );
}

/// Waits until the function is there.
#[track_caller]
fn loaded(api: &Client, host: &Host) {
    let start = Instant::now();
    let absent = || {
        let reply = api.post(
            "/service/execution/v1/execute/double/",
            &json!({"kwargs": {"n": 1}}),
        );
        reply.text().contains("not_found")
    };
    while absent() {
        assert!(start.elapsed() < LOADING, "{}", host.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn host(plugin: &str) -> Host {
    let allow = format!(
        "[plugins.allow.{plugin}]\nstorage = [{{ collection = \"orders\", verbs = [\"hook\"] }}]\n"
    );
    Host::with(&[], &allow)
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("coglex.toml"), ASKS).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn of_a_javascript_guest() {
    if without("node") {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    let code = r#"
        import { Problem, functions } from "coglex";
        functions.add("check_order", { before: { on: "insert", collection: "orders", order: 5 } }, (write) => {
            for (const order of write.documents) {
                if (typeof order.total !== "number") throw new Problem(422, "an order needs a total", "no_total");
                order.state = "new";
            }
            return write;
        });
        functions.add("double", {
            schema: { kwargs: { properties: { n: { type: "integer" } } } },
            schedule: { cron: "0 3 1 1 *", kwargs: { n: 1 } },
        }, ({ n }) => n * 2);
    "#;
    let package = r#"{"name": "js-guest", "type": "module", "coglex": {"kind": "function"}}"#;
    write(
        project.path(),
        &[("package.json", package), ("src/app.js", code)],
    );
    let host = host("js-guest");
    host.deploy("js-guest", &build(project.path()));
    hooks_answer(&host, "js-guest");
}

#[test]
fn of_a_python_guest() {
    let project = tempfile::tempdir().unwrap();
    let code = r#"
from coglex import Schedule, before, failure, function


@function(hooks=before("insert", "orders", order=5))
def check_order(write: dict) -> dict:
    for order in write["documents"]:
        if "total" not in order:
            raise failure("no_total", "an order needs a total")
        order["state"] = "new"
    return write


@function(
    schedule=Schedule("0 3 1 1 *", kwargs={"n": 1}),
    kwargs_schema={"properties": {"n": {"type": "integer"}}},
)
def double(n: int) -> int:
    return n * 2
"#;
    let package = "[project]\nname = \"py-guest\"\n[tool.coglex]\nkind = \"function\"\n";
    write(
        project.path(),
        &[("pyproject.toml", package), ("app.py", code)],
    );
    let host = host("py-guest");
    host.deploy("py-guest", &build(project.path()));
    hooks_answer(&host, "py-guest");
}
