//! Where everything is wired: the long-lived parts of a server, made once from
//! the configuration and shared by every request.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use coglex_archive::{Archive, UrlKey};
use coglex_oauth::{Http, HttpsClient, Provider};
use coglex_payment::{Mode, PaymentSettings, Payments};
use coglex_runtime::testing::Harness;
use coglex_runtime::{Allow, Budget, PluginSecret, Policy, Runtime, RuntimeSettings};
use coglex_services::accounts::{
    AuthSettings, FlowPolicy, Providers, RealmPolicy, SigningKey, TokenAlgorithm, Verification,
};
use coglex_services::audit::{Audit, AuditSettings};
use coglex_services::documents::DocumentLimits;
use coglex_services::jobs::JobSettings;
use coglex_services::keys::ApiKeys;
use coglex_services::rules::Rules as AccessRules;
use coglex_services::storage::DocumentStore;
use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use coglex_services::storage::mongo::MongoStore;
use coglex_services::{Accounts, Clock, Documents, Hooks, Jobs, Kv, Outbox, Services};

use crate::config::{
    self, AuthConfig, Config, PaymentMode, PluginsConfig, RealmConfig, Secret, SignUp,
    VerificationMode,
};
use crate::dev::Builds;
use crate::files;
use crate::gateway::RateLimits;
use crate::mail::Mail;
use crate::plugins::{Deployments, Registry, RegistrySettings};
use crate::telemetry::Telemetry;

/// For how long a host may be silent before a letter of its is sent by another.
const LETTER_LEASE: Duration = Duration::from_secs(60);

/// The long-lived parts.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The key that clients send as `X-API-Key`.
    pub api_key: Secret,
    /// Whether the key was made by this start, so that its owner has to be told.
    pub api_key_is_new: bool,
    /// The key that operators send as `X-Admin-Key`.
    pub admin_key: Secret,
    /// Whether that key was made by this start.
    pub admin_key_is_new: bool,
    /// The services behind both doors.
    pub services: Services,
    /// Keys that open a part of what the API key does.
    pub keys: ApiKeys,
    /// What users may do in collections without a key.
    pub access_rules: AccessRules,
    /// Who did what.
    pub audit: Audit,
    /// Files.
    pub archive: Archive,
    /// What URLs of files are signed with.
    pub(crate) archive_urls: UrlKey,
    /// Who sends mail; nobody where it is not set up.
    pub mail: Option<Mail>,
    /// Payments.
    pub payments: Payments,
    /// The plugins that are loaded.
    pub plugins: Registry,
    /// How often routes of apps have been asked.
    pub(crate) rate_limits: RateLimits,
    /// Whether plugins are being developed here: their authors want to be told
    /// more than operators do.
    pub development: bool,
    /// Sources that do not build, while plugins are developed.
    pub builds: Arc<Builds>,
    /// The log.
    pub telemetry: Telemetry,
    rules: Arc<Rules>,
}

/// Who decides what plugins may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granting {
    /// The operator, in `plugins.allow`.
    Configured,
    /// Nobody: plugins get what they ask for. For development.
    AsAsked,
}

/// What the configuration says about plugins: the part that can change while
/// they are served.
struct Rules {
    granting: Granting,
    plugins: ArcSwap<PluginsConfig>,
}

impl App {
    /// Makes the parts, from keys in the data folder and a store that is open.
    pub fn new(
        config: Config,
        store: Arc<dyn DocumentStore>,
        granting: Granting,
        telemetry: Telemetry,
    ) -> anyhow::Result<Self> {
        Self::assemble(
            config,
            store,
            granting,
            telemetry,
            Clock::default(),
            |settings, services| {
                Runtime::new(settings, services).context("cannot start the plugin runtime")
            },
        )
    }

    /// The parts of the server that one test of a plugin asks, which grants what
    /// is asked for. Answers with the runtime that it loads plugins with.
    pub(crate) fn for_test(
        config: Config,
        store: Arc<dyn DocumentStore>,
        telemetry: Telemetry,
        base: &Runtime,
        harness: Arc<Harness>,
    ) -> anyhow::Result<(Self, Runtime)> {
        let mut runtime = base.clone();
        let granting = Granting::AsAsked;
        let clock = harness.clock();
        let app = Self::assemble(config, store, granting, telemetry, clock, |_, services| {
            runtime = base.for_test(services, harness);
            Ok(runtime.clone())
        })?;
        Ok((app, runtime))
    }

