//! Jobs: calls of functions that are made later, by whichever host has time.
//!
//! A job is a document of the server's own, so that it outlives the process that
//! took it in, and every host of the database can run it. This file is what
//! clients, write hooks and schedules do with jobs: [`Jobs::enqueue`] one, look at
//! it, cancel it, replay it. `claim` and `lease` are what those do that run them: find
//! jobs that are due, whose turn it is, claim each for a while, keep it, settle it. None
//! of them knows what a function is or how one is
//! called; the host does.
//!
//! A job is run at least once. While it runs, its host holds a lease that has to be
//! renewed; when the host is gone, the lease runs out and the job is run again, so
//! a function may meet the same job twice, with the same invocation id: the job's.
//! What a host writes about a job it writes under its lease, so that one that was
//! away for too long changes nothing. Leases are compared with the hosts' clocks,
//! which have to agree to within a part of the lease.
//!
//! ```text
//!  enqueue ─► waiting ─► running ─► succeeded
//!               ▲  │        │ ├───► failed      the function's own failure
//!     retry     │  │        │ ├───► dead        attempts are used up
//!     back-off  └──┼────────┘ │
//!                  └──────────┴───► cancelled
//! ```

mod claim;
mod lease;
mod queue;
mod record;
pub mod schedules;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, OnceCell};

use crate::error::{Error, Result};
use crate::storage::{Change, DocumentStore, Find, IndexSpec, StoreError, Update};
pub use claim::Load;
pub use lease::{Claim, Outcome, Standing};
use queue::Queue;
pub use record::{Job, JobError, Source, State};

/// Where jobs are kept.
const COLLECTION: &str = "_coglex_jobs";

/// Bytes of `args` and `kwargs` together, as for calls between plugins.
pub const MAX_ARGUMENTS: usize = 1024 * 1024;

/// The most attempts that a job may ask for.
pub const MAX_ATTEMPTS: u32 = 100;

/// The most jobs of one listing.
pub const MAX_LISTED: u64 = 1_000;

/// How far ahead a job may be due.
const MAX_AHEAD: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How often a change is tried that others get in the way of.
const TRIES: usize = 8;

/// How long a listing may search.
const LIST_TIME: Duration = Duration::from_secs(10);

/// What the operator says about jobs.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// The most jobs that are not over; past it no more are taken in. The code of one
    /// plugin can fill a quarter of it.
    pub queue: u64,
    /// For how long a host may be silent before a job of its is run by another.
    pub lease: Duration,
    /// Attempts of a job that does not say.
    pub max_attempts: u32,
    /// About how long the first retry waits; each further one twice as long.
    pub retry_base: Duration,
    /// The longest that a retry waits.
    pub retry_max: Duration,
    /// How long a job waits for a function that no plugin has.
    pub function_wait: Duration,
    /// For how long jobs are kept that are over.
    pub retention: Duration,
    /// The same for dead ones.
    pub dead_retention: Duration,
    /// The largest result that is kept.
    pub result_bytes: usize,
}

impl Default for JobSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            queue: 100_000,
            lease: Duration::from_secs(30),
            max_attempts: 5,
            retry_base: Duration::from_secs(1),
            retry_max: Duration::from_secs(300),
            function_wait: DAY,
            retention: 7 * DAY,
            dead_retention: 30 * DAY,
            result_bytes: 1024 * 1024,
        }
    }
}

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The function's name. Whether there is one is the caller's to check.
    pub function: String,
    /// The plugin whose function it has to be; whichever has it by then, where absent.
    pub plugin: Option<String>,
    /// The plugin whose code wants it, where it is one's.
    pub owner: Option<String>,
    /// A JSON array, as text.
    pub args: String,
    /// A JSON object, as text.
    pub kwargs: String,
    /// Who wants it.
    pub source: Source,
    /// How deep in writes that caused each other it is; see `crate::hooks`.
    pub depth: u8,
    /// When it is due; at once when absent or past.
    pub run_at: Option<DateTime>,
    /// How often it is tried; [`JobSettings::max_attempts`] when absent.
    pub max_attempts: Option<u32>,
    /// What tells it from others: while a job with the same words is kept, it is
    /// the same job, and not enqueued again. Without, every job is one of its own.
    pub unique: Option<Vec<String>>,
}

