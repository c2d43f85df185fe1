//! Keeps the server's own credentials from guests: a plugin that logs its
//! request headers, or is curious, must not hold an API key or a session.

use coglex_services::Accounts;
use coglex_services::caller::{
    ADMIN_KEY_HEADER, API_KEY_HEADER, SECURE_COOKIE_PREFIX, SESSION_COOKIE_PREFIX,
};
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

const API_KEY: HeaderName = HeaderName::from_static(API_KEY_HEADER);
const ADMIN_KEY: HeaderName = HeaderName::from_static(ADMIN_KEY_HEADER);
/// Makes a browser forget all cookies of the site, whoever has set them.
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Whether a pair from `Cookie`, or the start of a `Set-Cookie`, is a session's.
/// A browser sends a cookie without a name as its value alone (RFC 6265bis), so
/// `=coglex_users=…` comes back as `coglex_users=…`.
fn is_session(pair: &[u8]) -> bool {
    let start = pair
        .iter()
        .position(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
        .unwrap_or(pair.len());
    let pair = pair.get(start..).unwrap_or_default();
    // Browsers know the prefix `__Host-` in any case.
    let secure = pair.get(..SECURE_COOKIE_PREFIX.len());
    pair.starts_with(SESSION_COOKIE_PREFIX.as_bytes())
        || secure.is_some_and(|start| start.eq_ignore_ascii_case(SECURE_COOKIE_PREFIX.as_bytes()))
}

/// Takes the keys, session cookies and session tokens out of a request's
/// headers. Other cookies and tokens are the app's.
pub(crate) fn strip(headers: &mut HeaderMap, accounts: &Accounts) {
    headers.remove(API_KEY);
    headers.remove(ADMIN_KEY);
    strip_bearer(headers, |token| accounts.is_own_token(token));
    strip_cookies(headers);
}

fn strip_bearer(headers: &mut HeaderMap, is_own: impl Fn(&str) -> bool) {
    let own = headers.get_all(AUTHORIZATION).iter().any(|value| {
        let Ok(value) = value.to_str() else {
            return false;
        };
        let Some((scheme, token)) = value.trim().split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && is_own(token.trim())
    });
    if own {
        headers.remove(AUTHORIZATION);
    }
}

fn strip_cookies(headers: &mut HeaderMap) {
    let pairs = |value: &HeaderValue| -> Vec<Vec<u8>> {
        value
            .as_bytes()
            .split(|&byte| byte == b';')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let any_own = headers
        .get_all(COOKIE)
        .iter()
        .any(|value| pairs(value).iter().any(|pair| is_session(pair)));
    if !any_own {
        return;
    }
    let kept: Vec<Vec<u8>> = headers
        .get_all(COOKIE)
        .iter()
        .flat_map(pairs)
        .filter(|pair| !is_session(pair))
        .map(|pair| pair.trim_ascii().to_vec())
        .filter(|pair| !pair.is_empty())
        .collect();
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
    {
        headers.insert(COOKIE, value);
    }
}

/// Takes session cookies, and orders to forget them, out of a guest's response:
/// a plugin must not sign a client in as somebody, or out.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    headers.remove(CLEAR_SITE_DATA);
    let is_own = |value: &HeaderValue| is_session(value.as_bytes());
    if !headers.get_all(SET_COOKIE).iter().any(is_own) {
        return;
    }
    let kept: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| !is_own(value))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn session_cookies_go_and_the_apps_own_stay() {
        let check = |before: &[&str], after: Option<&str>| {
            let pairs: Vec<_> = before.iter().map(|value| (COOKIE, *value)).collect();
            let mut headers = headers(&pairs);
            strip_cookies(&mut headers);
            assert_eq!(
                headers.get(COOKIE).map(|value| value.to_str().unwrap()),
                after
            );
        };
        check(&["coglex_users=t"], None);
        check(&["a=1; coglex_users=t;b=2"], Some("a=1; b=2"));
        check(&["coglex_users=t; theme=dark"], Some("theme=dark"));
        check(&["a=1; b=2"], Some("a=1; b=2"));
        check(&["my_coglex_x=1"], Some("my_coglex_x=1"));
        check(&["a=1", " coglex_admins=t"], Some("a=1"));
        check(&["a=1; =coglex_users=t"], Some("a=1"));
        check(&["a=1; __Host-coglex_users=t"], Some("a=1"));
        check(&["__host-Coglex_users=t; __Host-a=1"], Some("__Host-a=1"));
    }

    #[test]
    fn only_the_servers_own_bearer_tokens_go() {
        let check = |value: &str, stays: bool| {
            let mut headers = headers(&[(AUTHORIZATION, value)]);
            strip_bearer(&mut headers, |token| token == "ours");
            assert_eq!(headers.contains_key(AUTHORIZATION), stays, "{value}");
        };
        check("Bearer ours", false);
        check("bearer   ours", false);
        check("Bearer theirs", true);
        check("Basic ours", true);
    }

    #[test]
    fn a_guest_cannot_sign_a_client_in_or_out() {
        let mut headers = headers(&[
            (SET_COOKIE, "a=1"),
            (SET_COOKIE, "coglex_users=x; Path=/"),
            (SET_COOKIE, "=coglex_users=x; Path=/"),
            (SET_COOKIE, " = =\tcoglex_users=x"),
            (SET_COOKIE, "__Host-coglex_users=x; Path=/; Secure"),
            (SET_COOKIE, "b=2"),
            (CLEAR_SITE_DATA, "\"cookies\""),
        ]);
        strip_response(&mut headers);
        assert!(!headers.contains_key(CLEAR_SITE_DATA));
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1", "b=2"]);
    }
}
