//! A runtime over a store that needs no disk, and ways to watch it.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, rawdoc};
use coglex_runtime::{
    Allow, Ask, Budget, BudgetOverrides, CallContext, LoadError, Plugin, Policy, RequestBody,
    ResponseBody, Runtime, RuntimeSettings,
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

/// A runtime with room for a few guests and this budget.
pub(crate) fn runtime(budget: Budget) -> Runtime {
    let settings = RuntimeSettings {
        max_instances: 16,
        budget,
        ..RuntimeSettings::default()
    };
    Runtime::new(settings, services()).unwrap()
}

pub(crate) fn services() -> Services {
    let store: Arc<dyn DocumentStore> = Arc::new(FixedStore);
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
        ..AuthSettings::new(SigningKey(Arc::from([7; 32])))
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

/// The default budget with some limits changed.
pub(crate) fn budget(overrides: BudgetOverrides) -> Budget {
    Budget::default().with(&overrides)
}

/// Loads with everything granted that is asked for.
pub(crate) async fn load(runtime: &Runtime, wat: &str) -> Result<Plugin, LoadError> {
    let policy = Policy {
        allow: Allow::Everything,
        ..Policy::default()
    };
    runtime.load("probe", bytes(wat), None, policy).await
}

/// Loads what must load.
pub(crate) async fn loaded(runtime: &Runtime, wat: &str) -> Plugin {
    load(runtime, wat)
        .await
        .unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Loads with `ask` as the text beside the component.
pub(crate) async fn load_asking(
    runtime: &Runtime,
    wat: &str,
    ask: &str,
    allow: Allow,
) -> Result<Plugin, LoadError> {
    Ask::parse(ask).unwrap();
    runtime
        .load(
            "probe",
            bytes(wat),
            Some(ask),
            Policy {
                allow,
                ..Policy::default()
            },
        )
        .await
}

pub(crate) fn bytes(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn context() -> CallContext {
    CallContext {
        request_id: "request-1".to_owned(),
        credentials: Credentials {
            api_key: true,
            ..Credentials::default()
        },
        ..CallContext::default()
    }
}

/// Runs the function `probe`.
pub(crate) async fn run(plugin: &Plugin) -> Result<String, coglex_runtime::CallError> {
    let answer = plugin
        .run("probe", "[\"args\"]".to_owned(), "{}".to_owned(), context())
        .await?;
    Ok(answer.unwrap_or_else(|failure| format!("failure {} {}", failure.code, failure.message)))
}

pub(crate) fn body(bytes: impl Into<bytes::Bytes>) -> RequestBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A response's whole body as text, or how it broke off.
pub(crate) async fn text(body: ResponseBody) -> Result<String, String> {
    let bytes = body
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// What is logged on this thread while it lives.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    pub(crate) fn capture() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(Arc::clone(&text));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            text,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    /// The lines at this level.
    pub(crate) fn lines(&self, level: &str) -> usize {
        let level = format!(" {level} ");
        self.text()
            .lines()
            .filter(|line| line.contains(&level))
            .count()
    }
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same five documents in each collection, whatever is asked for; the
/// collection `slow` never answers. What filters mean is tested elsewhere.
struct FixedStore;

impl FixedStore {
    async fn answer(collection: &str) {
        if collection == "slow" {
            std::future::pending::<()>().await;
        }
    }
}

fn document(id: &str) -> RawDocumentBuf {
    rawdoc! { "_id": id, "title": "a document", "done": false }
}

#[async_trait]
impl DocumentStore for FixedStore {
    async fn ping(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn get(&self, collection: &str, id: Bson) -> StoreResult<Option<RawDocumentBuf>> {
        Self::answer(collection).await;
        Ok(match id {
            Bson::String(id) if id == "here" => Some(document("here")),
            _ => None,
        })
    }

    async fn find(&self, collection: &str, _find: Find) -> StoreResult<DocumentStream> {
        Self::answer(collection).await;
        let documents: Vec<_> = (0..5)
            .map(|number| Ok(document(&format!("n{number}"))))
            .collect();
        Ok(futures_util::stream::iter(documents).boxed())
    }

    async fn count(
        &self,
        collection: &str,
        _filter: Document,
        _max_time: Option<Duration>,
    ) -> StoreResult<u64> {
        Self::answer(collection).await;
        Ok(5)
    }

    async fn aggregate(
        &self,
        collection: &str,
        _pipeline: Vec<Document>,
        _max_time: Option<Duration>,
    ) -> StoreResult<DocumentStream> {
        DocumentStore::find(self, collection, Find::default()).await
    }

    async fn distinct(
        &self,
        _collection: &str,
        _path: &str,
        _filter: Document,
        _max_time: Option<Duration>,
    ) -> StoreResult<Vec<Bson>> {
        Ok(Vec::new())
    }

    async fn insert(&self, _collection: &str, _documents: Vec<RawDocumentBuf>) -> StoreResult<()> {
        Ok(())
    }

    async fn update(&self, _collection: &str, _update: Update) -> StoreResult<UpdateOutcome> {
        Ok(UpdateOutcome::default())
    }

    async fn delete(&self, _collection: &str, _filter: Document, _many: bool) -> StoreResult<u64> {
        Ok(0)
    }

    async fn create_index(&self, _collection: &str, _index: IndexSpec) -> StoreResult<()> {
        Ok(())
    }

    async fn indexes(&self, _collection: &str) -> StoreResult<Vec<IndexSpec>> {
        Ok(Vec::new())
    }

    async fn drop_index(&self, _collection: &str, _name: &str) -> StoreResult<bool> {
        Ok(false)
    }

    async fn collections(&self) -> StoreResult<Vec<String>> {
        Ok(vec!["notes".to_owned()])
    }
}
