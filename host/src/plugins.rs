//! The registry: which plugins are loaded, from which files, and what they
//! answer.
//!
//! A plugin is a file `NAME.wasm` in the plugin folder, with what it asks for
//! inside it or in `NAME.toml` beside it. [`Registry::scan`] brings the loaded
//! set in line with the folder: it compiles aside, checks, and swaps one `Arc`.
//! Whatever fails keeps the version that was there and says why. Requests in
//! flight hold the plugin that they started on, so a swap never disturbs them.
//!
//! Operators change plugins over the admin API too (`change`). What they deploy
//! is kept by version in the store (`deployments`), reaches the folder of every
//! host, and is from there on a file like any other.
//!
//! - `generation`: what is loaded together, and what is known of the rest.
//! - `routes`: who answers a path.
//! - `folder`, `watch`: the files, and when to look at them again.
//! - `retry`: what becomes of files that fail.
//! - `change`, `deployments`: deploy, roll back, disable, remove, on all hosts.
//! - `status`: what operators are shown.
//! - `logs`: the last lines of each plugin.
//!
//! It does not know HTTP (the gateway and the admin routes do).

mod change;
mod deployments;
mod folder;
mod generation;
pub mod logs;
mod retry;
mod routes;
pub mod status;
mod subscribers;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use coglex_runtime::{Plugin, Policy, Runtime};
use coglex_services::hooks::{CollectionHooks, HookTable};
use futures_util::StreamExt as _;
use http::Method;
use tokio::sync::Mutex;

use change::Applied;
pub use change::ChangeError;
pub use deployments::{Deployment, DeploymentError, Deployments, Version, digest_of};
use folder::Files;
pub use folder::is_plugin_name;
use generation::admit;
pub use generation::{Generation, Serving};
pub use retry::{Again, Failure};
use retry::{Kind, Reason};
pub(crate) use routes::is_reserved;
pub use routes::{Clash, Entry, Lookup};

/// What a plugin of a name may have, as the configuration says it now.
pub type PolicyOf = Box<dyn Fn(&str) -> Policy + Send + Sync>;

/// What the operator says about plugins.
pub struct RegistrySettings {
    /// The folder of `NAME.wasm` files. Made when absent.
    pub dir: PathBuf,
    /// Where this host keeps which deployments it has followed.
    pub applied: PathBuf,
    /// What a plugin of this name may have.
    pub policy: PolicyOf,
}

/// The registry.
pub struct Registry {
    runtime: Runtime,
    settings: RegistrySettings,
    current: Arc<ArcSwap<Generation>>,
    deployments: Deployments,
    /// The deployments as this host knows them, by the plugin's name.
    records: ArcSwap<BTreeMap<String, Deployment>>,
    /// Its lock makes scans and changes follow one another.
    state: Mutex<State>,
}

/// The hooks of the generation that serves.
struct Table(Weak<ArcSwap<Generation>>);

impl HookTable for Table {
    fn of(&self, collection: &str) -> Option<Arc<CollectionHooks>> {
        let current = self.0.upgrade()?;
        let generation = current.load();
        if generation.hooks.is_empty() {
            return None;
        }
        generation.hooks.get(collection).cloned()
    }
}

/// What scans and changes remember.
#[derive(Default)]
struct State {
    /// The files that the last scan found, or a change has put there.
    seen: BTreeMap<String, Files>,
    /// Plugins to load again although their files are the same, because what
    /// they may have has changed: what is loaded must not go on.
    forced: BTreeSet<String>,
    /// What this host has followed of the deployments.
    applied: Applied,
}

impl Registry {
    /// An empty registry; the first [`Self::scan`] fills it.
    pub fn new(runtime: Runtime, settings: RegistrySettings, deployments: Deployments) -> Self {
        let applied = Applied::read(&settings.applied);
        let current: Arc<ArcSwap<Generation>> = Arc::default();
        // Weak: plugins, which a generation holds, hold what finds them.
        let weak = Arc::downgrade(&current);
        runtime.find_functions_by(Arc::new(move |function| {
            weak.upgrade()?.load().functions.get(function).cloned()
        }));
        Self {
            runtime,
            settings,
            current,
            deployments,
            records: ArcSwap::default(),
            state: Mutex::new(State {
                applied,
                ..State::default()
            }),
        }
    }

    /// Where services find the hooks of plugins.
    pub fn hook_table(&self) -> Arc<dyn HookTable> {
        // Weak: plugins, which a generation holds, hold the services that ask here.
        Arc::new(Table(Arc::downgrade(&self.current)))
    }

