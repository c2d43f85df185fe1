//! `cargo xtask bench`: what the server costs, beside plain axum, PocketBase,
//! `wasmtime serve` and the bare driver of MongoDB, in one run.
//!
//! A number alone says little about software that was measured on somebody's
//! machine on some day, so every case runs in each of several rounds, one after
//! the other (A B C A B C …), medians are reported, and what counts are ratios
//! to the yardstick of the same run. CPU per request is read from the operating
//! system; it is steadier than requests per second where cores are shared, also
//! with the load generator.

mod accounts;
mod files;
pub(crate) mod fleet;
mod gateway;
pub(crate) mod http;
mod pocketbase;
mod reload;
mod report;
pub(crate) mod server;
mod storage;
pub(crate) mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use crate::process::{self, cargo};
use crate::workspace;
use server::Server;
use wrk::{Load, Sample};

/// Only this machine can reach the measured servers.
pub(crate) const KEY: &str = "the-key-of-a-benchmark";

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Gateway apps and functions beside plain axum, `wasmtime serve` and
    /// PocketBase's hooks; the start, reloads, memory
    Gateway,
    /// Documents beside PocketBase, a bare log and the bare driver
    Storage,
    /// Sign-ins beside PocketBase's, and what readers feel of a storm of them
    Accounts,
    /// Downloads beside nginx and PocketBase, uploads beside PocketBase
    Files,
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
    /// Measure what has been built before, whatever has changed since
    #[arg(long)]
    no_build: bool,
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
    if !options.no_build {
        process::step(
            "building optimised servers (the first time takes many minutes)",
            || {
                let both = ["build", "--release", "-p", "coglex", "-p", "bench-native"];
                process::run(cargo().args(both))
            },
        )?;
    }
    let release = workspace::target().join("release");
    let scratch = Scratch::new("bench")?;
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Part::Gateway) {
        gateway::run(options, &release, scratch.path())?;
    }
    if wanted(Part::Storage) {
        storage::run(options, &release, scratch.path())?;
    }
    if wanted(Part::Accounts) {
        accounts::run(options, &release, scratch.path())?;
    }
    if wanted(Part::Files) {
        files::run(options, &release, scratch.path())?;
    }
    Ok(())
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

/// The server, with its configuration beside its data.
pub(crate) fn coglex(release: &Path, data: &Path, plugins: &Path) -> Command {
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
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let path = workspace::target().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is under target/, where it disturbs nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
