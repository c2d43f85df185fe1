//! Writes down what is noted, in the background: what repeats itself within a minute
//! becomes one entry that counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{DateTime, doc};
use futures_util::TryStreamExt as _;
use tokio::sync::Notify;

use super::{COLLECTION, Entry, Inner};
use crate::accounts::network;
use crate::error::Result;
use crate::storage::{Change, Find, Update};

/// How long what repeats itself is one entry.
const WINDOW: Duration = Duration::from_secs(60);
/// How soon what is noted is written.
const SOON: Duration = Duration::from_millis(500);
/// How soon an entry tells of its repetitions.
const RECOUNT: Duration = Duration::from_secs(5);
/// Failures that are open at once; what is beyond is only counted.
const MAX_FAILURES: usize = 500;
/// Entries of what worked that are open at once: apart from the others, which anybody
/// can cause.
const MAX_SUCCESSES: usize = 5_000;
/// How often it is seen to it that there are not too many entries.
const TRIM: Duration = Duration::from_secs(600);
/// Entries after which it is seen to in any case.
const TRIM_AFTER: u64 = 5_000;

/// The writer of one log. Its task is started by the first note.
#[derive(Clone)]
pub(super) struct Writer {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<OpenEntries>,
    /// Notes for which there was no room.
    missed: AtomicU64,
    noted: Notify,
    started: OnceLock<()>,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<Trimmed>,
}

/// What still counts repetitions.
#[derive(Default)]
struct OpenEntries {
    all: HashMap<Entry, Open>,
    failures: usize,
}

impl OpenEntries {
    fn has_room(&self, success: bool) -> bool {
        match success {
            true => self.all.len() - self.failures < MAX_SUCCESSES,
            false => self.failures < MAX_FAILURES,
        }
    }
}

/// When entries were last counted, and how many were written since.
#[derive(Default)]
struct Trimmed {
    at: Option<Instant>,
    written: u64,
}

