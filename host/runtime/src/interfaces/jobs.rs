//! `coglex:execution/jobs`: functions that are run later, for guests. What a guest
//! enqueues bears its plugin's name, and it sees no other jobs.

use bson::DateTime;
use coglex_services::jobs::{Job, MAX_ARGUMENTS, NewJob, Source, State as JobState};
use coglex_services::{Caller, Error as ServiceError};

use crate::bindings::execution::jobs::{self as wit, Error, Failure, Host, Options, State};
use crate::error::CallError;
use crate::nested::is_json;
use crate::state::InstanceState;

/// The longest key of a job.
const MAX_KEY: usize = 256;

impl Host for InstanceState {
    async fn enqueue(
        &mut self,
        function: String,
        args: String,
        kwargs: String,
        options: Options,
    ) -> wasmtime::Result<Result<String, Error>> {
        let key = options.key.as_ref().map_or(0, String::len);
        self.charge(function.len() + args.len() + kwargs.len() + key)?;
        let granted = match &self.shared.caller {
            Caller::Plugin(plugin) => plugin.grants.allows_function(&function),
            _ => false,
        };
        if !granted {
            return Ok(Err(Error::AccessDenied(format!(
                "the plugin `{}` was not granted the function `{}`",
                self.shared.name,
                function.get(..64).unwrap_or(&function)
            ))));
        }
        Ok(self.take_in(function, args, kwargs, options).await)
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Result<wit::Job, Error>> {
        self.charge(id.len())?;
        Ok(match self.own_job(&id).await {
            Ok(job) => {
                let result = job.result.as_ref().map_or(0, String::len);
                let told = job.error.as_ref().map_or(0, |error| error.message.len());
                self.carry(result + told)?;
                Ok(view(job))
            }
            Err(error) => Err(error),
        })
    }

    async fn cancel(&mut self, id: String) -> wasmtime::Result<Result<(), Error>> {
        self.charge(id.len())?;
        if let Err(error) = self.own_job(&id).await {
            return Ok(Err(error));
        }
        let cancelled = self.shared.services.jobs.cancel(&id).await;
        Ok(cancelled.map(drop).map_err(refusal))
    }
}

impl InstanceState {
    async fn take_in(
        &mut self,
        function: String,
        args: String,
        kwargs: String,
        options: Options,
    ) -> Result<String, Error> {
        if args.len().saturating_add(kwargs.len()) > MAX_ARGUMENTS {
            return Err(Error::TooLarge(format!(
                "`args` and `kwargs` have more than {MAX_ARGUMENTS} bytes together"
            )));
        }
        if !is_json(&args, '[') {
            return Err(Error::Invalid("`args` is not a JSON array".to_owned()));
        }
        if !is_json(&kwargs, '{') {
            return Err(Error::Invalid("`kwargs` is not a JSON object".to_owned()));
        }
        let unique = match options.key {
            Some(key) if !(1..=MAX_KEY).contains(&key.len()) => {
                return Err(Error::Invalid(format!(
                    "the key must have 1 to {MAX_KEY} bytes"
                )));
            }
            Some(key) => {
                let words = ["plugin", &*self.shared.name, &*function, &*key];
                Some(words.map(str::to_owned).to_vec())
            }
            None => None,
        };
        let run_at = options
            .run_at
            .map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        let Some(plugin) = self.shared.directory.find(&function) else {
            return Err(Error::NotFound("there is no function of this name".into()));
        };
        let checked = plugin.check(&function, args, kwargs).await;
        let (args, kwargs) = checked.map_err(misfit)?;
        let job = NewJob {
            owner: Some(self.shared.name.to_string()),
            args,
            kwargs,
            // So that writes which cause jobs which cause writes come to an end.
            depth: self.call.hook_depth,
            run_at: run_at.map(DateTime::from_millis),
            max_attempts: options.max_attempts,
            unique,
            ..NewJob::new(function, Source::Plugin)
        };
        let job = self.shared.services.jobs.enqueue(job).await;
        job.map(|job| job.id).map_err(refusal)
    }

    /// A job that this plugin has enqueued. Of others it learns nothing, not even that
    /// they are there.
    async fn own_job(&mut self, id: &str) -> Result<Job, Error> {
        let unknown = || Error::NotFound("this plugin has no job of this id".into());
        let found = match self.shared.services.jobs.get(id).await {
            Err(ServiceError::NotFound(_)) => return Err(unknown()),
            found => found.map_err(refusal)?,
        };
        let own = found.owner.as_deref() == Some(&*self.shared.name);
        own.then_some(found).ok_or_else(unknown)
    }
}

fn view(job: Job) -> wit::Job {
    wit::Job {
        id: job.id,
        function: job.function,
        state: match job.state {
            JobState::Waiting => State::Waiting,
            JobState::Running => State::Running,
            JobState::Succeeded => State::Succeeded,
            JobState::Failed => State::Failed,
            JobState::Dead => State::Dead,
            JobState::Cancelled => State::Cancelled,
        },
        attempts: job.attempts,
        result: job.result,
        failure: job.error.map(|error| Failure {
            code: error.code,
            message: error.message,
        }),
    }
}

fn misfit(error: CallError) -> Error {
    match error {
        CallError::Mismatch(mismatches) => Error::Invalid(match mismatches.first() {
            Some(first) => format!("the call does not fit at {}: {}", first.path, first.detail),
            None => "the call does not fit".to_owned(),
        }),
        CallError::InvalidRequest(why) | CallError::NotJson(why) => Error::Invalid(why),
        CallError::Overloaded { .. } => Error::Overloaded,
        _ => Error::Unavailable,
    }
}

fn refusal(error: ServiceError) -> Error {
    match error {
        ServiceError::Invalid(why) => Error::Invalid(why),
        ServiceError::TooLarge(why) => Error::TooLarge(why),
        ServiceError::NotFound(why) => Error::NotFound(why),
        ServiceError::Conflict(why) => Error::Conflict(why),
        ServiceError::Overloaded { .. } => Error::Overloaded,
        error => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a guest's job could not be taken in or read"
            );
            Error::Unavailable
        }
    }
}
