//! What a call costs, without HTTP around it:
//!
//! ```sh
//! cargo xtask guests   # or any other way to a component with a route
//! cargo run --release -p coglex-runtime --example call_cost -- [--reuse] HELLO.wasm...
//! ```
//!
//! Calls the first route of each component (or its first function), in many short
//! turns, and prints the time of one call: the best turn, the best tenth and the
//! median. A turn is so short that some are not interrupted, even on a machine
//! that does other things, too: the best ones tell what the code costs.
//! Every call is a fresh instance, or with `--reuse` the same one.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use coglex_runtime::{
    Allow, BudgetOverrides, CallContext, Door, Plugin, Policy, RouteMatch, Runtime, RuntimeSettings,
};
use coglex_services::accounts::{AuthSettings, RealmPolicy, SigningKey};
use coglex_services::caller::Credentials;
use coglex_services::documents::DocumentLimits;
use coglex_services::jobs::JobSettings;
use coglex_services::storage::{
    DocumentStore, DocumentStream, Find, IndexSpec, Result as StoreResult, Update, UpdateOutcome,
};
use coglex_services::{Accounts, Documents, Jobs, Kv, Services};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls in one turn: less than a millisecond, which the operating system often
/// leaves alone.
const CALLS: u32 = 50;
const TURNS: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let reuse = paths.iter().any(|path| path == "--reuse");
    paths.retain(|path| path != "--reuse");
    if paths.is_empty() {
        return Err("which component?".into());
    }
    let runtime = Runtime::new(RuntimeSettings::default(), services())?;
    let mut cases = Vec::new();
    for path in paths {
        let start = Instant::now();
        let budget = BudgetOverrides {
            reuse: reuse.then_some(u32::MAX),
            ..BudgetOverrides::default()
        };
        let policy = Policy {
            allow: Allow::Everything,
            budget: Some(budget),
            ..Policy::default()
        };
        let plugin = runtime
            .load("hello", std::fs::read(&path)?, None, policy)
            .await?;
        println!("{path}: loaded and compiled in {:.1?}", start.elapsed());
        cases.push((path, plugin, Vec::new()));
    }
    for _ in 0..TURNS {
        for (_, plugin, turns) in &mut cases {
            let start = Instant::now();
            for _ in 0..CALLS {
                call(plugin).await?;
            }
            turns.push(start.elapsed() / CALLS);
        }
    }
    for (path, _, turns) in &mut cases {
        turns.sort_unstable();
        let nth = |n: usize| turns.get(n).copied().unwrap_or_default();
        println!(
            "{path}: best {:.2?}, best tenth {:.2?}, median {:.2?} a call",
            nth(0),
            nth(TURNS / 10),
            nth(TURNS / 2)
        );
    }
    println!("resident {}", resident()?);
    Ok(())
}

/// One call: `GET /hello`, or the first function where there is no route.
async fn call(plugin: &Plugin) -> Result<(), Error> {
    let context = CallContext {
        request_id: "0123456789abcdef".to_owned(),
        credentials: Credentials::default(),
        ..CallContext::default()
    };
    if plugin.door() == Door::None {
        let name = plugin
            .functions()
            .first()
            .map_or("", |function| &function.name);
        plugin
            .run(name, "[\"Ann\"]".to_owned(), "{}".to_owned(), context)
            .await?
            .map_err(|failure| failure.message)?;
        return Ok(());
    }
    let pattern = plugin.routes().first().map_or("/", |route| &route.path);
    let body = Full::new(bytes::Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync();
    let request = http::Request::get(pattern)
        .header("host", "127.0.0.1:5000")
        .header("user-agent", "call-cost")
        .header("accept", "*/*")
        .body(body)?;
    let matched = RouteMatch {
        pattern: pattern.to_owned(),
        params: Vec::new(),
        body: None,
    };
    let response = plugin.handle(request, matched, context).await?;
    response.into_body().collect().await?;
    Ok(())
}

fn resident() -> Result<String, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

fn services() -> Services {
    let store: Arc<dyn DocumentStore> = Arc::new(EmptyStore);
    let auth = AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 1,
        hash_queue: 1,
        policy: RealmPolicy {
            password_min: 1,
            allow_common: true,
            session_ttl: Duration::from_secs(60),
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from([0; 32])))
    };
    let limits = DocumentLimits {
        document_bytes: 1 << 20,
        ..DocumentLimits::default()
    };
    Services {
        hooks: coglex_services::Hooks::default(),
        documents: Documents::new(Arc::clone(&store), limits.clone()),
        kv: Kv::new(Arc::clone(&store)),
        jobs: Jobs::new(Arc::clone(&store), JobSettings::default()),
        payment: None,
        outbox: coglex_services::Outbox::new(Arc::clone(&store), Duration::from_secs(30), false),
        accounts: Accounts::new(store, auth, limits),
    }
}

/// Nothing is in it, and nothing is kept: its cost is none.
struct EmptyStore;

#[async_trait::async_trait]
impl DocumentStore for EmptyStore {
    async fn ping(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn get(&self, _: &str, _: bson::Bson) -> StoreResult<Option<bson::RawDocumentBuf>> {
        Ok(None)
    }

    async fn find(&self, _: &str, _: Find) -> StoreResult<DocumentStream> {
        Ok(futures_util::stream::empty().boxed())
    }

    async fn count(&self, _: &str, _: bson::Document, _: Option<Duration>) -> StoreResult<u64> {
        Ok(0)
    }

    async fn aggregate(
        &self,
        _: &str,
        _: Vec<bson::Document>,
        _: Option<Duration>,
    ) -> StoreResult<DocumentStream> {
        Ok(futures_util::stream::empty().boxed())
    }

    async fn distinct(
        &self,
        _: &str,
        _: &str,
        _: bson::Document,
        _: Option<Duration>,
    ) -> StoreResult<Vec<bson::Bson>> {
        Ok(Vec::new())
    }

    async fn insert(&self, _: &str, _: Vec<bson::RawDocumentBuf>) -> StoreResult<()> {
        Ok(())
    }

    async fn update(&self, _: &str, _: Update) -> StoreResult<UpdateOutcome> {
        Ok(UpdateOutcome::default())
    }

    async fn delete(&self, _: &str, _: bson::Document, _: bool) -> StoreResult<u64> {
        Ok(0)
    }

    async fn create_index(&self, _: &str, _: IndexSpec) -> StoreResult<()> {
        Ok(())
    }

    async fn indexes(&self, _: &str) -> StoreResult<Vec<IndexSpec>> {
        Ok(Vec::new())
    }

    async fn drop_index(&self, _: &str, _: &str) -> StoreResult<bool> {
        Ok(false)
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        Ok(Vec::new())
    }
}
