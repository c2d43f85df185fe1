//! What becomes of the jobs after a write when the write ends otherwise than well:
//! none is forgotten, none is run for what has not happened, unless nobody can know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_services::documents::DocumentLimits;
use coglex_services::hooks::{
    CallHook, CollectionHooks, Hook, HookCall, HookFailure, HookTable, Moment, Operation,
};
use coglex_services::jobs::{JobQuery, JobSettings};
use coglex_services::storage::{
    Change, DocumentStore, DocumentStream, Find, IndexSpec, Result as StoreResult, StoreError,
    Update, UpdateOutcome,
};
use coglex_services::{Caller, Documents, Error, Hooks, Jobs};

use crate::support::*;

crate::on_both_stores!(
    a_job_after_a_write_is_told_what_came_of_it,
    a_write_that_came_to_nothing_leaves_no_job,
    a_write_of_which_nobody_knows_leaves_its_job_without_an_outcome,
    a_write_whose_client_went_away_leaves_its_job,
    a_full_queue_refuses_writes_with_hooks_after_them,
    a_write_that_takes_longer_than_its_job_waits_is_told_of_again,
    a_large_write_with_many_hooks_after_it_has_a_job_for_each_part,
    a_write_that_failed_halfway_leaves_its_job_without_an_outcome,
);

/// A store whose writes to `orders` end as it is told; jobs go by it.
struct Moody {
    store: Store,
    mood: AtomicU8,
}

const FINE: u8 = 0;
/// The write is made, and then nobody hears of it.
const SILENT: u8 = 1;
/// The write is never answered.
const STUCK: u8 = 2;
/// The write fails at some document, and those before it are changed.
const HALFWAY: u8 = 4;
/// While the write is made, the jobs that wait for it are run.
const SLOW: u8 = 3;

impl Moody {
    async fn answer<T>(&self, collection: &str, done: T) -> StoreResult<T> {
        match self.mood.load(Ordering::Relaxed) {
            SILENT if collection == "orders" => Err(StoreError::Timeout),
            STUCK if collection == "orders" => std::future::pending().await,
            HALFWAY if collection == "orders" => Err(StoreError::DuplicateKey {
                index: "number_1".to_owned(),
            }),
            SLOW if collection == "orders" => {
                let change = doc! {
                    "$set": { "state": "succeeded" }, "$unset": { "held": "", "at": "" },
                };
                let run = Update {
                    filter: doc! { "held": true },
                    change: Change::Operators(change),
                    many: true,
                    upsert: false,
                    array_filters: Vec::new(),
                };
                self.store.update("_coglex_jobs", run).await?;
                Ok(done)
            }
            _ => Ok(done),
        }
    }
}

#[async_trait]
impl DocumentStore for Moody {
    async fn ping(&self) -> StoreResult<()> {
        self.store.ping().await
    }
    async fn get(&self, collection: &str, id: Bson) -> StoreResult<Option<RawDocumentBuf>> {
        self.store.get(collection, id).await
    }
    async fn find(&self, collection: &str, find: Find) -> StoreResult<DocumentStream> {
        self.store.find(collection, find).await
    }
    async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> StoreResult<u64> {
        self.store.count(collection, filter, max_time).await
    }
    async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> StoreResult<DocumentStream> {
        self.store.aggregate(collection, pipeline, max_time).await
    }
    async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> StoreResult<Vec<Bson>> {
        self.store
            .distinct(collection, path, filter, max_time)
            .await
    }
    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> StoreResult<()> {
        let done = self.store.insert(collection, documents).await?;
        self.answer(collection, done).await
    }
    fn updates_all_or_none(&self) -> bool {
        self.mood.load(Ordering::Relaxed) != HALFWAY && self.store.updates_all_or_none()
    }
    async fn update(&self, collection: &str, update: Update) -> StoreResult<UpdateOutcome> {
        let done = self.store.update(collection, update).await?;
        self.answer(collection, done).await
    }
    async fn delete(&self, collection: &str, filter: Document, many: bool) -> StoreResult<u64> {
        let done = self.store.delete(collection, filter, many).await?;
        self.answer(collection, done).await
    }
    async fn create_index(&self, collection: &str, index: IndexSpec) -> StoreResult<()> {
        self.store.create_index(collection, index).await
    }
    async fn indexes(&self, collection: &str) -> StoreResult<Vec<IndexSpec>> {
        self.store.indexes(collection).await
    }
    async fn drop_index(&self, collection: &str, name: &str) -> StoreResult<bool> {
        self.store.drop_index(collection, name).await
    }
    async fn collections(&self) -> StoreResult<Vec<String>> {
        self.store.collections().await
    }
}