    fn assemble(
        config: Config,
        store: Arc<dyn DocumentStore>,
        granting: Granting,
        telemetry: Telemetry,
        clock: Clock,
        runtime: impl FnOnce(RuntimeSettings, Services) -> anyhow::Result<Runtime>,
    ) -> anyhow::Result<Self> {
        let (api_key, api_key_is_new) =
            config::api_key(config.server.secret.as_ref(), &config.data.dir)?;
        let (admin_key, admin_key_is_new) =
            config::admin_key(config.admin.key.as_ref(), &api_key, &config.data.dir)?;
        let keys = ApiKeys::new(Arc::clone(&store), clock.clone());
        let kept = AuditSettings {
            retention: config.audit.retention,
            entries: config.audit.entries,
        };
        let audit = Audit::new(Arc::clone(&store), kept);
        let archive_urls = files::url_key(&config, clock.clone())?;
        let development = granting == Granting::AsAsked;
        let mail = Mail::open(&config, development)?;
        let sending = Sending {
            mail: mail.as_ref(),
            development,
        };
        let mut services = services(&config, &store, clock.clone(), sending)?;
        let accounts = services.accounts.clone();
        let access_rules = AccessRules::new(Arc::clone(&store))
            .with_addresses(move |realm| accounts.address_field(realm));
        let archive = files::open(&config, services.documents.clone(), clock)?;
        let deployments = Deployments::new(Arc::clone(&store), config.storage.document_limit);
        let rules = Arc::new(Rules {
            granting,
            plugins: ArcSwap::from_pointee(config.plugins.clone()),
        });
        let payments = payments(&config, &store, services.jobs.clone())?;
        services.payment = Some(Arc::new(payments.clone()));
        let runtime = runtime(runtime_settings(&config), services.clone())?;
        let settings = registry_settings(&config, Arc::clone(&rules));
        let plugins = Registry::new(runtime, settings, deployments);
        services
            .hooks
            .set(plugins.hook_table(), services.jobs.clone());
        payments.tell(plugins.payment_subscribers());
        Ok(Self {
            payments,
            plugins,
            rate_limits: RateLimits::default(),
            development,
            mail,
            builds: Arc::default(),
            telemetry,
            rules,
            config,
            api_key,
            api_key_is_new,
            admin_key,
            admin_key_is_new,
            services,
            archive,
            archive_urls,
            keys,
            access_rules,
            audit,
        })
    }
}

impl App {
    /// Takes over what a new configuration says about plugins (grants, settings,
    /// budgets) and the log's filter, and loads those plugins again that it
    /// means something for. `self.config` stays that of the start.
    pub async fn reload(&self, config: &Config) -> anyhow::Result<()> {
        self.telemetry.set_filter(&config.log)?;
        let (old, new) = (self.rules.plugins.load_full(), config.plugins.clone());
        let granting = self.rules.granting;
        self.rules.plugins.store(Arc::new(new.clone()));
        let differs = |name: &str| policy(&old, granting, name) != policy(&new, granting, name);
        self.plugins.force(differs).await;
        self.plugins.scan().await;
        Ok(())
    }
}

/// Opens the store: MongoDB where it is configured, else the embedded one in the
/// data folder, which is made when absent.
pub async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn DocumentStore>> {
    config::private_dir(&config.data.dir)?;
    match &config.mongodb.uri {
        Some(uri) => {
            let database = config.mongodb.database.as_deref();
            let store = MongoStore::connect(uri.expose(), database)
                .await
                .context("the setting mongodb.uri cannot be used")?;
            // The server may come later; until then requests are answered 503.
            if let Err(error) = store.ping().await {
                tracing::warn!(%error, "MongoDB does not answer yet");
            }
            Ok(Arc::new(store))
        }
        None => Ok(Arc::new(open_embedded(config)?)),
    }
}

