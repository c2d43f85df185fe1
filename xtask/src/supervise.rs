//! A helper process that ends a server when the command that wanted it ends,
//! however that happens.
//!
//! `cargo xtask test` starts servers through this. The supervisor lives in a
//! process group of its own, so Ctrl-C in the terminal does not reach it; it
//! watches its standard input, a pipe that the operating system closes when
//! xtask ends or is killed, and then stops the server and removes its data.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A folder to remove afterwards
    #[arg(long)]
    remove: Option<PathBuf>,
    /// The command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (program, args) = options.command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()?;
    let (closed, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An unreadable pipe is as closed as a closed one.
        let _ = std::io::stdin().read_to_end(&mut rest);
        let _ = closed.send(());
    });
    let status = loop {
        if wait.recv_timeout(Duration::from_millis(50)).is_ok() {
            child.kill()?;
            break child.wait()?;
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
    };
    if let Some(folder) = &options.remove {
        // The data of a throw-away server; it may never have been written.
        let _ = std::fs::remove_dir_all(folder);
    }
    std::process::exit(status.code().unwrap_or(1));
}