    /// Where payments find the functions that are told of events.
    pub fn payment_subscribers(&self) -> Arc<dyn coglex_payment::Subscribers> {
        Arc::new(subscribers::Table(Arc::downgrade(&self.current)))
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

    /// What is known of the deployments of a plugin.
    pub fn deployment(&self, name: &str) -> Option<Deployment> {
        self.records.load().get(name).cloned()
    }

    /// Loads those plugins again by the next scan that this is true of, since
    /// what the operator lets them have has changed. Called after the change:
    /// whatever was being loaded under the old rules is there by now.
    pub async fn force(&self, affected: impl Fn(&str) -> bool) {
        let mut state = self.state.lock().await;
        let generation = self.current();
        let names = generation.names().into_iter().filter(|name| affected(name));
        state.forced.extend(names.map(str::to_owned));
    }

    /// Brings what is loaded in line with the folder. A file that failed is tried
    /// again when it changes, and before that as its [`Again`] says.
    pub async fn scan(&self) {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        let found = match folder::list(self.settings.dir.clone()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(plugins.dir = %self.settings.dir.display(), %error, "cannot read the plugin folder");
                return;
            }
        };
        let old = self.current.load_full();
        let disabled = state.applied.disabled();
        let now = Instant::now();
        let is_due = |name: &str| old.failures.get(name).is_some_and(|own| own.is_due(now));
        let (seen, forced) = (&state.seen, &state.forced);
        let changed = |name: &str, files: &Files| seen.get(name) != Some(files);
        let mut wanted: BTreeSet<&String> = found
            .iter()
            .filter(|(name, files)| changed(name, files) || is_due(name) || forced.contains(*name))
            .map(|(name, _)| name)
            .collect();
        let none_gone = seen.keys().all(|name| found.contains_key(name));
        if wanted.is_empty() && none_gone && disabled == old.disabled {
            return;
        }
        wanted.extend(found.keys().filter(|name| {
            let failure = old.failures.get(*name);
            failure.is_some_and(|failure| failure.again == Again::WithOthers)
        }));
        wanted.retain(|name| !disabled.contains(*name));

        let mut plugins = old.plugins.clone();
        plugins.retain(|name, _| {
            let stays = found.contains_key(name) && !disabled.contains(name);
            if !stays {
                tracing::info!(plugin.name = name, "plugin unloaded");
            }
            stays
        });
        let (candidates, mut failed) = self.load(&wanted, old.number + 1).await;
        for (name, clash) in admit(&mut plugins, candidates) {
            failed.insert(name, Reason::new(Kind::Clash, clash.to_string()));
        }
        let mut failures = BTreeMap::new();
        let mut forced_again = BTreeSet::new();
        for (name, reason) in failed {
            if forced.contains(&name) {
                if reason.kind == Kind::Busy {
                    forced_again.insert(name.clone());
                } else {
                    plugins.remove(&name);
                }
            }
            let kept = plugins.contains_key(&name);
            tracing::error!(
                plugin.name = name,
                kept,
                "plugin not loaded: {}",
                reason.why
            );
            let same = found.get(&name).is_some_and(|files| !changed(&name, files));
            let last = old.failures.get(&name).filter(|_| same);
            let failure = Failure::after(last, reason, Instant::now());
            failures.insert(name, failure);
        }
        // What failed before and was not tried now still fails.
        for (name, failure) in &old.failures {
            let tried = wanted.contains(name);
            if found.contains_key(name) && !tried && !disabled.contains(name) {
                failures.insert(name.clone(), failure.clone());
            }
        }
        state.forced = forced_again;
        state.seen = found;
        self.publish(state, plugins, failures);
    }

    /// Makes a generation of these plugins and lets it serve.
    fn publish(
        &self,
        state: &State,
        plugins: BTreeMap<String, Serving>,
        failures: BTreeMap<String, Failure>,
    ) {
        let number = self.current.load().number + 1;
        match Generation::build(number, plugins) {
            Ok(generation) => self.current.store(Arc::new(Generation {
                failures,
                files: state.seen.clone(),
                disabled: state.applied.disabled(),
                ..generation
            })),
            // The caller has built this very set, so this is a fault of ours.
            Err(clash) => tracing::error!(%clash, "the plugins were left as they are"),
        }
    }

    /// Loads files aside. Answers with what can be served, in name order, and
    /// why the rest cannot.
    async fn load(
        &self,
        names: &BTreeSet<&String>,
        generation: u64,
    ) -> (Vec<Serving>, BTreeMap<String, Reason>) {
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        let loads = names.iter().map(|name| async {
            let loaded = self.load_file(name, generation).await;
            ((*name).clone(), loaded)
        });
        // A list first: the iterator's closure would make the future not `Send`.
        let loads: Vec<_> = loads.collect();
        let results: BTreeMap<String, Result<Serving, Reason>> = futures_util::stream::iter(loads)
            .buffer_unordered(parallel)
            .collect()
            .await;
        let mut loaded = Vec::new();
        let mut failures = BTreeMap::new();
        for (name, result) in results {
            match result {
                Ok(serving) => loaded.push(serving),
                Err(reason) => {
                    failures.insert(name, reason);
                }
            }
        }
        (loaded, failures)
    }

    async fn load_file(&self, name: &str, generation: u64) -> Result<Serving, Reason> {
        if !is_plugin_name(name) {
            return Err(Reason::new(
                Kind::Lasting,
                "a plugin's file name is lower-case letters, digits, '-' and '_', at most 64 of them",
            ));
        }
        let (wasm, beside) = folder::read(&self.settings.dir, name)
            .await
            .map_err(|error| Reason::new(Kind::Passing, error.to_string()))?;
        self.load_bytes(name, wasm, beside.as_deref(), generation)
            .await
    }

    /// Loads a component, wherever it came from.
    async fn load_bytes(
        &self,
        name: &str,
        wasm: Vec<u8>,
        beside: Option<&str>,
        generation: u64,
    ) -> Result<Serving, Reason> {
        let start = Instant::now();
        let bytes = wasm.len() as u64;
        let policy = (self.settings.policy)(name);
        let plugin = self.runtime.load(name, wasm, beside, policy).await?;
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
        Ok(Serving::new(plugin, bytes, generation))
    }
}
