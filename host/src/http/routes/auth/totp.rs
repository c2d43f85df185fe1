//! The second factor: setting it up, and the second step of a sign-in. Not behind the
//! API key: a user does this with a token of the own session, and who signs in with
//! the challenge that the first step has given.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bson::{Bson, Document, doc};
use coglex_services::accounts::Client;
use coglex_services::caller::Credentials;

use super::{private, signed_in, text};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, JsonBody, Path};
use crate::http::routes::json_value;
use crate::http::routes::storage::ids;

/// `GET totp/<c>`: whether the user who is signed in has a second factor.
pub(crate) async fn show(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Response, ApiError> {
    let found = state.services.accounts.totp(&realm, &credentials).await?;
    let totp = found.ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let mut view = doc! { "enabled": totp.since.is_some() };
    if let Some(since) = totp.since {
        let codes = i64::try_from(totp.recovery_codes).unwrap_or(i64::MAX);
        view.extend(doc! { "since": since, "recovery_codes": codes });
    }
    json_value(&Bson::Document(view)).map(private)
}

/// `POST totp/<c>`: begins to set one up; answers with the secret, once.
pub(crate) async fn begin(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let password = optional_text(&mut body, "_password")?;
    let accounts = &state.services.accounts;
    let begun = accounts.begin_totp(&realm, &credentials, password.as_deref(), &client);
    let begun = begun
        .await?
        .ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let view = doc! { "secret": begun.secret, "uri": begun.uri, "expires": begun.expires };
    json_value(&Bson::Document(view)).map(private)
}

/// `POST totp/<c>/confirm`: takes it into use; answers with the recovery codes, once.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let code = text(&mut body, "_code")?;
    let accounts = &state.services.accounts;
    let confirmed = accounts.confirm_totp(&realm, &credentials, &code, &client);
    recovery_codes(&realm, &credentials, confirmed.await?)
}

/// `POST totp/<c>/recovery`: new recovery codes; the old ones are void.
pub(crate) async fn renew_codes(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let password = optional_text(&mut body, "_password")?;
    let code = text(&mut body, "_code")?;
    let accounts = &state.services.accounts;
    let password = password.as_deref();
    let renewed = accounts.renew_recovery_codes(&realm, &credentials, password, &code, &client);
    recovery_codes(&realm, &credentials, renewed.await?)
}

/// `POST totp/<c>/disable`: takes it out of use.
pub(crate) async fn disable(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let password = optional_text(&mut body, "_password")?;
    let code = text(&mut body, "_code")?;
    let accounts = &state.services.accounts;
    let password = password.as_deref();
    let disabled = accounts.disable_totp(&realm, &credentials, password, &code, &client);
    match disabled.await? {
        true => Ok(Json(true).into_response()),
        false => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

/// `POST totp/<c>/signin`: the second step of a sign-in; answers as the first does for
/// users without a second factor.
pub(crate) async fn sign_in(
    noted: Noted,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let challenge = text(&mut body, "_challenge")?;
    let code = text(&mut body, "_code")?;
    let accounts = &state.services.accounts;
    let opened = accounts.answer_challenge(&realm, &challenge, &code, &client);
    let opened = opened.await?;
    noted.subject(&opened.user.key);
    signed_in(&state, &realm, opened)
}

/// `DELETE /admin/v1/auth/totp/<c>/<id>`: takes a user's second factor out of use, who
/// has lost it, and ends the user's sessions.
pub(crate) async fn reset(
    _key: AdminKey,
    State(state): State<AppState>,
    Path((realm, id)): Path<(String, String)>,
) -> Result<Json<bool>, ApiError> {
    let accounts = &state.services.accounts;
    for id in ids(&id) {
        if accounts.reset_totp(&realm, id).await? {
            return Ok(Json(true));
        }
    }
    Err(ApiError::not_found(
        "No user of this collection has this id and a second factor.",
    ))
}

fn recovery_codes(
    realm: &str,
    credentials: &Credentials,
    codes: Option<Vec<String>>,
) -> Result<Response, ApiError> {
    let codes = codes.ok_or_else(|| ApiError::session_required_of(realm, credentials))?;
    json_value(&Bson::Document(doc! { "recovery_codes": codes })).map(private)
}

/// A member that is a string where it is there.
pub(super) fn optional_text(body: &mut Document, name: &str) -> Result<Option<String>, ApiError> {
    match body.get(name) {
        None | Some(Bson::Null) => Ok(None),
        Some(_) => text(body, name).map(Some),
    }
}
