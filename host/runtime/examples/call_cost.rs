//! What a call costs, without HTTP around it:
//!
//! ```sh
//! cargo xtask guests   # or any other way to a component with the route /hello
//! cargo run --release -p coglex-runtime --example call_cost -- HELLO.wasm [CALLS]
//! ```
//!
//! Every call is a fresh instance. Prints the time of one call, one after the
//! other and with many under way, and what stays resident.

#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use coglex_runtime::{
    Allow, CallContext, Door, Plugin, Policy, RouteMatch, Runtime, RuntimeSettings,
};
use coglex_services::accounts::{AuthSettings, SigningKey};
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

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which component?")?;
    let calls: u32 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;

    let settings = RuntimeSettings::default();
    let runtime = Runtime::new(settings, services())?;
    let policy = Policy {
        allow: Allow::Everything,
        ..Policy::default()
    };
    let start = Instant::now();
    let plugin = runtime
        .load("hello", std::fs::read(&path)?, None, policy)
        .await?;
    println!("load, compiling            {:>10.1?}", start.elapsed());

    for _ in 0..500 {
        call(&plugin).await?;
    }
    let start = Instant::now();
    for _ in 0..calls {
        call(&plugin).await?;
    }
    println!(
        "one after the other        {:>10.1?} a call",
        start.elapsed() / calls
    );

    for under_way in [16, 64, 256] {
        let (start, cpu) = (Instant::now(), cpu_time()?);
        let tasks: Vec<_> = (0..under_way)
            .map(|_| {
                let plugin = plugin.clone();
                tokio::spawn(async move {
                    for _ in 0..calls / under_way {
                        call(&plugin).await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let rate = f64::from(calls) / start.elapsed().as_secs_f64();
        let each = (cpu_time()? - cpu) / calls;
        println!(
            "{under_way:>3} under way              {rate:>10.0} calls/s, {each:.1?} of CPU each"
        );
    }
    println!("resident                   {:>10}", resident()?);
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

/// User and system time of this process, as Linux counts it.
fn cpu_time() -> Result<Duration, Error> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
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
        session_ttl: Duration::from_secs(60),
        signing_key: SigningKey(Arc::from([0; 32])),
        issuer: "call-cost".to_owned(),
    };
    let limits = DocumentLimits {
        document_bytes: 1 << 20,
        ..DocumentLimits::default()
    };
    Services {
        documents: Documents::new(Arc::clone(&store), limits.clone()),
        kv: Kv::new(Arc::clone(&store)),
        jobs: Jobs::new(Arc::clone(&store), JobSettings::default()),
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

    async fn count(&self, _: &str, _: bson::Document) -> StoreResult<u64> {
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

    async fn distinct(&self, _: &str, _: &str, _: bson::Document) -> StoreResult<Vec<bson::Bson>> {
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
