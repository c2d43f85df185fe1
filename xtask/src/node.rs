//! Node.js, for guests in JavaScript. It cannot be fetched from a package
//! registry, so a machine without it tests the rest, and is told so.

use std::process::Command;

use anyhow::bail;

use crate::process;

/// The name of the tool in `COGLEX_TEST_WITHOUT`.
pub(crate) const NAME: &str = "node";

/// Whether Node.js and npm are there. Without them: an error where everything
/// has to be tested, else a warning.
pub(crate) fn find(everything: bool) -> anyhow::Result<bool> {
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let there = ["node", npm]
        .iter()
        .all(|program| process::succeeds(Command::new(program).arg("--version")));
    if there {
        return Ok(true);
    }
    const MISSING: &str =
        "Node.js with npm was not found; on Debian or Ubuntu: apt-get install nodejs npm";
    if everything {
        bail!("{MISSING}");
    }
    eprintln!("==> NOT TESTED: guests in JavaScript, their SDK and their templates. {MISSING}");
    Ok(false)
}
