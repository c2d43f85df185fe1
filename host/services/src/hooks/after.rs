//! Hooks after a write: jobs, at least one run for each.
//!
//! They are enqueued before the write, held back, and confirmed with what came of
//! it, or withdrawn if nothing did. If the process ends between the two, the hold
//! runs out and the job is run without an outcome: it may find that the write has
//! not happened, but no write is without its hooks.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use futures_util::future::join_all;

use super::event::{self, Write};
use super::{AfterHook, Moment, Operation, Watch};
use crate::error::{Error, Result};
use crate::jobs::{Jobs, NewJob, Source};
use crate::storage::UpdateOutcome;

/// How long a job waits to be told what came of the write: longer than a write
/// can take.
const HOLD: Duration = Duration::from_secs(120);
/// Bytes of documents in one job. With what an outcome adds it stays within what
/// the arguments of a job may have.
const MAX_PART: usize = 512 * 1024;
/// Documents in one job.
const MAX_DOCUMENTS: usize = 1_000;
/// Jobs of one write that are written at once. Each is in memory as often as it is
/// passed on, and a plugin may have as many as it has functions.
const AT_ONCE: usize = 16;

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Done {
    /// All documents are there.
    Inserted,
    /// So many matched, and so on.
    Updated(UpdateOutcome),
    /// So many are gone.
    Deleted(u64),
}

/// Jobs that wait to be told what came of a write.
pub(crate) struct Held {
    jobs: Jobs,
    depth: u8,
    /// Of a write that fails, a part may be done.
    in_parts: bool,
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: String,
    plugin: String,
    function: String,
    operations: Vec<Operation>,
    part: Arc<Part>,
}

/// A part of a write: the event without its last brace, and the `_id`s in it.
struct Part {
    event: Vec<u8>,
    ids: Vec<Bson>,
}

impl Watch {
    /// Enqueues what is to be called after the write; nothing where there is none.
    pub(crate) async fn hold(&self, write: &Write) -> Result<Option<Held>> {
        let hooks: Vec<&AfterHook> = self.hooks.after(self.operations).collect();
        if hooks.is_empty() {
            return Ok(None);
        }
        let parts = self.parts(write)?;
        let pairs = hooks
            .iter()
            .flat_map(|hook| parts.iter().map(move |part| (*hook, part)));
        let pairs: Vec<(&AfterHook, &Arc<Part>)> = pairs.collect();
        let mut held = Held {
            jobs: self.jobs.clone(),
            depth: self.depth,
            in_parts: false,
            waiting: Vec::with_capacity(pairs.len()),
        };
        let mut failed = None;
        for some in pairs.chunks(AT_ONCE) {
            let enqueued = join_all(some.iter().copied().map(async |(hook, part)| {
                let new = NewJob {
                    plugin: Some(hook.plugin.clone()),
                    args: part.arguments(None)?,
                    depth: self.depth,
                    ..NewJob::new(&hook.function, Source::Hook)
                };
                let job = self.jobs.enqueue_held(new, HOLD).await?;
                Ok::<_, Error>(Waiting {
                    id: job.id,
                    plugin: hook.plugin.clone(),
                    function: hook.function.clone(),
                    operations: hook.operations.clone(),
                    part: Arc::clone(part),
                })
            }));
            for one in enqueued.await {
                match one {
                    Ok(waiting) => held.waiting.push(waiting),
                    Err(error) => failed = Some(error),
                }
            }
            if failed.is_some() {
                break;
            }
        }
        match failed {
            None => Ok(Some(held)),
            Some(error) => {
                held.withdraw().await;
                Err(error)
            }
        }
    }

    /// The write as events, each of which a job can hold.
    fn parts(&self, write: &Write) -> Result<Vec<Arc<Part>>> {
        let Write::Insert { documents } = write else {
            let whole = self.open_event(Moment::After, write)?;
            let event = match whole.len() {
                0..=MAX_PART => whole,
                // What was asked for is left out.
                _ => self.bare_event(Moment::After, write)?,
            };
            return Ok(vec![Arc::new(Part {
                event,
                ids: Vec::new(),
            })]);
        };
        let mut parts = Vec::new();
        let start = self.bare_event(Moment::After, write)?;
        let mut part: Option<Part> = None;
        for document in documents {
            let id = document.get("_id").cloned().unwrap_or(Bson::Null);
            let mut text = Vec::new();
            event::document(document, &mut text)?;
            if text.len() > MAX_PART {
                text.clear();
                event::document(&doc! { "_id": id.clone() }, &mut text)?;
            }
            let is_full = part.as_ref().is_some_and(|part| {
                part.event.len() + text.len() > MAX_PART || part.ids.len() >= MAX_DOCUMENTS
            });
            if is_full {
                parts.extend(part.take().map(Part::close));
            }
            let part = part.get_or_insert_with(|| Part {
                event: start.clone(),
                ids: Vec::new(),
            });
            let before: &[u8] = match part.ids.is_empty() {
                true => b",\"documents\":[",
                false => b",",
            };
            part.event.extend_from_slice(before);
            part.event.extend(text);
            part.ids.push(id);
        }
        parts.extend(part.map(Part::close));
        Ok(parts)
    }
}

