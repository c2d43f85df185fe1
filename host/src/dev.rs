//! `coglex dev`: a server that grants plugins what they ask for, and builds
//! their sources whenever they are saved.
//!
//! A component that was built is copied into the plugin folder, and the
//! registry's watch does the rest, exactly as it does for a component that
//! somebody else put there. A build that fails leaves the last good component
//! where it is; the compiler's message goes to the terminal, and into [`Builds`]
//! for those who look at the browser.

mod builds;
mod page;
mod stripe;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

pub use builds::Builds;
pub(crate) use page::show_errors;
pub(crate) use stripe::Stripe;

use crate::plugins::watch::Watch;
use crate::project::{BuildError, Project, is_source};

/// How plugin sources are built.
#[derive(Debug, Clone)]
pub struct Build {
    /// The cargo profile.
    pub profile: String,
    /// Where components go: the plugin folder.
    pub out: PathBuf,
    /// Where failures are kept.
    pub builds: Arc<Builds>,
}

/// The source of one plugin.
#[derive(Debug, Clone)]
pub struct Source {
    project: Project,
}

impl Source {
    /// The plugin in a folder.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            project: Project::open(dir)?,
        })
    }

    fn name(&self) -> &str {
        self.project.name()
    }

    /// Builds the component and puts it into the plugin folder. A failure is in
    /// the log, and with the other builds, until the next build is good.
    async fn build(&self, build: &Build) {
        let start = Instant::now();
        match self.try_build(build).await {
            Ok(changed) => {
                build.builds.good(self.name());
                tracing::info!(
                    plugin.name = self.name(),
                    duration_ms = start.elapsed().as_millis() as u64,
                    changed,
                    "plugin built"
                );
            }
            Err(error) => {
                build.builds.failed(self.name(), error.text());
                match error {
                    // What is wrong stands in the terminal, as its tool wrote it.
                    BuildError::Source { .. } => tracing::error!(
                        plugin.name = self.name(),
                        "{} does not build; the last good version keeps serving",
                        self.name()
                    ),
                    BuildError::Other(error) => {
                        tracing::error!(plugin.name = self.name(), "{error:#}");
                    }
                }
            }
        }
    }

    /// Answers whether the component is another than before. An unchanged one
    /// need not be loaded again.
    async fn try_build(&self, build: &Build) -> Result<bool, BuildError> {
        let component = self.project.build(&build.profile).await?;
        let target = build.out.join(format!("{}.wasm", self.name()));
        let same = tokio::fs::read(&target)
            .await
            .is_ok_and(|there| there == component);
        if !same {
            install(&component, &target).await?;
        }
        Ok(!same)
    }
}

/// Writes under another name and renames, so that the registry never reads half
/// a component.
async fn install(component: &[u8], target: &Path) -> anyhow::Result<()> {
    let aside = target.with_extension("wasm.new");
    let written = async {
        tokio::fs::write(&aside, component).await?;
        tokio::fs::rename(&aside, target).await
    };
    written
        .await
        .with_context(|| format!("cannot write {}", target.display()))
}

/// Builds every source once. One that fails is reported and left out, so that a
/// server with the others still starts.
pub(crate) async fn build_all(sources: &[Source], build: &Build) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(&build.out)
        .await
        .with_context(|| format!("cannot make the folder {}", build.out.display()))?;
    for source in sources {
        source.build(build).await;
    }
    Ok(())
}

/// Builds a source again whenever one of its files is saved; ends never.
pub(crate) async fn watch(source: Source, build: Build) -> anyhow::Result<()> {
    let root = source.project.dir().to_owned();
    let inside = root.clone();
    let relevant = move |path: &Path| is_source(path.strip_prefix(&inside).unwrap_or(path));
    let watch = Watch::new(
        std::slice::from_ref(&root),
        notify::RecursiveMode::Recursive,
        relevant,
    )?;
    loop {
        watch.changed().await;
        tracing::info!(plugin.name = source.name(), "source changed, building");
        // What the project's own manifest says may have changed as well.
        let source = Source::open(&root).unwrap_or_else(|_| source.clone());
        source.build(&build).await;
    }
}
