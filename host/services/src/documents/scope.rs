//! How much of a collection an operation reaches: all of it for the holder of
//! the API key, for a plugin or a scoped key what its grants leave of it, for a user
//! what the access rules do.
//!
//! A forced filter is put before everything that is looked for, and what is
//! written has to meet it. Fields that were not granted are not there: they are
//! cut out of what is read, and nothing may name them, because a filter, a sort
//! or a count on a field tells its value as well as showing it does.

use bson::{Bson, Document, doc};
use coglex_docstore::Filter;
use coglex_docstore::schema::detail;

use super::{DocumentLimits, encoded, rules};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::grants::{Access, Condition, Fields, Subject, Verb};
use crate::storage::{Change, StoreError};

mod after;

/// What an operation with one verb reaches of one collection.
pub(super) struct Scope<'a> {
    collection: &'a str,
    forced: Option<Forced<'a>>,
    fields: Option<&'a Fields>,
    /// Those that may be written.
    writable: Option<&'a Fields>,
}

/// A condition, with the caller in it.
struct Forced<'a> {
    condition: &'a Condition,
    filter: Document,
}

impl<'a> Scope<'a> {
    /// What the caller may do in the collection with the verb; `Forbidden` when
    /// that is nothing.
    pub(super) fn of(caller: &'a Caller, collection: &'a str, verb: Verb) -> Result<Self> {
        rules::collection(collection)?;
        let (access, subject) = match caller {
            Caller::ApiKey => {
                return Ok(Self {
                    collection,
                    forced: None,
                    fields: None,
                    writable: None,
                });
            }
            Caller::Plugin(plugin) => (
                plugin.grants.access(collection, verb),
                Subject::Users(&plugin.users),
            ),
            Caller::Key(key) => (
                key.grants.access(collection, verb),
                Subject::Users(&key.users),
            ),
            Caller::User(user) => (
                user.rules.access(collection, &user.user.realm, verb),
                Subject::User(&user.user.document),
            ),
        };
        let Some(Access {
            filter,
            fields,
            writable,
        }) = access
        else {
            return Err(not_granted(caller, collection, verb));
        };
        let forced = filter.map(|condition| {
            let filter = condition.resolve(subject)?;
            Ok::<_, Error>(Forced { condition, filter })
        });
        Ok(Self {
            collection,
            forced: forced.transpose()?,
            fields,
            writable,
        })
    }

    /// Whether the whole collection is reached, field by field.
    pub(super) fn is_whole(&self) -> bool {
        self.forced.is_none() && self.fields.is_none()
    }

    /// The fields that may leave, if not all.
    pub(super) fn fields(&self) -> Option<&Fields> {
        self.fields
    }

    /// The client's filter within what is reached.
    pub(super) fn narrow(&self, filter: Document) -> Result<Document> {
        self.names(&filter)?;
        Ok(match &self.forced {
            None => filter,
            Some(forced) if filter.is_empty() => forced.filter.clone(),
            // Ours first: an index on an owner is what serves such a question.
            Some(forced) => doc! { "$and": [forced.filter.clone(), filter] },
        })
    }

