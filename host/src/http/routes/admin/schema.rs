//! `/admin/v1/collections/<c>/schema`: what the documents of a collection must
//! look like.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bson::{Bson, Document, doc};
use coglex_services::Caller;
use coglex_services::storage::{ValidationLevel, Validator};

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, JsonBody, Path};
use crate::http::routes::json_value;

/// The admin key may do what the API key may, and this.
const CALLER: Caller = Caller::ApiKey;

/// `GET schema`: the schema and its level, as they were set.
pub(crate) async fn show(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
) -> Result<Response, ApiError> {
    let documents = &state.services.documents;
    match documents.schema(&CALLER, &collection).await? {
        Some(validator) => json_value(&Bson::Document(view(validator))),
        None => Err(no_schema()),
    }
}

/// `PUT schema`: sets it; answers with what is in force from now on.
pub(crate) async fn set(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let documents = &state.services.documents;
    let validator = validator(body)?;
    documents
        .set_schema(&CALLER, &collection, validator.clone())
        .await?;
    json_value(&Bson::Document(view(validator)))
}

/// `DELETE schema`: answers 1.
pub(crate) async fn delete(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(collection): Path<String>,
) -> Result<Json<u8>, ApiError> {
    let documents = &state.services.documents;
    match documents.remove_schema(&CALLER, &collection).await? {
        true => Ok(Json(1)),
        false => Err(no_schema()),
    }
}

fn no_schema() -> ApiError {
    ApiError::not_found("The collection has no schema.")
}

fn view(validator: Validator) -> Document {
    let level = match validator.level {
        ValidationLevel::Strict => "strict",
        ValidationLevel::Moderate => "moderate",
    };
    doc! { "schema": validator.schema, "level": level }
}

fn validator(body: Document) -> Result<Validator, ApiError> {
    let mut schema = None;
    let mut level = ValidationLevel::default();
    for (name, value) in body {
        match (name.as_str(), value) {
            ("schema", Bson::Document(document)) => schema = Some(document),
            ("schema", _) => return Err(ApiError::invalid("`schema` must be an object.")),
            ("level", Bson::String(name)) if name == "strict" => level = ValidationLevel::Strict,
            ("level", Bson::String(name)) if name == "moderate" => {
                level = ValidationLevel::Moderate;
            }
            ("level", _) => {
                return Err(ApiError::invalid("`level` must be `strict` or `moderate`."));
            }
            _ => {
                return Err(ApiError::invalid(
                    "The body has `schema` and `level`, no other member.",
                ));
            }
        }
    }
    let schema = schema.ok_or_else(|| ApiError::invalid("`schema` is missing."))?;
    Ok(Validator { schema, level })
}
