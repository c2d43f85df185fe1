//! What operators are shown of a plugin: by the admin API as JSON, and by
//! `coglex plugin`, which reads that JSON into the same types.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use bson::DateTime;
use coglex_runtime::{Budget, Door, FunctionInfo, Guard, Plugin, Rate, RateScope, Route, Schema};
use coglex_services::grants::Grants;
use coglex_services::hooks::{Moment, Operation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Registry;
use super::deployments::Deployment;
use super::generation::Generation;
use super::retry::{Again, Failure};

/// How a plugin fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers; with `error` set, an older version than the file's does.
    Serving,
    /// The operator has disabled it.
    Disabled,
    /// Its file cannot be loaded, and nothing of it serves.
    Failed,
    /// It has crashed again and again while it was loaded, and is tried only now
    /// and then.
    Quarantined,
}

/// One plugin in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// How it fares.
    pub state: State,
    /// The first generation that has it as it is; nothing when it does not serve.
    pub generation: Option<u64>,
    /// SHA-256 of the component that serves, in hex.
    pub digest: Option<String>,
    /// Bytes of that component, or of the file when nothing serves.
    pub bytes: Option<u64>,
    /// When what serves was deployed, RFC 3339; nothing for a file that somebody
    /// put into the folder.
    pub deployed: Option<String>,
    /// How many routes it has.
    pub routes: usize,
    /// How many functions.
    pub functions: usize,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Those that ended in a trap.
    pub traps: u64,
    /// Why its file is not what serves.
    pub error: Option<String>,
}

/// Everything about one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// As in the list, but for the routes and functions.
    pub name: String,
    /// As in the list.
    pub state: State,
    /// As in the list.
    pub generation: Option<u64>,
    /// As in the list.
    pub digest: Option<String>,
    /// As in the list.
    pub bytes: Option<u64>,
    /// As in the list.
    pub deployed: Option<String>,
    /// When it was loaded, RFC 3339.
    pub loaded: Option<String>,
    /// What it is: absent when nothing serves.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Those that ended in a trap or a spent budget other than time.
    pub traps: u64,
    /// Those that spent their time.
    pub deadlines: u64,
    /// Calls that are under way.
    #[serde(default)]
    pub running: usize,
    /// What is wrong with its file.
    pub error: Option<LoadFailure>,
    /// Versions that are kept, the one deployed last at the end.
    pub versions: Vec<KeptVersion>,
}

/// What a component is and may do, under the configuration in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// How it answers HTTP: `records`, `wasi-http` or `none`.
    pub door: String,
    /// Its routes.
    pub routes: Vec<RouteLine>,
    /// Its functions.
    pub functions: Vec<FunctionLine>,
    /// What it asks for, as in its `coglex.toml`.
    pub asked: Value,
    /// What it has of that.
    pub granted: Value,
    /// What it asks for and does not have, one sentence each.
    pub refused: Vec<String>,
    /// What one call of it may cost.
    pub budget: BudgetView,
}

/// A route in listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLine {
    /// Methods; none means any.
    pub methods: Vec<String>,
    /// The pattern.
    pub path: String,
    /// What has to hold, in words.
    pub guards: Vec<String>,
    /// Bytes of the largest body, where that is less than the server's limit.
    pub body_limit: Option<u64>,
    /// How often it may be asked, in words.
    pub rate: Option<String>,
    /// One sentence of the author's.
    pub summary: Option<String>,
}

/// A function in listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionLine {
    /// Its name.
    pub name: String,
    /// One sentence of the author's.
    pub summary: Option<String>,
    /// JSON Schema of `args`.
    #[serde(default)]
    pub args: Option<Value>,
    /// JSON Schema of `kwargs`.
    #[serde(default)]
    pub kwargs: Option<Value>,
    /// JSON Schema of the result.
    #[serde(default)]
    pub result: Option<Value>,
    /// When it runs by itself.
    #[serde(default)]
    pub schedules: Vec<ScheduleLine>,
    /// The writes that it watches.
    #[serde(default)]
    pub hooks: Vec<HookLine>,
    /// Types of payment events that it is told of.
    #[serde(default)]
    pub events: Vec<String>,
}

