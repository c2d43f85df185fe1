//! `/service/execution/v1`: functions that plugins brought.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use coglex_runtime::CallContext;
use coglex_services::caller::Credentials;
use coglex_services::{Caller, Error};
use http::header;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::app::AppState;
use crate::functions;
use crate::http::error::ApiError;
use crate::http::extract::{JsonText, Path, RequestId};

/// The body of a call. Both parts go to the guest as the client wrote them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Call<'a> {
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    kwargs: Option<&'a RawValue>,
}

/// `POST execute/{function}/`: runs it and answers with its JSON value.
pub(crate) async fn execute(
    caller: Caller,
    State(state): State<AppState>,
    Path(function): Path<String>,
    mut credentials: Credentials,
    request_id: RequestId,
    JsonText(body): JsonText,
) -> Result<Response, ApiError> {
    covered(&caller, &function)?;
    credentials.api_key = true;
    let not_an_object = || ApiError::bad_request("invalid_json", "The body is not a JSON object.");
    // serde would take a list for an object, its items in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(not_an_object());
    }
    let call: Call = serde_json::from_slice(&body).map_err(|_| not_an_object())?;
    let args = part(call.args, "args", '[', "an array")?;
    let kwargs = part(call.kwargs, "kwargs", '{', "an object")?;
    let context = CallContext {
        request_id: request_id.0,
        credentials,
        users: Vec::new(),
        ..CallContext::default()
    };
    let answer = functions::run(&state, &function, args, kwargs, context).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// Whether the caller may have the function run; whether there is one does not matter.
pub(super) fn covered(caller: &Caller, function: &str) -> Result<(), ApiError> {
    match caller.allows_function(function) {
        true => Ok(()),
        false => Err(ApiError::from(Error::Forbidden(
            "this API key does not cover this function".into(),
        ))),
    }
}

/// The text of one part, or an empty one of its kind.
pub(super) fn part(
    raw: Option<&RawValue>,
    name: &str,
    open: char,
    kind: &str,
) -> Result<String, ApiError> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(if open == '[' { "[]" } else { "{}" }.to_owned()),
        Some(text) if text.starts_with(open) => Ok(text.to_owned()),
        Some(_) => Err(ApiError::invalid(format!("`{name}` must be {kind}."))),
    }
}
