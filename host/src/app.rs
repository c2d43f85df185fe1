//! Where everything is wired: the long-lived parts of a server, made once from
//! the configuration and shared by every request.

use std::ops::Deref;
use std::sync::Arc;

use coglex_services::accounts::{AuthSettings, SigningKey};
use coglex_services::documents::DocumentLimits;
use coglex_services::storage::DocumentStore;
use coglex_services::{Accounts, Documents, Services};

use crate::config::{self, Config, Secret};

/// The long-lived parts.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The key that clients send as `X-API-Key`.
    pub api_key: Secret,
    /// Whether the key was made by this start, so that its owner has to be told.
    pub api_key_is_new: bool,
    /// The services behind both doors.
    pub services: Services,
}

impl App {
    /// Makes the parts, from keys in the data folder and a store that is open.
    pub fn new(config: Config, store: Arc<dyn DocumentStore>) -> anyhow::Result<Self> {
        config::private_dir(&config.data.dir)?;
        let (api_key, api_key_is_new) =
            config::api_key(config.server.secret.as_ref(), &config.data.dir)?;
        let services = Services {
            documents: Documents::new(Arc::clone(&store), document_limits(&config)),
            accounts: Accounts::new(store, auth_settings(&config)?),
        };
        Ok(Self {
            config,
            api_key,
            api_key_is_new,
            services,
        })
    }
}

/// What handlers get: the parts, cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<App>);

impl From<App> for AppState {
    fn from(app: App) -> Self {
        Self(Arc::new(app))
    }
}

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

fn document_limits(config: &Config) -> DocumentLimits {
    let storage = &config.storage;
    DocumentLimits {
        page: storage.page_limit,
        document_bytes: storage.document_limit,
        depth: storage.depth_limit,
    }
}

fn auth_settings(config: &Config) -> anyhow::Result<AuthSettings> {
    let auth = &config.auth;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let signing_key = config::signing_key(&config.data.dir)?;
    Ok(AuthSettings {
        // At most 4 GiB by its setting, so KiB always fit.
        argon2_memory_kib: u32::try_from(auth.argon2_memory / 1024).unwrap_or(u32::MAX),
        argon2_passes: auth.argon2_passes,
        argon2_lanes: auth.argon2_lanes,
        // Half, so that a storm of sign-ins leaves the other half to reads.
        hash_concurrency: auth.hash_concurrency.unwrap_or((cores / 2).max(1)),
        hash_queue: auth.hash_queue,
        session_ttl: auth.session_ttl,
        signing_key: SigningKey(signing_key.expose().as_bytes().into()),
        issuer: "coglex".to_owned(),
    })
}

/// TEMPORARY until the embedded adapter lands.
pub(crate) struct NoStore;
use coglex_services::storage as st;
#[async_trait::async_trait]
impl DocumentStore for NoStore {
    async fn ping(&self) -> st::Result<()> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn get(&self, _: &str, _: bson::Bson) -> st::Result<Option<bson::RawDocumentBuf>> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn find(&self, _: &str, _: st::Find) -> st::Result<st::DocumentStream> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn count(&self, _: &str, _: bson::Document) -> st::Result<u64> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn insert(&self, _: &str, _: Vec<bson::RawDocumentBuf>) -> st::Result<()> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn update(&self, _: &str, _: st::Update) -> st::Result<st::UpdateOutcome> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn delete(&self, _: &str, _: bson::Document, _: bool) -> st::Result<u64> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn create_index(&self, _: &str, _: st::IndexSpec) -> st::Result<()> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
    async fn collections(&self) -> st::Result<Vec<String>> {
        Err(st::StoreError::Unavailable("no store".into()))
    }
}
