//! What a route's cache hints make of an answer: `Cache-Control`, an `ETag` of
//! the body, and 304 for a client that has it already (RFC 9110, 8.8.3 and 13;
//! RFC 9111, 5.2).

use axum::body::Body;
use axum::response::Response;
use coglex_runtime::CacheHints;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use sha2::{Digest, Sha256};

use crate::http::error::ApiError;

/// Larger bodies get no `ETag`: making one would hold up a worker.
const MAX_TAGGED: u64 = 1024 * 1024;

/// Applies the hints to an answer. `guarded` says whether answers depend on who
/// asks.
pub(super) async fn apply(
    hints: CacheHints,
    guarded: bool,
    method: &Method,
    if_none_match: Option<&HeaderValue>,
    mut response: Response,
) -> Result<Response, ApiError> {
    let readable = *method == Method::GET || *method == Method::HEAD;
    if !readable || response.status() != StatusCode::OK {
        return Ok(response);
    }
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, control(hints));
    }
    if guarded {
        let who = HeaderValue::from_static("authorization, cookie, x-api-key");
        response.headers_mut().append(header::VARY, who);
    }
    let whole = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size <= MAX_TAGGED);
    if !response.headers().contains_key(header::ETAG) && whole {
        response = tagged(response).await?;
    }
    let known = if_none_match.zip(response.headers().get(header::ETAG));
    if known.is_some_and(|(wanted, tag)| names(wanted, tag)) {
        return Ok(not_modified(response.headers()));
    }
    Ok(response)
}

fn control(hints: CacheHints) -> HeaderValue {
    let who = if hints.shared { "public" } else { "private" };
    let text = match hints.max_age {
        0 => format!("{who}, no-cache"),
        seconds => format!("{who}, max-age={seconds}"),
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("no-cache"))
}

/// The response with an `ETag` made of its body.
async fn tagged(response: Response) -> Result<Response, ApiError> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_err(ApiError::internal)?.to_bytes();
    let digest = Sha256::digest(&body);
    let half = digest.get(..16).unwrap_or_default();
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", hex::encode(half))) {
        parts.headers.insert(header::ETAG, tag);
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Whether `If-None-Match` names the tag, compared weakly.
fn names(wanted: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(wanted), Ok(tag)) = (wanted.to_str(), tag.to_str()) else {
        return false;
    };
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    wanted.trim() == "*" || wanted.split(',').any(|one| opaque(one) == opaque(tag))
}

/// 304, with the headers that RFC 9110, 15.4.5 wants of the answer it stands for.
fn not_modified(headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [
        header::CACHE_CONTROL,
        header::CONTENT_LOCATION,
        header::DATE,
        header::ETAG,
        header::EXPIRES,
        header::VARY,
        header::SET_COOKIE,
    ] {
        for value in headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(
        hints: CacheHints,
        if_none_match: Option<&str>,
        response: Response,
    ) -> Response {
        let wanted = if_none_match.map(|text| HeaderValue::from_str(text).unwrap());
        apply(hints, false, &Method::GET, wanted.as_ref(), response)
            .await
            .unwrap()
    }

    const HINTS: CacheHints = CacheHints {
        max_age: 60,
        shared: true,
    };

    #[tokio::test]
    async fn an_answer_gets_a_tag_and_a_client_that_has_it_gets_304() {
        let hello = || Response::new(Body::from("hello"));
        let first = answer(HINTS, None, hello()).await;
        assert_eq!(first.headers()["cache-control"], "public, max-age=60");
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        for wanted in [&*tag, &format!("\"x\", W/{tag}"), "*"] {
            let again = answer(HINTS, Some(wanted), hello()).await;
            assert_eq!(again.status(), 304, "{wanted}");
            assert_eq!(again.headers()["etag"], tag);
            assert_eq!(again.body().size_hint().exact(), Some(0));
        }
        let changed = answer(HINTS, Some(&tag), Response::new(Body::from("other"))).await;
        assert_eq!(changed.status(), 200);
    }

    #[tokio::test]
    async fn what_the_app_says_itself_stays() {
        let mut response = Response::new(Body::from("hello"));
        let headers = response.headers_mut();
        headers.insert("cache-control", HeaderValue::from_static("no-store"));
        headers.insert("etag", HeaderValue::from_static("\"own\""));
        let response = answer(HINTS, None, response).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["etag"], "\"own\"");
    }

    #[tokio::test]
    async fn errors_are_not_cached() {
        let mut response = Response::new(Body::from("no"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        let response = answer(HINTS, Some("*"), response).await;
        assert_eq!(response.status(), 404);
        assert!(!response.headers().contains_key("cache-control"));
    }
}
