//! What the archive can answer instead of a result.

use coglex_services::Error as ServiceError;
use coglex_services::storage::StoreError;

/// The result of an archive call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the archive did not do what it was asked. Nothing is half-done after one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule that holds for documents, too; or the document store failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The file is larger than files of the collection may be.
    #[error("the file is larger than {limit} bytes")]
    FileTooLarge {
        /// Bytes that a file may have.
        limit: u64,
    },
    /// The collection, or one user's part of it, is full; the text says which.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Files of this type are not taken; the text names type and collection.
    #[error("{0}")]
    TypeRefused(String),
    /// Bytes go on from another place than the upload stands at.
    #[error("the upload stands at byte {offset}")]
    WrongOffset {
        /// How many bytes there are.
        offset: u64,
    },
    /// Bytes are not those that their sender has hashed.
    #[error("the bytes do not have the checksum that was sent with them")]
    WrongChecksum,
    /// An upload that took too long; it is gone.
    #[error("the upload has expired")]
    Expired,
    /// A signed URL that is not ours, or no longer good.
    #[error("{0}")]
    BadSignature(&'static str),
    /// The image cannot be shown smaller; the text says why.
    #[error("{0}")]
    NoThumbnail(String),
    /// A blob that should be there is not.
    #[error("the bytes of a file are missing")]
    Missing,
    /// The blob store failed, or cannot be reached. The cause is for the log.
    #[error("the files cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A failure of the blob store.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// The error with all that caused it, for the log.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }

    /// 404 for a file.
    pub fn no_file() -> Self {
        Self::Service(ServiceError::NotFound("There is no such file.".into()))
    }

    /// 400 with a sentence.
    pub fn invalid(sentence: impl Into<String>) -> Self {
        Self::Service(ServiceError::Invalid(sentence.into()))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}
