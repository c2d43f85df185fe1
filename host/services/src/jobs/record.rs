//! A job as a document:
//!
//! ```text
//! {_id, function, plugin?, owner?, args, kwargs, source, depth, state, attempts,
//!  max_attempts, created,
//!  at, queue, held?, absent?,         while it is not over: when it is next looked at
//!  started, lease, cancelling?,       while it runs
//!  finished, expires, result?, error? when it is over
//! }
//! ```
//!
//! `at` of a job that waits is when it is due, and of one that runs when its lease
//! ends. `queue` is the function again: one index has everything that a host may claim,
//! function by function, and nothing that is over.

use bson::oid::ObjectId;
use bson::{DateTime, Document, RawDocument, doc};

use super::NewJob;
use crate::error::{Error, Result};

/// How a job fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is to be run, now or later.
    Waiting,
    /// A host runs it.
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

impl State {
    /// All of them, in the order of a job's life.
    pub const ALL: [State; 6] = [
        State::Waiting,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Dead,
        State::Cancelled,
    ];

    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Dead => "dead",
            State::Cancelled => "cancelled",
        }
    }

    /// The state of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// What a job in it has: "the job has …".
    pub(super) fn sentence(self) -> &'static str {
        match self {
            State::Waiting => "yet to run",
            State::Running => "begun",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Dead => "died",
            State::Cancelled => "been cancelled",
        }
    }
}

/// Who wanted a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A client with the API key: the function is called for one, too.
    Api,
    /// A schedule.
    Schedule,
    /// A hook after a write.
    Hook,
    /// A plugin's code: for nobody, whoever it served.
    Plugin,
    /// An event of a payment.
    Payment,
}

impl Source {
    const ALL: [Source; 5] = [
        Source::Api,
        Source::Schedule,
        Source::Hook,
        Source::Plugin,
        Source::Payment,
    ];

    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Source::Api => "api",
            Source::Schedule => "schedule",
            Source::Hook => "hook",
            Source::Plugin => "plugin",
            Source::Payment => "payment",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// Stable, snake_case.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl JobError {
    /// An error with a code and a sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    pub(super) fn document(&self) -> Document {
        doc! { "code": &self.code, "message": &self.message }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// 32 hex digits; the invocation id of every attempt.
    pub id: String,
    /// The function's name.
    pub function: String,
    /// The plugin whose function it is; whichever has it, where absent.
    pub plugin: Option<String>,
    /// The plugin that has enqueued it, where one has.
    pub owner: Option<String>,
    /// A JSON array; empty in listings.
    pub args: String,
    /// A JSON object; empty in listings.
    pub kwargs: String,
    /// Who wanted it.
    pub source: Source,
    /// How deep in writes that caused each other it is.
    pub depth: u8,
    /// How it fares.
    pub state: State,
    /// Attempts that were begun, but for those that a host gave back.
    pub attempts: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// When it was enqueued.
    pub created: DateTime,
    /// When it is due, while it waits; when its lease ends, while it runs.
    pub at: Option<DateTime>,
    /// When the last attempt began.
    pub started: Option<DateTime>,
    /// When it was over.
    pub finished: Option<DateTime>,
    /// When it is forgotten.
    pub expires: Option<DateTime>,
    /// The JSON that its function has answered with.
    pub result: Option<String>,
    /// The result was larger than what is kept.
    pub result_dropped: bool,
    /// Why the last attempt came to nothing.
    pub error: Option<JobError>,
    /// It runs, and is to be cancelled.
    pub cancelling: bool,
    /// Since when hosts have found no such function.
    pub absent: Option<DateTime>,
    /// Whoever runs it knows this.
    pub(super) lease: Option<ObjectId>,
}

impl Job {
    /// A new job, which waits.
    pub(super) fn waiting(
        id: String,
        new: NewJob,
        due: DateTime,
        max_attempts: u32,
        now: DateTime,
    ) -> Self {
        Self {
            id,
            function: new.function,
            plugin: new.plugin,
            owner: new.owner,
            args: new.args,
            kwargs: new.kwargs,
            source: new.source,
            depth: new.depth,
            state: State::Waiting,
            attempts: 0,
            max_attempts,
            created: now,
            at: Some(due),
            started: None,
            finished: None,
            expires: None,
            result: None,
            result_dropped: false,
            error: None,
            cancelling: false,
            absent: None,
            lease: None,
        }
    }

    /// The document of a job that waits.
    pub(super) fn document(&self, held: bool) -> Document {
        let mut document = doc! {
            "_id": &self.id,
            "function": &self.function,
            "args": &self.args,
            "kwargs": &self.kwargs,
            "source": self.source.name(),
            "depth": i32::from(self.depth),
            "state": self.state.name(),
            "attempts": i64::from(self.attempts),
            "max_attempts": i64::from(self.max_attempts),
            "created": self.created,
            "at": self.at,
            "queue": &self.function,
        };
        let named = [("plugin", &self.plugin), ("owner", &self.owner)];
        for (name, value) in named {
            if let Some(value) = value {
                document.insert(name, value);
            }
        }
        if held {
            document.insert("held", true);
        }
        document
    }

    /// The filter that the job meets as long as nobody has changed how it fares.
    pub(super) fn unchanged(&self) -> Document {
        let mut filter = doc! { "_id": &self.id, "state": self.state.name() };
        filter.insert("at", self.at);
        filter.insert("lease", self.lease);
        filter
    }

    pub(super) fn read(raw: &RawDocument) -> Result<Self> {
        Self::parts(raw).ok_or_else(|| Error::Unavailable("a job's document is damaged".into()))
    }

    fn parts(raw: &RawDocument) -> Option<Self> {
        let text = |name: &str| raw.get_str(name).ok().map(str::to_owned);
        let time = |name: &str| raw.get_datetime(name).ok();
        // Numbers may come back from an import in another width.
        let count = |name: &str| -> Option<i64> {
            match raw.get(name).ok()?? {
                bson::RawBsonRef::Int32(number) => Some(number.into()),
                bson::RawBsonRef::Int64(number) => Some(number),
                _ => None,
            }
        };
        let flag = |name: &str| raw.get_bool(name).unwrap_or(false);
        let error = raw.get_document("error").ok().and_then(|error| {
            Some(JobError::new(
                error.get_str("code").ok()?,
                error.get_str("message").ok()?,
            ))
        });
        Some(Self {
            id: text("_id")?,
            function: text("function")?,
            plugin: text("plugin"),
            owner: text("owner"),
            args: text("args").unwrap_or_default(),
            kwargs: text("kwargs").unwrap_or_default(),
            source: Source::of_name(raw.get_str("source").ok()?)?,
            depth: u8::try_from(count("depth")?).ok()?,
            state: State::of_name(raw.get_str("state").ok()?)?,
            attempts: u32::try_from(count("attempts")?).ok()?,
            max_attempts: u32::try_from(count("max_attempts")?).ok()?,
            created: time("created")?,
            at: time("at"),
            started: time("started"),
            finished: time("finished"),
            expires: time("expires"),
            result: text("result"),
            result_dropped: flag("result_dropped"),
            error,
            cancelling: flag("cancelling"),
            absent: time("absent"),
            lease: raw.get_object_id("lease").ok(),
        })
    }
}
