//! `/service/execution/v1/jobs`: functions that are run later, and what became of
//! them. The admin API has the same handlers behind its own key.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use bson::{Bson, DateTime};
use coglex_services::jobs::{
    Job, JobQuery, MAX_ATTEMPTS, MAX_LISTED, NewJob, Source, State as JobState,
};
use coglex_services::{Caller, Error, json};
use http::{HeaderMap, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::execution::{covered, part};
use crate::app::AppState;
use crate::functions;
use crate::http::error::ApiError;
use crate::http::extract::{AdminKey, JsonText, Path, Query};

/// Jobs of one listing, unless it says how many.
const LISTED: u64 = 100;

/// The longest `key`.
const MAX_KEY: usize = 256;

/// What is to be run, and how. Arguments go to the guest as the client wrote them.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order<'a> {
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    kwargs: Option<&'a RawValue>,
    #[serde(borrow)]
    run_at: Option<&'a RawValue>,
    #[serde(borrow)]
    max_attempts: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
}

/// A job as clients see it.
#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    function: &'a str,
    state: &'static str,
    source: &'static str,
    attempts: u32,
    max_attempts: u32,
    created: Date,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Date>,
    #[serde(skip_serializing_if = "is_false")]
    cancelling: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kwargs: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "is_false")]
    result_dropped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView<'a>>,
}

#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
}

/// A date in Extended JSON.
#[derive(Serialize)]
struct Date {
    #[serde(rename = "$date")]
    date: String,
}

/// What of the jobs is wanted.
#[derive(Deserialize)]
pub(crate) struct ListParams {
    state: Option<String>,
    function: Option<String>,
    before: Option<String>,
    limit: Option<u64>,
}

/// `POST jobs/{function}/`: takes a job in.
pub(crate) async fn enqueue(
    caller: Caller,
    State(state): State<AppState>,
    Path(function): Path<String>,
    JsonText(body): JsonText,
) -> Result<Response, ApiError> {
    covered(&caller, &function)?;
    let mut new = order(&body)?.job(&function)?;
    (new.args, new.kwargs) = functions::check(&state, &function, new.args, new.kwargs).await?;
    let job = state.services.jobs.enqueue(new).await?;
    Ok(Json(View::of(&job)).into_response())
}

/// Who may see and end jobs, and of which functions.
pub(crate) trait Supervises {
    /// Whether jobs of this function; `*`: of all.
    fn supervises(&self, function: &str) -> bool;
}

impl Supervises for AdminKey {
    fn supervises(&self, _function: &str) -> bool {
        true
    }
}

impl Supervises for Caller {
    fn supervises(&self, function: &str) -> bool {
        self.allows_function(function)
    }
}

/// The job, if it is one that this key may see. Another is as good as none.
async fn seen<K: Supervises>(state: &AppState, key: &K, id: &str) -> Result<Job, ApiError> {
    let job = state.services.jobs.get(id).await?;
    match key.supervises(&job.function) {
        true => Ok(job),
        false => Err(Error::NotFound("there is no job of this id".into()).into()),
    }
}

/// `GET jobs/`: the newest first, without arguments and results. With a key that does
/// not cover all functions, those of one that it does.
pub(crate) async fn list<K: Supervises>(
    key: K,
    State(state): State<AppState>,
    OriginalUri(uri): OriginalUri,
    Query(params): Query<ListParams>,
) -> Result<Response, ApiError> {
    let limit = params.limit.unwrap_or(LISTED);
    if !(1..=MAX_LISTED).contains(&limit) {
        return Err(ApiError::invalid(format!(
            "`limit` must be from 1 to {MAX_LISTED}."
        )));
    }
    if !key.supervises(params.function.as_deref().unwrap_or("*")) {
        return Err(ApiError::from(Error::Forbidden(
            "this API key covers the jobs of some functions: say which with `function`".into(),
        )));
    }
    let wanted = params.state.as_deref().filter(|name| !name.is_empty());
    let query = JobQuery {
        state: wanted.map(state_of).transpose()?,
        function: params.function.clone(),
        before: params.before.clone(),
        limit,
    };
    let (jobs, more) = state.services.jobs.list(query).await?;
    let mut headers = HeaderMap::new();
    if let Some(last) = jobs.last().filter(|_| more) {
        let link = next_link(uri.path(), &params, &last.id, limit).parse();
        headers.extend(link.ok().map(|link| (header::LINK, link)));
    }
    let views: Vec<_> = jobs.iter().map(View::of).collect();
    Ok((headers, Json(views)).into_response())
}

/// `GET jobs/{id}/`.
pub(crate) async fn show<K: Supervises>(
    key: K,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let job = seen(&state, &key, &id).await?;
    Ok(Json(View::of(&job)).into_response())
}

