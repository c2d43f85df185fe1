//! `cargo xtask ci`: what has to hold before a change lands.
//!
//! Ordered so that what fails fast fails first. Lints and docs share one build of
//! the dependencies, tests have another.

use crate::process::{self, cargo};
use crate::test;

pub(crate) fn run() -> anyhow::Result<()> {
    process::step("checking the format", || {
        process::run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    process::step("linting", || {
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        process::run(cargo().args(clippy))
    })?;
    process::step("building the documentation", || {
        let doc = ["doc", "--workspace", "--no-deps"];
        process::run(cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    test::run(&test::Options::default(), test::Lacking::IsAnError)
}
