//! What handlers take: guards, paths, queries and bodies that are checked as
//! they are read. Every refusal is an [`ApiError`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bson::Document;
use bytes::Bytes;
use coglex_services::accounts::Client;
use coglex_services::json;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::credentials::{has_admin_key, has_api_key};
use super::error::ApiError;
use super::guard;
use crate::app::AppState;
use crate::gateway::client_address;

/// Parsing a longer body would hold up the other requests of a worker.
const PARSE_ASIDE: usize = 256 << 10;

/// The guard of what only the server's own API key opens: a scoped key does not, see
/// `super::guard`. It reads headers only, so a request without the key is refused
/// unread.
pub struct ApiKey;

impl FromRequestParts<AppState> for ApiKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if has_api_key(&parts.headers, &state.api_key) {
            return Ok(Self);
        }
        let client = Client::from_request_parts(parts, state).await?;
        // A key that counts, for something else, is told apart from one that does not.
        guard::key_of(state, &parts.headers, &client).await?;
        Err(ApiError::from(coglex_services::Error::Forbidden(
            "no scoped API key covers this".into(),
        )))
    }
}

/// The guard of the admin API: having it means that the request carried the
/// admin key. Reads headers only, as [`ApiKey`].
pub struct AdminKey;

impl FromRequestParts<AppState> for AdminKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if has_admin_key(&parts.headers, &state.admin_key) {
            Ok(Self)
        } else {
            Err(ApiError::admin_key_required())
        }
    }
}

/// Where a request comes from: what `front` notes on every request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its id, as in the log and the `X-Request-Id` header.
    pub id: Arc<str>,
    /// The address at the other end of the connection, a client's or a proxy's.
    pub peer: IpAddr,
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let origin = parts.extensions.get::<Self>().cloned();
        origin.ok_or_else(|| {
            ApiError::internal("the request has no id: it did not come through `front`")
        })
    }
}

impl FromRequestParts<AppState> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let origin = Origin::from_request_parts(parts, state).await?;
        let hops = state.config.server.trusted_proxies;
        let agent = parts.headers.get(header::USER_AGENT);
        Ok(Self {
            address: Some(client_address(origin.peer, &parts.headers, hops)),
            agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
        })
    }
}

/// The request's id, as in the log and the `X-Request-Id` header.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let origin = Origin::from_request_parts(parts, state).await?;
        Ok(Self(origin.id.to_string()))
    }
}

/// Parameters of the path, percent-decoded.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(params)) => Ok(Self(params)),
            Err(_) => Err(ApiError::bad_request(
                "invalid_path",
                "The path is not valid UTF-8 once decoded.",
            )),
        }
    }
}

/// Parameters of the query string. Unknown ones are ignored, as the original did.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(params)) => Ok(Self(params)),
            Err(_) => Err(ApiError::invalid(
                "The query string is malformed or names a parameter twice.",
            )),
        }
    }
}

/// A body that says it is JSON, within the server's limits, not yet parsed.
pub struct JsonText(pub Bytes);

impl FromRequest<AppState> for JsonText {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body has to be sent as Content-Type: application/json.",
            ));
        }
        let server = &state.config.server;
        read_body(request.into_body(), server.body_limit, server.body_timeout)
            .await
            .map(Self)
    }
}

/// A body that is one JSON object, in Extended JSON.
pub struct JsonBody(pub Document);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let JsonText(text) = JsonText::from_request(request, state).await?;
        // The document is one level below the body, in a list two.
        let depth = state.config.storage.depth_limit + 2;
        let parsed = if text.len() < PARSE_ASIDE {
            json::parse_document(&text, depth)
        } else {
            tokio::task::spawn_blocking(move || json::parse_document(&text, depth))
                .await
                .map_err(ApiError::internal)?
        };
        Ok(Self(parsed?))
    }
}

/// `application/json` and `application/…+json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads a whole body within a size and a time.
pub async fn read_body(body: Body, limit: usize, time: Duration) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::payload_too_large(limit as u64);
    // A length that is announced need not be received.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request(
            "body_cut",
            "The request body ended early.",
        )),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The request body did not arrive in time.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognised_by_its_media_type() {
        let check = |value: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(is_json(&headers), expected, "{value}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("application/merge-patch+json", true);
        check("text/plain", false);
        check("application/jsonp", false);
        check("text/x+json", false);
        check("", false);
        assert!(!is_json(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn bodies_are_bounded_in_size_and_time() {
        let second = Duration::from_secs(1);
        assert_eq!(
            read_body(Body::from("12345"), 5, second).await.unwrap(),
            "12345"
        );
        assert_eq!(
            read_body(Body::from("123456"), 5, second)
                .await
                .unwrap_err()
                .status(),
            413
        );
        // Without an announced length the limit is met while reading.
        let chunks = ["123", "456"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let streamed = Body::from_stream(futures_util::stream::iter(chunks));
        assert_eq!(
            read_body(streamed, 5, second).await.unwrap_err().status(),
            413
        );
        let never = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(
            read_body(never, 5, Duration::from_millis(10))
                .await
                .unwrap_err()
                .status(),
            408
        );
    }
}
