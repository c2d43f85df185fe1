//! `/admin/v1/schedules`: what plugins have run by the clock.

use axum::Json;
use axum::extract::State;
use bson::DateTime;
use coglex_services::schedule::Cron;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::AdminKey;
use crate::jobs::scheduler::schedules;

/// A schedule as operators see it.
#[derive(Serialize)]
pub(crate) struct View {
    plugin: String,
    function: String,
    /// In UTC.
    cron: String,
    args: Option<Box<RawValue>>,
    kwargs: Option<Box<RawValue>>,
    /// The time of the last run that was made, or since when it is followed; RFC
    /// 3339. Nothing for one that no host has followed yet.
    last: Option<String>,
    /// When it is due next, RFC 3339.
    next: Option<String>,
}

/// `GET schedules/`: those of the plugins that serve on this host.
pub(crate) async fn list(
    _key: AdminKey,
    State(state): State<AppState>,
) -> Result<Json<Vec<View>>, ApiError> {
    let generation = state.plugins.current();
    let mut views = Vec::new();
    for schedule in schedules(&generation) {
        let last = state.services.jobs.known_run(&schedule).await?;
        let next = Cron::parse(&schedule.cron)
            .ok()
            .and_then(|cron| cron.next(DateTime::now()));
        views.push(View {
            last: last.and_then(text),
            next: next.and_then(text),
            args: RawValue::from_string(schedule.args).ok(),
            kwargs: RawValue::from_string(schedule.kwargs).ok(),
            plugin: schedule.plugin,
            function: schedule.function,
            cron: schedule.cron,
        });
    }
    Ok(Json(views))
}

fn text(time: DateTime) -> Option<String> {
    time.try_to_rfc3339_string().ok()
}
