//! Keys and values of plugins, with a time to live, on any document store.
//!
//! One collection of the server's own holds the entries of all plugins: the
//! plugin's name, which has no colon, is the first part of `_id`. The time to
//! live is looked at on every read, so that an entry is gone when its time is
//! over; an index by which documents expire removes it some time later.
//!
//! What has to be atomic (adding, comparing) is a write that happens only if the
//! entry is the one that was read: each write gives it a new revision. In one
//! process those that want the same key take turns, so that only hosts of a
//! cluster ever meet.

mod entry;
mod usage;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, RawBsonRef, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use tokio::sync::{Mutex, OnceCell};

use crate::caller::Caller;
use crate::clock::Clock;
use crate::error::Error;
use crate::storage::{Change, DocumentStore, Find, IndexSpec, StoreError, Update};
use entry::{Entry, Value};
use usage::Usage;

const COLLECTION: &str = "_coglex_kv";
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 1024 * 1024;
/// A year. What should last longer lasts for good.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Keys of one listing.
const MAX_KEYS: u32 = 1_000;
/// How often an atomic change starts over because another host was faster.
const MAX_ROUNDS: usize = 32;
/// Turns that keys share.
const TURNS: usize = 64;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The key, value or time is not one.
    #[error("{0}")]
    Invalid(String),
    /// What is to be added to is no counter.
    #[error("the key holds a value that is no counter")]
    NotACounter,
    /// The plugin's entries would take more bytes than it may have.
    #[error("the plugin's keys and values may take {0} bytes, and there is no room left")]
    Full(u64),
    /// Other hosts were faster, again and again.
    #[error("too many change this key at the same time")]
    Contended,
    /// The store failed, or the caller may not.
    #[error(transparent)]
    Service(#[from] Error),
}

impl From<StoreError> for KvError {
    fn from(error: StoreError) -> Self {
        KvError::Service(error.into())
    }
}

type Result<T, E = KvError> = std::result::Result<T, E>;

/// The service, cheap to clone.
#[derive(Clone)]
pub struct Kv {
    store: Arc<dyn DocumentStore>,
    clock: Clock,
    usage: Usage,
    indexed: Arc<OnceCell<()>>,
    turns: Arc<[Mutex<()>; TURNS]>,
}

/// What an atomic change makes of an entry.
enum Step {
    /// Nothing.
    Keep,
    Write(Value, Option<bson::DateTime>),
    Remove,
}

impl Kv {
    /// A service over `store`.
    pub fn new(store: Arc<dyn DocumentStore>) -> Self {
        Self {
            store,
            clock: Clock::default(),
            usage: Usage::default(),
            indexed: Arc::default(),
            turns: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
        }
    }

    /// By this clock, by which times to live begin and end.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The value of a key: bytes, or the digits of a counter.
    pub async fn get(&self, caller: &Caller, key: &str) -> Result<Option<Vec<u8>>> {
        let id = id(caller, key)?;
        let entry = self.read(&id).await?;
        Ok(entry
            .filter(|entry| entry.is_live(self.clock.now()))
            .map(|entry| entry.value.into_bytes()))
    }

