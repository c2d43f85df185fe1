//! `tus/<c>`: uploads that go on after a connection broke, by the protocol tus
//! 1.0.0 (<https://tus.io/protocols/resumable-upload>) with its extensions creation,
//! expiration, checksum and termination.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bson::DateTime;
use coglex_archive::{Checksum, Error, NewResumable, Part, Progress, file_name};
use coglex_services::Caller;
use coglex_services::caller::Credentials;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::body::{Allowance, Pieces};
use super::error::UPLOAD_OFFSET;
use super::{ROOT, owner};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::Path;

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const TUS_CHECKSUM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");

const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");

/// Headers that pages of other origins may read.
pub(crate) const EXPOSED: [HeaderName; 8] = [
    TUS_RESUMABLE,
    TUS_VERSION,
    TUS_EXTENSION,
    TUS_MAX_SIZE,
    TUS_CHECKSUM,
    UPLOAD_LENGTH,
    UPLOAD_EXPIRES,
    UPLOAD_OFFSET,
];

/// `OPTIONS tus/<c>`: what there is. Open to everybody, as it says nothing of
/// files.
pub(crate) async fn options(
    State(state): State<AppState>,
    Path(collection): Path<CollectionOf>,
) -> Response {
    let limit = state.archive.settings_of(collection.name()).file_limit;
    let headers = HeaderMap::from_iter([
        (TUS_RESUMABLE, VERSION),
        (TUS_VERSION, VERSION),
        (
            TUS_EXTENSION,
            HeaderValue::from_static("creation,expiration,checksum,termination"),
        ),
        (TUS_MAX_SIZE, HeaderValue::from(limit)),
        (TUS_CHECKSUM, HeaderValue::from_static(Checksum::ALGORITHMS)),
    ]);
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// The collection of a path, whatever else is in it.
#[derive(serde::Deserialize)]
pub(crate) struct CollectionOf {
    collection: String,
}

impl CollectionOf {
    fn name(&self) -> &str {
        &self.collection
    }
}

/// `POST tus/<c>`: begins an upload.
pub(crate) async fn create(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    credentials: Credentials,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_version(&headers)?;
    let length = number(&headers, UPLOAD_LENGTH)?;
    let metadata = Metadata::read(&headers)?;
    let new = NewResumable {
        name: file_name(metadata.name.as_deref().unwrap_or_default())?,
        media_type: metadata.media_type,
        owner: owner(&state, &caller, &collection, &credentials).await?,
        length,
    };
    let created = state.archive.create_resumable(&caller, &collection, new);
    let (id, progress) = created.await?;
    let encoded = utf8_percent_encode(&collection, NON_ALPHANUMERIC);
    let location = HeaderValue::try_from(format!("{ROOT}/tus/{encoded}/{id}"));
    let mut headers = told(&progress);
    headers.insert(header::LOCATION, location.map_err(ApiError::internal)?);
    Ok((StatusCode::CREATED, headers).into_response())
}

/// `HEAD tus/<c>/<id>`: how far it has come.
pub(crate) async fn progress(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
    credentials: Credentials,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_version(&headers)?;
    let owner = owner(&state, &caller, &collection, &credentials).await?;
    let found = state
        .archive
        .resumable(&caller, &collection, &id, owner.as_ref());
    let progress = found.await?;
    let mut headers = told(&progress);
    headers.insert(UPLOAD_LENGTH, progress.length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((StatusCode::OK, headers).into_response())
}

/// `PATCH tus/<c>/<id>`: appends bytes. With the last of them the file is there;
/// its reference is the upload's id.
pub(crate) async fn append(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
    credentials: Credentials,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    check_version(&headers)?;
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(b"application/offset+octet-stream") {
        return Err(ApiError::unsupported_media_type(
            "The bytes have to be sent as Content-Type: application/offset+octet-stream.",
        ));
    }
    let offset = number(&headers, UPLOAD_OFFSET)?;
    let checksum = match headers.get(UPLOAD_CHECKSUM) {
        None => None,
        Some(given) => {
            let checksum = given.to_str().ok().and_then(Checksum::parse);
            Some(checksum.ok_or_else(|| {
                ApiError::invalid(format!(
                    "Upload-Checksum must be one of {} and a digest in base64.",
                    Checksum::ALGORITHMS
                ))
            })?)
        }
    };
    let owner = owner(&state, &caller, &collection, &credentials).await?;
    let part = Part {
        offset,
        bytes: pieces(&state, body),
        checksum,
    };
    let archive = &state.archive;
    let appended = archive.append(&caller, &collection, &id, owner.as_ref(), part);
    let progress = appended.await?;
    Ok((StatusCode::NO_CONTENT, told(&progress)).into_response())
}

/// `DELETE tus/<c>/<id>`: gives an upload up.
pub(crate) async fn discard(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
    credentials: Credentials,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    check_version(&headers)?;
    let owner = owner(&state, &caller, &collection, &credentials).await?;
    state
        .archive
        .discard_resumable(&caller, &collection, &id, owner.as_ref())
        .await?;
    Ok((StatusCode::NO_CONTENT, [(TUS_RESUMABLE, VERSION)]).into_response())
}

fn pieces(
    state: &AppState,
    body: Body,
) -> futures_util::stream::BoxStream<'static, Result<bytes::Bytes, Error>> {
    let patience = state.config.server.body_timeout;
    Pieces::new(body, patience, Allowance::unlimited())
        .map_err(|error| Error::invalid(error.to_string()))
        .boxed()
}

fn told(progress: &Progress) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([
        (TUS_RESUMABLE, VERSION),
        (UPLOAD_OFFSET, progress.offset.into()),
    ]);
    if let Some(expires) = http_date(progress.expires) {
        headers.insert(UPLOAD_EXPIRES, expires);
    }
    headers
}

fn http_date(time: DateTime) -> Option<HeaderValue> {
    let text = httpdate::fmt_http_date(time.to_system_time());
    HeaderValue::try_from(text).ok()
}

fn check_version(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.get(TUS_RESUMABLE) == Some(&VERSION) {
        return Ok(());
    }
    let version = HeaderMap::from_iter([(TUS_VERSION, VERSION)]);
    Err(ApiError::new(
        StatusCode::PRECONDITION_FAILED,
        "unsupported_version",
        "The header Tus-Resumable must be 1.0.0.",
    )
    .with_headers(version))
}

fn number(headers: &HeaderMap, name: HeaderName) -> Result<u64, ApiError> {
    let text = headers.get(&name).and_then(|value| value.to_str().ok());
    let digits = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::invalid(format!("The header {name} must be a whole number.")))
}

/// What a client says of its file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metadata {
    name: Option<String>,
    media_type: Option<String>,
}

impl Metadata {
    /// `key base64,key base64`; keys that are not ours are passed over.
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = match headers.get(UPLOAD_METADATA).map(HeaderValue::to_str) {
            None => return Ok(Self::default()),
            Some(Ok(text)) => text,
            Some(Err(_)) => return Err(bad_metadata()),
        };
        let mut metadata = Self::default();
        for pair in text.split(',').map(str::trim) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let place = match key {
                "filename" | "name" => &mut metadata.name,
                "filetype" | "type" => &mut metadata.media_type,
                _ => continue,
            };
            let bytes = BASE64_STANDARD.decode(value).map_err(|_| bad_metadata())?;
            let value = String::from_utf8(bytes).map_err(|_| bad_metadata())?;
            place.get_or_insert(value);
        }
        Ok(metadata)
    }
}

fn bad_metadata() -> ApiError {
    ApiError::invalid(
        "The header Upload-Metadata must be names and values in base64, with commas between them.",
    )
}
