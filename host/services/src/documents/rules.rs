//! What a client may say to the store. Pure: it looks at names, paths and
//! operators in filters, pipelines, updates, indexes and documents, never at
//! stored data, and knows nothing of who asks.
//!
//! Both the storage service and the auth service (for the further condition of
//! a sign-in, for the document of a new user) ask here, so that there is one
//! list of what is hidden and refused.

mod index;
mod operators;
mod pipeline;
mod walk;

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::storage::Change;
use walk::Walk;

pub(crate) use index::{IDENTITY_INDEX, KEY_INDEX, index, index_to_drop};
pub(crate) use pipeline::pipeline;
pub(crate) use walk::shorten;

/// Fields that belong to the auth service: a user's password hash, and its
/// sessions. No client sees, names or writes them, in any collection.
pub(crate) const HIDDEN: [&str; 2] = ["_password", "_coglex"];

/// Bytes of names and values in one filter, for the same reason.
const MAX_FILTER_BYTES: usize = 1024 * 1024;
/// Array filters of one update; each is looked at for every element.
const MAX_ARRAY_FILTERS: usize = 100;
/// MongoDB's bound on a compound sort.
const MAX_SORT_KEYS: usize = 32;
/// What MongoDB allows in a name comes to about this.
const MAX_NAME_BYTES: usize = 120;

/// Whether the collection is the server's own: for a client it does not exist.
pub(crate) fn is_reserved(collection: &str) -> bool {
    collection.starts_with("_coglex") || collection.starts_with("system.")
}

/// Checks a collection's name. The sentence for a reserved one is the same
/// whether it exists or not.
pub(crate) fn collection(name: &str) -> Result<()> {
    let refused = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "is longer than 120 bytes"
    } else if name.contains(|c: char| c == '$' || c == '/' || c.is_control()) {
        "contains `$`, `/` or a control character"
    } else if name.starts_with('.') || name.ends_with('.') {
        "begins or ends with a dot"
    } else if is_reserved(name) {
        return Err(Error::Forbidden(
            "collections named `_coglex…` and `system.…` are the server's own".into(),
        ));
    } else {
        return Ok(());
    };
    Err(Error::Invalid(format!("the collection's name {refused}")))
}

/// Checks an identifier: clients use strings and ObjectIds.
pub(crate) fn new_id(id: &Bson) -> Result<()> {
    match id {
        Bson::String(_) | Bson::ObjectId(_) => Ok(()),
        _ => Err(Error::Invalid(
            "`_id` must be a string or an ObjectId".into(),
        )),
    }
}

/// Checks an identifier that is looked up. Documents that were imported may
/// have other kinds; what could act as an operator or a pattern is refused.
pub(crate) fn known_id(id: &Bson) -> Result<()> {
    match id {
        Bson::Document(_) | Bson::Array(_) | Bson::RegularExpression(_) => {
            Err(Error::Invalid("`_id` must be a single value".into()))
        }
        _ => Ok(()),
    }
}

/// Checks a query filter.
pub(crate) fn filter(filter: &Document, depth: usize) -> Result<()> {
    let mut walk = Walk::new("filter", depth, MAX_FILTER_BYTES);
    walk.query(filter, 1, false)
}

/// Checks a sort document; its directions are the store's to judge.
pub(crate) fn sort(sort: &Document) -> Result<()> {
    if sort.len() > MAX_SORT_KEYS {
        return Err(Error::Invalid(format!(
            "a sort takes at most {MAX_SORT_KEYS} keys"
        )));
    }
    sort.keys().try_for_each(|path| visible(path))
}

/// Checks a projection. Only fields to show or hide, `$slice` and `$elemMatch`:
/// an expression could copy a hidden field under another name.
pub(crate) fn projection(projection: &Document, depth: usize) -> Result<()> {
    for (path, value) in projection {
        visible(path)?;
        match value {
            Bson::Boolean(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => {}
            Bson::Document(inner) => shown(path, inner, depth)?,
            _ => return Err(bad_projection(path)),
        }
    }
    Ok(())
}

/// What a projection says of one path, as a document.
fn shown(path: &str, inner: &Document, depth: usize) -> Result<()> {
    let mut entries = inner.iter();
    match (entries.next(), entries.next()) {
        // Nothing but numbers: MongoDB takes other operands for the arguments of
        // the expression of this name, and evaluates them.
        (Some((name, Bson::Array(operands))), None)
            if name == "$slice" && operands.len() == 2 && operands.iter().all(is_number) =>
        {
            Ok(())
        }
        (Some((name, operand)), None) if name == "$slice" && is_number(operand) => Ok(()),
        (Some((name, Bson::Document(_))), None) if name == "$elemMatch" => filter(inner, depth),
        // {"a": {"b": 1}} is {"a.b": 1}.
        (Some(_), _) if inner.keys().all(|key| !key.starts_with('$')) && depth > 1 => {
            projection(inner, depth - 1)
        }
        _ => Err(bad_projection(path)),
    }
}

fn is_number(value: &Bson) -> bool {
    matches!(value, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_))
}

fn bad_projection(path: &str) -> Error {
    Error::Invalid(format!(
        "the projection of `{}` must be 1, 0, true, false, `$slice` with one or two numbers, or `$elemMatch`",
        shorten(path)
    ))
}

