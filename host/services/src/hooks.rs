//! Write hooks: functions of plugins that are called when documents of a
//! collection are written.
//!
//! [`crate::Documents`] and [`crate::Accounts`] ask here for each write, so that a
//! hook sees what comes through either door. Hooks *before* a write are called one
//! after the other and may change or refuse it (`before`); hooks *after* it are
//! jobs, held back while it is written so that none is forgotten (`after`). What
//! they are told is an `event`, what they answer is read and checked by `answer`.
//!
//! It does not know plugins: whoever keeps them brings a [`HookTable`]. Restoring
//! and importing, documents that expire, and what the server writes of its own
//! accord (sessions, jobs, keys and values) pass by it.

mod after;
mod answer;
mod before;
mod event;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::caller::{Caller, Origin};
use crate::error::{Error, Result};
use crate::jobs::Jobs;

pub(crate) use after::{Done, Held};
pub(crate) use event::Write;

/// Hooks around a write, at most: a hook may write, and that may have hooks.
pub const MAX_DEPTH: u8 = 4;

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// An insert or a sign-up; an upsert may be one.
    Insert,
    /// An update, a replacement, or a change of an account; an upsert may be one.
    Update,
    /// A deletion.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        })
    }
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Before the write, which it may change or refuse.
    Before,
    /// After the write, as a job.
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Moment::Before => "before",
            Moment::After => "after",
        })
    }
}

/// Writes by what they may be.
pub(crate) const INSERT: &[Operation] = &[Operation::Insert];
pub(crate) const UPDATE: &[Operation] = &[Operation::Update];
pub(crate) const UPSERT: &[Operation] = &[Operation::Insert, Operation::Update];
pub(crate) const DELETE: &[Operation] = &[Operation::Delete];

/// Finds the hooks on a collection.
pub trait HookTable: Send + Sync + 'static {
    /// Those that there are now; nothing where nobody watches. Asked for each
    /// write, so it takes no lock.
    fn of(&self, collection: &str) -> Option<Arc<CollectionHooks>>;
}

/// Calls a function as a hook.
#[async_trait]
pub trait CallHook: Send + Sync + 'static {
    /// Calls it; answers with its JSON.
    async fn call(&self, call: HookCall) -> Result<String, HookFailure>;
}

/// The call of a hook.
#[derive(Debug, Clone)]
pub struct HookCall {
    /// The arguments, a JSON array of one: the write.
    pub args: String,
    /// Hooks around what the function does: 1 for a hook on a client's write.
    pub depth: u8,
    /// Who waits for it.
    pub waiter: Waiter,
    /// The request that this is a part of, where the caller knows it.
    pub request_id: Option<Arc<str>>,
}

/// Who waits for a hook, with all that it holds: what a hook itself may wait for
/// depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A client.
    Client,
    /// A guest that a client waits for.
    Guest,
    /// A guest that another guest waits for.
    NestedGuest,
}

/// Why a hook has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookFailure {
    /// It refuses the write.
    Refused {
        /// Stable, snake_case.
        code: String,
        /// A sentence for the client.
        message: String,
    },
    /// It could not say.
    Failed(HookFault),
}

/// In which way a hook has failed. The cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookFault {
    /// It trapped, or answered with what cannot be used.
    Broken,
    /// It took too long.
    Deadline,
    /// It cannot be called now; with when that is worth another try.
    Unavailable(Duration),
}

/// A hook as a plugin has declared it.
#[derive(Clone)]
pub struct Hook {
    /// The plugin's name.
    pub plugin: String,
    /// The function's name.
    pub function: String,
    /// Before or after the write.
    pub moment: Moment,
    /// Which writes.
    pub operation: Operation,
    /// Hooks before a write run by this, lowest first.
    pub order: i32,
    /// Whether the write goes on when the hook fails.
    pub fail_open: bool,
    /// The function.
    pub call: Arc<dyn CallHook>,
}

/// The hooks on one collection, in the order in which they are called.
pub struct CollectionHooks {
    insert: Vec<Hook>,
    update: Vec<Hook>,
    /// Those of both: an upsert may be either.
    upsert: Vec<Hook>,
    delete: Vec<Hook>,
    after: Vec<AfterHook>,
}

/// A function that is called after writes, and which.
#[derive(Debug, Clone)]
struct AfterHook {
    plugin: String,
    function: String,
    operations: Vec<Operation>,
}

impl CollectionHooks {
    /// Puts hooks in order: by their own number, then by plugin and function.
    pub fn new(mut hooks: Vec<Hook>) -> Self {
        hooks.sort_by(|one, other| {
            let key = |hook: &Hook| (hook.order, hook.plugin.clone(), hook.function.clone());
            key(one).cmp(&key(other))
        });
        let before = |operations: &[Operation]| {
            let mut found: Vec<Hook> = Vec::new();
            for hook in &hooks {
                if hook.moment != Moment::Before || !operations.contains(&hook.operation) {
                    continue;
                }
                // A function that watches both is called once for an upsert: the
                // first time, and as strictly as either says.
                let there = found
                    .iter_mut()
                    .find(|other| other.function == hook.function);
                match there {
                    Some(other) => other.fail_open &= hook.fail_open,
                    None => found.push(hook.clone()),
                }
            }
            found
        };
        let mut after: BTreeMap<(&str, &str), Vec<Operation>> = BTreeMap::new();
        for hook in hooks.iter().filter(|hook| hook.moment == Moment::After) {
            after
                .entry((&hook.plugin, &hook.function))
                .or_default()
                .push(hook.operation);
        }
        let after = after
            .into_iter()
            .map(|((plugin, function), operations)| AfterHook {
                plugin: plugin.to_owned(),
                function: function.to_owned(),
                operations,
            });
        Self {
            insert: before(&[Operation::Insert]),
            update: before(&[Operation::Update]),
            upsert: before(&[Operation::Insert, Operation::Update]),
            delete: before(&[Operation::Delete]),
            after: after.collect(),
        }
    }

