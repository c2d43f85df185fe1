//! What a client is told when something did not work: a problem document
//! (RFC 9457) with a stable `code`.
//!
//! A handler returns [`ApiError`] and forgets about it. The error rides the
//! response to the outermost layer, `super::front`, which writes the body with
//! the request id and, for a failure of ours, one log line with all causes.
//! Details of 5xx are neutral: causes are for the log, not for clients.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use coglex_services::Error as ServiceError;
use coglex_services::accounts::Denial;
use coglex_services::caller::Credentials;
use coglex_services::hooks::HookFault;
use coglex_services::storage::Failure;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

/// The content of an [`ApiError`].
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    headers: HeaderMap,
    /// Where the input is wrong, when it is in several places.
    errors: Vec<FieldError>,
    /// What else a client needs to go on (RFC 9457, section 3.2).
    members: serde_json::Map<String, serde_json::Value>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    /// Whether a layer below has written the cause into the log.
    logged: bool,
}

/// One place where what a client sent is wrong, as the member `errors` of a
/// problem lists them (RFC 9457, section 3, has it as an example).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901): `/address/zip`; empty for all of it.
    pub path: String,
    /// The rule that is broken: `required`.
    pub rule: String,
    /// A sentence.
    pub detail: String,
}

/// The problem as it rides a response. Extensions have to be `Clone`.
#[derive(Clone)]
struct Riding(Arc<Problem>);

/// The body (RFC 9457, section 3.1), with our `code` and `request_id`.
#[derive(Serialize)]
struct View<'a> {
    /// `about:blank`: the title is the status's own, the `code` tells more.
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    members: &'a serde_json::Map<String, serde_json::Value>,
}

