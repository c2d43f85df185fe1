//! `/service/storage/v1`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Send as _, TestServer, with_query};

const ITEMS: &str = "/service/storage/v1/items/";

/// Inserts documents and answers with their ids.
fn insert(api: &Client, documents: Value) -> Vec<String> {
    let ids = api.post(ITEMS, &json!({ "documents": documents })).json();
    ids.as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect()
}

fn item(id: &str) -> String {
    format!("{ITEMS}{id}/")
}

fn without_ids(mut value: Value) -> Value {
    let documents = match &mut value {
        Value::Array(list) => list.iter_mut().collect(),
        one => vec![one],
    };
    for document in documents {
        document.as_object_mut().unwrap().remove("_id");
    }
    value
}

#[test]
fn one_match_is_a_document_several_are_a_list_and_none_is_missing() {
    let server = TestServer::start();
    let api = server.api();
    insert(
        &api,
        json!([{ "n": 1, "t": "a" }, { "n": 2, "t": "a" }, { "n": 3, "t": "b" }]),
    );
    let find = |query: &str| api.find(ITEMS, &[("query", query)]);
    assert_eq!(
        without_ids(find(r#"{"t":"b"}"#).json()),
        json!({ "n": 3, "t": "b" })
    );
    assert_eq!(
        without_ids(find(r#"{"t":"a"}"#).json()),
        json!([{ "n": 1, "t": "a" }, { "n": 2, "t": "a" }])
    );
    find(r#"{"t":"c"}"#).problem(404, "not_found");
    api.get("/service/storage/v1/nothing_here/")
        .problem(404, "not_found");
    for none in ["", "null", "{}", "[]", "0", "false"] {
        assert_eq!(find(none).json().as_array().unwrap().len(), 3, "{none:?}");
    }
    assert_eq!(api.get(ITEMS).json().as_array().unwrap().len(), 3);
}

#[test]
fn an_inserted_document_is_read_back_by_its_id() {
    let server = TestServer::start();
    let api = server.api();
    let id = api
        .post(ITEMS, &json!({ "document": { "name": "Ann" } }))
        .json();
    let id = id.as_str().unwrap();
    assert!(
        id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(
        api.get(&item(id)).json(),
        json!({ "_id": { "$oid": id }, "name": "Ann" })
    );
    api.get(&item("000000000000000000000000"))
        .problem(404, "not_found");
    api.get(&item("no-such-id")).problem(404, "not_found");
}

#[test]
fn an_id_that_the_client_gives_is_kept_and_unique() {
    let server = TestServer::start();
    let api = server.api();
    let body = json!({ "document": { "_id": "a/b c", "n": 1 } });
    assert_eq!(api.post(ITEMS, &body).json(), "a/b c");
    assert_eq!(
        api.get(&item("a%2Fb%20c")).json(),
        json!({ "_id": "a/b c", "n": 1 })
    );
    api.post(ITEMS, &body).problem(409, "conflict");
    api.post(ITEMS, &json!({ "document": { "_id": 7 } }))
        .problem(400, "invalid_input");
    // Twenty-four digits that are a string, not an ObjectId.
    let digits = "0123456789abcdef01234567";
    api.post(ITEMS, &json!({ "document": { "_id": digits } }))
        .json();
    assert_eq!(api.get(&item(digits)).json(), json!({ "_id": digits }));
}

#[test]
fn keys_choose_the_fields_that_are_shown() {
    let server = TestServer::start();
    let api = server.api();
    let id = insert(&api, json!([{ "a": 1, "b": { "c": 2, "d": 3 } }])).remove(0);
    let check = |keys: &str, expected: Value| {
        assert_eq!(
            without_ids(api.find(ITEMS, &[("keys", keys)]).json()),
            expected,
            "{keys}"
        );
        assert_eq!(
            without_ids(api.find(&item(&id), &[("keys", keys)]).json()),
            expected,
            "{keys} by id"
        );
    };
    check(r#"{"a":1}"#, json!({ "a": 1 }));
    check(r#"{"a":0}"#, json!({ "b": { "c": 2, "d": 3 } }));
    check(r#"["a"]"#, json!({ "a": 1 }));
    check(r#"["b.c"]"#, json!({ "b": { "c": 2 } }));
    check("", json!({ "a": 1, "b": { "c": 2, "d": 3 } }));
    api.find(ITEMS, &[("keys", "[1]")])
        .problem(400, "invalid_input");
    api.find(ITEMS, &[("keys", r#"{"a":1,"b":0}"#)])
        .problem(400, "invalid_input");
}

#[test]
fn values_travel_as_extended_json() {
    let server = TestServer::start();
    let api = server.api();
    let document = json!({
        "_id": { "$oid": "0123456789abcdef01234567" },
        "at": { "$date": "2026-11-22T10:00:00Z" },
        "big": 9_007_199_254_740_993_i64,
        "half": 0.5,
        "text": "quotes \" and \u{1F980} and \n",
        "none": null,
        "list": [true, { "deep": [1] }],
    });
    api.post(ITEMS, &json!({ "document": document })).json();
    assert_eq!(api.get(&item("0123456789abcdef01234567")).json(), document);
    let later = r#"{"at":{"$gt":{"$date":"2026-11-22T09:59:59Z"}}}"#;
    assert_eq!(api.find(ITEMS, &[("query", later)]).json(), document);
    let by_id = r#"{"_id":{"$oid":"0123456789abcdef01234567"}}"#;
    assert_eq!(api.find(ITEMS, &[("query", by_id)]).json(), document);
}

#[test]
fn an_update_tells_how_many_documents_changed() {
    let server = TestServer::start();
    let api = server.api();
    let id = insert(&api, json!([{ "n": 1 }])).remove(0);
    let patch = |document: Value| api.patch(&item(&id), &json!({ "document": document }));
    assert_eq!(patch(json!({ "n": 2, "deep.er": [1] })).json(), 1);
    assert_eq!(patch(json!({ "n": 2 })).json(), 0);
    assert_eq!(
        without_ids(api.get(&item(&id)).json()),
        json!({ "n": 2, "deep": { "er": [1] } })
    );
    api.patch(&item("missing"), &json!({ "document": { "n": 2 } }))
        .problem(404, "not_found");
    let missing = patch(json!(null)).problem(400, "invalid_input");
    assert!(missing.contains("`document`"), "{missing}");
    api.patch(&item(&id), &json!({}))
        .problem(400, "invalid_input");
}

#[test]
fn operators_update_and_do_not_mix_with_fields() {
    let server = TestServer::start();
    let api = server.api();
    let id = insert(&api, json!([{ "n": 1, "gone": 1, "list": [1] }])).remove(0);
    let operators = json!({ "$inc": { "n": 2 }, "$unset": { "gone": "" }, "$push": { "list": 2 } });
    assert_eq!(
        api.patch(&item(&id), &json!({ "document": operators }))
            .json(),
        1
    );
    assert_eq!(
        without_ids(api.get(&item(&id)).json()),
        json!({ "n": 3, "list": [1, 2] })
    );
    let mixed = json!({ "document": { "$inc": { "n": 1 }, "m": 1 } });
    api.patch(&item(&id), &mixed).problem(400, "invalid_input");
    let unknown = json!({ "document": { "$explode": { "n": 1 } } });
    api.patch(&item(&id), &unknown)
        .problem(400, "invalid_input");
}

#[test]
fn many_documents_are_updated_only_by_a_query() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{ "t": "a" }, { "t": "a" }, { "t": "b" }]));
    let body = json!({ "document": { "seen": true } });
    let patch = |query: &str| api.patch(&with_query(ITEMS, &[("query", query)]), &body);
    assert_eq!(patch(r#"{"t":"a"}"#).json(), 2);
    assert_eq!(patch("{}").json(), 1);
    patch(r#"{"t":"z"}"#).problem(404, "not_found");
    for lost in ["", "null", "[]", "0", "false"] {
        patch(lost).problem(400, "invalid_input");
    }
    api.patch(ITEMS, &body).problem(400, "invalid_input");
}

#[test]
fn an_upsert_makes_what_it_does_not_find() {
    let server = TestServer::start();
    let api = server.api();
    let body = json!({ "document": { "$inc": { "n": 1 } } });
    let path = with_query(&item("counter"), &[("upsert", "true")]);
    let made = api.patch(&path, &body);
    assert_eq!(made.json(), 1);
    assert_eq!(
        made.header("location"),
        "/service/storage/v1/items/counter/"
    );
    assert_eq!(api.patch(&path, &body).json(), 1);
    assert_eq!(
        api.get(&item("counter")).json(),
        json!({ "_id": "counter", "n": 2 })
    );
    let by_query = with_query(ITEMS, &[("query", r#"{"t":"x"}"#), ("upsert", "1")]);
    let made = api.patch(&by_query, &json!({ "document": { "n": 5 } }));
    assert_eq!(made.json(), 1);
    assert_eq!(
        without_ids(api.get(made.header("location")).json()),
        json!({ "t": "x", "n": 5 })
    );
}

#[test]
fn deleting_tells_how_many_and_needs_a_query_for_many() {
    let server = TestServer::start();
    let api = server.api();
    let ids = insert(
        &api,
        json!([{ "t": "a" }, { "t": "a" }, { "t": "b" }, { "t": "c" }]),
    );
    assert_eq!(api.delete(&item(&ids[2])).json(), 1);
    api.delete(&item(&ids[2])).problem(404, "not_found");
    let delete = |query: &str| api.delete(&with_query(ITEMS, &[("query", query)]));
    assert_eq!(delete(r#"{"t":"a"}"#).json(), 2);
    delete(r#"{"t":"a"}"#).problem(404, "not_found");
    for lost in ["", "null", "[]", "0", "false"] {
        delete(lost).problem(400, "invalid_input");
    }
    api.delete(ITEMS).problem(400, "invalid_input");
    assert_eq!(delete("{}").json(), 1);
}

#[test]
fn a_list_is_inserted_whole_or_not_at_all() {
    let server = TestServer::start();
    let api = server.api();
    let ids = insert(&api, json!([{ "_id": "a" }, { "n": 1 }]));
    assert_eq!((ids.len(), ids[0].as_str()), (2, "a"));
    let clash = json!({ "documents": [{ "_id": "b" }, { "_id": "a" }] });
    api.post(ITEMS, &clash).problem(409, "conflict");
    api.get(&item("b")).problem(404, "not_found");
    let both = json!({ "document": {}, "documents": [] });
    for bad in [
        json!({}),
        both,
        json!({ "document": [] }),
        json!({ "documents": {} }),
        json!({ "documents": [1] }),
    ] {
        api.post(ITEMS, &bad).problem(400, "invalid_input");
    }
}

#[test]
fn pages_are_walked_by_their_links() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, (0..25).map(|n| json!({ "n": n })).collect());
    let mut path = with_query(
        ITEMS,
        &[
            ("many", "true"),
            ("sort", r#"{"n":-1}"#),
            ("limit", "10"),
            ("count", "true"),
        ],
    );
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = api.get(&path);
        assert_eq!(page.header("x-total-count"), "25");
        seen.extend(
            page.json()
                .as_array()
                .unwrap()
                .iter()
                .map(|document| document["n"].as_i64().unwrap()),
        );
        pages += 1;
        match page
            .header("link")
            .strip_suffix(">; rel=\"next\"")
            .and_then(|link| link.strip_prefix('<'))
        {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, seen), (3, (0..25).rev().collect::<Vec<i64>>()));
    assert_eq!(
        api.find(ITEMS, &[("query", r#"{"n":99}"#), ("many", "true")])
            .json(),
        json!([])
    );
    assert_eq!(
        without_ids(
            api.find(ITEMS, &[("query", r#"{"n":1}"#), ("many", "true")])
                .json()
        ),
        json!([{ "n": 1 }])
    );
    assert_eq!(
        without_ids(
            api.find(
                ITEMS,
                &[("sort", r#"{"n":1}"#), ("skip", "4"), ("limit", "1")]
            )
            .json()
        ),
        json!({ "n": 4 })
    );
}

#[test]
fn more_matches_than_a_page_are_an_error_and_never_a_cut() {
    let server = TestServer::with(&["--storage-page-limit", "3"]);
    let api = server.api();
    insert(&api, json!([{ "n": 0 }, { "n": 1 }, { "n": 2 }]));
    assert_eq!(api.get(ITEMS).json().as_array().unwrap().len(), 3);
    insert(&api, json!([{ "n": 3 }]));
    let detail = api.get(ITEMS).problem(400, "too_many_matches");
    assert!(
        detail.contains('3') && detail.contains("`limit`"),
        "{detail}"
    );
    let page = api.find(ITEMS, &[("many", "true")]);
    assert_eq!(page.json().as_array().unwrap().len(), 3);
    assert!(page.header("link").contains("skip=3"), "{:?}", page.headers);
    let detail = api
        .find(ITEMS, &[("limit", "4")])
        .problem(400, "invalid_input");
    assert!(detail.contains("from 1 to 3"), "{detail}");
}

#[test]
fn a_result_over_its_size_limit_is_refused() {
    let server = TestServer::with(&["--storage-result-limit", "10 KiB"]);
    let api = server.api();
    insert(
        &api,
        json!([{ "t": "x".repeat(8000) }, { "t": "y".repeat(8000) }]),
    );
    api.get(ITEMS).problem(400, "result_too_large");
    assert_eq!(
        api.find(ITEMS, &[("limit", "1")]).json()["t"]
            .as_str()
            .unwrap()
            .len(),
        8000
    );
}

#[test]
fn matches_are_counted() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{ "t": "a" }, { "t": "a" }, { "t": "b" }]));
    let count = |params: &[(&str, &str)]| api.find(&item("count"), params).json();
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&[("query", r#"{"t":"a"}"#)]), 2);
    assert_eq!(count(&[("query", r#"{"t":"z"}"#)]), 0);
}

fn aggregate(api: &Client, pipeline: Value) -> crate::support::Reply {
    api.post(&item("aggregate"), &json!({ "pipeline": pipeline }))
}

#[test]
fn a_pipeline_makes_a_list() {
    let server = TestServer::start();
    let api = server.api();
    assert_eq!(aggregate(&api, json!([])).json(), json!([]));
    insert(
        &api,
        json!([{ "_id": "a", "n": 1, "t": "x" }, { "_id": "b", "n": 2, "t": "x" }, { "_id": "c", "n": 3, "t": "y" }]),
    );
    let sums = json!([
        { "$group": { "_id": "$t", "sum": { "$sum": "$n" } } },
        { "$sort": { "_id": 1 } },
    ]);
    assert_eq!(
        aggregate(&api, sums).json(),
        json!([{ "_id": "x", "sum": 3 }, { "_id": "y", "sum": 3 }])
    );
    // One document is a list too.
    let one = aggregate(&api, json!([{ "$match": { "n": 3 } }]));
    assert_eq!(one.json(), json!([{ "_id": "c", "n": 3, "t": "y" }]));
    assert_eq!(one.header("content-type"), "application/json");
    // The path without its slash.
    let body = json!({ "pipeline": [{ "$count": "n" }] });
    let counted = api.post("/service/storage/v1/items/aggregate", &body);
    assert_eq!(counted.json(), json!([{ "n": 3 }]));
    for bad in [
        json!({}),
        json!({ "pipeline": {} }),
        json!({ "pipeline": [1] }),
        json!({ "pipeline": [{}] }),
        json!({ "pipeline": [{ "$match": {}, "$limit": 1 }] }),
        json!({ "pipeline": [{ "$limit": 0 }] }),
        json!({ "pipeline": [{ "$nonsense": 1 }] }),
        json!({ "pipeline": [{ "$out": "stolen" }] }),
        json!({ "pipeline": [{ "$merge": "stolen" }] }),
        json!({ "pipeline": [{ "$match": { "$where": "1" } }] }),
    ] {
        let reply = api.post(&item("aggregate"), &bad);
        reply.problem(400, "invalid_input");
    }
    let detail = aggregate(&api, json!([{ "$unionWith": "c" }])).problem(400, "invalid_input");
    assert!(detail.contains("$unionWith"), "{detail}");
}

#[test]
fn a_pipeline_that_makes_too_much_is_refused() {
    let server = TestServer::with(&[
        "--storage-page-limit",
        "3",
        "--storage-result-limit",
        "10 KiB",
    ]);
    let api = server.api();
    insert(&api, (0..4).map(|n| json!({ "n": n })).collect());
    let detail = aggregate(&api, json!([])).problem(400, "too_many_matches");
    assert!(
        detail.contains('3') && detail.contains("`$limit`"),
        "{detail}"
    );
    let cut = aggregate(&api, json!([{ "$limit": 3 }])).json();
    assert_eq!(cut.as_array().unwrap().len(), 3);
    let large = "x".repeat(8000);
    aggregate(
        &api,
        json!([{ "$limit": 2 }, { "$project": { "t": { "$literal": large } } }]),
    )
    .problem(400, "result_too_large");
}

#[test]
fn different_values_are_listed() {
    let server = TestServer::start();
    let api = server.api();
    insert(
        &api,
        json!([{ "t": "a", "l": [1, 2] }, { "t": "b", "l": 2 }, { "t": "a" }]),
    );
    let distinct = |params: &[(&str, &str)]| {
        let mut values: Vec<String> = api
            .find(&item("distinct"), params)
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        values.sort();
        values.join(" ")
    };
    assert_eq!(distinct(&[("field", "t")]), r#""a" "b""#);
    assert_eq!(distinct(&[("field", "l")]), "1 2");
    assert_eq!(distinct(&[("field", "l"), ("query", r#"{"t":"b"}"#)]), "2");
    assert_eq!(distinct(&[("field", "none")]), "");
    for params in [&[][..], &[("field", "")], &[("field", "$t")]] {
        api.find(&item("distinct"), params)
            .problem(400, "invalid_input");
    }
    api.find(&item("distinct"), &[("field", "_password")])
        .problem(403, "forbidden");
}

#[test]
fn indexes_are_made_listed_and_dropped() {
    let server = TestServer::start();
    let api = server.api();
    let indexes = item("indexes");
    assert_eq!(api.get(&indexes).json(), json!([]));
    let unique = json!({ "keys": { "a": 1, "b": -1 }, "unique": true });
    let expiring =
        json!({ "keys": { "t": 1 }, "sparse": true, "expireAfterSeconds": 60, "name": "soon" });
    for _ in 0..2 {
        assert_eq!(api.post(&indexes, &unique).json(), "a_1_b_-1");
        assert_eq!(api.post(&indexes, &expiring).json(), "soon");
    }
    assert_eq!(
        api.get(&indexes).json(),
        json!([
            { "name": "_id_", "keys": { "_id": 1 }, "unique": true, "sparse": false },
            { "name": "a_1_b_-1", "keys": { "a": 1, "b": -1 }, "unique": true, "sparse": false },
            { "name": "soon", "keys": { "t": 1 }, "unique": false, "sparse": true, "expireAfterSeconds": 60 },
        ])
    );
    let twins = json!({ "documents": [{ "a": 1 }, { "a": 1 }] });
    api.post(ITEMS, &twins).problem(409, "conflict");
    let drop = |name: &str| api.delete(&with_query(&indexes, &[("name", name)]));
    assert_eq!(drop("a_1_b_-1").json(), 1);
    drop("a_1_b_-1").problem(404, "not_found");
    assert_eq!(api.post(ITEMS, &twins).status, 200);
    api.post(&indexes, &unique).problem(409, "conflict");
    drop("_id_").problem(403, "forbidden");
    drop("*").problem(400, "invalid_input");
    api.delete(&indexes).problem(400, "invalid_input");
    for bad in [
        json!({}),
        json!({ "keys": [] }),
        json!({ "keys": {} }),
        json!({ "keys": { "a": 2 } }),
        json!({ "keys": { "a": "text" } }),
        json!({ "keys": { "_id": 1 } }),
        json!({ "keys": { "a": 1 }, "unique": 1 }),
        json!({ "keys": { "a": 1 }, "name": 1 }),
        json!({ "keys": { "a": 1 }, "name": "" }),
        json!({ "keys": { "a": 1 }, "expireAfterSeconds": -1 }),
        json!({ "keys": { "a": 1 }, "expireAfterSeconds": 1.5 }),
        json!({ "keys": { "a": 1, "b": 1 }, "expireAfterSeconds": 1 }),
        json!({ "keys": { "a": 1 }, "partialFilterExpression": {} }),
    ] {
        api.post(&indexes, &bad).problem(400, "invalid_input");
    }
    for secret in ["_password", "_coglex.sessions", "_key"] {
        api.post(&indexes, &json!({ "keys": { secret: 1 } }))
            .problem(403, "forbidden");
    }
}

#[test]
fn words_after_a_collection_are_no_ids() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{ "_id": "aggregate" }, { "_id": "indexes" }]));
    let reply = api.get(&item("aggregate"));
    reply.problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");
    api.post(&item("distinct"), &json!({}))
        .problem(405, "method_not_allowed");
    let patched = api.patch(&item("indexes"), &json!({ "document": { "a": 1 } }));
    patched.problem(405, "method_not_allowed");
    for id in ["aggregate", "indexes"] {
        let query = format!(r#"{{"_id":"{id}"}}"#);
        assert_eq!(
            api.find(ITEMS, &[("query", &query)]).json(),
            json!({ "_id": id })
        );
    }
}

#[test]
fn collections_are_listed_without_the_servers_own() {
    let server = TestServer::start();
    let api = server.api();
    assert_eq!(api.get("/service/storage/v1/").json(), json!([]));
    insert(&api, json!([{}]));
    assert_eq!(api.get("/service/storage/v1").json(), json!(["items"]));
}

#[test]
fn every_path_exists_with_and_without_its_slash() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{ "_id": "a" }, { "_id": "b" }]));
    for path in [
        "/service/storage/v1",
        "/service/storage/v1/items",
        "/service/storage/v1/items/a",
        "/healthz",
    ] {
        let (without, with) = (api.get(path), api.get(&format!("{path}/")));
        assert_eq!(
            (without.json(), without.status),
            (with.json(), with.status),
            "{path}"
        );
    }
    let query = with_query("/service/storage/v1/items", &[("query", r#"{"_id":"a"}"#)]);
    assert_eq!(api.get(&query).json(), json!({ "_id": "a" }));
    // An empty id is no way to reach the whole collection.
    let slip = api.delete(&with_query(
        "/service/storage/v1/items//",
        &[("query", "{}")],
    ));
    assert_eq!(slip.status, 404, "{}", slip.text());
    assert_eq!(api.get(ITEMS).json().as_array().unwrap().len(), 2);
}

#[test]
fn head_is_get_without_the_body() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{ "_id": "a" }]));
    let (get, head) = (
        api.get(&item("a")),
        api.request(Method::HEAD, &item("a")).reply(),
    );
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
    assert_eq!(api.request(Method::HEAD, &item("b")).reply().status, 404);
}

#[test]
fn every_route_needs_the_api_key() {
    let server = TestServer::start();
    for (method, path) in [
        (Method::GET, "/service/storage/v1/"),
        (Method::GET, ITEMS),
        (Method::POST, ITEMS),
        (Method::PATCH, ITEMS),
        (Method::DELETE, ITEMS),
        (Method::GET, "/service/storage/v1/items/a/"),
        (Method::GET, "/service/storage/v1/items/count/"),
        (Method::POST, "/service/storage/v1/items/aggregate/"),
        (Method::GET, "/service/storage/v1/items/distinct/"),
        (Method::GET, "/service/storage/v1/items/indexes/"),
        (Method::POST, "/service/storage/v1/items/indexes/"),
        (Method::DELETE, "/service/storage/v1/items/indexes/"),
        (Method::PATCH, "/service/storage/v1/items/a/"),
        (Method::DELETE, "/service/storage/v1/items/a/"),
    ] {
        // Wrong in every other way too: the key is what is looked at first.
        let request = |key: &str| {
            server
                .anonymous()
                .request(method.clone(), path)
                .header("X-API-Key", key)
                .body("{")
                .reply()
        };
        let missing = server
            .anonymous()
            .request(method.clone(), path)
            .body("{")
            .reply();
        missing.problem(401, "api_key_required");
        request("wrong").problem(401, "api_key_required");
        request("").problem(401, "api_key_required");
    }
}

#[test]
fn bodies_that_cannot_be_used_are_refused_each_in_its_way() {
    let server = TestServer::with(&["--server-body-limit", "2 KiB"]);
    let api = server.api();
    let post = |content_type: Option<&str>, body: &str| {
        let request = api.request(Method::POST, ITEMS).body(body.to_owned());
        match content_type {
            Some(content_type) => request.header("Content-Type", content_type).reply(),
            None => request.reply(),
        }
    };
    let json = Some("application/json");
    let good = r#"{"document": {}}"#;
    assert_eq!(
        post(Some("application/json; charset=utf-8"), good).status,
        200
    );
    post(None, good).problem(415, "unsupported_media_type");
    post(Some("text/plain"), good).problem(415, "unsupported_media_type");
    for bad in [
        "",
        "{",
        "[]",
        "1",
        "{\"document\": {}} x",
        "{\"document\": {\"a\": 1, \"a\": 2}}",
        "\u{feff}{}",
    ] {
        post(json, bad).problem(400, "invalid_input");
    }
    let large = format!(r#"{{"document": {{"t": "{}"}}}}"#, "x".repeat(2048));
    post(json, &large).problem(413, "payload_too_large");
    let deep = format!(
        r#"{{"document": {{"t": {}{}}}}}"#,
        "[".repeat(150),
        "]".repeat(150)
    );
    post(json, &deep).problem(400, "invalid_input");
}

#[test]
fn a_large_document_within_the_limits_is_stored_whole() {
    let server = TestServer::start();
    let api = server.api();
    let list: Vec<u32> = (0..400_000).collect();
    let body = json!({ "document": { "_id": "large", "list": list } });
    assert!(body.to_string().len() > 2 << 20);
    assert_eq!(api.post(ITEMS, &body).json(), "large");
    assert_eq!(api.get(&item("large")).json(), body["document"]);
}

#[test]
fn secrets_of_users_are_out_of_reach() {
    let server = TestServer::start();
    let api = server.api();
    let body =
        json!({ "_key": "ann", "_password": "correct horse", "document": { "name": "Ann" } });
    let id = api.post("/service/auth/v1/signup/users/", &body).json();
    let users = "/service/storage/v1/users/";
    let user = format!("{users}{}/", id.as_str().unwrap());
    assert_eq!(
        without_ids(api.get(users).json()),
        json!({ "_key": "ann", "name": "Ann" })
    );
    assert_eq!(
        without_ids(api.get(&user).json()),
        json!({ "_key": "ann", "name": "Ann" })
    );
    for query in [
        r#"{"_password":{"$exists":true}}"#,
        r#"{"$or":[{"_password":{"$regex":"^\\$"}}]}"#,
    ] {
        let reply = api.find(users, &[("query", query)]);
        assert!(
            [400, 403].contains(&reply.status),
            "{query}: {}",
            reply.text()
        );
    }
    for document in [
        json!({ "_password": "x" }),
        json!({ "_key": "eve" }),
        json!({ "$set": { "_key": "eve" } }),
    ] {
        let reply = api.patch(&user, &json!({ "document": document }));
        assert!(
            [400, 403].contains(&reply.status),
            "{document}: {}",
            reply.text()
        );
    }
    api.patch(&user, &json!({ "document": { "_key": "eve" } }))
        .problem(403, "forbidden");

    // A pipeline can speak of whole documents, and join them.
    api.post("/service/auth/v1/signin/users/", &body).json();
    insert(&api, json!([{ "who": "ann" }]));
    let join = json!({ "$lookup": { "from": "users", "localField": "who", "foreignField": "_key", "as": "who" } });
    for (collection, pipeline) in [
        (
            "users",
            json!([{ "$project": { "all": { "$objectToArray": "$$ROOT" } } }]),
        ),
        (
            "users",
            json!([{ "$group": { "_id": null, "all": { "$push": "$$ROOT" } } }]),
        ),
        ("items", json!([join, { "$unwind": "$who" }])),
    ] {
        let path = format!("/service/storage/v1/{collection}/aggregate/");
        let made = api
            .post(&path, &json!({ "pipeline": pipeline }))
            .json()
            .to_string();
        assert!(made.contains("Ann"), "{made}");
        for secret in ["argon2", "_password", "_coglex", "sessions"] {
            assert!(!made.contains(secret), "{made}");
        }
    }
    api.delete("/service/storage/v1/users/indexes/?name=_key_1")
        .problem(403, "forbidden");
}

#[test]
fn operators_that_run_code_or_write_elsewhere_are_refused() {
    let server = TestServer::start();
    let api = server.api();
    insert(&api, json!([{}]));
    for query in [
        r#"{"$where":"1"}"#,
        r#"{"$expr":{"$function":{}}}"#,
        r#"{"$nonsense":1}"#,
        r#"{"a":{"$nonsense":1}}"#,
    ] {
        api.find(ITEMS, &[("query", query)])
            .problem(400, "invalid_input");
    }
    for name in ["a%24b", "system.users", "%00", "a%2Fb"] {
        let reply = api.get(&format!("/service/storage/v1/{name}/"));
        assert!(
            [400, 403, 404].contains(&reply.status),
            "{name}: {}",
            reply.text()
        );
        let reply = api.post(
            &format!("/service/storage/v1/{name}/"),
            &json!({ "document": {} }),
        );
        assert!(
            [400, 403].contains(&reply.status),
            "{name}: {}",
            reply.text()
        );
    }
    api.get("/service/storage/v1/%ff/")
        .problem(400, "invalid_path");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let server = TestServer::start();
    let ids = insert(&server.api(), json!([{ "n": 1 }, { "n": 2 }]));
    let dir = server.kill();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
    });
    assert_eq!(
        without_ids(server.api().get(&item(&ids[1])).json()),
        json!({ "n": 2 })
    );
}

#[test]
fn an_id_in_a_path_is_the_same_document_for_every_verb() {
    let server = TestServer::start();
    let api = server.api();
    let hex = "507f1f77bcf86cd799439011";
    // The string comes first in natural order, the ObjectId goes before it.
    for id in [json!(hex), json!({"$oid": hex})] {
        api.post(
            "/service/storage/v1/twins/",
            &json!({"document": {"_id": id, "n": 0}}),
        )
        .json();
    }
    let path = format!("/service/storage/v1/twins/{hex}/");
    assert_eq!(
        api.patch(&path, &json!({"document": {"n": 1}})).json(),
        json!(1)
    );
    assert_eq!(api.get(&path).json(), json!({"_id": {"$oid": hex}, "n": 1}));
    assert_eq!(api.delete(&path).json(), json!(1));
    assert_eq!(api.get(&path).json(), json!({"_id": hex, "n": 0}));
    assert_eq!(api.delete(&path).json(), json!(1));
    api.delete(&path).problem(404, "not_found");
}