impl Part {
    /// Ends the list of documents.
    fn close(mut self) -> Arc<Self> {
        self.event.push(b']');
        Arc::new(self)
    }

    /// The arguments of the job: a list of one event.
    fn arguments(&self, outcome: Option<&Document>) -> Result<String> {
        let mut args = vec![b'['];
        args.extend_from_slice(&self.event);
        if let Some(outcome) = outcome {
            args.extend_from_slice(b",\"outcome\":");
            event::document(outcome, &mut args)?;
        }
        args.extend_from_slice(b"}]");
        super::answer::text(args)
    }
}

impl Held {
    /// The same, of a write that may be done in part when it fails, if that is so.
    pub(crate) fn in_parts(self, in_parts: bool) -> Self {
        Self { in_parts, ..self }
    }

    /// Tells the jobs what came of the write. Goes on when nobody waits for it.
    pub(crate) async fn settle(self, done: Result<Done, &Error>) {
        let settling = match done {
            Ok(done) => tokio::spawn(self.confirm(done)),
            // Nobody knows whether it happened: the jobs are run.
            Err(Error::Timeout | Error::Unavailable(_)) => return,
            Err(_) if self.in_parts => return,
            Err(_) => tokio::spawn(self.withdraw()),
        };
        if let Err(error) = settling.await {
            tracing::error!(%error, "hooks after a write were not told what came of it");
        }
    }

    async fn confirm(self, done: Done) {
        for some in self.waiting.chunks(AT_ONCE) {
            let told = some.iter().map(async |waiting| {
                let Some(outcome) = done.outcome(waiting) else {
                    return self.jobs.withdraw(&waiting.id).await;
                };
                let args = waiting.part.arguments(Some(&outcome))?;
                if self.jobs.confirm(&waiting.id, Some(args.clone())).await? {
                    return Ok(());
                }
                // The write took longer than the job was held, and it has run before
                // there was anything to see.
                let new = NewJob {
                    plugin: Some(waiting.plugin.clone()),
                    args,
                    depth: self.depth,
                    ..NewJob::new(&waiting.function, Source::Hook)
                };
                self.jobs.enqueue(new).await.map(drop)
            });
            Self::log(join_all(told).await);
        }
    }

    async fn withdraw(self) {
        for some in self.waiting.chunks(AT_ONCE) {
            let told = some.iter().map(|waiting| self.jobs.withdraw(&waiting.id));
            Self::log(join_all(told).await);
        }
    }

    fn log(told: Vec<Result<()>>) {
        for error in told.into_iter().filter_map(Result::err) {
            tracing::warn!(
                cause = std::error::Error::source(&error),
                "a hook after a write will be run without being told what came of it: {error}"
            );
        }
    }
}

impl Done {
    /// What one job is told; nothing where what it watches has not happened.
    fn outcome(&self, waiting: &Waiting) -> Option<Document> {
        let watches = |operation: Operation| waiting.operations.contains(&operation);
        match self {
            Done::Inserted => Some(doc! { "ids": &waiting.part.ids }),
            Done::Updated(outcome) => {
                let inserted = watches(Operation::Insert) && outcome.upserted_id.is_some();
                let updated = watches(Operation::Update) && outcome.modified > 0;
                let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                (inserted || updated).then(|| {
                    let mut told = doc! {
                        "matched": number(outcome.matched),
                        "modified": number(outcome.modified),
                    };
                    if let Some(id) = &outcome.upserted_id {
                        told.insert("upserted_id", id.clone());
                    }
                    told
                })
            }
            Done::Deleted(0) => None,
            Done::Deleted(count) => {
                Some(doc! { "deleted": i64::try_from(*count).unwrap_or(i64::MAX) })
            }
        }
    }
}
