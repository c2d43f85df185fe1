//! The response that a handler gives.

use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Problem, Result};

/// An HTTP response.
///
/// ```
/// use coglex_sdk::Response;
/// use serde_json::json;
///
/// let response = Response::json(&json!({"id": 7}))?.status(201).header("location", "/items/7");
/// assert_eq!(response.status_code(), 201);
/// # Ok::<(), coglex_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// An empty response with this status.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A 200 with a body of any type.
    pub fn bytes(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), content_type.into())],
            body: body.into(),
        }
    }

    /// A 200 with the value as JSON. Fails when the value cannot be JSON, such
    /// as a map whose keys are not strings.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::bytes("application/json", serde_json::to_vec(value)?))
    }

    /// A 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// A 200 with HTML.
    pub fn html(html: impl Into<String>) -> Self {
        Self::bytes("text/html; charset=utf-8", html.into())
    }

    /// A 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self::new(204)
    }

    /// A 303: the client goes on with a GET of `location`. Set another status
    /// (307, 308) to have it repeat its method.
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::new(303).header("location", location)
    }

    /// Sets the status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header; the same name may be added again (`set-cookie`).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The status.
    #[must_use]
    pub fn status_code(&self) -> u16 {
        self.status
    }

    /// The headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// A problem as RFC 9457 has it.
    pub(crate) fn problem(problem: &Problem, request_id: Option<&str>) -> Self {
        let mut body = json!({
            "type": "about:blank",
            "title": problem.title(),
            "status": problem.status,
            "detail": problem.detail,
            "code": problem.code,
        });
        if let (Some(id), Some(map)) = (request_id, body.as_object_mut()) {
            map.insert("request_id".to_owned(), id.into());
        }
        Self::bytes("application/problem+json", body.to_string()).status(problem.status)
    }
}

/// A value to answer as JSON: `fn list(_: Request) -> Result<Json<Vec<Item>>>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a handler may return: a [`Response`], a [`Json`] value, text, nothing
/// (204), or a [`Result`] of these with an error that converts to [`Error`].
pub trait IntoResponse {
    /// The response, or why there is none.
    fn into_response(self) -> Result<Response>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response> {
        Ok(self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Result<Response> {
        Response::json(&self.0)
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Result<Response> {
        Ok(Response::no_content())
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for std::result::Result<T, E> {
    fn into_response(self) -> Result<Response> {
        self.map_err(Into::into)?.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn problems_carry_status_code_detail_and_request_id() {
        let response = Response::problem(&Problem::new(404, "there is no such item"), Some("r1"));
        assert_eq!(response.status_code(), 404);
        assert_eq!(
            response.headers().next(),
            Some(("content-type", "application/problem+json"))
        );
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            body,
            json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no such item", "code": "not_found", "request_id": "r1"})
        );
    }

    #[test]
    fn what_handlers_return_becomes_a_response() {
        assert_eq!(().into_response().unwrap().status_code(), 204);
        assert_eq!("hi".into_response().unwrap().body(), b"hi");
        assert_eq!(Json(vec![1, 2]).into_response().unwrap().body(), b"[1,2]");
        let failed: Result<Json<u8>> = Err(Error::status(418, "teapot"));
        assert_eq!(failed.into_response().unwrap_err().to_string(), "teapot");
    }

    #[test]
    fn a_value_that_cannot_be_json_is_an_error() {
        let map = std::collections::BTreeMap::from([(vec![1u8], 1u8)]);
        assert!(Response::json(&map).is_err());
    }
}
