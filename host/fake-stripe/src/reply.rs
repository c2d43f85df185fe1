//! Answers and errors as Stripe writes them.
//! <https://docs.stripe.com/api/errors>

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// A status and a JSON body.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// What a request comes to.
pub(crate) type Answer = Result<Value, Reply>;

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    pub(crate) fn error(status: u16, kind: &str, code: Option<&str>, message: &str) -> Self {
        let mut error = json!({"type": kind, "message": message});
        if let Some(code) = code {
            error["code"] = code.into();
            error["doc_url"] = format!("https://stripe.com/docs/error-codes/{code}").into();
        }
        Self {
            status,
            body: json!({"error": error}),
        }
    }

    /// 400 for a parameter.
    pub(crate) fn invalid(param: &str, message: impl AsRef<str>) -> Self {
        Self::error(400, "invalid_request_error", None, message.as_ref()).about(param)
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required param: {param}.");
        let code = Some("parameter_missing");
        Self::error(400, "invalid_request_error", code, &message).about(param)
    }

    /// Stripe answers 404 where the path names the object, and 400 where a parameter does.
    pub(crate) fn no_such(status: u16, kind: &str, id: &str, param: &str) -> Self {
        let message = format!("No such {kind}: '{id}'");
        let code = Some("resource_missing");
        Self::error(status, "invalid_request_error", code, &message).about(param)
    }

    fn about(mut self, param: &str) -> Self {
        self.body["error"]["param"] = param.into();
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self.body)).into_response()
    }
}
