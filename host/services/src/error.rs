//! What a service can answer instead of a result. The HTTP door turns each
//! variant into a status and a stable code, the guest door into a WIT error.

use std::time::Duration;

use crate::accounts::Denial;
use crate::documents::HIDDEN;
use crate::hooks::HookFault;
use crate::storage::{Failure, StoreError};

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
    /// A document does not satisfy its collection's schema.
    #[error("the document does not satisfy the collection's schema{}", first(.failures))]
    DocumentInvalid {
        /// What it fails, the first few; empty when the store did not say.
        failures: Vec<Failure>,
    },
    /// A hook of a plugin refuses the write.
    #[error("refused by a hook ({code}): {message}")]
    HookRefused {
        /// The hook's own code, snake_case.
        code: String,
        /// Its sentence, for the client.
        message: String,
    },
    /// A hook that has to agree to the write has failed; it is in the log.
    #[error("a hook that has to agree to this write has failed")]
    HookFailed(HookFault),
    /// Something unique exists already (a key, an `_id`).
    #[error("{0}")]
    Conflict(String),
    /// The caller may not do this; the text says what was missing.
    #[error("{0}")]
    Forbidden(String),
    /// Input or result is over a limit that the text names.
    #[error("{0}")]
    TooLarge(String),
    /// Who somebody is, is not shown well enough; the client can do something about it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// No mail can be sent here: there is no SMTP server, or no page to link to.
    #[error("mail is not set up on this server")]
    MailUnavailable,
    /// The operation's time limit passed.
    #[error("the operation exceeded its time limit")]
    Timeout,
    /// The same client has failed too often.
    #[error("too many failed attempts, try again later")]
    TooManyAttempts {
        /// When the next attempt is let through.
        retry_after: Duration,
    },
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
            StoreError::DocumentInvalid { mut failures } => {
                // A schema's pattern can reach a field that nobody may know of.
                failures.retain(|failure| {
                    let path = failure.path.split('/').nth(1);
                    !path.is_some_and(|name| HIDDEN.contains(&name))
                });
                Error::DocumentInvalid { failures }
            }
            StoreError::TooLarge(sentence) => Error::TooLarge(sentence),
            StoreError::Timeout => Error::Timeout,
            StoreError::Unavailable(cause) => Error::Unavailable(cause),
            // The store's errors may grow; what we do not know is not the
            // client's fault, and the log will say what it was.
            other => Error::Unavailable(Box::new(other)),
        }
    }
}

/// The first failure, for whoever gets one sentence.
fn first(failures: &[Failure]) -> String {
    match failures.first() {
        Some(failure) if failure.path.is_empty() => format!(": it {}", failure.detail),
        Some(failure) => format!(": `{}` {}", failure.path, failure.detail),
        None => String::new(),
    }
}
