//! What functions declare beside their names: schedules, hooks, schemas. And the
//! write that a hook is called with.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bindings::function::exports::coglex::function::declarations as wit;

/// When a function runs by itself: once for all servers of one store, in UTC.
///
/// ```
/// use coglex_sdk::{Schedule, prelude::*};
///
/// let nightly = Schedule::new("0 3 * * *").kwargs(json!({"days": 30}));
/// ```
#[derive(Debug, Clone)]
pub struct Schedule(wit::Schedule);

impl Schedule {
    /// By a cron expression: minute, hour, day of the month, month, day of the
    /// week. The server refuses a component with one that is none.
    pub fn new(cron: impl Into<String>) -> Self {
        Self(wit::Schedule {
            cron: cron.into(),
            args: None,
            kwargs: None,
        })
    }

    /// The arguments by position, a JSON array.
    #[must_use]
    pub fn args(mut self, args: Value) -> Self {
        self.0.args = Some(args.to_string());
        self
    }

    /// The arguments by name, a JSON object.
    #[must_use]
    pub fn kwargs(mut self, kwargs: Value) -> Self {
        self.0.kwargs = Some(kwargs.to_string());
        self
    }
}

/// A kind of write that a hook is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Inserts, sign-ups, upserts.
    Insert,
    /// Updates, replacements, upserts, changes of accounts.
    Update,
    /// Deletions.
    Delete,
}

/// Has a function called when documents of a collection are written. The plugin's
/// `coglex.toml` has to ask for it:
/// `storage = [{ collection = "orders", verbs = ["hook"] }]`.
///
/// The function's one parameter is a [`Write`].
#[derive(Debug, Clone)]
pub struct Hook(wit::Hook);

impl Hook {
    /// Before the write: the function may change or refuse it.
    pub fn before(operation: Operation, collection: impl Into<String>) -> Self {
        Self::of(wit::Moment::Before, operation, collection.into())
    }

    /// After the write has succeeded: the function is run as a job.
    pub fn after(operation: Operation, collection: impl Into<String>) -> Self {
        Self::of(wit::Moment::After, operation, collection.into())
    }

    /// Hooks before a write run by this number, lowest first; 0 unless said.
    #[must_use]
    pub fn order(mut self, order: i32) -> Self {
        self.0.order = order;
        self
    }

    /// Lets the write go on when the function traps, takes too long or cannot
    /// run; else it is refused.
    #[must_use]
    pub fn fail_open(mut self) -> Self {
        self.0.on_failure = wit::OnFailure::Proceed;
        self
    }

    fn of(moment: wit::Moment, operation: Operation, collection: String) -> Self {
        Self(wit::Hook {
            moment,
            operation: match operation {
                Operation::Insert => wit::Operation::Insert,
                Operation::Update => wit::Operation::Update,
                Operation::Delete => wit::Operation::Delete,
            },
            collection,
            order: 0,
            on_failure: wit::OnFailure::Refuse,
        })
    }
}

/// What is declared of one function.
#[derive(Debug, Default)]
pub struct Declared {
    args: Option<Value>,
    kwargs: Option<Value>,
    result: Option<Value>,
    schedules: Vec<Schedule>,
    hooks: Vec<Hook>,
    events: Vec<String>,
}

impl Declared {
    /// Adds a schedule.
    pub fn schedule(&mut self, schedule: Schedule) {
        self.schedules.push(schedule);
    }

    /// Adds a hook.
    pub fn hook(&mut self, hook: Hook) {
        self.hooks.push(hook);
    }

    /// Adds a type of payment events that the function is told of.
    pub fn on_event(&mut self, event: impl Into<String>) {
        self.events.push(event.into());
    }

    /// What was added by [`Declared::on_event`].
    pub(crate) fn into_events(self) -> Vec<String> {
        self.events
    }

    /// The JSON Schema of `args`, which the server checks before each call.
    pub fn args(&mut self, schema: Value) {
        self.args = Some(schema);
    }

    /// The JSON Schema of `kwargs`, which the server checks before each call.
    pub fn kwargs(&mut self, schema: Value) {
        self.kwargs = Some(schema);
    }

    /// The JSON Schema of the result, for documentation.
    pub fn result(&mut self, schema: Value) {
        self.result = Some(schema);
    }

    /// Nothing where nothing was declared.
    pub(crate) fn into_wit(self, name: Cow<'static, str>) -> Option<wit::Declaration> {
        let text = |schema: Option<Value>| schema.map(|schema| schema.to_string());
        let declaration = wit::Declaration {
            name: name.into_owned(),
            args_schema: text(self.args),
            kwargs_schema: text(self.kwargs),
            result_schema: text(self.result),
            schedules: self.schedules.into_iter().map(|own| own.0).collect(),
            hooks: self.hooks.into_iter().map(|own| own.0).collect(),
        };
        let schemas = [
            &declaration.args_schema,
            &declaration.kwargs_schema,
            &declaration.result_schema,
        ];
        let something = schemas.iter().any(|schema| schema.is_some())
            || !declaration.schedules.is_empty()
            || !declaration.hooks.is_empty();
        something.then_some(declaration)
    }
}

