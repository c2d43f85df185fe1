//! The terms that routes declare, and what the host does about them before a
//! guest runs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::{Client, Reply, Send as _};

fn host() -> Host {
    Host::with(&["fixture-terms"], "")
}

/// The places that a 422 names.
fn errors(reply: &Reply) -> Vec<(String, String)> {
    reply.problem(422, "input_mismatch");
    let problem: Value = serde_json::from_slice(&reply.body).unwrap();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(one, "path"), text(one, "rule")))
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// A user of `users` who has signed up like this and in.
fn sign_in(host: &Host, sign_up: &Value) -> Client {
    let api = host.server.api();
    api.post("/service/auth/v1/signup/users/", sign_up).json();
    let client = host.server.api().with_cookies();
    let account = json!({"_key": sign_up["_key"], "_password": sign_up["_password"]});
    client
        .post("/service/auth/v1/signin/users/", &account)
        .json();
    client
}

#[test]
fn a_body_that_does_not_fit_its_schema_never_reaches_the_guest() {
    let host = host();
    let client = host.server.anonymous();
    let post = |body: Value| client.post("/terms/items", &body);
    assert_eq!(post(json!({"title": "a", "tags": ["b"]})).status, 200);
    assert_eq!(
        errors(&post(json!({"title": ""}))),
        pairs(&[("/title", "minLength")])
    );
    assert_eq!(
        errors(&post(json!({"title": "a", "tags": ["b", 1]}))),
        pairs(&[("/tags/1", "type")])
    );
    let both = errors(&post(json!({"other": 1})));
    assert!(both.contains(&("".into(), "required".into())), "{both:?}");
    assert!(
        both.contains(&("".into(), "additionalProperties".into())),
        "{both:?}"
    );
    let raw = |kind: &str, body: &'static str| {
        client
            .request(Method::POST, "/terms/items")
            .header("content-type", kind)
            .body(body)
            .reply()
    };
    raw("application/json", "{\"title\"").problem(400, "invalid_json");
    raw("text/plain", "{\"title\": \"a\"}").problem(415, "unsupported_media_type");
    assert_eq!(raw("application/x+json", "{\"title\": \"a\"}").status, 200);
    let none = client.request(Method::POST, "/terms/items").reply();
    none.problem(400, "invalid_json");
}

#[test]
fn a_large_body_is_checked_too() {
    let host = host();
    let client = host.server.anonymous();
    let mut tags = vec![json!("a tag"); 20_000];
    let body = json!({"title": "a", "tags": tags});
    assert_eq!(client.post("/terms/items", &body).status, 200);
    tags.push(json!(1));
    let body = json!({"title": "a", "tags": tags});
    assert_eq!(
        errors(&client.post("/terms/items", &body)),
        pairs(&[("/tags/20000", "type")])
    );
}

#[test]
fn a_query_is_read_by_its_schema() {
    let host = host();
    let client = host.server.anonymous();
    for good in ["", "?page=2", "?tag=a&tag=b&page=1"] {
        assert_eq!(client.get(&format!("/terms/items{good}")).status, 200);
    }
    for (bad, path, rule) in [
        ("?page=0", "/page", "minimum"),
        ("?page=two", "/page", "type"),
        ("?tag=a&tag=b&tag=c", "/tag", "maxItems"),
        ("?other=1", "", "additionalProperties"),
    ] {
        let reply = client.get(&format!("/terms/items{bad}"));
        assert_eq!(errors(&reply), pairs(&[(path, rule)]), "{bad}");
    }
}

#[test]
fn a_body_of_another_kind_or_size_is_refused() {
    let host = host();
    let client = host.server.anonymous();
    let send = |kind: &str, size: usize| {
        let request = client.request(Method::POST, "/terms/image");
        let request = request.header("content-type", kind);
        request.body("x".repeat(size)).reply()
    };
    assert_eq!(send("image/png", 64).status, 200);
    let detail = send("text/plain", 64).problem(415, "unsupported_media_type");
    assert!(detail.contains("image/*"), "{detail}");
    send("image/png", 65).problem(413, "payload_too_large");
    let reply = client.request(Method::PUT, "/terms/image").reply();
    assert_eq!(reply.header("allow"), "POST");
    reply.problem(405, "method_not_allowed");
}

