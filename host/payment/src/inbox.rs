//! Events, kept before they are acknowledged, and told to functions at least once.
//!
//! ```text
//! webhook ─► insert {state: new} ─► 200     a second one of the same id: 200, and no more
//!                    │
//!                    └─► mirror ─► a job for each function ─► {state: done}
//! ```
//!
//! When the process ends between the two, or the store or the queue fails, the event
//! stays `new` and is taken up again by whichever host comes by ([`Inbox::sweep`]).
//! Doing it twice does no harm: the mirror goes by time, and the jobs of an event are
//! told apart by event, round and function. What becomes of a function that fails is the
//! jobs' matter: they are retried, with back-off, and die at last; see `coglex jobs`.
//! A replay is a further round, with jobs of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bson::{Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc};
use coglex_services::Error;
use coglex_services::jobs::{Jobs, NewJob, Source};
use coglex_services::storage::{Change, DocumentStore, Find, IndexSpec, StoreError, Update};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::error::{PaymentError, Result, broken};
use crate::event::Event;
use crate::mirror::{Mirror, whole};

const COLLECTION: &str = "_coglex_payment_events";

/// When an event that was not done is looked at again: longer than doing it takes, so
/// that others do not begin what is under way.
const FIRST_WAIT: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Events of one sweep.
const MAX_SWEPT: u64 = 100;
/// Events of one listing.
const MAX_LISTED: u64 = 1_000;

/// A function that wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// The plugin's name.
    pub plugin: String,
    /// The function's name.
    pub function: String,
}

/// Finds who wants to be told.
pub trait Subscribers: Send + Sync + 'static {
    /// Those who want events of this kind now.
    fn of(&self, kind: &str) -> Vec<Subscriber>;
}

/// How an event fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    /// It is kept, and not yet told.
    New,
    /// It is in the mirror, and everybody who wants it has a job.
    Done,
}

impl EventState {
    /// Its name, as stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            EventState::New => "new",
            EventState::Done => "done",
        }
    }

    /// The state of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [EventState::New, EventState::Done]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only in this state.
    pub state: Option<EventState>,
    /// Only those that were received before this one.
    pub before: Option<String>,
    /// At most so many.
    pub limit: u64,
}

/// An event as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    /// `evt_…`.
    pub id: String,
    /// `checkout.session.completed` and the like.
    pub r#type: String,
    /// `new` or `done`.
    pub state: String,
    /// When it happened, Unix seconds.
    pub created: i64,
    /// When it was received, RFC 3339.
    pub received: String,
    /// How often it was replayed.
    pub replays: i64,
    /// Jobs of the last round; `coglex jobs` tells how they fare.
    pub jobs: Vec<String>,
    /// What Stripe has sent; absent in listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Value>,
}

pub(crate) struct Inbox {
    store: Arc<dyn DocumentStore>,
    jobs: Jobs,
    retention: Duration,
    subscribers: OnceLock<Arc<dyn Subscribers>>,
    indexed: OnceCell<()>,
}

/// An event as it is kept.
struct Kept {
    event: Event,
    payload: String,
    replays: i64,
}

impl Inbox {
    pub(crate) fn new(store: Arc<dyn DocumentStore>, jobs: Jobs, retention: Duration) -> Self {
        Self {
            store,
            jobs,
            retention,
            subscribers: OnceLock::new(),
            indexed: OnceCell::new(),
        }
    }

    /// Says who wants to be told. Once; who keeps plugins does it.
    pub(crate) fn tell(&self, subscribers: Arc<dyn Subscribers>) {
        let _ = self.subscribers.set(subscribers);
    }

