//! Carries a request to the gateway app that owns its path: match, guards, rate,
//! query, kind and size of the body, call, answer. What can be refused is refused
//! before the guest is instantiated and, but for a body that does not fit its
//! schema, before the body is read.
//!
//! Called by `http` for every path that is not the server's own. It stands
//! between HTTP and the runtime, so that neither knows the other.

mod cache;
mod rate;

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use bson::Bson;
use coglex_runtime::{CallContext, Door, Guard, Mismatch, RateScope, RequestBody, RouteMatch};
use coglex_services::accounts::{Client, User};
use coglex_services::caller::Credentials;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Limited};
use percent_encoding::percent_decode_str;

use crate::app::AppState;
use crate::http::error::{ApiError, FieldError};
use crate::http::extract::Origin;
use crate::http::guard;
use crate::http::limits::{Bucket, Limits, RATE_LIMIT, RATE_LIMIT_POLICY, too_often};
use crate::plugins::{Entry, Lookup, is_reserved};
pub(crate) use rate::{RateLimits, Verdict};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whether a request can only be for an app; whoever is not sure asks the router,
/// which sends here what is nobody else's. `/.well-known` is shared by the server
/// and apps. `CONNECT` is for the router, which sees to it that nobody is connected
/// to anything.
pub(crate) fn is_for_apps(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    *method != Method::CONNECT && !is_reserved(path) && !path.starts_with("/.well-known/")
}

/// Answers a request with the app that declared its route.
pub(crate) async fn handle(
    State(state): State<AppState>,
    mut credentials: Credentials,
    origin: Origin,
    request: Request,
) -> Result<Response, ApiError> {
    let (entry, params) = match state.plugins.route(request.method(), request.uri().path()) {
        Lookup::Found { entry, params } => (entry, params),
        Lookup::WrongMethod { allow } => return Err(ApiError::method_not_allowed(allow)),
        Lookup::Missing => return Err(ApiError::not_found("There is nothing at this path.")),
    };
    let params = decode(params)?;
    let shown = Shown {
        origin: &origin,
        headers: request.headers(),
        extensions: request.extensions(),
    };
    let users = check_guards(&state, &entry, &mut credentials, &shown).await?;
    let limit = check_rate(&state, &entry, &users, &origin, request.headers())?;
    if entry.route.terms.query.is_some() {
        let uri = request.uri().clone();
        check_query(&entry, uri.query().unwrap_or_default()).await?;
    }
    check_media_type(&entry, &request)?;
    let method = request.method().clone();
    let hints = entry.route.terms.cache;
    let if_none_match = hints.and_then(|_| request.headers().get(header::IF_NONE_MATCH).cloned());
    let request = prepare(&state, &entry, request)?;
    let matched = RouteMatch {
        pattern: entry.route.path.clone(),
        params,
        body: entry.route.terms.body.clone(),
    };
    let context = CallContext {
        request_id: origin.id.to_string(),
        credentials,
        users,
        ..CallContext::default()
    };

    let response = entry.plugin.handle(request, matched, context).await?;
    let mut response = response.map(|body| match body.into_whole() {
        Ok(bytes) => Body::from(bytes),
        Err(body) => Body::new(body),
    });
    if state.development && entry.route.terms.output.is_some() {
        response = check_output(&entry, response).await?;
    }
    if let Some(hints) = hints {
        let guarded = !entry.route.guards.is_empty();
        let wanted = if_none_match.as_ref();
        response = cache::apply(hints, guarded, &method, wanted, response).await?;
    }
    if let Some(headers) = limit {
        response.headers_mut().extend(headers);
    }
    if method == Method::HEAD {
        describe_body(&mut response);
    }
    Ok(response)
}

/// What of a request guards look at.
struct Shown<'a> {
    origin: &'a Origin,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

/// Every guard must hold; the users that they found are handed on.
async fn check_guards(
    state: &AppState,
    entry: &Entry,
    credentials: &mut Credentials,
    shown: &Shown<'_>,
) -> Result<Vec<User>, ApiError> {
    let mut users = Vec::new();
    for guard in &entry.route.guards {
        match guard {
            Guard::ApiKey if credentials.api_key => {}
            Guard::ApiKey => {
                scoped_key(state, entry, shown).await?;
                credentials.api_key = true;
            }
            Guard::Authenticated(realm) => {
                signed_in(state, realm, credentials, &mut users).await?;
            }
            Guard::Role { realm, role } => {
                let user = signed_in(state, realm, credentials, &mut users).await?;
                if !has_role(user, role) {
                    return Err(ApiError::role_required(role));
                }
            }
        }
    }
    for user in &users {
        guard::limit_user(state, shown.extensions, user)?;
    }
    Ok(users)
}

