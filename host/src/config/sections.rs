//! The settings of each subsystem, typed. Names and defaults are in
//! [`super::settings`]; every field here has a row there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use coglex_runtime::BudgetOverrides;
use coglex_services::grants::Grants;
use serde::Deserialize;
use serde_json::Value as Json;

use super::providers::ProviderConfig;
use super::secret::Secret;
use super::values::{period, size, some_period, some_size};

/// `server.*`: the HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen.
    pub host: String,
    /// Where to listen; 0 picks a free port.
    pub port: u16,
    /// The API key, unless it is generated.
    pub secret: Option<Secret>,
    /// What clients call this server; empty when unknown.
    pub public_url: String,
    /// What `/static/` serves.
    pub static_dir: PathBuf,
    /// Origins that CORS admits; none turns it off.
    pub cors_origins: Vec<String>,
    /// Largest buffered request body.
    #[serde(deserialize_with = "size")]
    pub body_limit: usize,
    /// Largest request head.
    #[serde(deserialize_with = "size")]
    pub header_limit: usize,
    /// Most headers of a request.
    pub header_count: usize,
    /// Time to send a head, and to be idle.
    #[serde(deserialize_with = "period")]
    pub header_timeout: Duration,
    /// Time to send a buffered body.
    #[serde(deserialize_with = "period")]
    pub body_timeout: Duration,
    /// Threads that serve requests; else as many as [`ServerConfig::threads`] says.
    pub threads: Option<usize>,
    /// Proxies that set `X-Forwarded-For`.
    pub trusted_proxies: usize,
    /// Time without a client taking a byte of its response.
    #[serde(deserialize_with = "period")]
    pub write_timeout: Duration,
    /// Time until the response starts.
    #[serde(deserialize_with = "period")]
    pub request_timeout: Duration,
    /// Time for requests in flight at the end.
    #[serde(deserialize_with = "period")]
    pub shutdown_grace: Duration,
}

/// Threads beside one for each core. A guest makes its thread unavailable while one
/// instruction or host call of it takes long, to fill or copy dozens of MiB for
/// instance. With as many threads as cores, two such guests on a small machine have
/// everybody wait; with more, the system shares the cores among the threads.
const MORE_THREADS: usize = 6;

impl ServerConfig {
    /// How many threads serve requests.
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads
            .unwrap_or_else(|| cores().saturating_add(MORE_THREADS))
    }

    /// Whether clients come over https, so that cookies must be `Secure`. Taken
    /// from the configuration alone: a header could be forged by any client.
    pub fn is_https(&self) -> bool {
        self.public_url
            .get(..8)
            .is_some_and(|start| start.eq_ignore_ascii_case("https://"))
    }
}

/// `admin.*`: the admin API.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// The admin key, unless it is generated.
    pub key: Option<Secret>,
}

/// `limits.*`: how often the server may be asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests a minute from one address; 0: any number.
    pub address_requests: u32,
    /// Requests a minute with one scoped key.
    pub key_requests: u32,
    /// Requests a minute of one user.
    pub user_requests: u32,
}

impl LimitsConfig {
    /// Whether anything is limited.
    pub fn is_any(&self) -> bool {
        self.address_requests > 0 || self.key_requests > 0 || self.user_requests > 0
    }
}

/// `audit.*`: the audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// How long entries are kept; zero turns the log off.
    #[serde(deserialize_with = "period")]
    pub retention: Duration,
    /// Entries that are kept.
    pub entries: u64,
}

/// `data.*`: where things are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The data folder.
    pub dir: PathBuf,
}

/// `mongodb.*`: the database, where it is not the embedded store.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MongodbConfig {
    /// The connection string; it may hold a password.
    pub uri: Option<Secret>,
    /// The database; else the one of the connection string.
    pub database: Option<String>,
}

/// `storage.*`: limits of the storage service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Most documents of one response.
    pub page_limit: u64,
    /// Most bytes of one response.
    #[serde(deserialize_with = "size")]
    pub result_limit: usize,
    /// Most bytes of one document.
    #[serde(deserialize_with = "size")]
    pub document_limit: usize,
    /// Deepest nesting.
    pub depth_limit: usize,
}