/// `POST jobs/{id}/cancel/` and `DELETE jobs/{id}/`.
pub(crate) async fn cancel<K: Supervises>(
    key: K,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    seen(&state, &key, &id).await?;
    let job = state.services.jobs.cancel(&id).await?;
    Ok(Json(View::of(&job)).into_response())
}

/// `POST jobs/{id}/retry/`.
pub(crate) async fn retry<K: Supervises>(
    key: K,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    seen(&state, &key, &id).await?;
    let job = state.services.jobs.retry(&id).await?;
    Ok(Json(View::of(&job)).into_response())
}

fn order(body: &[u8]) -> Result<Order<'_>, ApiError> {
    let not_an_object = || ApiError::bad_request("invalid_json", "The body is not a JSON object.");
    // serde would take a list for an object, its items in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(not_an_object());
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::invalid(
            "The body has `args`, `kwargs`, `run_at`, `max_attempts` and `key`, each once and no other member.",
        ),
        _ => not_an_object(),
    })
}

impl Order<'_> {
    fn job(&self, function: &str) -> Result<NewJob, ApiError> {
        Ok(NewJob {
            args: part(self.args, "args", '[', "an array")?,
            kwargs: part(self.kwargs, "kwargs", '{', "an object")?,
            run_at: self.run_at()?,
            max_attempts: self.max_attempts()?,
            unique: self.key(function)?,
            ..NewJob::new(function, Source::Api)
        })
    }

    /// `{"$date": …}`, or its RFC 3339 alone.
    fn run_at(&self) -> Result<Option<DateTime>, ApiError> {
        let time = match value(self.run_at) {
            None => return Ok(None),
            Some(Bson::DateTime(time)) => Some(time),
            Some(Bson::String(text)) => DateTime::parse_rfc3339_str(&text).ok(),
            Some(_) => None,
        };
        let time = time.ok_or_else(|| {
            ApiError::invalid(
                "`run_at` must be a time such as \"2030-01-31T12:00:00Z\", or a `$date` of it.",
            )
        });
        time.map(Some)
    }

    fn max_attempts(&self) -> Result<Option<u32>, ApiError> {
        let number = match value(self.max_attempts) {
            None => return Ok(None),
            Some(Bson::Int32(number)) => u32::try_from(number).ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| (1..=MAX_ATTEMPTS).contains(number));
        let number = number.ok_or_else(|| {
            ApiError::invalid(format!(
                "`max_attempts` must be a number from 1 to {MAX_ATTEMPTS}."
            ))
        });
        number.map(Some)
    }

    fn key(&self, function: &str) -> Result<Option<Vec<String>>, ApiError> {
        match value(self.key) {
            None => Ok(None),
            Some(Bson::String(key)) if (1..=MAX_KEY).contains(&key.len()) => {
                Ok(Some(vec!["api".to_owned(), function.to_owned(), key]))
            }
            Some(_) => Err(ApiError::invalid(format!(
                "`key` must be a text of 1 to {MAX_KEY} bytes."
            ))),
        }
    }
}

/// The value of a member; nothing for one that is absent or null, and something
/// that no member can be for what is no Extended JSON.
fn value(raw: Option<&RawValue>) -> Option<Bson> {
    let text = raw?.get();
    match json::parse_value(text.as_bytes(), 4) {
        Ok(Bson::Null) => None,
        Ok(value) => Some(value),
        Err(_) => Some(Bson::Undefined),
    }
}

fn state_of(name: &str) -> Result<JobState, ApiError> {
    JobState::of_name(name).ok_or_else(|| {
        let names = JobState::ALL.map(JobState::name).join(", ");
        ApiError::invalid(format!("`state` must be one of {names}."))
    })
}

fn next_link(path: &str, params: &ListParams, last: &str, limit: u64) -> String {
    let mut link = format!("<{path}?limit={limit}&before={last}");
    for (name, value) in [("state", &params.state), ("function", &params.function)] {
        if let Some(value) = value {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            link.push_str(&format!("&{name}={value}"));
        }
    }
    link + ">; rel=\"next\""
}

impl<'a> View<'a> {
    fn of(job: &'a Job) -> Self {
        // What clients and guests wrote was checked when it came in; listings have
        // none of it.
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        let waits = job.state == JobState::Waiting;
        Self {
            id: &job.id,
            function: &job.function,
            state: job.state.name(),
            source: job.source.name(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            created: date(job.created),
            run_at: job.at.filter(|_| waits).map(date),
            started: job.started.map(date),
            finished: job.finished.map(date),
            expires: job.expires.map(date),
            cancelling: job.cancelling,
            args: raw(&job.args),
            kwargs: raw(&job.kwargs),
            result: job.result.as_deref().and_then(raw),
            result_dropped: job.result_dropped,
            error: job.error.as_ref().map(|error| ErrorView {
                code: &error.code,
                message: &error.message,
            }),
        }
    }
}

fn date(time: DateTime) -> Date {
    Date {
        date: time.try_to_rfc3339_string().unwrap_or_default(),
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}
