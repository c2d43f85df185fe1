//! `coglex jobs …`: what operators see of the jobs of a running server, and do to
//! them, by its admin API.

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

  coglex jobs list --state dead          what was tried as often as it may
  coglex jobs show 6f1c…                 all about one, with the last error
  coglex jobs retry 6f1c…                run it again, with all of its attempts
  coglex jobs schedules                  what plugins have run by the clock";

/// A job as the admin API shows it, as far as it is told here.
#[derive(Deserialize)]
struct Job {
    id: String,
    function: String,
    state: String,
    source: String,
    attempts: u32,
    max_attempts: u32,
    created: Date,
    run_at: Option<Date>,
    started: Option<Date>,
    finished: Option<Date>,
    expires: Option<Date>,
    #[serde(default)]
    cancelling: bool,
    args: Option<Value>,
    kwargs: Option<Value>,
    result: Option<Value>,
    #[serde(default)]
    result_dropped: bool,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Date {
    #[serde(rename = "$date")]
    date: String,
}

#[derive(Deserialize)]
struct Error {
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Schedule {
    plugin: String,
    function: String,
    cron: String,
    last: Option<String>,
    next: Option<String>,
}

/// The command and its subcommands.
pub(super) fn command() -> Command {
    Command::new("jobs")
        .about("Lists, cancels and replays the jobs of a running server")
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            remote("list")
                .about("Lists jobs, the newest first")
                .arg(text(
                    "state",
                    "STATE",
                    "Only waiting, running, succeeded, failed, dead or cancelled ones",
                ))
                .arg(text("function", "NAME", "Only those of this function"))
                .arg(text(
                    "before",
                    "ID",
                    "Only those that were enqueued before this one",
                ))
                .arg(text("limit", "NUMBER", "At most so many").default_value("100")),
        )
        .subcommand(one("show").about("Shows everything about a job"))
        .subcommand(one("cancel").about("Cancels a job; one that runs is ended"))
        .subcommand(one("retry").about("Runs a job again that failed, died or was cancelled"))
        .subcommand(remote("schedules").about("Lists what plugins have run by the clock"))
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// A subcommand about one job.
fn one(name: &'static str) -> Command {
    let id = Arg::new("id").value_name("ID").required(true);
    remote(name).arg(id.help("The job's id"))
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
        "list" => (Method::GET, list_path(given)),
        "schedules" => (Method::GET, "schedules/".to_owned()),
        "show" => (Method::GET, job_path(given, "")?),
        "cancel" | "retry" => (Method::POST, job_path(given, action)?),
        other => bail!("there is no command {other}"),
    };
    let answer = server.call(method, &path, Bytes::new()).await?;
    if given.get_flag("json") {
        return Ok(String::from_utf8_lossy(&answer).into_owned() + "\n");
    }
    let told = match action {
        "list" => serde_json::from_slice(&answer).map(|jobs: Vec<Job>| list(&jobs)),
        "schedules" => serde_json::from_slice(&answer).map(|all: Vec<Schedule>| schedules(&all)),
        _ => serde_json::from_slice(&answer).map(|job: Job| all(&job)),
    };
    told.context("the server's answer is of another version than this")
}

fn list_path(given: &ArgMatches) -> String {
    let mut path = "jobs/?".to_owned();
    for name in ["limit", "state", "function", "before"] {
        if let Some(value) = given.get_one::<String>(name) {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            let _ = write!(path, "{name}={value}&");
        }
    }
    path.pop();
    path
}

fn job_path(given: &ArgMatches, action: &str) -> anyhow::Result<String> {
    let id = given
        .get_one::<String>("id")
        .context("clap asks for an id")?;
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    Ok(match action {
        "" => format!("jobs/{id}/"),
        action => format!("jobs/{id}/{action}/"),
    })
}

fn list(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "there are no such jobs\n".to_owned();
    }
    let rows = jobs.iter().map(|job| {
        vec![
            job.id.clone(),
            job.function.clone(),
            state(job),
            format!("{}/{}", job.attempts, job.max_attempts),
            job.created.date.clone(),
            job.error
                .as_ref()
                .map_or_else(|| "-".to_owned(), |error| error.code.clone()),
        ]
    });
    let heads = ["ID", "FUNCTION", "STATE", "ATTEMPTS", "CREATED", "ERROR"];
    table(&heads, &rows.collect::<Vec<_>>())
}

fn schedules(schedules: &[Schedule]) -> String {
    if schedules.is_empty() {
        return "no plugin has a schedule\n".to_owned();
    }
    let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
    let rows = schedules.iter().map(|own| {
        vec![
            own.plugin.clone(),
            own.function.clone(),
            own.cron.clone(),
            time(&own.last),
            time(&own.next),
        ]
    });
    let heads = ["PLUGIN", "FUNCTION", "CRON (UTC)", "LAST", "NEXT"];
    table(&heads, &rows.collect::<Vec<_>>())
}

fn all(job: &Job) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<10} {}", printable(value));
    };
    line("id", &job.id);
    line("function", &job.function);
    line("state", &state(job));
    line(
        "attempts",
        &format!("{} of {}", job.attempts, job.max_attempts),
    );
    line("source", &job.source);
    line("created", &job.created.date);
    for (name, time) in [
        ("run at", &job.run_at),
        ("started", &job.started),
        ("finished", &job.finished),
        ("expires", &job.expires),
    ] {
        if let Some(time) = time {
            line(name, &time.date);
        }
    }
    for (name, value) in [
        ("args", &job.args),
        ("kwargs", &job.kwargs),
        ("result", &job.result),
    ] {
        if let Some(value) = value {
            line(name, &value.to_string());
        }
    }
    if job.result_dropped {
        line("result", "too large to be kept");
    }
    if let Some(error) = &job.error {
        line("error", &format!("{}: {}", error.code, error.message));
    }
    out
}

fn state(job: &Job) -> String {
    match job.cancelling {
        true => format!("{}, to be cancelled", job.state),
        false => job.state.clone(),
    }
}