    /// Whether a path leads into a granted field.
    pub(super) fn path(&self, path: &str) -> Result<()> {
        match self.fields {
            Some(fields) if !fields.cover(path) => Err(Error::Forbidden(format!(
                "the field `{}` of `{}` was not granted",
                rules::shorten(path),
                self.collection
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a path leads into a field that may be written.
    fn written(&self, path: &str) -> Result<()> {
        match self.writable {
            Some(fields) if !fields.cover(path) => Err(Error::Forbidden(format!(
                "the field `{}` of `{}` cannot be written",
                rules::shorten(path),
                self.collection
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the fields of a projection may be shown.
    pub(super) fn projection(&self, projection: &Document) -> Result<()> {
        self.keys(projection)?;
        projection
            .keys()
            .try_for_each(|path| self.position(path, "use `$elemMatch`"))
    }

    /// Refuses `list.$`, the element by which a document was found, under a
    /// condition: that may have been found in an array as well, and which of the
    /// two a store means is not defined. The client's element would be taken for
    /// the one where the caller stands, and that place would be told.
    fn position(&self, path: &str, instead: &str) -> Result<()> {
        match self.forced {
            Some(_) if path.split('.').any(|part| part == "$") => Err(Error::Forbidden(format!(
                "`{}` cannot be used under the condition with which `{}` was granted: {instead}",
                rules::shorten(path),
                self.collection
            ))),
            _ => Ok(()),
        }
    }

    /// The store's error, for the caller. What a schema says of fields that were
    /// not granted, or of the document as a whole, would tell what is in them.
    pub(super) fn told(&self, mut error: StoreError) -> StoreError {
        let (Some(fields), StoreError::DocumentInvalid { failures }) = (self.fields, &mut error)
        else {
            return error;
        };
        failures.retain_mut(|failure| {
            let mut segments = failure.path.split('/').skip(1);
            let Some(first) = segments.next() else {
                return false;
            };
            if segments.next().is_none() && failure.rule == "dependencies" {
                // The sentence names the other field, which is there.
                failure.rule = "required".into();
                failure.detail = detail("required", &Document::new());
            }
            fields.cover(&first.replace("~1", "/").replace("~0", "~"))
        });
        error
    }

    /// Whether all the paths that are keys of this do.
    pub(super) fn keys(&self, document: &Document) -> Result<()> {
        document.keys().try_for_each(|path| self.path(path))
    }

    /// The stages that come before those of a client.
    pub(super) fn stages(&self) -> Vec<Document> {
        let forced = self
            .forced
            .as_ref()
            .map(|forced| doc! { "$match": forced.filter.clone() });
        let fields = self.fields.and_then(Fields::stage);
        forced.into_iter().chain(fields).collect()
    }

    /// A document that is about to be stored: fields that the condition fixes
    /// are filled in where they are absent, and then the whole has to meet it.
    pub(super) fn complete(
        &self,
        mut document: Document,
        limits: &DocumentLimits,
    ) -> Result<Document> {
        document.keys().try_for_each(|path| self.written(path))?;
        let Some(forced) = &self.forced else {
            return Ok(document);
        };
        for (path, value) in equalities(&forced.filter).into_iter().flatten() {
            if !path.contains('.') && !document.contains_key(&path) {
                // The rules saw the client's part of the document only.
                rules::field(&path, &value, limits.depth, limits.document_bytes)?;
                document.insert(path, value);
            }
        }
        self.meets(&document, limits)?;
        Ok(document)
    }

    /// Whether a document that is about to be stored meets the condition. Asked
    /// alone of what hooks have changed: those may write other fields.
    pub(super) fn meets(&self, document: &Document, limits: &DocumentLimits) -> Result<()> {
        let Some(forced) = &self.forced else {
            return Ok(());
        };
        let raw = encoded(document, limits.document_bytes)?;
        if Filter::compile(&forced.filter)?.matches(raw.as_bytes())? {
            return Ok(());
        }
        Err(Error::Forbidden(format!(
            "the document does not meet the condition under which `{}` was granted",
            self.collection
        )))
    }

    /// A change in place. It can only leave alone what the condition looks at:
    /// what it makes of a document is not known before it is made.
    pub(super) fn change(&self, change: &Change) -> Result<()> {
        match change {
            Change::Replacement(_) => self.whole_fields(),
            Change::Operators(operators) => {
                written(operators, &mut |path| self.written(path))?;
                self.leaves(operators)
            }
        }
    }

    /// Whether a change leaves alone what the condition looks at. Asked alone of
    /// what hooks have changed: those may write other fields.
    pub(super) fn leaves(&self, operators: &Document) -> Result<()> {
        if self.forced.is_none() {
            return Ok(());
        }
        let known = self.known_after(operators);
        written(operators, &mut |path| {
            if !known.contains_key(path) {
                self.spares(path)?;
            }
            self.position(path, "write `$[name]` and an array filter")
        })
    }

    /// The filter of an upsert. What the condition fixes stands in it once and
    /// as an equality, so that both stores put it into a new document.
    pub(super) fn upsert(&self, filter: Document, insert: &Scope<'_>) -> Result<Document> {
        self.names(&filter)?;
        insert.names(&filter)?;
        let condition = |scope: &Scope<'_>| {
            scope
                .forced
                .as_ref()
                .map(|forced| forced.condition.to_string())
        };
        let refused = |why: &str| {
            Err(Error::Forbidden(format!(
                "an upsert in `{}` is not possible: {why}",
                self.collection
            )))
        };
        let Some(forced) = &self.forced else {
            return match insert.forced {
                None => Ok(filter),
                Some(_) => refused("`insert` was granted under a condition, `update` under none"),
            };
        };
        if condition(self) != condition(insert) {
            return refused("`insert` and `update` were granted under different conditions");
        }
        let Some(mut fixed) = equalities(&forced.filter) else {
            return refused("the condition of the grant holds more than equalities");
        };
        // Anded conditions may speak of one field. As keys of one filter the
        // last would win, and the others no longer hold.
        fixed.sort_by(|(one, _), (other, _)| one.cmp(other));
        fixed.dedup();
        let twice = |one: &str, other: &str| {
            let rest = other.strip_prefix(one);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let clash = fixed.iter().enumerate().any(|(at, (path, _))| {
            let mut after = fixed.iter().skip(at + 1);
            after.any(|(other, _)| twice(path, other))
        });
        if clash {
            return refused("the condition of the grant fixes a field twice");
        }
        let mut named = Vec::new();
        names(&filter, &mut |path| {
            named.push(top(path).to_owned());
            Ok(())
        })?;
        if fixed
            .iter()
            .any(|(path, _)| named.iter().any(|name| name == top(path)))
        {
            return refused("the filter names a field that the condition of the grant fixes");
        }
        let mut merged: Document = fixed.into_iter().collect();
        // It becomes part of a document, and nobody has looked at it as such.
        rules::upsert_filter(&merged)?;
        merged.extend(filter);
        Ok(merged)
    }

    /// A path that the condition does not look at.
    fn spares(&self, path: &str) -> Result<()> {
        let Some(forced) = &self.forced else {
            return Ok(());
        };
        // By whole fields: `list.0.a` and `list.$.a` mean the same as `list.a`.
        match forced.condition.paths().find(|of| top(of) == top(path)) {
            Some(_) => Err(Error::Forbidden(format!(
                "the field `{}` of `{}` cannot be changed: the grant depends on it",
                rules::shorten(top(path)),
                self.collection
            ))),
            None => Ok(()),
        }
    }

    /// A replacement drops every field that it does not hold, also those that
    /// the caller cannot see.
    fn whole_fields(&self) -> Result<()> {
        match self.writable {
            Some(_) => Err(Error::Forbidden(format!(
                "documents of `{}` cannot be replaced: only some of their fields were granted",
                self.collection
            ))),
            None => Ok(()),
        }
    }

    /// Whether a filter names granted fields only.
    fn names(&self, filter: &Document) -> Result<()> {
        match self.fields {
            Some(_) => names(filter, &mut |path| self.path(path)),
            None => Ok(()),
        }
    }
}

/// What a caller is told who may not do this at all.
fn not_granted(caller: &Caller, collection: &str, verb: Verb) -> Error {
    let sentence = match caller {
        Caller::Plugin(plugin) => format!(
            "the plugin `{}` was not granted `{verb}` on the collection `{collection}`",
            plugin.name
        ),
        Caller::User(user) => format!(
            "no access rule lets users of `{}` {verb} in the collection `{collection}`",
            user.user.realm
        ),
        Caller::ApiKey | Caller::Key(_) => {
            format!("this API key does not cover `{verb}` on the collection `{collection}`")
        }
    };
    Error::Forbidden(sentence)
}

/// Calls `each` with the paths that an update writes.
fn written(operators: &Document, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    for (operator, paths) in operators {
        let Bson::Document(paths) = paths else {
            continue;
        };
        for (path, operand) in paths {
            each(path)?;
            if let ("$rename", Bson::String(target)) = (operator.as_str(), operand) {
                each(target)?;
            }
        }
    }
    Ok(())
}

/// The field at the top that a path leads into.
fn top(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// Calls `each` with the paths, from the top, that a filter names.
fn names(filter: &Document, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                for part in parts.iter().filter_map(Bson::as_document) {
                    names(part, each)?;
                }
            }
            ("$expr", expression) => operands(expression, each)?,
            ("$comment", _) => {}
            (operator, _) if operator.starts_with('$') => {
                return Err(Error::Forbidden(format!(
                    "`{}` cannot be used where only some fields were granted",
                    rules::shorten(operator)
                )));
            }
            (path, value) => {
                each(path)?;
                expressions(value, each)?;
            }
        }
    }
    Ok(())
}

/// Looks for `$expr` inside conditions on a field. No store takes it there, but
/// that is not ours to rely on.
fn expressions(value: &Bson, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    match value {
        Bson::Document(inner) => inner
            .iter()
            .try_for_each(|(key, value)| match key.as_str() {
                "$expr" => operands(value, each),
                _ => expressions(value, each),
            }),
        Bson::Array(values) => values.iter().try_for_each(|value| expressions(value, each)),
        _ => Ok(()),
    }
}

/// The paths of an expression: texts that begin with one `$`. Those of variables
/// begin with two, and the ones that stand for a whole document are refused in
/// filters.
fn operands(value: &Bson, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    match value {
        Bson::String(text) => match text.strip_prefix('$') {
            Some(path) if !path.starts_with('$') => each(path),
            _ => Ok(()),
        },
        Bson::Document(inner) => inner.values().try_for_each(|value| operands(value, each)),
        Bson::Array(values) => values.iter().try_for_each(|value| operands(value, each)),
        _ => Ok(()),
    }
}

/// The fields and values that a condition fixes; nothing if it is not made of
/// equalities alone.
fn equalities(filter: &Document) -> Option<Vec<(String, Bson)>> {
    let mut fixed = Vec::new();
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$and", Bson::Array(parts)) => {
                for part in parts {
                    fixed.extend(equalities(part.as_document()?)?);
                }
            }
            (operator, _) if operator.starts_with('$') => return None,
            (path, Bson::Document(test)) => match (test.len(), test.get("$eq")) {
                // As a value of its own it would be a pattern, or operators.
                (1, Some(value)) if is_test(value) => return None,
                (1, Some(value)) => fixed.push((path.to_owned(), value.clone())),
                _ if test.keys().any(|key| key.starts_with('$')) => return None,
                _ => fixed.push((path.to_owned(), value.clone())),
            },
            (_, Bson::RegularExpression(_)) => return None,
            (path, value) => fixed.push((path.to_owned(), value.clone())),
        }
    }
    Some(fixed)
}

/// Whether a value in a filter means something else than itself.
fn is_test(value: &Bson) -> bool {
    match value {
        Bson::RegularExpression(_) => true,
        Bson::Document(inner) => inner.keys().any(|key| key.starts_with('$')),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
