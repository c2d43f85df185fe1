//! `/admin/v1/mail`: the outbox, and what letters look like.

use axum::Json;
use axum::extract::State;
use bson::DateTime;
use coglex_mail::Templates;
use coglex_services::jobs::{Job, JobQuery, MAX_LISTED, State as JobState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, Path, Query};
use crate::mail;

/// Letters of one listing, unless it says how many.
const LISTED: u64 = 100;

/// A letter as operators see it: neither to whom nor what, which may be private.
#[derive(Serialize)]
pub(crate) struct View {
    id: String,
    /// The template, or the plugin that wants it sent.
    line: String,
    state: &'static str,
    attempts: u32,
    created: Option<String>,
    /// When it is tried next.
    at: Option<String>,
    finished: Option<String>,
    /// Why the last attempt came to nothing.
    error: Option<Value>,
}

/// What of the outbox is wanted.
#[derive(Deserialize)]
pub(crate) struct Params {
    state: Option<String>,
    before: Option<String>,
    limit: Option<u64>,
}

/// `GET mail/`: the newest first.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
    Query(params): Query<Params>,
) -> Result<Json<Vec<View>>, ApiError> {
    let limit = params.limit.unwrap_or(LISTED);
    if !(1..=MAX_LISTED).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "`limit` must be from 1 to {MAX_LISTED}."
        )));
    }
    let wanted = params.state.as_deref().map(|name| {
        JobState::of_name(name)
            .ok_or_else(|| ApiError::invalid("`state` is none that a letter can be in."))
    });
    let query = JobQuery {
        state: wanted.transpose()?,
        before: params.before,
        limit,
        ..JobQuery::default()
    };
    let (letters, _) = state.services.outbox.jobs().list(query).await?;
    Ok(Json(letters.into_iter().map(view).collect()))
}

/// `POST mail/{id}/retry/`: has a letter sent again that was given up.
pub(crate) async fn retry(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    let letter = state.services.outbox.jobs().retry(&id).await?;
    Ok(Json(view(letter)))
}

/// `DELETE mail/{id}/`: has a letter not sent that waits.
pub(crate) async fn cancel(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    let letter = state.services.outbox.jobs().cancel(&id).await?;
    Ok(Json(view(letter)))
}

/// `GET mail/templates/`: the names of the letters that there are.
pub(crate) async fn templates(
    _key: AdminKey,
    State(state): State<AppState>,
) -> Result<Json<Vec<String>>, ApiError> {
    Ok(Json(read(&state).await?.names()))
}

/// `GET mail/templates/{name}/`: a letter with made-up values. The files are read anew:
/// what is sent stays as it was at the start.
pub(crate) async fn preview(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let templates = read(&state).await?;
    if !templates.names().contains(&name) {
        return Err(ApiError::not_found(
            "There is no mail template of this name.",
        ));
    }
    let letter = templates.preview(&name, None);
    let letter = letter.map_err(|error| broken(error.into()))?;
    Ok(Json(json!({
        "subject": letter.subject,
        "text": letter.text,
        "html": letter.html,
    })))
}

/// Reads the templates as their files are now, aside: files make their reader wait.
async fn read(state: &AppState) -> Result<Templates, ApiError> {
    let state = state.clone();
    tokio::task::spawn_blocking(move || mail::templates(&state.config))
        .await
        .map_err(ApiError::internal)?
        .map_err(broken)
}

/// For operators alone, who have to know the file and the line.
fn broken(error: anyhow::Error) -> ApiError {
    let why = error.chain().last().map(ToString::to_string);
    ApiError::new(
        http::StatusCode::UNPROCESSABLE_ENTITY,
        "template_broken",
        why.unwrap_or_default(),
    )
}

fn view(letter: Job) -> View {
    let text = |time: DateTime| time.try_to_rfc3339_string().ok();
    View {
        id: letter.id,
        line: letter.function,
        state: letter.state.name(),
        attempts: letter.attempts,
        created: text(letter.created),
        at: letter.at.and_then(text),
        finished: letter.finished.and_then(text),
        error: letter
            .error
            .map(|error| json!({ "code": error.code, "message": error.message })),
    }
}