/// `archive.*`: files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// Where bytes are kept.
    pub backend: ArchiveBackend,
    /// The folder; `files` in the data folder when unset.
    pub dir: Option<PathBuf>,
    /// Bytes of the largest file.
    #[serde(deserialize_with = "size")]
    pub file_limit: usize,
    /// Media types that are taken; all when empty.
    pub types: Vec<String>,
    /// How long a request may take that sends a file.
    #[serde(deserialize_with = "period")]
    pub upload_timeout: Duration,
    /// How long an upload in parts may rest.
    #[serde(deserialize_with = "period")]
    pub resumable_ttl: Duration,
    /// The longest life of a signed URL.
    #[serde(deserialize_with = "period")]
    pub url_ttl: Duration,
    /// How long bytes without a document are left alone.
    #[serde(deserialize_with = "period")]
    pub orphan_age: Duration,
    /// Bytes of the largest image that is shown smaller.
    #[serde(deserialize_with = "size")]
    pub thumbnail_source: usize,
    /// Its pixels.
    pub thumbnail_pixels: u64,
    /// The bucket of the backend `s3`.
    pub s3: ArchiveS3Config,
    /// What differs in single collections.
    #[serde(default)]
    pub collections: BTreeMap<String, ArchiveCollectionConfig>,
}

/// Where the bytes of files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveBackend {
    /// In a folder of this machine.
    Folder,
    /// In MongoDB, beside the documents.
    GridFs,
    /// In an S3-compatible bucket.
    S3,
}

/// `archive.s3.*`: the bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveS3Config {
    /// The URL of the service.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What names of objects begin with.
    pub prefix: String,
    /// The key's public half.
    pub access_key: Option<Secret>,
    /// Its secret half.
    pub secret_key: Option<Secret>,
}

/// `archive.collections.<collection>`: what differs for the files of one collection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveCollectionConfig {
    /// As `archive.file_limit`.
    #[serde(default, deserialize_with = "some_size")]
    pub file_limit: Option<usize>,
    /// As `archive.types`.
    pub types: Option<Vec<String>>,
    /// Bytes of all files.
    #[serde(default, deserialize_with = "some_size")]
    pub quota: Option<usize>,
    /// How many files there may be.
    pub max_files: Option<u64>,
    /// The collection of the users to whom files belong.
    pub owners: Option<String>,
    /// Bytes of all files of one of them.
    #[serde(default, deserialize_with = "some_size")]
    pub owner_quota: Option<usize>,
    /// Whether files are read without a key.
    #[serde(default)]
    pub public: bool,
}

/// `auth.*`: the auth service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether clients may sign users up.
    pub sign_up: SignUp,
    /// Fewest characters of a new password.
    pub password_min: usize,
    /// Most characters of a new password.
    pub password_max: usize,
    /// Whether passwords that many have are taken.
    pub password_allow_common: bool,
    /// How long an access token is good for.
    #[serde(deserialize_with = "period")]
    pub access_ttl: Duration,
    /// How long a session lives that is not renewed.
    #[serde(deserialize_with = "period")]
    pub session_ttl: Duration,
    /// How long a session lives at most.
    #[serde(deserialize_with = "period")]
    pub session_max_ttl: Duration,
    /// The field that holds users' addresses; found out when unset.
    pub email_field: Option<String>,
    /// What is asked of addresses.
    pub verification: VerificationMode,
    /// Whether users sign in with codes that are sent to them.
    pub codes: bool,
    /// Whether there are users without key and password.
    pub anonymous: bool,
    /// How long links are good that verify an address.
    #[serde(deserialize_with = "period")]
    pub verify_ttl: Duration,
    /// How long links are good that set a password or change an address.
    #[serde(deserialize_with = "period")]
    pub reset_ttl: Duration,
    /// How long codes are good.
    #[serde(deserialize_with = "period")]
    pub code_ttl: Duration,
    /// The app's page that verifies an address; empty for the server's own.
    pub verify_url: String,
    /// The app's page that sets a password.
    pub reset_url: String,
    /// The app's page that changes an address.
    pub email_url: String,
    /// Failures of one user from one address that need not wait.
    pub sign_in_failures: u32,
    /// Failures from one address within ten minutes.
    pub address_failures: u32,
    /// What tokens are signed with.
    pub token_algorithm: String,
    /// How long a key signs.
    #[serde(deserialize_with = "period")]
    pub key_lifetime: Duration,
    /// Pages that users may go back to from providers.
    pub redirect_urls: Vec<String>,
    /// Who else may say who somebody is, by name.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderConfig>,
    /// `iss` of tokens.
    pub issuer: String,
    /// What differs in single realms, by the users' collection.
    #[serde(default)]
    pub realms: BTreeMap<String, RealmConfig>,
    /// argon2id memory, in bytes.
    #[serde(deserialize_with = "size")]
    pub argon2_memory: usize,
    /// argon2id passes.
    pub argon2_passes: u32,
    /// argon2id lanes.
    pub argon2_lanes: u32,
    /// Hashings at once; half of the cores when unset.
    pub hash_concurrency: Option<usize>,
    /// What the keys of tokens are made from, unless it is generated.
    pub signing_key: Option<Secret>,
    /// Hashings that may wait.
    pub hash_queue: usize,
}

