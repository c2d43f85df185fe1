//! What the gateway passes on, keeps back and refuses.

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::{Host, component};
use crate::support::{API_KEY, Send as _};

#[test]
fn a_request_reaches_the_app_as_it_was_sent() {
    let host = Host::with(&["fixture-echo"], "");
    let api = host.server.anonymous();
    let reply = api
        .request(Method::PATCH, "/echo/a%20b%2Fc/?x=1&y=%20")
        .header("x-own", "value")
        .body("the body")
        .reply();
    let seen = reply.json();
    assert_eq!(seen["method"], "PATCH");
    assert_eq!(seen["path"], "/echo/a%20b%2Fc");
    assert_eq!(seen["route"], "/echo/{id}");
    assert_eq!(seen["query"], "x=1&y=%20");
    assert_eq!(seen["params"], json!([["id", "a b/c"]]));
    assert_eq!(seen["body"], "the body");
    assert!(
        seen["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-own", "value"]))
    );
    assert_eq!(seen["caller"]["request_id"], reply.header("x-request-id"));
    assert_eq!(
        api.get("/echo/rest/a/b/c").json()["params"],
        json!([["rest", "a/b/c"]])
    );
}

#[test]
fn what_proves_the_caller_never_reaches_a_guest() {
    let host = Host::with(&["fixture-echo"], "");
    let api = host.server.api().with_cookies();
    let account = json!({"_key": "ann", "_password": "correct horse"});
    api.post("/service/auth/v1/signup/users/", &account).json();
    let token = api.post("/service/auth/v1/signin/users/", &account).json()["_token"].clone();
    let token = token.as_str().unwrap();

    let seen = api
        .request(Method::GET, "/echo-user/")
        .bearer_auth(token)
        .header("cookie", format!("theirs=1; coglex_users={token}"))
        .reply()
        .json();
    let text = seen.to_string();
    assert!(!text.contains(token), "{text}");
    assert!(!text.contains(API_KEY), "{text}");
    assert!(!text.contains("_password"), "{text}");
    assert!(
        seen["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["cookie", "theirs=1"])),
        "{text}"
    );
    assert_eq!(seen["caller"]["user"]["key"], "ann");
    assert_eq!(seen["caller"]["api_key"], true);

    // A token that is not ours is the app's own affair.
    let seen = api
        .request(Method::GET, "/echo")
        .bearer_auth("not-ours")
        .reply()
        .json();
    assert!(seen.to_string().contains("not-ours"));
}

#[test]
fn a_caller_cannot_be_forged_by_headers() {
    let host = Host::with(&["fixture-echo"], "");
    let anonymous = host.server.anonymous();
    let seen = anonymous
        .request(Method::GET, "/echo")
        .header("x-coglex-user", "ann")
        .header("x-api-key", "wrong")
        .header("cookie", "coglex_users=forged")
        .bearer_auth("eyJhbGciOiJub25lIn0.e30.")
        .reply()
        .json();
    assert_eq!(seen["caller"]["api_key"], false);
    assert_eq!(seen["caller"]["user"], Value::Null);
    anonymous.get("/echo-key").problem(401, "api_key_required");
}

#[test]
fn a_body_over_the_limit_of_the_route_is_refused() {
    let host = Host::flags(&["fixture-echo"], "", &["--server-body-limit", "2 KiB"]);
    let api = host.server.anonymous();
    let post = |path: &str, size: usize| {
        api.request(Method::POST, path)
            .body("x".repeat(size))
            .reply()
    };
    assert_eq!(post("/echo-small", 16).json()["body"], "x".repeat(16));
    post("/echo-small", 17).problem(413, "payload_too_large");
    assert_eq!(post("/echo", 2048).status, 200);
    post("/echo", 2049).problem(413, "payload_too_large");
    // Without a length in its head, too.
    let chunks = reqwest::blocking::Body::new(std::io::Cursor::new(vec![b'x'; 5000]));
    api.request(Method::POST, "/echo")
        .body(chunks)
        .reply()
        .problem(413, "payload_too_large");
}

#[test]
fn the_wrong_method_is_405_and_head_is_get_without_a_body() {
    let host = Host::with(&["todo", "fixture-echo"], TODO);
    let api = host.server.api();
    let reply = api.request(Method::PUT, "/api/todos/").reply();
    assert_eq!(reply.header("allow"), "GET, HEAD, POST");
    reply.problem(405, "method_not_allowed");

    let (get, head) = (
        api.get("/api/todos"),
        api.request(Method::HEAD, "/api/todos").reply(),
    );
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!(head.header("content-type"), get.header("content-type"));
}

#[test]
fn a_route_for_any_method_takes_what_the_named_ones_of_its_path_leave() {
    let host = Host::with(&["fixture-echo"], "");
    let client = host.server.anonymous();
    assert_eq!(client.get("/echo-both").text(), "the route for GET");
    assert_eq!(
        client.request(Method::POST, "/echo-both").reply().json()["method"],
        "POST"
    );
}

#[test]
fn the_example_app_keeps_a_list_of_todos() {
    let host = Host::with(&["todo"], TODO);
    let api = host.server.api();
    let made = api.post("/api/todos", &json!({"title": "Write"}));
    assert_eq!(made.status, 201);
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let path = format!("/api/todos/{}", made["id"].as_str().unwrap());
    assert_eq!(
        api.patch(&path, &json!({"done": true})).json()["done"],
        true
    );
    assert_eq!(
        api.get("/api/todos?done=true")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(api.get("/api/todos?done=false").json(), json!([]));
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(api.get(&path).status, 404);
}

#[test]
fn a_standard_component_is_mounted_under_its_name_behind_the_key() {
    let host = Host::with(&["hello-wasi"], "");
    host.server
        .anonymous()
        .get("/hello-wasi/")
        .problem(401, "api_key_required");
    for path in ["/hello-wasi", "/hello-wasi/", "/hello-wasi/any/path?x=1"] {
        let reply = host.server.api().get(path);
        assert_eq!(
            (reply.status, reply.text().trim()),
            (200, "Hello from a standard component")
        );
    }
    host.server
        .api()
        .get("/hello-wasix")
        .problem(404, "not_found");
}

#[test]
fn a_plugin_has_what_it_asks_for_and_the_operator_allows_and_no_more() {
    // The manifest asks to read todos too, which is not enough by itself.
    let host = Host::with(
        &["todo", "fixture-hostile"],
        r#"
        [plugins.allow.todo]
        storage = [{ collection = "todos", verbs = ["read"] }]
        [plugins.allow.fixture-hostile]
        storage = [{ collection = "*", verbs = ["read", "insert", "update", "delete"] }]
        "#,
    );
    let api = host.server.api();
    assert_eq!(api.get("/api/todos").json(), json!([]));
    let refused = api.post("/api/todos", &json!({"title": "x"}));
    assert!(refused.status >= 400, "{}", refused.text());
    assert_eq!(
        api.get("/api/todos").json(),
        json!([]),
        "nothing was written"
    );

    for collection in ["users", "todos", "_coglex_x", "system.indexes", ""] {
        let seen = api
            .find("/hostile/denied", &[("collection", collection)])
            .json();
        assert!(
            seen["error"] == "access-denied" || seen["error"] == "invalid",
            "{collection}: {seen}"
        );
    }
    assert_eq!(
        api.get("/hostile/denied-verb").json()["error"],
        "access-denied"
    );
    assert_eq!(
        api.get("/hostile/password").json()["error"],
        "access-denied"
    );
}

#[test]
fn an_import_without_a_grant_keeps_a_plugin_out() {
    let host = Host::with(&["fixture-ungranted", "todo", "hello"], "");
    host.logged(&[
        "fixture-ungranted",
        "plugin not loaded",
        "coglex:storage/documents",
    ]);
    host.logged(&["todo", "plugin not loaded", "coglex:storage/documents"]);
    host.server
        .api()
        .get("/api/todos")
        .problem(404, "not_found");
    let call = json!({"args": ["Ann"]});
    host.server
        .api()
        .post("/service/execution/v1/execute/example_function", &call)
        .json();
}

#[test]
fn a_plugin_sees_its_own_settings_only() {
    let host = Host::with(
        &["fixture-echo"],
        r#"
        [plugins.settings.fixture-echo]
        echo = { deep = [1, true] }
        [plugins.settings.other]
        secret = "x"
        "#,
    );
    let seen = host.server.anonymous().get("/echo").json();
    assert_eq!(seen["setting"], r#"{"deep":[1,true]}"#);
}

#[test]
fn functions_answer_fail_and_are_told_what_is_wrong() {
    let host = Host::with(&["fixture-echo", "hello"], "");
    let api = host.server.api();
    let execute = |name: &str, body: &Value| {
        api.post(&format!("/service/execution/v1/execute/{name}/"), body)
    };
    let seen = execute(
        "echo_arguments",
        &json!({"args": [{"a": 1.5}], "kwargs": {"second": null}}),
    );
    assert_eq!(seen.json()["first"], json!({"a": 1.5}));
    assert_eq!(
        execute("echo_fails", &json!({})).problem(422, "echo_failed"),
        "it was asked to fail"
    );
    assert!(
        execute("example_function", &json!({}))
            .problem(422, "invalid_argument")
            .contains("name")
    );
    execute("no_such_function", &json!({})).problem(404, "not_found");
    execute("example_function", &json!([["Ann"]])).problem(400, "invalid_json");
    for (body, named) in [
        (json!({"args": {}}), "args"),
        (json!({"kwargs": []}), "kwargs"),
        (json!({"args": "x"}), "args"),
    ] {
        let detail = execute("example_function", &body).problem(400, "invalid_input");
        assert!(detail.contains(named), "{detail}");
    }
    host.server
        .anonymous()
        .post(
            "/service/execution/v1/execute/example_function/",
            &json!({}),
        )
        .problem(401, "api_key_required");
}

#[test]
fn apps_that_want_the_same_route_cannot_both_be_loaded() {
    let host = Host::with(&["todo"], TODO);
    host.deploy("usurper", &component("todo"));
    let line = host.logged(&["plugin not loaded", "usurper"]);
    assert!(
        line.contains("todo") && line.contains("/api/todos"),
        "{line}"
    );
    assert_eq!(
        host.server.api().get("/api/todos").json(),
        json!([]),
        "the first keeps serving"
    );
}

const TODO: &str = r#"
    [plugins.allow.todo]
    storage = [{ collection = "todos", verbs = ["read", "insert", "update", "delete"] }]
    [plugins.allow.usurper]
    storage = [{ collection = "todos", verbs = ["read", "insert", "update", "delete"] }]
"#;