/// A schedule in listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleLine {
    /// Minute, hour, day of the month, month, day of the week; in UTC.
    pub cron: String,
    /// A JSON array, as text.
    pub args: String,
    /// A JSON object, as text.
    pub kwargs: String,
}

/// A hook in listings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookLine {
    /// Before or after the write.
    pub moment: Moment,
    /// The kind of write.
    pub operation: Operation,
    /// Where.
    pub collection: String,
    /// Hooks before a write run by this, lowest first.
    pub order: i32,
    /// Whether the write goes on when the hook fails.
    pub fail_open: bool,
}

/// A budget in the units of `plugins.budgets`, bytes as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetView {
    /// Bytes of memory.
    pub memory: usize,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Wall-clock time in milliseconds.
    pub wall_ms: u64,
    /// Calls of host functions.
    pub host_calls: u64,
    /// Bytes of those.
    pub host_call_bytes: u64,
    /// Bytes of the response.
    pub response: usize,
    /// Bytes of log.
    pub log: usize,
    /// Bytes of its keys and values.
    #[serde(default)]
    pub kv: u64,
    /// Calls at once.
    pub concurrency: usize,
    /// Calls that may wait.
    pub queue: usize,
    /// Calls that one instance serves; with 0 and 1 each has a fresh one.
    pub reuse: u32,
}

/// What is wrong with a plugin's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// The reason.
    pub reason: String,
    /// Failures of this file in a row.
    pub times: u32,
    /// Milliseconds until it is tried again; nothing when that waits for a change.
    pub retry_in_ms: Option<u64>,
}

/// A version that can be rolled back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptVersion {
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// When it was deployed last, RFC 3339.
    pub deployed: String,
    /// Whether it is what serves.
    pub serving: bool,
}

impl Registry {
    /// Every plugin that this host knows, by name.
    pub fn list(&self) -> Vec<Summary> {
        let generation = self.current();
        let names = generation.names().into_iter();
        names.map(|name| self.summary(&generation, name)).collect()
    }

    /// Everything about one, or nothing if there is none of this name.
    pub fn status(&self, name: &str) -> Option<Status> {
        let generation = self.current();
        let deployment = self.deployment(name);
        let kept = deployment.as_ref().filter(|own| !own.removed);
        if !generation.names().contains(name) && kept.is_none() {
            return None;
        }
        let Summary {
            name,
            state,
            generation: since,
            digest,
            bytes,
            deployed,
            calls,
            traps,
            ..
        } = self.summary(&generation, name);
        let serving = generation.serving(&name);
        let counts = serving.map(|serving| serving.plugin.counts());
        let versions = kept.map_or(&[][..], |kept| &kept.versions).iter();
        Some(Status {
            loaded: serving.map(|serving| time(serving.loaded)),
            description: serving.map(|serving| Description::of(&serving.plugin)),
            deadlines: counts.map_or(0, |counts| counts.deadlines),
            running: counts.map_or(0, |counts| counts.running),
            error: generation.failure(&name).map(LoadFailure::of),
            versions: versions
                .map(|version| KeptVersion {
                    digest: version.digest.clone(),
                    bytes: version.bytes,
                    deployed: time(version.deployed),
                    serving: digest.as_ref() == Some(&version.digest),
                })
                .collect(),
            name,
            state,
            generation: since,
            digest,
            bytes,
            deployed,
            calls,
            traps,
        })
    }

