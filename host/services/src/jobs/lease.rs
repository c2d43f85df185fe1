//! What those do with jobs that run them: claim, keep, settle.
//!
//! A claim is one change of one document, which only happens if the job is as it
//! was when it was found; so of many hosts one gets it. From then on the job bears
//! the claim's lease, and nobody else's word about it counts.

use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures_util::TryStreamExt as _;

use super::{Job, JobError, Jobs, State, later};
use crate::error::{Error, Result};
use crate::storage::{Change, Find, Update};

/// A job that was lost goes to whoever finds it, but not for ever.
const HOST_LOST: &str = "host_lost";

/// The document of a job has no room for a lease.
const TOO_LARGE: &str = "too_large";

/// How long a job waits that was turned away because its plugin is busy.
const POSTPONED: Duration = Duration::from_secs(2);

/// The longest that a job waits until it is looked again for its function.
const ABSENT: Duration = Duration::from_secs(30);

/// A job that this host is to run.
#[derive(Debug)]
pub struct Claim {
    /// The job, with this attempt counted.
    pub job: Job,
    /// Until when it is ours if it is not renewed.
    pub until: Instant,
    lease: ObjectId,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// The function has answered with this JSON.
    Succeeded(String),
    /// It will not do, however often it is tried.
    Failed(JobError),
    /// It came to nothing, and is worth another try.
    Retry(JobError),
    /// There was no place for it: it has not been tried.
    Postponed(JobError),
    /// This host has no such function: it has not been tried, and another host may
    /// have it, or this one later.
    Absent(JobError),
    /// It was ended because somebody has cancelled the job.
    Cancelled,
    /// This host cannot go on; another may at once.
    Released,
}

/// How a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The job is ours.
    Held,
    /// It is ours and to be ended.
    Cancelled,
    /// It is not ours any more; nothing that we say of it will count.
    Lost,
}

impl Jobs {
    /// Resolves when something may have become due here. What other hosts took in,
    /// and what is due later, has to be looked for.
    pub async fn due(&self) {
        self.0.due.notified().await;
    }

    /// Resolves when a job was cancelled here that may be running here.
    pub async fn cancelled(&self) {
        self.0.cancelled.notified().await;
    }

    /// Takes one job, unless somebody else was faster or it is not to be run.
    pub(super) async fn take(&self, job: &Job) -> Result<Option<Claim>> {
        let unchanged = job.unchanged();
        if job.cancelling {
            self.update(unchanged, self.over(State::Cancelled, None))
                .await?;
            return Ok(None);
        }
        if job.attempts >= job.max_attempts {
            // Whoever ran it is gone. It may be the job that ended them.
            let error = JobError::new(
                HOST_LOST,
                "Every host that ran the job was gone before it was over.",
            );
            if self
                .update(unchanged, self.over(State::Dead, Some(&error)))
                .await?
            {
                tracing::error!(
                    job.id = job.id,
                    function = job.function,
                    job.attempts = job.attempts,
                    code = HOST_LOST,
                    "the job is dead"
                );
            }
            return Ok(None);
        }
        let lease = ObjectId::new();
        let (now, until) = (DateTime::now(), Instant::now() + self.0.settings.lease);
        let at = later(now, self.0.settings.lease);
        let change = doc! {
            "$set": { "state": State::Running.name(), "at": at, "lease": lease, "started": now },
            "$inc": { "attempts": 1 },
            "$unset": { "held": "" },
        };
        if !self.update(unchanged, change).await? {
            return Ok(None);
        }
        let job = Job {
            state: State::Running,
            attempts: job.attempts + 1,
            at: Some(at),
            started: Some(now),
            lease: Some(lease),
            ..job.clone()
        };
        Ok(Some(Claim { job, until, lease }))
    }

