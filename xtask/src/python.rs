//! The Python environment of the tests: `.venv` in the repository's root.
//!
//! Python is needed for test servers only; Coglex itself never uses it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::{process, workspace};

/// What the tests need, with versions.
const REQUIREMENTS: &str = include_str!("../test-requirements.txt");

/// Makes sure that the environment is there and complete; answers with its
/// folder of programs.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let venv = workspace::root().join(".venv");
    let programs = venv.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let python = programs.join("python");
    // Written last: an environment without it is incomplete or outdated.
    let stamp = venv.join("installed-requirements.txt");
    let usable = process::succeeds(Command::new(&python).arg("--version"));
    if usable && fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(programs);
    }
    process::step("installing test servers into .venv", || {
        if !usable {
            create(&venv)?;
        }
        process::run(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(workspace::root().join("xtask/test-requirements.txt"))
                .stdout(Stdio::inherit()),
        )
        .context(
            "pip could not install the packages of xtask/test-requirements.txt; \
             is the Python package index reachable? (a mirror can be set with PIP_INDEX_URL)",
        )?;
        Ok(fs::write(&stamp, REQUIREMENTS)?)
    })?;
    Ok(programs)
}

/// Makes sure that one package more is there, such as a peer to measure against;
/// answers with the folder of programs.
pub(crate) fn ensure_package(requirement: &str) -> anyhow::Result<PathBuf> {
    let programs = ensure()?;
    let pip = |arguments: &[&str]| {
        let mut command = Command::new(programs.join("python"));
        command.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        command.args(arguments);
        command
    };
    // pip answers without the network when the version is there.
    process::step(&format!("installing {requirement} into .venv"), || {
        process::run(pip(&["install", requirement]).stdout(Stdio::inherit()))
    })?;
    Ok(programs)
}

fn create(venv: &std::path::Path) -> anyhow::Result<()> {
    let python = if cfg!(windows) { "python" } else { "python3" };
    if !process::succeeds(Command::new(python).arg("--version")) {
        bail!(
            "the tests need Python 3, and {python} was not found; \
             on Debian or Ubuntu: apt-get install python3-venv"
        );
    }
    let made = process::run(
        Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    );
    made.context(
        "the Python environment of the tests could not be made; \
         on Debian or Ubuntu: apt-get install python3-venv",
    )
}
