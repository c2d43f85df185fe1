//! `/service/auth/v1`: accounts and sessions. The rules are [`Accounts`]'; what
//! is here is how bodies, cookies and bearer tokens become its arguments.
//!
//! [`Accounts`]: coglex_services::Accounts

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) mod anonymous;
pub(crate) mod api_keys;
pub(crate) mod codes;
pub(crate) mod email;
pub(crate) mod keys;
pub(crate) mod oauth;
pub(crate) mod own;
pub(crate) mod page;
pub(crate) mod reset;
pub(crate) mod totp;
pub(crate) mod verification;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bson::{Bson, Document};
use coglex_services::accounts::{Client, SignedIn};
use coglex_services::caller::Credentials;
use coglex_services::grants::AuthVerb;
use coglex_services::{Caller, Error};
use http::{HeaderMap, HeaderValue, Method, header};

use super::{id_value, json_value};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::credentials::{self, clear_cookie, set_cookie};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};

/// `POST signup/<c>`: makes a user; answers with the id.
pub(crate) async fn sign_up(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let (key, password) = (text(&mut body, "_key")?, text(&mut body, "_password")?);
    noted.actor(&caller);
    noted.subject(&key);
    let document = document(&mut body, "document")?.unwrap_or_default();
    let accounts = &state.services.accounts;
    accounts.authorize_sign_up(&caller, &realm, &document)?;
    let id = accounts.sign_up(&realm, &key, &password, document).await?;
    json_value(&id_value(id))
}

/// `POST signin/<c>`: opens a session; answers with the user and the token, and
/// sets the cookie.
pub(crate) async fn sign_in(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let (key, password) = (text(&mut body, "_key")?, text(&mut body, "_password")?);
    noted.actor(&caller);
    noted.subject(&key);
    let condition = document(&mut body, "query")?.unwrap_or_default();
    let accounts = &state.services.accounts;
    accounts.authorize(&caller, &realm, AuthVerb::Verify)?;
    let opened = state
        .services
        .accounts
        .sign_in_from(&realm, &key, &password, condition, &client)
        .await?;
    signed_in(&state, &realm, opened)
}

/// The user with the tokens, and the cookie.
fn signed_in(state: &AppState, realm: &str, signed_in: SignedIn) -> Result<Response, ApiError> {
    let mut view = signed_in.user.document;
    view.insert("_token", signed_in.token.as_str());
    view.insert("_expires", signed_in.expires);
    view.insert("_refresh_token", signed_in.refresh_token.as_str());
    let response = json_value(&Bson::Document(view))?;
    let https = state.config.server.is_https();
    let cookie = set_cookie(
        realm,
        &signed_in.cookie,
        seconds_until(signed_in.session_expires),
        https,
    );
    Ok(with_cookie(response, cookie))
}

/// `GET session/<c>`: the user who is signed in, or `null`.
pub(crate) async fn session(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Response, ApiError> {
    let accounts = &state.services.accounts;
    accounts.authorize(&caller, &realm, AuthVerb::Verify)?;
    let user = state
        .services
        .accounts
        .session_of(&realm, &credentials)
        .await?;
    let response = json_value(&user.map_or(Bson::Null, |user| Bson::Document(user.document)))?;
    Ok(private(response))
}

/// `GET` or `POST signout/<c>`: revokes the session, if there is one. Open to
/// everybody: all that it takes is the token that it ends.
pub(crate) async fn sign_out(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // This GET changes something, so that a link elsewhere must not do it either.
    let credentials = credentials::read(&Method::POST, &headers, &state);
    if credentials.cross_site && credentials.bearer.is_none() {
        return Ok(private(Json(true).into_response()));
    }
    let mut failure = None;
    for token in credentials.tokens(&realm) {
        match state.services.accounts.sign_out(&realm, token).await {
            // A realm that cannot be has no session to end either.
            Ok(()) | Err(Error::Invalid(_) | Error::Forbidden(_)) => {}
            // The other tokens are ended all the same.
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        return Err(error.into());
    }
    let cookie = clear_cookie(&realm, state.config.server.is_https());
    Ok(with_cookie(Json(true).into_response(), cookie))
}

/// `PATCH refresh/<c>`: sets fields of a user; answers how many documents
/// changed. The caller's own session outlives a new password.
pub(crate) async fn refresh(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Json<u64>, ApiError> {
    let accounts = &state.services.accounts;
    noted.actor(&caller);
    accounts.authorize(&caller, &realm, AuthVerb::Manage)?;
    let key = text(&mut body, "_key")?;
    noted.subject(&key);
    let document = document(&mut body, "document")?
        .ok_or_else(|| ApiError::invalid("`document` is missing."))?;
    let keep = credentials.tokens(&realm).next();
    Ok(Json(
        state
            .services
            .accounts
            .refresh(&realm, &key, document, keep)
            .await?,
    ))
}

/// A member that must be a string: an object here would be an operator there.
fn text(body: &mut Document, name: &str) -> Result<String, ApiError> {
    match body.remove(name) {
        Some(Bson::String(text)) => Ok(text),
        Some(_) => Err(ApiError::invalid(format!("`{name}` must be a string."))),
        None => Err(ApiError::invalid(format!("`{name}` is missing."))),
    }
}

fn document(body: &mut Document, name: &str) -> Result<Option<Document>, ApiError> {
    match body.remove(name) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::Document(document)) => Ok(Some(document)),
        Some(_) => Err(ApiError::invalid(format!(
            "`{name}` must be a JSON object."
        ))),
    }
}

fn seconds_until(expires: i64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    u64::try_from(expires).unwrap_or(0).saturating_sub(now)
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    response
        .headers_mut()
        .extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    private(response)
}

/// Tokens and user documents are for this client alone.
fn private(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
