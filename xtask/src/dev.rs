//! `cargo xtask dev`: from a clone to a running server.
//!
//! It builds; `coglex dev` does the rest: it puts the components into the plugin
//! folder, serves, watches the sources and builds them again when they change.

use std::process::Command;

use crate::process::{self, cargo};
use crate::{guests, wasip2, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build the server optimised: slower to build, several times faster to serve
    ///
    /// The default is a debug build: it is ready much sooner, and the parts that
    /// would be too slow to use (the WebAssembly compiler, SQLite, password
    /// hashing) are optimised in it, too. Guests are optimised in both.
    #[arg(long)]
    release: bool,
    /// What follows goes to `coglex dev`, e.g. `-- --server-port 8080`
    #[arg(last = true)]
    coglex: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let toolchain = wasip2::ensure()?;
    let profile = if options.release { "release" } else { "dev" };
    process::step(
        "building the server (the first time takes some minutes)",
        || {
            process::run(cargo().args([
                "build",
                "-p",
                "coglex",
                "--bin",
                "coglex",
                "--profile",
                profile,
            ]))
        },
    )?;

    let shipped: Vec<_> = workspace::guests()?
        .into_iter()
        .filter(workspace::Guest::is_shipped)
        .collect();
    let names = shipped.iter().map(|plugin| plugin.name.clone()).collect();
    guests::build(&toolchain, &guests::Options::only(names))?;

    let folder = if options.release { "release" } else { "debug" };
    let mut coglex = Command::new(workspace::target().join(folder).join("coglex"));
    coglex.args(["dev", "--profile", guests::PROFILE]);
    for plugin in shipped {
        coglex
            .arg("--source")
            .arg(workspace::root().join(plugin.dir));
    }
    coglex.args(&options.coglex);
    process::forget_own_package(&mut coglex);
    // The builds that it starts find our components up to date, and the compiler.
    coglex
        .env("CARGO_TARGET_DIR", guests::target())
        .envs(toolchain.env());
    become_process(coglex)
}

/// Replaces this process, so that Ctrl-C, a terminal that closes and `kill` reach
/// the server itself.
#[cfg(unix)]
fn become_process(mut command: Command) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(anyhow::Error::new(command.exec()).context("the server could not be started"))
}

#[cfg(not(unix))]
fn become_process(mut command: Command) -> anyhow::Result<()> {
    process::run(&mut command)
}
