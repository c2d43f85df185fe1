//! Whether a browser was made to send a request by somebody else's page.
//!
//! Browsers add a site's cookies to requests that other sites make them send
//! (cross-site request forgery). `SameSite=Lax` keeps them out of most writes; this
//! keeps out the rest: writes from another origin of the same site, and browsers that
//! do not know the attribute. Requests that cannot change anything pass: what a GET
//! answers is not shown to other origins.
//!
//! No tokens in forms: a browser says itself where a request is from, in
//! `Sec-Fetch-Site` (Fetch Metadata) or in `Origin`, and pages cannot change either.
//! What sends neither is no browser of the last years, and cannot be made to send
//! cookies by a page.

use http::{HeaderMap, HeaderName, Method, Uri, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request comes from a page of an origin that is neither the server's own
/// nor one of the `trusted`.
pub(super) fn is_forged<'a>(
    method: &Method,
    headers: &HeaderMap,
    trusted: impl IntoIterator<Item = &'a str>,
) -> bool {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let origin = text(header::ORIGIN);
    let is_trusted = || {
        let origin = origin.and_then(parts);
        origin.is_some_and(|origin| {
            trusted
                .into_iter()
                .any(|one| parts(one) == Some(origin.clone()))
        })
    };
    match text(SEC_FETCH_SITE) {
        // `none` is a person's own doing, such as a bookmark.
        Some("same-origin" | "none") => false,
        Some(_) => !is_trusted(),
        None => match origin {
            None => false,
            Some(from) => !is_host(from, text(header::HOST)) && !is_trusted(),
        },
    }
}

/// Whether an origin is the host that the request was sent to, over http or https:
/// which of the two, a server behind a proxy cannot tell.
fn is_host(origin: &str, host: Option<&str>) -> bool {
    let (Some((scheme, of, port)), Some(host)) = (parts(origin), host) else {
        return false;
    };
    parts(&format!("{scheme}://{host}"))
        .is_some_and(|(_, name, number)| (of, port) == (name, number))
}

/// Scheme, host and port of an origin or URL; none of `null`.
fn parts(origin: &str) -> Option<(String, String, u16)> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().or(match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    })?;
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_other_origins_are_forged() {
        let check = |method: Method, pairs: &[(&'static str, &str)], forged: bool| {
            let mut headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            headers.insert("host", "api.example:8443".parse().unwrap());
            let trusted = ["https://App.example", "https://www.example/path"];
            assert_eq!(
                is_forged(&method, &headers, trusted),
                forged,
                "{method} {pairs:?}"
            );
        };
        let (get, post) = (Method::GET, Method::POST);
        check(get, &[("sec-fetch-site", "cross-site")], false);
        check(post.clone(), &[], false);
        check(post.clone(), &[("sec-fetch-site", "same-origin")], false);
        check(post.clone(), &[("sec-fetch-site", "none")], false);
        for site in ["cross-site", "same-site", "", "sideways", "Same-Origin"] {
            check(post.clone(), &[("sec-fetch-site", site)], true);
        }
        // A page of ours on another origin.
        let own = [
            ("sec-fetch-site", "same-site"),
            ("origin", "https://app.example"),
        ];
        check(post.clone(), &own, false);
        let other = [
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
        ];
        check(post.clone(), &other, true);
        // Browsers that do not say where from but by `Origin`.
        for (origin, forged) in [
            ("https://api.example:8443", false),
            ("http://API.example:8443", false),
            ("https://api.example", true),
            ("https://app.example", false),
            ("https://app.example:443", false),
            ("http://app.example", true),
            ("https://www.example", false),
            ("https://app.example.evil.example", true),
            ("null", true),
            ("", true),
        ] {
            check(post.clone(), &[("origin", origin)], forged);
        }
        check(
            Method::from_bytes(b"PROPPATCH").unwrap(),
            &[("origin", "null")],
            true,
        );
        check(Method::DELETE, &[("origin", "https://evil.example")], true);
    }
}