impl ApiError {
    /// An error with a stable, snake_case code and a sentence for people.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Problem {
            status,
            code: code.into(),
            detail: detail.into(),
            headers: HeaderMap::new(),
            errors: Vec::new(),
            members: serde_json::Map::new(),
            cause: None,
            logged: false,
        }))
    }

    /// 400.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 400 for a member of a JSON body or a query parameter; the text names it.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::bad_request("invalid_input", detail)
    }

    /// 401: no API key, or a wrong one. The two look alike.
    pub fn api_key_required() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "api_key_required",
            "A valid API key is required in the header X-API-Key.",
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey"))
    }

    /// 401: no admin key, or a wrong one. The two look alike.
    pub fn admin_key_required() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "admin_key_required",
            "A valid admin key is required in the header X-Admin-Key.",
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("AdminKey"),
        )
    }

    /// 401: nobody of this realm is signed in.
    pub fn session_required(realm: &str) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "session_required",
            format!("A signed-in user of {realm} is required."),
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The same, or 403 if somebody would be signed in by a cookie that another site
    /// has sent.
    pub(crate) fn session_required_of(realm: &str, credentials: &Credentials) -> Self {
        if !credentials.cross_site {
            return Self::session_required(realm);
        }
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site_request",
            "A session cookie does not count in a write that a page of another origin sends; the setting server.cors_origins says which may.",
        )
    }

    /// 403: somebody is signed in, but has not this role.
    pub fn role_required(role: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "role_required",
            format!("The role {role} is required."),
        )
    }

    /// 404.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405 with the methods that there are.
    pub fn method_not_allowed(allow: impl TryInto<HeaderValue>) -> Self {
        match allow.try_into() {
            Ok(allow) => Self::wrong_method().with_header(header::ALLOW, allow),
            Err(_) => Self::wrong_method(),
        }
    }

    /// 405 to which the router adds the methods that there are.
    pub(super) fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This path does not answer to this method.",
        )
    }

    /// 413 for a request body.
    pub fn payload_too_large(limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("The request body is larger than {limit} bytes."),
        )
    }

    /// 416 with the size that there is.
    pub(crate) fn range_not_satisfiable(size: Option<HeaderValue>) -> Self {
        let error = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range_not_satisfiable",
            "The file does not have this range.",
        );
        match size {
            Some(size) => error.with_header(header::CONTENT_RANGE, size),
            None => error,
        }
    }

    /// 415: the body is of another kind than the route takes.
    pub fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            detail,
        )
    }

    /// 422: what was sent does not fit the schema of the route.
    pub fn input_mismatch(
        detail: impl Into<Cow<'static, str>>,
        errors: impl IntoIterator<Item = FieldError>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "input_mismatch", detail).with_errors(errors)
    }

    /// 422: a function of a plugin answered with its own failure.
    pub fn function_failed(code: String, message: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// A hook that has to agree to a write could not say. The cause is in the log.
    fn hook_failed(fault: HookFault) -> Self {
        match fault {
            HookFault::Broken => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "hook_failed",
                "A hook that has to agree to this write has failed. The log has the details.",
            ),
            HookFault::Deadline => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "hook_deadline",
                "A hook that has to agree to this write used up its time.",
            ),
            HookFault::Unavailable(after) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "hook_unavailable",
                "A hook that has to agree to this write cannot be asked now.",
            )
            .with_retry_after(after),
        }
        .already_logged()
    }

    /// Who somebody is, is not shown well enough.
    fn denied(denial: Denial) -> Self {
        let status = match &denial {
            Denial::SecondFactorRequired(_)
            | Denial::ChallengeInvalid
            | Denial::OAuthCodeInvalid => StatusCode::UNAUTHORIZED,
            Denial::WrongPassword
            | Denial::WrongCode
            | Denial::SignInAgain
            | Denial::EmailNotVerified
            | Denial::ProviderDenied
            | Denial::SignUpClosed => StatusCode::FORBIDDEN,
            Denial::TokenInvalid | Denial::OAuthStateInvalid => StatusCode::BAD_REQUEST,
            Denial::TotpEnabled
            | Denial::TotpNotEnabled
            | Denial::TotpNotBegun
            | Denial::AccountExists
            | Denial::IdentityTaken
            | Denial::LastWayIn
            | Denial::Changed => StatusCode::CONFLICT,
            Denial::ProviderFailed => StatusCode::BAD_GATEWAY,
        };
        let mut error = Self::new(status, denial.code(), sentence(&denial.to_string()));
        if let Denial::SecondFactorRequired(challenge) = denial {
            let expires = challenge.expires.timestamp_millis().div_euclid(1000);
            let members = [
                ("_challenge", challenge.token.into()),
                ("_challenge_expires", expires.into()),
                ("methods", serde_json::json!(["totp", "recovery_code"])),
            ];
            let members = members.into_iter();
            error.0.members = members
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            error = error.with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        error
    }

    /// 500 for a fault of ours; the cause is for the log.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed. The log has the details under the request id.",
        )
        .with_cause(cause)
    }

    /// 504: the request took longer than the server allows.
    pub fn request_timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "request_timeout",
            "The request took longer than the server allows.",
        )
    }

    /// Tells the client when a retry is worth it.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        // Whole seconds, rounded up, so that nobody comes back too early.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Says that the layer below has logged the cause, so that it is there once.
    #[must_use]
    pub fn already_logged(mut self) -> Self {
        self.0.logged = true;
        self
    }

    /// The status that the client will see.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Lists the places that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.0.errors = errors.into_iter().collect();
        self
    }

    /// Adds headers to the response.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.0.headers.extend(headers);
        self
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }
}

