//! `GET download/<c>/<ref>`: a file, or ranges of it, or its image made smaller.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use coglex_archive::{
    Archive, ByteStream, StoredFile, ThumbnailSize, content_disposition, new_reference,
};
use coglex_services::Caller;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::range::{Asked, asked};
use super::sign::{UrlParams, reader};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query};

/// Nothing in a file is a part of this server's pages: a browser that shows it
/// gives it an origin of its own, without scripts.
const SANDBOX: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Bytes of a file that is sent in one piece.
const SMALL: u64 = 64 << 10;

/// How a file is to be shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ShowParams {
    /// `attachment`, or `inline`.
    disposition: Option<String>,
    /// `200x200`: the image within that box.
    thumb: Option<String>,
}

/// Answers with a file's bytes.
pub(crate) async fn download(
    caller: Result<Caller, ApiError>,
    State(state): State<AppState>,
    Path((collection, reference)): Path<(String, String)>,
    Query(params): Query<UrlParams>,
    Query(show): Query<ShowParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = reader(&state, caller, &collection, &reference, &params)?;
    let kind = match show.disposition.as_deref() {
        None | Some("" | "attachment") => "attachment",
        Some("inline") => "inline",
        Some(_) => {
            return Err(ApiError::invalid(
                "`disposition` must be attachment or inline.",
            ));
        }
    };
    let size = show
        .thumb
        .as_deref()
        .map(ThumbnailSize::parse)
        .transpose()?;
    let file = state.archive.file(&caller, &collection, &reference).await?;
    let etag = match size {
        None => file.etag(),
        Some(size) => format!("\"{}-{size}\"", file.sha256),
    };
    let public = state.archive.settings_of(&collection).public;
    let fixed = fixed_headers(&file, &etag, kind, public)?;
    let modified = seconds(&file);
    if let Some(status) = condition(&headers, &etag, modified) {
        return Ok((status, fixed).into_response());
    }
    let is_head = method == Method::HEAD;
    if let Some(size) = size {
        return thumbnail(&state.archive, &file, size, fixed, is_head).await;
    }
    let wanted = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let wanted = wanted.filter(|_| range_holds(&headers, &etag, modified));
    // `Range` has a meaning for GET alone (RFC 9110, section 14.2).
    match wanted
        .filter(|_| !is_head)
        .map(|range| asked(range, file.size))
    {
        None | Some(Asked::Whole) => whole(&state.archive, &file, fixed, is_head).await,
        Some(Asked::Nothing) => {
            let size = HeaderValue::try_from(format!("bytes */{}", file.size));
            Err(ApiError::range_not_satisfiable(size.ok()))
        }
        Some(Asked::Ranges(ranges)) => match <[Range<u64>; 1]>::try_from(ranges) {
            Ok([range]) => single(&state.archive, &file, range, fixed).await,
            Err(ranges) => several(&state.archive, &file, ranges, fixed).await,
        },
    }
}

/// Headers of every answer about the file.
fn fixed_headers(
    file: &StoredFile,
    etag: &str,
    kind: &str,
    public: bool,
) -> Result<HeaderMap, ApiError> {
    let text = |text: String| HeaderValue::try_from(text).map_err(ApiError::internal);
    let cache = match public {
        true => "public, no-cache",
        false => "private, no-cache",
    };
    let date = UNIX_EPOCH + Duration::from_secs(seconds(file));
    Ok(HeaderMap::from_iter([
        (header::ETAG, text(etag.to_owned())?),
        (header::LAST_MODIFIED, text(httpdate::fmt_http_date(date))?),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (
            header::CONTENT_DISPOSITION,
            text(content_disposition(kind, &file.name))?,
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(SANDBOX),
        ),
    ]))
}

/// When the file was uploaded, in whole Unix seconds, as headers tell it.
fn seconds(file: &StoredFile) -> u64 {
    u64::try_from(file.uploaded.timestamp_millis() / 1000).unwrap_or(0)
}

