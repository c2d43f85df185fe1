//! The page behind mailed links, for apps that have none of their own. The same for all
//! of them: it shows one button, because some programs that look at mail open every
//! link, and takes the token from behind the `#`, so that no log and no referrer has it.

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

const HEAD: &str = include_str!("../../../../templates/mail/head.html");
const STYLE: &str = include_str!("../../../../templates/mail/page.css");
const SCRIPT: &str = include_str!("../../../../templates/mail/page.js");

static PAGE: LazyLock<String> = LazyLock::new(|| {
    HEAD.replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", SCRIPT)
});

/// What the page may do: run its own script, and ask this server.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).ok()
});

/// `GET verification/<c>/confirm`, `reset/<c>/confirm` and `email/<c>/confirm`.
pub(crate) async fn show() -> Response {
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ];
    let mut response = (fixed, PAGE.as_str()).into_response();
    if let Some(policy) = &*POLICY {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}
