//! Tells the audit log what was done on the routes of accounts and operators. One layer
//! around those routes, so that none can be forgotten: the action is read from the
//! route, the outcome from the status. Handlers add who was meant, where only they know.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use coglex_services::Caller;
use coglex_services::accounts::Client;
use coglex_services::audit::Entry;
use http::request::Parts;
use http::{Method, StatusCode};

use super::credentials;
use super::error::ApiError;
use super::extract::Origin;
use crate::app::AppState;

const AUTH: &str = "/service/auth/v1/";
const ADMIN: &str = "/admin/v1/";

/// What a handler knows of the entry about its request. Does nothing on routes that are
/// not watched.
#[derive(Clone, Default)]
pub(crate) struct Noted(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    actor: Option<String>,
    subject: Option<String>,
    target: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Noted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

impl Noted {
    /// Who asks.
    pub(crate) fn actor(&self, caller: &Caller) {
        self.known().actor = Some(caller.label());
    }

    /// The same, for keys that are no callers.
    pub(crate) fn by(&self, name: &str) {
        self.known().actor = Some(name.to_owned());
    }

    /// Whom it is about: a `_key`, as it was given.
    pub(crate) fn subject(&self, key: &str) {
        self.known().subject = Some(key.to_owned());
    }

    /// What it is about, where the path does not say.
    pub(crate) fn target(&self, id: &str) {
        self.known().target = Some(id.to_owned());
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer.
pub(crate) async fn watch(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let route = MatchedPath::from_request_parts(&mut parts, &state).await;
    let route = route
        .map(|route| route.as_str().to_owned())
        .unwrap_or_default();
    let Some(action) = action(&parts.method, &route) else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let mut entry = Entry {
        action,
        ..entry_of(&mut parts, &state).await?
    };
    if let Ok(params) = RawPathParams::from_request_parts(&mut parts, &state).await {
        for (name, value) in &params {
            let place = match name {
                "realm" => &mut entry.realm,
                _ => &mut entry.target,
            };
            *place = Some(value.to_owned());
        }
    }
    // What a user does with a token of the own session is known before it is over.
    if let (true, Some(realm)) = (is_ones_own(&route), &entry.realm) {
        let sent = credentials::read(&Method::POST, &parts.headers, &state);
        if let Ok(Some(user)) = state.services.accounts.session_of(realm, &sent).await {
            entry.actor = Some(format!("user:{realm}:{}", user.id));
            entry.subject = Some(user.key);
        }
    }
    let noted = Noted::default();
    parts.extensions.insert(noted.clone());
    let is_admin = route.starts_with(ADMIN);
    let response = next.run(Request::from_parts(parts, body)).await;

    let status = response.status();
    entry.status = Some(status.as_u16());
    entry.success = status.as_u16() < 400;
    {
        let mut known = noted.known();
        entry.actor = known.actor.take().or(entry.actor);
        entry.subject = known.subject.take().or(entry.subject);
        entry.target = known.target.take().or(entry.target);
    }
    let refused = status == StatusCode::UNAUTHORIZED;
    if is_admin && !refused {
        entry.actor = Some("admin".to_owned());
    }
    // Operators look all the time.
    if entry.success && is_admin && entry.action.ends_with(".read") {
        return Ok(response);
    }
    match entry.success && changes_server(&route) {
        // Written before it is answered.
        true => state.audit.record(entry).await,
        false => state.audit.note(entry),
    }
    Ok(response)
}

/// A key that was sent and does not count: tried on whatever route.
pub(crate) fn key_refused(state: &AppState, address: Option<IpAddr>, id: Option<String>) {
    state.audit.note(Entry {
        action: "api_key.refused".to_owned(),
        target: id,
        address,
        status: Some(StatusCode::UNAUTHORIZED.as_u16()),
        ..Entry::default()
    });
}

/// Where from, and within which request.
async fn entry_of(parts: &mut Parts, state: &AppState) -> Result<Entry, ApiError> {
    let client = Client::from_request_parts(parts, state).await?;
    let origin = Origin::from_request_parts(parts, state).await?;
    Ok(Entry {
        address: client.address,
        agent: client.agent,
        request_id: Some(origin.id.to_string()),
        ..Entry::default()
    })
}

/// What a route does, in the words of the log; none for what only looks.
fn action(method: &Method, route: &str) -> Option<String> {
    let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(rest) = route.strip_prefix(ADMIN) {
        // Whoever looks without the key is told of as well; see `watch`.
        let words = words(rest);
        let verb = match *method {
            Method::GET | Method::HEAD => "read",
            Method::PUT => "set",
            Method::DELETE => "delete",
            _ => return Some(format!("admin.{words}")),
        };
        return Some(format!("admin.{words}.{verb}"));
    }
    let rest = route.strip_prefix(AUTH)?;
    let known = match (rest.split('/').next()?, method) {
        ("signout", _) => "sign_out",
        _ if looks => return None,
        ("signin", _) => "sign_in",
        ("signup", _) => "sign_up",
        ("refresh", _) => "user.update",
        ("token", _) => "token.renew",
        ("password", _) if rest.matches('/').count() == 1 => "password.change",
        ("sessions", _) => "session.end",
        ("keys", &Method::POST) => "api_key.create",
        ("keys", _) => "api_key.revoke",
        _ => return Some(format!("auth.{}", words(rest))),
    };
    Some(known.to_owned())
}

/// The words of a route, without its parameters.
fn words(route: &str) -> String {
    let words = route
        .split('/')
        .filter(|word| !word.is_empty() && !word.starts_with('{'));
    words.collect::<Vec<_>>().join(".")
}

/// Whether a route is for users themselves, by the token of a session.
fn is_ones_own(route: &str) -> bool {
    let rest = route.strip_prefix(AUTH).unwrap_or_default();
    let first = rest.split('/').next().unwrap_or_default();
    matches!(
        first,
        "signout"
            | "password"
            | "sessions"
            | "totp"
            | "oauth"
            | "email"
            | "identities"
            | "anonymous"
    )
}

/// Whether what was done there changes what others may do.
fn changes_server(route: &str) -> bool {
    route.starts_with(ADMIN) || route.starts_with("/service/auth/v1/keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_actions() {
        let check = |method: Method, route: &str, expected: Option<&str>| {
            assert_eq!(
                action(&method, route).as_deref(),
                expected,
                "{method} {route}"
            );
        };
        check(
            Method::POST,
            "/service/auth/v1/signin/{realm}",
            Some("sign_in"),
        );
        check(Method::GET, "/service/auth/v1/session/{realm}", None);
        check(
            Method::GET,
            "/service/auth/v1/signout/{realm}",
            Some("sign_out"),
        );
        check(
            Method::POST,
            "/service/auth/v1/totp/{realm}/confirm",
            Some("auth.totp.confirm"),
        );
        check(
            Method::POST,
            "/service/auth/v1/keys",
            Some("api_key.create"),
        );
        check(
            Method::DELETE,
            "/service/auth/v1/keys/{id}",
            Some("api_key.revoke"),
        );
        check(
            Method::PUT,
            "/admin/v1/plugins/{name}",
            Some("admin.plugins.set"),
        );
        check(
            Method::POST,
            "/admin/v1/plugins/{name}/rollback",
            Some("admin.plugins.rollback"),
        );
        check(Method::GET, "/admin/v1/plugins", Some("admin.plugins.read"));
        check(Method::GET, "/service/storage/v1/{collection}", None);
    }
}
