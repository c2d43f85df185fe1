//! `coglex serve` and `coglex dev`: from a configuration to a server that has
//! ended well.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::app::{App, AppState, Granting, open_store};
use crate::config::Loaded;
use crate::dev::{self, Build, Source};
use crate::http::{self, server};
use crate::telemetry::Telemetry;
use crate::{banner, files, jobs, plugins, shutdown};

/// How often a host of a cluster looks for what was deployed on another.
const FOLLOW_EVERY: Duration = Duration::from_secs(2);

/// How long the start waits for what was deployed before it goes on without.
const FOLLOW_AT_START: Duration = Duration::from_secs(5);

/// What `coglex dev` does beyond serving.
pub struct Dev {
    /// Plugins to build, and to build again when they are saved.
    pub sources: Vec<Source>,
    /// The cargo profile that they are built with.
    pub profile: String,
    /// Whether to start a stand-in for Stripe.
    pub fake_stripe: bool,
}

/// Serves until the process is asked to end.
pub fn serve(loaded: Loaded, dev: Option<Dev>) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(loaded.config.server.threads())
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    runtime.block_on(run(loaded, dev, telemetry))
}

async fn run(mut loaded: Loaded, dev: Option<Dev>, telemetry: Telemetry) -> anyhow::Result<()> {
    let started = SystemTime::now();
    // From the start, because a hang-up that nobody handles ends the process.
    let hangup = shutdown::Hangup::new().context("cannot listen to SIGHUP")?;
    let granting = if dev.is_some() {
        Granting::AsAsked
    } else {
        Granting::Configured
    };
    let wanted = dev.as_ref().is_some_and(|dev| dev.fake_stripe);
    let stripe = match wanted {
        true => Some(dev::Stripe::start(&mut loaded.config.payment).await?),
        false => None,
    };
    let store = open_store(&loaded.config).await?;
    let app = App::new(
        loaded.config.clone(),
        Arc::clone(&store),
        granting,
        telemetry,
    )?;
    let state = AppState::from(app);
    let front = http::front(state.clone())?;
    let (listener, address) = server::listen(&state.config.server).await?;
    if let Some(dev) = &dev {
        start_building(dev, &state).await?;
    }
    load_plugins(&state).await?;
    tokio::spawn(reload_on_hangup(hangup, loaded, state.clone()));
    if let Some(stripe) = &stripe {
        stripe
            .announce(address)
            .context("cannot print where payments go")?;
    }
    announce(&state, address).context("cannot print the address")?;
    if dev.is_some() {
        banner::print(&state, address).context("cannot print what is served")?;
    }
    tokio::spawn(files::keep(state.clone(), started));
    tokio::spawn(state.payments.clone().sweep());
    let jobs = tokio::spawn(jobs::run(state.clone(), shutdown::requested));
    server::serve(listener, front, &state.config.server, shutdown::requested).await;
    // They have had the same grace.
    if let Err(error) = jobs.await {
        tracing::error!(%error, "jobs were not given back");
    }
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Builds every source, and watches it from then on.
async fn start_building(dev: &Dev, state: &AppState) -> anyhow::Result<()> {
    let build = Build {
        profile: dev.profile.clone(),
        out: state.config.plugins_dir(),
        builds: Arc::clone(&state.builds),
    };
    dev::build_all(&dev.sources, &build).await?;
    for source in &dev.sources {
        let watch = dev::watch(source.clone(), build.clone());
        tokio::spawn(async move {
            if let Err(error) = watch.await {
                tracing::error!("sources are not watched: {error:#}");
            }
        });
    }
    Ok(())
}

/// Loads what is in the plugin folder, and what will be.
async fn load_plugins(state: &AppState) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(state.plugins.dir())
        .await
        .with_context(|| format!("cannot make the folder {}", state.plugins.dir().display()))?;
    // A database that is away does not keep what is in the folder from serving.
    let _ = tokio::time::timeout(FOLLOW_AT_START, follow(state)).await;
    if state.config.mongodb.uri.is_some() {
        // Only then are there other hosts that could deploy something.
        let state = state.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(FOLLOW_EVERY).await;
                follow(&state).await;
                state.plugins.scan().await;
            }
        });
    }
    if state.config.plugins.watch {
        // Watching begins before the first scan, so that no change falls between.
        let watch = plugins::watch::Watch::folder(state.plugins.dir());
        let state = state.clone();
        tokio::spawn(async move {
            loop {
                watch.changed_or_due().await;
                state.plugins.scan().await;
            }
        });
    }
    state.plugins.scan().await;
    Ok(())
}

/// Brings the plugin folder in line with what was deployed.
async fn follow(state: &AppState) {
    if let Err(error) = state.plugins.follow().await {
        let error = anyhow::Error::from(error);
        tracing::warn!("deployed plugins are not followed now: {error:#}");
    }
}

/// Takes the configuration over again for each hang-up, as far as that can be.
async fn reload_on_hangup(mut hangup: shutdown::Hangup, mut active: Loaded, state: AppState) {
    while hangup.next().await.is_some() {
        let reloaded = async {
            let new = active.again()?;
            state.reload(&new.config).await?;
            anyhow::Ok(new)
        };
        match reloaded.await {
            Ok(new) => {
                for warning in &new.warnings {
                    tracing::warn!("{warning}");
                }
                for name in active.differences(&new) {
                    if !is_reloadable(name) {
                        tracing::warn!("{name} has changed; that takes effect with the next start");
                    }
                }
                tracing::info!("configuration reloaded");
                active = new;
            }
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error:#}");
            }
        }
    }
}

/// Whether a change of this setting needs no restart; see `App::reload`.
fn is_reloadable(setting: &str) -> bool {
    setting == "log.filter" || setting.starts_with("plugins.budget.")
}

/// What the person or program that started the server has to know. On standard
/// output, apart from the log; the address is the real one, also for port 0.
fn announce(state: &AppState, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if state.api_key_is_new {
        writeln!(
            out,
            "generated API key (X-API-Key), kept in {}: {}",
            state.config.data.dir.join("secret").display(),
            state.api_key.expose()
        )?;
    }
    if state.admin_key_is_new {
        writeln!(
            out,
            "generated admin key (X-Admin-Key), kept in {}: {}",
            state.config.data.dir.join("admin-key").display(),
            state.admin_key.expose()
        )?;
    }
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