fn open_embedded(config: &Config) -> anyhow::Result<EmbeddedStore> {
    let path = config.store_path();
    let options = EmbeddedOptions {
        max_document_bytes: config.storage.document_limit,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open(&path, options)
        .with_context(|| format!("cannot open the store {}", path.display()))
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

/// What the operator lets a plugin of this name have, by this configuration.
pub(crate) fn policy_of(config: &Config, name: &str) -> Policy {
    policy(&config.plugins, Granting::Configured, name)
}

/// A runtime that loads components as a server with this configuration would,
/// without the server's data: its store is an empty one in the folder `scratch`.
pub(crate) async fn idle_runtime(config: &Config, scratch: &Path) -> anyhow::Result<Runtime> {
    idle_runtime_with(config, scratch, scratch.join("cache")).await
}

/// The same, with a place of its own for compiled components.
pub(crate) async fn idle_runtime_with(
    config: &Config,
    scratch: &Path,
    cache: PathBuf,
) -> anyhow::Result<Runtime> {
    let mut config = config.clone();
    config.data.dir = scratch.to_owned();
    config.mongodb.uri = None;
    config.auth.signing_key = None;
    let store = open_store(&config).await?;
    let services = services(&config, &store, Clock::default(), NOT_SENDING)?;
    let settings = RuntimeSettings {
        cache_dir: Some(cache),
        ..runtime_settings(&config)
    };
    Runtime::new(settings, services).context("cannot start the plugin runtime")
}

fn services(
    config: &Config,
    store: &Arc<dyn DocumentStore>,
    clock: Clock,
    sending: Sending<'_>,
) -> anyhow::Result<Services> {
    let is_on = sending.mail.is_some();
    let templates = sending.mail.map(|mail| mail.templates().names());
    let outbox = Outbox::new(Arc::clone(store), LETTER_LEASE, is_on)
        .for_plugins(templates.unwrap_or_default(), config.mail.plugin_letters);
    let hooks = Hooks::default();
    let documents = Documents::new(Arc::clone(store), document_limits(config));
    let accounts = Accounts::by_clock(
        Arc::clone(store),
        auth_settings(config, sending)?,
        document_limits(config),
        clock.clone(),
    );
    Ok(Services {
        documents: documents.with_hooks(hooks.clone()),
        accounts: accounts
            .with_hooks(hooks.clone())
            .with_outbox(outbox.clone())
            .with_providers(providers(&config.auth)?),
        outbox,
        hooks,
        kv: Kv::new(Arc::clone(store)).with_clock(clock),
        jobs: Jobs::new(Arc::clone(store), job_settings(config)),
        payment: None,
    })
}

/// Stripe, as far as it is configured.
fn payments(
    config: &Config,
    store: &Arc<dyn DocumentStore>,
    jobs: Jobs,
) -> anyhow::Result<Payments> {
    let payment = &config.payment;
    let secrets = payment.webhook_secret.as_ref().map(Secret::expose);
    let secrets = secrets.into_iter().flat_map(|secrets| secrets.split(','));
    let settings = PaymentSettings {
        secret_key: payment
            .secret_key
            .as_ref()
            .map(|key| key.expose().to_owned()),
        webhook_secrets: secrets
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned)
            .collect(),
        api_base: (!payment.api_base.is_empty()).then(|| payment.api_base.clone()),
        mode: match payment.mode {
            PaymentMode::Auto => None,
            PaymentMode::Test => Some(Mode::Test),
            PaymentMode::Live => Some(Mode::Live),
        },
        timeout: payment.timeout,
        attempts: payment.attempts,
        event_retention: payment.event_retention,
    };
    Payments::new(Arc::clone(store), jobs, settings)
        .map_err(|sentence| anyhow::anyhow!("the settings of payment cannot be used: {sentence}"))
}

fn document_limits(config: &Config) -> DocumentLimits {
    let storage = &config.storage;
    DocumentLimits {
        document_bytes: storage.document_limit,
        depth: storage.depth_limit,
        max_time: config.server.request_timeout,
    }
}

fn job_settings(config: &Config) -> JobSettings {
    let jobs = &config.jobs;
    JobSettings {
        queue: jobs.queue,
        lease: jobs.lease,
        max_attempts: jobs.max_attempts,
        retry_base: jobs.retry_base,
        retry_max: jobs.retry_max,
        function_wait: jobs.function_wait,
        retention: jobs.retention,
        dead_retention: jobs.dead_retention,
        result_bytes: jobs.result_limit,
    }
}

fn runtime_settings(config: &Config) -> RuntimeSettings {
    RuntimeSettings {
        cache_dir: Some(config.data.dir.join("cache")),
        quick_first: true,
        egress_authorities: config.plugins.egress_authorities.clone(),
        budget: default_budget(&config.plugins),
        max_budget: Some(max_budget(&config.plugins)),
        ..RuntimeSettings::default()
    }
}

fn default_budget(plugins: &PluginsConfig) -> Budget {
    let budget = &plugins.budget;
    Budget {
        memory_bytes: budget.memory,
        cpu: budget.cpu,
        wall: budget.wall,
        host_calls: budget.host_calls,
        host_call_bytes: budget.host_call_bytes as u64,
        response_bytes: budget.response,
        log_bytes: budget.log,
        kv_bytes: budget.kv as u64,
        concurrency: budget.concurrency,
        queue: budget.queue,
        queue_wait: budget.queue_wait,
        // A plugin's own choice.
        reuse: 0,
    }
}

fn max_budget(plugins: &PluginsConfig) -> Budget {
    default_budget(plugins).with(&plugins.max_budget)
}

fn registry_settings(config: &Config, rules: Arc<Rules>) -> RegistrySettings {
    RegistrySettings {
        dir: config.plugins_dir(),
        applied: config.data.dir.join("deployed.json"),
        policy: Box::new(move |name| policy(&rules.plugins.load(), rules.granting, name)),
    }
}

fn policy(plugins: &PluginsConfig, granting: Granting, name: &str) -> Policy {
    let allow = match granting {
        Granting::AsAsked => Allow::Everything,
        Granting::Configured => plugins
            .allow
            .get(name)
            .cloned()
            .map_or(Allow::Nothing, Allow::Grants),
    };
    let settings: BTreeMap<String, String> = plugins
        .settings
        .get(name)
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            // Text as it is, anything else as JSON, as `coglex:config` says.
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        })
        .collect();
    let secrets = plugins
        .secrets_of(name)
        .into_iter()
        .map(|(key, secret)| (key, PluginSecret::from(secret.expose().to_owned())))
        .collect();
    Policy {
        allow,
        settings,
        secrets,
        budget: plugins.budgets.get(name).cloned(),
        default_budget: Some(default_budget(plugins)),
        max_budget: Some(max_budget(plugins)),
    }
}