impl NewJob {
    /// A job that is due at once, is no other, and has no arguments.
    pub fn new(function: impl Into<String>, source: Source) -> Self {
        Self {
            function: function.into(),
            plugin: None,
            owner: None,
            args: "[]".to_owned(),
            kwargs: "{}".to_owned(),
            source,
            depth: 0,
            run_at: None,
            max_attempts: None,
            unique: None,
        }
    }
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this function.
    pub function: Option<String>,
    /// Only those that were enqueued before this job.
    pub before: Option<String>,
    /// At most so many, and at most [`MAX_LISTED`].
    pub limit: u64,
}

/// The service, cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    store: Arc<dyn DocumentStore>,
    collection: &'static str,
    settings: JobSettings,
    queue: Queue,
    /// Those that plugins' code has filled, by the plugin's name.
    owned: Mutex<HashMap<String, Arc<Queue>>>,
    /// The function after which the next claim begins to look.
    looked: Mutex<String>,
    indexed: OnceCell<()>,
    /// Something may be due.
    due: Notify,
    /// A job that runs is to be cancelled.
    cancelled: Notify,
}

impl Jobs {
    /// The jobs of this store.
    pub fn new(store: Arc<dyn DocumentStore>, settings: JobSettings) -> Self {
        Self::in_collection(store, settings, COLLECTION)
    }

    /// Jobs of another kind, apart from those of functions, in a collection of their
    /// own, which nobody else may reach.
    pub(crate) fn in_collection(
        store: Arc<dyn DocumentStore>,
        settings: JobSettings,
        collection: &'static str,
    ) -> Self {
        Self(Arc::new(Inner {
            collection,
            queue: Queue::new(settings.queue),
            owned: Mutex::default(),
            looked: Mutex::default(),
            store,
            settings,
            indexed: OnceCell::new(),
            due: Notify::new(),
            cancelled: Notify::new(),
        }))
    }

    /// What the operator says.
    pub fn settings(&self) -> &JobSettings {
        &self.0.settings
    }

    /// Takes a job in. It is kept when this answers, and will be run. `Overloaded`
    /// when too many wait already.
    pub async fn enqueue(&self, new: NewJob) -> Result<Job> {
        self.take_in(new, None).await
    }

    /// The same, but the job waits this long to be told that it is wanted: by
    /// [`Jobs::confirm`], or else by nobody, and then it is run all the same. For
    /// who has to write something first and must not forget the job if the process
    /// ends between the two.
    pub async fn enqueue_held(&self, new: NewJob, hold: Duration) -> Result<Job> {
        self.take_in(new, Some(hold)).await
    }

    /// Lets a held job run, with these arguments instead of its own where they are
    /// given. Nothing happens to one that is not held any more; answers whether it was.
    pub async fn confirm(&self, id: &str, args: Option<String>) -> Result<bool> {
        let mut fields = doc! { "at": DateTime::now() };
        if let Some(args) = args {
            arguments(&args, "")?;
            fields.insert("args", args);
        }
        let held = doc! { "_id": id, "state": State::Waiting.name(), "held": true };
        let change = doc! { "$set": fields, "$unset": { "held": "" } };
        let was_held = self.update(held, change).await?;
        self.0.due.notify_one();
        Ok(was_held)
    }

    /// Takes a held job back as if it had never been there.
    pub async fn withdraw(&self, id: &str) -> Result<()> {
        let held = doc! { "_id": id, "state": State::Waiting.name(), "held": true };
        self.0.store.delete(self.0.collection, held, false).await?;
        Ok(())
    }

    /// The job of this id.
    pub async fn get(&self, id: &str) -> Result<Job> {
        self.find(id).await?.ok_or_else(unknown)
    }

    /// Jobs, the newest first, without their arguments and results. The second is
    /// whether there are more.
    pub async fn list(&self, query: JobQuery) -> Result<(Vec<Job>, bool)> {
        let limit = query.limit.clamp(1, MAX_LISTED);
        let mut filter = Document::new();
        if let Some(state) = query.state {
            filter.insert("state", state.name());
        }
        if let Some(function) = query.function {
            filter.insert("function", doc! { "$eq": function });
        }
        if let Some(before) = query.before {
            let before = self.get(&before).await?;
            let older = doc! { "created": { "$lt": before.created } };
            let same = doc! { "created": before.created, "_id": { "$lt": before.id } };
            filter.insert("$or", [older, same].map(Bson::Document).to_vec());
            // Implied, and what an index can begin at.
            filter.insert("created", doc! { "$lte": before.created });
        }
        let find = Find {
            filter,
            projection: Some(doc! { "args": 0, "kwargs": 0, "result": 0 }),
            sort: Some(doc! { "created": -1, "_id": -1 }),
            limit: Some(limit + 1),
            max_time: Some(LIST_TIME),
            ..Find::default()
        };
        let mut jobs = self.read(find).await?;
        let more = jobs.len() as u64 > limit;
        jobs.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((jobs, more))
    }

