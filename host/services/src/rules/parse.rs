//! Access rules as an operator writes them, read and checked.

use std::collections::BTreeSet;

use bson::{Bson, Document};

use super::{Filter, MAX_REALMS, RealmRules, Rule};
use crate::documents::check_collection;
use crate::error::{Error, Result};
use crate::grants::Fields;

/// Nesting of rules, with what is around a filter.
pub(super) const MAX_DEPTH: usize = 24;

/// The rules of one collection, by realm.
pub(super) fn rules(written: &Document) -> Result<Vec<RealmRules>> {
    if written.is_empty() || written.len() > MAX_REALMS {
        return Err(Error::Invalid(format!(
            "rules are an object whose members are 1 to {MAX_REALMS} realms, such as `users`"
        )));
    }
    let rules = written.iter().map(|(realm, rules)| match rules {
        Bson::Document(rules) => of_realm(realm, rules),
        _ => Err(Error::Invalid(format!(
            "the rules of `{realm}` must be an object"
        ))),
    });
    rules.collect()
}

fn of_realm(realm: &str, written: &Document) -> Result<RealmRules> {
    check_collection(realm)?;
    let (mut read, mut create, mut update, mut delete) =
        (Rule::Nobody, Rule::Nobody, Rule::Nobody, Rule::Nobody);
    let (mut hidden, mut readonly) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in written {
        match name.as_str() {
            "read" => read = rule(name, value)?,
            "create" => create = rule(name, value)?,
            "update" => update = rule(name, value)?,
            "delete" => delete = rule(name, value)?,
            "hidden" => hidden = names(name, value)?,
            "readonly" => readonly = names(name, value)?,
            _ => {
                return Err(Error::Invalid(format!(
                    "the rules of `{realm}` have `read`, `create`, `update`, `delete`, `hidden` and `readonly`, no other member"
                )));
            }
        }
    }
    let hides = |rule: &Rule| {
        let condition = rule.condition();
        condition.and_then(|condition| {
            condition
                .paths()
                .find(|path| hidden.contains(path.split('.').next().unwrap_or(path)))
                .map(str::to_owned)
        })
    };
    // It would work, and tell by what is created whether the value is right.
    if let Some(path) = hides(&create) {
        return Err(Error::Invalid(format!(
            "`create` looks at `{path}`, which is hidden: a user could not write it"
        )));
    }
    Ok(RealmRules {
        realm: realm.to_owned(),
        update: read.and(&update)?,
        delete: read.and(&delete)?,
        read,
        create,
        hidden,
        readonly,
        fields: None,
        writable: None,
    })
}

fn rule(name: &str, value: &Bson) -> Result<Rule> {
    match value {
        Bson::Boolean(true) => Ok(Rule::All),
        Bson::Boolean(false) | Bson::Null => Ok(Rule::Nobody),
        Bson::Document(filter) => Filter::new(filter.clone()).map(Rule::Where),
        _ => Err(Error::Invalid(format!(
            "`{name}` must be a filter, true or false"
        ))),
    }
}

fn names(member: &str, value: &Bson) -> Result<BTreeSet<String>> {
    let wrong = || Error::Invalid(format!("`{member}` must be a list of names of fields"));
    let Bson::Array(values) = value else {
        return Err(wrong());
    };
    let names = values.iter().map(|value| match value {
        Bson::String(name) if name != "_id" => Ok(name.clone()),
        _ => Err(wrong()),
    });
    let names: BTreeSet<String> = names.collect::<Result<_>>()?;
    Fields::new(names.iter().cloned())?;
    Ok(names)
}