    fn summary(&self, generation: &Generation, name: &str) -> Summary {
        let serving = generation.serving(name);
        let plugin = serving.map(|serving| &serving.plugin);
        let digest = plugin.map(Plugin::digest);
        let failure = generation.failure(name);
        let state = match (serving, failure) {
            _ if generation.is_disabled(name) => State::Disabled,
            (Some(_), _) => State::Serving,
            (None, Some(failure)) if failure.is_quarantined() => State::Quarantined,
            (None, _) => State::Failed,
        };
        let deployed = |deployment: Deployment| {
            let of = |version: &&super::Version| Some(version.digest.as_str()) == digest;
            let version = deployment.versions.iter().find(of);
            version.map(|version| time(version.deployed))
        };
        let counts = plugin.map(Plugin::counts);
        Summary {
            name: name.to_owned(),
            state,
            generation: serving.map(|serving| serving.since),
            digest: digest.map(str::to_owned),
            bytes: serving
                .map(|serving| serving.bytes)
                .or_else(|| generation.file_bytes(name)),
            deployed: self.deployment(name).and_then(deployed),
            routes: plugin.map_or(0, |plugin| plugin.routes().len()),
            functions: plugin.map_or(0, |plugin| plugin.functions().len()),
            calls: counts.map_or(0, |counts| counts.calls),
            traps: counts.map_or(0, |counts| counts.traps),
            error: failure.map(|failure| failure.why.clone()),
        }
    }
}

impl Description {
    /// Of a component that was loaded.
    pub fn of(plugin: &Plugin) -> Self {
        let door = match plugin.door() {
            Door::None => "none",
            Door::Records => "records",
            Door::WasiHttp => "wasi-http",
        };
        let functions = plugin.functions().iter().map(FunctionLine::of);
        Self {
            door: door.to_owned(),
            routes: plugin.routes().iter().map(RouteLine::of).collect(),
            functions: functions.collect(),
            asked: shown(plugin.asked()),
            granted: shown(plugin.granted()),
            refused: refused(&shown(plugin.asked()), &shown(plugin.granted())),
            budget: BudgetView::of(plugin.budget()),
        }
    }
}

impl RouteLine {
    fn of(route: &Route) -> Self {
        let guards = route.guards.iter().map(|guard| match guard {
            Guard::ApiKey => "API key".to_owned(),
            Guard::Authenticated(realm) => format!("signed in to {realm}"),
            Guard::Role { realm, role } => format!("{role} of {realm}"),
        });
        Self {
            methods: route.methods.iter().map(ToString::to_string).collect(),
            path: route.path.clone(),
            guards: guards.collect(),
            body_limit: route.body_limit,
            rate: route.terms.rate.map(rate),
            summary: route.summary.clone(),
        }
    }
}

impl FunctionLine {
    fn of(function: &FunctionInfo) -> Self {
        let source = |schema: &Option<Schema>| schema.as_ref().map(|own| own.source().clone());
        let schedules = function.schedules.iter().map(|schedule| ScheduleLine {
            cron: schedule.cron.clone(),
            args: schedule.args.clone(),
            kwargs: schedule.kwargs.clone(),
        });
        let hooks = function.hooks.iter().map(|hook| HookLine {
            moment: hook.moment,
            operation: hook.operation,
            collection: hook.collection.clone(),
            order: hook.order,
            fail_open: hook.fail_open,
        });
        Self {
            name: function.name.clone(),
            summary: function.summary.clone(),
            args: source(&function.args),
            kwargs: source(&function.kwargs),
            result: source(&function.result),
            schedules: schedules.collect(),
            hooks: hooks.collect(),
            events: function.events.clone(),
        }
    }
}

fn rate(rate: Rate) -> String {
    let whose = match rate.per {
        RateScope::Caller => "of each caller",
        RateScope::Address => "from each address",
        RateScope::Everyone => "of all together",
    };
    format!("{} in {:?} {whose}", rate.requests, rate.period)
}

impl BudgetView {
    fn of(budget: &Budget) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            memory: budget.memory_bytes,
            cpu_ms: ms(budget.cpu),
            wall_ms: ms(budget.wall),
            host_calls: budget.host_calls,
            host_call_bytes: budget.host_call_bytes,
            response: budget.response_bytes,
            log: budget.log_bytes,
            kv: budget.kv_bytes,
            concurrency: budget.concurrency,
            queue: budget.queue,
            reuse: budget.reuse,
        }
    }
}