/// Whether clients may sign users up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignUp {
    /// Whoever has the API key may.
    Open,
    /// Only plugins may.
    Closed,
}

/// `auth.realms.<collection>`: what differs for the users of one collection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmConfig {
    /// As `auth.sign_up`.
    pub sign_up: Option<SignUp>,
    /// As `auth.password_min`.
    pub password_min: Option<usize>,
    /// As `auth.password_max`.
    pub password_max: Option<usize>,
    /// As `auth.password_allow_common`.
    pub password_allow_common: Option<bool>,
    /// As `auth.access_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub access_ttl: Option<Duration>,
    /// As `auth.session_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub session_ttl: Option<Duration>,
    /// As `auth.session_max_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub session_max_ttl: Option<Duration>,
    /// As `auth.email_field`.
    pub email_field: Option<String>,
    /// As `auth.verification`.
    pub verification: Option<VerificationMode>,
    /// As `auth.codes`.
    pub codes: Option<bool>,
    /// As `auth.anonymous`.
    pub anonymous: Option<bool>,
    /// As `auth.verify_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub verify_ttl: Option<Duration>,
    /// As `auth.reset_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub reset_ttl: Option<Duration>,
    /// As `auth.code_ttl`.
    #[serde(default, deserialize_with = "some_period")]
    pub code_ttl: Option<Duration>,
    /// As `auth.verify_url`.
    pub verify_url: Option<String>,
    /// As `auth.reset_url`.
    pub reset_url: Option<String>,
    /// As `auth.email_url`.
    pub email_url: Option<String>,
    /// The providers that users sign in by; none unless they are named here.
    pub providers: Option<Vec<String>>,
    /// As `auth.redirect_urls`.
    pub redirect_urls: Option<Vec<String>>,
}

/// What is asked of users' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerificationMode {
    /// Nothing.
    Off,
    /// A letter is sent at sign-up.
    Ask,
    /// The same, and who has not verified the address cannot sign in.
    Required,
}

/// `mail.*`: the SMTP server, and what letters look like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// The SMTP server; without it no mail is sent.
    pub host: Option<String>,
    /// Its port.
    pub port: u16,
    /// Who signs in there.
    pub username: Option<String>,
    /// With what.
    pub password: Option<Secret>,
    /// How the connection is kept from others.
    pub tls: MailTls,
    /// Whether `none` is allowed to other machines.
    pub insecure: bool,
    /// PEM file of certificate authorities that are believed, too.
    pub authorities: Option<PathBuf>,
    /// How long the server may take for each step.
    #[serde(deserialize_with = "period")]
    pub timeout: Duration,
    /// Who letters are from; the user name where that is an address.
    pub from: Option<String>,
    /// What letters call the app; the host of `server.public_url` when unset.
    pub app_name: Option<String>,
    /// The folder of templates.
    pub templates_dir: PathBuf,
    /// Letters of one plugin within an hour.
    pub plugin_letters: u64,
}

/// How the connection to the SMTP server is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// `Tls` on port 465, else `Starttls`.
    Auto,
    /// Begins in the clear and must change to TLS.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None.
    None,
}

/// `plugins.*`: components and what they may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginsConfig {
    /// The folder of components; `plugins` in the data folder when unset.
    pub dir: Option<PathBuf>,
    /// Whether the folder is watched.
    pub watch: bool,
    /// PEM file of certificate authorities that plugins' requests believe, too.
    pub egress_authorities: Option<PathBuf>,
    /// Budget of every call.
    pub budget: BudgetConfig,
    /// What each plugin may touch, by its name.
    #[serde(default)]
    pub allow: BTreeMap<String, Grants>,
    /// What a call of each plugin may spend where it differs, by its name.
    #[serde(default)]
    pub budgets: BTreeMap<String, BudgetOverrides>,
    /// What plugins can ask for at most, where that is more or less than
    /// `budget`.
    #[serde(default)]
    pub max_budget: BudgetOverrides,
    /// What each plugin can read through `coglex:config`, by its name.
    #[serde(default)]
    pub settings: BTreeMap<String, BTreeMap<String, Json>>,
    /// What each plugin can read as a secret where it is granted, by its name.
    #[serde(default)]
    pub secrets: BTreeMap<String, BTreeMap<String, Secret>>,
    /// The same from the environment, by the plugin's name as it stands there.
    #[serde(skip)]
    pub environment_secrets: BTreeMap<String, BTreeMap<String, Secret>>,
}