/// Every failure of a service has its status and code here, and nowhere else.
impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Invalid(detail) => Self::invalid(detail),
            ServiceError::NotFound(detail) => Self::not_found(detail),
            ServiceError::DocumentInvalid { ref failures } => {
                let field = |failure: &Failure| FieldError {
                    path: failure.path.clone(),
                    rule: failure.rule.clone(),
                    detail: failure.detail.clone(),
                };
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "document_invalid",
                    format!("{error}."),
                )
                .with_errors(failures.iter().map(field))
            }
            ServiceError::HookRefused { code, message } => Self::function_failed(code, message),
            ServiceError::HookFailed(fault) => Self::hook_failed(fault),
            ServiceError::Conflict(detail) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            ServiceError::Forbidden(detail) => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
            }
            ServiceError::Denied(denial) => Self::denied(denial),
            ServiceError::TooLarge(detail) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
            }
            ServiceError::MailUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "mail_not_configured",
                "Mail is not set up on this server, or has no page to link to.",
            ),
            ServiceError::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "The operation took longer than it may.",
            ),
            ServiceError::TooManyAttempts { retry_after } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_attempts",
                "This has failed too often; try again later.",
            )
            .with_retry_after(retry_after),
            ServiceError::Overloaded { retry_after } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The server is too busy for this now.",
            )
            .with_retry_after(retry_after),
            ServiceError::Unavailable(cause) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service cannot be reached now.",
            )
            .with_cause(cause),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        *response.headers_mut() = self.0.headers.clone();
        response.extensions_mut().insert(Riding(Arc::from(self.0)));
        response
    }
}

/// Writes the body of a response that carries a problem, and logs it if the
/// fault is ours. Called once for every response, inside of the request's span.
pub(super) fn write_problem(response: Response, request_id: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let Some(Riding(problem)) = parts.extensions.remove::<Riding>() else {
        return Response::from_parts(parts, body);
    };
    if problem.status.is_server_error() && !problem.logged {
        log(&problem);
    }
    let view = View {
        r#type: "about:blank",
        title: problem.status.canonical_reason().unwrap_or("Error"),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        code: &problem.code,
        request_id,
        errors: &problem.errors,
        members: &problem.members,
    };
    // Texts and a number always serialise.
    let text = serde_json::to_vec(&view).unwrap_or_default();
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(parts, Body::from(text))
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut rest = clause.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    first.chain(rest).chain(['.']).collect()
}

fn log(problem: &Problem) {
    let mut causes = String::new();
    let mut next = problem.cause.as_deref().map(|cause| cause as &dyn StdError);
    while let Some(cause) = next {
        causes.push_str(": ");
        causes.push_str(&cause.to_string());
        next = cause.source();
    }
    let status = problem.status.as_u16();
    // Being busy is the operator's business, but no fault.
    if problem.cause.is_none() && problem.status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(status, code = %problem.code, "request refused: {}", problem.detail);
    } else {
        tracing::error!(status, code = %problem.code, "request failed: {}{causes}", problem.detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(error: ApiError) -> (Response<()>, serde_json::Value) {
        let (parts, body) = write_problem(error.into_response(), "r-1").into_parts();
        let bytes = axum::body::to_bytes(body, 4096).await.unwrap();
        (
            Response::from_parts(parts, ()),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    #[tokio::test]
    async fn an_error_becomes_a_problem_document() {
        let (response, problem) =
            body(ServiceError::Conflict("`_id` exists already.".into()).into()).await;
        assert_eq!(response.status(), 409);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(
            problem,
            serde_json::json!({
                "type": "about:blank", "title": "Conflict", "status": 409,
                "detail": "`_id` exists already.", "code": "conflict", "request_id": "r-1",
            })
        );
    }

    #[tokio::test]
    async fn causes_stay_out_of_the_body() {
        let cause = ServiceError::Unavailable("disk /secret/path is full".into());
        let (response, problem) = body(cause.into()).await;
        assert_eq!(response.status(), 503);
        assert!(!problem.to_string().contains("secret"), "{problem}");
        let (response, problem) = body(ApiError::internal("boom")).await;
        assert_eq!(response.status(), 500);
        assert!(!problem.to_string().contains("boom"), "{problem}");
    }

    #[tokio::test]
    async fn retry_after_is_rounded_up_to_whole_seconds() {
        let overloaded = ServiceError::Overloaded {
            retry_after: Duration::from_millis(1200),
        };
        assert_eq!(
            body(overloaded.into()).await.0.headers()["retry-after"],
            "2"
        );
    }

    #[test]
    fn responses_without_a_problem_pass_untouched() {
        let response = write_problem(
            (StatusCode::NOT_FOUND, "an app's own page").into_response(),
            "r-1",
        );
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
    }
}
