//! `cargo xtask test`: every test, with what they need.
//!
//! The host's tests learn where things are from the environment, so that an
//! editor or a debugger can run one of them alone as well:
//!
//! - `COGLEX_TEST_MONGODB_URI`: a MongoDB-compatible server for tests only;
//! - `COGLEX_TEST_GUESTS`: a folder with `<package>.wasm` of every guest.

use std::process::Command;

use crate::mongodb::MongoDb;
use crate::process::{self, cargo};
use crate::{guests, python, wasip2};

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// For the test runner, e.g. `-- -p coglex-docstore` or `-- a_test_s_name`;
    /// leaves the documentation's examples out
    #[arg(last = true)]
    runner: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let programs = python::ensure()?;
    let components = guests::build(&wasip2::ensure()?, &guests::Options::default())?;
    let mongodb = MongoDb::start(&programs)?;
    let with_env = |command: &mut Command| {
        command.env("COGLEX_TEST_GUESTS", &components);
        command.env("COGLEX_TEST_MONGODB_URI", mongodb.uri());
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
    })
}
