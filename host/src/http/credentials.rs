//! What a request brought to show who sends it. The one place that reads the
//! API key, bearer tokens and session cookies, for handlers and the gateway.

use axum::extract::FromRequestParts;
use coglex_services::caller::{
    ADMIN_KEY_HEADER, API_KEY_HEADER, Credentials, SECURE_COOKIE_PREFIX, SESSION_COOKIE_PREFIX,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::cross_site;
use super::error::ApiError;
use crate::app::AppState;
use crate::config::{Secret, ServerConfig};

/// The header that carries the API key.
pub(super) const X_API_KEY: HeaderName = HeaderName::from_static(API_KEY_HEADER);

/// The header that carries the admin key.
const X_ADMIN_KEY: HeaderName = HeaderName::from_static(ADMIN_KEY_HEADER);

/// Cookies past this many are not looked at; a browser sends one per realm.
const MAX_COOKIES: usize = 32;

/// What a realm may hold that a cookie's name may not (RFC 6265, token), and
/// the escape sign itself.
const NOT_IN_COOKIE_NAMES: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'(')
    .add(b')')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');

impl FromRequestParts<AppState> for Credentials {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        Ok(read(&parts.method, &parts.headers, state))
    }
}

/// Whether the headers carry the API key.
pub(super) fn has_api_key(headers: &HeaderMap, api_key: &Secret) -> bool {
    headers
        .get(X_API_KEY)
        .is_some_and(|given| api_key.matches(given.as_bytes()))
}

/// Whether the headers carry the admin key.
pub(super) fn has_admin_key(headers: &HeaderMap, admin_key: &Secret) -> bool {
    headers
        .get(X_ADMIN_KEY)
        .is_some_and(|given| admin_key.matches(given.as_bytes()))
}

/// What the headers show of who sends them. Cookies that another site has made a
/// browser send with a write are left out.
pub(super) fn read(method: &Method, headers: &HeaderMap, state: &AppState) -> Credentials {
    read_by(method, headers, &state.api_key, &state.config.server)
}

fn read_by(
    method: &Method,
    headers: &HeaderMap,
    api_key: &Secret,
    server: &ServerConfig,
) -> Credentials {
    let secure = server.is_https();
    let mut credentials = Credentials {
        api_key: has_api_key(headers, api_key),
        bearer: headers.get(header::AUTHORIZATION).and_then(bearer),
        cookies: headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .take(MAX_COOKIES)
            .filter_map(|pair| session_cookie(pair, secure))
            .collect(),
        cross_site: false,
    };
    // Who sends the API key is no page of another site, which does not know it.
    if !credentials.cookies.is_empty() && !credentials.api_key {
        let origins = server.cors_origins.iter().map(String::as_str);
        let trusted = origins.chain([server.public_url.as_str()]);
        if cross_site::is_forged(method, headers, trusted) {
            credentials.cookies.clear();
            credentials.cross_site = true;
        }
    }
    credentials
}

fn bearer(value: &HeaderValue) -> Option<String> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

fn session_cookie(pair: &str, secure: bool) -> Option<(String, String)> {
    let (name, token) = pair.trim().split_once('=')?;
    let realm = percent_decode_str(name.strip_prefix(prefix(secure))?)
        .decode_utf8()
        .ok()?;
    (!token.is_empty()).then(|| (realm.into_owned(), token.to_owned()))
}

/// What cookies' names start with. Over https one without `__Host-` does not count: a
/// neighbouring host may have set it, to have our users act as somebody else.
fn prefix(secure: bool) -> &'static str {
    if secure {
        SECURE_COOKIE_PREFIX
    } else {
        SESSION_COOKIE_PREFIX
    }
}

/// `Set-Cookie` for a new session. Scripts cannot read it, other sites cannot
/// make a browser send it with a write, and over https it never travels bare.
pub(super) fn set_cookie(
    realm: &str,
    token: &str,
    max_age: u64,
    secure: bool,
) -> Option<HeaderValue> {
    let prefix = prefix(secure);
    let name = utf8_percent_encode(realm, NOT_IN_COOKIE_NAMES);
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!(
        "{prefix}{name}={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"
    );
    HeaderValue::try_from(cookie).ok()
}

/// `Set-Cookie` that makes the browser forget the session.
pub(super) fn clear_cookie(realm: &str, secure: bool) -> Option<HeaderValue> {
    set_cookie(realm, "", 0, secure)
}

/// What a sign-in by a provider is gone on with. No realm has a `$` in its name; apps are
/// not shown it, as they are not shown sessions.
const FLOW: &str = "$oauth_";
/// Characters of a state by which its cookie is told from those of other windows.
const FLOW_NAME: usize = 16;

fn flow_name(state: &str, secure: bool) -> Option<String> {
    let part = state.get(..FLOW_NAME)?;
    let plain = part
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    plain.then(|| format!("{}{FLOW}{part}", prefix(secure)))
}

/// The cookie that a browser was sent to a provider with, by the state that it brings
/// back.
pub(super) fn flow_cookie(headers: &HeaderMap, state: &str, secure: bool) -> Option<String> {
    let name = flow_name(state, secure)?;
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value.to_owned())
}

