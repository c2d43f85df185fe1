//! The one error type of the SDK, and how it reaches a client.
//!
//! Everything that an app's handler or a function calls returns [`Error`], so
//! `?` is enough. Two kinds matter to a client: a [`Problem`] is written for
//! them, everything else is ours to fix and goes to the log in full.

use std::borrow::Cow;
use std::fmt;

/// The result of SDK calls and of handlers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
///
/// Returned from a handler, an error becomes an `application/problem+json`
/// response; returned from a function, a failure with a code and a message. What
/// the client sees:
///
/// | Error | App | Function |
/// |---|---|---|
/// | [`Problem`](Error::Problem) | its status, code and detail | its code and detail |
/// | [`Conflict`](Error::Conflict) | 409 `conflict` | `conflict` |
/// | [`Timeout`](Error::Timeout), [`Unavailable`](Error::Unavailable) | 503 `unavailable` | `unavailable` |
/// | anything else | 500 `internal_error` | `internal_error` |
///
/// Whatever is not a [`Problem`] is logged with its full text, which the client
/// never sees. To blame the client for an error, say so with
/// [`OrStatus::or_status`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Something to tell the client.
    Problem(Problem),
    /// The plugin was not granted this. Ask for it in `coglex.toml`.
    AccessDenied(String),
    /// A filter, update, document or name is malformed.
    Invalid(String),
    /// A unique index (`_id` has one) already holds this key.
    Conflict(String),
    /// The input or the result exceeds a limit.
    TooLarge(String),
    /// The operation ran into its time limit.
    Timeout,
    /// The store cannot be reached or has failed. Worth trying again later.
    Unavailable,
    /// A stored document, a setting or a value does not fit its Rust type.
    Mismatch(String),
    /// Any other error, wrapped with [`Error::other`].
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An answer with this status, for the client. The code is the status's
    /// usual name, e.g. `not_found`.
    ///
    /// ```
    /// use coglex_sdk::Error;
    ///
    /// let error = Error::status(404, "there is no such item");
    /// assert_eq!(error.to_string(), "there is no such item");
    /// ```
    pub fn status(status: u16, detail: impl Into<String>) -> Self {
        Problem::new(status, detail).into()
    }

    /// A function's own failure, for the client: a stable code in `snake_case`
    /// and a sentence.
    ///
    /// ```
    /// # use coglex_sdk::Error;
    /// let error = Error::failure("out_of_stock", "the last one was sold");
    /// ```
    pub fn failure(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Problem::new(422, message).code(code).into()
    }

    /// Wraps an error of another crate, so that `.map_err(Error::other)?` works
    /// on anything. The client sees a 500.
    ///
    /// ```
    /// # use coglex_sdk::{Error, Result};
    /// fn parse(bytes: &[u8]) -> Result<&str> {
    ///     std::str::from_utf8(bytes).map_err(Error::other)
    /// }
    /// # assert!(parse(b"\xff").is_err());
    /// ```
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// What a client may know of this error.
    pub(crate) fn to_problem(&self) -> Cow<'_, Problem> {
        match self {
            Self::Problem(problem) => Cow::Borrowed(problem),
            Self::Conflict(_) => Cow::Owned(Problem::new(409, "It exists already.")),
            Self::Timeout | Self::Unavailable => Cow::Owned(Problem::new(
                503,
                "The service is unavailable, try again later.",
            )),
            Self::AccessDenied(_)
            | Self::Invalid(_)
            | Self::TooLarge(_)
            | Self::Mismatch(_)
            | Self::Other(_) => Cow::Owned(Problem::new(500, "The app failed to answer.")),
        }
    }

    /// Whether the operator should read about it, as the client will not.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Problem(_) | Self::Conflict(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(&problem.detail),
            Self::AccessDenied(text) => write!(f, "access denied: {text}"),
            Self::Invalid(text) => write!(f, "invalid: {text}"),
            Self::Conflict(text) => write!(f, "conflict: {text}"),
            Self::TooLarge(text) => write!(f, "too large: {text}"),
            Self::Timeout => f.write_str("the operation ran into its time limit"),
            Self::Unavailable => f.write_str("the store is unavailable"),
            Self::Mismatch(text) => f.write_str(text),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its text is already ours, so the chain goes on below it.
            Self::Other(error) => error.source(),
            _ => None,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// A value that cannot be written as JSON, or a text that is not the JSON it
/// should be. Ours, unless the handler says that it is the client's.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::other(error)
    }
}

/// What a client is told: a status, a stable code and a sentence.
///
/// ```
/// use coglex_sdk::{Problem, Result};
///
/// fn reserve(seats: u32) -> Result<()> {
///     if seats > 8 {
///         return Err(Problem::new(422, "at most 8 seats at once").code("too_many_seats").into());
///     }
///     Ok(())
/// }
/// # assert!(reserve(9).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(crate) status: u16,
    pub(crate) code: Cow<'static, str>,
    pub(crate) detail: String,
}

impl Problem {
    /// A problem with the status's usual code.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: names(status).1.into(),
            detail: detail.into(),
        }
    }

    /// Sets the code: stable and in `snake_case`, for programs.
    #[must_use]
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into();
        self
    }

    /// The status's name, as RFC 9457 wants it for `about:blank` problems.
    pub(crate) fn title(&self) -> &'static str {
        names(self.status).0
    }
}

/// The title and the usual code of a status.
fn names(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("Bad Request", "bad_request"),
        401 => ("Unauthorized", "unauthorized"),
        403 => ("Forbidden", "forbidden"),
        404 => ("Not Found", "not_found"),
        405 => ("Method Not Allowed", "method_not_allowed"),
        409 => ("Conflict", "conflict"),
        410 => ("Gone", "gone"),
        413 => ("Content Too Large", "payload_too_large"),
        415 => ("Unsupported Media Type", "unsupported_media_type"),
        422 => ("Unprocessable Content", "unprocessable"),
        429 => ("Too Many Requests", "too_many_requests"),
        500 => ("Internal Server Error", "internal_error"),
        503 => ("Service Unavailable", "unavailable"),
        _ if status < 500 => ("Client Error", "client_error"),
        _ => ("Server Error", "server_error"),
    }
}

/// Cuts a text that may repeat what a client sent: an answer need not echo a
/// megabyte.
pub(crate) fn clip(mut text: String) -> String {
    const MAX: usize = 300;
    if let Some((end, _)) = text.char_indices().nth(MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Turns nothing, or an error, into an answer for the client.
pub trait OrStatus<T> {
    /// The value, or a [`Problem`] with this status and detail.
    ///
    /// ```
    /// use coglex_sdk::{OrStatus, Result};
    ///
    /// fn age(text: &str) -> Result<u8> {
    ///     text.parse().or_status(400, "`age` is a number from 0 to 255")
    /// }
    /// assert_eq!(age("x").unwrap_err().to_string(), "`age` is a number from 0 to 255");
    ///
    /// fn first(found: Vec<String>) -> Result<String> {
    ///     found.into_iter().next().or_status(404, "nothing was found")
    /// }
    /// assert!(first(vec![]).is_err());
    /// ```
    fn or_status(self, status: u16, detail: impl Into<String>) -> Result<T>;
}

impl<T> OrStatus<T> for Option<T> {
    fn or_status(self, status: u16, detail: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::status(status, detail))
    }
}

impl<T, E: std::error::Error> OrStatus<T> for std::result::Result<T, E> {
    fn or_status(self, status: u16, detail: impl Into<String>) -> Result<T> {
        self.map_err(|_| Error::status(status, detail))
    }
}
