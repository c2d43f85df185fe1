//! What a service can answer instead of a result. The HTTP door turns each
//! variant into a status and a stable code, the guest door into a WIT error.

use std::time::Duration;

use crate::storage::StoreError;

/// The result of a service call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a service did not do what it was asked. Nothing is half-done after one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is malformed; the text says what and where, for the client.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing; the text names the kind, never what else exists.
    #[error("{0}")]
    NotFound(String),
    /// Something unique exists already (a key, an `_id`).
    #[error("{0}")]
    Conflict(String),
    /// The caller may not do this; the text says what was missing.
    #[error("{0}")]
    Forbidden(String),
    /// Input or result is over a limit that the text names.
    #[error("{0}")]
    TooLarge(String),
    /// The operation's time limit passed.
    #[error("the operation exceeded its time limit")]
    Timeout,
    /// A bounded queue is full.
    #[error("too busy, try again later")]
    Overloaded {
        /// When a retry is worth it.
        retry_after: Duration,
    },
    /// The store or a provider cannot be reached. The cause is for the log.
    #[error("the service is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Invalid(sentence) => Error::Invalid(sentence),
            StoreError::DuplicateKey { index } if index == "_id_" => {
                Error::Conflict("a document with this `_id` exists already".into())
            }
            StoreError::DuplicateKey { index } => Error::Conflict(format!(
                "another document has the same key in the unique index `{index}`"
            )),
            StoreError::TooLarge(sentence) => Error::TooLarge(sentence),
            StoreError::Timeout => Error::Timeout,
            StoreError::Unavailable(cause) => Error::Unavailable(cause),
            // The store's errors may grow; what we do not know is not the
            // client's fault, and the log will say what it was.
            other => Error::Unavailable(Box::new(other)),
        }
    }
}
