//! Builds guests and collects their components in one folder, as
//! `<package>.wasm`, which is where the host's tests look for them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::process::{self, cargo};
use crate::wasip2::Toolchain;
use crate::workspace::{self, Guest};

/// The profile in the root's `Cargo.toml`.
pub(crate) const PROFILE: &str = "guest";

/// The fixture of the reload tests. It is built twice: as version 1, and as
/// version 2 into `fixture-versioned-2.wasm`.
const VERSIONED: &str = "fixture-versioned";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Packages to build; all guests when none is named
    names: Vec<String>,
}

impl Options {
    pub(crate) fn only(names: Vec<String>) -> Self {
        Self { names }
    }
}

/// Where guests are built: apart from the host, so that neither build waits for
/// the other's lock.
pub(crate) fn target() -> PathBuf {
    workspace::target().join("guests")
}

/// Builds the named guests; answers with the folder of their components.
pub(crate) fn build(toolchain: &Toolchain, options: &Options) -> anyhow::Result<PathBuf> {
    let all = workspace::guests()?;
    let chosen: Vec<Guest> = if options.names.is_empty() {
        all
    } else {
        let find = |name: &String| {
            let found = all.iter().find(|guest| guest.name == *name).cloned();
            let names = || {
                all.iter()
                    .map(|guest| guest.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            found.with_context(|| format!("there is no guest {name}; there are {}", names()))
        };
        options.names.iter().map(find).collect::<Result<_, _>>()?
    };
    let folder = target().join("components");
    fs::create_dir_all(&folder)?;
    process::step(
        &format!("building {} guests for wasm32-wasip2", chosen.len()),
        || {
            compile(toolchain, &chosen, None)?;
            for guest in &chosen {
                install(
                    &component(guest)?,
                    &folder.join(format!("{}.wasm", guest.name)),
                )?;
            }
            if let Some(guest) = chosen.iter().find(|guest| guest.name == VERSIONED) {
                let second = ("FIXTURE_VERSION", "2");
                compile(toolchain, std::slice::from_ref(guest), Some(second))?;
                install(
                    &component(guest)?,
                    &folder.join(format!("{VERSIONED}-2.wasm")),
                )?;
            }
            Ok(())
        },
    )?;
    Ok(folder)
}

fn compile(
    toolchain: &Toolchain,
    guests: &[Guest],
    env: Option<(&str, &str)>,
) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args([
        "build",
        "--target",
        "wasm32-wasip2",
        "--profile",
        PROFILE,
        "--target-dir",
    ]);
    command.arg(target()).envs(toolchain.env()).envs(env);
    for guest in guests {
        command.args(["-p", &guest.name]);
    }
    process::run(&mut command)
}

/// The file that cargo wrote: a library's carries underscores, a program's the
/// name as it is.
fn component(guest: &Guest) -> anyhow::Result<PathBuf> {
    let folder = target().join("wasm32-wasip2").join(PROFILE);
    let names = [guest.name.replace('-', "_"), guest.name.clone()];
    let found = names
        .iter()
        .map(|name| folder.join(format!("{name}.wasm")))
        .find(|file| file.is_file());
    let Some(file) = found else {
        bail!(
            "{} builds no component; its crate-type has to be cdylib or bin",
            guest.name
        );
    };
    Ok(file)
}

/// Copies when the bytes differ, so that nothing that watches the file wakes up
/// for nothing, and by renaming, so that nobody reads half a component.
fn install(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let aside = to.with_extension("wasm.new");
    fs::write(&aside, bytes)?;
    fs::rename(aside, to)
}
