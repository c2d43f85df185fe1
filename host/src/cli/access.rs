//! `coglex keys`, `coglex rules`, `coglex audit`: who may do what on a running server,
//! and who did, by its admin key.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::plugin::client::Server;
use super::plugin::show::{printable, table};
use super::plugin::{inputs, print, remote};
use crate::config;

const KEYS: &str = "/service/auth/v1/keys/";

const KEYS_STORY: &str = "\
The server and its admin key are found as by `coglex plugin`.

  coglex keys create shop --grants '{\"storage\": [{\"collection\": \"products\", \"verbs\": [\"read\"]}]}'
                                       the key is printed once
  coglex keys create status --route '/status/*' --address 192.0.2.0/24 --expires 2030-01-31T00:00:00Z
  coglex keys list
  coglex keys revoke 0123…             at once, on every host";

const RULES_STORY: &str = "\
The server and its admin key are found as by `coglex plugin`.

  coglex rules set notes rules.json    with {\"users\": {\"read\": {\"owner\": \"$caller._id\"}}}
  coglex rules show notes
  coglex rules list                    those of all collections
  coglex rules remove notes            closes it to users";

const AUDIT_STORY: &str = "\
The server and its admin key are found as by `coglex plugin`.

  coglex audit                         the last 100 entries
  coglex audit --outcome failure --action sign_in --since 2030-01-31T00:00:00Z
  coglex audit --action 'admin.*' --json";

/// What of the log may be asked for, as on the admin API.
const FILTERS: [(&str, &str); 9] = [
    (
        "action",
        "Only this action; with a * at the end all that begin so",
    ),
    ("outcome", "Only success or failure"),
    (
        "actor",
        "Only what this one did: admin, api_key, key:ID, user:REALM:ID",
    ),
    ("realm", "Only in this collection of users"),
    ("subject", "Only what is about the user with this key"),
    (
        "target",
        "Only what is about this key, collection or plugin",
    ),
    ("address", "Only from this address"),
    (
        "since",
        "Not before this time, such as 2030-01-31T12:00:00Z",
    ),
    ("until", "Before this time"),
];

/// The commands and their subcommands.
pub(super) fn commands() -> [Command; 3] {
    let id = || Arg::new("id").value_name("ID").required(true);
    let collection = || {
        Arg::new("collection")
            .value_name("COLLECTION")
            .required(true)
    };
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let many = |name, value, help| option(name, value, help).action(ArgAction::Append);
    let keys = Command::new("keys")
        .about("Makes, lists and revokes scoped API keys of a running server")
        .after_help(KEYS_STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(remote("list").about("Lists the keys, the newest first"))
        .subcommand(
            remote("create")
                .about("Makes a key and prints it, once")
                .arg(Arg::new("name").value_name("NAME").required(true).help("What to call it"))
                .arg(option("grants", "JSON", "Documents, accounts, functions and payments that it covers, as in coglex.toml's grants"))
                .arg(many("route", "PATH", "A route of an app that it opens, or PATH/* for all below; may be given several times"))
                .arg(many("address", "RANGE", "Where it may be used from, such as 192.0.2.0/24; may be given several times"))
                .arg(option("expires", "TIME", "When it ends, such as 2030-01-31T12:00:00Z")),
        )
        .subcommand(
            remote("revoke")
                .about("Ends a key at once, on every host")
                .arg(id().help("The key's id, from the list")),
        );
    let rules = Command::new("rules")
        .about("Sets what signed-in users may do in collections without an API key")
        .after_help(RULES_STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(remote("list").about("Shows the rules of all collections"))
        .subcommand(
            remote("show")
                .about("Shows the rules of a collection")
                .arg(collection()),
        )
        .subcommand(
            remote("set")
                .about("Sets the rules of a collection")
                .arg(collection())
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .help("A JSON file with the rules, by realm"),
                ),
        )
        .subcommand(
            remote("remove")
                .about("Takes the rules of a collection away")
                .arg(collection()),
        );
    let audit = remote("audit")
        .about("Shows who did what on a running server, when and from where")
        .after_help(AUDIT_STORY)
        .arg(option("limit", "NUMBER", "At most so many").default_value("100"))
        .arg(option("before", "ID", "Only entries older than this one"));
    let audit = FILTERS.iter().fold(audit, |audit, (name, help)| {
        audit.arg(option(name, "TEXT", help))
    });
    [keys, rules, audit]
}

/// Does what the command line says; nothing for another command.
pub(super) fn run(name: &str, given: &ArgMatches) -> Option<anyhow::Result<()>> {
    let (action, given) = match (name, given.subcommand()) {
        ("audit", _) => ("", given),
        ("keys" | "rules", Some(found)) => found,
        ("keys" | "rules", None) => return Some(Ok(())), // clap has printed the help.
        _ => return None,
    };
    let told = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the threads of this command")?;
        let told = runtime.block_on(act(name, action, given))?;
        print(&told)
    };
    Some(told())
}

async fn act(name: &str, action: &str, given: &ArgMatches) -> anyhow::Result<String> {
    let config = config::load(&inputs(given))?.config;
    let server = Server::open(given.get_one::<String>("server"), &config)?;
    let (method, path, body) = match (name, action) {
        ("keys", "list") => (Method::GET, KEYS.to_owned(), None),
        ("keys", "create") => (Method::POST, KEYS.to_owned(), Some(order(given)?)),
        ("keys", "revoke") => (
            Method::DELETE,
            format!("{KEYS}{}/", word(given, "id")?),
            None,
        ),
        ("rules", "list") => (Method::GET, "rules/".to_owned(), None),
        ("rules", "show") => (Method::GET, rules_path(given)?, None),
        ("rules", "set") => (Method::PUT, rules_path(given)?, Some(file(given)?)),
        ("rules", "remove") => (Method::DELETE, rules_path(given)?, None),
        ("audit", _) => (Method::GET, audit_path(given), None),
        (_, other) => bail!("there is no command {other}"),
    };
    let answer = server.call(method, &path, body.unwrap_or_default()).await?;
    if given.get_flag("json") {
        return Ok(String::from_utf8_lossy(&answer).into_owned() + "\n");
    }
    let answer: Value =
        serde_json::from_slice(&answer).context("the server's answer cannot be read")?;
    Ok(match (name, action) {
        ("keys", "list") => keys(&answer),
        ("keys", "create") => format!(
            "{}\nThis key is not shown again. Its id is {}.\n",
            text(&answer, "key"),
            text(&answer, "id")
        ),
        ("keys", "revoke") => "revoked\n".to_owned(),
        ("rules", "remove") => "removed\n".to_owned(),
        ("audit", _) => entries(&answer),
        _ => serde_json::to_string_pretty(&answer)? + "\n",
    })
}

/// The body that makes a key.
fn order(given: &ArgMatches) -> anyhow::Result<Bytes> {
    let all = |name: &str| -> Vec<&String> { given.get_many(name).unwrap_or_default().collect() };
    let mut body = json!({
        "name": given.get_one::<String>("name"),
        "routes": all("route"),
        "addresses": all("address"),
        "expires": given.get_one::<String>("expires"),
    });
    if let Some(grants) = given.get_one::<String>("grants") {
        let grants: Value = serde_json::from_str(grants).context("--grants is not JSON")?;
        if let Value::Object(body) = &mut body {
            body.insert("grants".to_owned(), grants);
        }
    }
    Ok(serde_json::to_vec(&body)?.into())
}

fn file(given: &ArgMatches) -> anyhow::Result<Bytes> {
    let path = given
        .get_one::<String>("file")
        .context("clap asks for it")?;
    let text = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.into())
}

