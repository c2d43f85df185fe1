//! Grants on collections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ANY;
use super::condition::{Condition, Fields};
use crate::documents::is_reserved;

/// What can be done to the documents of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Find, get, count, tell values apart, aggregate.
    Read,
    /// Insert.
    Insert,
    /// Update, replace.
    Update,
    /// Delete.
    Delete,
    /// Watch the writes of others, and change or refuse them: have a hook there.
    Hook,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 5] = [
        Verb::Read,
        Verb::Insert,
        Verb::Update,
        Verb::Delete,
        Verb::Hook,
    ];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Read => "read",
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Hook => "hook",
        })
    }
}

/// What one plugin wants to touch in storage, or what an operator allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageGrant {
    /// The collection's exact name, or `*` for every collection that is not the
    /// server's own (meant for operators; a plugin may ask for it too).
    pub collection: String,
    /// What may be done there.
    pub verbs: Vec<Verb>,
    /// The filter that documents have to meet; all do when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Condition>,
    /// The fields that are granted; all are when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
}

impl StorageGrant {
    /// A grant without conditions.
    pub fn new(collection: impl Into<String>, verbs: impl Into<Vec<Verb>>) -> Self {
        Self {
            collection: collection.into(),
            verbs: verbs.into(),
            ..Self::default()
        }
    }

    fn covers(&self, collection: &str, verb: Verb) -> bool {
        (self.collection == ANY || self.collection == collection) && self.verbs.contains(&verb)
    }

    fn access(&self) -> Access<'_> {
        Access {
            filter: self.filter.as_ref(),
            fields: self.fields.as_ref(),
            writable: self.fields.as_ref(),
        }
    }
}

impl fmt::Display for StorageGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.collection)?;
        for (index, verb) in self.verbs.iter().enumerate() {
            write!(f, "{} {verb}", if index > 0 { "," } else { "" })?;
        }
        if let Some(fields) = &self.fields {
            let names: Vec<&str> = fields.names().collect();
            write!(f, " of fields [{}]", names.join(", "))?;
        }
        if let Some(filter) = &self.filter {
            write!(f, " where {filter}")?;
        }
        Ok(())
    }
}

/// What may be done with a verb in a collection: all, or within conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// The filter that documents have to meet.
    pub filter: Option<&'a Condition>,
    /// The fields that there are.
    pub fields: Option<&'a Fields>,
    /// Those of them that may be written.
    pub writable: Option<&'a Fields>,
}

impl Access<'_> {
    pub(super) fn is_whole(&self) -> bool {
        self.filter.is_none() && self.fields.is_none()
    }
}

/// What a list grants of a verb on a collection. Grants add up: one without
/// conditions covers whatever stands beside it.
pub(super) fn access<'a>(
    grants: &'a [StorageGrant],
    collection: &str,
    verb: Verb,
) -> Option<Access<'a>> {
    let mut found: Option<Access<'a>> = None;
    for grant in grants.iter().filter(|grant| grant.covers(collection, verb)) {
        let access = grant.access();
        if access.is_whole() {
            return Some(access);
        }
        // A second one with other conditions is refused when grants are read;
        // were it there all the same, it would add nothing.
        found.get_or_insert(access);
    }
    found
}

/// What is wrong with a list, if anything.
pub(super) fn check(grants: &[StorageGrant]) -> Result<(), String> {
    for (index, grant) in grants.iter().enumerate() {
        if grant.access().is_whole() {
            continue;
        }
        if grant.verbs.contains(&Verb::Hook) {
            return Err(format!(
                "`hook` on `{}` cannot have a filter or fields: a hook sees whole writes; give it an entry of its own",
                grant.collection
            ));
        }
        if grant.collection == ANY {
            return Err(
                "a grant on every collection (`*`) cannot have a filter or fields; name the collection"
                    .to_owned(),
            );
        }
        let others = grants.iter().enumerate().filter(|(at, _)| *at != index);
        for (_, other) in others {
            let clash = other.collection == grant.collection
                && !other.access().is_whole()
                && other.access() != grant.access();
            let verb = grant.verbs.iter().find(|verb| other.verbs.contains(verb));
            if let (true, Some(verb)) = (clash, verb) {
                return Err(format!(
                    "`{verb}` on `{}` is granted twice, with different conditions; put them into one filter with `$or`",
                    grant.collection
                ));
            }
        }
    }
    Ok(())
}

/// What both lists grant, one entry for each collection and condition, in order.
pub(super) fn intersect(asked: &[StorageGrant], allowed: &[StorageGrant]) -> Vec<StorageGrant> {
    type Conditions = (Option<Condition>, Option<Fields>);
    // Inside `*` both sides must say `*`; a named collection is covered by its
    // own entry or by `*`, on either side.
    let everywhere: BTreeSet<Verb> = Verb::ALL
        .into_iter()
        .filter(|verb| {
            [asked, allowed]
                .into_iter()
                .all(|side| access(side, ANY, *verb).is_some())
        })
        .collect();
    let mut storage = Vec::new();
    if !everywhere.is_empty() {
        let verbs: Vec<Verb> = everywhere.iter().copied().collect();
        storage.push(StorageGrant::new(ANY, verbs));
    }
    let named: BTreeSet<&str> = asked
        .iter()
        .chain(allowed)
        .map(|grant| grant.collection.as_str())
        .collect();
    for collection in named {
        if collection == ANY || is_reserved(collection) {
            continue;
        }
        let mut by_conditions: BTreeMap<Conditions, Vec<Verb>> = BTreeMap::new();
        for verb in Verb::ALL {
            if everywhere.contains(&verb) {
                continue;
            }
            let both = (
                access(asked, collection, verb),
                access(allowed, collection, verb),
            );
            if let (Some(asked), Some(allowed)) = both {
                by_conditions
                    .entry(narrower(asked, allowed))
                    .or_default()
                    .push(verb);
            }
        }
        for ((filter, fields), verbs) in by_conditions {
            storage.push(StorageGrant {
                collection: collection.to_owned(),
                verbs,
                filter,
                fields,
            });
        }
    }
    storage
}

/// The conditions of both.
fn narrower(left: Access<'_>, right: Access<'_>) -> (Option<Condition>, Option<Fields>) {
    let filter = match (left.filter, right.filter) {
        (Some(left), Some(right)) => Some(left.and(right)),
        (one, other) => one.or(other).cloned(),
    };
    let fields = match (left.fields, right.fields) {
        (Some(left), Some(right)) => Some(left.and(right)),
        (one, other) => one.or(other).cloned(),
    };
    (filter, fields)
}