    /// Cancels a job: one that waits at once, and one that runs as soon as its host
    /// hears of it, within a second or so; then its function is ended where it
    /// stands. `Conflict` for one that is over otherwise.
    pub async fn cancel(&self, id: &str) -> Result<Job> {
        for _ in 0..TRIES {
            let job = self.get(id).await?;
            let done = match (job.state, job.lease) {
                (State::Cancelled, _) => return Ok(job),
                (State::Running, _) if job.cancelling => return Ok(job),
                (State::Running, Some(lease)) => {
                    let running = doc! { "_id": id, "lease": lease };
                    let change = doc! { "$set": { "cancelling": true } };
                    let done = self.update(running, change).await?;
                    self.0.cancelled.notify_one();
                    done
                }
                (State::Waiting | State::Running, _) => {
                    let unchanged = job.unchanged();
                    let over = self.over(State::Cancelled, None);
                    self.update(unchanged, over).await?
                }
                _ => {
                    return Err(Error::Conflict(format!(
                        "the job is over: it has {}",
                        job.state.sentence()
                    )));
                }
            };
            if done {
                return self.get(id).await;
            }
        }
        Err(contended())
    }

    /// Has a job run again that did not succeed, with all of its attempts.
    pub async fn retry(&self, id: &str) -> Result<Job> {
        self.ensure_indexes().await?;
        for _ in 0..TRIES {
            let job = self.get(id).await?;
            if !matches!(job.state, State::Failed | State::Dead | State::Cancelled) {
                return Err(Error::Conflict(format!(
                    "the job cannot be tried again: it {}",
                    match job.state {
                        State::Succeeded => "has succeeded",
                        _ => "is not over",
                    }
                )));
            }
            self.admit(job.owner.as_deref()).await?;
            let change = doc! {
                "$set": {
                    "state": State::Waiting.name(),
                    "at": DateTime::now(),
                    "queue": &job.function,
                    "attempts": 0,
                },
                "$unset": { "error": "", "finished": "", "expires": "", "cancelling": "" },
            };
            if self.update(job.unchanged(), change).await? {
                self.0.due.notify_one();
                return self.get(id).await;
            }
        }
        Err(contended())
    }

