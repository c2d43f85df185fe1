//! The bare driver behind plain axum: no key, no rules, no limits, no request id.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mongodb::options::{ClientOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection, Database};
use serde_json::Value;

/// Rows of a page.
const PAGE: i64 = 20;

type Answer = Result<Json<Value>, StatusCode>;

/// Reads and writes with the concerns that the server uses.
pub(crate) async fn routes(uri: &str) -> mongodb::error::Result<Router> {
    let mut options = ClientOptions::parse(uri).await?;
    options.write_concern = Some(WriteConcern::majority());
    options.read_concern = Some(ReadConcern::majority());
    let database = Client::with_options(options)?.database("bench");
    Ok(Router::new()
        .route("/mongodb/{collection}", get(list).post(insert))
        .route("/mongodb/{collection}/{id}", get(one))
        .with_state(database))
}

fn collection(database: &Database, name: &str) -> Collection<Document> {
    database.collection(name)
}

fn failed(_: mongodb::error::Error) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

async fn one(State(database): State<Database>, Path((name, id)): Path<(String, String)>) -> Answer {
    let rows = collection(&database, &name);
    let found = rows.find_one(doc! { "_id": id }).await.map_err(failed)?;
    let found = found.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Bson::Document(found).into_relaxed_extjson()))
}

async fn list(State(database): State<Database>, Path(name): Path<String>) -> Answer {
    let rows = collection(&database, &name);
    let found = rows.find(doc! {}).limit(PAGE).await.map_err(failed)?;
    let found: Vec<Document> = found.try_collect().await.map_err(failed)?;
    let page: Vec<Value> = found
        .into_iter()
        .map(|document| Bson::Document(document).into_relaxed_extjson())
        .collect();
    Ok(Json(Value::Array(page)))
}

async fn insert(
    State(database): State<Database>,
    Path(name): Path<String>,
    Json(document): Json<Value>,
) -> Answer {
    let Ok(Bson::Document(document)) = Bson::try_from(document) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let rows = collection(&database, &name);
    let inserted = rows.insert_one(document).await.map_err(failed)?;
    Ok(Json(inserted.inserted_id.into_relaxed_extjson()))
}