/// Lets a scoped key open the route, if that is what it is for.
async fn scoped_key(state: &AppState, entry: &Entry, shown: &Shown<'_>) -> Result<(), ApiError> {
    let hops = state.config.server.trusted_proxies;
    let client = Client {
        address: Some(client_address(shown.origin.peer, shown.headers, hops)),
        agent: None,
    };
    let key = guard::key_of(state, shown.headers, &client).await?;
    Limits::of(shown.extensions).take(state, Bucket::Key, &key.id)?;
    match key.opens(&entry.route.path) {
        true => Ok(()),
        false => Err(ApiError::from(coglex_services::Error::Forbidden(
            "this API key does not cover this route".into(),
        ))),
    }
}

/// The user of this realm who is signed in; looked up once, however many guards
/// ask.
async fn signed_in<'a>(
    state: &AppState,
    realm: &str,
    credentials: &Credentials,
    users: &'a mut Vec<User>,
) -> Result<&'a User, ApiError> {
    let index = match users.iter().position(|user| user.realm == realm) {
        Some(index) => index,
        None => {
            let accounts = &state.services.accounts;
            let user = accounts.session_of(realm, credentials).await?;
            users.push(user.ok_or_else(|| ApiError::session_required_of(realm, credentials))?);
            users.len() - 1
        }
    };
    users
        .get(index)
        .ok_or_else(|| ApiError::session_required(realm))
}

/// Whether the array `roles` of the user's document names the role.
fn has_role(user: &User, role: &str) -> bool {
    match user.document.get("roles") {
        Some(Bson::Array(roles)) => roles.iter().any(|one| one.as_str() == Some(role)),
        _ => false,
    }
}

/// Whether the route's rate allows it, and the headers that tell how much is left.
fn check_rate(
    state: &AppState,
    entry: &Entry,
    users: &[User],
    origin: &Origin,
    headers: &HeaderMap,
) -> Result<Option<HeaderMap>, ApiError> {
    let Some(rate) = entry.route.terms.rate else {
        return Ok(None);
    };
    let who = match (rate.per, users.first()) {
        (RateScope::Everyone, _) => String::new(),
        // No realm has a newline in it.
        (RateScope::Caller, Some(user)) => format!("{}\n{}", user.realm, user.id),
        (RateScope::Caller | RateScope::Address, _) => {
            let hops = state.config.server.trusted_proxies;
            coglex_services::accounts::network(client_address(origin.peer, headers, hops))
                .to_string()
        }
    };
    let route = &entry.route;
    let key = (entry.plugin.name(), &route.path, &route.methods, who);
    let verdict = state.rate_limits.take(key, rate);
    let (policy, left) = verdict.told("default", rate);
    let mut told = HeaderMap::with_capacity(2);
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        told.insert(
            name,
            HeaderValue::try_from(text).map_err(ApiError::internal)?,
        );
    }
    if verdict.admitted {
        return Ok(Some(told));
    }
    Err(too_often(verdict).with_headers(told))
}

/// Who is at the other end: the peer, or whom the outermost of the proxies that
/// the operator trusts has seen. What a client writes before that is not
/// believed.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: usize) -> IpAddr {
    let Some(nth) = trusted_proxies.checked_sub(1) else {
        return peer;
    };
    // Each part is a hop, whatever is in it: left out, what a client has written
    // would move up to where a proxy writes.
    let hops: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    hops.iter()
        .rev()
        .nth(nth)
        .and_then(|part| std::str::from_utf8(part).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(peer)
}

/// Whether the query is what the route takes.
async fn check_query(entry: &Entry, query: &str) -> Result<(), ApiError> {
    let Some(schema) = &entry.route.terms.query else {
        return Ok(());
    };
    let mismatches = schema.mismatches(query).await?;
    match mismatches.is_empty() {
        true => Ok(()),
        false => Err(mismatch("query", &mismatches)),
    }
}

