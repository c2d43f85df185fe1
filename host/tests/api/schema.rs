//! Schemas of collections over HTTP: who sets them, and what a client is told.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, API_KEY, Client, Reply, Send as _, TestServer};

const SCHEMA: &str = "/admin/v1/collections/people/schema/";
const PEOPLE: &str = "/service/storage/v1/people/";

fn put(client: &Client, path: &str, body: &Value) -> Reply {
    client.request(Method::PUT, path).json(body).reply()
}

fn schema() -> Value {
    json!({
        "required": ["name"],
        "properties": {
            "name": { "bsonType": "string" },
            "address": { "properties": { "zip": { "pattern": "^[0-9]{5}$" } } },
        },
        "additionalProperties": false,
    })
}

#[test]
fn an_administrator_sets_a_schema_and_clients_are_told_what_fails() {
    let server = TestServer::start();
    let (admin, api) = (server.admin(), server.api());
    admin.get(SCHEMA).problem(404, "not_found");
    let set = json!({ "schema": schema(), "level": "strict" });
    assert_eq!(
        put(&admin, SCHEMA, &json!({ "schema": schema() })).json(),
        set
    );
    assert_eq!(admin.get(SCHEMA).json(), set);

    let bad = json!({ "document": { "address": { "zip": "12" }, "x": 1 } });
    let reply = api.post(PEOPLE, &bad);
    let detail = reply.problem(422, "document_invalid");
    assert!(detail.contains("`/address/zip` must match"), "{detail}");
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(
        problem["errors"],
        json!([
            { "path": "/address/zip", "rule": "pattern", "detail": "must match the pattern `^[0-9]{5}$`" },
            { "path": "/x", "rule": "additionalProperties", "detail": "is not a field that the schema allows" },
            { "path": "/name", "rule": "required", "detail": "is required" },
        ])
    );

    let id = api
        .post(PEOPLE, &json!({ "document": { "name": "Ann" } }))
        .json();
    let one = format!("{PEOPLE}{}/", id.as_str().unwrap());
    let invalid = |reply: Reply| reply.problem(422, "document_invalid");
    invalid(api.patch(&one, &json!({ "document": { "name": 5 } })));
    invalid(api.patch(&one, &json!({ "document": { "$unset": { "name": "" } } })));
    invalid(api.patch(
        &format!("{PEOPLE}?query=%7B%7D&upsert=true"),
        &json!({ "document": { "$set": { "age": 5 } } }),
    ));
    invalid(api.post(
        PEOPLE,
        &json!({ "documents": [{ "name": "Bob" }, { "name": 5 }] }),
    ));
    assert_eq!(api.get(&format!("{PEOPLE}count/")).json(), 1);
    let fine = json!({ "document": { "address": { "zip": "12345" } } });
    assert_eq!(api.patch(&one, &fine).json(), 1);

    assert_eq!(admin.delete(SCHEMA).json(), 1);
    admin.delete(SCHEMA).problem(404, "not_found");
    api.post(PEOPLE, &bad).json();
}

#[test]
fn a_schema_survives_a_crash() {
    let server = TestServer::start();
    put(
        &server.admin(),
        SCHEMA,
        &json!({ "schema": schema(), "level": "moderate" }),
    )
    .json();
    let dir = server.kill();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", API_KEY);
        command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
    });
    assert_eq!(
        server.admin().get(SCHEMA).json(),
        json!({ "schema": schema(), "level": "moderate" })
    );
    server
        .api()
        .post(PEOPLE, &json!({ "document": {} }))
        .problem(422, "document_invalid");
}

