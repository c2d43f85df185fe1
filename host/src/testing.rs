//! Runs a plugin's own tests: builds the plugin and the components with its
//! tests, and gives each test a server of its own, which is the real one but for
//! its store (thrown away), its clock (the test's) and the network (none).
//!
//! `coglex plugin test` says what to run and shows how it went. What a test can
//! ask of its host is `coglex_runtime::testing`'s to know.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bson::DateTime;
use bytes::Bytes;
use coglex_runtime::testing::{Answering, Harness, Outcome, Suite, Tested};
use coglex_runtime::{Allow, Runtime};
use http_body_util::{BodyExt as _, Full};

use crate::app::{self, App, AppState};
use crate::config::{self, Config, Inputs};
use crate::http;
use crate::plugins::logs::{LINES, Line};
use crate::project::Project;
use crate::telemetry::Telemetry;

/// Where memory can be written to as if it were files.
const MEMORY: &str = "/dev/shm";

/// What tests are run with: made once, for all of them.
pub(crate) struct Bench {
    project: Project,
    tested: Tested,
    config: Config,
    telemetry: Telemetry,
    runtime: Runtime,
    plugin: Vec<u8>,
    scratch: Scratch,
}

/// A component with tests.
pub(crate) struct Tests {
    /// What people know it by.
    pub(crate) name: String,
    suite: Suite,
    /// The tests in it.
    pub(crate) names: Vec<String>,
}

/// How a test went, and what its plugin had to say.
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    pub(crate) log: Vec<Arc<Line>>,
}

impl Bench {
    /// Makes what tests of this plugin run on. `plugin` is its component.
    pub(crate) async fn new(project: Project, plugin: Vec<u8>) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let config = configuration(&scratch.0)?;
        let cache = project.scratch().join("tests");
        let base = scratch.0.join("base");
        let runtime = app::idle_runtime_with(&config, &base, cache).await?;
        let mut policy = app::policy_of(&config, project.name());
        policy.allow = Allow::Everything;
        let tested = Tested {
            name: project.name().to_owned(),
            ask: project.ask()?,
            policy,
        };
        Ok(Self {
            tested,
            config,
            telemetry: Telemetry::quiet()?,
            runtime,
            plugin,
            scratch,
            project,
        })
    }

    /// Compiles a component with tests, and asks it for them.
    pub(crate) async fn open(&self, name: String, wasm: Vec<u8>) -> anyhow::Result<Tests> {
        let suite = Suite::compile(&self.runtime, wasm)
            .await
            .with_context(|| format!("the tests of {name} cannot be run"))?;
        let world = self.world(0).await?;
        let names = suite.list(&world.runtime, &self.tested).await;
        world.close().await;
        let names =
            names.map_err(|why| anyhow::anyhow!("the tests of {name} cannot be run: {why}"))?;
        Ok(Tests { name, suite, names })
    }

    /// Runs one test. `number` tells it from all others.
    pub(crate) async fn run(
        &self,
        tests: &Tests,
        test: &str,
        number: usize,
    ) -> anyhow::Result<Report> {
        let world = self.world(number).await?;
        // That the plugin was loaded is no news.
        self.telemetry.plugins.clear(&self.tested.name);
        let outcome = tests.suite.run(&world.runtime, &self.tested, test).await;
        world.close().await;
        Ok(Report {
            outcome,
            log: self.telemetry.plugins.last(&self.tested.name, LINES),
        })
    }

    /// A server for one test, with the plugin in it.
    async fn world(&self, number: usize) -> anyhow::Result<World> {
        let mut config = self.config.clone();
        config.data.dir = self.scratch.0.join(number.to_string());
        let store = app::open_store(&config).await?;
        let harness = Arc::new(Harness::new(DateTime::now()));
        let (app, runtime) = App::for_test(
            config,
            Arc::clone(&store),
            self.telemetry.clone(),
            &self.runtime,
            Arc::clone(&harness),
        )?;
        let api_key = app.api_key.expose().to_owned();
        let state = AppState::from(app);
        let folder = state.plugins.dir().to_owned();
        let name = self.project.name();
        let placed = async {
            tokio::fs::create_dir_all(&folder).await?;
            tokio::fs::write(folder.join(format!("{name}.wasm")), &self.plugin).await
        };
        placed
            .await
            .context("the plugin cannot be put where it is tested")?;
        state.plugins.scan().await;
        if let Some(failure) = state.plugins.current().failure(name) {
            bail!("a server would not serve {name}: {}", failure.why);
        }
        harness.serve_by(api_key, answering(state.clone())?);
        Ok(World {
            harness,
            runtime,
            store,
            dir: state.config.data.dir.clone(),
        })
    }
}

/// The server of one test.
struct World {
    harness: Arc<Harness>,
    runtime: Runtime,
    store: Arc<dyn coglex_services::storage::DocumentStore>,
    dir: PathBuf,
}

impl World {
    async fn close(self) {
        self.harness.end();
        self.store.close().await;
        // What is left over goes with the folder that it is in.
        let _ = tokio::fs::remove_dir_all(&self.dir).await;
    }
}

/// Asks the whole server, as if over the network.
fn answering(state: AppState) -> anyhow::Result<Answering> {
    let front = http::front(state)?;
    Ok(Arc::new(move |request: ::http::Request<Bytes>| {
        let front = front.clone();
        Box::pin(async move {
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let answer = match front.answer(peer, request.map(Full::new)).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            let (parts, body) = answer.into_parts();
            // A body that breaks off is what the client would have got of it.
            let bytes = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) => Bytes::from(format!("(the body broke off: {error})")),
            };
            ::http::Response::from_parts(parts, bytes)
        })
    }))
}

/// Every setting as nobody has set it, whatever is in this folder and in the
/// environment: a test goes the same way everywhere.
fn configuration(scratch: &Path) -> anyhow::Result<Config> {
    let flags = [
        ("data.dir", scratch.join("data").display().to_string()),
        // The least that argon2 works with: what is tested is not how well
        // passwords are kept.
        ("auth.argon2_memory", "64 KiB".to_owned()),
        ("auth.argon2_passes", "1".to_owned()),
        ("auth.argon2_lanes", "1".to_owned()),
        ("plugins.watch", "false".to_owned()),
    ];
    let loaded = config::load(&Inputs {
        directory: scratch.to_owned(),
        file: None,
        environment: Default::default(),
        flags: flags.into_iter().collect(),
    })?;
    Ok(loaded.config)
}

/// A folder in memory, where there is one, that is gone when the command ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let random = getrandom::u64().context("the system has no randomness")?;
        let name = format!("coglex-test-{random:016x}");
        let in_memory = Path::new(MEMORY).join(&name);
        let path = match config::private_dir(&in_memory) {
            Ok(()) => in_memory,
            Err(_) => std::env::temp_dir().join(name),
        };
        config::private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is in the folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
