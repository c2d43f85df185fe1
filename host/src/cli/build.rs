//! `coglex build`: from the source of a plugin to its component.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Arg, ArgMatches, Command};

use crate::project::{BuildError, Project};

pub(super) fn command() -> Command {
    Command::new("build")
        .about("Builds a plugin's component from its source")
        .long_about(
            "Builds a plugin's component from its source: a folder with a Cargo.toml (Rust), a \
             package.json (JavaScript) or a pyproject.toml (Python). Its coglex.toml goes into \
             the component, which is then all that a server needs.\n\n\
             Rust is built by cargo and needs the target wasm32-wasip2 (rustup target add \
             wasm32-wasip2). JavaScript needs Node.js with npm, Python needs python3 with venv; \
             the tools that make components of them are installed at the first build, into \
             ~/.cache/coglex/tools or the folder that COGLEX_TOOLS_DIR names.",
        )
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .default_value(".")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The plugin's folder"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .short('o')
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Where the component goes: a file that ends with .wasm, or a folder [default: dist in the plugin's folder]"),
        )
        .arg(
            Arg::new("profile")
                .long("profile")
                .value_name("NAME")
                .default_value("release")
                .help("The cargo profile, for Rust"),
        )
}

pub(super) fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let start = Instant::now();
    let dir = given.get_one::<PathBuf>("dir").context("no folder")?;
    let profile = given.get_one::<String>("profile").context("no profile")?;
    let project = Project::open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the build")?;
    let component = match runtime.block_on(project.build(profile)) {
        Ok(component) => component,
        // What is wrong with it stands above.
        Err(BuildError::Source { .. }) => bail!("{} does not build", project.name()),
        Err(BuildError::Other(error)) => return Err(error),
    };
    let target = target(
        &project,
        given.get_one::<PathBuf>("out").map(PathBuf::as_path),
    );
    install(&component, &target)?;
    writeln!(
        std::io::stdout(),
        "{} ({:.1} MB, {:.1} s)",
        target.display(),
        component.len() as f64 / 1e6,
        start.elapsed().as_secs_f64()
    )
    .context("cannot print the component's path")
}

fn target(project: &Project, out: Option<&Path>) -> PathBuf {
    let file = format!("{}.wasm", project.name());
    match out {
        Some(path) if path.extension().is_some_and(|ext| ext == "wasm") => path.to_owned(),
        Some(folder) => folder.join(file),
        None => project.dir().join("dist").join(file),
    }
}

/// Writes aside and renames: a server may be watching the folder.
fn install(component: &[u8], target: &Path) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let aside = target.with_extension("wasm.new");
        std::fs::write(&aside, component)?;
        std::fs::rename(&aside, target)
    };
    written().with_context(|| format!("cannot write {}", target.display()))
}
