//! `/.well-known/jwks.json`: what others verify access tokens with.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::json;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::routes::json_text;

/// Keys verify for longer than this after a rotation, and a new key signs at once:
/// who meets one that is not known asks again.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// `GET /.well-known/jwks.json` (RFC 7517). Open to everybody; empty where tokens
/// are signed with a secret key.
pub(crate) async fn public(State(state): State<AppState>) -> Result<Response, ApiError> {
    let keys = state.services.accounts.public_keys().await?;
    let text = serde_json::to_vec(&json!({ "keys": keys })).map_err(ApiError::internal)?;
    let mut response = json_text(text).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
    Ok(response)
}