    /// Sets a key.
    pub async fn set(
        &self,
        caller: &Caller,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let id = id(caller, key)?;
        let value = checked(value)?;
        let expires = self.expiry(ttl)?;
        self.ensure_index().await?;
        // What is overwritten is looked at only where it matters; elsewhere the next
        // count puts it right.
        let more = value.size(&id);
        if let Err(error) = self.take(caller, (0, more)).await {
            let KvError::Full(_) = error else {
                return Err(error);
            };
            let there = self.read(&id).await?;
            let there = there.map_or(0, |entry| entry.value.size(&id));
            self.take(caller, (there, more)).await?;
        }
        for _ in 0..MAX_ROUNDS {
            let update = Update {
                filter: doc! { "_id": &id },
                change: Change::Replacement(Entry::document(&id, &value, expires)),
                many: false,
                upsert: true,
                array_filters: Vec::new(),
            };
            match self.store.update(COLLECTION, update).await {
                Ok(_) => return Ok(()),
                // Another host has made it between the look and the insert.
                Err(StoreError::DuplicateKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(KvError::Contended)
    }

    /// Removes a key; tells whether it was there.
    pub async fn delete(&self, caller: &Caller, key: &str) -> Result<bool> {
        let id = id(caller, key)?;
        self.change(caller, &id, |entry| match entry {
            Some(_) => Ok((Step::Remove, true)),
            None => Ok((Step::Keep, false)),
        })
        .await
    }

    /// Adds to a counter; answers with the sum, within the range of an `i64`. The
    /// time to live is for a counter that begins.
    pub async fn increment(
        &self,
        caller: &Caller,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64> {
        let id = id(caller, key)?;
        let begins = self.expiry(ttl)?;
        self.change(caller, &id, |entry| {
            let (count, expires) = match entry {
                None => (0, begins),
                Some(Entry {
                    value: Value::Counter(count),
                    expires,
                    ..
                }) => (*count, *expires),
                Some(_) => return Err(KvError::NotACounter),
            };
            let sum = count.saturating_add(by);
            Ok((Step::Write(Value::Counter(sum), expires), sum))
        })
        .await
    }

    /// Sets a key if it holds what is expected, or is absent where nothing is;
    /// tells whether it did.
    pub async fn compare_and_set(
        &self,
        caller: &Caller,
        key: &str,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let id = id(caller, key)?;
        let value = checked(value)?;
        let expires = self.expiry(ttl)?;
        self.change(caller, &id, |entry| {
            let there = entry.map(|entry| entry.value.clone().into_bytes());
            Ok(match there == expected {
                true => (Step::Write(value.clone(), expires), true),
                false => (Step::Keep, false),
            })
        })
        .await
    }

    /// Keys with a prefix, in the order of their bytes, after `after`.
    pub async fn keys(
        &self,
        caller: &Caller,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        let plugin = plugin(caller)?;
        if prefix.len() > MAX_KEY || after.is_some_and(|key| key.len() > MAX_KEY) {
            return Err(too_long());
        }
        let start = format!("{plugin}:");
        // `;` comes after `:`, so that no other plugin's keys are met.
        let mut range = doc! { "$gte": format!("{start}{prefix}"), "$lt": format!("{plugin};") };
        if let Some(after) = after {
            range.insert("$gt", format!("{start}{after}"));
        }
        let find = Find {
            filter: doc! { "_id": range, "$nor": [{ "x": { "$lte": self.clock.now() } }] },
            projection: Some(doc! { "_id": 1 }),
            sort: Some(doc! { "_id": 1 }),
            limit: Some(limit.min(MAX_KEYS).into()),
            ..Find::default()
        };
        let found: Vec<RawDocumentBuf> = self
            .store
            .find(COLLECTION, find)
            .await?
            .try_collect()
            .await?;
        let keys = found
            .iter()
            .filter_map(|raw| raw.get_str("_id").ok()?.strip_prefix(&start))
            .take_while(|key| key.starts_with(prefix));
        Ok(keys.map(str::to_owned).collect())
    }

    /// Changes an entry, which only counts as there while it lives. `step` may be
    /// asked several times, and the last answer is what happened.
    async fn change<T>(
        &self,
        caller: &Caller,
        id: &str,
        step: impl Fn(Option<&Entry>) -> Result<(Step, T)>,
    ) -> Result<T> {
        let _turn = self.turn(id).lock().await;
        for _ in 0..MAX_ROUNDS {
            let stored = self.read(id).await?;
            let live = stored
                .as_ref()
                .filter(|entry| entry.is_live(self.clock.now()));
            let (step, answer) = step(live)?;
            let there = stored.as_ref().map_or(0, |entry| entry.value.size(id));
            if let Step::Write(value, _) = &step {
                self.take(caller, (there, value.size(id))).await?;
            }
            let done = match (step, &stored) {
                (Step::Keep, _) => true,
                (Step::Remove, None) => true,
                (Step::Remove, Some(entry)) => {
                    let same = entry.same(id);
                    let deleted = self.store.delete(COLLECTION, same, false).await? > 0;
                    if deleted {
                        self.usage.give(plugin(caller)?, there).await;
                    }
                    deleted
                }
                (Step::Write(value, expires), None) => {
                    self.ensure_index().await?;
                    let document = Entry::document(id, &value, expires);
                    match self.store.insert(COLLECTION, vec![raw(&document)?]).await {
                        Ok(()) => true,
                        Err(StoreError::DuplicateKey { .. }) => false,
                        Err(error) => return Err(error.into()),
                    }
                }
                (Step::Write(value, expires), Some(entry)) => {
                    let update = Update {
                        filter: entry.same(id),
                        change: Change::Replacement(Entry::document(id, &value, expires)),
                        many: false,
                        upsert: false,
                        array_filters: Vec::new(),
                    };
                    self.store.update(COLLECTION, update).await?.matched > 0
                }
            };
            if done {
                return Ok(answer);
            }
        }
        Err(KvError::Contended)
    }

    /// Makes room for a write; see [`usage`].
    async fn take(&self, caller: &Caller, change: (u64, u64)) -> Result<()> {
        let plugin = plugin(caller)?;
        let limit = match caller {
            Caller::Plugin(plugin) => plugin.kv_bytes,
            Caller::ApiKey | Caller::Key(_) | Caller::User(_) => u64::MAX,
        };
        if limit == u64::MAX {
            return Ok(());
        }
        let count = || self.count(plugin);
        self.usage.take(plugin, limit, change, count).await
    }

    /// The bytes that the entries of a plugin take.
    async fn count(&self, plugin: &str) -> Result<u64> {
        let own = doc! { "$gte": format!("{plugin}:"), "$lt": format!("{plugin};") };
        self.sweep(&own).await?;
        let pipeline = vec![
            doc! { "$match": { "_id": own } },
            doc! { "$group": { "_id": null, "bytes": { "$sum": "$n" } } },
        ];
        let counted = self.store.aggregate(COLLECTION, pipeline, None).await?;
        let counted: Vec<RawDocumentBuf> = counted.try_collect().await?;
        let bytes = counted.first().and_then(|sum| match sum.get("bytes") {
            Ok(Some(RawBsonRef::Int64(bytes))) => u64::try_from(bytes).ok(),
            Ok(Some(RawBsonRef::Int32(bytes))) => u64::try_from(bytes).ok(),
            _ => None,
        });
        Ok(bytes.unwrap_or(0))
    }

    /// Removes entries of these ids whose time is over. The store would do it, but
    /// a minute later: until then they take room that nobody counts.
    async fn sweep(&self, ids: &Document) -> Result<()> {
        let over = doc! { "$lte": self.clock.now() };
        loop {
            let find = Find {
                filter: doc! { "_id": ids, "x": &over },
                projection: Some(doc! { "_id": 1 }),
                limit: Some(MAX_KEYS.into()),
                ..Find::default()
            };
            let found = self.store.find(COLLECTION, find).await?;
            let found: Vec<RawDocumentBuf> = found.try_collect().await?;
            let found: Vec<&str> = found
                .iter()
                .filter_map(|raw| raw.get_str("_id").ok())
                .collect();
            if found.is_empty() {
                return Ok(());
            }
            // In portions, so that other writers have their turns; and only those
            // that nobody has set anew meanwhile.
            let these = doc! { "_id": { "$in": found }, "x": &over };
            self.store.delete(COLLECTION, these, true).await?;
        }
    }

    async fn read(&self, id: &str) -> Result<Option<Entry>> {
        let stored = self.store.get(COLLECTION, Bson::from(id)).await?;
        Ok(stored.map(|raw| Entry::read(&raw)).transpose()?)
    }

    /// When what is written now is over.
    fn expiry(&self, ttl: Option<Duration>) -> Result<Option<bson::DateTime>> {
        let Some(ttl) = ttl else { return Ok(None) };
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(KvError::Invalid(format!(
                "a time to live is from 1 to {} milliseconds",
                MAX_TTL.as_millis()
            )));
        }
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let now = self.clock.now().timestamp_millis();
        Ok(Some(bson::DateTime::from_millis(now.saturating_add(ttl))))
    }

    fn turn(&self, id: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        let [first, ..] = &*self.turns;
        self.turns.get(index).unwrap_or(first)
    }

    /// Makes the index by which entries expire, once in this process's life.
    async fn ensure_index(&self) -> Result<()> {
        let index = IndexSpec {
            name: Some("x_1".into()),
            keys: doc! { "x": 1 },
            unique: false,
            sparse: true,
            expire_after: Some(Duration::ZERO),
        };
        self.indexed
            .get_or_try_init(|| self.store.create_index(COLLECTION, index))
            .await?;
        Ok(())
    }
}

/// The plugin whose keys are meant.
fn plugin(caller: &Caller) -> Result<&str> {
    match caller {
        Caller::Plugin(plugin) if plugin.grants.kv => Ok(&plugin.name),
        _ => Err(KvError::Service(Error::Forbidden(
            "keys and values were not granted".into(),
        ))),
    }
}

fn id(caller: &Caller, key: &str) -> Result<String> {
    let plugin = plugin(caller)?;
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(too_long());
    }
    Ok(format!("{plugin}:{key}"))
}

fn too_long() -> KvError {
    KvError::Invalid(format!("a key has from 1 to {MAX_KEY} bytes"))
}

fn checked(value: Vec<u8>) -> Result<Value> {
    if value.len() > MAX_VALUE {
        return Err(KvError::Invalid(format!(
            "a value has at most {MAX_VALUE} bytes"
        )));
    }
    Ok(Value::Bytes(value))
}

fn raw(document: &Document) -> Result<RawDocumentBuf> {
    Ok(RawDocumentBuf::try_from(document).map_err(crate::json::invalid_bson)?)
}
