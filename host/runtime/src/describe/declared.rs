//! What a component declares of its functions beyond their names: schemas of
//! what they take, schedules, hooks. Checked here; who keeps plugins acts on it.

use std::str::FromStr as _;

use coglex_services::grants::Grants;
use coglex_services::hooks::{Moment, Operation};
use coglex_services::schedule::Cron;
use serde::de::IgnoredAny;

use super::{FunctionInfo, MAX_SCHEMAS, declares, is_collection, shown};
use crate::bindings::function::declarations as wit;
use crate::error::LoadError;
use crate::schema::Schema;

const MAX_SCHEDULES: usize = 16;
const MAX_HOOKS: usize = 64;
/// Of all functions of a component together.
const MAX_ALL_SCHEDULES: usize = 256;
const MAX_ALL_HOOKS: usize = 256;
/// Bytes of the arguments of one schedule.
const MAX_ARGUMENTS: usize = 64 * 1024;

/// When a function runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What [`Cron`] reads.
    pub cron: String,
    /// A JSON array.
    pub args: String,
    /// A JSON object.
    pub kwargs: String,
}

/// A write that a function watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Before or after it.
    pub moment: Moment,
    /// Its kind.
    pub operation: Operation,
    /// Where; granted.
    pub collection: String,
    /// Hooks before a write run by this, lowest first.
    pub order: i32,
    /// Whether the write goes on when the hook fails.
    pub fail_open: bool,
}

/// Adds to each function what was declared of it. Compiles schemas, which takes
/// a while.
pub(crate) fn add(
    mut functions: Vec<FunctionInfo>,
    declarations: Vec<wit::Declaration>,
    granted: &Grants,
) -> Result<Vec<FunctionInfo>, LoadError> {
    let count = |of: fn(&wit::Declaration) -> usize| declarations.iter().map(of).sum::<usize>();
    if count(|one| one.schedules.len()) > MAX_ALL_SCHEDULES {
        return Err(declares(format!(
            "more than {MAX_ALL_SCHEDULES} schedules in all"
        )));
    }
    if count(|one| one.hooks.len()) > MAX_ALL_HOOKS {
        return Err(declares(format!("more than {MAX_ALL_HOOKS} hooks in all")));
    }
    let schemas = count(|one| {
        let texts = [&one.args_schema, &one.kwargs_schema, &one.result_schema];
        texts.into_iter().flatten().map(String::len).sum()
    });
    if schemas > MAX_SCHEMAS {
        return Err(declares(format!(
            "schemas of more than {MAX_SCHEMAS} bytes in all"
        )));
    }
    let mut declared = std::collections::BTreeSet::new();
    for declaration in declarations {
        let name = declaration.name.clone();
        let function = functions.iter_mut().find(|function| function.name == name);
        let Some(function) = function else {
            return Err(declares(format!(
                "something about the function {:?}, which it does not have",
                shown(&name)
            )));
        };
        if !declared.insert(name) {
            return Err(declares(format!("the function {} twice", function.name)));
        }
        one(function, declaration, granted)?;
    }
    Ok(functions)
}

fn one(
    function: &mut FunctionInfo,
    declaration: wit::Declaration,
    granted: &Grants,
) -> Result<(), LoadError> {
    let name = function.name.clone();
    let at = |what: String| declares(format!("the function {name} with {what}"));
    let schema = |what: &str, text: Option<String>| {
        text.map(|text| Schema::compile(&text))
            .transpose()
            .map_err(|why| at(format!("a schema of its {what} {why}")))
    };
    function.args = schema("args", declaration.args_schema)?;
    function.kwargs = schema("kwargs", declaration.kwargs_schema)?;
    function.result = schema("result", declaration.result_schema)?;
    if declaration.schedules.len() > MAX_SCHEDULES {
        return Err(at(format!("more than {MAX_SCHEDULES} schedules")));
    }
    let schedules = declaration.schedules.into_iter();
    function.schedules = schedules
        .map(|wanted| schedule(wanted, function).map_err(&at))
        .collect::<Result<_, _>>()?;
    if declaration.hooks.len() > MAX_HOOKS {
        return Err(at(format!("more than {MAX_HOOKS} hooks")));
    }
    for wanted in declaration.hooks {
        let hook = hook(wanted).map_err(&at)?;
        if !granted.allows_hook(&hook.collection) {
            return Err(LoadError::HookNotGranted {
                function: name.clone(),
                collection: hook.collection,
            });
        }
        let same = |other: &Hook| {
            (other.moment, other.operation) == (hook.moment, hook.operation)
                && other.collection == hook.collection
        };
        if function.hooks.iter().any(same) {
            return Err(at(format!(
                "two hooks {} {} of {:?}",
                hook.moment, hook.operation, hook.collection
            )));
        }
        function.hooks.push(hook);
    }
    Ok(())
}

