//! Chromium, for tests of pages. It cannot be fetched from a package registry, so a
//! machine without it tests the rest, and is told so.

use std::process::Command;

use anyhow::bail;

use crate::process;

/// The name of the tool in `COGLEX_TEST_WITHOUT`.
pub(crate) const NAME: &str = "chromium";

/// Names that it goes by; the tests know the same.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Whether a browser is there. Without one: an error where everything has to be tested,
/// else a warning.
pub(crate) fn find(everything: bool) -> anyhow::Result<bool> {
    let told = std::env::var_os("COGLEX_TEST_CHROMIUM").is_some();
    let answers = |program: &&str| process::succeeds(Command::new(program).arg("--version"));
    if told || PROGRAMS.iter().any(answers) {
        return Ok(true);
    }
    const MISSING: &str = "Chromium was not found; on Debian or Ubuntu: apt-get install chromium";
    if everything {
        bail!("{MISSING}");
    }
    eprintln!("==> NOT TESTED: what is seen in a browser. {MISSING}");
    Ok(false)
}
