//! `cargo xtask soak`: a server with hundreds of plugins, one of which is replaced
//! each second while requests come in; not one may fail, and memory must stay
//! where it is. `--fairness` looks at what a neighbour feels while a plugin
//! misbehaves instead.
//!
//! It ends by itself, prints a table in Markdown, and fails where the server has.

mod fairness;
mod neighbour;
mod reloads;

use std::process::Command;

use anyhow::bail;

use crate::bench::{Scratch, fleet};
use crate::process::{self, cargo};
use crate::{guests, wasip2, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long, unless `--reloads` or `--requests` say when it ends
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Plugins that are loaded
    #[arg(long, default_value_t = 200, value_parser = plugins)]
    plugins: usize,
    /// Reload as soon as the last one is seen, and end after so many (and as many
    /// requests as are asked for)
    #[arg(long)]
    reloads: Option<u64>,
    /// End after so many requests (and as many reloads as are asked for)
    #[arg(long)]
    requests: Option<u64>,
    /// Connections that the load generator keeps busy
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// How much resident memory may grow after the first fifth of the run
    #[arg(long, default_value_t = 64)]
    growth_mib: u32,
    /// Measure what another app feels while a plugin misbehaves, instead
    #[arg(long)]
    fairness: bool,
    /// How long each misdeed goes on, with `--fairness`
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Clients that keep a misdeed going, with `--fairness`
    #[arg(long, default_value_t = 4)]
    attackers: usize,
    /// Use the server as `cargo build` makes it: for trying this command out
    #[arg(long)]
    debug: bool,
    /// Use the server that has been built before, whatever has changed since
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let profile = if options.debug { "debug" } else { "release" };
    if !options.no_build {
        process::step(&format!("building the server ({profile})"), || {
            let mut build = cargo();
            build.args(["build", "-p", "coglex"]);
            if !options.debug {
                build.arg("--release");
            }
            process::run(&mut build)
        })?;
    }
    let wanted: Vec<String> = if options.fairness {
        fairness::GUESTS.map(str::to_owned).into()
    } else {
        if !process::succeeds(Command::new("sh").args(["-c", "command -v wrk"])) {
            bail!("the load generator wrk was not found; on Debian or Ubuntu: apt-get install wrk");
        }
        fleet::GUESTS.map(str::to_owned).into()
    };
    let components = guests::build(&wasip2::ensure()?, &guests::Options::only(wanted))?;
    let programs = workspace::target().join(profile);
    let scratch = Scratch::new("soak")?;
    if options.fairness {
        fairness::run(options, &programs, &components, scratch.path())
    } else {
        reloads::run(options, &programs, &components, scratch.path())
    }
}

/// As many as have a number of four digits.
fn plugins(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=9_999) => Ok(number),
        _ => Err("from 1 to 9999".to_owned()),
    }
}
