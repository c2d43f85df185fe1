//! The same to-do list in every language, and one suite that each has to pass.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::{Host, component};
use crate::support::{Client, Reply, Send as _};
use crate::tools::{LOADING, build, root, without};

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

#[test]
fn what_a_javascript_guest_writes_and_throws_is_in_the_log() {
    if without("node") {
        return;
    }
    let project = tempfile::tempdir().unwrap();
    write_js(
        project.path(),
        r#"
        import { app, auth, config } from "coglex";
        app.get("/js/log", () => { console.log("seen", { a: 1 }); return "logged"; });
        app.get("/js/throw", () => { throw new Error("the secret cause"); });
        app.get("/js/random", () => ({ a: Math.random(), b: crypto.randomUUID(), now: Date.now() }));
        app.get("/js/self", () => ({ key: auth.hasApiKey(), user: auth.user("users"), setting: config.get("absent") ?? null }));
        app.post("/js/echo", (request) => request.body);
        "#,
    );
    let host = Host::with(&[], "");
    host.deploy("js-guest", &build(project.path()));
    host.answers_within("/js/log", "logged", LOADING);
    host.logged(&["js-guest", "seen {\\\"a\\\":1}"]);

    let api = host.server.api();
    let detail = api.get("/js/throw").problem(500, "internal_error");
    assert!(!detail.contains("secret"), "{detail}");
    host.logged(&["js-guest", "the secret cause"]);

    // Not the numbers of the moment when the component was built.
    let (first, second) = (api.get("/js/random").json(), api.get("/js/random").json());
    assert_ne!(first["a"], second["a"]);
    assert_ne!(first["b"], second["b"]);
    let uuid = first["b"].as_str().unwrap();
    assert!(uuid.len() == 36 && uuid.as_bytes()[14] == b'4', "{uuid}");
    assert!(first["now"].as_u64().unwrap() > 1_700_000_000_000);

    let own = api.get("/js/self").json();
    assert_eq!(own, json!({"key": true, "user": null, "setting": null}));
}

/// A JavaScript app with this code.
pub fn write_js(dir: &Path, code: &str) {
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(
        dir.join("package.json"),
        r#"{"name": "js-guest", "type": "module", "coglex": {"kind": "app"}}"#,
    )
    .unwrap();
    std::fs::write(dir.join("src/app.js"), code).unwrap();
}

#[test]
fn what_a_python_guest_raises_is_in_the_log_and_sockets_cannot_be_made() {
    let project = tempfile::tempdir().unwrap();
    std::fs::write(
        project.path().join("pyproject.toml"),
        "[project]\nname = \"py-guest\"\n[tool.coglex]\nkind = \"app\"\n",
    )
    .unwrap();
    std::fs::write(
        project.path().join("app.py"),
        r#"
import random
import socket
import time
import uuid

from coglex import app, auth


@app.get("/py/print")
def printing(request):
    print("seen", {"a": 1})
    return "printed"


@app.get("/py/raise")
def raising(request):
    raise ValueError("the secret cause")


@app.get("/py/random")
def numbers(request):
    return {"a": random.random(), "b": str(uuid.uuid4()), "now": time.time()}


@app.get("/py/self")
def own(request):
    return {"key": auth.has_api_key(), "user": auth.user("users")}


@app.get("/py/socket")
def connect(request):
    try:
        socket.create_connection(("127.0.0.1", int(request.query("port"))), timeout=1)
    except OSError as error:
        return f"refused: {type(error).__name__}"
    return "connected"
"#,
    )
    .unwrap();
    let host = Host::with(&[], "");
    host.deploy("py-guest", &build(project.path()));
    host.answers_within("/py/print", "printed", LOADING);
    host.logged(&["py-guest", "seen {'a': 1}"]);

    let api = host.server.api();
    let detail = api.get("/py/raise").problem(500, "internal_error");
    assert!(!detail.contains("secret"), "{detail}");
    host.logged(&["py-guest", "the secret cause"]);

    let (first, second) = (api.get("/py/random").json(), api.get("/py/random").json());
    assert_ne!(first["a"], second["a"]);
    assert_ne!(first["b"], second["b"]);
    assert!(first["now"].as_f64().unwrap() > 1.7e9);
    assert_eq!(
        api.get("/py/self").json(),
        json!({"key": true, "user": null})
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = api.get(&format!("/py/socket?port={port}")).text();
    assert!(answer.starts_with("refused: "), "{answer}");
    assert!(listener.accept().is_err(), "somebody connected");
}
