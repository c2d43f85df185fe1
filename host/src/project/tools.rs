//! The tools that make components of JavaScript and Python. They are installed
//! when they are first needed, in the versions that this binary was tested with,
//! into a folder of their own: nothing of a project or of the system is touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::run::{Show, run, tell};

/// The npm package `componentize-qjs`.
const COMPONENTIZE_QJS: &str = "0.4.5";
/// The PyPI package `componentize-py`.
const COMPONENTIZE_PY: &str = "0.25.1";

/// What a JavaScript component was built with, for digests.
pub(super) fn javascript_version() -> String {
    format!("componentize-qjs {COMPONENTIZE_QJS}")
}

/// The same for Python.
pub(super) fn python_version() -> String {
    format!("componentize-py {COMPONENTIZE_PY}")
}

/// `componentize-qjs`, ready to be given its arguments.
pub(super) async fn componentize_qjs() -> anyhow::Result<Command> {
    let folder = folder()?.join(format!("componentize-qjs-{COMPONENTIZE_QJS}"));
    require("node", "--version", "nodejs npm").await?;
    ensure(&folder, &javascript_version(), async |folder| {
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let package = format!("componentize-qjs@{COMPONENTIZE_QJS}");
        let mut npm = Command::new(npm());
        npm.current_dir(folder)
            .args(["install", "--save-exact", "--no-audit", "--no-fund"])
            .args(["--ignore-scripts", "--loglevel=error"])
            .arg(package);
        run("npm", &mut npm, Show::OnFailure).await?;
        Ok(())
    })
    .await?;
    let mut node = Command::new("node");
    node.arg(folder.join("node_modules/componentize-qjs/bin/componentize-qjs"));
    Ok(node)
}

/// `componentize-py`, ready to be given its arguments, and the environment that
/// it lives in.
pub(super) async fn componentize_py() -> anyhow::Result<(Command, PathBuf)> {
    let folder = folder()?.join(format!("componentize-py-{COMPONENTIZE_PY}"));
    let programs = if cfg!(windows) { "Scripts" } else { "bin" };
    let venv = folder.join("venv");
    let program = venv.join(programs).join("componentize-py");
    ensure(&folder, &python_version(), async |folder| {
        let python = if cfg!(windows) { "python" } else { "python3" };
        require(python, "--version", "python3 python3-venv").await?;
        let mut make = Command::new(python);
        make.args(["-m", "venv", "--clear"]).arg(folder.join("venv"));
        run("python3", &mut make, Show::OnFailure).await.context(
            "a Python environment could not be made; on Debian or Ubuntu: apt-get install python3-venv",
        )?;
        let mut pip = Command::new(folder.join("venv").join(programs).join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("componentize-py=={COMPONENTIZE_PY}"));
        run("pip", &mut pip, Show::OnFailure).await?;
        Ok(())
    })
    .await?;
    Ok((Command::new(program), venv))
}

/// npm is a script, which Windows starts by its whole name only.
pub(super) fn npm() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

/// Keeps others from building here at the same time, until it is dropped.
pub(super) async fn lock(folder: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join("lock");
    let lock = tokio::task::spawn_blocking(move || {
        let file = File::create(&path)?;
        file.lock()?;
        std::io::Result::Ok(file)
    });
    lock.await?
        .with_context(|| format!("cannot lock the folder {}", folder.display()))
}

/// Where tools are kept: `COGLEX_TOOLS_DIR`, or the user's cache.
fn folder() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable("COGLEX_TOOLS_DIR") {
        return Ok(dir.into());
    }
    let cache = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let Some(cache) = cache else {
        bail!("there is no place for build tools; set COGLEX_TOOLS_DIR to a folder");
    };
    Ok(cache.join("coglex/tools"))
}

/// Installs a tool unless it is there, whole.
async fn ensure(
    folder: &Path,
    name: &str,
    install: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Written last: a folder without it is incomplete.
    let stamp = folder.join("complete");
    if stamp.is_file() {
        return Ok(());
    }
    let _lock = lock(folder).await?;
    if stamp.is_file() {
        return Ok(());
    }
    tell(&format!(
        "installing {name} into {} (once)\n",
        folder.display()
    ));
    install(folder)
        .await
        .with_context(|| format!("{name} could not be installed"))?;
    fs::write(&stamp, name).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Says what to type when a program is missing.
async fn require(program: &str, version: &str, packages: &str) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg(version);
    match run(program, &mut command, Show::OnFailure).await {
        Ok(_) => Ok(()),
        Err(_) => bail!(
            "{program} was not found, and this plugin is built with it; \
             on Debian or Ubuntu: apt-get install {packages}"
        ),
    }
}