/// What a plugin's name is in the names of the variables with its secrets. Names
/// that differ only in `-` and `_` become the same; such plugins are not both given
/// secrets, see [`same_secrets`] and [`crate::plugins`].
pub(crate) fn secret_prefix(plugin: &str) -> String {
    plugin.replace('-', "_").to_ascii_uppercase()
}

/// The longer one of two plugins' [`secret_prefix`]es, if a variable can be meant for
/// both: `A__B__C` is the secret `c` of `a--b` and `b__c` of `a`.
pub(crate) fn same_secrets<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    let (short, long) = match one.len() <= other.len() {
        true => (one, other),
        false => (other, one),
    };
    let rest = long.strip_prefix(short)?;
    // With the `__` that follows the longer one.
    (rest.is_empty() || rest == "_" || rest.starts_with("__")).then_some(long)
}

impl PluginsConfig {
    /// The secrets of a plugin; those of the environment win.
    pub fn secrets_of(&self, name: &str) -> BTreeMap<String, Secret> {
        let there = secret_prefix(name);
        let file = self.secrets.get(name);
        let environment = self.environment_secrets.get(&there);
        let all = file.into_iter().chain(environment).flatten();
        all.map(|(name, secret)| (name.clone(), secret.clone()))
            .collect()
    }
}

/// `plugins.budget.*`: what one call into a plugin may spend.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// Bytes of memory.
    #[serde(deserialize_with = "size")]
    pub memory: usize,
    /// CPU time.
    #[serde(deserialize_with = "period")]
    pub cpu: Duration,
    /// Wall-clock time.
    #[serde(deserialize_with = "period")]
    pub wall: Duration,
    /// Calls to the host.
    pub host_calls: u64,
    /// Bytes of those calls.
    #[serde(deserialize_with = "size")]
    pub host_call_bytes: usize,
    /// Bytes of the response.
    #[serde(deserialize_with = "size")]
    pub response: usize,
    /// Bytes of log output.
    #[serde(deserialize_with = "size")]
    pub log: usize,
    /// Bytes of its keys and values.
    #[serde(deserialize_with = "size")]
    pub kv: usize,
    /// Calls of one plugin at once.
    pub concurrency: usize,
    /// Calls that may wait.
    pub queue: usize,
    /// How long they wait.
    #[serde(deserialize_with = "period")]
    pub queue_wait: Duration,
}

/// `jobs.*`: functions that are run later.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsConfig {
    /// Jobs that this host runs at once.
    pub concurrency: usize,
    /// Jobs that are not over.
    pub queue: u64,
    /// Attempts of a job that does not say.
    pub max_attempts: u32,
    /// The longest first wait.
    #[serde(deserialize_with = "period")]
    pub retry_base: Duration,
    /// The longest wait.
    #[serde(deserialize_with = "period")]
    pub retry_max: Duration,
    /// How long a job waits for a function that no plugin has.
    #[serde(deserialize_with = "period")]
    pub function_wait: Duration,
    /// How long a host may be silent.
    #[serde(deserialize_with = "period")]
    pub lease: Duration,
    /// How long jobs are kept that are over.
    #[serde(deserialize_with = "period")]
    pub retention: Duration,
    /// How long dead ones are.
    #[serde(deserialize_with = "period")]
    pub dead_retention: Duration,
    /// Most bytes of a result that is kept.
    #[serde(deserialize_with = "size")]
    pub result_limit: usize,
}

/// `payment.*`: Stripe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentConfig {
    /// The secret key; without one payments are off.
    pub secret_key: Option<Secret>,
    /// Signing secrets of the webhook, with commas between them.
    pub webhook_secret: Option<Secret>,
    /// Where requests go instead of Stripe; empty for Stripe.
    pub api_base: String,
    /// The mode that is meant.
    pub mode: PaymentMode,
    /// Time of one attempt.
    #[serde(deserialize_with = "period")]
    pub timeout: Duration,
    /// Attempts at a request.
    pub attempts: u32,
    /// How long events are kept.
    #[serde(deserialize_with = "period")]
    pub event_retention: Duration,
}

/// Which of Stripe's modes is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentMode {
    /// The key's.
    Auto,
    /// No money moves.
    Test,
    /// Money moves.
    Live,
}

/// `log.*`: the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// The shape of lines.
    pub format: LogFormat,
    /// What is logged, as `tracing` directives.
    pub filter: String,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `Pretty` on a terminal, else `Json`.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}