/// Hooks after everything that is done to `orders`.
struct Table(Arc<CollectionHooks>);

impl HookTable for Table {
    fn of(&self, collection: &str) -> Option<Arc<CollectionHooks>> {
        (collection == "orders").then(|| Arc::clone(&self.0))
    }
}

struct Never;

#[async_trait]
impl CallHook for Never {
    async fn call(&self, _: HookCall) -> Result<String, HookFailure> {
        panic!("a hook after a write is a job")
    }
}

struct Shop {
    store: Arc<Moody>,
    documents: Documents,
    jobs: Jobs,
}

impl Shop {
    fn open(store: Store, queue: u64) -> Self {
        let store = Arc::new(Moody {
            store,
            mood: AtomicU8::new(FINE),
        });
        let operations = [Operation::Insert, Operation::Update, Operation::Delete];
        let told = operations.map(|operation| Hook {
            plugin: "shop".to_owned(),
            function: "told".to_owned(),
            moment: Moment::After,
            operation,
            order: 0,
            fail_open: false,
            call: Arc::new(Never),
        });
        let settings = JobSettings {
            queue,
            ..JobSettings::default()
        };
        let jobs = Jobs::new(store.clone(), settings);
        let hooks = Hooks::default();
        let table = Table(Arc::new(CollectionHooks::new(told.to_vec())));
        hooks.set(Arc::new(table), jobs.clone());
        let documents = Documents::new(store.clone(), DocumentLimits::default());
        Self {
            documents: documents.with_hooks(hooks),
            store,
            jobs,
        }
    }

    fn mood(&self, mood: u8) {
        self.store.mood.store(mood, Ordering::Relaxed);
    }

    async fn insert(&self, document: Document) -> Result<Vec<Bson>, Error> {
        let documents = vec![document];
        self.documents
            .insert(&Caller::ApiKey, "orders", documents)
            .await
    }

    async fn set(&self, id: &str, upsert: bool) -> Result<UpdateOutcome, Error> {
        let change = Change::Operators(doc! { "$set": { "n": 1 } });
        let filter = doc! { "_id": id };
        let caller = Caller::ApiKey;
        self.documents
            .update(&caller, "orders", filter, change, false, upsert)
            .await
    }

    async fn delete(&self, id: &str) -> Result<u64, Error> {
        let filter = doc! { "_id": id };
        let caller = Caller::ApiKey;
        self.documents
            .delete(&caller, "orders", filter, false)
            .await
    }

    /// The writes that jobs tell of, the oldest first.
    async fn told(&self) -> Vec<serde_json::Value> {
        let query = JobQuery {
            limit: 100,
            ..JobQuery::default()
        };
        let (listed, _) = self.jobs.list(query).await.unwrap();
        let mut told = Vec::new();
        for job in listed.iter().rev() {
            let job = self.jobs.get(&job.id).await.unwrap();
            assert_eq!((job.function.as_str(), job.depth), ("told", 1));
            let args: serde_json::Value = serde_json::from_str(&job.args).unwrap();
            told.push(args[0].clone());
        }
        told
    }
}

async fn a_job_after_a_write_is_told_what_came_of_it(store: Store) {
    let shop = Shop::open(store, 100);
    shop.insert(doc! { "_id": "a", "total": 3 }).await.unwrap();
    shop.set("a", false).await.unwrap();
    shop.set("b", true).await.unwrap();
    shop.delete("a").await.unwrap();
    let told = shop.told().await;
    assert_eq!(told.len(), 4);
    let of = |operation: &str| {
        let mut found = told.iter().filter(|event| event["operation"] == operation);
        found.next().unwrap()
    };
    assert_eq!(
        of("insert")["documents"],
        serde_json::json!([{"_id": "a", "total": 3}])
    );
    assert_eq!(of("insert")["outcome"], serde_json::json!({"ids": ["a"]}));
    assert_eq!(
        of("update")["outcome"],
        serde_json::json!({"matched": 1, "modified": 1})
    );
    assert_eq!(of("upsert")["outcome"]["upserted_id"], "b");
    assert_eq!(of("delete")["outcome"], serde_json::json!({"deleted": 1}));
}

