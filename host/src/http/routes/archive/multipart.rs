//! `POST upload/<c>`: a file as the part `file` of a `multipart/form-data` body
//! (RFC 7578), streamed from the connection to where it is kept.

use axum::Json;
use axum::extract::{Request, State};
use coglex_archive::{NewFile, Upload, file_name};
use coglex_services::Caller;
use coglex_services::caller::Credentials;
use http::header;
use multer::{Field, Multipart};

use super::body::{Allowance, BodyError, Pieces, Shared};
use super::owner;
use super::sign::{UrlParams, writer};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query};

/// The part that holds the file.
const PART: &str = "file";

/// Parts of one body; those that are not the file are passed over.
const MOST_PARTS: usize = 32;

/// Bytes that may come while the end of a part's head is looked for, and while a
/// part is read that is not the file. The parser keeps all that comes; it is more
/// than a head has, because what follows it comes with it.
const HEAD: u64 = 1 << 20;

/// Takes a file; answers with its reference.
pub(crate) async fn upload(
    caller: Result<Caller, ApiError>,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    Query(params): Query<UrlParams>,
    credentials: Credentials,
    request: Request,
) -> Result<Json<String>, ApiError> {
    let (caller, signed) = writer(&state, caller, &collection, &params)?;
    let boundary = boundary(&request)?;
    let mut new = NewFile {
        owner: owner(&state, &caller, &collection, &credentials).await?,
        ..NewFile::default()
    };
    let limit = state.archive.settings_of(&collection).file_limit;
    let mut limit = limit;
    if let Some(signed) = signed {
        limit = limit.min(signed.limit);
        new.limit = Some(signed.limit);
        new.reference = Some(signed.reference);
    }
    // What is announced need not be received. The body is more than its file.
    let overhead = 2 * HEAD * MOST_PARTS as u64;
    if content_length(&request).is_some_and(|length| length > limit.saturating_add(overhead)) {
        return Err(coglex_archive::Error::FileTooLarge { limit }.into());
    }

    let allowance = Allowance::unlimited();
    let patience = state.config.server.body_timeout;
    let pieces = Pieces::new(request.into_body(), patience, allowance.clone());
    let body = Shared::new(pieces);
    let parts = Multipart::new(body.clone(), boundary);
    let received = receive(&state, &caller, &collection, new, parts, &allowance).await;
    if received.is_err() {
        allowance.set(u64::MAX);
        body.drain().await;
    }
    received.map(Json)
}

/// Reads the parts; answers with the reference of the file that was among them.
async fn receive(
    state: &AppState,
    caller: &Caller,
    collection: &str,
    mut new: NewFile,
    mut parts: Multipart<'static>,
    allowance: &Allowance,
) -> Result<String, ApiError> {
    let mut upload: Option<Upload> = None;
    for _ in 0..MOST_PARTS {
        allowance.set(HEAD);
        let Some(mut part) = parts.next_field().await.map_err(unreadable)? else {
            return match upload {
                Some(upload) => Ok(upload.finish().await?),
                None => Err(no_file()),
            };
        };
        if part.name() != Some(PART) {
            allowance.set(HEAD);
            while part.chunk().await.map_err(unreadable)?.is_some() {}
            continue;
        }
        if upload.is_some() {
            return Err(ApiError::invalid("There are two parts named `file`."));
        }
        allowance.set(u64::MAX);
        let new = described(std::mem::take(&mut new), &part)?;
        let begun = state.archive.begin(caller, collection, new).await?;
        let begun = upload.insert(begun);
        while let Some(bytes) = part.chunk().await.map_err(unreadable)? {
            begun.write(bytes).await?;
        }
    }
    Err(ApiError::bad_request(
        "invalid_multipart",
        format!("The multipart body has more than {MOST_PARTS} parts."),
    ))
}

/// What the part says of its file.
fn described(mut new: NewFile, part: &Field<'_>) -> Result<NewFile, ApiError> {
    let name = part.file_name().ok_or_else(no_file)?;
    new.name = file_name(name)?;
    new.media_type = part
        .content_type()
        .map(|kind| kind.essence_str().to_owned());
    Ok(new)
}

fn boundary(request: &Request) -> Result<String, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match multer::parse_boundary(kind) {
        // At most 70 characters (RFC 2046, section 5.1.1).
        Ok(boundary) if !boundary.is_empty() && boundary.len() <= 70 => Ok(boundary),
        Ok(_) | Err(multer::Error::NoBoundary) => Err(ApiError::bad_request(
            "invalid_multipart",
            "The multipart body has no usable boundary.",
        )),
        Err(_) => Err(ApiError::unsupported_media_type(
            "The body has to be sent as Content-Type: multipart/form-data.",
        )),
    }
}

fn content_length(request: &Request) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn no_file() -> ApiError {
    ApiError::invalid("The body has no part `file` with a file name.")
}

fn unreadable(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<BodyError>() {
            Ok(error) => (*error).into(),
            Err(_) => BodyError::Cut.into(),
        },
        multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteStream => BodyError::Cut.into(),
        _ => ApiError::bad_request("invalid_multipart", "The multipart body is malformed."),
    }
}
