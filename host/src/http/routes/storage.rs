//! `/service/storage/v1`: documents. The rules are [`Documents`]'; what is here
//! is how a query string and a body say what to do, and how a result is told.
//!
//! [`Documents`]: coglex_services::Documents

pub(crate) mod indexes;
pub(super) mod page;
pub(super) mod params;
mod query;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use bson::{Bson, Document, doc};
use coglex_services::storage::{Find, Update};
use coglex_services::{Caller, json};
use http::{HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::page::Page;
pub(super) use self::params::ids;
use self::params::{FindParams, WriteParams, documents};
pub(crate) use self::query::{aggregate, distinct};
use super::{id_value, json_text, json_value};
use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Path, Query};

pub(super) const X_TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");

/// `GET /service/storage/v1`: the names of the collections.
pub(crate) async fn collections(
    caller: Caller,
    State(state): State<AppState>,
) -> Result<Json<Vec<String>>, ApiError> {
    Ok(Json(state.services.documents.collections(&caller).await?))
}

/// `GET <c>`: one match is a document, several are a list, none is 404; always a
/// list with `many`.
pub(crate) async fn find(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    OriginalUri(uri): OriginalUri,
    Query(params): Query<FindParams>,
) -> Result<Response, ApiError> {
    let storage = &state.config.storage;
    let asked = params.read(storage)?;
    let total = match asked.count {
        true => Some(
            state
                .services
                .documents
                .count(&caller, &collection, asked.filter.clone())
                .await?,
        ),
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
    let found = state
        .services
        .documents
        .find(&caller, &collection, find)
        .await?;
    let page = Page::read(found, asked.limit, storage.result_limit).await?;
    if page.more && !asked.paged {
        return Err(ApiError::bad_request(
            "too_many_matches",
            format!(
                "More than {} documents match; read them in pages with `limit` and `skip`.",
                asked.limit
            ),
        ));
    }
    let next = page
        .more
        .then(|| params::next_link(&uri, asked.skip + asked.limit, asked.limit))
        .flatten();
    let mut response = match (asked.many, page.len) {
        (false, 0) => return Err(no_match()),
        (false, 1) => json_text(page.into_first()),
        _ => json_text(page.into_list()),
    };
    let headers = response.headers_mut();
    headers.extend(total.map(|total| (X_TOTAL_COUNT, HeaderValue::from(total))));
    headers.extend(next.map(|next| (header::LINK, next)));
    Ok(response)
}

/// `GET <c>/<id>`: the document. The id `count` stands for the number of
/// documents that match `query`; a document with this id is found by a query.
pub(crate) async fn get(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
    Query(params): Query<FindParams>,
) -> Result<Response, ApiError> {
    let depth = state.config.storage.depth_limit;
    let documents = &state.services.documents;
    if id == "count" {
        let filter = params.filter(depth)?;
        return Ok(Json(documents.count(&caller, &collection, filter).await?).into_response());
    }
    let projection = params.projection(depth)?;
    for id in ids(&id) {
        if let Some(document) = documents
            .get(&caller, &collection, id, projection.clone())
            .await?
        {
            let mut text = Vec::with_capacity(document.as_bytes().len() * 2);
            json::write_document(&document, &mut text)?;
            return Ok(json_text(text));
        }
    }
    Err(no_match())
}

/// `POST <c>`: inserts one document, or a list of them all or nothing.
pub(crate) async fn insert(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let (documents, is_list) = documents(body)?;
    let ids = state
        .services
        .documents
        .insert(&caller, &collection, documents)
        .await?;
    let mut ids = ids.into_iter().map(id_value);
    if is_list {
        return json_value(&Bson::Array(ids.collect()));
    }
    json_value(&ids.next().unwrap_or(Bson::Null))
}

/// `PATCH <c>/<id>`: changes one document; answers how many changed.
pub(crate) async fn update_one(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
    Query(params): Query<WriteParams>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let asked = params::update(body)?;
    let upsert = params.upsert()?;
    let mut response = Err(no_match());
    for id in ids(&id) {
        let by_id = Update {
            filter: doc! { "_id": id },
            ..asked.clone()
        };
        response = update(&state, &caller, &collection, by_id).await;
        if !is_no_match(&response) {
            return response;
        }
    }
    // What an upsert makes has the kind of id that the text looks like.
    match ids(&id).into_iter().next().filter(|_| upsert) {
        Some(id) => {
            let by_id = Update {
                filter: doc! { "_id": id },
                upsert,
                ..asked
            };
            update(&state, &caller, &collection, by_id).await
        }
        None => response,
    }
}

fn is_no_match(response: &Result<Response, ApiError>) -> bool {
    response
        .as_ref()
        .is_err_and(|error| error.status() == StatusCode::NOT_FOUND)
}

/// `PATCH <c>?query=`: changes every match; answers how many changed.
pub(crate) async fn update_many(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    Query(params): Query<WriteParams>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let asked = Update {
        filter: params.filter(state.config.storage.depth_limit)?,
        many: true,
        upsert: params.upsert()?,
        ..params::update(body)?
    };
    update(&state, &caller, &collection, asked).await
}

/// `DELETE <c>/<id>`: answers 1.
pub(crate) async fn delete_one(
    caller: Caller,
    State(state): State<AppState>,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let mut response = Err(no_match());
    for id in ids(&id) {
        response = delete(&state, &caller, &collection, doc! { "_id": id }, false).await;
        if !is_no_match(&response) {
            break;
        }
    }
    response
}

/// `DELETE <c>?query=`: deletes every match; answers how many.
pub(crate) async fn delete_many(
    caller: Caller,
    State(state): State<AppState>,
    Path(collection): Path<String>,
    Query(params): Query<WriteParams>,
) -> Result<Response, ApiError> {
    let filter = params.filter(state.config.storage.depth_limit)?;
    delete(&state, &caller, &collection, filter, true).await
}

async fn update(
    state: &AppState,
    caller: &Caller,
    collection: &str,
    asked: Update,
) -> Result<Response, ApiError> {
    let outcome = state
        .services
        .documents
        .apply(caller, collection, asked)
        .await?;
    let Some(id) = outcome.upserted_id else {
        return match outcome.matched {
            0 => Err(no_match()),
            _ => Ok(Json(outcome.modified).into_response()),
        };
    };
    // A document that was made counts as changed, and says where it is.
    let mut response = Json(1).into_response();
    if let Bson::String(id) = id_value(id) {
        let id = utf8_percent_encode(&id, NON_ALPHANUMERIC);
        let collection = utf8_percent_encode(collection, NON_ALPHANUMERIC);
        let location = HeaderValue::try_from(format!("/service/storage/v1/{collection}/{id}/"));
        response
            .headers_mut()
            .extend(location.ok().map(|location| (header::LOCATION, location)));
    }
    Ok(response)
}

async fn delete(
    state: &AppState,
    caller: &Caller,
    collection: &str,
    filter: Document,
    many: bool,
) -> Result<Response, ApiError> {
    match state
        .services
        .documents
        .delete(caller, collection, filter, many)
        .await?
    {
        0 => Err(no_match()),
        deleted => Ok(Json(deleted).into_response()),
    }
}

fn no_match() -> ApiError {
    ApiError::not_found("No document matches.")
}
