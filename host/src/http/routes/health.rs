//! For those who start and watch the server: does it live, can it work.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::app::AppState;
use crate::http::error::ApiError;

/// What both answer.
#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

/// `GET /healthz`: the process answers. Says nothing of the store, so that an
/// orchestrator does not restart the server because a database is away.
pub(crate) async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// `GET /readyz`: requests can be served, which needs the store.
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    state.services.documents.ping().await?;
    Ok(Json(Health { status: "ok" }))
}
