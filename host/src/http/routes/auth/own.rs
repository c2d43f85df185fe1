//! What users do by themselves: renew their tokens, look at their sessions and end
//! them, change their password. Not behind the API key, which browsers should not
//! hold: all that it takes is the user's own token, and nobody else is touched.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bson::{Bson, Document, doc};
use coglex_services::accounts::{Client, OwnSession, PasswordChange};
use coglex_services::caller::Credentials;
use http::StatusCode;

use super::{private, signed_in, text};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};
use crate::http::routes::json_value;

/// `POST token/<c>`: trades a refresh token for an access token and the next
/// refresh token; answers as a sign-in does.
pub(crate) async fn renew(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let token = text(&mut body, "_refresh_token")?;
    let renewed = state.services.accounts.renew(&realm, &token, &client);
    match renewed.await? {
        Some(renewed) => signed_in(&state, &realm, renewed),
        None => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "refresh_token_invalid",
            "The refresh token is not good, or its session is over; sign in again.",
        )),
    }
}

/// `GET sessions/<c>`: the open sessions of who is signed in.
pub(crate) async fn list(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Response, ApiError> {
    let sessions = state.services.accounts.sessions(&realm, &credentials);
    let sessions = sessions
        .await?
        .ok_or_else(|| ApiError::session_required_of(&realm, &credentials))?;
    let view = sessions.into_iter().map(|one| Bson::Document(view(one)));
    json_value(&Bson::Array(view.collect())).map(private)
}

/// `DELETE sessions/<c>/<id>`: ends one of them.
pub(crate) async fn end(
    State(state): State<AppState>,
    Path((realm, id)): Path<(String, String)>,
    credentials: Credentials,
) -> Result<Json<bool>, ApiError> {
    let accounts = &state.services.accounts;
    match accounts.end_session(&realm, &credentials, &id).await? {
        Some(true) => Ok(Json(true)),
        Some(false) => Err(ApiError::not_found("You have no session of this id.")),
        None => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

/// `DELETE sessions/<c>`: ends all but the one by which it is asked; answers how
/// many.
pub(crate) async fn end_others(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
) -> Result<Json<usize>, ApiError> {
    let ended = state
        .services
        .accounts
        .end_other_sessions(&realm, &credentials);
    match ended.await? {
        Some(ended) => Ok(Json(ended)),
        None => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

/// `POST password/<c>`: a new password for who is signed in and knows the old one.
pub(crate) async fn change_password(
    State(state): State<AppState>,
    Path(realm): Path<String>,
    credentials: Credentials,
    client: Client,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let old = text(&mut body, "_password")?;
    let new = text(&mut body, "_new_password")?;
    let accounts = &state.services.accounts;
    let changed = accounts.change_password(&realm, &credentials, &old, &new, &client);
    match changed.await? {
        PasswordChange::Changed => Ok(Json(true).into_response()),
        PasswordChange::Wrong => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "wrong_password",
            "The old password is not right.",
        )),
        PasswordChange::SignedOut => Err(ApiError::session_required_of(&realm, &credentials)),
    }
}

fn view(session: OwnSession) -> Document {
    let mut view = doc! {
        "id": session.id,
        "current": session.current,
        "created": session.created,
        "used": session.used,
        "expires": session.expires,
    };
    view.extend(
        session
            .agent
            .map(|agent| ("agent".to_owned(), agent.into())),
    );
    let address = session.address;
    view.extend(address.map(|address| ("address".to_owned(), address.into())));
    view
}
