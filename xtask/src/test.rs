//! `cargo xtask test`: every test, with what they need.
//!
//! The host's tests learn where things are from the environment, so that an
//! editor or a debugger can run one of them alone as well:
//!
//! - `COGLEX_TEST_MONGODB_URI`: a MongoDB-compatible server for tests only;
//! - `COGLEX_TEST_S3_ENDPOINT`, `…_S3_ACCESS_KEY` and `…_S3_SECRET_KEY`: an
//!   S3-compatible server with a bucket named `files`;
//! - `COGLEX_TEST_PYTHON`: the Python that can start such a server, for a test that
//!   kills one;
//! - `COGLEX_TEST_PACKAGES`: a folder with test servers that Node.js runs;
//! - `COGLEX_TEST_GUESTS`: a folder with `<package>.wasm` of every guest;
//! - `COGLEX_TEST_WASIP2_RUSTC` and `…_RUSTUP_TOOLCHAIN`: what to build guests with,
//!   where it is not the active toolchain;
//! - `COGLEX_TEST_WITHOUT`: tools that this machine lacks, and whose tests pass
//!   without testing anything.
//!
//! Tests that build guests in JavaScript and Python get the tools for it from npm
//! and PyPI themselves, into `target/tmp/tools`.

use std::process::Command;

use crate::mongodb::MongoDb;
use crate::process::{self, cargo};
use crate::seaweedfs::{self, SeaweedFs};
use crate::{chromium, guests, node, python, wasip2};

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// For the test runner, e.g. `-- -p coglex-docstore` or `-- a_test_s_name`;
    /// leaves the documentation's examples out
    #[arg(last = true)]
    runner: Vec<String>,
}

/// What to do about tests whose tools this machine lacks and nobody can fetch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Leave them out, aloud.
    IsLeftOut,
    /// Fail: what was not tested does not count as tested.
    IsAnError,
}

pub(crate) fn run(options: &Options, lacking: Lacking) -> anyhow::Result<()> {
    let has_node = node::find(lacking == Lacking::IsAnError)?;
    let has_chromium = chromium::find(lacking == Lacking::IsAnError)?;
    let packages = has_node.then(node::packages).transpose()?;
    let programs = python::ensure()?;
    let toolchain = wasip2::ensure()?;
    let components = guests::build(&toolchain, &guests::Options::default())?;
    let mongodb = MongoDb::start(&programs)?;
    let seaweedfs = SeaweedFs::start(&programs)?;
    let with_env = |command: &mut Command| {
        command.env("COGLEX_TEST_GUESTS", &components);
        command.env("COGLEX_TEST_MONGODB_URI", mongodb.uri());
        command.env("COGLEX_TEST_S3_ENDPOINT", seaweedfs.endpoint());
        command.env("COGLEX_TEST_S3_ACCESS_KEY", seaweedfs::ACCESS_KEY);
        command.env("COGLEX_TEST_S3_SECRET_KEY", seaweedfs::SECRET_KEY);
        command.env("COGLEX_TEST_PYTHON", programs.join("python"));
        if let Some(packages) = &packages {
            command.env("COGLEX_TEST_PACKAGES", packages);
        }
        if let Some((name, value)) = toolchain.env() {
            command.env(format!("COGLEX_TEST_WASIP2_{name}"), value);
        }
        let lacking = [(has_node, node::NAME), (has_chromium, chromium::NAME)];
        let lacking = lacking.into_iter().filter(|(has, _)| !has);
        let lacking: Vec<&str> = lacking.map(|(_, name)| name).collect();
        if !lacking.is_empty() {
            command.env("COGLEX_TEST_WITHOUT", lacking.join(","));
        }
    };

    let nextest = process::succeeds(cargo().args(["nextest", "--version"]));
    if options.runner.is_empty() {
        process::step("testing the documentation's examples", || {
            let mut command = cargo();
            command.args(["test", "--doc", "--quiet", "--workspace"]);
            with_env(&mut command);
            process::run(&mut command)
        })?;
    }
    process::step("testing", || {
        let mut command = cargo();
        if nextest {
            command.args(["nextest", "run"]);
            if std::env::var_os("CI").is_some() {
                command.args(["--profile", "ci"]);
            }
        } else {
            command.args(["test", "--lib", "--bins", "--tests"]);
        }
        if !options
            .runner
            .iter()
            .any(|arg| arg == "-p" || arg.starts_with("--package"))
        {
            command.arg("--workspace");
        }
        command.args(&options.runner);
        with_env(&mut command);
        process::run(&mut command)
    })?;
    // Again at the end, where it is read.
    if !has_node {
        node::find(false)?;
    }
    if !has_chromium {
        chromium::find(false)?;
    }
    Ok(())
}