/// Nobody sends any.
const NOT_SENDING: Sending<'static> = Sending {
    mail: None,
    development: false,
};

/// How letters leave.
#[derive(Clone, Copy)]
struct Sending<'a> {
    /// Who sends them.
    mail: Option<&'a Mail>,
    /// Links may lead to the address that the server listens on.
    development: bool,
}

fn auth_settings(config: &Config, sending: Sending<'_>) -> anyhow::Result<AuthSettings> {
    let auth = &config.auth;
    let base = link_base(config, sending.development);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let signing_key = config::signing_key(auth.signing_key.as_ref(), &config.data.dir)?;
    let settings = AuthSettings {
        // At most 4 GiB by its setting, so KiB always fit.
        argon2_memory_kib: u32::try_from(auth.argon2_memory / 1024).unwrap_or(u32::MAX),
        argon2_passes: auth.argon2_passes,
        argon2_lanes: auth.argon2_lanes,
        // Half, so that a storm of sign-ins leaves the other half to reads.
        hash_concurrency: auth.hash_concurrency.unwrap_or((cores / 2).max(1)),
        hash_queue: auth.hash_queue,
        // One of the setting's words.
        algorithm: TokenAlgorithm::of_name(&auth.token_algorithm).unwrap_or(TokenAlgorithm::Hs256),
        key_lifetime: auth.key_lifetime,
        issuer: auth.issuer.clone(),
        key_failures: auth.sign_in_failures,
        address_failures: auth.address_failures,
        policy: realm_policy(auth, &RealmConfig::default(), base.as_deref()),
        realms: auth
            .realms
            .iter()
            .map(|(realm, own)| (realm.clone(), realm_policy(auth, own, base.as_deref())))
            .collect(),
        ..AuthSettings::new(SigningKey(signing_key.expose().as_bytes().into()))
    };
    match settings.check() {
        Ok(()) => Ok(settings),
        Err(sentence) => anyhow::bail!("the settings of auth cannot be used: {sentence}"),
    }
}