fn word(given: &ArgMatches, name: &str) -> anyhow::Result<String> {
    let word = given.get_one::<String>(name).context("clap asks for it")?;
    Ok(utf8_percent_encode(word, NON_ALPHANUMERIC).to_string())
}

fn rules_path(given: &ArgMatches) -> anyhow::Result<String> {
    Ok(format!("collections/{}/rules/", word(given, "collection")?))
}

fn audit_path(given: &ArgMatches) -> String {
    let mut path = "audit/?".to_owned();
    let names = FILTERS.iter().map(|(name, _)| *name);
    for name in ["limit", "before"].into_iter().chain(names) {
        if let Some(value) = given.get_one::<String>(name) {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            let _ = write!(path, "{name}={value}&");
        }
    }
    path.pop();
    path
}

/// A member for people: a text, a number, a date, or `-`.
fn text(value: &Value, name: &str) -> String {
    let shown = match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(date)) => date
            .get("$date")
            .and_then(Value::as_str)
            .unwrap_or("-")
            .to_owned(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    printable(&shown).to_string()
}

fn rows(answer: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let entries = answer.as_array().into_iter().flatten();
    let row = |entry: &Value| names.iter().map(|name| text(entry, name)).collect();
    entries.map(row).collect()
}

fn keys(answer: &Value) -> String {
    let rows = rows(
        answer,
        &["id", "name", "created", "expires", "used", "created_by"],
    );
    if rows.is_empty() {
        return "there are no scoped API keys\n".to_owned();
    }
    table(&["ID", "NAME", "CREATED", "EXPIRES", "USED", "BY"], &rows)
}

fn entries(answer: &Value) -> String {
    let names = [
        "at", "action", "outcome", "count", "actor", "realm", "subject", "target", "address",
    ];
    let rows = rows(answer, &names);
    if rows.is_empty() {
        return "there are no such entries\n".to_owned();
    }
    let heads = [
        "TIME", "ACTION", "OUTCOME", "TIMES", "BY", "REALM", "USER", "WHAT", "FROM",
    ];
    table(&heads, &rows)
}
