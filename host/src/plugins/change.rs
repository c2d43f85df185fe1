//! What operators do to plugins: deploy, roll back, enable, disable, remove; and
//! how the other hosts of the same database follow.
//!
//! A change is made in three steps that leave everything as it was when one
//! fails: the component is loaded aside and must fit beside the others; its
//! bytes and the wish that it serve are kept in the store; the file is renamed
//! into the folder and the generation swapped. Other hosts compare revisions
//! ([`Registry::follow`]) and do the third step, where the file is loaded like
//! any other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bson::DateTime;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::deployments::{Deployment, DeploymentError, Version, digest_of};
use super::folder::{self, Aside, is_plugin_name};
use super::generation::Generation;
use super::{Registry, State};

/// Why a change was not made. Everything is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No plugin can have this name.
    #[error("a plugin's name is lower-case letters, digits, '-' and '_', at most 64 of them")]
    Name,
    /// There is no plugin of this name.
    #[error("there is no plugin of this name")]
    Unknown,
    /// The component cannot serve; the text says why.
    #[error("{0}")]
    Refused(String),
    /// There is nothing to roll back to; the text says what was looked for.
    #[error("{0}")]
    NoVersion(String),
    /// The server is too busy to load it now.
    #[error("the server is too busy to load a plugin")]
    Busy,
    /// What was deployed cannot be read or kept.
    #[error(transparent)]
    Deployments(#[from] DeploymentError),
    /// The plugin folder cannot be read or written.
    #[error("the plugin folder cannot be changed")]
    Folder(#[from] io::Error),
}

/// What this host has followed of the deployments, by the plugin's name. Kept in
/// a file beside the folder: a restart must not bring back what somebody has put
/// into the folder since, and a plugin stays disabled while the store is away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Applied(BTreeMap<String, Followed>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Followed {
    revision: i64,
    serving: Option<String>,
    disabled: bool,
}

impl Applied {
    /// What the file says. Without it, or when it is damaged, nothing: then all
    /// deployments are followed anew.
    pub(super) fn read(path: &Path) -> Self {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(%error, "cannot read {}", path.display());
                return Self::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "{} is damaged and was not used", path.display());
            Self::default()
        })
    }

    /// The plugins that must not be served.
    pub(super) fn disabled(&self) -> BTreeSet<String> {
        let disabled = self.0.iter().filter(|(_, own)| own.disabled);
        disabled.map(|(name, _)| name.clone()).collect()
    }

    /// Notes that a deployment was followed.
    fn follow(&mut self, deployment: &Deployment) {
        let followed = Followed {
            revision: deployment.revision,
            serving: deployment.serving.clone(),
            disabled: deployment.disabled,
        };
        self.0.insert(deployment.name.clone(), followed);
    }

    async fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let aside = path.with_extension("new");
        tokio::fs::write(&aside, text).await?;
        tokio::fs::rename(&aside, path).await
    }
}

/// What to do with a plugin's list of versions when a component is installed.
enum History {
    /// It is a new one.
    Add,
    /// It goes back in time: the list stays.
    Keep,
}

impl Registry {
    /// Checks a component and lets it serve, on this host now and on the others
    /// of the same database soon. A plugin that is disabled stays so.
    pub async fn deploy(&self, name: &str, wasm: Bytes) -> Result<(), ChangeError> {
        if !is_plugin_name(name) {
            return Err(ChangeError::Name);
        }
        self.install(name, wasm, History::Add).await
    }

    /// Goes back to the version before the one that serves, or to the one whose
    /// digest starts with `to`. Answers the digest.
    pub async fn roll_back(&self, name: &str, to: Option<&str>) -> Result<String, ChangeError> {
        let all = self.deployments.all().await?;
        let deployment = all.into_iter().find(|own| own.name == name);
        let generation = self.current();
        let serving = generation.serving(name).map(|own| own.plugin.digest());
        let deployment = match deployment {
            Some(deployment) => deployment,
            None if generation.names().contains(name) => {
                let why = "no version of this plugin was deployed, so none is kept";
                return Err(ChangeError::NoVersion(why.to_owned()));
            }
            None => return Err(ChangeError::Unknown),
        };
        let version = match to {
            None => deployment
                .before(serving.or(deployment.serving.as_deref()))
                .ok_or("no older version of this plugin is kept"),
            Some(start) => deployment
                .named(start)
                .ok_or("no version that is kept, or more than one, begins with this digest"),
        };
        let digest = version
            .map_err(|why| ChangeError::NoVersion(why.to_owned()))?
            .digest
            .clone();
        let wasm = self.deployments.fetch(name, &digest).await?;
        self.install(name, wasm, History::Keep).await?;
        Ok(digest)
    }