    /// Those to be called before a write that may be any of these.
    fn before(&self, operations: &[Operation]) -> &[Hook] {
        match operations {
            [Operation::Insert] => &self.insert,
            [Operation::Update] => &self.update,
            [Operation::Delete] => &self.delete,
            _ => &self.upsert,
        }
    }

    fn after(&self, operations: &[Operation]) -> impl Iterator<Item = &AfterHook> {
        let wanted = |hook: &&AfterHook| hook.operations.iter().any(|own| operations.contains(own));
        self.after.iter().filter(wanted)
    }
}

/// What services know of hooks: nothing, until somebody who keeps plugins says
/// where they are. Cheap to clone.
#[derive(Clone, Default)]
pub struct Hooks(Arc<OnceLock<Known>>);

struct Known {
    table: Arc<dyn HookTable>,
    jobs: Jobs,
}

impl Hooks {
    /// Says where hooks are found, and by what those after a write are run; the
    /// first time counts.
    pub fn set(&self, table: Arc<dyn HookTable>, jobs: Jobs) {
        let _ = self.0.set(Known { table, jobs });
    }

    /// Those that watch a write of the caller; nothing where there are none. A
    /// write within too many hooks is refused.
    pub(crate) fn watch(
        &self,
        caller: &Caller,
        collection: &str,
        operations: &'static [Operation],
    ) -> Result<Option<Watch>> {
        let Some(known) = self.0.get() else {
            return Ok(None);
        };
        let Some(hooks) = known.table.of(collection) else {
            return Ok(None);
        };
        if hooks.before(operations).is_empty() && hooks.after(operations).next().is_none() {
            return Ok(None);
        }
        let (origin, waiter) = match caller {
            Caller::ApiKey | Caller::Key(_) | Caller::User(_) => {
                (Origin::default(), Waiter::Client)
            }
            Caller::Plugin(plugin) => (
                plugin.origin.clone(),
                match plugin.origin.nested {
                    true => Waiter::NestedGuest,
                    false => Waiter::Guest,
                },
            ),
        };
        let depth = origin.hook_depth;
        if depth >= MAX_DEPTH {
            return Err(Error::Forbidden(format!(
                "`{collection}` has hooks, and this write is within {depth} already: a hook may cause a write that has hooks, but only {MAX_DEPTH} deep"
            )));
        }
        Ok(Some(Watch {
            hooks,
            jobs: known.jobs.clone(),
            operations,
            collection: collection.to_owned(),
            caller: event::caller(caller)?,
            depth: depth + 1,
            waiter,
            request_id: origin.request_id,
        }))
    }
}

/// The hooks on one write.
pub(crate) struct Watch {
    hooks: Arc<CollectionHooks>,
    jobs: Jobs,
    operations: &'static [Operation],
    collection: String,
    /// Who writes, as JSON.
    caller: String,
    /// Of the hooks.
    depth: u8,
    waiter: Waiter,
    request_id: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    #[async_trait]
    impl CallHook for Silent {
        async fn call(&self, _: HookCall) -> Result<String, HookFailure> {
            Ok("null".to_owned())
        }
    }

    fn hook(name: &str, moment: Moment, operation: Operation, order: i32) -> Hook {
        let (plugin, function) = name.split_once('.').unwrap();
        Hook {
            plugin: plugin.to_owned(),
            function: function.to_owned(),
            moment,
            operation,
            order,
            fail_open: true,
            call: Arc::new(Silent),
        }
    }

    #[test]
    fn hooks_are_called_by_number_then_plugin_then_function() {
        let (before, after) = (Moment::Before, Moment::After);
        let (insert, update) = (Operation::Insert, Operation::Update);
        let strict = Hook {
            fail_open: false,
            ..hook("a.both", before, update, 9)
        };
        let hooks = CollectionHooks::new(vec![
            hook("b.a", before, insert, 0),
            hook("a.z", before, insert, 0),
            hook("a.y", before, insert, 0),
            hook("z.first", before, insert, -1),
            hook("a.both", before, insert, 1),
            strict,
            hook("a.later", after, insert, 0),
            hook("a.later", after, update, 0),
        ]);
        let names = |operations: &[Operation]| -> Vec<String> {
            let hooks = hooks.before(operations).iter();
            hooks
                .map(|hook| format!("{}.{}", hook.plugin, hook.function))
                .collect()
        };
        assert_eq!(names(INSERT), ["z.first", "a.y", "a.z", "b.a", "a.both"]);
        assert_eq!(names(UPDATE), ["a.both"]);
        // Once, and as strictly as either says.
        assert_eq!(names(UPSERT), ["z.first", "a.y", "a.z", "b.a", "a.both"]);
        assert!(!hooks.before(UPSERT)[4].fail_open && hooks.before(INSERT)[4].fail_open);
        assert!(names(DELETE).is_empty());
        assert_eq!(hooks.after(UPSERT).count(), 1);
        assert_eq!(hooks.after(DELETE).count(), 0);
    }
}
