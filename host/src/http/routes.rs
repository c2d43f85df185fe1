//! Handlers, one file for each resource: extract, one service call, answer.

pub(super) mod admin;
pub(super) mod archive;
pub(super) mod auth;
pub(super) mod execution;
pub(super) mod health;
pub(super) mod jobs;
pub(super) mod payment;
pub(super) mod storage;

use axum::response::{IntoResponse, Response};
use bson::Bson;
use bytes::Bytes;
use coglex_services::json;
use http::header;

use super::error::ApiError;

/// 200 with JSON text.
fn json_text(text: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// 200 with a value in Extended JSON.
fn json_value(value: &Bson) -> Result<Response, ApiError> {
    let mut text = Vec::with_capacity(256);
    json::write_value(value, &mut text)?;
    Ok(json_text(text))
}

/// An `_id` as clients name it in paths: an ObjectId's digits, a string as it
/// is, anything else in Extended JSON.
fn id_value(id: Bson) -> Bson {
    match id {
        Bson::ObjectId(id) => Bson::String(id.to_hex()),
        other => other,
    }
}
