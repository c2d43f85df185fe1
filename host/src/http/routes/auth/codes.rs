//! `code/<c>`: signing in with a code that is sent by mail.

use axum::extract::State;
use axum::response::Response;
use bson::{Bson, doc};
use coglex_services::Caller;
use coglex_services::accounts::Client;
use coglex_services::grants::AuthVerb;

use super::{document, private, signed_in, text};
use crate::app::AppState;
use crate::http::audit::Noted;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};
use crate::http::routes::json_value;

/// `POST code/<c>`: has a code sent; answers with what it goes with, whether or not
/// there is such a user.
pub(crate) async fn request(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let accounts = &state.services.accounts;
    accounts.authorize(&caller, &realm, AuthVerb::Verify)?;
    let key = text(&mut body, "_key")?;
    noted.actor(&caller);
    noted.subject(&key);
    let sent = accounts.request_code(&realm, &key, &client).await?;
    let expires = sent.expires.timestamp_millis().div_euclid(1000);
    let view = doc! { "challenge": sent.challenge, "expires": expires };
    json_value(&Bson::Document(view)).map(private)
}

/// `POST code/<c>/confirm`: opens a session; answers as a sign-in does.
pub(crate) async fn confirm(
    caller: Caller,
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    noted: Noted,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let accounts = &state.services.accounts;
    accounts.authorize(&caller, &realm, AuthVerb::Verify)?;
    let key = text(&mut body, "_key")?;
    noted.actor(&caller);
    noted.subject(&key);
    let (challenge, code) = (text(&mut body, "challenge")?, text(&mut body, "code")?);
    let condition = document(&mut body, "query")?.unwrap_or_default();
    let opened = accounts.sign_in_by_code(&realm, &key, &challenge, &code, condition, &client);
    let opened = opened.await?;
    signed_in(&state, &realm, opened)
}
