//! `<c>/indexes`: the indexes of a collection.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::{Json, response::IntoResponse as _};
use bson::{Bson, Document, doc};
use coglex_services::Caller;
use coglex_services::storage::IndexSpec;
use serde::Deserialize;

use super::json_value;
use super::params::object;
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path, Query};

/// Which index to drop.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DropParams {
    name: Option<String>,
}

/// `GET <c>/indexes`: always a list.
pub(crate) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
) -> Result<Response, ApiError> {
    let documents = &state.services.documents;
    let indexes = documents.indexes(&caller, &collection).await?;
    let views = indexes.into_iter().map(view).map(Bson::Document);
    json_value(&Bson::Array(views.collect()))
}

/// `POST <c>/indexes`: makes an index unless it is there; answers its name.
pub(crate) async fn create(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<String>, ApiError> {
    let documents = &state.services.documents;
    let name = documents
        .create_index(&caller, &collection, spec(body)?)
        .await?;
    Ok(Json(name))
}

/// `DELETE <c>/indexes?name=`: answers 1.
pub(crate) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    Query(params): Query<DropParams>,
) -> Result<Response, ApiError> {
    let name = params
        .name
        .ok_or_else(|| ApiError::invalid("`name` is required: that of the index to drop."))?;
    let documents = &state.services.documents;
    match documents.drop_index(&caller, &collection, &name).await? {
        true => Ok(Json(1).into_response()),
        false => Err(ApiError::not_found("There is no such index.")),
    }
}

/// An index as clients see it, in the words in which they asked for it.
fn view(index: IndexSpec) -> Document {
    let mut view = doc! {
        "name": index.name(),
        "keys": index.keys,
        "unique": index.unique,
        "sparse": index.sparse,
    };
    if let Some(time) = index.expire_after {
        view.insert(
            "expireAfterSeconds",
            i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        );
    }
    view
}

/// The index that a body asks for. An option that is not known is refused: an
/// index without it would be another one.
fn spec(body: Document) -> Result<IndexSpec, ApiError> {
    let mut keys = None;
    let mut index = IndexSpec {
        name: None,
        keys: Document::new(),
        unique: false,
        sparse: false,
        expire_after: None,
    };
    for (option, value) in body {
        match (option.as_str(), value) {
            ("keys", value) => keys = Some(object("keys", value)?),
            ("name", Bson::String(name)) => index.name = Some(name),
            ("unique", Bson::Boolean(unique)) => index.unique = unique,
            ("sparse", Bson::Boolean(sparse)) => index.sparse = sparse,
            ("expireAfterSeconds", value) => index.expire_after = Some(seconds(&value)?),
            ("name", _) => return Err(ApiError::invalid("`name` must be a string.")),
            ("unique" | "sparse", _) => {
                return Err(ApiError::invalid(format!(
                    "`{option}` must be true or false."
                )));
            }
            _ => {
                return Err(ApiError::invalid(
                    "An index has `keys`, `name`, `unique`, `sparse` and `expireAfterSeconds`, no other member.",
                ));
            }
        }
    }
    index.keys = keys.ok_or_else(|| ApiError::invalid("`keys` is missing."))?;
    Ok(index)
}

fn seconds(value: &Bson) -> Result<Duration, ApiError> {
    let seconds = match value {
        Bson::Int32(seconds) => u64::try_from(*seconds).ok(),
        Bson::Int64(seconds) => u64::try_from(*seconds).ok(),
        _ => None,
    };
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| ApiError::invalid("`expireAfterSeconds` must be a whole number from 0."))
}