#[test]
fn a_route_that_is_asked_too_often_says_when_to_come_back() {
    let host = host();
    let client = host.server.anonymous();
    let first = client.get("/terms/rate");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=2;w=3600");
    assert!(
        first.header("ratelimit").starts_with("\"default\";r=1;t="),
        "{}",
        first.header("ratelimit")
    );
    assert_eq!(client.get("/terms/rate").status, 200);
    let refused = client.get("/terms/rate");
    refused.problem(429, "rate_limited");
    let after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1800).contains(&after), "{after}");
    assert!(refused.header("ratelimit").starts_with("\"default\";r=0;"));
    // A header that nobody has said to believe makes no other client of it.
    let forged = client
        .request(Method::GET, "/terms/rate")
        .header("x-forwarded-for", "192.0.2.1")
        .reply();
    assert_eq!(forged.status, 429);

    let user = |name: &str| {
        let account = json!({"_key": name, "_password": "correct horse"});
        sign_in(&host, &account)
    };
    let (ann, bob) = (user("ann"), user("bob"));
    assert_eq!(ann.get("/terms/rate-user").status, 200);
    assert_eq!(ann.get("/terms/rate-user").status, 429);
    assert_eq!(bob.get("/terms/rate-user").status, 200, "his own bucket");
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let host = Host::flags(&["fixture-terms"], "", &["--server-trusted-proxies", "1"]);
    let client = host.server.anonymous();
    let from = |address: &str| {
        client
            .request(Method::GET, "/terms/rate")
            .header("x-forwarded-for", address)
            .reply()
            .status
    };
    for address in ["192.0.2.1", "192.0.2.2", "1.1.1.1, 192.0.2.3"] {
        assert_eq!(
            [from(address), from(address), from(address)],
            [200, 200, 429]
        );
    }
    assert_eq!(
        from("9.9.9.9, 192.0.2.3"),
        429,
        "what clients add counts not"
    );
}

#[test]
fn answers_are_cached_as_their_route_says() {
    let host = host();
    let client = host.server.anonymous();
    let first = client.get("/terms/cached");
    assert_eq!(first.header("cache-control"), "public, max-age=60");
    let tag = first.header("etag").to_owned();
    let again = client
        .request(Method::GET, "/terms/cached")
        .header("if-none-match", &tag)
        .reply();
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), tag);
    let head = client.request(Method::HEAD, "/terms/cached").reply();
    assert_eq!((head.status, head.header("etag")), (200, &*tag));

    let account = json!({"_key": "ann", "_password": "correct horse"});
    let mine = sign_in(&host, &account).get("/terms/mine");
    assert_eq!(mine.header("cache-control"), "private, no-cache");
    assert!(mine.header("vary").contains("cookie"), "{:?}", mine.headers);
}

#[test]
fn a_role_is_what_the_users_document_says() {
    let host = host();
    let anonymous = host.server.anonymous().get("/terms/admin");
    anonymous.problem(401, "session_required");
    for (name, roles, status) in [
        ("ann", json!(["editor", "admin"]), 200),
        ("bob", json!(["editor"]), 403),
        ("eve", json!("admin"), 403),
        ("joe", json!([["admin"]]), 403),
    ] {
        let document = json!({"roles": roles});
        let account = json!({"_key": name, "_password": "correct horse", "document": document});
        let reply = sign_in(&host, &account).get("/terms/admin");
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        if status == 403 {
            reply.problem(403, "role_required");
        }
    }
}

#[test]
fn instances_serve_one_call_unless_their_plugin_asks_for_more() {
    let host = host();
    let client = host.server.anonymous();
    for _ in 0..3 {
        assert_eq!(client.get("/terms/count").text(), "1");
    }
    let host = Host::with(
        &["fixture-terms"],
        "[plugins.budgets.fixture-terms]\nreuse = 3\ncpu_ms = 2000\n",
    );
    let client = host.server.anonymous();
    let counts: Vec<_> = (0..7).map(|_| client.get("/terms/count").text()).collect();
    assert_eq!(counts, ["1", "2", "3", "1", "2", "3", "1"]);
    // What is a call's own stays so.
    for name in ["a", "b"] {
        let reply = client.get(&format!("/terms/who/{name}"));
        let expected = format!("{name} {}", reply.header("x-request-id"));
        assert_eq!(reply.text(), expected);
    }
    // The instance that said this was not the first's: its log is.
    let said = |word: &str| {
        let reply = client.get(&format!("/terms/say/{word}"));
        let line = host.logged(&[&format!("said {word}")]);
        assert!(line.contains(reply.header("x-request-id")), "{line}");
    };
    said("one");
    said("two");
    assert_eq!(client.get("/terms/count").text(), "1", "its third call");
    // One that ended badly serves nobody any more.
    for (path, status) in [("/terms/panic", 500), ("/terms/loop", 504)] {
        assert_eq!(client.get("/terms/count").text(), "1");
        assert_eq!(client.get(path).status, status);
    }
    assert_eq!(client.get("/terms/count").text(), "1");
}