/// `Set-Cookie` for it. A provider that has the browser come back with a POST is another
/// site, whose writes carry only cookies that say that they may.
pub(super) fn set_flow_cookie(
    state: &str,
    sealed: &str,
    max_age: u64,
    secure: bool,
    posted_back: bool,
) -> Option<HeaderValue> {
    let name = flow_name(state, secure)?;
    let attributes = match (secure, posted_back) {
        (true, true) => "; SameSite=None; Secure",
        (true, false) => "; SameSite=Lax; Secure",
        (false, _) => "; SameSite=Lax",
    };
    let cookie = format!("{name}={sealed}; Path=/; Max-Age={max_age}; HttpOnly{attributes}");
    HeaderValue::try_from(cookie).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Inputs};

    fn credentials(pairs: &[(&str, &str)]) -> Credentials {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        sent(Method::POST, &headers, "")
    }

    fn sent(method: Method, headers: &HeaderMap, public_url: &str) -> Credentials {
        let mut server = config::load(&Inputs::default()).unwrap().config.server;
        public_url.clone_into(&mut server.public_url);
        let key = Secret::from("right".to_owned());
        read_by(&method, headers, &key, &server)
    }

    #[test]
    fn only_the_whole_api_key_counts() {
        let check = |given: &str, expected: bool| {
            assert_eq!(
                credentials(&[("X-API-Key", given)]).api_key,
                expected,
                "{given}"
            );
        };
        check("right", true);
        check("righ", false);
        check("right2", false);
        check("RIGHT", false);
        check("", false);
        assert!(!credentials(&[]).api_key);
    }

    #[test]
    fn bearer_tokens_are_read_whatever_the_case_of_the_scheme() {
        let bearer = |value: &str| credentials(&[("authorization", value)]).bearer;
        assert_eq!(bearer("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(bearer("bearer  abc ").as_deref(), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
        assert_eq!(bearer("Bearer"), None);
    }

    #[test]
    fn session_cookies_are_told_from_others_and_bounded() {
        let given = credentials(&[
            ("cookie", "a=1; coglex_users=t1"),
            ("cookie", "coglex_b%C3%A4r=t2; coglex_x="),
        ]);
        assert_eq!(
            given.cookies,
            [("users".into(), "t1".into()), ("bär".into(), "t2".into())]
        );
        assert_eq!(given.tokens("users").collect::<Vec<_>>(), ["t1"]);
        let many = (0..100)
            .map(|n| format!("coglex_{n}=t"))
            .collect::<Vec<_>>()
            .join(";");
        assert_eq!(credentials(&[("cookie", &many)]).cookies.len(), MAX_COOKIES);
    }

    #[test]
    fn a_realm_survives_the_way_through_a_cookie() {
        for realm in ["users", "bär", "a b;c=d", "%41", "x\"y"] {
            let cookie = set_cookie(realm, "tok", 60, true).unwrap();
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"),
                "{cookie}"
            );
            let sent = cookie.split(';').next().unwrap();
            assert_eq!(
                session_cookie(sent, true),
                Some((realm.to_owned(), "tok".to_owned()))
            );
            assert_eq!(session_cookie(sent, false), None);
        }
    }

    #[test]
    fn a_flow_is_found_by_its_state_and_is_no_session() {
        let state = "abcdefghijklmnop-rest_of_it";
        for secure in [false, true] {
            let cookie = set_flow_cookie(state, "sealed", 600, secure, true).unwrap();
            let cookie = cookie.to_str().unwrap();
            let sent = cookie.split(';').next().unwrap();
            let mut headers = HeaderMap::new();
            headers.insert("cookie", format!("a=b; {sent}").parse().unwrap());
            let found = |state: &str, secure| flow_cookie(&headers, state, secure);
            assert_eq!(found(state, secure).as_deref(), Some("sealed"));
            assert_eq!(found(state, !secure), None);
            assert_eq!(found("another-of-the-same-length", secure), None);
            assert_eq!(found("short", secure), None);
            assert_eq!(cookie.contains("SameSite=None; Secure"), secure, "{cookie}");
            let realm = session_cookie(sent, secure).map(|(realm, _)| realm);
            assert!(realm.is_some_and(|realm| realm.starts_with('$')));
        }
        assert_eq!(
            set_flow_cookie("a;b=cdefghijklmnop", "x", 1, true, false),
            None
        );
        assert_eq!(
            set_flow_cookie("ääääääääääääääää", "x", 1, true, false),
            None
        );
    }

    #[test]
    fn over_https_only_cookies_of_this_very_host_count() {
        let mut headers = HeaderMap::new();
        let both = "coglex_users=theirs; __Host-coglex_users=ours";
        headers.insert("cookie", both.parse().unwrap());
        let read = |url: &str| sent(Method::GET, &headers, url).cookies;
        assert_eq!(read("https://a.example"), [("users".into(), "ours".into())]);
        assert_eq!(read(""), [("users".into(), "theirs".into())]);
    }

    #[test]
    fn cookies_that_another_site_has_sent_do_not_count_for_writes() {
        let with = |method: Method, pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("cookie", "coglex_users=t".parse().unwrap());
            headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let read = sent(method, &headers, "");
            assert_ne!(read.cookies.is_empty(), !read.cross_site);
            read
        };
        assert!(with(Method::POST, &[]).cross_site);
        assert!(!with(Method::GET, &[]).cross_site);
        assert!(!with(Method::POST, &[("x-api-key", "right")]).cross_site);
        assert!(with(Method::POST, &[("x-api-key", "wrong")]).cross_site);
        let bearer = with(Method::POST, &[("authorization", "Bearer t")]);
        assert_eq!(bearer.tokens("users").count(), 1);
    }
}
