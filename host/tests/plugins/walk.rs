//! The whole story in one go: accounts, documents, a guarded app, a function.

use serde_json::json;

use crate::guests::Host;

#[test]
fn a_user_signs_up_and_reaches_the_app_that_reads_documents() {
    let host = Host::with(
        &["myapi", "hello"],
        r#"
        [plugins.allow.myapi]
        storage = [{ collection = "my_collection", verbs = ["read"] }]
        "#,
    );
    let api = host.server.api().with_cookies();
    let data = "/api/myapi/v1/data/";

    host.server
        .anonymous()
        .get(data)
        .problem(401, "api_key_required");
    api.get(data).problem(401, "session_required");

    let account = json!({"_key": "ann", "_password": "correct horse", "document": {"name": "Ann"}});
    let id = api.post("/service/auth/v1/signup/users/", &account).json();
    assert_eq!(id.as_str().unwrap().len(), 24);
    let signed_in = api
        .post(
            "/service/auth/v1/signin/users/",
            &json!({"_key": "ann", "_password": "correct horse"}),
        )
        .json();
    assert_eq!(signed_in["name"], "Ann");

    assert_eq!(
        api.get(data).json(),
        json!(null),
        "nothing is important yet"
    );
    let insert = |document| {
        api.post(
            "/service/storage/v1/my_collection/",
            &json!({"document": document}),
        )
        .json()
    };
    insert(json!({"_id": "a", "type": "important", "title": "First"}));
    insert(json!({"_id": "b", "type": "idle"}));
    let first = json!({"_id": "a", "type": "important", "title": "First"});
    assert_eq!(api.get(data).json(), first, "one match is the document");
    insert(json!({"_id": "c", "type": "important"}));
    assert_eq!(
        api.get("/api/myapi/v1/data").json(),
        json!([first, {"_id": "c", "type": "important"}]),
        "several are a list"
    );

    let call = json!({"args": ["Ann"], "kwargs": {"greeting": "Hi"}});
    let greeting = api
        .post("/service/execution/v1/execute/example_function/", &call)
        .json();
    assert!(
        greeting.as_str().unwrap().starts_with("Hi, Ann! "),
        "{greeting}"
    );

    // A cookie alone is not the API key, and after sign-out it is nothing.
    host.server
        .anonymous()
        .get(data)
        .problem(401, "api_key_required");
    assert_eq!(
        api.get("/service/auth/v1/signout/users/").json(),
        json!(true)
    );
    api.get(data).problem(401, "session_required");
}

#[test]
fn a_bearer_token_opens_the_app_until_the_user_is_deleted() {
    let host = Host::with(
        &["myapi"],
        r#"
        [plugins.allow.myapi]
        storage = [{ collection = "my_collection", verbs = ["read"] }]
        "#,
    );
    let api = host.server.api();
    let account = json!({"_key": "bob", "_password": "correct horse"});
    let id = api.post("/service/auth/v1/signup/users/", &account).json();
    let token = api.post("/service/auth/v1/signin/users/", &account).json()["_token"].clone();
    let data = || {
        crate::support::Send::reply(
            api.request(reqwest::Method::GET, "/api/myapi/v1/data/")
                .bearer_auth(token.as_str().unwrap()),
        )
    };
    assert_eq!(data().json(), json!(null));
    let deleted = api.delete(&format!(
        "/service/storage/v1/users/{}/",
        id.as_str().unwrap()
    ));
    assert_eq!(deleted.json(), json!(1));
    data().problem(401, "session_required");
}
