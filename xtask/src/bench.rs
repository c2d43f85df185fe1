//! `cargo xtask bench`: what the server costs, beside plain axum, PocketBase and
//! the bare driver of MongoDB, in one run.
//!
//! A number alone says little about software that was measured on somebody's
//! machine on some day, so every case runs in each of several rounds, one after
//! the other (A B C A B C …), medians are reported, and what counts are ratios
//! to the yardstick of the same run. CPU per request is read from the operating
//! system; it is steadier than requests per second where cores are shared, also
//! with the load generator.

mod pocketbase;
mod report;
mod server;
mod storage;
mod wrk;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{self, cargo};
use crate::{guests, wasip2, workspace};
use report::{Figures, Startup};
use server::Server;
use wrk::{Load, Sample};

/// Only this machine can reach the measured servers.
const KEY: &str = "the-key-of-a-benchmark";
const DOCUMENT: &str = r#"{"document": {"type": "important", "title": "A title of some length", "count": 12345, "tags": ["a", "b", "c"], "owner": {"name": "Ann", "active": true}}}"#;
/// As many as DESIGN's target for the start speaks of.
const PLUGINS_AT_START: usize = 20;

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Gateway apps beside plain axum, and the start
    Gateway,
    /// Documents beside PocketBase, a bare log and the bare driver
    Storage,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure this alone
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// How long each case runs in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often every case runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections that the load generator keeps busy
    #[arg(long, default_value_t = 32)]
    connections: u32,
}

/// One thing that is measured.
struct Case<'a> {
    name: &'static str,
    server: &'a Server,
    load: Load,
    samples: Vec<Sample>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if !process::succeeds(Command::new("sh").args(["-c", "command -v wrk"])) {
        bail!("the load generator wrk was not found; on Debian or Ubuntu: apt-get install wrk");
    }
    process::step(
        "building optimised servers (the first time takes many minutes)",
        || process::run(cargo().args(["build", "--release", "-p", "coglex", "-p", "bench-native"])),
    )?;
    let release = workspace::target().join("release");
    let scratch = Scratch::new()?;
    if options.only != Some(Part::Storage) {
        gateway(options, &release, scratch.path())?;
    }
    if options.only != Some(Part::Gateway) {
        storage::run(options, &release, scratch.path())?;
    }
    Ok(())
}

fn gateway(options: &Options, release: &Path, scratch: &Path) -> anyhow::Result<()> {
    let components = guests::build(
        &wasip2::ensure()?,
        &guests::Options::only(vec!["bench-hello".into(), "hello-wasi".into()]),
    )?;
    let startup = process::step("measuring the start", || {
        measure_start(release, &components, scratch)
    })?;

    let native = Server::start(Command::new(release.join("bench-native")))?;
    let plugins = scratch.join("plugins");
    fs::create_dir_all(&plugins)?;
    for name in ["bench-hello.wasm", "hello-wasi.wasm"] {
        fs::copy(components.join(name), plugins.join(name))?;
    }
    let coglex = Server::start(coglex(release, &scratch.join("data"), &plugins))?;
    let documents = "/service/storage/v1/bench/";
    let id = coglex.post(documents, KEY, DOCUMENT)?;
    let id = id.trim().trim_matches('"');

    let load = |path: &str| Load::new(path, options.connections);
    let mut cases = [
        Case::new("native axum: hello", &native, load("/bench/hello")),
        Case::new("gateway app, records: hello", &coglex, load("/bench/hello")),
        Case::new(
            "standard wasi:http component: hello",
            &coglex,
            load("/hello-wasi/").key(KEY),
        ),
        Case::new("`/healthz`", &coglex, load("/healthz")),
        Case::new(
            "storage: get by id",
            &coglex,
            load(&format!("{documents}{id}/")).key(KEY),
        ),
        Case::new(
            "storage: durable insert",
            &coglex,
            load(documents).key(KEY).body(DOCUMENT),
        ),
    ];
    measure(options, &mut cases)?;
    let figures: Vec<Figures> = cases
        .iter()
        .map(|case| Figures::of(case.name, &case.samples))
        .collect();
    let mut out = std::io::stdout();
    report::write(
        &mut out,
        options,
        &startup,
        &figures,
        coglex.resident_mib()?,
    )?;
    Ok(out.flush()?)
}

/// Runs every case in each of the rounds, in turns.
fn measure(options: &Options, cases: &mut [Case<'_>]) -> anyhow::Result<()> {
    for case in cases.iter() {
        // Unmeasured: pages, pools and branch predictors warm up.
        case.load.run(case.server, Duration::from_secs(1))?;
    }
    for round in 1..=options.rounds {
        process::step(&format!("round {round} of {}", options.rounds), || {
            for case in cases.iter_mut() {
                let sample = case
                    .load
                    .run(case.server, Duration::from_secs(options.seconds))?;
                eprintln!("    {:<50} {:>9.0} requests/s", case.name, sample.rate());
                case.samples.push(sample);
            }
            Ok(())
        })?;
    }
    Ok(())
}

impl<'a> Case<'a> {
    fn new(name: &'static str, server: &'a Server, load: Load) -> Self {
        Self {
            name,
            server,
            load,
            samples: Vec::new(),
        }
    }
}

/// Starts a server with many plugins on an empty data folder, and once more.
fn measure_start(release: &Path, components: &Path, scratch: &Path) -> anyhow::Result<Startup> {
    let plugins = scratch.join("start-plugins");
    fs::create_dir_all(&plugins)?;
    // The standard component declares no routes, so that it can be there often.
    for number in 0..PLUGINS_AT_START {
        fs::copy(
            components.join("hello-wasi.wasm"),
            plugins.join(format!("hello{number}.wasm")),
        )?;
    }
    let data = scratch.join("start-data");
    let command = || coglex(release, &data, &plugins);
    let cold = Server::start(command())?.started_in();
    let mut warm: Vec<Duration> = Vec::new();
    let mut idle_mib = 0.0;
    for _ in 0..5 {
        let server = Server::start(command())?;
        warm.push(server.started_in());
        idle_mib = server.resident_mib()?;
    }
    warm.sort();
    let warm = warm
        .get(warm.len() / 2)
        .copied()
        .context("no start was measured")?;
    let binary = fs::metadata(release.join("coglex"))?.len();
    Ok(Startup {
        plugins: PLUGINS_AT_START,
        cold,
        warm,
        idle_mib,
        binary,
    })
}

fn coglex(release: &Path, data: &Path, plugins: &Path) -> Command {
    let mut command = Command::new(release.join("coglex"));
    command
        .args(["serve", "--server-port", "0"])
        .current_dir(data.parent().unwrap_or(data))
        .env("COGLEX_DATA_DIR", data)
        .env("COGLEX_PLUGINS_DIR", plugins)
        .env("COGLEX_SERVER_SECRET", KEY);
    command
}

/// A folder that goes when the run ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = workspace::target().join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is under target/, where it disturbs nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