#[test]
fn users_obey_the_schema_of_their_collection() {
    let server = TestServer::start();
    let (admin, api) = (server.admin(), server.api());
    let body = json!({ "schema": {
        "required": ["mail"],
        "properties": { "mail": { "bsonType": "string" } },
        "additionalProperties": false,
    } });
    put(&admin, "/admin/v1/collections/users/schema", &body).json();
    let user = |document: Value| json!({ "_key": "ann", "_password": "password of ann", "document": document });
    let up = "/service/auth/v1/signup/users/";
    api.post(up, &user(json!({})))
        .problem(422, "document_invalid");
    api.post(up, &user(json!({ "mail": "a@b", "x": 1 })))
        .problem(422, "document_invalid");
    api.post(up, &user(json!({ "mail": "a@b" }))).json();
    let credentials = json!({ "_key": "ann", "_password": "password of ann" });
    let signed_in = api
        .post("/service/auth/v1/signin/users/", &credentials)
        .json();
    assert_eq!(signed_in["mail"], "a@b");
    api.patch(
        "/service/auth/v1/refresh/users/",
        &json!({ "_key": "ann", "document": { "mail": 1 } }),
    )
    .problem(422, "document_invalid");
}

#[test]
fn users_who_do_not_fit_can_still_sign_in_and_change_their_password() {
    let server = TestServer::start();
    let (admin, api) = (server.admin(), server.api());
    let credentials = |password: &str| json!({ "_key": "ann", "_password": password });
    api.post(
        "/service/auth/v1/signup/users/",
        &credentials("password of ann"),
    )
    .json();
    let body = json!({ "schema": { "required": ["mail"] }, "level": "strict" });
    put(&admin, "/admin/v1/collections/users/schema", &body).json();

    let sign_in = |password: &str| {
        api.post("/service/auth/v1/signin/users/", &credentials(password))
            .json()
    };
    sign_in("password of ann");
    let refresh = |document: Value| {
        let body = json!({ "_key": "ann", "document": document });
        api.patch("/service/auth/v1/refresh/users/", &body)
    };
    assert_eq!(refresh(json!({ "_password": "new password" })).json(), 1);
    sign_in("new password");
    // The user's own fields are the schema's concern.
    refresh(json!({ "age": 5 })).problem(422, "document_invalid");
    refresh(json!({ "_password": "third password", "age": 5 })).problem(422, "document_invalid");
    assert_eq!(refresh(json!({ "mail": "a@b" })).json(), 1);
}

#[test]
fn schemas_are_the_administrators_alone() {
    let server = TestServer::start();
    for client in [server.anonymous(), server.api()] {
        client.get(SCHEMA).problem(401, "admin_key_required");
        put(&client, SCHEMA, &json!({ "schema": {} })).problem(401, "admin_key_required");
        client.delete(SCHEMA).problem(401, "admin_key_required");
    }
    assert_eq!(server.admin().post(SCHEMA, &json!({})).status, 405);
}

#[test]
fn a_schema_that_is_none_is_refused_with_its_place() {
    let server = TestServer::start();
    let admin = server.admin();
    for (body, expected) in [
        (json!({}), "`schema` is missing"),
        (json!({ "schema": [] }), "`schema` must be an object"),
        (json!({ "schema": {}, "level": "off" }), "`level` must be"),
        (json!({ "schema": {}, "more": 1 }), "no other member"),
        (json!({ "schema": { "$ref": "#/a" } }), "`$ref`"),
        (
            json!({ "schema": { "properties": { "a": { "format": "email" } } } }),
            "`format` at /properties/a",
        ),
        (json!({ "schema": { "type": "array" } }), "must be `object`"),
    ] {
        let detail = put(&admin, SCHEMA, &body).problem(400, "invalid_input");
        assert!(detail.contains(expected), "{detail}");
    }
    let password = json!({ "schema": { "required": ["_password"] } });
    put(&admin, SCHEMA, &password).problem(403, "forbidden");
    let own = "/admin/v1/collections/_coglex_jobs/schema/";
    put(&admin, own, &json!({ "schema": {} })).problem(403, "forbidden");
    admin.get(SCHEMA).problem(404, "not_found");
}
