//! `anonymous/<c>`: users without key and password, who get them later.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use coglex_services::Caller;
use coglex_services::accounts::Client;
use coglex_services::caller::Credentials;

use super::{document, signed_in, text};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};

/// `POST anonymous/<c>`: makes a user and opens a session; answers as a sign-in does.
pub(crate) async fn sign_in(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let document = document(&mut body, "document")?.unwrap_or_default();
    let accounts = &state.services.accounts;
    accounts.authorize_sign_up(&caller, &realm, &document)?;
    let opened = accounts
        .sign_in_anonymously(&realm, document, &client)
        .await?;
    noted.actor(&caller);
    noted.subject(&opened.user.key);
    signed_in(&state, &realm, opened)
}

/// `POST anonymous/<c>/promote`: key and password for who is signed in. Fields besides
/// are set for who could sign somebody up with them: a token alone must not give its
/// user `roles`, or what access rules go by.
pub(crate) async fn promote(
    caller: Result<Caller, ApiError>,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let (key, password) = (text(&mut body, "_key")?, text(&mut body, "_password")?);
    noted.subject(&key);
    let document = document(&mut body, "document")?.unwrap_or_default();
    let accounts = &state.services.accounts;
    if !document.is_empty() {
        accounts.authorize_sign_up(&caller?, &realm, &document)?;
    }
    let promoted = accounts.promote(&realm, &credentials, &key, &password, document);
    match promoted.await? {
        Some(()) => Ok(Json(true)),
        None => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}