impl LoadFailure {
    fn of(failure: &Failure) -> Self {
        let retry_in_ms = match failure.again {
            Again::At(time) => {
                let wait = time.saturating_duration_since(Instant::now());
                u64::try_from(wait.as_millis()).ok()
            }
            Again::Soon => Some(0),
            Again::Never | Again::WithOthers => None,
        };
        Self {
            reason: failure.why.clone(),
            times: failure.times,
            retry_in_ms,
        }
    }
}

/// Grants as JSON, without the kinds that are empty.
pub fn shown(grants: &Grants) -> Value {
    let mut value = serde_json::to_value(grants).unwrap_or_default();
    if let Value::Object(kinds) = &mut value {
        kinds.retain(|_, entries| match entries {
            Value::Array(list) => !list.is_empty(),
            Value::Bool(granted) => *granted,
            _ => true,
        });
    }
    value
}

/// What is asked for and not granted, as `storage notes: insert`. By the names
/// and verbs of the entries: where an entry is granted with a narrower condition
/// it counts as granted, and both are shown beside this.
pub fn refused(asked: &Value, granted: &Value) -> Vec<String> {
    let has = statements(granted);
    let covered = |statement: &Statement| {
        let anywhere = Statement {
            name: "*".to_owned(),
            ..statement.clone()
        };
        has.contains(statement) || has.contains(&anywhere)
    };
    let asked = statements(asked).into_iter();
    let refused = asked.filter(|statement| !covered(statement));
    refused.map(|statement| statement.to_string()).collect()
}

/// One thing that may be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    /// `storage`, `egress`, …
    kind: String,
    /// A collection, an origin, a function.
    name: String,
    verb: Option<String>,
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        match &self.verb {
            Some(verb) => write!(f, ": {verb}"),
            None => Ok(()),
        }
    }
}

fn statements(grants: &Value) -> BTreeSet<Statement> {
    let mut found = BTreeSet::new();
    for (kind, entries) in grants.as_object().into_iter().flatten() {
        if *entries == Value::Bool(true) {
            found.insert(Statement {
                kind: kind.clone(),
                name: String::new(),
                verb: None,
            });
        }
        for entry in entries.as_array().into_iter().flatten() {
            let named = |name: &Value, verb: Option<&Value>| Statement {
                kind: kind.clone(),
                name: text(name),
                verb: verb.map(text),
            };
            let name = match entry {
                Value::Object(fields) => fields.values().next().unwrap_or(&Value::Null),
                plain => plain,
            };
            match entry.get("verbs").and_then(Value::as_array) {
                Some(verbs) => found.extend(verbs.iter().map(|verb| named(name, Some(verb)))),
                None => {
                    found.insert(named(name, None));
                }
            }
        }
    }
    found
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// RFC 3339, in UTC.
fn time(time: impl Into<Time>) -> String {
    let Time(time) = time.into();
    time.try_to_rfc3339_string().unwrap_or_default()
}

struct Time(DateTime);

impl From<DateTime> for Time {
    fn from(time: DateTime) -> Self {
        Self(time)
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        Self(time.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_refused_is_told_by_kind_name_and_verb() {
        let asked = json!({
            "storage": [
                { "collection": "notes", "verbs": ["read", "insert"] },
                { "collection": "logs", "verbs": ["read"] },
            ],
            "egress": [{ "origin": "https://a.example" }, { "origin": "https://b.example" }],
            "functions": ["f", "g"],
            "kv": true,
        });
        let granted = json!({
            "storage": [{ "collection": "*", "verbs": ["read"] }],
            "egress": [{ "origin": "https://a.example" }],
            "functions": ["f"],
        });
        assert_eq!(
            refused(&asked, &granted),
            [
                "egress https://b.example",
                "functions g",
                "kv",
                "storage notes: insert"
            ]
        );
        assert!(refused(&asked, &asked).is_empty());
        assert!(refused(&json!({}), &granted).is_empty());
        assert_eq!(refused(&granted, &json!({})).len(), 3);
    }

    #[test]
    fn grants_are_shown_without_their_empty_kinds() {
        assert_eq!(shown(&Grants::default()), json!({}));
    }
}
