//! Components for tests, and servers with some of them in their plugin folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{ADMIN_KEY, API_KEY, PATIENCE, TestServer};

/// The bytes of a guest of this workspace, by its package's name.
pub fn component(package: &str) -> Vec<u8> {
    let folder = std::env::var_os("COGLEX_TEST_GUESTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/components"),
        PathBuf::from,
    );
    let path = folder.join(format!("{package}.wasm"));
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask guests` builds it",
            path.display()
        )
    })
}

/// A server with plugins, and what the operator does to it.
pub struct Host {
    pub server: TestServer,
    plugins: PathBuf,
    log: PathBuf,
}

impl Host {
    /// A server with these guests in its plugin folder, each under the name of
    /// its package, and this `coglex.toml`.
    pub fn with(packages: &[&str], config: &str) -> Self {
        Self::flags(packages, config, &[])
    }

    /// The same with more flags.
    pub fn flags(packages: &[&str], config: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("coglex-data/plugins");
        fs::create_dir_all(&plugins).unwrap();
        for package in packages {
            fs::write(plugins.join(format!("{package}.wasm")), component(package)).unwrap();
        }
        fs::write(dir.path().join("coglex.toml"), config).unwrap();
        Self::start(dir, flags)
    }

    /// A server in a folder that another has left.
    pub fn start(dir: TempDir, flags: &[&str]) -> Self {
        let log = dir.path().join("log");
        let plugins = dir.path().join("coglex-data/plugins");
        let server = TestServer::start_in(dir, flags, |command| {
            command
                .env("SERVER_SECRET", API_KEY)
                .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
                .stderr(fs::File::create(&log).unwrap());
        });
        Self {
            server,
            plugins,
            log,
        }
    }

    /// `coglex dev` with the source of one plugin.
    pub fn dev(source: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let plugins = dir.path().join("coglex-data/plugins");
        let server = TestServer::dev_in(dir, source, |command| {
            command
                .env("SERVER_SECRET", API_KEY)
                .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
                .stderr(fs::File::create(&log).unwrap());
            build_env(command);
        });
        Self {
            server,
            plugins,
            log,
        }
    }

    /// Puts a component in, as a careful operator does: aside, then renamed.
    pub fn deploy(&self, name: &str, bytes: &[u8]) {
        let aside = self.plugins.join(format!(".{name}.new"));
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, self.plugins.join(format!("{name}.wasm"))).unwrap();
    }

    /// Takes a component away.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.plugins.join(format!("{name}.wasm"))).unwrap();
    }

    /// The plugin folder.
    pub fn plugins(&self) -> &Path {
        &self.plugins
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log that has all of these texts in it.
    #[track_caller]
    pub fn logged(&self, parts: &[&str]) -> String {
        self.logged_within(parts, PATIENCE)
    }

    /// The same, for what takes longer.
    #[track_caller]
    pub fn logged_within(&self, parts: &[&str], patience: Duration) -> String {
        let found = || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned)
        };
        eventually_within(
            patience,
            &format!("a line of the log with {parts:?}"),
            found,
        )
        .unwrap_or_else(|what| panic!("{what}; the log:\n{}", self.log()))
    }

    /// Waits until `GET path` answers with this text.
    #[track_caller]
    pub fn answers(&self, path: &str, expected: &str) {
        self.answers_within(path, expected, PATIENCE);
    }

    /// The same, for what takes longer.
    #[track_caller]
    pub fn answers_within(&self, path: &str, expected: &str, patience: Duration) {
        let api = self.server.api();
        let same = || (api.get(path).text() == expected).then_some(());
        eventually_within(patience, &format!("{path} to answer {expected:?}"), same)
            .unwrap_or_else(|what| panic!("{what}; the log:\n{}", self.log()));
    }

    /// Waits until `GET path` answers with this status.
    #[track_caller]
    pub fn has_status(&self, path: &str, status: u16) {
        let api = self.server.api();
        let same = || (api.get(path).status == status).then_some(());
        eventually(&format!("{path} to answer {status}"), same)
            .unwrap_or_else(|what| panic!("{what}; the log:\n{}", self.log()));
    }
}

/// What builds of guests need of the environment, and where their results and
/// tools are kept: once for all runs, and apart from what a developer builds.
pub fn build_env(command: &mut Command) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    command
        .env("CARGO_TARGET_DIR", kept.join("dev"))
        .env("COGLEX_TOOLS_DIR", kept.join("tools"));
    // Cargo, rustup, npm and pip have to find their folders and registries.
    for kept in [
        "HOME",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "NPM_CONFIG_REGISTRY",
        "npm_config_registry",
        "PIP_INDEX_URL",
    ] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    // A compiler for wasm32-wasip2 that is not the one of this build.
    for name in ["RUSTC", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(format!("COGLEX_TEST_WASIP2_{name}")) {
            command.env(name, value);
        }
    }
}

/// Asks until there is an answer.
fn eventually<T>(what: &str, ask: impl Fn() -> Option<T>) -> Result<T, String> {
    eventually_within(PATIENCE, what, ask)
}

fn eventually_within<T>(
    patience: Duration,
    what: &str,
    ask: impl Fn() -> Option<T>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > patience {
            return Err(format!("waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