/// What can be said of the body before it is read.
fn check_media_type(entry: &Entry, request: &Request) -> Result<(), ApiError> {
    let terms = &entry.route.terms;
    if !terms.media_types.is_empty() && !request.body().is_end_stream() {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !terms.takes(content_type.and_then(|value| value.to_str().ok())) {
            return Err(ApiError::unsupported_media_type(format!(
                "The body has to be sent as {}.",
                terms.media_types.join(" or ")
            )));
        }
    }
    Ok(())
}

/// 422 for a body that does not fit.
pub(crate) fn body_mismatch(mismatches: &[Mismatch]) -> ApiError {
    mismatch("body", mismatches)
}

fn mismatch(what: &str, mismatches: &[Mismatch]) -> ApiError {
    let detail = match mismatches.first() {
        Some(one) if one.path.is_empty() => format!("The {what} does not fit: {}.", one.detail),
        Some(one) => format!("The {what} does not fit at {}: {}.", one.path, one.detail),
        None => format!("The {what} does not fit."),
    };
    let errors = mismatches.iter().map(|one| FieldError {
        path: one.path.clone(),
        rule: one.rule.clone(),
        detail: one.detail.clone(),
    });
    ApiError::input_mismatch(detail, errors)
}

/// Under `coglex dev`: says so when a good answer is not what the route declares.
/// Bodies that stream pass unread.
async fn check_output(entry: &Entry, response: Response) -> Result<Response, ApiError> {
    let whole = entry.plugin.door() == Door::Records && response.status().is_success();
    let Some(schema) = entry.route.terms.output.as_ref().filter(|_| whole) else {
        return Ok(response);
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(ApiError::internal)?.to_bytes();
    let found = match serde_json::from_slice(&body) {
        Ok(value) => schema.mismatches(&value).unwrap_or_default(),
        Err(error) => vec![Mismatch {
            path: String::new(),
            rule: "type".to_owned(),
            detail: format!("it is not JSON: {error}"),
        }],
    };
    for one in found {
        tracing::warn!(
            plugin.name = entry.plugin.name(),
            route = entry.route.path,
            at = one.path,
            rule = one.rule,
            "an answer does not fit the route's schema: {}",
            one.detail
        );
    }
    Ok(Response::from_parts(parts, Body::from(body)))
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
    let body = match body.is_end_stream() {
        true => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        false => Limited::new(body, limit).boxed_unsync(),
    };
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
    fn what_may_be_the_servers_own_goes_through_the_router() {
        let check = |method: Method, uri: &str| is_for_apps(&method, &uri.parse().unwrap());
        for own in [
            "/healthz",
            "/service/storage/v1/x",
            "//admin/v1",
            "/.well-known/jwks.json",
            "http://host/static/a",
        ] {
            assert!(!check(Method::GET, own), "{own}");
        }
        assert!(!check(Method::CONNECT, "host:80"));
        assert!(!check(Method::CONNECT, "/hello"));
        assert!(check(Method::GET, "/hello"));
        assert!(check(Method::OPTIONS, "/services/x"));
    }

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
    fn only_trusted_proxies_tell_who_the_client_is() {
        let check = |forwarded: &[&str], trusted: usize, expected: &str| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(
                    X_FORWARDED_FOR,
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            let peer = "10.0.0.1".parse().unwrap();
            let found = client_address(peer, &headers, trusted);
            assert_eq!(found.to_string(), expected, "{forwarded:?} {trusted}");
        };
        check(&["192.0.2.1"], 0, "10.0.0.1");
        check(&["192.0.2.1"], 1, "192.0.2.1");
        check(&["1.1.1.1, 192.0.2.1"], 1, "192.0.2.1");
        check(&["1.1.1.1, 192.0.2.1", "10.0.0.2"], 2, "192.0.2.1");
        check(&["1.1.1.1"], 2, "10.0.0.1");
        check(&["nonsense"], 1, "10.0.0.1");
        // A line that is not text: what the proxy added to it counts.
        check(&["1.1.1.1", "\u{e9}, 192.0.2.1"], 1, "192.0.2.1");
        check(&["1.1.1.1", "192.0.2.1, \u{e9}"], 1, "10.0.0.1");
        check(&[], 1, "10.0.0.1");
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