    /// Ends a job that has no room for what becomes of it. Its arguments make some.
    pub(super) async fn bury(&self, job: &Job) -> Result<()> {
        let error = JobError::new(TOO_LARGE, "The job is too large for the store to run it.");
        let mut over = self.over(State::Dead, Some(&error));
        if let Ok(fields) = over.get_document_mut("$unset") {
            fields.extend(doc! { "args": "", "kwargs": "" });
        }
        if self.update(job.unchanged(), over).await? {
            tracing::error!(
                job.id = job.id,
                function = job.function,
                code = TOO_LARGE,
                "the job is dead"
            );
        }
        Ok(())
    }

    /// Looks at claims, and renews them where that is asked. Answers with how each
    /// stands, in their order.
    pub async fn keep(&self, claims: &[(String, ObjectId)], renew: bool) -> Result<Vec<Standing>> {
        let (ids, leases): (Vec<&str>, Vec<ObjectId>) = claims
            .iter()
            .map(|(id, lease)| (id.as_str(), *lease))
            .unzip();
        if renew {
            let update = Update {
                filter: doc! { "_id": { "$in": &ids }, "lease": { "$in": leases } },
                change: Change::Operators(
                    doc! { "$set": { "at": later(DateTime::now(), self.0.settings.lease) } },
                ),
                many: true,
                upsert: false,
                array_filters: Vec::new(),
            };
            self.0.store.update(self.0.collection, update).await?;
        }
        let find = Find {
            filter: doc! { "_id": { "$in": &ids } },
            projection: Some(doc! { "lease": 1, "cancelling": 1 }),
            ..Find::default()
        };
        let mut found = self.0.store.find(self.0.collection, find).await?;
        let mut standings = vec![Standing::Lost; claims.len()];
        while let Some(raw) = found.try_next().await? {
            let (Ok(id), Ok(lease)) = (raw.get_str("_id"), raw.get_object_id("lease")) else {
                continue;
            };
            let ours = claims.iter().zip(&mut standings);
            let mut ours = ours.filter(|((own, token), _)| own == id && *token == lease);
            if let Some((_, standing)) = ours.next() {
                *standing = match raw.get_bool("cancelling") {
                    Ok(true) => Standing::Cancelled,
                    _ => Standing::Held,
                };
            }
        }
        Ok(standings)
    }

    /// Says what became of a claim. Answers with the state that the job is in now,
    /// or nothing if it was lost, and then nothing was changed.
    pub async fn settle(&self, claim: &Claim, outcome: &Outcome) -> Result<Option<State>> {
        let job = &claim.job;
        let ours = doc! { "_id": &job.id, "lease": claim.lease };
        let (state, change) = match outcome {
            Outcome::Succeeded(result) => {
                let small = result.len() <= self.0.settings.result_bytes;
                let over = self.succeeded(small.then_some(result));
                let done = match self.update(ours.clone(), over).await {
                    // Beside the arguments there is no room for it. It must not be
                    // run again for that.
                    Err(Error::TooLarge(_)) => self.update(ours, self.succeeded(None)).await,
                    done => done,
                };
                return Ok(done?.then_some(State::Succeeded));
            }
            Outcome::Failed(error) => (State::Failed, self.over(State::Failed, Some(error))),
            Outcome::Retry(error) if job.attempts >= job.max_attempts => {
                (State::Dead, self.over(State::Dead, Some(error)))
            }
            Outcome::Retry(error) => {
                let back = Back::after(self.back_off(job.attempts), Some(error));
                return self
                    .put_back(
                        ours,
                        Back {
                            attempts: 0,
                            ..back
                        },
                    )
                    .await;
            }
            Outcome::Postponed(error) => {
                let back = Back::after(jittered(POSTPONED), Some(error));
                return self.put_back(ours, back).await;
            }
            Outcome::Absent(error) => {
                let now = DateTime::now();
                let since = job.absent.unwrap_or(now);
                let waited = now.timestamp_millis() - since.timestamp_millis();
                let waited = Duration::from_millis(u64::try_from(waited).unwrap_or_default());
                if waited < self.0.settings.function_wait {
                    // Half as long as it was waited for so far.
                    let settings = &self.0.settings;
                    let shortest = settings.retry_base.min(ABSENT);
                    let wait = jittered(waited / 2).clamp(shortest, ABSENT);
                    let back = Back::after(wait, Some(error));
                    let absent = Some(since);
                    return self.put_back(ours, Back { absent, ..back }).await;
                }
                let mut over = self.over(State::Dead, Some(error));
                over.insert("$inc", doc! { "attempts": -1 });
                (State::Dead, over)
            }
            Outcome::Released => {
                let absent = job.absent;
                let back = Back::after(Duration::ZERO, None);
                return self.put_back(ours, Back { absent, ..back }).await;
            }
            Outcome::Cancelled => (State::Cancelled, self.over(State::Cancelled, None)),
        };
        Ok(self.update(ours, change).await?.then_some(state))
    }

