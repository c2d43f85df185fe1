//! `/admin/v1/auth/keys`: the keys that sign access tokens.

use axum::extract::State;
use axum::response::Response;
use bson::{Bson, Document, doc};
use coglex_services::accounts::TokenKey;
use serde::Deserialize;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, Query};
use crate::http::routes::json_value;

/// What a rotation does beyond making a key.
#[derive(Deserialize)]
pub(crate) struct Rotation {
    /// Whether the former keys verify nothing from now on.
    #[serde(default)]
    revoke: bool,
}

/// `GET auth/keys`: the keys that verify, the newest first.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    shown(&state).await
}

/// `POST auth/keys/rotate`: makes a key that signs from now on; answers as the list
/// does. `?revoke=true` ends the former keys, and with them every token out there.
pub(crate) async fn rotate(
    _key: AdminKey,
    State(state): State<AppState>,
    Query(rotation): Query<Rotation>,
) -> Result<Response, ApiError> {
    let kid = state.services.accounts.rotate_keys(rotation.revoke).await?;
    tracing::info!(
        key.id = kid,
        key.former_revoked = rotation.revoke,
        "the key of access tokens was rotated"
    );
    shown(&state).await
}

async fn shown(state: &AppState) -> Result<Response, ApiError> {
    let keys = state.services.accounts.token_keys().await?;
    let views = keys.into_iter().map(|key| Bson::Document(view(key)));
    json_value(&Bson::Array(views.collect()))
}

fn view(key: TokenKey) -> Document {
    let mut view = doc! {
        "kid": key.kid,
        "alg": key.algorithm,
        "signs": key.signs,
        "created": key.created,
    };
    view.extend(key.until.map(|until| ("until".to_owned(), until.into())));
    view
}
