//! What happens to every request before and after the router: an id, by which the log knows it,
//! the trailing slash, the time limit, panics, problem bodies, and the headers
//! that every response carries. Plain code instead of a stack of layers, so that
//! the order can be read and nothing is boxed twice.
//!
//! Requests for apps do not go through the router where nothing is layered around
//! it: it would look for their paths among the server's own, in vain, and box
//! what answers them twice. That is a twentieth of a short request.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tower::ServiceExt as _;

use super::credentials;
use super::error::{ApiError, write_problem};
use super::extract::Origin;
use super::guard;
use super::limits::Limits;
use super::routes::archive::is_upload;
use super::scope::{self, Subject};
use crate::app::AppState;
use crate::gateway;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The router with everything around it. Cheap to clone: once per connection.
#[derive(Clone)]
pub struct Front {
    router: Router,
    apps: Option<AppState>,
    timeout: Duration,
    uploads: Duration,
    limited: Option<AppState>,
}

impl Front {
    /// A front of `router` whose responses start within `timeout`. With `apps`,
    /// paths that are not the server's own go to their apps at once.
    pub fn new(router: Router, apps: Option<AppState>, timeout: Duration) -> Self {
        Self {
            router,
            apps,
            timeout,
            uploads: timeout,
            limited: None,
        }
    }

    /// The same, where requests that send files may take longer.
    #[must_use]
    pub(crate) fn with_uploads(self, uploads: Duration) -> Self {
        Self { uploads, ..self }
    }

    /// The same, where requests are counted.
    #[must_use]
    pub(crate) fn limited(self, state: AppState) -> Self {
        Self {
            limited: Some(state),
            ..self
        }
    }

    /// Answers one request from a peer; never fails, never panics.
    pub fn answer<B>(
        &self,
        peer: IpAddr,
        request: http::Request<B>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        let (mut parts, body) = request.into_parts();
        let timeout = match is_upload(&parts.method, &parts.uri) {
            true => self.uploads,
            false => self.timeout,
        };
        let id = request_id(&parts.headers);
        let subject = Arc::new(Subject {
            id: Arc::clone(&id),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
        });
        let origin = Origin {
            id: Arc::clone(&id),
            peer,
        };
        if let Some(uri) = without_trailing_slash(&parts.uri) {
            parts
                .extensions
                .insert(OriginalUri(std::mem::replace(&mut parts.uri, uri)));
        }
        let limited = self.limited.clone().map(|state| {
            let limits = Limits::new(&state.config.limits);
            parts.extensions.insert(limits.clone());
            let hops = state.config.server.trusted_proxies;
            let address = gateway::client_address(peer, &parts.headers, hops);
            // Who asks whether the server lives must not be told that it is asked too often.
            let exempt = matches!(parts.uri.path(), "/healthz" | "/readyz");
            let taken = match exempt {
                true => Ok(()),
                false => guard::limit_address(&state, &limits, address),
            };
            (limits, taken)
        });
        let apps = self.apps.as_ref();
        let apps = apps.filter(|_| gateway::is_for_apps(&parts.method, &parts.uri));
        let next = match apps {
            Some(state) => Next::App(state.clone(), origin),
            None => {
                parts.extensions.insert(origin);
                Next::Router(self.router.clone())
            }
        };
        // Most requests have no body, which needs no box.
        let body = match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(body),
        };
        let request = Request::from_parts(parts, body);
        let answer = async move {
            let (limits, taken) = limited.unwrap_or_else(|| (Limits::default(), Ok(())));
            let response = match taken {
                Ok(()) => {
                    let routed = AssertUnwindSafe(next.answer(request)).catch_unwind();
                    match tokio::time::timeout(timeout, routed).await {
                        Ok(Ok(response)) => response,
                        // The panic hook has logged where and why.
                        Ok(Err(_)) => ApiError::internal("a handler panicked").into_response(),
                        Err(_) => ApiError::request_timeout().into_response(),
                    }
                }
                Err(refused) => refused.into_response(),
            };
            let mut response = write_problem(response, &id);
            let headers = response.headers_mut();
            limits.tell(headers);
            // A browser must take our word for what a body is.
            headers.insert(
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            );
            if let Ok(value) = HeaderValue::from_str(&id) {
                headers.insert(X_REQUEST_ID, value);
            }
            tracing::debug!(
                target: "coglex::access",
                status = response.status().as_u16(),
                duration_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
                "answered"
            );
            Ok(response)
        };
        scope::within(subject, answer)
    }
}

/// Who answers a request.
enum Next {
    Router(Router),
    App(AppState, Origin),
}

