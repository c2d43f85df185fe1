//! `/service/archive/v1`: files. The rules are [`Archive`]'s; what is here is how a
//! request's body becomes an upload, and a file a response.
//!
//! [`Archive`]: coglex_archive::Archive

mod body;
mod download;
mod error;
mod multipart;
mod range;
mod sign;
mod tus;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Response};
use bson::Bson;
use coglex_services::Caller;
use coglex_services::caller::Credentials;
use coglex_services::storage::Find;
use http::{Method, Uri, header};

pub(crate) use self::download::download;
pub(crate) use self::multipart::upload;
pub(crate) use self::sign::sign;
pub(crate) use self::tus::{EXPOSED, append, create, discard, options, progress};
use super::json_text;
use super::storage::X_TOTAL_COUNT;
use super::storage::page::Page;
use super::storage::params::{FindParams, next_link};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query};

/// Where the routes begin.
const ROOT: &str = "/service/archive/v1";

/// Whether the request sends a file: those take as long as their bytes do, within
/// `archive.upload_timeout`.
pub(crate) fn is_upload(method: &Method, uri: &Uri) -> bool {
    if *method != Method::POST && *method != Method::PATCH {
        return false;
    }
    let inside = uri.path().strip_prefix(ROOT);
    inside.is_some_and(|path| path.starts_with("/upload/") || path.starts_with("/tus/"))
}

/// `DELETE delete/<c>/<ref>`: deletes a file, and no other document.
pub(crate) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, reference)): Path<(String, String)>,
) -> Result<Json<bool>, ApiError> {
    state
        .archive
        .delete(&caller, &collection, &reference)
        .await?;
    Ok(Json(true))
}

/// `GET <c>`: the documents of the collection's files, always a list; in the order
/// of the store unless `sort` says another.
pub(crate) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(params): Query<FindParams>,
) -> Result<Response, ApiError> {
    let storage = &state.config.storage;
    let asked = params.read(storage)?;
    let archive = &state.archive;
    let total = match asked.count {
        true => {
            let filter = asked.filter.clone();
            Some(archive.count(&caller, &collection, filter).await?)
        }
        false => None,
    };
    // One more than is shown tells whether there are more.
    let find = Find {
        filter: asked.filter,
        projection: asked.projection,
        sort: asked.sort,
        skip: asked.skip,
        limit: Some(asked.limit + 1),
        max_time: Some(state.config.server.request_timeout),
    };
    let found = archive.list(&caller, &collection, find).await?;
    let page = Page::read(found, asked.limit, storage.result_limit).await?;
    let next = page
        .more
        .then(|| next_link(&uri, asked.skip + asked.limit, asked.limit))
        .flatten();
    let mut response = json_text(page.into_list());
    let headers = response.headers_mut();
    headers.extend(total.map(|total| (X_TOTAL_COUNT, total.into())));
    headers.extend(next.map(|next| (header::LINK, next)));
    Ok(response.into_response())
}

/// Who a new file belongs to: the user who uploads it, or, where the collection's
/// files have owners, the one of their realm who is signed in, beside the key or by
/// themselves. A user of another realm may have the same id, and is none of them.
async fn owner(
    state: &AppState,
    caller: &Caller,
    collection: &str,
    credentials: &Credentials,
) -> Result<Option<Bson>, ApiError> {
    let realm = &state.archive.settings_of(collection).owners;
    if let Caller::User(user) = caller
        && realm.as_ref().is_none_or(|realm| user.user.realm == *realm)
    {
        return Ok(Some(user.user.id.clone()));
    }
    let Some(realm) = realm else {
        return Ok(None);
    };
    let user = state.services.accounts.session_of(realm, credentials);
    match user.await? {
        Some(user) => Ok(Some(user.id)),
        None => Err(ApiError::session_required_of(realm, credentials)),
    }
}
