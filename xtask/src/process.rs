//! Running other programs, with progress that a person can follow.
//!
//! Everything here goes to standard error; standard output belongs to what a
//! command was asked to print.

use std::io::ErrorKind;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Says what is being done, and afterwards how long it took.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = work();
    let took = start.elapsed().as_secs_f32();
    match &result {
        Ok(_) => eprintln!("    done in {took:.1} s"),
        Err(_) => eprintln!("    failed after {took:.1} s"),
    }
    result
}

/// Runs to the end with our own standard streams; an exit status other than 0 is
/// an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .map_err(|error| start_error(command, error))?;
    check(command, status)
}

/// Runs quietly; whether it ended with 0. A program that is not there did not.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a program prints, without the line's end.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| start_error(command, error))?;
    check(command, output.status)?;
    let text = String::from_utf8(output.stdout).context("its output is not UTF-8")?;
    Ok(text.trim_end().to_owned())
}

/// Like [`run`], but a program that hangs is stopped after `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| start_error(command, error))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return check(command, status);
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("{} took more than {} s", shown(command), limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A cargo command in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(crate::workspace::root());
    forget_own_package(&mut command);
    command
}

/// Takes out what the cargo that runs xtask says about xtask. Build scripts that
/// look at it would run again, and what depends on them would be built again,
/// whenever xtask and a plain cargo take turns.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if own {
            command.env_remove(name);
        }
    }
}

fn check(command: &Command, status: ExitStatus) -> anyhow::Result<()> {
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

fn start_error(command: &Command, error: std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() == ErrorKind::NotFound {
        anyhow::anyhow!("{program} was not found")
    } else {
        anyhow::Error::new(error).context(format!("{program} could not be started"))
    }
}

/// The start of the command line: enough to recognise it, short enough to read.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().take(3).map(|arg| arg.to_string_lossy()));
    if command.get_args().count() > 3 {
        words.push("…".into());
    }
    format!("`{}`", words.join(" "))
}
