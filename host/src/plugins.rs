//! The registry: which plugins are loaded, from which files, and what they
//! answer.
//!
//! A plugin is a file `NAME.wasm` in the plugin folder, with what it asks for
//! inside it or in `NAME.toml` beside it. [`Registry::scan`] brings the loaded
//! set in line with the folder: it compiles aside, checks, and swaps one `Arc`.
//! Whatever fails keeps the version that was there and says why. Requests in
//! flight hold the plugin that they started on, so a swap never disturbs them.
//!
//! It does not know HTTP (the gateway does) or when to scan (`watch` does).

mod routes;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use coglex_runtime::{LoadError, Plugin, Policy, Runtime};
use futures_util::StreamExt as _;
use http::Method;
use tokio::sync::Mutex;

use routes::RouteTable;
pub use routes::{Clash, Entry, Lookup};

/// What the operator says about plugins.
pub struct RegistrySettings {
    /// The folder of `NAME.wasm` files. Made when absent.
    pub dir: PathBuf,
    /// What a plugin of this name may have.
    pub policy: Box<dyn Fn(&str) -> Policy + Send + Sync>,
}

/// The plugins that are loaded together. Never changes; a reload makes a new one.
#[derive(Default)]
pub struct Generation {
    /// Counts up with each swap.
    pub number: u64,
    plugins: BTreeMap<String, Plugin>,
    failures: BTreeMap<String, String>,
    routes: RouteTable,
    functions: HashMap<String, Plugin>,
}

impl Generation {
    fn build(number: u64, plugins: BTreeMap<String, Plugin>) -> Result<Self, Clash> {
        let mut routes = RouteTable::default();
        let mut functions: HashMap<String, Plugin> = HashMap::new();
        for plugin in plugins.values() {
            routes.add(plugin)?;
            for function in plugin.functions() {
                if let Some(other) = functions.insert(function.name.clone(), plugin.clone()) {
                    return Err(Clash::Function {
                        plugin: plugin.name().to_owned(),
                        other: other.name().to_owned(),
                        function: function.name.clone(),
                    });
                }
            }
        }
        Ok(Self {
            number,
            plugins,
            failures: BTreeMap::new(),
            routes,
            functions,
        })
    }

    /// The loaded plugins by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.values()
    }

    /// Files that could not be loaded, and why. A plugin can be both here and in
    /// [`Self::plugins`]: then an older version of it is serving.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failures
            .iter()
            .map(|(name, why)| (name.as_str(), why.as_str()))
    }
}

/// What identifies the content of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Tells a file that was renamed over from the one that it replaced.
    inode: u64,
}

/// A plugin's files as a scan found them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    wasm: Stamp,
    beside: Option<Stamp>,
}

/// The registry.
pub struct Registry {
    runtime: Runtime,
    settings: RegistrySettings,
    current: ArcSwap<Generation>,
    /// Its lock makes scans follow one another.
    state: Mutex<ScanState>,
}

/// What the last scan saw.
#[derive(Default)]
struct ScanState {
    seen: BTreeMap<String, Files>,
    /// Loaded well, but did not fit beside the others.
    clashed: BTreeSet<String>,
    /// Could not be loaded then, which says nothing about them.
    busy: BTreeSet<String>,
}

impl Registry {
    /// An empty registry; the first [`Self::scan`] fills it.
    pub fn new(runtime: Runtime, settings: RegistrySettings) -> Self {
        Self {
            runtime,
            settings,
            current: ArcSwap::default(),
            state: Mutex::default(),
        }
    }

    /// The generation that serves now.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Who answers this request now. What it names stays loaded for as long as
    /// the answer takes.
    pub fn route(&self, method: &Method, path: &str) -> Lookup {
        self.current.load().routes.find(method, path)
    }

    /// The plugin that has this function now.
    pub fn function(&self, name: &str) -> Option<Plugin> {
        self.current.load().functions.get(name).cloned()
    }

    /// The plugin folder.
    pub fn dir(&self) -> &Path {
        &self.settings.dir
    }

    /// Brings what is loaded in line with the folder. A file that failed is not
    /// tried again until it changes; one that clashed, when anything changes; one
    /// that the server was too busy for, by the next scan.
    pub async fn scan(&self) {
        let mut state = self.state.lock().await;
        let found = match list(self.settings.dir.clone()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(plugins.dir = %self.settings.dir.display(), %error, "cannot read the plugin folder");
                return;
            }
        };
        let gone: Vec<&String> = state
            .seen
            .keys()
            .filter(|name| !found.contains_key(*name))
            .collect();
        let mut changed: BTreeSet<&String> = found
            .iter()
            .filter(|(name, files)| {
                state.seen.get(*name) != Some(files) || state.busy.contains(*name)
            })
            .map(|(name, _)| name)
            .collect();
        if changed.is_empty() && gone.is_empty() {
            return;
        }
        changed.extend(found.keys().filter(|name| state.clashed.contains(*name)));

        let old = self.current.load_full();
        let mut plugins = old.plugins.clone();
        for name in gone {
            if plugins.remove(name).is_some() {
                tracing::info!(plugin.name = name, "plugin removed");
            }
        }
        let (candidates, failed) = self.load(&changed).await;
        let clashes = admit(&mut plugins, candidates);
        let clashed = clashes.keys().cloned().collect();
        let busy = failed
            .iter()
            .filter(|(_, failure)| failure.again)
            .map(|(name, _)| name.clone())
            .collect();
        let mut failures: BTreeMap<String, String> = failed
            .into_iter()
            .map(|(name, failure)| (name, failure.why))
            .collect();
        failures.extend(
            clashes
                .into_iter()
                .map(|(name, clash)| (name, clash.to_string())),
        );

