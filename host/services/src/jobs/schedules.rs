//! What is remembered of schedules, so that each due run is made once by all hosts,
//! and one that was missed is made up.
//!
//! A run is a job whose id comes of the schedule and the time that it was due: of
//! many hosts that enqueue it, one does. The time of the last run is kept apart,
//! since jobs are forgotten: what is due between then and now was missed.

use std::time::Duration;

use bson::{Bson, DateTime, RawDocumentBuf, doc};

use super::{Jobs, NewJob, Source, id_of, later};
use crate::error::Result;
use crate::schedule::Cron;
use crate::storage::{Change, IndexSpec, StoreError, Update};

/// One document for each schedule: `{_id, name, last, expires}`.
const COLLECTION: &str = "_coglex_schedules";

/// For how long a schedule is remembered after it should have been due: longer
/// than any server is down.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A schedule that some plugin declares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The plugin's name.
    pub plugin: String,
    /// The function that is run.
    pub function: String,
    /// When: a cron expression.
    pub cron: String,
    /// A JSON array.
    pub args: String,
    /// A JSON object.
    pub kwargs: String,
}

impl Schedule {
    /// What tells it from all others: one that differs in anything is another.
    fn words(&self) -> Vec<String> {
        [
            "schedule",
            &self.plugin,
            &self.function,
            &self.cron,
            &self.args,
            &self.kwargs,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn id(&self) -> String {
        id_of(&self.words())
    }
}

impl Jobs {
    /// When the schedule was due last, as far as runs were made. One that nobody
    /// knows begins now: what was due before it was there was not missed.
    pub async fn last_run(&self, schedule: &Schedule, cron: &Cron) -> Result<DateTime> {
        let (id, now) = (schedule.id(), DateTime::now());
        if let Some(known) = self.remembered(&id).await? {
            return Ok(known);
        }
        let index = IndexSpec {
            name: None,
            keys: doc! { "expires": 1 },
            unique: false,
            sparse: false,
            expire_after: Some(Duration::ZERO),
        };
        self.0.store.create_index(COLLECTION, index).await?;
        let document = doc! {
            "_id": &id,
            "name": format!("{}/{} {}", schedule.plugin, schedule.function, schedule.cron),
            "last": now,
            "expires": expires(cron, now),
        };
        let raw = RawDocumentBuf::try_from(&document).map_err(crate::json::invalid_bson)?;
        match self.0.store.insert(COLLECTION, vec![raw]).await {
            Ok(()) => Ok(now),
            Err(StoreError::DuplicateKey { .. }) => Ok(self.remembered(&id).await?.unwrap_or(now)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the run that was due then, unless another host has made it.
    pub async fn make_run(&self, schedule: &Schedule, cron: &Cron, due: DateTime) -> Result<()> {
        // The job of that run may be forgotten already, where jobs are kept shortly or
        // this host was away for long.
        let known = self.remembered(&schedule.id()).await?;
        if known.is_some_and(|last| last >= due) {
            return Ok(());
        }
        let mut unique = schedule.words();
        unique.push(due.timestamp_millis().to_string());
        self.enqueue(NewJob {
            plugin: Some(schedule.plugin.clone()),
            args: schedule.args.clone(),
            kwargs: schedule.kwargs.clone(),
            unique: Some(unique),
            ..NewJob::new(&schedule.function, Source::Schedule)
        })
        .await?;
        // After the job: ended between the two, the job is there and the next
        // start enqueues it in vain.
        let update = Update {
            filter: doc! { "_id": schedule.id() },
            change: Change::Operators(doc! {
                "$max": { "last": due, "expires": expires(cron, due) },
            }),
            many: false,
            upsert: true,
            array_filters: Vec::new(),
        };
        match self.0.store.update(COLLECTION, update).await {
            // Another host has upserted it at the same time, for the same run.
            Ok(_) | Err(StoreError::DuplicateKey { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// When the schedule was due last, if any host follows it.
    pub async fn known_run(&self, schedule: &Schedule) -> Result<Option<DateTime>> {
        self.remembered(&schedule.id()).await
    }

    async fn remembered(&self, id: &str) -> Result<Option<DateTime>> {
        let found = self.0.store.get(COLLECTION, Bson::from(id)).await?;
        Ok(found.and_then(|raw| raw.get_datetime("last").ok()))
    }
}

fn expires(cron: &Cron, last: DateTime) -> DateTime {
    later(cron.next(last).unwrap_or(last), REMEMBERED)
}
