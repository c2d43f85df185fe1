//! `coglex plugin test`: builds a plugin and its tests, runs them, and tells how
//! they went, in the words of `cargo test`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use coglex_runtime::testing::Outcome;

use super::show;
use crate::project::{BuildError, Project};
use crate::testing::{Bench, Report, Tests};

const STORY: &str = "\
Each test has a server of its own, which is the real one, with the plugin in it: an empty store in
memory, a clock that stands still until the test moves it, and no network but for answers that the
test prepares. Whatever coglex.toml asks for is granted, budgets are on. What tests can ask of it
is in the SDK's module `testing`.

  coglex plugin test                  every test of the plugin in this folder
  coglex plugin test notes            … in the folder notes
  coglex plugin test notes greets     … whose name has `greets` in it

Ends with 1 when a test has failed.";

pub(super) fn command() -> Command {
    Command::new("test")
        .about("Runs a plugin's own tests, each against a server in memory")
        .after_help(STORY)
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .default_value(".")
                .value_parser(clap::value_parser!(PathBuf))
                .help("The plugin's folder"),
        )
        .arg(
            Arg::new("filter")
                .value_name("FILTER")
                .action(ArgAction::Append)
                .num_args(0..)
                .help("Run only tests with one of these in their name"),
        )
}

/// How all of it went.
#[derive(Default)]
struct Sum {
    passed: usize,
    ignored: usize,
    filtered: usize,
    failed: Vec<(String, Report)>,
}

pub(super) async fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let dir: &PathBuf = given.get_one("dir").context("clap has a folder")?;
    let filters: Vec<&String> = given.get_many("filter").unwrap_or_default().collect();
    let project = Project::open(dir)?;
    let name = project.name().to_owned();
    // What is wrong with a source stands above.
    let built = |error| match error {
        BuildError::Source { .. } => anyhow::anyhow!("{name} does not build"),
        BuildError::Other(error) => error,
    };
    let suites = project.build_tests().await.map_err(&built)?;
    let plugin = project.build("dev").await.map_err(&built)?;
    let bench = Bench::new(project, plugin).await?;

    let (mut spent, mut out) = (Duration::ZERO, Out::new());
    let (mut sum, mut number) = (Sum::default(), 0);
    for (file, wasm) in suites {
        let tests = bench.open(file, wasm).await?;
        let wanted = |test: &&String| {
            filters.is_empty() || filters.iter().any(|part| test.contains(part.as_str()))
        };
        let chosen: Vec<&String> = tests.names.iter().filter(wanted).collect();
        sum.filtered += tests.names.len() - chosen.len();
        out.say(&heading(&tests, chosen.len()))?;
        for test in chosen {
            number += 1;
            out.say(&format!("test {test} ... "))?;
            let start = Instant::now();
            let report = bench.run(&tests, test, number).await?;
            spent += start.elapsed();
            match &report.outcome {
                Outcome::Passed => {
                    sum.passed += 1;
                    out.say(&out.good("ok\n"))?;
                }
                Outcome::Ignored => {
                    sum.ignored += 1;
                    out.say(&out.fair("ignored\n"))?;
                }
                Outcome::Failed { .. } => {
                    out.say(&out.bad("FAILED\n"))?;
                    sum.failed.push((test.clone(), report));
                }
            }
        }
    }
    out.say(&failures(&sum.failed))?;
    let result = match sum.failed.is_empty() {
        true => out.good("ok"),
        false => out.bad("FAILED"),
    };
    out.say(&format!(
        "\ntest result: {result}. {} passed; {} failed; {} ignored; {} filtered out; finished in {:.2}s\n",
        sum.passed,
        sum.failed.len(),
        sum.ignored,
        sum.filtered,
        spent.as_secs_f64()
    ))?;
    match sum.failed.len() {
        0 => Ok(()),
        1 => bail!("a test of {name} failed"),
        failed => bail!("{failed} tests of {name} failed"),
    }
}

fn heading(tests: &Tests, chosen: usize) -> String {
    let s = if chosen == 1 { "" } else { "s" };
    format!("\nrunning {chosen} test{s} of {}\n", tests.name)
}

/// What the tests that failed have printed, and the log of their servers.
fn failures(failed: &[(String, Report)]) -> String {
    if failed.is_empty() {
        return String::new();
    }
    let mut text = "\nfailures:\n".to_owned();
    for (test, report) in failed {
        text.push_str(&format!("\n---- {test} ----\n"));
        if let Outcome::Failed { why, printed } = &report.outcome {
            for part in [Some(printed.trim_end()), why.as_deref().map(str::trim_end)]
                .into_iter()
                .flatten()
            {
                if !part.is_empty() {
                    text.push_str(part);
                    text.push('\n');
                }
            }
        }
        if !report.log.is_empty() {
            text.push_str("the log of its server:\n");
            let lines = report.log.iter().map(|line| show::plain_line(line));
            text.extend(lines);
        }
    }
    text.push_str("\nfailures:\n");
    for (test, _) in failed {
        text.push_str(&format!("    {test}\n"));
    }
    text
}

/// Standard output, in colour where people see it.
struct Out {
    colour: bool,
}

impl Out {
    fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour }
    }

    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        said.context("cannot print")
    }

    fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn fair(&self, text: &str) -> String {
        self.paint("33", text)
    }

    fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match (self.colour, text.strip_suffix('\n')) {
            (false, _) => text.to_owned(),
            (true, Some(line)) => format!("\x1b[{code}m{line}\x1b[0m\n"),
            (true, None) => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
