//! Node.js, for guests in JavaScript. It cannot be fetched from a package
//! registry, so a machine without it tests the rest, and is told so.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::{process, workspace};

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

/// Test servers that are npm packages, with versions.
const PACKAGES: [&str; 1] = ["oauth2-mock-server@8.2.3"];

/// Makes sure that the test servers of npm are there; answers with the folder that has
/// them in its `node_modules`.
pub(crate) fn packages() -> anyhow::Result<PathBuf> {
    let folder = workspace::root().join("target/test-servers/npm");
    // Written last: a folder without it is incomplete or outdated.
    let stamp = folder.join("installed-packages.txt");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    process::step("installing test servers of npm", || {
        fs::create_dir_all(&folder)?;
        // Without it npm looks for a project in the folders above.
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        let mut command = Command::new(npm);
        command
            .args([
                "install",
                "--no-audit",
                "--no-fund",
                "--no-save",
                "--ignore-scripts",
            ])
            .args(PACKAGES)
            .current_dir(&folder)
            .stdout(Stdio::null());
        process::run(&mut command).context(
            "npm could not install the test servers; is its registry reachable? \
             (a mirror can be set with npm_config_registry)",
        )?;
        Ok(fs::write(&stamp, wanted)?)
    })?;
    Ok(folder)
}