fn schedule(wanted: wit::Schedule, function: &FunctionInfo) -> Result<Schedule, String> {
    Cron::parse(&wanted.cron).map_err(|why| format!("a schedule that cannot be: {why}"))?;
    let args = wanted.args.unwrap_or_else(|| "[]".to_owned());
    let kwargs = wanted.kwargs.unwrap_or_else(|| "{}".to_owned());
    let cron = wanted.cron;
    if args.len().saturating_add(kwargs.len()) > MAX_ARGUMENTS {
        return Err(format!(
            "the schedule {cron:?}, whose arguments have more than {MAX_ARGUMENTS} bytes"
        ));
    }
    let parts = [
        ("args", &args, '[', "array", &function.args),
        ("kwargs", &kwargs, '{', "object", &function.kwargs),
    ];
    for (what, text, open, kind, schema) in parts {
        let is_json = text.starts_with(open) && serde_json::from_str::<IgnoredAny>(text).is_ok();
        if !is_json {
            return Err(format!(
                "the schedule {cron:?}, whose {what} are no JSON {kind}"
            ));
        }
        let Some(schema) = schema else {
            continue;
        };
        let value = serde_json::Value::from_str(text).map_err(|error| error.to_string())?;
        let fits = schema
            .mismatches(&value)
            .is_ok_and(|found| found.is_empty());
        if !fits {
            return Err(format!(
                "the schedule {cron:?}, whose {what} do not fit the schema that it declares"
            ));
        }
    }
    Ok(Schedule { cron, args, kwargs })
}

fn hook(wanted: wit::Hook) -> Result<Hook, String> {
    if !is_collection(&wanted.collection) {
        return Err(format!(
            "a hook on {:?}, which is not a collection's name",
            shown(&wanted.collection)
        ));
    }
    Ok(Hook {
        moment: match wanted.moment {
            wit::Moment::Before => Moment::Before,
            wit::Moment::After => Moment::After,
        },
        operation: match wanted.operation {
            wit::Operation::Insert => Operation::Insert,
            wit::Operation::Update => Operation::Update,
            wit::Operation::Delete => Operation::Delete,
        },
        collection: wanted.collection,
        order: wanted.order,
        fail_open: wanted.on_failure == wit::OnFailure::Proceed,
    })
}

#[cfg(test)]
mod tests {
    use coglex_services::grants::{StorageGrant, Verb};

    use super::*;

    fn function() -> FunctionInfo {
        FunctionInfo {
            name: "tidy".to_owned(),
            ..FunctionInfo::default()
        }
    }

    fn declaration() -> wit::Declaration {
        wit::Declaration {
            name: "tidy".to_owned(),
            args_schema: None,
            kwargs_schema: None,
            result_schema: None,
            schedules: Vec::new(),
            hooks: Vec::new(),
        }
    }

    fn schedule(cron: &str, kwargs: Option<&str>) -> wit::Schedule {
        wit::Schedule {
            cron: cron.to_owned(),
            args: None,
            kwargs: kwargs.map(str::to_owned),
        }
    }

    fn hook(collection: &str) -> wit::Hook {
        wit::Hook {
            moment: wit::Moment::Before,
            operation: wit::Operation::Insert,
            collection: collection.to_owned(),
            order: -3,
            on_failure: wit::OnFailure::Proceed,
        }
    }

    fn check(change: impl FnOnce(&mut wit::Declaration)) -> Result<FunctionInfo, String> {
        let mut one = declaration();
        change(&mut one);
        let grants = Grants {
            storage: vec![StorageGrant::new("orders", [Verb::Hook])],
            ..Grants::default()
        };
        add(vec![function()], vec![one], &grants)
            .map(|mut functions| functions.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_declared_is_kept() {
        let info = check(|one| {
            one.kwargs_schema = Some(r#"{"required": ["days"]}"#.to_owned());
            one.schedules = vec![schedule("0 3 * * *", Some(r#"{"days": 3}"#))];
            one.hooks = vec![hook("orders")];
        })
        .unwrap();
        assert!(info.kwargs.is_some() && info.args.is_none());
        assert_eq!(info.schedules[0].args, "[]");
        assert_eq!(info.schedules[0].kwargs, r#"{"days": 3}"#);
        let hook = &info.hooks[0];
        assert_eq!((hook.order, hook.fail_open), (-3, true));
        assert_eq!(
            (hook.moment, hook.operation),
            (Moment::Before, Operation::Insert)
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_sentence() {
        let refused = |change: fn(&mut wit::Declaration), part: &str| {
            let why = check(change).unwrap_err();
            assert!(why.contains(part), "{why}");
        };
        refused(|one| one.name = "absent".to_owned(), "does not have");
        refused(
            |one| one.args_schema = Some("{".to_owned()),
            "a schema of its args that is not JSON",
        );
        refused(
            |one| one.schedules = vec![schedule("every day", None)],
            "a schedule that cannot be: the schedule `every day`",
        );
        refused(
            |one| one.schedules = vec![schedule("* * * * * *", None)],
            "the schedule",
        );
        refused(
            |one| one.schedules = vec![schedule("0 3 * * *", Some("[1]"))],
            "no JSON object",
        );
        refused(
            |one| {
                one.kwargs_schema = Some(r#"{"required": ["days"]}"#.to_owned());
                one.schedules = vec![schedule("0 3 * * *", None)];
            },
            "do not fit the schema",
        );
        refused(
            |one| one.schedules = vec![schedule("0 3 * * *", None); 17],
            "more than 16",
        );
        refused(|one| one.hooks = vec![hook("orders"); 65], "more than 64");
        refused(|one| one.hooks = vec![hook("orders"); 2], "two hooks");
        refused(|one| one.hooks = vec![hook("")], "not a collection");
        refused(|one| one.hooks = vec![hook("invoices")], "not granted");
        refused(|one| one.hooks = vec![hook("_coglex_jobs")], "not granted");
    }
}