        for (name, why) in &failures {
            let kept = plugins.contains_key(name);
            tracing::error!(plugin.name = name, kept, "plugin not loaded: {why}");
        }
        // What failed before and was not tried now still fails.
        for (name, why) in &old.failures {
            if found.contains_key(name) && !changed.contains(name) {
                failures.insert(name.clone(), why.clone());
            }
        }
        match Generation::build(old.number + 1, plugins) {
            Ok(generation) => self.current.store(Arc::new(Generation {
                failures,
                ..generation
            })),
            // `admit` has built this very set, so this is a fault of ours.
            Err(clash) => tracing::error!(%clash, "the plugins were left as they are"),
        }
        *state = ScanState {
            seen: found,
            clashed,
            busy,
        };
    }

    /// Loads files aside. Answers with what can be served, in name order, and
    /// why the rest cannot.
    async fn load(
        &self,
        names: &BTreeSet<&String>,
    ) -> (Vec<(String, Plugin)>, BTreeMap<String, Failure>) {
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        let loads: Vec<_> = names.iter().map(|name| self.load_named(name)).collect();
        let mut results: Vec<(String, Result<Plugin, Failure>)> = futures_util::stream::iter(loads)
            .buffer_unordered(parallel)
            .collect()
            .await;
        results.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut loaded = Vec::new();
        let mut failures = BTreeMap::new();
        for (name, result) in results {
            match result {
                Ok(plugin) => loaded.push((name, plugin)),
                Err(failure) => {
                    failures.insert(name, failure);
                }
            }
        }
        (loaded, failures)
    }

    async fn load_named(&self, name: &str) -> (String, Result<Plugin, Failure>) {
        (name.to_owned(), self.load_one(name).await)
    }

    async fn load_one(&self, name: &str) -> Result<Plugin, Failure> {
        if !is_plugin_name(name) {
            let why = "a plugin's file name is lower-case letters, digits, '-' and '_', at most 64 of them";
            return Err(why.to_owned().into());
        }
        let start = Instant::now();
        let path = self.settings.dir.join(format!("{name}.wasm"));
        let wasm = tokio::fs::read(&path)
            .await
            .map_err(|error| error.to_string())?;
        let beside = match tokio::fs::read_to_string(path.with_extension("toml")).await {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("{name}.toml: {error}").into()),
        };
        let policy = (self.settings.policy)(name);
        let plugin = self
            .runtime
            .load(name, wasm, beside.as_deref(), policy)
            .await
            .map_err(|error| Failure {
                why: error_chain(&error),
                again: matches!(error, LoadError::Busy),
            })?;
        if plugin.asked() != plugin.granted() {
            tracing::warn!(
                plugin.name = name,
                plugin.asked = %plugin.asked(),
                plugin.granted = %plugin.granted(),
                "the plugin asks for more than plugins.allow.{name} lets it have"
            );
        }
        tracing::info!(
            plugin.name = name,
            plugin.digest = plugin.digest().get(..12).unwrap_or_default(),
            plugin.routes = plugin.routes().len(),
            plugin.functions = plugin.functions().len(),
            plugin.grants = %plugin.granted(),
            duration_ms = start.elapsed().as_millis() as u64,
            "plugin loaded"
        );
        Ok(plugin)
    }
}

/// Why a file could not be loaded.
struct Failure {
    why: String,
    /// Whether that can pass while the file stays as it is.
    again: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, again: false }
    }
}

/// Puts candidates in, replacing their older versions: all together if they
/// fit, else as many as fit, in any order. Answers with those that do not.
fn admit(
    plugins: &mut BTreeMap<String, Plugin>,
    candidates: Vec<(String, Plugin)>,
) -> BTreeMap<String, Clash> {
    let mut together = plugins.clone();
    together.extend(candidates.iter().cloned());
    if Generation::build(0, together.clone()).is_ok() {
        *plugins = together;
        return BTreeMap::new();
    }
    let mut left = candidates;
    loop {
        let before = left.len();
        let mut clashes = BTreeMap::new();
        left.retain(|(name, plugin)| {
            let mut with = plugins.clone();
            with.insert(name.clone(), plugin.clone());
            match Generation::build(0, with.clone()) {
                Ok(_) => *plugins = with,
                Err(clash) => {
                    clashes.insert(name.clone(), clash);
                }
            }
            clashes.contains_key(name)
        });
        // One that went in may have made room for another.
        if left.is_empty() || left.len() == before {
            return clashes;
        }
    }
}

/// The error and its causes in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// The plugins in a folder, by name.
async fn list(dir: PathBuf) -> std::io::Result<BTreeMap<String, Files>> {
    let blocking = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir)?;
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // Editors and builders write under hidden names and rename.
            let Some(name) = name
                .strip_suffix(".wasm")
                .filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            let Some(wasm) = stamp(&path) else { continue };
            let beside = stamp(&path.with_extension("toml"));
            found.insert(name.to_owned(), Files { wasm, beside });
        }
        Ok(found)
    });
    blocking.await.map_err(std::io::Error::other)?
}

/// The stamp of a file, through symbolic links; none when it is no regular file.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp {
        len: metadata.len(),
        modified: metadata.modified().ok(),
        inode,
    })
}
