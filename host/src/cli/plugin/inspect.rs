//! What a component is and would get, without a server: it is loaded as one with
//! this configuration would load it, into a runtime of its own over an empty
//! store that nothing asks.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use coglex_runtime::{Allow, Ask, LoadError, Plugin, Runtime, imports};
use serde::Serialize;

use crate::app;
use crate::config::Config;
use crate::plugins::digest_of;
use crate::plugins::status::{Description, refused, shown};

/// A component and what this configuration makes of it.
#[derive(Debug, Serialize)]
pub(super) struct Inspection {
    /// The file.
    pub(super) file: PathBuf,
    /// The name that it would serve under.
    pub(super) name: String,
    /// SHA-256 in hex.
    pub(super) digest: String,
    /// Its size.
    pub(super) bytes: usize,
    /// What it imports.
    pub(super) imports: Vec<String>,
    /// Its routes, functions, grants and budget; absent when it cannot even be
    /// loaded with all that it asks for.
    #[serde(flatten)]
    pub(super) description: Option<Description>,
    /// Why it would not be served; nothing if it would.
    pub(super) error: Option<String>,
}

/// Inspects a file.
pub(super) async fn file(path: &Path, name: &str, config: &Config) -> anyhow::Result<Inspection> {
    let wasm = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let beside = match std::fs::read_to_string(path.with_extension("toml")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("cannot read the file with what it asks for"),
    };
    let imports = imports(&wasm).with_context(|| format!("{} is no plugin", path.display()))?;
    let scratch = Scratch::new()?;
    let runtime = app::idle_runtime(config, &scratch.0).await?;
    let (description, error) = describe(&runtime, name, &wasm, beside.as_deref(), config).await?;
    Ok(Inspection {
        file: path.to_owned(),
        name: name.to_owned(),
        digest: digest_of(&wasm),
        bytes: wasm.len(),
        imports,
        description,
        error,
    })
}

async fn describe(
    runtime: &Runtime,
    name: &str,
    wasm: &[u8],
    beside: Option<&str>,
    config: &Config,
) -> anyhow::Result<(Option<Description>, Option<String>)> {
    let policy = app::policy_of(config, name);
    let load = async |allow: Allow| -> Result<Plugin, LoadError> {
        let mut policy = policy.clone();
        policy.allow = allow;
        runtime.load(name, wasm.to_vec(), beside, policy).await
    };
    let error = match load(policy.allow.clone()).await {
        Ok(plugin) => return Ok((Some(Description::of(&plugin)), None)),
        Err(error) => sentence(error),
    };
    // With all that it asks for it may still tell what it has; what it would get
    // is what the configuration says all the same.
    let Ok(plugin) = load(Allow::Everything).await else {
        return Ok((None, Some(error)));
    };
    let mut description = Description::of(&plugin);
    let asked = Ask::of(wasm, beside)?.grants;
    description.granted = shown(&policy.allow.grant(&asked));
    description.refused = refused(&description.asked, &description.granted);
    Ok((Some(description), Some(error)))
}

fn sentence(error: LoadError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// A folder that is gone when the command ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let random = getrandom::u64().context("the system has no randomness")?;
        let path = std::env::temp_dir().join(format!("coglex-inspect-{random:016x}"));
        crate::config::private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is empty, and in the folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
