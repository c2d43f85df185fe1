//! What a browser's cookie is worth to an app: nothing in a write that the page of
//! another site has made the browser send.

use reqwest::Method;
use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::Send as _;

#[test]
fn apps_meet_nobody_signed_in_where_another_site_sends_the_cookie() {
    let host = Host::with(&["fixture-echo"], "");
    let api = host.server.api();
    let account = json!({"_key": "ann", "_password": "correct horse"});
    api.post("/service/auth/v1/signup/users/", &account).json();
    let signed_in = api.post("/service/auth/v1/signin/users/", &account);
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap();
    let browser = host.server.anonymous();
    let who = |method: Method, site: &str| {
        let request = browser.request(method, "/echo/a");
        let request = request.header("cookie", cookie);
        let seen = request.header("sec-fetch-site", site).reply().json();
        assert!(
            !seen["headers"].to_string().contains("coglex_users"),
            "{seen}"
        );
        seen["caller"]["user"]["key"].clone()
    };
    for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
        assert_eq!(who(method.clone(), "same-origin"), "ann", "{method}");
        for site in ["cross-site", "same-site", "anything"] {
            assert_eq!(who(method.clone(), site), Value::Null, "{method} {site}");
        }
    }
    assert_eq!(who(Method::GET, "cross-site"), "ann");
}

#[test]
fn a_guard_is_not_met_by_a_cookie_that_another_site_sends() {
    let host = Host::with(&["fixture-terms"], "");
    let api = host.server.api();
    let account = json!({"_key": "ann", "_password": "correct horse"});
    api.post("/service/auth/v1/signup/users/", &account).json();
    let signed_in = api.post("/service/auth/v1/signin/users/", &account);
    let cookie = signed_in.header("set-cookie").split(';').next().unwrap();
    let token = signed_in.json()["_token"].as_str().unwrap().to_owned();
    let browser = host.server.anonymous();
    let from = |origin: &str, token: Option<&str>| {
        let request = browser.request(Method::POST, "/terms/own");
        let request = request.header("cookie", cookie).header("origin", origin);
        match token {
            Some(token) => request.bearer_auth(token).reply(),
            None => request.reply(),
        }
    };
    let evil = "https://evil.example";
    from(evil, None).problem(403, "cross_site_request");
    assert_eq!(from(&host.server.url, None).status, 200);
    // A token that a page holds itself is no cookie.
    assert_eq!(from(evil, Some(&token)).status, 200);
}
