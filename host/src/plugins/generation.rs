//! What is loaded together: plugins with their routes and functions, and what
//! is known of those that are not loaded. Built whole, never changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use coglex_runtime::Plugin;
use coglex_services::hooks::CollectionHooks;

use super::folder::Files;
use super::retry::Failure;
use super::routes::{Clash, RouteTable};
use crate::config::{same_secrets, secret_prefix};
use crate::hooks;

/// The plugins that are loaded together. Never changes; a reload makes a new one.
#[derive(Default)]
pub struct Generation {
    /// Counts up with each swap.
    pub number: u64,
    pub(super) plugins: BTreeMap<String, Serving>,
    pub(super) failures: BTreeMap<String, Failure>,
    pub(super) files: BTreeMap<String, Files>,
    pub(super) disabled: BTreeSet<String>,
    pub(super) routes: RouteTable,
    pub(super) functions: HashMap<String, Plugin>,
    /// By collection.
    pub(super) hooks: HashMap<String, Arc<CollectionHooks>>,
}

/// A plugin that is loaded, and since when.
#[derive(Clone)]
pub struct Serving {
    /// The plugin.
    pub plugin: Plugin,
    /// The size of its component.
    pub bytes: u64,
    /// The first generation that it is in.
    pub since: u64,
    /// When it was loaded.
    pub loaded: SystemTime,
}

impl Serving {
    pub(super) fn new(plugin: Plugin, bytes: u64, since: u64) -> Self {
        Self {
            plugin,
            bytes,
            since,
            loaded: SystemTime::now(),
        }
    }
}

impl Generation {
    /// Only what serves; or who clashes with whom.
    pub(super) fn build(number: u64, plugins: BTreeMap<String, Serving>) -> Result<Self, Clash> {
        let mut routes = RouteTable::default();
        let mut functions: HashMap<String, Plugin> = HashMap::new();
        let mut secret: Vec<(String, &str)> = Vec::new();
        for Serving { plugin, .. } in plugins.values() {
            routes.add(plugin)?;
            if !plugin.granted().secrets.is_empty() {
                let own = secret_prefix(plugin.name());
                for (prefix, other) in &secret {
                    if let Some(prefix) = same_secrets(prefix, &own) {
                        return Err(Clash::Secrets {
                            plugin: plugin.name().to_owned(),
                            other: (*other).to_owned(),
                            prefix: prefix.to_owned(),
                        });
                    }
                }
                secret.push((own, plugin.name()));
            }
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
        let hooks = hooks::by_collection(plugins.values().map(|serving| &serving.plugin));
        Ok(Self {
            number,
            hooks,
            plugins,
            routes,
            functions,
            ..Self::default()
        })
    }

    /// The loaded plugins by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.values().map(|serving| &serving.plugin)
    }

    /// Files that could not be loaded, and why. A plugin can be both here and in
    /// [`Self::plugins`]: then an older version of it is serving.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failures
            .iter()
            .map(|(name, failure)| (name.as_str(), failure.why.as_str()))
    }

    /// Every plugin that this host knows of: loaded, failed or disabled.
    pub fn names(&self) -> BTreeSet<&str> {
        let known = self.plugins.keys().chain(self.failures.keys());
        known.chain(self.files.keys()).map(String::as_str).collect()
    }

    /// What serves under this name.
    pub fn serving(&self, name: &str) -> Option<&Serving> {
        self.plugins.get(name)
    }

    /// Why the file of this name is not what serves.
    pub fn failure(&self, name: &str) -> Option<&Failure> {
        self.failures.get(name)
    }

    /// Whether the operator has disabled this plugin.
    pub fn is_disabled(&self, name: &str) -> bool {
        self.disabled.contains(name)
    }

    /// The size of the file of this name.
    pub fn file_bytes(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|files| files.wasm.len)
    }
}

/// Puts candidates in, replacing their older versions: all together if they
/// fit, else as many as fit, in any order. Answers with those that do not.
pub(super) fn admit(
    plugins: &mut BTreeMap<String, Serving>,
    candidates: Vec<Serving>,
) -> BTreeMap<String, Clash> {
    let named = |serving: &Serving| (serving.plugin.name().to_owned(), serving.clone());
    let mut together = plugins.clone();
    together.extend(candidates.iter().map(named));
    if Generation::build(0, together.clone()).is_ok() {
        *plugins = together;
        return BTreeMap::new();
    }
    let mut left = candidates;
    loop {
        let before = left.len();
        let mut clashes = BTreeMap::new();
        left.retain(|serving| {
            let mut with = plugins.clone();
            with.extend([named(serving)]);
            match Generation::build(0, with.clone()) {
                Ok(_) => {
                    *plugins = with;
                    false
                }
                Err(clash) => {
                    clashes.insert(serving.plugin.name().to_owned(), clash);
                    true
                }
            }
        });
        // One that went in may have made room for another.
        if left.is_empty() || left.len() == before {
            return clashes;
        }
    }
}