async fn a_write_that_came_to_nothing_leaves_no_job(store: Store) {
    let shop = Shop::open(store, 100);
    shop.insert(doc! { "_id": "a", "n": 1 }).await.unwrap();
    let taken = shop.insert(doc! { "_id": "a" }).await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    // It is so already; there is none; there is none.
    shop.set("a", false).await.unwrap();
    shop.set("absent", false).await.unwrap();
    assert_eq!(shop.delete("absent").await.unwrap(), 0);
    assert_eq!(shop.told().await.len(), 1);
}

async fn a_write_of_which_nobody_knows_leaves_its_job_without_an_outcome(store: Store) {
    let shop = Shop::open(store, 100);
    shop.mood(SILENT);
    let silent = shop.insert(doc! { "_id": "a" }).await;
    assert!(matches!(silent, Err(Error::Timeout)), "{silent:?}");
    let told = shop.told().await;
    assert_eq!(told.len(), 1);
    assert!(told[0].get("outcome").is_none(), "{}", told[0]);
    assert_eq!(told[0]["documents"][0]["_id"], "a");
}

async fn a_write_whose_client_went_away_leaves_its_job(store: Store) {
    let shop = Shop::open(store, 100);
    shop.mood(STUCK);
    let gone = tokio::time::timeout(Duration::from_secs(2), shop.insert(doc! { "_id": "a" }));
    assert!(gone.await.is_err());
    assert_eq!(shop.told().await.len(), 1);
}

async fn a_full_queue_refuses_writes_with_hooks_after_them(store: Store) {
    let shop = Shop::open(store, 2);
    for id in ["a", "b"] {
        shop.insert(doc! { "_id": id }).await.unwrap();
    }
    let full = shop.insert(doc! { "_id": "c" }).await;
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
    let count = shop.documents.count(&Caller::ApiKey, "orders", doc! {});
    assert_eq!(count.await.unwrap(), 2);
}

async fn a_write_that_takes_longer_than_its_job_waits_is_told_of_again(store: Store) {
    let shop = Shop::open(store, 100);
    shop.mood(SLOW);
    shop.insert(doc! { "_id": "a" }).await.unwrap();
    let told = shop.told().await;
    assert_eq!(told.len(), 2, "{told:?}");
    let outcomes = told.iter().filter(|event| event.get("outcome").is_some());
    let outcomes: Vec<_> = outcomes.map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes, [&serde_json::json!({"ids": ["a"]})]);
}

async fn a_large_write_with_many_hooks_after_it_has_a_job_for_each_part(store: Store) {
    let shop = Shop::open(store, 1_000);
    let documents = (0..20).map(|n| doc! { "_id": n.to_string(), "text": "x".repeat(300_000) });
    let inserted = shop
        .documents
        .insert(&Caller::ApiKey, "orders", documents.collect());
    assert_eq!(inserted.await.unwrap().len(), 20);
    let told = shop.told().await;
    assert_eq!(told.len(), 20);
    let mut ids: Vec<_> = told
        .iter()
        .map(|event| event["outcome"]["ids"][0].as_str().unwrap().to_owned())
        .collect();
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(ids, expected);
}

async fn a_write_that_failed_halfway_leaves_its_job_without_an_outcome(store: Store) {
    let shop = Shop::open(store, 100);
    shop.mood(HALFWAY);
    let set = async |many: bool| {
        let change = Change::Operators(doc! { "$set": { "n": 1 } });
        let caller = Caller::ApiKey;
        shop.documents
            .update(&caller, "orders", doc! {}, change, many, false)
            .await
    };
    for (many, jobs) in [(false, 0), (true, 1)] {
        let failed = set(many).await;
        assert!(matches!(failed, Err(Error::Conflict(_))), "{failed:?}");
        let told = shop.told().await;
        assert_eq!(told.len(), jobs, "{told:?}");
        assert!(told.iter().all(|event| event.get("outcome").is_none()));
    }
}