/// An entry that still counts repetitions.
struct Open {
    id: ObjectId,
    since: Instant,
    at: DateTime,
    last: DateTime,
    request_id: Option<String>,
    count: i64,
    /// What the store knows of `count`; none before it is inserted.
    written: Option<i64>,
    told: Instant,
    first: Entry,
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            shared: Arc::default(),
        }
    }

    pub(super) fn take(&self, entry: Entry) {
        let (now, at) = (Instant::now(), DateTime::now());
        {
            let mut open = self
                .shared
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let key = same(&entry);
            if let Some(one) = open.all.get_mut(&key) {
                one.count += 1;
                one.last = at;
                one.request_id = entry.request_id;
                return;
            }
            if !open.has_room(entry.success) {
                self.shared.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let one = Open {
                id: ObjectId::new(),
                since: now,
                at,
                last: at,
                request_id: entry.request_id.clone(),
                count: 1,
                written: None,
                told: now,
                first: entry,
            };
            open.failures += usize::from(!key.success);
            open.all.insert(key, one);
        }
        self.start();
        self.shared.noted.notify_one();
    }

    /// Starts the task, where there is a runtime to run it.
    fn start(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        self.shared.started.get_or_init(|| {
            let writer = self.clone();
            runtime.spawn(async move {
                loop {
                    let idle = {
                        let open = writer.shared.open.lock();
                        open.unwrap_or_else(PoisonError::into_inner).all.is_empty()
                    };
                    if idle {
                        writer.shared.noted.notified().await;
                    }
                    tokio::time::sleep(SOON).await;
                    writer.flush_by(Instant::now()).await;
                }
            });
        });
    }

    /// Writes all there is, also what would wait.
    pub(super) async fn flush(&self) {
        let far = Instant::now() + WINDOW;
        self.flush_by(far).await;
    }

    /// Writes what is due.
    async fn flush_by(&self, now: Instant) {
        let mut trimmed = self.shared.flushing.lock().await;
        let (fresh, counted, full) = self.due(now);
        let mut written = fresh.len() as u64;
        if !fresh.is_empty()
            && let Err(error) = self.inner.insert(&fresh).await
        {
            tracing::error!(
                "{} entries of the audit log were not written: {error}",
                fresh.len()
            );
        }
        for update in counted {
            if let Err(error) = self.inner.store.update(COLLECTION, update).await {
                tracing::error!("an entry of the audit log was not counted: {error}");
            }
        }
        // Told when there is room again: at most once in a window.
        let missed = match full {
            true => 0,
            false => self.shared.missed.swap(0, Ordering::Relaxed),
        };
        if missed > 0 {
            let entry = Entry {
                action: "audit.overflow".to_owned(),
                target: Some(format!("{missed} entries were not written")),
                ..Entry::default()
            };
            let told = [(ObjectId::new(), DateTime::now(), entry)];
            if let Err(error) = self.inner.insert(&told).await {
                tracing::error!("{missed} entries of the audit log were dropped: {error}");
            }
            written += 1;
        }
        trimmed.written += written;
        let due = trimmed.at.is_none_or(|at| at + TRIM <= now);
        if written > 0 && (due || trimmed.written >= TRIM_AFTER) {
            *trimmed = Trimmed {
                at: Some(now),
                written: 0,
            };
            if let Err(error) = self.trim().await {
                tracing::warn!("the audit log was not cut to its length: {error}");
            }
        }
    }

    /// Entries that are new, those whose count is to be told, and whether there is no
    /// room for more. Entries whose window is over are forgotten.
    fn due(&self, now: Instant) -> (Vec<(ObjectId, DateTime, Entry)>, Vec<Update>, bool) {
        let mut open = self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut fresh, mut counted) = (Vec::new(), Vec::new());
        let open = &mut *open;
        let failures = &mut open.failures;
        open.all.retain(|key, one| {
            let over = one.since + WINDOW <= now;
            if one.written.is_none() {
                fresh.push((one.id, one.at, one.first.clone()));
                one.written = Some(1);
            }
            let news = one.written != Some(one.count);
            if news && (over || one.told + RECOUNT <= now) {
                let mut set = doc! { "count": one.count, "last": one.last };
                let id = one.request_id.clone();
                set.extend(id.map(|id| ("request_id".to_owned(), id.into())));
                counted.push(Update {
                    filter: doc! { "_id": one.id },
                    change: Change::Operators(doc! { "$set": set }),
                    many: false,
                    upsert: false,
                    array_filters: Vec::new(),
                });
                one.written = Some(one.count);
                one.told = now;
            }
            *failures -= usize::from(over && !key.success);
            !over
        });
        (fresh, counted, !open.has_room(false))
    }

    /// Deletes the oldest beyond the number that is kept, failures first.
    async fn trim(&self) -> Result<()> {
        let store = &self.inner.store;
        let keep = self.inner.settings.entries;
        for filter in [doc! { "outcome": "failure" }, doc! {}] {
            let there = store.count(COLLECTION, doc! {}, None).await?;
            let Some(surplus) = there.checked_sub(keep).filter(|surplus| *surplus > 0) else {
                return Ok(());
            };
            let last = Find {
                filter: filter.clone(),
                sort: Some(doc! { "_id": 1 }),
                skip: surplus - 1,
                limit: Some(1),
                projection: Some(doc! { "_id": 1 }),
                ..Find::default()
            };
            let found: Vec<_> = store.find(COLLECTION, last).await?.try_collect().await?;
            let mut old = filter;
            // Fewer than are too many: all of these go.
            if let Some(id) = found.first().and_then(|raw| raw.get_object_id("_id").ok()) {
                old.insert("_id", doc! { "$lte": id });
            }
            store.delete(COLLECTION, old, true).await?;
        }
        Ok(())
    }
}

/// What makes two entries the same thing done again.
fn same(entry: &Entry) -> Entry {
    Entry {
        address: entry.address.map(network),
        agent: None,
        request_id: None,
        ..entry.clone()
    }
}