/// The status that conditions on the request ask for instead of the file (RFC
/// 9110, section 13.2.2).
fn condition(headers: &HeaderMap, etag: &str, modified: u64) -> Option<StatusCode> {
    if headers.contains_key(header::IF_MATCH) {
        if !lists(headers, header::IF_MATCH, etag, false) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && modified > since
    {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let unchanged = match headers.contains_key(header::IF_NONE_MATCH) {
        true => lists(headers, header::IF_NONE_MATCH, etag, true),
        false => date(headers, header::IF_MODIFIED_SINCE).is_some_and(|since| modified <= since),
    };
    unchanged.then_some(StatusCode::NOT_MODIFIED)
}

/// Whether a list of validators has ours. `weakly`: also as a weak one.
fn lists(headers: &HeaderMap, name: header::HeaderName, etag: &str, weakly: bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| {
            let strong = given.strip_prefix("W/").filter(|_| weakly).unwrap_or(given);
            given == "*" || strong == etag
        })
}

fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let time: SystemTime = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Whether the ranges are of this file (RFC 9110, section 13.1.5).
fn range_holds(headers: &HeaderMap, etag: &str, modified: u64) -> bool {
    match headers.get(header::IF_RANGE).map(HeaderValue::to_str) {
        None => true,
        Some(Ok(given)) if given.starts_with('"') => given == etag,
        Some(_) => date(headers, header::IF_RANGE) == Some(modified),
    }
}

fn media_type(file: &StoredFile) -> HeaderValue {
    // Texts are UTF-8 more often than what browsers take them for otherwise.
    let charset = match file.media_type.starts_with("text/") {
        true => "; charset=utf-8",
        false => "",
    };
    HeaderValue::try_from(format!("{}{charset}", file.media_type))
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

async fn whole(
    archive: &Archive,
    file: &StoredFile,
    mut headers: HeaderMap,
    is_head: bool,
) -> Result<Response, ApiError> {
    headers.insert(header::CONTENT_TYPE, media_type(file));
    headers.insert(header::CONTENT_LENGTH, file.size.into());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let body = match is_head {
        true => Body::empty(),
        false => body(archive.open(file, 0..file.size).await?, file.size).await?,
    };
    Ok((headers, body).into_response())
}

async fn single(
    archive: &Archive,
    file: &StoredFile,
    range: Range<u64>,
    mut headers: HeaderMap,
) -> Result<Response, ApiError> {
    let length = range.end - range.start;
    let content_range = content_range(&range, file.size);
    let content_range = HeaderValue::try_from(content_range).map_err(ApiError::internal)?;
    headers.insert(header::CONTENT_TYPE, media_type(file));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_RANGE, content_range);
    let body = body(archive.open(file, range).await?, length).await?;
    Ok((StatusCode::PARTIAL_CONTENT, headers, body).into_response())
}

/// `multipart/byteranges` (RFC 9110, section 14.6).
async fn several(
    archive: &Archive,
    file: &StoredFile,
    ranges: Vec<Range<u64>>,
    mut headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Nobody can have put it into the file.
    let boundary = new_reference()?;
    let kind = media_type(file);
    let kind = kind.to_str().unwrap_or_default();
    let head = |range: &Range<u64>| {
        Bytes::from(format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
            content_range(range, file.size)
        ))
    };
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let parts: Vec<(Bytes, Range<u64>)> = ranges.into_iter().map(|r| (head(&r), r)).collect();
    let length = parts.iter().fold(end.len() as u64, |sum, (head, range)| {
        sum + head.len() as u64 + (range.end - range.start)
    });
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    let content_type = HeaderValue::try_from(content_type).map_err(ApiError::internal)?;
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, length.into());
    let (archive, file) = (archive.clone(), file.clone());
    // Each is opened when its turn comes.
    let parts = stream::iter(parts).then(move |(head, range)| {
        let (archive, file) = (archive.clone(), file.clone());
        async move {
            let bytes = archive.open(&file, range).await?;
            Ok::<_, coglex_archive::Error>(stream::iter([Ok(head)]).chain(bytes))
        }
    });
    let body = parts.try_flatten().chain(stream::iter([Ok(end)])).boxed();
    Ok((StatusCode::PARTIAL_CONTENT, headers, logged(body)).into_response())
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    )
}

async fn thumbnail(
    archive: &Archive,
    file: &StoredFile,
    size: ThumbnailSize,
    mut headers: HeaderMap,
    is_head: bool,
) -> Result<Response, ApiError> {
    let made = archive.thumbnail(file, size).await?;
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(made.media_type),
    );
    headers.insert(header::CONTENT_LENGTH, made.bytes.len().into());
    let body = match is_head {
        true => Body::empty(),
        false => Body::from(made.bytes),
    };
    Ok((headers, body).into_response())
}

async fn body(mut bytes: ByteStream, length: u64) -> Result<Body, ApiError> {
    if length > SMALL {
        return Ok(logged(bytes));
    }
    // In one piece, which needs no chunks, and whose failure has a status.
    let first = bytes.try_next().await?.unwrap_or_default();
    let mut whole = Vec::new();
    while let Some(more) = bytes.try_next().await? {
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&more);
    }
    Ok(match whole.is_empty() {
        true => Body::from(first),
        false => Body::from(whole),
    })
}

/// A body whose failure ends the connection, and is in the log.
fn logged(bytes: ByteStream) -> Body {
    Body::from_stream(bytes.inspect_err(|error| {
        tracing::error!("a download was cut: {}", error.with_causes());
    }))
}
