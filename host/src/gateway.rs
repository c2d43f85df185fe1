//! Carries a request to the gateway app that owns its path: match, guards, body
//! limit, call, answer. Everything that can be refused is refused before the
//! guest is instantiated and before the body is read.
//!
//! Called by `http` for every path that is not the server's own. It stands
//! between HTTP and the runtime, so that neither knows the other.

use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::response::{IntoResponse, Response};
use coglex_runtime::{CallContext, Guard, RequestBody, RouteMatch};
use coglex_services::accounts::User;
use coglex_services::caller::Credentials;
use http::{HeaderValue, Method, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use percent_encoding::percent_decode_str;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::RequestId;
use crate::plugins::{Entry, Lookup};

/// Answers a request with the app that declared its route.
pub(crate) async fn handle(
    State(state): State<AppState>,
    credentials: Credentials,
    request_id: RequestId,
    request: Request,
) -> Result<Response, ApiError> {
    let (entry, params) = match state.plugins.route(request.method(), request.uri().path()) {
        Lookup::Found { entry, params } => (entry, params),
        Lookup::WrongMethod { allow } => return Err(ApiError::method_not_allowed(allow)),
        Lookup::Missing => return Err(ApiError::not_found("There is nothing at this path.")),
    };
    let params = decode(params)?;
    let users = check_guards(&state, &entry, &credentials).await?;
    let head = *request.method() == Method::HEAD;
    let request = prepare(&state, &entry, request)?;
    let matched = RouteMatch {
        pattern: entry.route.path.clone(),
        params,
    };
    let context = CallContext {
        request_id: request_id.0,
        credentials,
        users,
    };

    let response = entry.plugin.handle(request, matched, context).await?;
    let mut response = response.map(Body::new).into_response();
    if head {
        describe_body(&mut response);
    }
    Ok(response)
}

/// Every guard must hold; the users that they found are handed on.
async fn check_guards(
    state: &AppState,
    entry: &Entry,
    credentials: &Credentials,
) -> Result<Vec<User>, ApiError> {
    let mut users = Vec::new();
    for guard in &entry.route.guards {
        match guard {
            Guard::ApiKey if credentials.api_key => {}
            Guard::ApiKey => return Err(ApiError::api_key_required()),
            Guard::Authenticated(realm) => {
                match state
                    .services
                    .accounts
                    .session_of(realm, credentials)
                    .await?
                {
                    Some(user) => users.push(user),
                    None => return Err(ApiError::session_required(realm)),
                }
            }
        }
    }
    Ok(users)
}

/// The request as the app will get it: bounded, with the method that the route
/// declared, and for a mounted component without the mount's prefix.
fn prepare(
    state: &AppState,
    entry: &Entry,
    request: Request,
) -> Result<http::Request<RequestBody>, ApiError> {
    let server_limit = state.config.server.body_limit as u64;
    let limit = entry
        .route
        .body_limit
        .map_or(server_limit, |own| own.min(server_limit));
    if request.body().size_hint().lower() > limit {
        return Err(ApiError::payload_too_large(limit));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::HEAD && !entry.route.methods.is_empty() {
        // Routes name GET; HEAD is GET without its body.
        if !entry.route.methods.contains(&Method::HEAD) {
            parts.method = Method::GET;
        }
    }
    if let Some(prefix) = &entry.mount {
        let original = parts
            .extensions
            .get::<OriginalUri>()
            .map_or(&parts.uri, |uri| &uri.0);
        parts.uri = without_prefix(original, prefix)?;
        if let Ok(value) = HeaderValue::from_str(prefix) {
            parts.headers.insert("x-forwarded-prefix", value);
        }
    }
    let body = Limited::new(body, limit).boxed_unsync();
    Ok(http::Request::from_parts(parts, body))
}

fn without_prefix(uri: &Uri, prefix: &str) -> Result<Uri, ApiError> {
    let all = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let rest = all.strip_prefix(prefix).unwrap_or(all);
    let rest = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    rest.parse()
        .map_err(|_| ApiError::bad_request("invalid_path", "The path is malformed."))
}

fn decode(params: Vec<(String, String)>) -> Result<Vec<(String, String)>, ApiError> {
    let decoded = params.into_iter().map(|(name, raw)| {
        let value = percent_decode_str(&raw).decode_utf8().map_err(|_| {
            ApiError::bad_request("invalid_path", "The path is not valid UTF-8 once decoded.")
        })?;
        Ok((name, value.into_owned()))
    });
    decoded.collect()
}

/// HEAD: the headers that GET would have had, and no body.
fn describe_body(response: &mut Response) {
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
}

/// The statuses that a failed call of an app has.
impl From<coglex_runtime::CallError> for ApiError {
    fn from(error: coglex_runtime::CallError) -> Self {
        crate::functions::call_error("app", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_component_sees_paths_from_its_own_root() {
        let check = |uri: &str, expected: &str| {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(
                without_prefix(&uri, "/hello").unwrap().to_string(),
                expected
            );
        };
        check("/hello", "/");
        check("/hello/", "/");
        check("/hello?a=b", "/?a=b");
        check("/hello/x/y?a=b", "/x/y?a=b");
    }

    #[test]
    fn parameters_are_percent_decoded() {
        let params = vec![("name".to_owned(), "a%20b%2Fc".to_owned())];
        assert_eq!(
            decode(params).unwrap(),
            [("name".to_owned(), "a b/c".to_owned())]
        );
        assert!(decode(vec![("name".to_owned(), "%ff".to_owned())]).is_err());
    }
}
