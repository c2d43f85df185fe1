//! `reset/<c>`: a new password, by a link to the user's address.

use axum::Json;
use axum::extract::State;
use coglex_services::Caller;
use coglex_services::accounts::Client;
use coglex_services::grants::AuthVerb;

use super::text;
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};

/// `POST reset/<c>`: has a link sent; `true` whether or not there is such a user.
pub(crate) async fn request(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let accounts = &state.services.accounts;
    accounts.authorize(&caller, &realm, AuthVerb::Verify)?;
    let key = text(&mut body, "_key")?;
    noted.actor(&caller);
    noted.subject(&key);
    accounts.request_reset(&realm, &key, &client).await?;
    Ok(Json(true))
}

/// `POST reset/<c>/confirm`: sets the password and ends all sessions.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let token = text(&mut body, "token")?;
    let password = text(&mut body, "_password")?;
    let accounts = &state.services.accounts;
    accounts.confirm_reset(&realm, &token, &password).await?;
    Ok(Json(true))
}
