//! Runs a function by its name, and gives a failed call of any plugin its
//! status. Stands between HTTP and the runtime, as `gateway` does.

use coglex_runtime::{CallContext, CallError};
use http::StatusCode;
use serde::de::IgnoredAny;

use crate::app::AppState;
use crate::http::error::ApiError;

/// Checks that there is a function of this name and that it takes these arguments,
/// without running it; hands them back.
pub(crate) async fn check(
    state: &AppState,
    function: &str,
    args: String,
    kwargs: String,
) -> Result<(String, String), ApiError> {
    let plugin = state
        .plugins
        .function(function)
        .ok_or_else(|| ApiError::not_found("There is no function of this name."))?;
    plugin
        .check(function, args, kwargs)
        .await
        .map_err(|error| call_error("function", error))
}

/// Runs the function and answers with its JSON text.
///
/// `args` is a JSON array and `kwargs` a JSON object, both as text: they go to
/// the guest as the client wrote them.
pub(crate) async fn run(
    state: &AppState,
    function: &str,
    args: String,
    kwargs: String,
    context: CallContext,
) -> Result<String, ApiError> {
    let plugin = state
        .plugins
        .function(function)
        .ok_or_else(|| ApiError::not_found("There is no function of this name."))?;
    let answer = plugin
        .run(function, args, kwargs, context)
        .await
        .map_err(|error| call_error("function", error))?
        .map_err(|failure| ApiError::function_failed(failure.code, failure.message))?;
    // The text becomes a JSON response, so it has to be JSON.
    match serde_json::from_str::<IgnoredAny>(&answer) {
        Ok(_) => Ok(answer),
        Err(error) => {
            tracing::error!(plugin.name = plugin.name(), function, %error, "function returned no JSON");
            Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "function_invalid_result",
                "The function returned something that is not JSON.",
            )
            .already_logged())
        }
    }
}

/// The status and stable code of a call that did not come to an end. The runtime
/// has logged the cause under the request id.
pub(crate) fn call_error(kind: &str, error: CallError) -> ApiError {
    let (status, reason, detail) = match &error {
        CallError::Trapped => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "trapped",
            "The code failed. The log has the details under the request id.",
        ),
        CallError::Deadline => (
            StatusCode::GATEWAY_TIMEOUT,
            "deadline",
            "The code used up its time budget.",
        ),
        CallError::Overloaded { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Too many calls are running.",
        ),
        CallError::InvalidResponse(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "invalid_response",
            "The code gave an answer that cannot be sent. The log has the details.",
        ),
        CallError::InvalidRequest(reason) => {
            return ApiError::bad_request("invalid_request", reason.clone());
        }
        CallError::NotJson(reason) => {
            return ApiError::bad_request("invalid_json", reason.clone());
        }
        CallError::Mismatch(mismatches) => return crate::gateway::body_mismatch(mismatches),
        CallError::PayloadTooLarge => {
            return ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "The body is larger than this route takes.",
            );
        }
        CallError::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Something that the code needs cannot be reached now.",
        ),
    };
    let answer = ApiError::new(status, format!("{kind}_{reason}"), detail).already_logged();
    match error {
        CallError::Overloaded { retry_after } => answer.with_retry_after(retry_after),
        _ => answer,
    }
}
