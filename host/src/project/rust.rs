//! Rust: a crate that cargo builds for `wasm32-wasip2`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::process::Command;

use super::run::{BuildError, Show, in_colour, run};
use super::{Project, sdk};

const TARGET: &str = "wasm32-wasip2";

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

/// The parts of cargo's messages that say where the component is.
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html>)
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    /// What can be run: of tests, the program with them.
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    src_path: PathBuf,
}

/// The name of the package in a folder.
pub(super) fn name(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let manifest: Manifest =
        toml::from_str(&text).with_context(|| format!("{} is no package", path.display()))?;
    Ok(manifest.package.name)
}

/// Builds the components with tests: one of the library, one for each file in
/// `tests`. They are named after the file that they begin in.
pub(super) async fn build_tests(project: &Project) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    sdk::refresh_rust(&project.dir).context("cannot write the SDK into the project")?;
    check_target(&project.dir).await?;
    let mut cargo = cargo(&project.dir);
    cargo.args(["test", "--no-run", "--tests", "--target", TARGET]);
    tell_in_json(&mut cargo);
    let messages = run("cargo", &mut cargo, Show::Live).await?;
    let mut suites = Vec::new();
    for (source, program) in find_tests(&messages, &project.dir.join("Cargo.toml")) {
        let wasm = tokio::fs::read(&program)
            .await
            .with_context(|| format!("{} cannot be read", program.display()))?;
        let inside = source.strip_prefix(&project.dir).unwrap_or(&source);
        suites.push((inside.display().to_string(), wasm));
    }
    Ok(suites)
}

/// The programs with tests, and the source files that they begin in.
fn find_tests(messages: &str, manifest: &Path) -> Vec<(PathBuf, PathBuf)> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok())
        .filter(|message| {
            message.reason == "compiler-artifact" && message.manifest_path == manifest
        });
    artifacts
        .filter_map(|message| Some((message.target?.src_path, message.executable?)))
        .collect()
}

/// Builds the component with a profile of cargo's.
pub(super) async fn build(project: &Project, profile: &str) -> Result<Vec<u8>, BuildError> {
    sdk::refresh_rust(&project.dir).context("cannot write the SDK into the project")?;
    check_target(&project.dir).await?;
    let mut cargo = cargo(&project.dir);
    cargo.args(["build", "--target", TARGET, "--profile", profile]);
    tell_in_json(&mut cargo);
    let messages = run("cargo", &mut cargo, Show::Live).await?;
    let component = find(&messages, &project.dir.join("Cargo.toml")).with_context(|| {
        format!(
            "{} builds no component; its crate-type has to be cdylib or bin",
            project.name
        )
    })?;
    let bytes = tokio::fs::read(&component)
        .await
        .with_context(|| format!("{} cannot be read", component.display()))?;
    Ok(bytes)
}

/// Has cargo say for programs what it has built, and for people what is wrong.
fn tell_in_json(cargo: &mut Command) {
    cargo.arg("--message-format=json-render-diagnostics");
    if in_colour() {
        cargo.args(["--color", "always"]);
    } else {
        // Nobody watches, so nobody wants to read which crates are compiled.
        cargo.arg("--quiet");
    }
}

fn find(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let is_wasm = |file: &PathBuf| file.extension().is_some_and(|ext| ext == "wasm");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<CargoMessage>(line).ok())
        .filter(|message| {
            message.reason == "compiler-artifact" && message.manifest_path == manifest
        })
        .filter_map(|message| message.filenames.into_iter().find(is_wasm))
        .next_back()
}

/// Without this, cargo's answer is that it cannot find the crate `core`.
async fn check_target(dir: &Path) -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET]);
    let Ok(printed) = run("rustc", &mut command, Show::OnFailure).await else {
        bail!("Rust was not found; it comes from https://rustup.rs");
    };
    if !Path::new(printed.trim()).is_dir() {
        bail!(
            "this Rust cannot build WebAssembly components yet; type: rustup target add {TARGET}"
        );
    }
    Ok(())
}

fn cargo(dir: &Path) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(dir)
        // The flags of the cargo that started us are not for this build.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let messages = r#"
not json
{"reason":"compiler-artifact","manifest_path":"/dep/Cargo.toml","filenames":["/t/dep.wasm"]}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/p.rlib","/t/p.wasm"]}
{"reason":"build-finished","success":true}
"#;
        let found = find(messages, Path::new("/p/Cargo.toml"));
        assert_eq!(found, Some(PathBuf::from("/t/p.wasm")));
        assert_eq!(find(messages, Path::new("/q/Cargo.toml")), None);
    }

    #[test]
    fn programs_with_tests_are_found_among_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/dep/Cargo.toml","target":{"src_path":"/dep/src/lib.rs"},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"src_path":"/p/src/lib.rs"},"filenames":["/t/p.wasm"],"executable":null}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"src_path":"/p/src/lib.rs"},"executable":"/t/p-1.wasm"}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"src_path":"/p/tests/a.rs"},"executable":"/t/a-2.wasm"}
"#;
        let found = find_tests(messages, Path::new("/p/Cargo.toml"));
        let expected = [
            ("/p/src/lib.rs", "/t/p-1.wasm"),
            ("/p/tests/a.rs", "/t/a-2.wasm"),
        ];
        let expected = expected.map(|(from, to)| (PathBuf::from(from), PathBuf::from(to)));
        assert_eq!(found, expected);
    }
}
