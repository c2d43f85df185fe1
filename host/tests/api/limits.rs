//! Rate limits of addresses, keys and users, asked of the real binary.

use reqwest::Method;
use serde_json::json;

use crate::support::{Send as _, TestServer};

#[test]
fn nothing_is_limited_unless_it_is_asked_for() {
    let server = TestServer::start();
    let api = server.api();
    for _ in 0..20 {
        let reply = api.get("/service/storage/v1/");
        assert_eq!((reply.status, reply.header("ratelimit")), (200, ""));
    }
}

#[test]
fn an_address_is_told_what_is_left_and_when_to_come_back() {
    let flags = [
        "--limits-address-requests",
        "5",
        "--server-trusted-proxies",
        "1",
    ];
    let server = TestServer::with(&flags);
    let from = |address: &str, path: &str| {
        let request = server.api().request(Method::GET, path);
        request.header("X-Forwarded-For", address).reply()
    };
    for left in (0..5).rev() {
        let reply = from("192.0.2.1", "/service/storage/v1/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-policy"), "\"address\";q=5;w=60");
        let told = reply.header("ratelimit").to_owned();
        assert!(
            told.starts_with(&format!("\"address\";r={left};t=")),
            "{told}"
        );
    }
    let refused = from("192.0.2.1", "/service/storage/v1/");
    refused.problem(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").starts_with("\"address\";r=0;"));
    // Whatever is asked, unknown paths too; only who looks after the server is spared.
    from("192.0.2.1", "/nothing/").problem(429, "rate_limited");
    assert_eq!(from("192.0.2.1", "/healthz").status, 200);
    assert_eq!(from("192.0.2.2", "/service/storage/v1/").status, 200);
    // A client cannot write itself another address: the last hop counts.
    from("203.0.113.5, 192.0.2.1", "/service/storage/v1/").problem(429, "rate_limited");
    // One /64 of IPv6 is one client.
    for _ in 0..5 {
        assert_eq!(from("2001:db8::1", "/service/storage/v1/").status, 200);
    }
    from("2001:db8::2", "/service/storage/v1/").problem(429, "rate_limited");
    assert_eq!(from("2001:db8:0:1::1", "/service/storage/v1/").status, 200);
}

#[test]
fn keys_and_users_have_limits_of_their_own() {
    let flags = ["--limits-key-requests", "3", "--limits-user-requests", "2"];
    let server = TestServer::with(&flags);
    let api = server.api();
    let order =
        json!({"name": "x", "grants": {"storage": [{"collection": "notes", "verbs": ["read"]}]}});
    let key = |order| {
        let made = api.post("/service/auth/v1/keys/", order).json();
        made["key"].as_str().unwrap().to_owned()
    };
    let (one, other) = (key(&order), key(&order));
    let path = "/service/storage/v1/notes/count/";
    let with = |key: &str| {
        let request = server.anonymous().request(Method::GET, path);
        request.header("X-API-Key", key).reply()
    };
    for _ in 0..3 {
        assert_eq!(with(&one).json(), 0);
    }
    let refused = with(&one);
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("ratelimit-policy"), "\"key\";q=3;w=60");
    assert_eq!(with(&other).json(), 0);
    let rules = server
        .admin()
        .request(Method::PUT, "/admin/v1/collections/notes/rules/");
    rules.json(&json!({"users": {"read": true}})).reply().json();
    let token = |name: &str| {
        let account = json!({"_key": name, "_password": "correct horse"});
        api.post("/service/auth/v1/signup/users/", &account).json();
        let user = api.post("/service/auth/v1/signin/users/", &account).json();
        user["_token"].as_str().unwrap().to_owned()
    };
    let (ann, bob) = (token("ann"), token("bob"));
    let as_user = |token: &str| {
        let request = server.anonymous().request(Method::GET, path);
        request.bearer_auth(token).reply()
    };
    assert_eq!((as_user(&ann).status, as_user(&ann).status), (200, 200));
    as_user(&ann).problem(429, "rate_limited");
    assert_eq!(
        as_user(&bob).header("ratelimit-policy"),
        "\"user\";q=2;w=60"
    );
    // The operator's own backend is not counted.
    for _ in 0..10 {
        assert_eq!(api.get(path).json(), 0);
    }
}
