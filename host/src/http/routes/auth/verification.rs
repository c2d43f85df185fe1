//! `verification/<c>`: whether an address is the user's.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bson::{Bson, doc};
use coglex_services::Caller;
use coglex_services::accounts::Client;
use coglex_services::caller::Credentials;
use coglex_services::grants::AuthVerb;

use super::{private, text};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};
use crate::http::routes::json_value;

/// `POST verification/<c>`: has a link sent; `true` whether or not there is such a user.
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
    accounts.request_verification(&realm, &key, &client).await?;
    Ok(Json(true))
}

/// `POST verification/<c>/confirm`: uses a link up. The token is the proof.
pub(crate) async fn confirm(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Json<bool>, ApiError> {
    let token = text(&mut body, "token")?;
    let accounts = &state.services.accounts;
    accounts.confirm_verification(&realm, &token).await?;
    Ok(Json(true))
}

/// `GET verification/<c>`: the address of who is signed in.
pub(crate) async fn show(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Response, ApiError> {
    let state = state
        .services
        .accounts
        .address(&realm, &credentials)
        .await?;
    let state = state.ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let address = state.address.map_or(Bson::Null, Bson::String);
    let view = doc! { "email": address, "verified": state.verified };
    json_value(&Bson::Document(view)).map(private)
}
