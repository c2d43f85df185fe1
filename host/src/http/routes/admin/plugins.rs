//! `/admin/v1/plugins`: which plugins there are and what they may do.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::app::AppState;
use crate::http::extract::AdminKey;

/// One line of the list.
#[derive(Serialize)]
pub(crate) struct Line {
    name: String,
    digest: String,
}

/// `GET plugins/`: all of them, by name.
pub(crate) async fn list(_key: AdminKey, State(state): State<AppState>) -> Json<Vec<Line>> {
    let generation = state.plugins.current();
    let lines = generation.plugins().map(|plugin| Line {
        name: plugin.name().to_owned(),
        digest: plugin.digest().to_owned(),
    });
    Json(lines.collect())
}
