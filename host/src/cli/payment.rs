//! `coglex payment …`: what Stripe has sent to a running server, and telling it again,
//! by its admin API.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Arg, ArgMatches, Command};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::plugin::client::Server;
use super::plugin::show::{printable, table};
use super::plugin::{inputs, print, remote};
use crate::config;

const STORY: &str = "\
The server and its admin key are found as by `coglex plugin`.

  coglex payment events                     what Stripe has sent, the newest first
  coglex payment events --type charge.refunded
  coglex payment show evt_1P…               one event, whole
  coglex payment replay evt_1P…             tell it again to the functions that want it now

What became of the functions that were told is shown by `coglex jobs`.";

/// An event as the admin API shows it.
#[derive(Deserialize)]
struct Event {
    id: String,
    r#type: String,
    state: String,
    received: String,
    replays: i64,
    jobs: Vec<String>,
    event: Option<Value>,
}

/// The command and its subcommands.
pub(super) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let one = |name: &'static str| {
        let id = Arg::new("id").value_name("ID").required(true);
        remote(name).arg(id.help("The event's id, evt_…"))
    };
    Command::new("payment")
        .about("Lists and replays the events that Stripe has sent to a running server")
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            remote("events")
                .about("Lists events, the newest first")
                .arg(text("type", "TYPE", "Only those of this type"))
                .arg(text("state", "STATE", "Only new or done ones"))
                .arg(text(
                    "before",
                    "ID",
                    "Only those that were received before this one",
                ))
                .arg(text("limit", "NUMBER", "At most so many").default_value("100")),
        )
        .subcommand(one("show").about("Shows an event, as Stripe has sent it"))
        .subcommand(one("replay").about("Tells an event again to the functions that want it"))
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
        "events" => (Method::GET, list_path(given)),
        "show" => (Method::GET, event_path(given, "")?),
        "replay" => (Method::POST, event_path(given, "replay/")?),
        other => bail!("there is no command {other}"),
    };
    let answer = server.call(method, &path, Bytes::new()).await?;
    if given.get_flag("json") {
        return Ok(String::from_utf8_lossy(&answer).into_owned() + "\n");
    }
    let told = match action {
        "events" => serde_json::from_slice(&answer).map(|events: Vec<Event>| list(&events)),
        _ => serde_json::from_slice(&answer).map(|event: Event| all(&event)),
    };
    told.context("the server's answer is of another version than this")
}

fn list_path(given: &ArgMatches) -> String {
    let mut path = "payment/events/?".to_owned();
    for name in ["limit", "type", "state", "before"] {
        if let Some(value) = given.get_one::<String>(name) {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            let _ = write!(path, "{name}={value}&");
        }
    }
    path.pop();
    path
}

fn event_path(given: &ArgMatches, action: &str) -> anyhow::Result<String> {
    let id = given
        .get_one::<String>("id")
        .context("clap asks for an id")?;
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    Ok(format!("payment/events/{id}/{action}"))
}

fn list(events: &[Event]) -> String {
    if events.is_empty() {
        return "there are no such events\n".to_owned();
    }
    let rows = events.iter().map(|event| {
        vec![
            event.id.clone(),
            event.r#type.clone(),
            event.state.clone(),
            event.jobs.len().to_string(),
            event.received.clone(),
        ]
    });
    let heads = ["ID", "TYPE", "STATE", "JOBS", "RECEIVED"];
    table(&heads, &rows.collect::<Vec<_>>())
}

fn all(event: &Event) -> String {
    let mut out = String::new();
    for (name, value) in [
        ("id", event.id.clone()),
        ("type", event.r#type.clone()),
        ("state", event.state.clone()),
        ("received", event.received.clone()),
        ("replays", event.replays.to_string()),
        ("jobs", event.jobs.join(" ")),
    ] {
        let _ = writeln!(out, "{name:<10} {}", printable(&value));
    }
    if let Some(event) = &event.event {
        let _ = writeln!(out, "{:<10} {}", "event", printable(&event.to_string()));
    }
    out
}
