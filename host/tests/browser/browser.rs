//! Runs scripts in a browser. Chromium has to be there (`.ci/run` installs Debian's);
//! playwright comes from npm, once for all runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The driver. It speaks to newer browsers, too.
const PLAYWRIGHT: &str = "playwright-core@1.65.0";

/// Names that Chromium goes by; `COGLEX_TEST_CHROMIUM` can say another.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Whether the tests were told to do without a browser, or without Node.js.
pub fn is_left_out() -> bool {
    let told = std::env::var("COGLEX_TEST_WITHOUT").unwrap_or_default();
    let without = |tool: &str| told.split(',').any(|name| name == tool);
    let left_out = without("chromium") || without("node");
    if left_out {
        eprintln!("left out: COGLEX_TEST_WITHOUT names {told}");
    }
    left_out
}

/// Runs `scripts/<script>`; answers with what it says.
#[track_caller]
pub fn run(script: &str, input: &Value) -> Value {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/scripts");
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("node")
        .arg(scripts.join(script))
        .env("COGLEX_PLAYWRIGHT", playwright())
        .env("COGLEX_CHROMIUM", chromium())
        .env("COGLEX_INPUT", input.to_string())
        // Chromium keeps things at home even without a profile.
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{script}:\n{said}{wrong}");
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}{wrong}"))
}

fn chromium() -> PathBuf {
    if let Some(told) = std::env::var_os("COGLEX_TEST_CHROMIUM") {
        return told.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let found = CHROMIUM
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    found.expect("Chromium; on Debian: apt-get install chromium")
}

/// The folder of the package, installed if it is not there.
fn playwright() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
        let home = tools.join(PLAYWRIGHT.replace('@', "-"));
        let package = home.join("node_modules/playwright-core");
        if package.join("package.json").is_file() {
            return package;
        }
        // Tests are processes of their own: each installs aside, and the first is kept.
        std::fs::create_dir_all(&tools).unwrap();
        let aside = tempfile::tempdir_in(&tools).unwrap();
        let installed = Command::new("npm")
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
            ])
            .arg(aside.path())
            .arg(PLAYWRIGHT)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        if std::fs::rename(aside.path(), &home).is_ok() {
            // Moved away; there is nothing left to remove.
            let _ = aside.keep();
        }
        assert!(package.join("package.json").is_file());
        package
    })
}