    async fn take_in(&self, new: NewJob, hold: Option<Duration>) -> Result<Job> {
        arguments(&new.args, &new.kwargs)?;
        let now = DateTime::now();
        let max_attempts = match new.max_attempts {
            Some(given) if !(1..=MAX_ATTEMPTS).contains(&given) => {
                return Err(Error::Invalid(format!(
                    "`max_attempts` must be from 1 to {MAX_ATTEMPTS}"
                )));
            }
            given => given.unwrap_or(self.0.settings.max_attempts),
        };
        if new.run_at.is_some_and(|at| at > later(now, MAX_AHEAD)) {
            return Err(Error::Invalid("`run_at` is too far ahead".into()));
        }
        let due = new.run_at.unwrap_or(now).max(now);
        let due = hold.map_or(due, |hold| later(now, hold));
        let id = match &new.unique {
            Some(words) => id_of(words),
            None => random_id()?,
        };
        self.ensure_indexes().await?;
        self.admit(new.owner.as_deref()).await?;
        let job = Job::waiting(id, new, due, max_attempts, now);
        let document = job.document(hold.is_some());
        let raw = RawDocumentBuf::try_from(&document).map_err(crate::json::invalid_bson)?;
        match self.0.store.insert(self.0.collection, vec![raw]).await {
            Ok(()) if due <= now => {
                self.0.due.notify_one();
                Ok(job)
            }
            Ok(()) => Ok(job),
            // It is there, or was until now.
            Err(StoreError::DuplicateKey { .. }) => Ok(self.find(&job.id).await?.unwrap_or(job)),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses what would make the queue too long, or too long for one plugin's code.
    async fn admit(&self, owner: Option<&str>) -> Result<()> {
        let open = |owner: Option<&str>| {
            let mut open = doc! { "at": { "$gte": DateTime::from_millis(0) } };
            open.extend(owner.map(|owner| ("owner".to_owned(), owner.into())));
            self.0.store.count(self.0.collection, open, Some(LIST_TIME))
        };
        if let Some(owner) = owner {
            let own = self.queue_of(owner);
            own.admit(|| open(Some(owner))).await?;
        }
        self.0.queue.admit(|| open(None)).await
    }

    fn queue_of(&self, owner: &str) -> Arc<Queue> {
        let mut owned = self.0.owned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = owned.get(owner) {
            return Arc::clone(queue);
        }
        let share = (self.0.settings.queue / 4).max(1);
        let queue = Arc::new(Queue::new(share));
        owned.insert(owner.to_owned(), Arc::clone(&queue));
        queue
    }

    /// How many of the jobs that are kept a plugin's code has enqueued since then.
    pub(crate) async fn enqueued_since(&self, owner: &str, since: DateTime) -> Result<u64> {
        let own = doc! { "created": { "$gte": since }, "owner": owner };
        Ok(self
            .0
            .store
            .count(self.0.collection, own, Some(LIST_TIME))
            .await?)
    }

    /// What makes a job one that is over.
    fn over(&self, state: State, error: Option<&JobError>) -> Document {
        let settings = &self.0.settings;
        let kept = match state {
            State::Dead => settings.dead_retention,
            _ => settings.retention,
        };
        let now = DateTime::now();
        let mut fields =
            doc! { "state": state.name(), "finished": now, "expires": later(now, kept) };
        fields.extend(error.map(|error| ("error".to_owned(), error.document().into())));
        doc! {
            "$set": fields,
            "$unset": {
                "at": "", "queue": "", "lease": "", "cancelling": "", "held": "", "absent": "",
            },
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Job>> {
        let found = self.0.store.get(self.0.collection, Bson::from(id)).await?;
        found.as_deref().map(Job::read).transpose()
    }

    async fn read(&self, find: Find) -> Result<Vec<Job>> {
        let found: Vec<RawDocumentBuf> = self
            .0
            .store
            .find(self.0.collection, find)
            .await?
            .try_collect()
            .await?;
        found.iter().map(|raw| Job::read(raw)).collect()
    }

    /// Changes one job; answers whether the filter found it.
    async fn update(&self, filter: Document, operators: Document) -> Result<bool> {
        let update = Update {
            filter,
            change: Change::Operators(operators),
            many: false,
            upsert: false,
            array_filters: Vec::new(),
        };
        Ok(self
            .0
            .store
            .update(self.0.collection, update)
            .await?
            .matched
            > 0)
    }

    /// Makes the indexes, once in this process's life.
    async fn ensure_indexes(&self) -> Result<()> {
        let index = |keys: Document, expire_after| IndexSpec {
            name: None,
            keys,
            unique: false,
            sparse: false,
            expire_after,
        };
        let indexes = [
            // What is due next: a claim looks here, and nowhere else.
            index(doc! { "queue": 1, "at": 1 }, None),
            // How many are not over, of all and of one plugin's code.
            index(doc! { "at": 1 }, None),
            index(doc! { "owner": 1, "at": 1 }, None),
            index(doc! { "expires": 1 }, Some(Duration::ZERO)),
            // Listings.
            index(doc! { "created": -1, "_id": -1 }, None),
            index(doc! { "state": 1, "created": -1, "_id": -1 }, None),
        ];
        let make = async || {
            for index in indexes {
                self.0.store.create_index(self.0.collection, index).await?;
            }
            Ok::<_, Error>(())
        };
        self.0.indexed.get_or_try_init(make).await?;
        Ok(())
    }
}

/// The id of a job that is told from others by these words: 32 hex digits.
fn id_of(words: &[String]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        // The length before each, so that no two lists of words run together.
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
    }
    let mut id = hex::encode(hash.finalize());
    id.truncate(32);
    id
}

fn random_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Unavailable(Box::new(error)))?;
    Ok(hex::encode(bytes))
}

fn arguments(args: &str, kwargs: &str) -> Result<()> {
    if args.len().saturating_add(kwargs.len()) > MAX_ARGUMENTS {
        return Err(Error::TooLarge(format!(
            "`args` and `kwargs` have more than {MAX_ARGUMENTS} bytes together"
        )));
    }
    Ok(())
}

fn later(time: DateTime, by: Duration) -> DateTime {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_add(by))
}

fn unknown() -> Error {
    Error::NotFound("there is no job of this id".into())
}

fn contended() -> Error {
    Error::Conflict("the job is being changed by somebody else".into())
}