    /// Lets a plugin serve, or not, from now on and after every restart.
    pub async fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), ChangeError> {
        let mut state = self.state.lock().await;
        self.known(&state, name)?;
        let disabled = !enabled;
        let deployment = self
            .deployments
            .change(name, |own| own.disabled = disabled)
            .await?;
        if enabled {
            // Also one that failed: who enables it wants to see it tried.
            state.forced.insert(name.to_owned());
        }
        self.applied(&mut state, deployment).await;
        drop(state);
        tracing::info!(
            plugin.name = name,
            enabled,
            "plugin switched by the operator"
        );
        self.scan().await;
        Ok(())
    }

    /// Takes a plugin away with all of its versions: here, and on every host that
    /// it was deployed to.
    pub async fn remove(&self, name: &str) -> Result<(), ChangeError> {
        let mut state = self.state.lock().await;
        self.known(&state, name)?;
        // The file first: what cannot be taken away stays deployed.
        folder::remove(&self.settings.dir, name).await?;
        let deployment = self
            .deployments
            .change(name, |own| {
                own.removed = true;
                own.disabled = false;
                own.serving = None;
                own.versions.clear();
            })
            .await?;
        self.applied(&mut state, deployment).await;
        drop(state);
        tracing::info!(plugin.name = name, "plugin removed by the operator");
        self.scan().await;
        Ok(())
    }

    /// Brings the folder in line with what was deployed on other hosts, or before
    /// this host's folder was made. What it changes is found by the next scan.
    pub async fn follow(&self) -> Result<(), DeploymentError> {
        let all = self.deployments.all().await?;
        let mut state = self.state.lock().await;
        let before = state.applied.clone();
        for deployment in &all {
            let last = before.0.get(&deployment.name);
            if last.is_some_and(|last| last.revision >= deployment.revision) {
                continue;
            }
            if let Err(error) = self.follow_one(&mut state, deployment, last).await {
                // Tried again by the next look; the others need not wait.
                let error = super::retry::error_chain(&error);
                tracing::error!(
                    plugin.name = deployment.name,
                    "a deployed version cannot be put into the plugin folder: {error}"
                );
            }
        }
        if state.applied.0 != before.0 {
            self.write_applied(&state).await;
        }
        self.note(all);
        Ok(())
    }

    async fn follow_one(
        &self,
        state: &mut State,
        deployment: &Deployment,
        last: Option<&Followed>,
    ) -> Result<(), ChangeError> {
        let name = &deployment.name;
        let dir = &self.settings.dir;
        // It becomes a path, and whoever can write to the database chose it.
        if !is_plugin_name(name) {
            return Err(ChangeError::Name);
        }
        if deployment.removed {
            // A file of a host that never had the deployment is its owner's.
            if last.is_some_and(|last| last.serving.is_some()) && folder::remove(dir, name).await? {
                tracing::info!(plugin.name = name, "plugin removed on another host");
            }
        } else if let Some(digest) = &deployment.serving
            // Only who has deployed since may replace what is in the folder.
            && last.and_then(|last| last.serving.as_ref()) != Some(digest)
        {
            let there = folder::read(dir, name).await.ok();
            if there.is_none_or(|(wasm, _)| digest_of(&wasm) != *digest) {
                let wasm = self.deployments.fetch(name, digest).await?;
                Aside::write(dir, name, wasm).await?.place().await?;
                tracing::info!(
                    plugin.name = name,
                    plugin.digest = digest.get(..12).unwrap_or_default(),
                    "deployed version taken over"
                );
            }
        }
        if last.is_some_and(|last| last.disabled) && !deployment.disabled {
            state.forced.insert(name.clone());
        }
        state.applied.follow(deployment);
        Ok(())
    }

    /// Loads a component aside and, if it can serve beside the others, makes it
    /// the plugin of this name.
    async fn install(&self, name: &str, wasm: Bytes, history: History) -> Result<(), ChangeError> {
        let mut state = self.state.lock().await;
        let dir = &self.settings.dir;
        let old = self.current.load_full();
        let beside = folder::read_beside(dir, name).await?;
        let serving = self
            .load_bytes(name, wasm.to_vec(), beside.as_deref(), old.number + 1)
            .await
            .map_err(|reason| match reason.kind {
                super::Kind::Busy => ChangeError::Busy,
                _ => ChangeError::Refused(reason.why),
            })?;
        let digest = serving.plugin.digest().to_owned();
        let mut plugins = old.plugins.clone();
        plugins.insert(name.to_owned(), serving);
        Generation::build(0, plugins.clone())
            .map_err(|clash| ChangeError::Refused(clash.to_string()))?;

        let bytes = wasm.len() as u64;
        let aside = Aside::write(dir, name, wasm.clone()).await?;
        let replaced = match history {
            History::Add => self.keep_replaced(name, &digest).await?,
            History::Keep => None,
        };
        self.deployments.keep(name, &digest, &wasm).await?;
        let deployed = DateTime::now();
        let before = self.deployment(name);
        let deployment = self
            .deployments
            .change(name, |own| {
                own.removed = false;
                own.serving = Some(digest.clone());
                // Somebody may have deployed enough since to push it out.
                let listed = own.versions.iter().any(|own| own.digest == digest);
                if matches!(history, History::Add) || !listed {
                    if let Some(replaced) = &replaced
                        && !own.versions.iter().any(|v| v.digest == replaced.digest)
                    {
                        own.add(replaced.clone());
                    }
                    own.add(Version {
                        digest: digest.clone(),
                        bytes,
                        deployed,
                    });
                }
            })
            .await?;
        // Another host may have deleted them meanwhile, when it pushed out an
        // older deployment of the same bytes. Now that they are named, none does.
        self.deployments.keep(name, &digest, &wasm).await?;
        let files = match aside.place().await {
            Ok(files) => files,
            Err(error) => {
                let back = |own: &mut Deployment| {
                    own.serving = before.as_ref().and_then(|own| own.serving.clone());
                    own.removed = before.as_ref().is_none_or(|own| own.removed);
                };
                self.deployments.change(name, back).await?;
                return Err(error.into());
            }
        };
        state.seen.insert(name.to_owned(), files);
        self.applied(&mut state, deployment).await;
        if state.applied.disabled().contains(name) {
            plugins.remove(name);
        }
        let mut failures = old.failures.clone();
        failures.remove(name);
        self.publish(&state, plugins, failures);
        tracing::info!(
            plugin.name = name,
            plugin.digest = digest.get(..12).unwrap_or_default(),
            "plugin deployed by the operator"
        );
        drop(state);
        // Its old version may have stood in the way of another plugin.
        self.scan().await;
        Ok(())
    }

    /// A file that somebody put into the folder would be lost when it is replaced
    /// by what is deployed: it becomes a version too, if it was any good.
    async fn keep_replaced(
        &self,
        name: &str,
        new: &str,
    ) -> Result<Option<Version>, DeploymentError> {
        let generation = self.current();
        let Some(serving) = generation.serving(name) else {
            return Ok(None);
        };
        let digest = serving.plugin.digest();
        let Ok((wasm, _)) = folder::read(&self.settings.dir, name).await else {
            return Ok(None);
        };
        if digest == new || digest_of(&wasm) != digest {
            return Ok(None);
        }
        let version = Version {
            digest: digest.to_owned(),
            bytes: wasm.len() as u64,
            deployed: serving.loaded.into(),
        };
        self.deployments.keep(name, digest, &wasm.into()).await?;
        Ok(Some(version))
    }

    fn known(&self, state: &State, name: &str) -> Result<(), ChangeError> {
        let deployed = || self.deployment(name).is_some_and(|own| !own.removed);
        if state.seen.contains_key(name) || deployed() {
            Ok(())
        } else {
            Err(ChangeError::Unknown)
        }
    }

    /// Notes a change that this host has made itself.
    async fn applied(&self, state: &mut State, deployment: Deployment) {
        state.applied.follow(&deployment);
        self.write_applied(state).await;
        self.note(vec![deployment]);
    }

    /// Remembers deployments for `status`. What was read from the store while
    /// this host changed the same plugin is older than what it knows.
    fn note(&self, deployments: Vec<Deployment>) {
        self.records.rcu(|records| {
            let mut records = BTreeMap::clone(records);
            for deployment in &deployments {
                let known = records.get(&deployment.name);
                if known.is_none_or(|known| known.revision < deployment.revision) {
                    records.insert(deployment.name.clone(), deployment.clone());
                }
            }
            records
        });
    }

    async fn write_applied(&self, state: &State) {
        let path = &self.settings.applied;
        if let Err(error) = state.applied.write(path).await {
            // The store knows it all; only a restart without the store would not.
            tracing::error!(%error, "cannot write {}", path.display());
        }
    }
}