/// Checks a document that is to be stored.
pub(crate) fn document(document: &Document, depth: usize, bytes: usize) -> Result<()> {
    if document.contains_key("_key") {
        // Such a document has no password and could never sign in, but would
        // keep everybody from signing up with that key.
        return Err(Error::Forbidden(
            "`_key` is set by signing up, not through storage".into(),
        ));
    }
    if let Some(id) = document.get("_id") {
        new_id(id)?;
    }
    Walk::new("document", depth, bytes).stored(document, 1)
}

/// Checks a value that is to be stored under a dotted path.
pub(crate) fn field(path: &str, value: &Bson, depth: usize, bytes: usize) -> Result<()> {
    settable(path)?;
    if path == "_id" {
        new_id(value)?;
    }
    Walk::new("document", depth, bytes).stored_value(value, 1)
}

/// Checks a change.
pub(crate) fn change(change: &Change, depth: usize, bytes: usize) -> Result<()> {
    let update = match change {
        Change::Replacement(replacement) => return document(replacement, depth, bytes),
        Change::Operators(update) => update,
    };
    let mut walk = Walk::new("update", depth, bytes).with_modifiers();
    for (operator, fields) in update {
        if !operator.starts_with('$') {
            return Err(Error::Invalid(format!(
                "an update takes operators such as `$set`, not `{operator}`"
            )));
        }
        if !operators::is_update(operator) {
            return Err(operators::unknown(operator));
        }
        walk.key(operator)?;
        let Bson::Document(fields) = fields else {
            return Err(Error::Invalid(format!(
                "`{operator}` takes an object of paths and values"
            )));
        };
        for (path, operand) in fields {
            settable(path)?;
            walk.name(path)?;
            match (operator.as_str(), operand) {
                ("$set" | "$setOnInsert", value) => {
                    if path == "_id" {
                        new_id(value)?;
                    }
                    walk.stored_value(value, 2)?;
                }
                ("$rename", Bson::String(target)) => {
                    settable(target)?;
                    if target == "_id" {
                        return Err(Error::Invalid(
                            "`_id` cannot be the target of `$rename`".into(),
                        ));
                    }
                }
                // Operands with operators of their own: $push, $pull, ….
                (_, value) => walk.query_value(value, 2, false)?,
            }
        }
    }
    Ok(())
}

/// Checks array filters, each of which says which elements a path with `$[name]`
/// means. That every name is used, and used once, is for the store to see.
pub(crate) fn array_filters(filters: &[Document], depth: usize) -> Result<()> {
    if filters.len() > MAX_ARRAY_FILTERS {
        return Err(Error::Invalid(format!(
            "an update takes at most {MAX_ARRAY_FILTERS} array filters"
        )));
    }
    let mut walk = Walk::new("list of array filters", depth, MAX_FILTER_BYTES);
    filters
        .iter()
        .try_for_each(|filter| walk.query(filter, 1, false))
}

/// Checks the filter of an upsert: its equalities become the new document.
pub(crate) fn upsert_filter(filter: &Document) -> Result<()> {
    if names_key(filter) {
        return Err(Error::Forbidden(
            "`_key` is set by signing up, not through storage".into(),
        ));
    }
    for (key, value) in filter {
        match (key.as_str(), value) {
            // An `$or` of one clause is an equality, too.
            ("$and" | "$or", Bson::Array(parts)) => {
                for part in parts.iter().filter_map(Bson::as_document) {
                    upsert_filter(part)?;
                }
            }
            ("_id", Bson::Document(condition))
                if condition.keys().any(|key| key.starts_with('$')) =>
            {
                if let Some(id) = condition.get("$eq") {
                    new_id(id)?;
                }
            }
            ("_id", id) => new_id(id)?,
            (path, _) if path.starts_with("_id.") => {
                return Err(Error::Invalid(
                    "`_id` must be a string or an ObjectId".into(),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether `_key`, or a path into it, is a key anywhere in here. Which of a
/// filter's places become fields of a new document differs by store and version.
fn names_key(document: &Document) -> bool {
    fn in_value(value: &Bson) -> bool {
        match value {
            Bson::Document(inner) => names_key(inner),
            Bson::Array(values) => values.iter().any(in_value),
            _ => false,
        }
    }
    document
        .iter()
        .any(|(key, value)| key == "_key" || key.starts_with("_key.") || in_value(value))
}

/// Checks the path of which the different values are asked.
pub(crate) fn path(path: &str) -> Result<()> {
    if path.is_empty() || path.contains('\0') || path.split('.').any(|part| part.starts_with('$')) {
        return Err(Error::Invalid(
            "the field must be a name or a dotted path, without `$`".into(),
        ));
    }
    visible(path)
}

/// A path that a client may read.
pub(crate) fn visible(path: &str) -> Result<()> {
    match path
        .split('.')
        .find(|part| HIDDEN.contains(&part.trim_start_matches('$')))
    {
        Some(part) => Err(Error::Forbidden(format!(
            "`{}` cannot be used here",
            part.trim_start_matches('$')
        ))),
        None => Ok(()),
    }
}

/// A path that a client may write: visible, and not a user's `_key`.
fn settable(path: &str) -> Result<()> {
    visible(path)?;
    if path == "_key" || path.starts_with("_key.") {
        return Err(Error::Forbidden(
            "`_key` is changed through the auth service, not through storage".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