    /// What makes a job one that has succeeded, with its result if that is kept.
    fn succeeded(&self, result: Option<&String>) -> Document {
        let mut over = self.over(State::Succeeded, None);
        if let Ok(fields) = over.get_document_mut("$set") {
            match result {
                Some(result) => fields.insert("result", result),
                None => fields.insert("result_dropped", true),
            };
        }
        if let Ok(fields) = over.get_document_mut("$unset") {
            fields.insert("error", "");
        }
        over
    }

    /// Lets a job wait again, unless it is to be cancelled.
    async fn put_back(&self, ours: Document, back: Back<'_>) -> Result<Option<State>> {
        let mut fields = doc! {
            "state": State::Waiting.name(),
            "at": later(DateTime::now(), back.wait),
        };
        let error = back.error.map(JobError::document);
        fields.extend(error.map(|error| ("error".to_owned(), error.into())));
        let mut gone = doc! { "lease": "" };
        match back.absent {
            Some(since) => fields.insert("absent", since),
            None => gone.insert("absent", ""),
        };
        let change = doc! {
            "$set": fields,
            "$inc": { "attempts": back.attempts },
            "$unset": gone,
        };
        let mut wanted = ours.clone();
        wanted.insert("cancelling", doc! { "$ne": true });
        if self.update(wanted, change).await? {
            return Ok(Some(State::Waiting));
        }
        let cancelled = self.update(ours, self.over(State::Cancelled, None)).await?;
        Ok(cancelled.then_some(State::Cancelled))
    }

    /// How long a job waits that was tried so often: twice as long each time, half
    /// of it at random, so that what failed together is not tried together.
    fn back_off(&self, attempts: u32) -> Duration {
        let settings = &self.0.settings;
        let doubled = 1u32
            .checked_shl(attempts.saturating_sub(1))
            .and_then(|factor| settings.retry_base.checked_mul(factor));
        jittered(doubled.unwrap_or(Duration::MAX).min(settings.retry_max))
    }

    /// Takes something out of the queue that is no job.
    pub(super) async fn set_aside(&self, raw: &bson::RawDocument) -> Result<()> {
        let id: Option<Bson> = raw
            .get("_id")
            .ok()
            .flatten()
            .and_then(|id| id.try_into().ok());
        if let Some(id) = id {
            let change = doc! { "$unset": { "at": "", "queue": "" } };
            self.update(doc! { "_id": { "$eq": id } }, change).await?;
        }
        Ok(())
    }
}

impl Claim {
    /// What [`Jobs::keep`] knows it by.
    pub fn key(&self) -> (String, ObjectId) {
        (self.job.id.clone(), self.lease)
    }
}

/// How a job is put back.
struct Back<'a> {
    /// It is not due before this.
    wait: Duration,
    /// What is added to its attempts: by itself, this one is taken back.
    attempts: i64,
    /// Why.
    error: Option<&'a JobError>,
    /// Since when there is no such function.
    absent: Option<DateTime>,
}

impl<'a> Back<'a> {
    fn after(wait: Duration, error: Option<&'a JobError>) -> Self {
        Self {
            wait,
            attempts: -1,
            error,
            absent: None,
        }
    }
}

/// From half of a time to all of it, at random.
pub(super) fn jittered(time: Duration) -> Duration {
    let mut bytes = [0u8; 4];
    // Without chance all of it will do.
    let chance = match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    time / 2 + (time / 2).mul_f64(chance)
}
