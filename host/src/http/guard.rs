//! Who asks: what a request has to show is turned into a [`Caller`] here, and nowhere
//! else. The server's own API key, a scoped key, or, where access rules let users in,
//! the session of one. What the caller may do then is for the services to decide.
//!
//! Having a [`Caller`] among a handler's arguments *is* the guard **K**: it is read
//! from headers, so that a request without one is refused with its body unread. Routes
//! that only the server's own key opens take an [`super::extract::ApiKey`].

use axum::extract::{FromRequestParts, RawPathParams};
use coglex_services::Caller;
use coglex_services::accounts::{Client, User, network};
use coglex_services::caller::{Credentials, KeyCaller, UserCaller};
use coglex_services::keys::Refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

use super::audit;
use super::credentials::{self, X_API_KEY, has_api_key};
use super::error::ApiError;
use super::limits::{Bucket, Limits};
use crate::app::AppState;

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        // The holder of the server's own key is let through without a read.
        if has_api_key(&parts.headers, &state.api_key) {
            return Ok(Caller::ApiKey);
        }
        let client = Client::from_request_parts(parts, state).await?;
        let sent = credentials::read(&parts.method, &parts.headers, state);
        match parts.headers.get(X_API_KEY) {
            Some(given) => {
                let mut key = scoped_key(state, given, &client).await?;
                Limits::of(&parts.extensions).take(state, Bucket::Key, &key.id)?;
                key.users = users(state, &key, &sent).await?;
                Ok(Caller::Key(Arc::new(key)))
            }
            None => {
                let params = RawPathParams::from_request_parts(parts, state).await;
                let params = params.map_err(|_| ApiError::api_key_required())?;
                let mut params = params.iter();
                let collection = params.find(|(name, _)| *name == "collection");
                let (_, collection) = collection.ok_or_else(ApiError::api_key_required)?;
                let user = signed_in(state, collection, &sent).await?;
                limit_user(state, &parts.extensions, &user.user)?;
                Ok(Caller::User(Arc::new(user)))
            }
        }
    }
}

/// The scoped key that a request carries, if one does. A key that does not count is
/// refused, whatever is wrong with it, in the same words as none.
pub(crate) async fn key_of(
    state: &AppState,
    headers: &HeaderMap,
    client: &Client,
) -> Result<KeyCaller, ApiError> {
    match headers.get(X_API_KEY) {
        Some(given) => scoped_key(state, given, client).await,
        None => Err(ApiError::api_key_required()),
    }
}

async fn scoped_key(
    state: &AppState,
    given: &HeaderValue,
    client: &Client,
) -> Result<KeyCaller, ApiError> {
    let key = given.to_str().map_err(|_| ApiError::api_key_required())?;
    match state.keys.check(key, client.address).await? {
        Ok(key) => Ok(key),
        Err(refusal) => {
            let id = match refusal {
                Refusal::Expired(id) | Refusal::Address(id) => Some(id),
                Refusal::Malformed | Refusal::Unknown => None,
            };
            audit::key_refused(state, client.address, id);
            Err(ApiError::api_key_required())
        }
    }
}

/// The users for whom a key is used: those that conditions of its grants speak of.
async fn users(
    state: &AppState,
    key: &KeyCaller,
    sent: &Credentials,
) -> Result<Vec<(String, bson::Bson)>, ApiError> {
    let mut users = Vec::new();
    for realm in key.grants.realms() {
        let found = state.services.accounts.session_of(realm, sent).await?;
        users.extend(found.map(|user| (realm.to_owned(), user.id)));
    }
    Ok(users)
}

/// The signed-in user whom the access rules of a collection know. Where there are none
/// the API key is what is missing, as if there were no such thing as rules.
async fn signed_in(
    state: &AppState,
    collection: &str,
    sent: &Credentials,
) -> Result<UserCaller, ApiError> {
    let nobody = sent.bearer.is_none() && sent.cookies.is_empty() && !sent.cross_site;
    if nobody {
        return Err(ApiError::api_key_required());
    }
    let rules = state.access_rules.current().await?;
    let mut first = None;
    for realm in rules.realms(collection) {
        first.get_or_insert(realm);
        if let Some(user) = state.services.accounts.session_of(realm, sent).await? {
            let rules = Arc::clone(&rules);
            return Ok(UserCaller { user, rules });
        }
    }
    Err(match first {
        Some(realm) => ApiError::session_required_of(realm, sent),
        None => ApiError::api_key_required(),
    })
}

/// Takes a request out of the user's bucket, where there are such.
pub(crate) fn limit_user(
    state: &AppState,
    extensions: &http::Extensions,
    user: &User,
) -> Result<(), ApiError> {
    let limits = Limits::of(extensions);
    limits.take(state, Bucket::User, (&user.realm, user.id.to_string()))
}

/// Takes a request out of its address's bucket, where there are such.
pub(crate) fn limit_address(
    state: &AppState,
    limits: &Limits,
    address: std::net::IpAddr,
) -> Result<(), ApiError> {
    limits.take(state, Bucket::Address, network(address))
}
