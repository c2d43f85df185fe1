//! `email/<c>`: another address for who is signed in.

use axum::Json;
use axum::extract::State;
use coglex_services::accounts::Client;
use coglex_services::caller::Credentials;

use super::text;
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};

/// `POST email/<c>`: has a link sent to the new address.
pub(crate) async fn request(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let address = text(&mut body, "email")?;
    let password = match body.contains_key("_password") {
        true => Some(text(&mut body, "_password")?),
        false => None,
    };
    let accounts = &state.services.accounts;
    let asked =
        accounts.request_email(&realm, &credentials, &address, password.as_deref(), &client);
    match asked.await? {
        Some(()) => Ok(Json(true)),
        None => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

/// `POST email/<c>/confirm`: takes the new address. The token is the proof.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let token = text(&mut body, "token")?;
    state
        .services
        .accounts
        .confirm_email(&realm, &token)
        .await?;
    Ok(Json(true))
}
