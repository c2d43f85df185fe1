//! Configuration: defaults, then `coglex.toml`, then `.env` and the environment,
//! then flags; the later wins. [`load`] is called once, by the CLI; everybody
//! else gets the typed [`Config`]. What settings exist is in [`settings`].
//!
//! A setting that is unknown or bad stops the start with one sentence that names
//! it and the place where it was set. A value is never repeated if it is secret.

pub mod print;
mod providers;
mod secret;
mod sections;
pub mod settings;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Deserialize;

pub use providers::ProviderConfig;
pub use secret::{Secret, admin_key, api_key, kept_admin_key, private_dir, signing_key};
pub use sections::*;
use settings::{FREE_TABLES, SETTINGS, Setting};

/// The configuration file that is read from the working directory.
pub const FILE_NAME: &str = "coglex.toml";

/// Clients may try keys as fast as the server answers: below this many
/// characters, words and dates are within reach. No error, so that a server can
/// be moved here with the key that its clients have.
const SHORT_SECRET: usize = 16;

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP server.
    pub server: ServerConfig,
    /// The admin API.
    #[serde(default)]
    pub admin: AdminConfig,
    /// How often the server may be asked.
    pub limits: LimitsConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// Where things are kept.
    pub data: DataConfig,
    /// The database.
    #[serde(default)]
    pub mongodb: MongodbConfig,
    /// The storage service.
    pub storage: StorageConfig,
    /// Files.
    pub archive: ArchiveConfig,
    /// The auth service.
    pub auth: AuthConfig,
    /// Mail.
    pub mail: MailConfig,
    /// Plugins.
    pub plugins: PluginsConfig,
    /// Functions that are run later.
    pub jobs: JobsConfig,
    /// Stripe.
    pub payment: PaymentConfig,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// The file of the embedded store.
    pub fn store_path(&self) -> PathBuf {
        self.data.dir.join("documents.db")
    }

    /// The folder of files.
    pub fn files_dir(&self) -> PathBuf {
        match &self.archive.dir {
            Some(dir) => dir.clone(),
            None => self.data.dir.join("files"),
        }
    }

    /// The folder of components.
    pub fn plugins_dir(&self) -> PathBuf {
        match &self.plugins.dir {
            Some(dir) => dir.clone(),
            None => self.data.dir.join("plugins"),
        }
    }
}

/// Where settings are looked for; [`Inputs::of_process`] in production.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The working directory: `coglex.toml` and `.env` are looked for here.
    pub directory: PathBuf,
    /// The file given by `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Flags that were given, by the setting's name.
    pub flags: BTreeMap<&'static str, String>,
}

impl Inputs {
    /// The inputs of this process, with the flags that the CLI has read.
    pub fn of_process(file: Option<PathBuf>, flags: BTreeMap<&'static str, String>) -> Self {
        // Names and values that are not UTF-8 cannot be ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            directory: PathBuf::from("."),
            file,
            environment,
            flags,
        }
    }
}

/// A configuration together with where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The typed settings.
    pub config: Config,
    /// What looked like a mistake but does not stop the start; for the log.
    pub warnings: Vec<String>,
    layers: Figment,
    inputs: Inputs,
}

impl Loaded {
    /// Reads everything again, as SIGHUP asks: files may have changed, flags and
    /// environment are those of the start.
    pub fn again(&self) -> anyhow::Result<Self> {
        load(&self.inputs)
    }

    /// The settings whose values differ, by name.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        // As text, because figment's values differ when their origins do.
        let value = |loaded: &Self, name: &str| {
            let value = loaded.layers.find_value(name).ok();
            value.as_ref().map(values::show)
        };
        SETTINGS
            .iter()
            .map(|setting| setting.name)
            .filter(|name| value(self, name) != value(other, name))
            .collect()
    }
}

