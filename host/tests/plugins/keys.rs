//! Scoped API keys at the guards of apps, and where functions are called.

use reqwest::Method;
use serde_json::json;

use crate::guests::Host;
use crate::hooks::ALLOW;
use crate::support::Send as _;

#[test]
fn a_key_opens_the_routes_and_functions_that_it_names() {
    let host = Host::with(&["fixture-echo"], "");
    let server = &host.server;
    let api = server.api();
    let make = |order: serde_json::Value| {
        let made = api.post("/service/auth/v1/keys/", &order).json();
        made["key"].as_str().unwrap().to_owned()
    };
    let routes = make(json!({"name": "r", "routes": ["/echo-key"]}));
    let functions = make(json!({"name": "f", "grants": {"functions": ["echo_arguments"]}}));
    let ask = |method: Method, path: &str, key: &str| {
        server
            .anonymous()
            .request(method, path)
            .header("X-API-Key", key)
    };
    let seen = ask(Method::GET, "/echo-key", &routes).reply().json();
    assert_eq!(seen["caller"]["api_key"], true);
    assert!(!seen.to_string().contains(&routes), "{seen}");
    ask(Method::GET, "/echo-key", &functions)
        .reply()
        .problem(403, "forbidden");
    ask(Method::GET, "/echo-user", &routes)
        .reply()
        .problem(403, "forbidden");
    // Where no guard asks for a key there is none to speak of.
    let open = ask(Method::GET, "/echo", &routes).reply().json();
    assert_eq!(open["caller"]["api_key"], false);
    assert!(!open.to_string().contains(&routes), "{open}");

    let run = |function: &str, key: &str| {
        let path = format!("/service/execution/v1/execute/{function}/");
        ask(Method::POST, &path, key)
            .json(&json!({"args": [1]}))
            .reply()
    };
    let answer = run("echo_arguments", &functions).json();
    assert_eq!(
        (&answer["first"], &answer["caller"]["api_key"]),
        (&json!(1), &json!(true))
    );
    run("echo_fails", &functions).problem(403, "forbidden");
    run("there_is_none", &functions).problem(403, "forbidden");
    run("echo_arguments", &routes).problem(403, "forbidden");

    // Jobs go by their functions.
    let enqueue = |function: &str, key: &str| {
        let path = format!("/service/execution/v1/jobs/{function}/");
        ask(Method::POST, &path, key)
            .json(&json!({"args": [1]}))
            .reply()
    };
    let job = enqueue("echo_arguments", &functions).json();
    let id = job["id"].as_str().unwrap();
    enqueue("echo_arguments", &routes).problem(403, "forbidden");
    let jobs = "/service/execution/v1/jobs/";
    let one = format!("{jobs}{id}/");
    assert_eq!(ask(Method::GET, &one, &functions).reply().json()["id"], id);
    ask(Method::GET, &one, &routes)
        .reply()
        .problem(404, "not_found");
    ask(Method::DELETE, &one, &routes)
        .reply()
        .problem(404, "not_found");
    ask(Method::GET, jobs, &functions)
        .reply()
        .problem(403, "forbidden");
    let own = format!("{jobs}?function=echo_arguments");
    assert_eq!(
        ask(Method::GET, &own, &functions).reply().json()[0]["id"],
        id
    );
    ask(Method::GET, &own, &routes)
        .reply()
        .problem(403, "forbidden");
    assert_eq!(
        ask(
            Method::GET,
            jobs,
            &make(json!({"name": "all", "grants": {"functions": ["*"]}}))
        )
        .reply()
        .status,
        200
    );
}

#[test]
fn hooks_are_told_of_writes_of_users_and_keys() {
    let host = Host::with(&["fixture-hooks"], ALLOW);
    let server = &host.server;
    let (api, orders) = (server.api(), "/service/storage/v1/orders/");
    let account = json!({"_key": "ann", "_password": "correct horse"});
    api.post("/service/auth/v1/signup/users/", &account).json();
    let user = api.post("/service/auth/v1/signin/users/", &account).json();
    let rules = server
        .admin()
        .request(Method::PUT, "/admin/v1/collections/orders/rules/");
    let rule = json!({"owner": "$caller._id"});
    let rules = rules.json(&json!({"users": {"read": rule, "create": rule}}));
    rules.reply().json();
    let order = |total: i64| {
        let request = server.anonymous().request(Method::POST, orders);
        let request = request.bearer_auth(user["_token"].as_str().unwrap());
        request.json(&json!({"document": {"total": total}})).reply()
    };
    order(1).json();
    // What a hook refuses it refuses to users as well.
    order(-1).problem(422, "negative_total");
    let made = api.get(orders).json();
    assert_eq!(
        (&made["by"], &made["owner"]),
        (&json!("user of users"), &user["_id"])
    );
}
