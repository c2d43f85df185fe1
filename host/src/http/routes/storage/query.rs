//! Questions whose answers are no stored documents: pipelines and different
//! values.

use axum::extract::State;
use axum::response::Response;
use bson::{Bson, Document};
use coglex_services::{Caller, json};
use serde::Deserialize;

use super::json_text;
use super::page::{Page, too_large};
use super::params::{FindParams, object};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path, Query};

/// Parameters of [`distinct`] beside those of reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DistinctParams {
    field: Option<String>,
}

/// `POST <c>/aggregate`: what a pipeline makes, always a list.
pub(crate) async fn aggregate(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let storage = &state.config.storage;
    // One more than is shown tells whether there are more.
    let made = state
        .services
        .documents
        .aggregate(
            &caller,
            &collection,
            pipeline(body)?,
            Some(storage.page_limit + 1),
            Some(state.config.server.request_timeout),
        )
        .await?;
    let page = Page::read(made, storage.page_limit, storage.result_limit).await?;
    if page.more {
        return Err(ApiError::bad_request(
            "too_many_matches",
            format!(
                "The pipeline makes more than {} documents; add a `$limit` stage to it.",
                storage.page_limit
            ),
        ));
    }
    Ok(json_text(page.into_list()))
}

/// `GET <c>/distinct?field=`: the different values of a field.
pub(crate) async fn distinct(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    Query(params): Query<DistinctParams>,
    Query(find): Query<FindParams>,
) -> Result<Response, ApiError> {
    let storage = &state.config.storage;
    let filter = find.filter(storage.depth_limit)?;
    let field = params
        .field
        .ok_or_else(|| ApiError::invalid("`field` is required: a name or a dotted path."))?;
    let values = state
        .services
        .documents
        .distinct(&caller, &collection, &field, filter)
        .await?;
    let mut text = Vec::with_capacity(1024);
    text.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        json::write_value(value, &mut text)?;
        if text.len() > storage.result_limit {
            return Err(too_large(storage.result_limit));
        }
    }
    text.push(b']');
    Ok(json_text(text))
}

/// The stages that a body brings.
fn pipeline(mut body: Document) -> Result<Vec<Document>, ApiError> {
    match body.remove("pipeline") {
        Some(Bson::Array(stages)) => stages
            .into_iter()
            .map(|stage| object("pipeline", stage))
            .collect(),
        Some(_) => Err(ApiError::invalid("`pipeline` must be a list of stages.")),
        None => Err(ApiError::invalid("`pipeline` is missing.")),
    }
}