/// Reads every layer, checks every value, and gives the settings their types.
pub fn load(inputs: &Inputs) -> anyhow::Result<Loaded> {
    let mut variables = environment_file(&inputs.directory)?;
    for (name, value) in &inputs.environment {
        variables.insert(name.clone(), (value.clone(), "the environment"));
    }

    let mut layers = Figment::new();
    for setting in SETTINGS {
        if let settings::DefaultValue::Value(text) = setting.default {
            layers = layers.merge(Given::parse(setting, text, "default".to_owned())?);
        }
    }
    if let Some((path, text)) = file(inputs, &variables)? {
        layers = layers.merge(FileLayer::parse(&path, &text)?);
    }
    for setting in SETTINGS {
        let own = setting.variable();
        // Our own name wins over the original's.
        let aliases = setting.aliases.iter().map(|alias| (*alias).to_owned());
        let found = std::iter::once(own).chain(aliases).find_map(|name| {
            let (value, place) = variables.get(&name)?;
            // `NAME=` in an environment file means: not set.
            (!value.is_empty()).then(|| (value, format!("{name} in {place}")))
        });
        if let Some((value, place)) = found {
            layers = layers.merge(Given::parse(setting, value, place)?);
        }
        if let Some(value) = inputs.flags.get(setting.name) {
            layers = layers.merge(Given::parse(
                setting,
                value,
                format!("--{}", setting.flag()),
            )?);
        }
    }

    let mut config: Config = layers.extract().map_err(|error| sentence(&error))?;
    config.plugins.environment_secrets = plugin_secrets(&variables);
    providers::add_secrets(&mut config.auth.providers, &variables);
    providers::check(&config.auth)?;
    let mut warnings = warnings(&variables);
    let secret = config.server.secret.as_ref();
    if secret.is_some_and(|secret| secret.expose().len() < SHORT_SECRET) {
        warnings.push(format!(
            "server.secret has fewer than {SHORT_SECRET} characters and can be guessed"
        ));
    }
    Ok(Loaded {
        config,
        warnings,
        layers,
        inputs: inputs.clone(),
    })
}

/// `COGLEX_PLUGIN_SECRET_<PLUGIN>__<SECRET>`: names of plugins and secrets are in
/// lower case, and their variables in upper.
const PLUGIN_SECRET: &str = "COGLEX_PLUGIN_SECRET_";

fn plugin_secrets(variables: &Variables) -> BTreeMap<String, BTreeMap<String, Secret>> {
    let mut secrets: BTreeMap<String, BTreeMap<String, Secret>> = BTreeMap::new();
    for (name, (value, _)) in variables {
        let Some(named) = name.strip_prefix(PLUGIN_SECRET) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        // Names may have `__` in them, and plugins' end with `_`. Of those that can be
        // meant only one is given secrets; see `same_secrets`.
        for end in 0..named.len() {
            if let Some((plugin, rest)) = named.split_at_checked(end)
                && let Some(secret) = rest.strip_prefix("__")
            {
                secrets
                    .entry(plugin.to_owned())
                    .or_default()
                    .insert(secret.to_ascii_lowercase(), Secret::from(value.clone()));
            }
        }
    }
    secrets
}

/// Variables with the name of the place that set them, for messages.
type Variables = BTreeMap<String, (String, &'static str)>;

fn environment_file(directory: &Path) -> anyhow::Result<Variables> {
    let path = directory.join(".env");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Variables::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    dotenvy::from_read_iter(literal_dollars(&text).as_bytes())
        .map(|pair| pair.map(|(name, value)| (name, (value, ".env"))))
        .collect::<Result<_, _>>()
        // The cause would repeat the line, and with it perhaps a secret.
        .map_err(|_| anyhow::anyhow!(".env holds a line that is not NAME=value"))
}

/// A `$` in a value is a `$`: substitution would cut secrets without a word.
/// Quoted singly, values are literal by themselves.
fn literal_dollars(text: &[u8]) -> String {
    let literal = |line: &str| {
        let value = line.split_once('=').map_or("", |(_, value)| value);
        if value.trim_start().starts_with('\'') {
            line.to_owned()
        } else {
            line.replace("\\$", "$").replace('$', "\\$")
        }
    };
    let lines: Vec<String> = String::from_utf8_lossy(text).lines().map(literal).collect();
    lines.join("\n")
}

fn file(inputs: &Inputs, variables: &Variables) -> anyhow::Result<Option<(PathBuf, String)>> {
    let named = inputs
        .file
        .clone()
        .or_else(|| match variables.get("COGLEX_CONFIG") {
            Some((path, _)) if !path.is_empty() => Some(PathBuf::from(path)),
            _ => None,
        });
    let must_exist = named.is_some();
    let path = named.unwrap_or_else(|| inputs.directory.join(FILE_NAME));
    match fs::read_to_string(&path) {
        Ok(text) if !must_exist && is_a_plugins(&inputs.directory, &text) => Ok(None),
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the configuration {}", path.display()))
        }
    }
}

