//! `coglex dev`: a server that grants plugins what they ask for, and builds
//! their sources whenever they are saved.
//!
//! A source is a folder with a `Cargo.toml`. Its component is copied into the
//! plugin folder, and the registry's watch does the rest, exactly as it does for
//! a component that somebody else put there. A build that fails leaves the last
//! good component where it is; the compiler's message goes to the terminal.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::plugins::watch::Watch;

/// How plugin sources are built.
#[derive(Debug, Clone)]
pub struct Build {
    /// The cargo profile.
    pub profile: String,
    /// Where components go: the plugin folder.
    pub out: PathBuf,
}

/// The source of one plugin.
#[derive(Debug, Clone)]
pub struct Source {
    dir: PathBuf,
    /// The package's name, which is the plugin's.
    name: String,
}

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The parts of cargo's messages that say where the component is.
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html>)
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Source {
    /// The plugin whose `Cargo.toml` is in `dir`.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("{} is not a folder with a plugin in it", dir.display()))?;
        let path = dir.join("Cargo.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} has no Cargo.toml", dir.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            dir,
            name: manifest.package.name,
        })
    }

    /// Builds the component and puts it into the plugin folder.
    pub async fn build(&self, build: &Build) -> anyhow::Result<()> {
        let start = Instant::now();
        let component = self.compile(build).await?;
        let target = build.out.join(format!("{}.wasm", self.name));
        let same = match (
            tokio::fs::read(&component).await?,
            tokio::fs::read(&target).await,
        ) {
            (new, Ok(old)) => new == old,
            _ => false,
        };
        // An unchanged component need not be loaded again.
        if !same {
            install(&component, &target).await?;
        }
        tracing::info!(
            plugin.name = self.name,
            duration_ms = start.elapsed().as_millis() as u64,
            changed = !same,
            "plugin built"
        );
        Ok(())
    }

    async fn compile(&self, build: &Build) -> anyhow::Result<PathBuf> {
        let mut command = Command::new("cargo");
        // The flags of the cargo that started us are not for this build.
        command
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        let mut child = command
            .args([
                "build",
                "--quiet",
                "--target",
                "wasm32-wasip2",
                "--profile",
                &build.profile,
            ])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start cargo; is Rust installed?")?;
        let stdout = child.stdout.take().context("cargo has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let own_manifest = self.dir.join("Cargo.toml");
        let mut component = None;
        while let Some(line) = lines.next_line().await? {
            let Ok(message) = serde_json::from_str::<CargoMessage>(&line) else {
                continue;
            };
            if message.reason == "compiler-artifact" && message.manifest_path == own_manifest {
                let is_wasm = |file: &PathBuf| file.extension().is_some_and(|ext| ext == "wasm");
                component = message.filenames.into_iter().find(is_wasm).or(component);
            }
        }
        if !child.wait().await?.success() {
            bail!(
                "{} does not build; the last good version keeps serving",
                self.name
            );
        }
        component.with_context(|| {
            format!(
                "{} builds no component; its crate-type has to be cdylib or bin",
                self.name
            )
        })
    }
}

/// Copies under a hidden name and renames, so that the registry never reads half
/// a component.
async fn install(component: &Path, target: &Path) -> anyhow::Result<()> {
    let aside = target.with_extension("wasm.new");
    tokio::fs::copy(component, &aside).await?;
    tokio::fs::rename(&aside, target)
        .await
        .with_context(|| format!("cannot write {}", target.display()))
}

/// Builds every source once. One that fails is reported and left out, so that a
/// server with the others still starts.
pub(crate) async fn build_all(sources: &[Source], build: &Build) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(&build.out).await?;
    for source in sources {
        if let Err(error) = source.build(build).await {
            tracing::error!(plugin.name = source.name, "{error:#}");
        }
    }
    Ok(())
}

/// Builds a source again whenever one of its files is saved; ends never.
pub(crate) async fn watch(source: Source, build: Build) -> anyhow::Result<()> {
    let root = source.dir.clone();
    let relevant = move |path: &Path| {
        let inside = path.strip_prefix(&root).unwrap_or(path);
        let hidden =
            |part: &std::ffi::OsStr| part == "target" || part.as_encoded_bytes().starts_with(b".");
        let lock = inside == Path::new("Cargo.lock");
        !lock && !inside.components().any(|part| hidden(part.as_os_str()))
    };
    let watch = Watch::new(
        std::slice::from_ref(&source.dir),
        notify::RecursiveMode::Recursive,
        relevant,
    )?;
    loop {
        watch.changed().await;
        tracing::info!(plugin.name = source.name, "source changed, building");
        if let Err(error) = source.build(&build).await {
            tracing::error!(plugin.name = source.name, "{error:#}");
        }
    }
}