/// A write, as a hook is told of it. Documents, filters and changes are in
/// Extended JSON v2, as in [`storage`](crate::storage).
///
/// A hook *before* the write may answer with the write, changed: its
/// [`documents`](Self::documents), [`change`](Self::change) or
/// [`replacement`](Self::replacement) then take the place of what was to be
/// written; nothing else of it can be changed. A hook that answers `()` lets the
/// write be, and one that fails refuses it:
///
/// ```
/// use coglex_sdk::prelude::*;
///
/// coglex_sdk::functions! {
///     /// Orders have a total, and begin as new ones.
///     #[before(insert, "orders")]
///     fn check_order(write: Write) -> Result<Write> {
///         let mut write = write;
///         for order in &mut write.documents {
///             if order["total"].as_f64().is_none() {
///                 return Err(Error::failure("no_total", "an order needs a total"));
///             }
///             order["state"] = json!("new");
///         }
///         Ok(write)
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Before the write or after it.
    pub moment: Moment,
    /// What is done.
    pub operation: WriteKind,
    /// Where.
    pub collection: String,
    /// Who writes.
    pub caller: Writer,
    /// How many hooks are around: 1 for a write of a client.
    pub depth: u32,
    /// Of an insert: the documents with their `_id`s. A hook before it may change
    /// them, but neither their number nor their `_id`s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Value>,
    /// Of all but inserts: which documents are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
    /// Of an update or upsert: the operators, such as `{"$set": …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Value>,
    /// Of a replacement: the document that takes the place of the one found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Value>,
    /// Of an update or upsert: what `$[name]` in its paths means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub array_filters: Vec<Value>,
    /// Whether all matches are meant rather than the first.
    #[serde(default)]
    pub many: bool,
    /// Of a replacement: whether it is inserted when there is nothing to replace.
    #[serde(default)]
    pub upsert: bool,
    /// After a write: what came of it. Absent when the server ended before it knew;
    /// then the write may have happened, or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What a later server says beyond this.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Before the write.
    Before,
    /// After it.
    After,
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteKind {
    /// Adds documents.
    Insert,
    /// Changes documents in place.
    Update,
    /// Changes documents in place, or adds one where there is none.
    Upsert,
    /// Puts a document in another's place.
    Replace,
    /// Removes documents.
    Delete,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Writer {
    /// A client with the API key, or with a scoped one.
    ApiKey,
    /// A signed-in user without an API key, under the collection's access rules.
    User {
        /// Who: one.
        users: Vec<WriterUser>,
    },
    /// A plugin.
    Plugin {
        /// Its name.
        plugin: String,
        /// The users for whom it acts, as far as its grants depend on them.
        #[serde(default)]
        users: Vec<WriterUser>,
    },
}

/// A user for whom a plugin writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriterUser {
    /// The users' collection.
    pub collection: String,
    /// The user's `_id`, in Extended JSON.
    pub id: Value,
}

/// What came of a write.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Of an insert: the `_id`s of these documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Value>,
    /// Of an update: how many documents matched.
    pub matched: u64,
    /// Of an update: how many were changed.
    pub modified: u64,
    /// Of an update: the `_id` of the document that was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upserted_id: Option<Value>,
    /// Of a deletion: how many documents are gone.
    pub deleted: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_reads_as_the_server_tells_it_and_goes_back_whole() {
        let told = json!({
            "moment": "before", "operation": "insert", "collection": "orders",
            "caller": {"kind": "api_key"}, "depth": 1,
            "documents": [{"_id": {"$oid": "64b000000000000000000000"}, "total": 3}],
        });
        let mut write: Write = serde_json::from_value(told).unwrap();
        assert_eq!(write.caller, Writer::ApiKey);
        write.documents[0]["total"] = json!(4);
        let answer = serde_json::to_value(&write).unwrap();
        assert_eq!(answer["documents"][0]["total"], 4);
        assert!(answer.get("filter").is_none());

        let told = json!({
            "moment": "before", "operation": "delete", "collection": "orders", "depth": 1,
            "caller": {"kind": "user", "users": [{"collection": "users", "id": "u1"}]}, "filter": {},
        });
        let write: Write = serde_json::from_value(told).unwrap();
        assert!(matches!(write.caller, Writer::User { users } if users[0].id == json!("u1")));

        let told = json!({
            "moment": "after", "operation": "upsert", "collection": "orders", "depth": 2,
            "caller": {"kind": "plugin", "plugin": "shop", "users": [{"collection": "users", "id": "u1"}]},
            "filter": {"_id": "a"}, "change": {"$set": {"n": 1}}, "array_filters": [], "many": false,
            "outcome": {"matched": 0, "modified": 0, "upserted_id": "a"}, "later": 1,
        });
        let write: Write = serde_json::from_value(told).unwrap();
        assert_eq!(write.outcome.unwrap().upserted_id, Some(json!("a")));
        assert_eq!(write.more["later"], 1);
    }

    #[test]
    fn a_number_that_a_hook_hands_back_is_the_same_to_the_last_digit() {
        for text in [
            "0.30000000000000004",
            "5e-324",
            "1.7976931348623157e308",
            "77.95483970968157",
            "31.245270191439438",
            "8.988465674311579e307",
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(value.as_f64(), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not_declared_is_not_listed() {
        assert!(Declared::default().into_wit("a".into()).is_none());
        let mut declared = Declared::default();
        declared.hook(
            Hook::before(Operation::Delete, "orders")
                .order(3)
                .fail_open(),
        );
        declared.schedule(Schedule::new("0 3 * * *").args(json!([1])));
        declared.kwargs(json!({"type": "object"}));
        let wit = declared.into_wit("a".into()).unwrap();
        assert_eq!(wit.hooks[0].order, 3);
        assert_eq!(wit.hooks[0].on_failure, wit::OnFailure::Proceed);
        assert_eq!(wit.schedules[0].args.as_deref(), Some("[1]"));
        assert_eq!(wit.kwargs_schema.as_deref(), Some(r#"{"type":"object"}"#));
    }
}