    /// Keeps an event. It is durable when this answers; answers whether it is new.
    pub(crate) async fn keep(&self, event: &Event, payload: &str) -> Result<bool> {
        self.ensure_indexes().await?;
        let now = DateTime::now();
        let document = doc! {
            "_id": &event.id,
            "type": &event.kind,
            "created": event.created,
            "livemode": event.livemode,
            "received": now,
            "expires": later(now, self.retention),
            "payload": payload,
            "state": EventState::New.name(),
            "at": later(now, FIRST_WAIT),
            "tries": 0_i64,
            "replays": 0_i64,
        };
        let raw = RawDocumentBuf::try_from(&document).map_err(broken)?;
        match self.store.insert(COLLECTION, vec![raw]).await {
            Ok(()) => Ok(true),
            // A commit that is under way may still fail, and Stripe must not hear 200 then.
            Err(StoreError::DuplicateKey { .. }) => match self.get(&event.id).await? {
                Some(_) => Ok(false),
                None => Err(
                    Error::Unavailable("an event is being kept by another request".into()).into(),
                ),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Takes an event into the mirror and has functions told.
    pub(crate) async fn process(&self, mirror: &Mirror, id: &str) -> Result<()> {
        let Some(raw) = self.get(id).await? else {
            return Ok(());
        };
        let Some(kept) = Kept::read(&raw) else {
            return Err(Error::Unavailable("a kept event is damaged".into()).into());
        };
        mirror.apply(&kept.event).await?;
        let mut jobs = Vec::new();
        let subscribers = self
            .subscribers
            .get()
            .map(|known| known.of(&kept.event.kind));
        for Subscriber { plugin, function } in subscribers.unwrap_or_default() {
            let round = kept.replays.to_string();
            let words = ["payment-event", id, &round, &plugin, &function];
            let new = NewJob {
                args: format!("[{}]", kept.payload),
                plugin: Some(plugin.clone()),
                unique: Some(words.map(str::to_owned).to_vec()),
                ..NewJob::new(&function, Source::Payment)
            };
            jobs.push(self.jobs.enqueue(new).await?.id);
        }
        // Unless somebody has asked for a replay meanwhile.
        let filter = doc! { "_id": id, "replays": kept.replays };
        let change = doc! {
            "$set": { "state": EventState::Done.name(), "jobs": jobs },
            "$unset": { "at": "" },
        };
        self.update(filter, change).await?;
        Ok(())
    }

    /// Does what was left undone and is due. Answers how many events that were.
    pub(crate) async fn sweep(&self, mirror: &Mirror) -> Result<usize> {
        let find = Find {
            filter: doc! { "at": { "$lte": DateTime::now() } },
            sort: Some(doc! { "at": 1 }),
            limit: Some(MAX_SWEPT),
            max_time: Some(Duration::from_secs(10)),
            ..Find::default()
        };
        let due = self.read(find).await?;
        let mut done = 0;
        for raw in &due {
            let Ok(id) = raw.get_str("_id") else {
                continue;
            };
            let tries = raw.get("tries").ok().flatten().and_then(whole).unwrap_or(0);
            let wait = FIRST_WAIT
                .saturating_mul(1 << tries.clamp(0, 8))
                .min(LONGEST_WAIT);
            // Before it is tried, so that one that fails has its back-off.
            let again = later(DateTime::now(), wait);
            let change = doc! { "$set": { "at": again }, "$inc": { "tries": 1_i64 } };
            self.update(doc! { "_id": id, "state": EventState::New.name() }, change)
                .await?;
            match self.process(mirror, id).await {
                Ok(()) => done += 1,
                Err(error) => tracing::warn!(
                    event = id,
                    error = &error as &dyn std::error::Error,
                    "an event of Stripe is tried again later"
                ),
            }
        }
        Ok(done)
    }

    /// Has an event told again, to whoever wants it now.
    pub(crate) async fn replay(&self, mirror: &Mirror, id: &str) -> Result<EventView> {
        let change = doc! {
            "$set": { "state": EventState::New.name(), "at": later(DateTime::now(), FIRST_WAIT), "tries": 0_i64 },
            "$inc": { "replays": 1_i64 },
        };
        if !self.update(doc! { "_id": id }, change).await? {
            return Err(unknown());
        }
        self.process(mirror, id).await?;
        self.show(id).await
    }

    /// One event, with what Stripe has sent.
    pub(crate) async fn show(&self, id: &str) -> Result<EventView> {
        let raw = self.get(id).await?.ok_or_else(unknown)?;
        let mut view = view(&raw).ok_or_else(unknown)?;
        let payload = raw.get_str("payload").ok();
        view.event = payload.and_then(|payload| serde_json::from_str(payload).ok());
        Ok(view)
    }

    /// Events, the newest first. The second is whether there are more.
    pub(crate) async fn list(&self, query: EventQuery) -> Result<(Vec<EventView>, bool)> {
        let limit = query.limit.clamp(1, MAX_LISTED);
        let mut filter = Document::new();
        if let Some(kind) = query.kind {
            filter.insert("type", doc! { "$eq": kind });
        }
        if let Some(state) = query.state {
            filter.insert("state", state.name());
        }
        if let Some(before) = query.before {
            let before = self.get(&before).await?.ok_or_else(unknown)?;
            let received = before.get_datetime("received").map_err(|_| unknown())?;
            let id = before.get_str("_id").map_err(|_| unknown())?;
            let older = doc! { "received": { "$lt": received } };
            let same = doc! { "received": received, "_id": { "$lt": id } };
            filter.insert("$or", [older, same].map(Bson::Document).to_vec());
        }
        let find = Find {
            filter,
            projection: Some(doc! { "payload": 0 }),
            sort: Some(doc! { "received": -1, "_id": -1 }),
            limit: Some(limit + 1),
            max_time: Some(Duration::from_secs(10)),
            ..Find::default()
        };
        let found = self.read(find).await?;
        let mut views: Vec<EventView> = found.iter().filter_map(|raw| view(raw)).collect();
        let more = views.len() as u64 > limit;
        views.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((views, more))
    }

    async fn get(&self, id: &str) -> Result<Option<RawDocumentBuf>> {
        Ok(self.store.get(COLLECTION, Bson::from(id)).await?)
    }

    async fn read(&self, find: Find) -> Result<Vec<RawDocumentBuf>> {
        Ok(self
            .store
            .find(COLLECTION, find)
            .await?
            .try_collect()
            .await?)
    }

    async fn update(&self, filter: Document, operators: Document) -> Result<bool> {
        let update = Update {
            filter,
            change: Change::Operators(operators),
            many: false,
            upsert: false,
            array_filters: Vec::new(),
        };
        Ok(self.store.update(COLLECTION, update).await?.matched > 0)
    }

    /// Makes the indexes, once in this process's life.
    async fn ensure_indexes(&self) -> Result<()> {
        let make = || async {
            for (keys, sparse, expire_after) in [
                (doc! { "at": 1 }, true, None),
                (doc! { "received": -1, "_id": -1 }, false, None),
                (doc! { "expires": 1 }, false, Some(Duration::ZERO)),
            ] {
                let index = IndexSpec {
                    name: None,
                    keys,
                    unique: false,
                    sparse,
                    expire_after,
                };
                self.store.create_index(COLLECTION, index).await?;
            }
            Ok::<_, StoreError>(())
        };
        self.indexed.get_or_try_init(make).await?;
        Ok(())
    }
}

impl Kept {
    fn read(raw: &RawDocument) -> Option<Self> {
        let payload = raw.get_str("payload").ok()?;
        let number = |name: &str| raw.get(name).ok().flatten().and_then(whole);
        let created = number("created")?;
        Some(Self {
            event: Event::parse(payload.as_bytes(), created).ok()?,
            payload: payload.to_owned(),
            replays: number("replays")?,
        })
    }
}

fn view(raw: &RawDocument) -> Option<EventView> {
    let text = |name: &str| raw.get_str(name).ok().map(str::to_owned);
    let number = |name: &str| raw.get(name).ok().flatten().and_then(whole);
    let jobs = raw.get_array("jobs").ok();
    let jobs = jobs
        .into_iter()
        .flatten()
        .filter_map(|job| Some(job.ok()?.as_str()?.to_owned()));
    Some(EventView {
        id: text("_id")?,
        r#type: text("type")?,
        state: text("state")?,
        created: number("created")?,
        received: raw
            .get_datetime("received")
            .ok()?
            .try_to_rfc3339_string()
            .ok()?,
        replays: number("replays").unwrap_or(0),
        jobs: jobs.collect(),
        event: None,
    })
}

fn unknown() -> PaymentError {
    PaymentError::Service(Error::NotFound("there is no such event".into()))
}

fn later(now: DateTime, by: Duration) -> DateTime {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(now.timestamp_millis().saturating_add(by))
}
