//! `/admin/v1/plugins`: what there is, what it may do, and how an operator
//! changes it while requests are served.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use coglex_runtime::MAX_WASM;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, Path, Query, read_body};
use crate::plugins::logs::LINES;
use crate::plugins::status::{Status, Summary};
use crate::plugins::{ChangeError, DeploymentError};
use crate::shutdown;

/// How long a component may take to arrive: slow lines are no attack here, since
/// who sends it has the admin key.
const UPLOAD_TIME: Duration = Duration::from_secs(50);

/// A comment this often tells proxies and clients that a log is still followed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET plugins/`: all of them, by name.
pub(crate) async fn list(_key: AdminKey, State(state): State<AppState>) -> Json<Vec<Summary>> {
    Json(state.plugins.list())
}

/// `GET plugins/{name}/`: everything about one.
pub(crate) async fn show(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Status>, ApiError> {
    status(&state, &name).map(Json)
}

/// `PUT plugins/{name}/` with a component as the body: checks it, and lets it
/// serve if it can.
pub(crate) async fn deploy(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Status>, ApiError> {
    let wasm = read_body(request.into_body(), MAX_WASM, UPLOAD_TIME).await?;
    change(state, name, async move |state: AppState, name: String| {
        state.plugins.deploy(&name, wasm).await
    })
    .await
}

/// What a rollback may say.
#[derive(Deserialize)]
pub(crate) struct RollbackParams {
    /// The start of the digest of the version to go to.
    version: Option<String>,
}

/// `POST plugins/{name}/rollback/`: goes back one version, or to `?version=`.
pub(crate) async fn roll_back(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(params): Query<RollbackParams>,
) -> Result<Json<Status>, ApiError> {
    change(state, name, async move |state: AppState, name: String| {
        let to = params.version.as_deref().filter(|start| !start.is_empty());
        state.plugins.roll_back(&name, to).await.map(drop)
    })
    .await
}

/// `POST plugins/{name}/enable/`.
pub(crate) async fn enable(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Status>, ApiError> {
    change(state, name, async |state: AppState, name: String| {
        state.plugins.set_enabled(&name, true).await
    })
    .await
}

/// `POST plugins/{name}/disable/`.
pub(crate) async fn disable(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Status>, ApiError> {
    change(state, name, async |state: AppState, name: String| {
        state.plugins.set_enabled(&name, false).await
    })
    .await
}

/// `DELETE plugins/{name}/`: answers 1, as deletes do everywhere.
pub(crate) async fn remove(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<u64>, ApiError> {
    to_its_end(async move { state.plugins.remove(&name).await }).await?;
    Ok(Json(1))
}

/// What of a log is wanted.
#[derive(Deserialize)]
pub(crate) struct LogParams {
    /// The most lines from before now.
    lines: Option<usize>,
    /// Whether to go on with those that come.
    #[serde(default)]
    follow: bool,
}

/// `GET plugins/{name}/logs/`: the last lines as a list; with `?follow=true` as
/// server-sent events, each line as one, and those that come as well.
pub(crate) async fn logs(
    _key: AdminKey,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(params): Query<LogParams>,
) -> Result<Response, ApiError> {
    let logs = &state.telemetry.plugins;
    let count = params.lines.unwrap_or(100).min(LINES);
    // A plugin that is gone may have left lines that say why.
    if state.plugins.status(&name).is_none() && logs.last(&name, 1).is_empty() {
        return Err(unknown());
    }
    if !params.follow {
        let lines = logs.last(&name, count);
        let lines: Vec<_> = lines.iter().map(|line| &**line).collect();
        return Ok(Json(lines).into_response());
    }
    let (last, coming) = logs.follow(&name, count);
    let coming = stream::unfold(coming, async |mut coming| match coming.recv().await {
        Ok(line) => Some((event("line", &*line), coming)),
        Err(RecvError::Lagged(missed)) => Some((event("missed", &missed), coming)),
        Err(RecvError::Closed) => None,
    });
    let last = stream::iter(last).map(|line| event("line", &*line));
    // A server that is to end does not wait for those who follow.
    let lines = last.chain(coming).take_until(shutdown::requested());
    let lines = lines.map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(lines).keep_alive(keep_alive).into_response())
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    // JSON text has no line breaks, so it is one `data:` line.
    event.data(serde_json::to_string(data).unwrap_or_default())
}

/// Makes a change and answers with what the plugin is then.
async fn change<F>(
    state: AppState,
    name: String,
    change: impl FnOnce(AppState, String) -> F,
) -> Result<Json<Status>, ApiError>
where
    F: Future<Output = Result<(), ChangeError>> + Send + 'static,
{
    to_its_end(change(state.clone(), name.clone())).await?;
    status(&state, &name).map(Json)
}

/// Runs a change to its end even when its client goes away or the request's time
/// is over: half of one must not happen.
async fn to_its_end(
    change: impl Future<Output = Result<(), ChangeError>> + Send + 'static,
) -> Result<(), ApiError> {
    match tokio::spawn(change).await {
        Ok(done) => Ok(done?),
        Err(panicked) => Err(ApiError::internal(panicked)),
    }
}

fn status(state: &AppState, name: &str) -> Result<Status, ApiError> {
    state.plugins.status(name).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ChangeError::Unknown.into()
}

/// The statuses that a failed change has.
impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Name => Self::bad_request(
                "invalid_plugin_name",
                "A plugin's name is lower-case letters, digits, '-' and '_', at most 64 of them.",
            ),
            ChangeError::Unknown => Self::not_found("There is no plugin of this name."),
            ChangeError::Refused(why) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "plugin_refused",
                format!("The component cannot serve: {why}"),
            ),
            ChangeError::NoVersion(why) => Self::new(StatusCode::CONFLICT, "no_such_version", why),
            ChangeError::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The server is too busy to load a plugin now.",
            )
            .with_retry_after(Duration::from_secs(1)),
            ChangeError::Deployments(DeploymentError::Store(error)) => {
                coglex_services::Error::from(error).into()
            }
            ChangeError::Deployments(DeploymentError::Contended(_)) => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "The plugin is being changed by somebody else.",
            ),
            ChangeError::Deployments(error @ DeploymentError::Damaged(_)) => Self::internal(error),
            ChangeError::Folder(error) => Self::internal(error),
        }
    }
}
