//! The same to-do list in every language, and one suite that each has to pass.

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::{Host, component};
use crate::support::{Client, Reply, Send as _};
use crate::tools::{build, root, without};

const GRANT: &str = r#"
[plugins.allow.todo]
storage = [{ collection = "todos", verbs = ["read", "insert", "update", "delete"] }]
"#;

#[test]
fn in_rust() {
    passes(&component("todo"));
}

#[test]
fn in_javascript() {
    if !without("node") {
        passes(&build(&root().join("examples/todo-js")));
    }
}

#[test]
fn in_python() {
    passes(&build(&root().join("examples/todo-python")));
}

/// The suite. It speaks HTTP, so it cannot know the language.
fn passes(component: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("coglex-data/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("todo.wasm"), component).unwrap();
    std::fs::write(dir.path().join("coglex.toml"), GRANT).unwrap();
    let host = Host::start(dir, &[]);
    let loaded = host.logged(&["todo", "plugin"]);
    assert!(loaded.contains("plugin loaded"), "{loaded}");

    guards_hold(&host);
    a_todo_lives_and_dies(&host.server.api());
    lists_are_filtered_and_ordered(&host.server.api());
    bad_input_is_refused(&host.server.api());
    the_route_table_answers(&host.server.api());
}

fn guards_hold(host: &Host) {
    let anonymous = host.server.anonymous();
    anonymous.get("/api/todos").problem(401, "api_key_required");
    let body = json!({"title": "x"});
    anonymous
        .post("/api/todos", &body)
        .problem(401, "api_key_required");
}

fn a_todo_lives_and_dies(api: &Client) {
    let title = "Buy milk, ünïcödé 🦀 \"quoted\"";
    let created = api.post("/api/todos", &json!({"title": title}));
    assert_eq!(created.status, 201, "{}", created.text());
    let todo = parsed(&created);
    let id = todo["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 24, "{todo}");
    assert_eq!(todo, json!({"id": id, "title": title, "done": false}));
    let path = format!("/api/todos/{id}");
    assert_eq!(created.header("location"), path);
    assert_eq!(created.header("content-type"), "application/json");

    assert_eq!(api.get(&path).json(), todo);
    assert_eq!(api.get(&format!("{path}/")).json(), todo);
    let changed = api.patch(&path, &json!({"done": true})).json();
    assert_eq!(changed, json!({"id": id, "title": title, "done": true}));
    assert_eq!(api.patch(&path, &json!({})).json(), changed);
    let renamed = api
        .patch(&path, &json!({"title": "Bread", "done": null}))
        .json();
    assert_eq!(renamed, json!({"id": id, "title": "Bread", "done": true}));

    let head = api.request(Method::HEAD, &path).reply();
    assert_eq!((head.status, head.body.len()), (200, 0));

    let deleted = api.delete(&path);
    assert_eq!((deleted.status, deleted.text()), (204, String::new()));
    for reply in [
        api.get(&path),
        api.delete(&path),
        api.patch(&path, &json!({"done": true})),
    ] {
        let detail = reply.problem(404, "not_found");
        assert_eq!(detail, "there is no such todo");
    }
    api.get("/api/todos/no-such-id").problem(404, "not_found");
}

fn lists_are_filtered_and_ordered(api: &Client) {
    assert_eq!(api.get("/api/todos").json(), json!([]));
    for (title, done) in [("a", false), ("b", true), ("c", false)] {
        let reply = api.post("/api/todos", &json!({"title": title, "done": done}));
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let titles = |path: &str| -> Vec<String> {
        let list = api.get(path).json();
        let title = |todo: &Value| todo["title"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(title).collect()
    };
    assert_eq!(titles("/api/todos"), ["a", "b", "c"]);
    assert_eq!(titles("/api/todos?done=true"), ["b"]);
    assert_eq!(titles("/api/todos/?done=false"), ["a", "c"]);
    api.get("/api/todos?done=maybe").problem(400, "bad_request");
}

fn bad_input_is_refused(api: &Client) {
    for body in [
        json!({}),
        json!({"title": 7}),
        json!({"title": "a", "done": "yes"}),
        json!({"title": "a", "more": 1}),
        json!("a"),
    ] {
        let detail = api.post("/api/todos", &body).problem(400, "invalid_body");
        assert!(detail.contains("not as it should be"), "{body}: {detail}");
    }
    let raw = |content_type: &str, body: &'static [u8]| {
        api.request(Method::POST, "/api/todos")
            .header("content-type", content_type)
            .body(body)
            .reply()
    };
    raw("application/json", b"{").problem(400, "invalid_body");
    raw("application/json", b"{\"title\": \"\xff\"}").problem(400, "invalid_body");
    raw("text/plain", b"{\"title\": \"a\"}").problem(415, "unsupported_media_type");
    let long = json!({"title": "x".repeat(5000)});
    assert_eq!(api.post("/api/todos", &long).status, 413);
}

fn the_route_table_answers(api: &Client) {
    let put = api.request(Method::PUT, "/api/todos").reply();
    assert_eq!(put.status, 405, "{}", put.text());
    assert!(
        put.header("allow").contains("POST"),
        "{}",
        put.header("allow")
    );
    api.get("/api/todos/a/b").problem(404, "not_found");
}

#[track_caller]
fn parsed(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}