/// Whether this `coglex.toml` is what a plugin asks for: in the folder of a plugin's
/// source, with nothing in it that could be meant for a server. There `coglex dev` and
/// `coglex plugin` are run, too.
fn is_a_plugins(directory: &Path, text: &str) -> bool {
    const MANIFEST: [&str; 2] = ["grants", "budget"];
    let has_source = ["Cargo.toml", "package.json", "pyproject.toml"]
        .iter()
        .any(|name| directory.join(name).is_file());
    has_source
        && toml::from_str::<toml::Table>(text)
            .is_ok_and(|table| table.keys().all(|key| MANIFEST.contains(&key.as_str())))
}

fn warnings(variables: &Variables) -> Vec<String> {
    let known = |name: &str| {
        // `COGLEX_TEST_…` is for the project's own tests.
        // `COGLEX_TOOLS_DIR` is for `coglex build`.
        name == "COGLEX_CONFIG"
            || name == "COGLEX_TOOLS_DIR"
            || name.starts_with("COGLEX_TEST_")
            || providers::is_secret(name)
            || name
                .strip_prefix(PLUGIN_SECRET)
                .is_some_and(|named| named.contains("__"))
            || SETTINGS.iter().any(|s| s.variable() == name)
    };
    variables
        .iter()
        .filter_map(|(name, (_, place))| {
            if name.starts_with("COGLEX_") && !known(name) {
                Some(format!(
                    "{name} in {place} is ignored: there is no such setting"
                ))
            } else {
                None
            }
        })
        .collect()
}

/// One value of one setting.
struct Given {
    setting: &'static Setting,
    value: Value,
    place: String,
}

impl Given {
    fn parse(setting: &'static Setting, text: &str, place: String) -> anyhow::Result<Self> {
        match setting.parse(text) {
            Ok(value) => Ok(Self {
                setting,
                value,
                place,
            }),
            Err(expected) => bail!("the setting {} ({place}) {expected}", setting.name),
        }
    }
}

impl Provider for Given {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(self.setting.name, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// `coglex.toml`, all of whose keys are known.
struct FileLayer {
    name: String,
    root: Dict,
}

impl FileLayer {
    fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        // A leading `./` would only be noise in messages.
        let name = path.strip_prefix(".").unwrap_or(path).display().to_string();
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            anyhow::anyhow!("{name}, line {line}: {}", error.message())
        })?;
        check_table(&name, "", &table)?;
        let root = table
            .into_iter()
            .map(|(key, value)| (key, from_toml(value)))
            .collect();
        Ok(Self { name, root })
    }
}

impl Provider for FileLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.root.clone()))
    }
}

fn check_table(file: &str, parent: &str, table: &toml::Table) -> anyhow::Result<()> {
    for (key, value) in table {
        let name = if parent.is_empty() {
            key.clone()
        } else {
            format!("{parent}.{key}")
        };
        if FREE_TABLES.contains(&name.as_str()) {
            continue;
        }
        if let Some(setting) = settings::find(&name) {
            if let Err(expected) = setting.check(&from_toml(value.clone())) {
                bail!("the setting {name} ({file}) {expected}");
            }
            continue;
        }
        let start = format!("{name}.");
        let is_section = SETTINGS
            .iter()
            .any(|setting| setting.name.starts_with(&start));
        match value {
            toml::Value::Table(inner) if is_section => check_table(file, &name, inner)?,
            _ if is_section => bail!("{name} in {file} must be a table of settings"),
            _ => bail!(
                "{file} sets {name}, which is no setting; `coglex serve --help` lists them all"
            ),
        }
    }
    Ok(())
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(switch) => Value::from(switch),
        toml::Value::Datetime(time) => Value::from(time.to_string()),
        toml::Value::Array(items) => items.into_iter().map(from_toml).collect::<Vec<_>>().into(),
        toml::Value::Table(table) => {
            let dict: Dict = table
                .into_iter()
                .map(|(key, value)| (key, from_toml(value)))
                .collect();
            Value::Dict(Tag::Default, dict)
        }
    }
}

/// What figment found wrong, in the tables that the settings table leaves free.
fn sentence(error: &figment::Error) -> anyhow::Error {
    let place = match &error.metadata {
        Some(metadata) => format!(" ({})", metadata.name),
        None => String::new(),
    };
    match error.path.as_slice() {
        [] => anyhow::anyhow!("bad configuration{place}: {}", error.kind),
        path => anyhow::anyhow!(
            "the setting {}{place} is not valid: {}",
            path.join("."),
            error.kind
        ),
    }
}

#[cfg(test)]
mod tests;
