//! `/admin/v1/collections/<c>/rules`: what signed-in users may do in a collection
//! without an API key.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bson::{Bson, Document};

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, JsonBody, Path};
use crate::http::routes::json_value;

/// `GET /admin/v1/rules`: all of them, by collection.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    json_value(&Bson::Document(state.access_rules.list().await?))
}

/// `GET rules`: as they were set.
pub(crate) async fn show(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
) -> Result<Response, ApiError> {
    match state.access_rules.of(&collection).await? {
        Some(rules) => json_value(&Bson::Document(rules)),
        None => Err(no_rules()),
    }
}

/// `PUT rules`: sets them, by realm; answers with what is in force from now on.
pub(crate) async fn set(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(rules): JsonBody,
) -> Result<Response, ApiError> {
    state.access_rules.set(&collection, &rules).await?;
    let rules: Option<Document> = state.access_rules.of(&collection).await?;
    json_value(&rules.map_or(Bson::Null, Bson::Document))
}

/// `DELETE rules`: closes the collection to users; answers 1.
pub(crate) async fn delete(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
) -> Result<Json<u8>, ApiError> {
    match state.access_rules.remove(&collection).await? {
        true => Ok(Json(1)),
        false => Err(no_rules()),
    }
}

fn no_rules() -> ApiError {
    ApiError::not_found("The collection has no access rules.")
}
