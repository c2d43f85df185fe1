//! Finds a compiler that can build for `wasm32-wasip2`, and gets one if need be.
//!
//! In this order: the active toolchain, `rustup target add`, a rustup toolchain
//! named `wasip2` that somebody linked, and last a compiler built from Debian's
//! packages (`wasip2-from-debian.sh`). There is no `rust-toolchain.toml` on
//! purpose: rustup would then try to download on every cargo command, which a
//! machine without its servers could never finish.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::{process, workspace};

const TARGET: &str = "wasm32-wasip2";

/// The download is some 20 MB; a server that cannot be reached should not hold a
/// newcomer for long.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(180);

/// What remains when every way has failed.
const ADVICE: &str = "wasm32-wasip2 cannot be built here. Run `rustup target add wasm32-wasip2` \
    where rustup's server can be reached, or link a toolchain that has the target with \
    `rustup toolchain link wasip2 FOLDER`";

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Use the compiler from Debian's packages even where rustup could do it
    #[arg(long)]
    force_debian: bool,
}

/// What guests are built with.
pub(crate) enum Toolchain {
    /// The active toolchain.
    Active,
    /// Another toolchain of rustup.
    Linked(&'static str),
    /// A compiler by path, with the active toolchain's cargo.
    Rustc(PathBuf),
}

impl Toolchain {
    /// What to set in the environment of a cargo that builds guests.
    pub(crate) fn env(&self) -> Option<(&'static str, OsString)> {
        match self {
            Self::Active => None,
            Self::Linked(name) => Some(("RUSTUP_TOOLCHAIN", name.into())),
            Self::Rustc(path) => Some(("RUSTC", path.into())),
        }
    }
}

/// The command line that builds a guest.
impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => {}
            Self::Linked(name) => write!(f, "RUSTUP_TOOLCHAIN={name} ")?,
            Self::Rustc(path) => write!(f, "RUSTC={} ", path.display())?,
        }
        write!(f, "cargo build --target {TARGET}")
    }
}

/// Finds or gets a toolchain in the usual order.
pub(crate) fn ensure() -> anyhow::Result<Toolchain> {
    find(&Options::default())
}

/// Finds or gets a toolchain.
pub(crate) fn find(options: &Options) -> anyhow::Result<Toolchain> {
    let sysroot = PathBuf::from(process::output(
        Command::new("rustc").args(["--print", "sysroot"]),
    )?);
    if !options.force_debian {
        if sysroot
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib")
            .is_dir()
        {
            return Ok(Toolchain::Active);
        }
        let added = process::step(&format!("adding the {TARGET} target with rustup"), || {
            let mut rustup = Command::new("rustup");
            process::run_within(rustup.args(["target", "add", TARGET]), DOWNLOAD_LIMIT)
        });
        match added {
            Ok(()) => return Ok(Toolchain::Active),
            Err(error) => eprintln!("    {error:#}"),
        }
        let mut linked = Command::new("rustup");
        if works(linked.args(["run", "wasip2", "rustc"])) {
            return Ok(Toolchain::Linked("wasip2"));
        }
    }
    from_debian(&sysroot)
}

fn from_debian(sysroot: &Path) -> anyhow::Result<Toolchain> {
    let folder = data_home()?.join("coglex/wasip2");
    let rustc = folder.join("bin/rustc");
    if works(&mut Command::new(&rustc)) {
        return Ok(Toolchain::Rustc(rustc));
    }
    if !process::succeeds(Command::new("apt-get").arg("--version")) {
        bail!("there are no Debian packages here that could stand in. {ADVICE}");
    }
    process::step(
        "building a compiler for wasm32-wasip2 from Debian's packages (once, a minute or two)",
        || {
            let script = workspace::target().join("wasip2-from-debian.sh");
            fs::create_dir_all(workspace::target())?;
            fs::write(&script, include_str!("../wasip2-from-debian.sh"))?;
            let host = process::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
            let linkers = sysroot.join("lib/rustlib").join(host).join("bin");
            process::run(Command::new("bash").arg(&script).arg(&folder).arg(&linkers))?;
            if !works(&mut Command::new(&rustc)) {
                bail!("the compiler was built, but it does not build a component");
            }
            Ok(())
        },
    )
    .context(ADVICE)?;
    Ok(Toolchain::Rustc(rustc))
}

/// Whether this compiler builds and links a component.
fn works(rustc: &mut Command) -> bool {
    let folder = workspace::target().join("wasip2-check");
    let source = folder.join("main.rs");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&source, "fn main() {}"));
    let built = process::succeeds(
        rustc
            .args(["--target", TARGET])
            .arg(&source)
            .arg("-o")
            .arg(folder.join("main.wasm")),
    );
    written.is_ok() && built
}

/// Where a user's programs keep data. Outside of the clone, so that `cargo clean`
/// does not throw away a compiler.
fn data_home() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".local/share"))
}
