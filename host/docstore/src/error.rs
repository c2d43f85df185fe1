//! What can go wrong, one variant for each thing that a caller might do
//! differently about it.

use crate::schema::Failure;

/// The result of a document operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a document operation did not happen. Nothing is half-done after one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A filter, update, projection, sort, document or name is malformed. The
    /// text says what and where, in the caller's own terms.
    #[error("{0}")]
    Invalid(String),
    /// A unique index already holds this key.
    #[error("duplicate key for index {index}")]
    DuplicateKey {
        /// The index's name; `_id_` for the identifier.
        index: String,
    },
    /// A document does not satisfy its collection's schema.
    #[error("the document does not satisfy the collection's schema")]
    DocumentInvalid {
        /// What it fails, the first few; empty when the engine did not say.
        failures: Vec<Failure>,
    },
    /// A document, key or result is larger than a limit.
    #[error("{0}")]
    TooLarge(String),
    /// The operation's own time limit passed.
    #[error("the operation exceeded its time limit")]
    Timeout,
    /// The store is closed, out of disk, or failed. The cause is for the log.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
