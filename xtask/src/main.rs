//! `cargo xtask`: the project's own commands.
//!
//! Each of them starts from a clean clone and gets what it needs by itself, so
//! that nobody has to read a list of prerequisites first. Continuous integration
//! runs the same commands as a person does.
//!
//! It drives cargo, Python and the built `coglex`; it links nothing of the
//! project, so that it compiles in seconds and works while the rest does not.

mod bench;
mod chromium;
mod ci;
mod dev;
mod guests;
mod mongodb;
mod node;
mod process;
mod python;
mod seaweedfs;
mod soak;
mod supervise;
mod test;
mod wasip2;
mod workspace;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Coglex's own commands"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the server and the shipped plugins, and start them with hot reload
    Dev(dev::Options),
    /// Run every test, with the servers and guests that they need
    Test(test::Options),
    /// Check what continuous integration checks: format, lints, docs, tests
    Ci,
    /// Build WebAssembly guests: plugins, examples and test fixtures
    Guests(guests::Options),
    /// Measure the server beside plain axum
    Bench(bench::Options),
    /// Reload plugins under load, or misbehave in one, and see what others feel
    Soak(soak::Options),
    /// Make sure that wasm32-wasip2 can be built, and print what to build it with
    Wasip2(wasip2::Options),
    /// Run a command until standard input closes
    #[command(hide = true)]
    Supervise(supervise::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(options) => dev::run(&options),
        Command::Test(options) => test::run(&options, test::Lacking::IsLeftOut),
        Command::Ci => ci::run(),
        Command::Guests(options) => {
            let folder = guests::build(&wasip2::ensure()?, &options)?;
            Ok(writeln!(std::io::stdout(), "{}", folder.display())?)
        }
        Command::Bench(options) => bench::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Wasip2(options) => {
            let toolchain = wasip2::find(&options)?;
            Ok(writeln!(std::io::stdout(), "{toolchain}")?)
        }
        Command::Supervise(options) => supervise::run(&options),
    }
}
