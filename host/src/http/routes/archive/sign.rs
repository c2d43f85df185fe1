//! `POST sign/<c>`: URLs that read or upload one file for a while, without a key;
//! and who may do so by such a URL, or because the collection is public.

use axum::extract::State;
use axum::response::Response;
use bson::{Bson, Document, doc};
use coglex_archive::{ReadUrl, WriteUrl, new_reference};
use coglex_services::{Caller, Error as ServiceError};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::ROOT;
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path};
use crate::http::routes::json_value;

/// What a signed URL carries.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UrlParams {
    expires: Option<i64>,
    signature: Option<String>,
    /// Of one that uploads.
    reference: Option<String>,
    /// Of one that uploads.
    limit: Option<u64>,
}

/// `POST sign/<c>`: `{"reference": …}` for one that reads, `{"upload": true}` for
/// one that uploads; `expires_in` seconds.
pub(crate) async fn sign(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(mut body): JsonBody,
) -> Result<Response, ApiError> {
    let longest = i64::try_from(state.archive.settings().url_ttl.as_secs()).unwrap_or(i64::MAX);
    let lasting = match number(&mut body, "expires_in")? {
        None => longest.min(3600),
        Some(seconds) if (1..=longest).contains(&seconds) => seconds,
        Some(_) => {
            return Err(ApiError::invalid(format!(
                "`expires_in` must be from 1 to {longest} seconds."
            )));
        }
    };
    let expires = state.archive_urls.now() + lasting;
    let view = match (body.remove("upload"), body.remove("reference")) {
        (None | Some(Bson::Boolean(false)), Some(Bson::String(reference))) => {
            // Who signs must be able to read it.
            state.archive.file(&caller, &collection, &reference).await?;
            let url = ReadUrl {
                collection,
                reference,
                expires,
            };
            let signature = state.archive_urls.sign_read(&url);
            let path = format!("download/{}/{}", encoded(&url.collection), url.reference);
            doc! {
                "url": absolute(&state, &format!("{path}/?expires={expires}&signature={signature}")),
                "expires": expires,
            }
        }
        (Some(Bson::Boolean(true)), None) => {
            // Whoever has the URL acts as who has signed it, and conditions of grants
            // and rules are not in it.
            if !matches!(caller, Caller::ApiKey) {
                return Err(ServiceError::Forbidden(
                    "only the server's API key signs uploads".into(),
                )
                .into());
            }
            let most = state.archive.settings_of(&collection).file_limit;
            let limit = match number(&mut body, "limit")?.map(u64::try_from) {
                None => most,
                Some(Ok(limit)) if limit <= most => limit,
                Some(_) => {
                    return Err(ApiError::invalid(format!(
                        "`limit` must be from 0 to {most} bytes."
                    )));
                }
            };
            let url = WriteUrl {
                collection,
                reference: new_reference()?,
                expires,
                limit,
            };
            let signature = state.archive_urls.sign_write(&url);
            let query = format!(
                "reference={}&limit={limit}&expires={expires}&signature={signature}",
                url.reference
            );
            let path = format!("upload/{}/?{query}", encoded(&url.collection));
            doc! {
                "url": absolute(&state, &path),
                "expires": expires,
                "reference": url.reference,
            }
        }
        _ => {
            return Err(ApiError::invalid(
                "Either `reference` must be a file's, or `upload` must be true.",
            ));
        }
    };
    json_value(&Bson::Document(view))
}

/// As whom a file is read: whoever asks, or the server for a signed URL and what
/// is public.
pub(super) fn reader(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    collection: &str,
    reference: &str,
    params: &UrlParams,
) -> Result<Caller, ApiError> {
    if let Some(signature) = &params.signature {
        let url = ReadUrl {
            collection: collection.to_owned(),
            reference: reference.to_owned(),
            expires: params.expires.unwrap_or(0),
        };
        state.archive_urls.check_read(&url, signature)?;
        return Ok(Caller::ApiKey);
    }
    match state.archive.settings_of(collection).public {
        true => Ok(Caller::ApiKey),
        false => caller,
    }
}

/// As whom a file is uploaded, and within what.
pub(super) fn writer(
    state: &AppState,
    caller: Result<Caller, ApiError>,
    collection: &str,
    params: &UrlParams,
) -> Result<(Caller, Option<WriteUrl>), ApiError> {
    let Some(signature) = &params.signature else {
        return Ok((caller?, None));
    };
    let url = WriteUrl {
        collection: collection.to_owned(),
        reference: params.reference.clone().unwrap_or_default(),
        expires: params.expires.unwrap_or(0),
        limit: params.limit.unwrap_or(0),
    };
    state.archive_urls.check_write(&url, signature)?;
    Ok((Caller::ApiKey, Some(url)))
}

fn number(body: &mut Document, name: &str) -> Result<Option<i64>, ApiError> {
    match body.remove(name) {
        None | Some(Bson::Null) => Ok(None),
        Some(Bson::Int32(number)) => Ok(Some(number.into())),
        Some(Bson::Int64(number)) => Ok(Some(number)),
        Some(_) => Err(ApiError::invalid(format!(
            "`{name}` must be a whole number."
        ))),
    }
}

fn encoded(collection: &str) -> String {
    utf8_percent_encode(collection, NON_ALPHANUMERIC).to_string()
}

/// With the server's public URL where it is known, else from the root.
fn absolute(state: &AppState, path: &str) -> String {
    let server = state.config.server.public_url.trim_end_matches('/');
    format!("{server}{ROOT}/{path}")
}
