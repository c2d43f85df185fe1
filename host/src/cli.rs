//! The command line: what `coglex` can be told, and who does it. Flags of the
//! settings come from the table in [`crate::config::settings`].

mod access;
mod auth;
mod build;
mod data;
mod jobs;
mod mail;
mod new;
mod payment;
mod plugin;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::settings::{Kind, SETTINGS, Setting};
use crate::config::{self, Inputs};
use crate::{Dev, Source};

const ABOUT: &str = "A whole backend in one binary: documents, accounts, and your own code as \
sandboxed WebAssembly components that reload while requests are served.";

const STORY: &str = "\
First steps:
  coglex serve                         start on http://127.0.0.1:5000; the API key is
                                       generated and printed on the first start
  curl http://127.0.0.1:5000/healthz   see that it lives

  KEY=$(cat coglex-data/secret)
  curl -H \"X-API-Key: $KEY\" -H 'Content-Type: application/json' \\
       -d '{\"document\": {\"type\": \"important\"}}' \\
       http://127.0.0.1:5000/service/storage/v1/my_collection/
  curl -H \"X-API-Key: $KEY\" http://127.0.0.1:5000/service/storage/v1/my_collection/

Components that are put into coglex-data/plugins are served at once; `coglex plugin deploy`
uploads one to a running server. To write one, in Rust, JavaScript or Python:
  coglex new notes                     a small plugin to start from (--lang, --kind)
  coglex dev --source notes            build it, serve it, build it again when it is saved

Settings come from coglex.toml, .env, the environment and flags; `coglex serve --help`
lists them, `coglex config` shows which are in force and why.";

/// Does what the command line says.
pub fn run() -> anyhow::Result<()> {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve", given)) => crate::serve(config::load(&inputs(given))?, None),
        Some(("dev", given)) => crate::serve(config::load(&inputs(given))?, Some(dev(given)?)),
        Some(("config", given)) => {
            let printed = config::load(&inputs(given))?.to_toml();
            let written = std::io::stdout().write_all(printed.as_bytes());
            written.context("cannot print the configuration")
        }
        Some(("new", given)) => new::run(given),
        Some(("build", given)) => build::run(given),
        Some(("plugin", given)) => plugin::run(given),
        Some(("jobs", given)) => jobs::run(given),
        Some(("auth", given)) => auth::run(given),
        Some(("payment", given)) => payment::run(given),
        Some(("mail", given)) => mail::run(given),
        Some((name, given)) => access::run(name, given)
            .or_else(|| data::run(name, given))
            .unwrap_or(Ok(())),
        None => Ok(()), // clap has printed the help.
    }
}

/// The whole command line, for `run` and for tests.
pub fn command() -> Command {
    Command::new("coglex")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("serve").about("Starts the server"),
        ))
        .subcommand(with_settings(dev_command()))
        .subcommand(with_settings(Command::new("config").about(
            "Prints the effective configuration as TOML, and where each value came from",
        )))
        .subcommand(new::command())
        .subcommand(build::command())
        .subcommand(plugin::command())
        .subcommand(jobs::command())
        .subcommand(auth::command())
        .subcommands(access::commands())
        .subcommand(payment::command())
        .subcommand(mail::command())
        .subcommands(data::commands())
}

fn dev_command() -> Command {
    Command::new("dev")
        .about("Starts the server for development: plugins get what they ask for, and sources are built when saved")
        .arg(
            Arg::new("source")
                .long("source")
                .value_name("DIR")
                .action(ArgAction::Append)
                .value_parser(clap::value_parser!(PathBuf))
                .help("A plugin's folder, with its Cargo.toml, package.json or pyproject.toml; may be given several times"),
        )
        .arg(
            Arg::new("fake-stripe")
                .long("fake-stripe")
                .action(ArgAction::SetTrue)
                .help("Starts a stand-in for Stripe, with a Checkout page and a webhook to this server; payment.* then need not be set"),
        )
        .arg(
            Arg::new("profile")
                .long("profile")
                .value_name("NAME")
                .default_value("release")
                .help("The cargo profile that sources are built with"),
        )
}

/// What `coglex dev` was given beyond the settings.
fn dev(given: &ArgMatches) -> anyhow::Result<Dev> {
    let dirs = given.get_many::<PathBuf>("source").unwrap_or_default();
    Ok(Dev {
        sources: dirs
            .map(|dir| Source::open(dir))
            .collect::<anyhow::Result<_>>()?,
        profile: given
            .get_one("profile")
            .cloned()
            .unwrap_or_else(|| "release".to_owned()),
        fake_stripe: given.get_flag("fake-stripe"),
    })
}

/// Adds `--config` and one flag for each setting.
pub fn with_settings(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!(
            "Configuration file [default: {} in the working directory] [env: COGLEX_CONFIG]",
            config::FILE_NAME
        ));
    // A flag given twice: the later wins, so that scripts can add theirs.
    let command = command.args_override_self(true).arg(config);
    SETTINGS
        .iter()
        .fold(command, |command, setting| command.arg(flag(setting)))
}

/// What a subcommand with the settings' flags was given.
pub fn inputs(given: &ArgMatches) -> Inputs {
    let flags: BTreeMap<_, _> = SETTINGS
        .iter()
        .filter_map(|setting| Some((setting.name, given.get_one::<String>(setting.name)?.clone())))
        .collect();
    Inputs::of_process(given.get_one("config").cloned(), flags)
}

fn flag(setting: &'static Setting) -> Arg {
    // clap's own `env` would bypass `.env` and the order of the layers.
    let help = format!(
        "{} [default: {}] [env: {}]",
        setting.help,
        setting.default_shown(),
        setting.variable()
    );
    let arg = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(value_name(setting.kind))
        .help(help)
        .help_heading(format!("Settings: {}", setting.section()))
        // A bad value is told with its setting by `config`, like any other layer's.
        .allow_hyphen_values(true);
    match setting.kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Secret => "SECRET",
        Kind::Url => "URL",
        Kind::Switch => "BOOL",
        Kind::Count { .. } => "NUMBER",
        Kind::Choice(_) => "WORD",
        Kind::List => "LIST",
        Kind::Period { .. } => "TIME",
        Kind::Size { .. } => "SIZE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_reach_the_inputs_under_their_setting() {
        let matches = command()
            .try_get_matches_from([
                "coglex",
                "serve",
                "--server-port",
                "81",
                "--plugins-watch=false",
                "--config",
                "x.toml",
            ])
            .unwrap();
        let inputs = inputs(matches.subcommand().unwrap().1);
        assert_eq!(
            inputs.flags,
            BTreeMap::from([
                ("server.port", "81".to_owned()),
                ("plugins.watch", "false".to_owned())
            ])
        );
        assert_eq!(inputs.file, Some(PathBuf::from("x.toml")));
    }
}
