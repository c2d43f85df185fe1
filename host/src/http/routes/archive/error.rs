//! The status and code of every failure of the archive.

use coglex_archive::Error;
use coglex_services::Error as ServiceError;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::http::error::ApiError;

/// Where an upload in parts stands.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// What tus has for bytes that are not those that were hashed.
const CHECKSUM_MISMATCH: u16 = 460;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let sentence = match &error {
            Error::FileTooLarge { .. } => format!("The file is larger than it may be: {error}."),
            other => format!("{other}."),
        };
        match error {
            Error::Service(error) => error.into(),
            Error::FileTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", sentence)
            }
            Error::QuotaExceeded(_) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "quota_exceeded", sentence)
            }
            Error::TypeRefused(_) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "file_type_refused",
                sentence,
            ),
            Error::WrongOffset { offset } => {
                let at = HeaderMap::from_iter([(UPLOAD_OFFSET, HeaderValue::from(offset))]);
                Self::new(StatusCode::CONFLICT, "wrong_offset", sentence).with_headers(at)
            }
            Error::WrongChecksum => {
                let status = StatusCode::from_u16(CHECKSUM_MISMATCH);
                let status = status.unwrap_or(StatusCode::BAD_REQUEST);
                Self::new(status, "checksum_mismatch", sentence)
            }
            Error::Expired => Self::new(StatusCode::GONE, "upload_expired", sentence),
            Error::BadSignature(sentence) => {
                Self::new(StatusCode::FORBIDDEN, "signature_refused", sentence)
            }
            Error::NoThumbnail(sentence) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_thumbnail", sentence)
            }
            Error::Missing => Self::internal(error),
            Error::Unavailable(cause) => ServiceError::Unavailable(cause).into(),
        }
    }
}
