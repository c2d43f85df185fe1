//! The same contract on MongoDB, and what clients see while it is away.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::link::Link;
use crate::support::{API_KEY, PATIENCE, TestServer};

/// `127.0.0.1:port` of the test command's server.
pub(crate) fn database_address() -> Option<String> {
    let uri = std::env::var("COGLEX_TEST_MONGODB_URI").ok();
    if uri.is_none() {
        eprintln!("skipped: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
    }
    let uri = uri?;
    let rest = uri.strip_prefix("mongodb://").unwrap_or(&uri);
    Some(rest.split('/').next().unwrap_or_default().to_owned())
}

/// A server whose documents are in a database of the test's own.
fn server(address: &str) -> TestServer {
    let database = format!(
        "coglex_http_{}_{:?}",
        std::process::id(),
        thread::current().id()
    )
    .replace(['(', ')'], "_");
    TestServer::start_in(tempfile::tempdir().unwrap(), &[], |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env(
                "MONGODB_URI",
                format!("mongodb://{address}/?directConnection=true"),
            )
            .env("MONGODB_DATABASE", database);
    })
}

#[test]
fn accounts_and_documents_keep_their_contract_on_mongodb() {
    let Some(address) = database_address() else {
        return;
    };
    let server = server(&address);
    let api = server.api().with_cookies();
    assert_eq!(api.get("/readyz").status, 200);

    let account = json!({"_key": "ann", "_password": "correct horse", "document": {"name": "Ann"}});
    api.post("/service/auth/v1/signup/users/", &account).json();
    api.post("/service/auth/v1/signup/users/", &account)
        .problem(400, "invalid_input");
    let user = api.post("/service/auth/v1/signin/users/", &account).json();
    assert_eq!(
        (&user["name"], user.get("_password")),
        (&json!("Ann"), None)
    );
    assert_eq!(
        api.get("/service/auth/v1/session/users/").json()["_key"],
        "ann"
    );
    assert_eq!(
        api.get("/service/auth/v1/signout/users/").json(),
        json!(true)
    );
    assert_eq!(
        api.get("/service/auth/v1/session/users/").json(),
        json!(null)
    );

    let things = "/service/storage/v1/things/";
    api.post(things, &json!({"document": {"_id": "a", "n": 1}}))
        .json();
    api.post(things, &json!({"document": {"_id": "a"}}))
        .problem(409, "conflict");
    api.post(
        things,
        &json!({"documents": [{"_id": "b", "n": 2}, {"_id": "c", "n": 3}]}),
    )
    .json();
    api.post(things, &json!({"documents": [{"_id": "d"}, {"_id": "a"}]}))
        .problem(409, "conflict");
    let found = api.find(
        things,
        &[("query", r#"{"n": {"$gt": 1}}"#), ("sort", r#"{"n": -1}"#)],
    );
    assert_eq!(
        found.json(),
        json!([{"_id": "c", "n": 3}, {"_id": "b", "n": 2}])
    );
    assert_eq!(
        api.patch(&format!("{things}a"), &json!({"document": {"n": 1}}))
            .json(),
        json!(0)
    );
    assert_eq!(
        api.patch(
            &format!("{things}a"),
            &json!({"document": {"$inc": {"n": 4}}})
        )
        .json(),
        json!(1)
    );
    assert_eq!(
        api.get(&format!("{things}a/")).json(),
        json!({"_id": "a", "n": 5})
    );
    assert_eq!(
        api.find(&format!("{things}count"), &[]).json(),
        json!(3),
        "all or nothing"
    );
    assert_eq!(api.delete(&format!("{things}a")).json(), json!(1));
    api.get(&format!("{things}a")).problem(404, "not_found");
}

#[test]
fn a_database_that_goes_away_is_503_until_it_is_back() {
    let Some(address) = database_address() else {
        return;
    };
    let link = Link::to(&address);
    let server = server(&link.address);
    let api = server.api();
    let things = "/service/storage/v1/things/";
    api.post(things, &json!({"document": {"_id": "kept"}}))
        .json();

    link.cut();
    let detail = api.get(things).problem(503, "unavailable");
    assert!(!detail.contains("127.0.0.1"), "{detail}");
    api.get("/readyz").problem(503, "unavailable");
    api.post(things, &json!({"document": {"_id": "lost"}}))
        .problem(503, "unavailable");
    assert_eq!(api.get("/healthz").status, 200, "the process is well");

    link.mend();
    let start = Instant::now();
    while api.get("/readyz").status != 200 {
        assert!(start.elapsed() < PATIENCE, "the server does not recover");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(api.get(things).json(), json!({"_id": "kept"}));
}
