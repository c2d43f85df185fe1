//! What a browser does with session cookies: pages cannot read them, and what pages of
//! other origins send with them is refused.

use serde_json::{Value, json};

use crate::browser;
use crate::guests::Host;
use crate::support::API_KEY;

/// What the script sees of a server with these flags.
fn seen(flags: &[&str]) -> Option<Value> {
    if browser::is_left_out() {
        return None;
    }
    let host = Host::flags(&["fixture-terms"], "", flags);
    let account = json!({"_key": "ann", "_password": "correct horse"});
    host.server
        .api()
        .post("/service/auth/v1/signup/users/", &account)
        .json();
    Some(browser::run(
        "cookies.mjs",
        &json!({
            "server": host.server.url,
            // The same site, as ports do not count; and another.
            "neighbour": "http://127.0.0.1:59321/page.html",
            "stranger": "http://shop.localhost:59322/page.html",
            "key": API_KEY,
            "account": account,
        }),
    ))
}

fn check(seen: &Value, name: &str, secure: bool) {
    let cookies = seen["cookies"].as_array().unwrap();
    assert_eq!(cookies.len(), 1, "{seen}");
    let cookie = &cookies[0];
    assert_eq!(cookie["name"], name);
    assert_eq!(cookie["httpOnly"], true, "{seen}");
    assert_eq!(cookie["secure"], secure, "{seen}");
    assert_eq!(cookie["sameSite"], "Lax", "{seen}");
    // No page reads it, not even the server's own.
    assert_eq!(seen["readable"], "");
    assert_eq!(seen["own"], 200, "{seen}");
    // A neighbour's write comes with the cookie, and is refused for where it is from; a
    // stranger's comes without.
    assert_eq!(seen["neighbour"]["status"], 403, "{seen}");
    assert_eq!(seen["neighbour"]["code"], "cross_site_request", "{seen}");
    assert_eq!(seen["stranger"]["status"], 401, "{seen}");
    assert_eq!(seen["signed_out"], 401, "{seen}");
}

#[test]
fn pages_cannot_read_the_session_and_other_origins_cannot_use_it() {
    if let Some(seen) = seen(&[]) {
        check(&seen, "coglex_users", false);
    }
}

#[test]
fn over_https_the_cookie_is_the_hosts_own() {
    // Chromium takes secure cookies of this machine without TLS.
    if let Some(seen) = seen(&["--server-public-url", "https://shop.example"]) {
        check(&seen, "__Host-coglex_users", true);
    }
}
