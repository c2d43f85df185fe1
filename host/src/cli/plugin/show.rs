//! Answers for people: tables whose columns fit, and one fact a line.

use std::fmt::Write as _;

use coglex_services::hooks::Moment;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::inspect::Inspection;
use super::is_colourful;
use crate::plugins::logs::Line;
use crate::plugins::status::{
    BudgetView, Description, HookLine, RouteLine, State, Status, Summary,
};

/// A log line as the admin API sends it.
#[derive(Debug, Deserialize)]
pub(super) struct LogLine {
    time: String,
    level: String,
    message: String,
    request_id: Option<String>,
    #[serde(default)]
    fields: Map<String, Value>,
}

/// The table of `coglex plugin list`.
pub(super) fn list(plugins: &[Summary]) -> String {
    if plugins.is_empty() {
        return "there are no plugins\n".to_owned();
    }
    let rows = plugins.iter().map(|plugin| {
        let number = |count: u64| count.to_string();
        vec![
            plugin.name.clone(),
            state(plugin.state).to_owned(),
            short(plugin.digest.as_deref()).to_owned(),
            plugin.bytes.map_or_else(|| "-".to_owned(), size),
            number(plugin.routes as u64),
            number(plugin.functions as u64),
            number(plugin.calls),
            number(plugin.traps),
            plugin.deployed.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let heads = [
        "NAME",
        "STATE",
        "VERSION",
        "SIZE",
        "ROUTES",
        "FUNCTIONS",
        "CALLS",
        "TRAPS",
        "DEPLOYED",
    ];
    let mut out = table(&heads, &rows.collect::<Vec<_>>());
    for plugin in plugins {
        if let Some(error) = &plugin.error {
            let _ = writeln!(out, "\n{}: {}", plugin.name, printable(error));
        }
    }
    out
}

/// What a change has come to.
pub(super) fn changed(done: &str, plugin: &Status) -> String {
    let mut out = format!(
        "{} is {done}: {}, version {}\n",
        plugin.name,
        state(plugin.state),
        short(plugin.digest.as_deref())
    );
    if let Some(error) = &plugin.error {
        let _ = writeln!(
            out,
            "but its file cannot be loaded: {}",
            printable(&error.reason)
        );
    }
    for refused in plugin.description.iter().flat_map(|own| &own.refused) {
        let _ = writeln!(out, "it asks for what it does not get: {refused}");
    }
    out
}

/// Everything about a plugin of a server.
pub(super) fn status(plugin: &Status) -> String {
    let none = || "-".to_owned();
    let mut facts = vec![
        ("name", plugin.name.clone()),
        ("state", state(plugin.state).to_owned()),
        ("version", plugin.digest.clone().unwrap_or_else(none)),
        ("size", plugin.bytes.map_or_else(none, size)),
        ("deployed", plugin.deployed.clone().unwrap_or_else(none)),
        ("loaded", plugin.loaded.clone().unwrap_or_else(none)),
        (
            "calls",
            format!(
                "{}, of which {} trapped and {} ran out of time; {} under way",
                plugin.calls, plugin.traps, plugin.deadlines, plugin.running
            ),
        ),
    ];
    if let Some(error) = &plugin.error {
        let again = match error.retry_in_ms {
            Some(ms) => format!("tried again in {} s", ms.div_ceil(1000)),
            None => "not tried again until the file changes".to_owned(),
        };
        facts.push(("error", printable(&error.reason)));
        facts.push(("failures", format!("{} in a row; {again}", error.times)));
    }
    let mut out = pairs(&facts);
    if let Some(description) = &plugin.description {
        out.push_str(&describe(description));
    }
    if !plugin.versions.is_empty() {
        let rows = plugin.versions.iter().rev().map(|version| {
            vec![
                short(Some(&version.digest)).to_owned(),
                size(version.bytes),
                version.deployed.clone(),
                if version.serving { "serving" } else { "" }.to_owned(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        let _ = write!(
            out,
            "\n{}",
            table(&["VERSION", "SIZE", "DEPLOYED", ""], &rows)
        );
    }
    out
}

/// A component that was read from a file.
pub(super) fn inspection(found: &Inspection) -> String {
    let verdict = match &found.error {
        None => "it would be served".to_owned(),
        Some(error) => format!("it would not be served: {}", printable(error)),
    };
    let mut out = pairs(&[
        ("file", found.file.display().to_string()),
        ("name", found.name.clone()),
        ("version", found.digest.clone()),
        ("size", size(found.bytes as u64)),
        ("verdict", verdict),
    ]);
    out.push_str("\nimports\n");
    for import in &found.imports {
        let _ = writeln!(out, "  {}", printable(import));
    }
    if let Some(description) = &found.description {
        out.push_str(&describe(description));
    }
    out
}

/// A line of a log.
pub(super) fn log_line(line: &LogLine) -> String {
    let level = line.level.to_uppercase();
    let level = match (is_colourful(), line.level.as_str()) {
        (true, "error") => format!("\x1b[31m{level:5}\x1b[0m"),
        (true, "warn") => format!("\x1b[33m{level:5}\x1b[0m"),
        _ => format!("{level:5}"),
    };
    let mut out = format!("{} {level} {}", line.time, printable(&line.message));
    for (name, value) in &line.fields {
        let value = match value.as_str() {
            // The guest's own, which have their names already.
            Some(text) if name == "fields" => printable(text),
            Some(text) => format!("{name}={:?}", text),
            None => format!("{name}={value}"),
        };
        let _ = write!(out, "  {value}");
    }
    if let Some(id) = &line.request_id {
        let _ = write!(out, "  [{}]", printable(id));
    }
    out + "\n"
}

/// A line of a log that was not kept for later: without its time.
pub(super) fn plain_line(line: &Line) -> String {
    let shown = log_line(&LogLine {
        time: String::new(),
        level: line.level.to_owned(),
        message: line.message.clone(),
        request_id: None,
        fields: line.fields.clone(),
    });
    shown.trim_start().to_owned()
}

fn describe(description: &Description) -> String {
    let mut out = String::new();
    if !description.routes.is_empty() {
        out.push_str("\nroutes\n");
        let rows: Vec<_> = description.routes.iter().map(route).collect();
        let heads = ["METHOD", "PATH", "GUARDS", "LIMITS", ""];
        out.push_str(&indented(&table(&heads, &rows)));
    } else if description.door == "wasi-http" {
        out.push_str("\nroutes\n  any path under its name, behind the API key\n");
    }
    if !description.functions.is_empty() {
        out.push_str("\nfunctions\n");
        for function in &description.functions {
            let summary = function.summary.as_deref().unwrap_or_default();
            let line = format!("  {}  {}", printable(&function.name), printable(summary));
            let _ = writeln!(out, "{}", line.trim_end());
            for schedule in &function.schedules {
                let _ = writeln!(out, "    at {} (UTC)", printable(&schedule.cron));
            }
            for hook in &function.hooks {
                let _ = writeln!(out, "    {}", printable(&hook_line(hook)));
            }
            for event in &function.events {
                let _ = writeln!(out, "    on event {}", printable(event));
            }
        }
    }
    out.push_str("\ngrants\n");
    let facts = [
        ("asks for", &description.asked),
        ("gets", &description.granted),
    ];
    for (head, grants) in facts {
        let _ = writeln!(out, "  {head}");
        let lines = grant_lines(grants);
        if lines.is_empty() {
            out.push_str("    nothing\n");
        }
        for line in lines {
            let _ = writeln!(out, "    {}", printable(&line));
        }
    }
    for refused in &description.refused {
        let _ = writeln!(out, "  refused: {}", printable(refused));
    }
    out.push_str("\nbudget of a call\n");
    out.push_str(&indented(&pairs(&budget(&description.budget))));
    out
}

/// `before insert of orders, order 10, fail-open`.
fn hook_line(hook: &HookLine) -> String {
    let mut line = format!("{} {} of {}", hook.moment, hook.operation, hook.collection);
    if hook.order != 0 {
        let _ = write!(line, ", order {}", hook.order);
    }
    if hook.moment == Moment::Before {
        line.push_str(match hook.fail_open {
            true => ", fail-open",
            false => ", fail-closed",
        });
    }
    line
}

fn route(route: &RouteLine) -> Vec<String> {
    let join = |texts: &[String], none: &str| match texts {
        [] => none.to_owned(),
        texts => printable(&texts.join(", ")),
    };
    let body = route
        .body_limit
        .map(|bytes| format!("body {}", size(bytes)));
    let limits: Vec<String> = body.into_iter().chain(route.rate.clone()).collect();
    vec![
        join(&route.methods, "any"),
        printable(&route.path),
        join(&route.guards, "open"),
        join(&limits, "-"),
        printable(route.summary.as_deref().unwrap_or_default()),
    ]
}

/// One line an entry: `storage  {"collection":"notes","verbs":["read"]}` reads
/// badly, so names and lists are set plainly and only conditions stay JSON.
fn grant_lines(grants: &Value) -> Vec<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            items.join(", ")
        }
        other => other.to_string(),
    };
    let mut lines = Vec::new();
    for (kind, entries) in grants.as_object().into_iter().flatten() {
        if *entries == Value::Bool(true) {
            lines.push(kind.clone());
        }
        for entry in entries.as_array().into_iter().flatten() {
            let Value::Object(fields) = entry else {
                lines.push(format!("{kind} {}", plain(entry)));
                continue;
            };
            let mut parts = fields.iter().filter(|(_, value)| !value.is_null());
            let name = parts
                .next()
                .map_or_else(String::new, |(_, name)| plain(name));
            let rest = parts.map(|(key, value)| match key.as_str() {
                "verbs" => plain(value),
                _ => format!("{key} {}", plain(value)),
            });
            let rest: Vec<_> = rest.collect();
            let colon = if rest.is_empty() { "" } else { ": " };
            lines.push(format!("{kind} {name}{colon}{}", rest.join("; ")));
        }
    }
    lines
}

fn budget(budget: &BudgetView) -> Vec<(&'static str, String)> {
    vec![
        ("memory", size(budget.memory as u64)),
        ("cpu", format!("{} ms", budget.cpu_ms)),
        ("wall clock", format!("{} ms", budget.wall_ms)),
        (
            "host calls",
            format!("{}, {}", budget.host_calls, size(budget.host_call_bytes)),
        ),
        ("response", size(budget.response as u64)),
        ("log", size(budget.log as u64)),
        ("keys and values", size(budget.kv)),
        (
            "at once",
            format!("{}, and {} that wait", budget.concurrency, budget.queue),
        ),
        (
            "instances",
            match budget.reuse {
                0 | 1 => "fresh for each call".to_owned(),
                calls => format!("serve {calls} calls each"),
            },
        ),
    ]
}

fn state(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::Disabled => "disabled",
        State::Failed => "failed",
        State::Quarantined => "quarantined",
    }
}

/// As much of a digest as tells versions apart.
fn short(digest: Option<&str>) -> &str {
    digest.and_then(|digest| digest.get(..12)).unwrap_or("-")
}

fn size(bytes: u64) -> String {
    let mib = bytes as f64 / 1_048_576.0;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ if mib < 100.0 => format!("{mib:.1} MiB"),
        _ => format!("{mib:.0} MiB"),
    }
}

/// Columns as wide as their widest cell; the last is as long as it is.
pub(in crate::cli) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let cells = cells.map(|cell| cell.chars().count());
        let head = heads.get(column).map_or(0, |head| head.len());
        cells.chain([head]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut out = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let cells = row.iter().zip(&widths);
        let line = cells.fold(String::new(), |line, (cell, width)| {
            format!("{line}{cell:<width$}  ")
        });
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn pairs(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().fold(String::new(), |out, (name, value)| {
        format!("{out}{name:<width$}  {value}\n")
    })
}

fn indented(text: &str) -> String {
    text.lines()
        .fold(String::new(), |out, line| format!("{out}  {line}\n"))
}

/// What a component says of itself cannot move the cursor or start a new line.
pub(in crate::cli) fn printable(text: &str) -> String {
    let shown = |character: char| match character {
        '\t' => " ".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hook_is_one_line() {
        let hook = |moment: &str, order: i32| {
            let hook = json!({"moment": moment, "operation": "insert", "collection": "orders",
                "order": order, "fail_open": false});
            hook_line(&serde_json::from_value(hook).unwrap())
        };
        assert_eq!(
            hook("before", -5),
            "before insert of orders, order -5, fail-closed"
        );
        assert_eq!(hook("after", 0), "after insert of orders");
    }

    #[test]
    fn columns_fit_their_widest_cell() {
        let rows = [["a", "long cell", "x"], ["longer", "b", ""]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(
            table(&["NAME", "B", "C"], &rows),
            "NAME    B          C\na       long cell  x\nlonger  b\n"
        );
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        let check = |bytes, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1 KiB");
        check(3 << 19, "1.5 MiB");
        check(128 << 20, "128 MiB");
    }

    #[test]
    fn grants_read_as_sentences_and_conditions_stay_json() {
        let grants = json!({
            "storage": [
                { "collection": "notes", "verbs": ["read", "insert"], "filter": null },
                { "collection": "logs", "verbs": ["read"], "filter": { "a": 1 } },
            ],
            "functions": ["f"],
        });
        assert_eq!(
            grant_lines(&grants),
            [
                "storage notes: read, insert",
                "storage logs: read; filter {\"a\":1}",
                "functions f",
            ]
        );
    }

    #[test]
    fn a_component_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2J\nb\tc"), "a\\u{1b}[2J\\nb c");
    }
}
