//! Functions that are run later, as jobs: kept by the server, run at least once, tried
//! again when they come to nothing.
//!
//! A plugin enqueues those that it was granted, as it calls them; it asks for them in
//! its `coglex.toml`:
//!
//! ```toml
//! [grants]
//! functions = ["send_invoice"]
//! ```
//!
//! A job runs for nobody: with the grants and the budget of the function's plugin, not
//! for the client that is served now. Its [`invocation_id`](crate::execution::invocation_id)
//! is the job's id in every attempt.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::execution::jobs as wit;
use crate::date_time::DateTime;
use crate::error::{Error, Result};
use crate::execution::{args_json, result_of};

/// Has a function run as soon as there is time, with positional arguments, a list or
/// tuple. Answers with the job's id; the job is kept by then.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let id = jobs::enqueue("send_invoice", (1234,))?;
/// # Ok(()) }
/// ```
pub fn enqueue(function: &str, args: impl Serialize) -> Result<String> {
    order(function).args(args).enqueue()
}

/// A job to be enqueued, for details about it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let id = jobs::order("send_invoice")
///     .args((1234,))
///     .kwargs(json!({"copy": true}))
///     .after(Duration::from_secs(3600))
///     .key("invoice 1234")
///     .enqueue()?;
/// # Ok(()) }
/// ```
pub fn order(function: &str) -> Order {
    Order {
        function: function.to_owned(),
        args: Ok("[]".to_owned()),
        kwargs: Ok("{}".to_owned()),
        options: wit::Options {
            run_at: None,
            max_attempts: None,
            key: None,
        },
    }
}

/// A job that is not enqueued yet; see [`order`].
#[must_use = "nothing is enqueued before `enqueue`"]
#[derive(Debug)]
pub struct Order {
    function: String,
    args: Result<String>,
    kwargs: Result<String>,
    options: wit::Options,
}

impl Order {
    /// Positional arguments, a list or tuple.
    pub fn args(mut self, args: impl Serialize) -> Self {
        self.args = args_json(args);
        self
    }

    /// Named arguments.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        self.kwargs = serde_json::to_string(&kwargs).map_err(Error::from);
        self
    }

    /// Not before this time.
    pub fn at(mut self, time: DateTime) -> Self {
        // What is past is due at once.
        self.options.run_at = Some(u64::try_from(time.millis()).unwrap_or(0));
        self
    }

    /// Not before so much time has gone by.
    pub fn after(self, wait: Duration) -> Self {
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let now = DateTime::now().millis();
        self.at(DateTime::from_millis(now.saturating_add(wait)))
    }

    /// How often it is tried, from 1 to 100; otherwise what the operator says.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = Some(attempts);
        self
    }

    /// 1 to 256 bytes. While the server keeps a job of this plugin's with the same
    /// function and key, it is the same job, and not enqueued again.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.options.key = Some(key.into());
        self
    }

    /// Enqueues it; answers with its id.
    pub fn enqueue(self) -> Result<String> {
        let (args, kwargs) = (self.args?, self.kwargs?);
        Ok(wit::enqueue(&self.function, &args, &kwargs, &self.options)?)
    }
}

/// How a job fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is to be run.
    Waiting,
    /// A server runs it.
    Running,
    /// Its function has answered.
    Succeeded,
    /// Its function has answered with a failure of its own.
    Failed,
    /// It was tried as often as it may, and came to no end.
    Dead,
    /// Somebody has cancelled it.
    Cancelled,
}

/// A job that this plugin has enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// 32 hex digits.
    pub id: String,
    /// The function's name.
    pub function: String,
    /// How it fares.
    pub state: State,
    /// Attempts that were begun.
    pub attempts: u32,
    /// Why the last attempt came to nothing: a stable code, and a sentence.
    pub failure: Option<(String, String)>,
    result: Option<String>,
}

impl Job {
    /// What the function has answered; nothing before it has, and for a result that was
    /// too large for the server to keep.
    pub fn result<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let read = |json: &String| result_of(&self.function, json);
        self.result.as_ref().map(read).transpose()
    }
}

/// A job that this plugin has enqueued; nothing for others, and for one that the server
/// has forgotten.
pub fn get(id: &str) -> Result<Option<Job>> {
    match wit::get(id) {
        Ok(job) => Ok(Some(job.into())),
        Err(wit::Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Cancels a job that this plugin has enqueued: one that waits at once, one that runs
/// within a second or so. [`Error::Conflict`] for one that is over.
pub fn cancel(id: &str) -> Result<()> {
    Ok(wit::cancel(id)?)
}

impl From<wit::Job> for Job {
    fn from(job: wit::Job) -> Self {
        Self {
            id: job.id,
            function: job.function,
            state: match job.state {
                wit::State::Waiting => State::Waiting,
                wit::State::Running => State::Running,
                wit::State::Succeeded => State::Succeeded,
                wit::State::Failed => State::Failed,
                wit::State::Dead => State::Dead,
                wit::State::Cancelled => State::Cancelled,
            },
            attempts: job.attempts,
            failure: job.failure.map(|failure| (failure.code, failure.message)),
            result: job.result,
        }
    }
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::AccessDenied(text) => Self::AccessDenied(text),
            wit::Error::NotFound(text) | wit::Error::Invalid(text) => Self::Invalid(text),
            wit::Error::TooLarge(text) => Self::TooLarge(text),
            wit::Error::Conflict(text) => Self::Conflict(text),
            wit::Error::Overloaded | wit::Error::Unavailable => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_what_was_said_of_it() {
        let order = order("f")
            .args((1, "a"))
            .kwargs(serde_json::json!({"b": 2}))
            .at(DateTime::from_millis(5))
            .max_attempts(3)
            .key("k");
        assert_eq!(order.args.unwrap(), r#"[1,"a"]"#);
        assert_eq!(order.kwargs.unwrap(), r#"{"b":2}"#);
        assert_eq!(order.options.run_at, Some(5));
        assert_eq!(order.options.max_attempts, Some(3));
        assert_eq!(order.options.key.as_deref(), Some("k"));
        let past = super::order("f").args(()).at(DateTime::from_millis(-5));
        assert_eq!(
            (past.args.unwrap().as_str(), past.options.run_at),
            ("[]", Some(0))
        );
        let now = u64::try_from(DateTime::now().millis()).unwrap();
        let later = super::order("f").after(Duration::from_secs(60)).options;
        assert!(later.run_at.unwrap() >= now + 60_000);
    }
}
