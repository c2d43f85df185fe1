//! `array_filters` of PATCH: which elements of an array a path means.

use serde_json::{Value, json};

use crate::support::TestServer;

const LISTS: &str = "/service/storage/v1/lists/";

#[test]
fn the_elements_that_a_filter_names_are_changed() {
    let server = TestServer::start();
    let api = server.api();
    let tasks = json!([{"n": 1, "done": false}, {"n": 5, "done": false}, {"n": 9, "done": false}]);
    for id in ["a", "b"] {
        api.post(LISTS, &json!({"document": {"_id": id, "tasks": tasks}}))
            .json();
    }
    let done = |id: &str| -> Vec<bool> {
        let list = api.get(&format!("{LISTS}{id}/")).json();
        let tasks: &Vec<Value> = list["tasks"].as_array().unwrap();
        tasks.iter().map(|task| task["done"] == true).collect()
    };
    let body = json!({
        "document": {"$set": {"tasks.$[late].done": true}},
        "array_filters": [{"late.n": {"$gt": 4}}],
    });
    assert_eq!(api.patch(&format!("{LISTS}a/"), &body).json(), 1);
    assert_eq!(
        (done("a"), done("b")),
        (vec![false, true, true], vec![false; 3])
    );
    // Fields without operators are set by the same paths.
    let body = json!({"document": {"tasks.$[t].done": true}, "array_filters": [{"t.n": 1}]});
    let reply = api.patch(&format!("{LISTS}?query=%7B%7D"), &body);
    assert_eq!(reply.json(), 2);
    assert_eq!(
        (done("a"), done("b")),
        (vec![true; 3], vec![true, false, false])
    );
}

#[test]
fn filters_that_mean_nothing_are_refused() {
    let server = TestServer::start();
    let api = server.api();
    api.post(LISTS, &json!({"document": {"_id": "a", "tasks": [1, 2]}}))
        .json();
    let set = json!({"$set": {"tasks.$[t]": 9}});
    for (filters, status, code) in [
        (json!([]), 400, "invalid_input"),
        (json!([{"other": 1}]), 400, "invalid_input"),
        (json!([{"t": 1}, {"other": 1}]), 400, "invalid_input"),
        (json!([{"t": {"$where": "1"}}]), 400, "invalid_input"),
        (json!([{"t._password": 1}]), 403, "forbidden"),
        (json!([{"t._coglex.x": 1}]), 403, "forbidden"),
        (json!({"t": 1}), 400, "invalid_input"),
        (json!([1]), 400, "invalid_input"),
    ] {
        let body = json!({"document": set, "array_filters": filters});
        let reply = api.patch(&format!("{LISTS}a/"), &body);
        assert_eq!(reply.status, status, "{filters}: {}", reply.text());
        reply.problem(status, code);
    }
    assert_eq!(
        api.get(&format!("{LISTS}a/")).json()["tasks"],
        json!([1, 2])
    );
}