/// What holds in a realm: its own settings, and those of all for the rest.
fn realm_policy(all: &AuthConfig, own: &RealmConfig, base: Option<&str>) -> RealmPolicy {
    RealmPolicy {
        sign_up: own.sign_up.unwrap_or(all.sign_up) == SignUp::Open,
        password_min: own.password_min.unwrap_or(all.password_min),
        password_max: own.password_max.unwrap_or(all.password_max),
        allow_common: own
            .password_allow_common
            .unwrap_or(all.password_allow_common),
        access_ttl: own.access_ttl.unwrap_or(all.access_ttl),
        session_ttl: own.session_ttl.unwrap_or(all.session_ttl),
        session_max: own.session_max_ttl.unwrap_or(all.session_max_ttl),
        flows: flow_policy(all, own, base),
        providers: own.providers.clone().unwrap_or_default(),
        redirect_urls: own
            .redirect_urls
            .clone()
            .unwrap_or_else(|| all.redirect_urls.clone()),
    }
}

/// Clients of the identity providers, which share one that speaks HTTP.
fn providers(auth: &AuthConfig) -> anyhow::Result<Providers> {
    if auth.providers.is_empty() {
        return Ok(Providers::default());
    }
    let http: Arc<dyn Http> = Arc::new(HttpsClient::new().map_err(anyhow::Error::msg)?);
    let made = auth.providers.iter().map(|(name, own)| {
        let wrong = || format!("the setting auth.providers.{name} cannot be used");
        let settings = own.settings(name).with_context(wrong)?;
        let provider = Provider::new(settings, Arc::clone(&http));
        let provider = provider.map_err(anyhow::Error::msg).with_context(wrong)?;
        Ok((name.clone(), Arc::new(provider)))
    });
    made.collect()
}

/// What mailed links of this server begin with: its address as clients know it, never
/// one that a request named.
fn link_base(config: &Config, development: bool) -> Option<String> {
    let server = &config.server;
    let url = server.public_url.trim_end_matches('/');
    match (url, server.port) {
        ("", 0) => None,
        ("", port) if development => Some(format!("http://localhost:{port}")),
        ("", _) => None,
        (url, _) => Some(url.to_owned()),
    }
}

/// What holds for the mail of a realm.
fn flow_policy(all: &AuthConfig, own: &RealmConfig, base: Option<&str>) -> FlowPolicy {
    let page = |own: &Option<String>, all: &str, flow: &str| {
        let url = own.as_deref().unwrap_or(all);
        match url.is_empty() {
            false => Some(url.to_owned()),
            true => base.map(|base| format!("{base}/service/auth/v1/{flow}/{{realm}}/confirm/")),
        }
    };
    FlowPolicy {
        email_field: own.email_field.clone().or_else(|| all.email_field.clone()),
        verification: match own.verification.unwrap_or(all.verification) {
            VerificationMode::Off => Verification::Off,
            VerificationMode::Ask => Verification::Ask,
            VerificationMode::Required => Verification::Required,
        },
        codes: own.codes.unwrap_or(all.codes),
        anonymous: own.anonymous.unwrap_or(all.anonymous),
        verify_ttl: own.verify_ttl.unwrap_or(all.verify_ttl),
        reset_ttl: own.reset_ttl.unwrap_or(all.reset_ttl),
        code_ttl: own.code_ttl.unwrap_or(all.code_ttl),
        verify_url: page(&own.verify_url, &all.verify_url, "verification"),
        reset_url: page(&own.reset_url, &all.reset_url, "reset"),
        email_url: page(&own.email_url, &all.email_url, "email"),
    }
}