impl Next {
    async fn answer(self, request: Request) -> Response {
        match self {
            Next::Router(router) => match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Next::App(state, origin) => {
                let credentials = credentials::read(request.method(), request.headers(), &state);
                // Boxed: it is large, and every idle connection has room for what
                // is not.
                Box::pin(gateway::handle(State(state), credentials, origin, request))
                    .await
                    .into_response()
            }
        }
    }
}

/// The client's own id if it is fit to be written into logs and headers, else a
/// fresh one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes);
    match given {
        Some(id) if (1..=64).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic) => {
            String::from_utf8_lossy(id).into()
        }
        _ => fresh_id(),
    }
}

/// Unique among all servers by its first half, within this one by its second.
fn fresh_id() -> Arc<str> {
    static SERVER: LazyLock<String> = LazyLock::new(|| {
        // An id is no secret: without randomness the clock tells servers apart.
        let server = getrandom::u64().unwrap_or_else(|_| {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            since.as_nanos() as u64
        });
        format!("{:012x}-", server >> 16)
    });
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = String::with_capacity(32);
    id.push_str(&SERVER);
    push_hex(&mut id, NEXT.fetch_add(1, Ordering::Relaxed));
    id.into()
}

/// Appends a number as `{:x}` does. Formatting takes five times as long, and every
/// request has an id.
fn push_hex(text: &mut String, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (number >> (4 * place)) & 0xf;
        text.push(char::from_digit(digit as u32, 16).unwrap_or('0'));
    }
}

/// The URI that the router sees when the client's has a trailing slash: every
/// path exists with and without. Exactly one slash is taken: an empty segment
/// (an empty id, say) must not turn into the path above it.
fn without_trailing_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let shorter = path
        .strip_suffix('/')
        .filter(|shorter| !shorter.is_empty())?;
    let text = match uri.query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures_util::future::BoxFuture;

    use super::*;

    async fn problem(
        handler: impl FnOnce() -> bool + Clone + Send + Sync + 'static,
    ) -> (u16, String) {
        let slow = async move || {
            if handler() {
                std::future::pending::<()>().await;
            }
        };
        let router =
            Router::new().route("/", get(move || Box::pin(slow()) as BoxFuture<'static, ()>));
        let front = Front::new(router, None, Duration::from_millis(20));
        let response = front
            .answer(
                IpAddr::from([127, 0, 0, 1]),
                http::Request::new(Body::empty()),
            )
            .await
            .unwrap();
        let status = response.status().as_u16();
        assert_eq!(
            response.headers()[header::X_CONTENT_TYPE_OPTIONS],
            "nosniff"
        );
        assert!(response.headers().contains_key(X_REQUEST_ID));
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem_that_says_nothing() {
        let (status, body) = problem(|| panic!("with a secret")).await;
        assert_eq!(status, 500);
        assert!(
            body.contains("\"internal\"") && !body.contains("secret"),
            "{body}"
        );
    }

    #[tokio::test]
    async fn a_handler_that_takes_too_long_is_given_up() {
        let (status, body) = problem(|| true).await;
        assert_eq!(status, 504);
        assert!(body.contains("\"request_timeout\""), "{body}");
    }

    #[test]
    fn one_trailing_slash_is_taken_off() {
        let check = |uri: &str, expected: Option<&str>| {
            let shorter = without_trailing_slash(&uri.parse().unwrap());
            assert_eq!(
                shorter.map(|uri| uri.to_string()).as_deref(),
                expected,
                "{uri}"
            );
        };
        check("/", None);
        check("/a", None);
        check("/a/", Some("/a"));
        check("/a/?q=%7B%7D&x=/", Some("/a?q=%7B%7D&x=/"));
        check("/a//", Some("/a/"));
        check("/a%2F", None);
        check("http://host/a/", Some("http://host/a"));
    }

    #[test]
    fn a_request_id_is_taken_only_if_it_is_sane() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                X_REQUEST_ID,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
            request_id(&headers)
        };
        assert_eq!(&*id("abc-1"), "abc-1");
        let longest = "x".repeat(64);
        assert_eq!(*id(&longest), *longest);
        for bad in ["", "a b", "é", &"x".repeat(65)] {
            assert_ne!(&*id(bad), bad);
        }
        assert_ne!(fresh_id(), fresh_id());
    }

    #[test]
    fn numbers_of_ids_are_hexadecimal() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 0xdead_beef, u64::MAX] {
            let mut text = String::new();
            push_hex(&mut text, number);
            assert_eq!(text, format!("{number:x}"));
        }
    }
}
