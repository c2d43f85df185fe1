//! `coglex auth …`: the keys of access tokens on a running server, by its admin API.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use serde::Deserialize;

use super::plugin::client::Server;
use super::plugin::show::table;
use super::plugin::{inputs, print, remote};
use crate::config;

const STORY: &str = "\
The server and its admin key are found as by `coglex plugin`.

  coglex auth keys                   the keys that verify access tokens
  coglex auth rotate-keys            sign with a new key; nobody is signed out
  coglex auth rotate-keys --revoke   the same, and no token that is out there is good
                                     any more; refresh tokens are, so clients renew";

/// A key as the admin API shows it.
#[derive(Deserialize)]
struct Key {
    kid: String,
    alg: String,
    signs: bool,
    created: Date,
    until: Option<Date>,
}

#[derive(Deserialize)]
struct Date {
    #[serde(rename = "$date")]
    date: String,
}

/// The command and its subcommands.
pub(super) fn command() -> Command {
    let revoke = Arg::new("revoke")
        .long("revoke")
        .action(ArgAction::SetTrue)
        .help("Also end the former keys, and with them every access token and cookie");
    Command::new("auth")
        .about("Lists and rotates the keys that sign access tokens")
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(remote("keys").about("Lists the keys that verify, the newest first"))
        .subcommand(
            remote("rotate-keys")
                .about("Makes a key that signs from now on")
                .arg(revoke),
        )
}

/// Does what the command line says.
pub(super) fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let Some((action, given)) = given.subcommand() else {
        return Ok(()); // clap has printed the help.
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of this command")?;
    let told = runtime.block_on(act(action, given))?;
    print(&told)
}

async fn act(action: &str, given: &ArgMatches) -> anyhow::Result<String> {
    let config = config::load(&inputs(given))?.config;
    let server = Server::open(given.get_one::<String>("server"), &config)?;
    let (method, path) = match action {
        "keys" => (Method::GET, "auth/keys/"),
        "rotate-keys" if given.get_flag("revoke") => {
            (Method::POST, "auth/keys/rotate/?revoke=true")
        }
        "rotate-keys" => (Method::POST, "auth/keys/rotate/"),
        other => bail!("there is no command {other}"),
    };
    let answer = server.call(method, path, Bytes::new()).await?;
    if given.get_flag("json") {
        return Ok(String::from_utf8_lossy(&answer).into_owned() + "\n");
    }
    let keys: Vec<Key> =
        serde_json::from_slice(&answer).context("the server's answer cannot be read")?;
    Ok(shown(&keys))
}

fn shown(keys: &[Key]) -> String {
    let rows = keys.iter().map(|key| {
        let state = match (&key.until, key.signs) {
            (Some(until), _) => format!("verifies until {}", until.date),
            (None, true) => "signs".to_owned(),
            (None, false) => "verifies".to_owned(),
        };
        vec![
            key.kid.clone(),
            key.alg.clone(),
            key.created.date.clone(),
            state,
        ]
    });
    let heads = ["KEY", "ALGORITHM", "CREATED", "STATE"];
    table(&heads, &rows.collect::<Vec<_>>())
}
