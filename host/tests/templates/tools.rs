//! Runs `coglex` as a developer does: with the environment of this machine, and
//! with build tools that are kept from one run of the tests to the next.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::guests::build_env;

/// How long a debug build of the server may take to load a component with a whole
/// interpreter in it, on a busy machine.
pub const LOADING: Duration = Duration::from_secs(300);

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// `coglex` with whatever cargo, npm and pip need of the environment.
pub fn coglex() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coglex"));
    for (name, _) in std::env::vars_os() {
        let foreign = name.to_str().is_some_and(|name| {
            name.starts_with("COGLEX_") || name.starts_with("CARGO_PKG_") || name == "RUSTFLAGS"
        });
        if foreign {
            command.env_remove(name);
        }
    }
    build_env(&mut command);
    command.stdin(Stdio::null());
    command
}

/// Runs to a good end; answers with what it printed.
#[track_caller]
pub fn good(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", words(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs to a bad end; answers with everything it said.
#[track_caller]
pub fn bad(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}\n{}", words(&output));
    words(&output)
}

fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// Builds the plugin in a folder; answers with its component.
#[track_caller]
pub fn build(dir: &Path) -> Vec<u8> {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("built.wasm");
    good(coglex().arg("build").arg(dir).arg("--out").arg(&file));
    std::fs::read(file).unwrap()
}

/// Whether the tests were told to do without a tool.
pub fn without(tool: &str) -> bool {
    let told = std::env::var("COGLEX_TEST_WITHOUT").unwrap_or_default();
    let without = told.split(',').any(|name| name == tool);
    if without {
        eprintln!("left out: COGLEX_TEST_WITHOUT names {tool}");
    }
    without
}
