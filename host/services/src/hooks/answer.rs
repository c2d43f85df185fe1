//! What a hook answers: nothing, or what takes the place of what was to be
//! written. A guest's word, so it is checked as if a client had said it.

use bson::{Bson, Document};

use super::event::{self, Write};
use crate::error::{Error, Result};
use crate::json;

/// Levels of an answer around a document.
const LEVELS_AROUND: usize = 3;
/// Up to here doubles have every integer: JavaScript's `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE: u64 = (1 << 53) - 1;

impl Write {
    /// The write with what an answer puts in its place; nothing where it changes
    /// nothing. `fixed` are the fields of documents that stay as they are.
    pub(super) fn changed_by(
        &self,
        answer: &str,
        depth: usize,
        fixed: &[&str],
    ) -> Result<Option<Self>> {
        let answer = json::parse_value(answer.as_bytes(), depth.saturating_add(LEVELS_AROUND))?;
        let mut answer = match answer {
            Bson::Null => return Ok(None),
            Bson::Document(answer) => answer,
            _ => return Err(invalid("is neither null nor an object")),
        };
        let changed = match self {
            Write::Insert { documents } => {
                let Some(new) = answer.remove("documents") else {
                    return Ok(None);
                };
                Write::Insert {
                    documents: inserted(documents, new, depth, fixed)?,
                }
            }
            Write::Update {
                filter,
                change,
                array_filters,
                many,
                upsert,
            } => {
                let Some(new) = answer.remove("change") else {
                    return Ok(None);
                };
                let new = restored(change, object(new, "change")?, depth)?;
                if let Some(name) = fixed.iter().find(|name| !is_as_it_was(change, &new, name)) {
                    return Err(invalid(&format!("changes `{name}`")));
                }
                Write::Update {
                    filter: filter.clone(),
                    change: new,
                    array_filters: array_filters.clone(),
                    many: *many,
                    upsert: *upsert,
                }
            }
            Write::Replace {
                filter,
                replacement,
                upsert,
            } => {
                let Some(new) = answer.remove("replacement") else {
                    return Ok(None);
                };
                let new = restored(replacement, object(new, "replacement")?, depth)?;
                Write::Replace {
                    filter: filter.clone(),
                    replacement: keep(replacement, new, fixed)?,
                    upsert: *upsert,
                }
            }
            Write::Delete { .. } => return Ok(None),
        };
        Ok((changed != *self).then_some(changed))
    }
}

fn inserted(old: &[Document], new: Bson, depth: usize, fixed: &[&str]) -> Result<Vec<Document>> {
    let Bson::Array(new) = new else {
        return Err(invalid("has `documents` that are not a list"));
    };
    if new.len() != old.len() {
        return Err(invalid("has more or fewer documents than there were"));
    }
    let pairs = old.iter().zip(new);
    let kept = pairs.map(|(old, new)| {
        let new = restored(old, object(new, "documents")?, depth)?;
        keep(old, new, fixed)
    });
    kept.collect()
}

fn object(value: Bson, name: &str) -> Result<Document> {
    match value {
        Bson::Document(document) => Ok(document),
        _ => Err(invalid(&format!("has no object in `{name}`"))),
    }
}

/// The new document with the fixed fields of the old one, in front as there.
fn keep(old: &Document, mut new: Document, fixed: &[&str]) -> Result<Document> {
    let mut kept = Document::new();
    for name in fixed {
        match (old.get(name), new.remove(name)) {
            (Some(old), None) => {
                kept.insert(*name, old.clone());
            }
            (Some(old), Some(new)) if *old == new => {
                kept.insert(*name, new);
            }
            (None, None) => {}
            _ => return Err(invalid(&format!("changes `{name}`"))),
        }
    }
    kept.extend(new);
    Ok(kept)
}

/// Whether two updates do the same to a field.
fn is_as_it_was(old: &Document, new: &Document, name: &str) -> bool {
    let on_it = |change: &Document| -> Vec<(String, String, Bson)> {
        let operators = change.iter().filter_map(|(operator, paths)| {
            let paths = paths.as_document()?.iter();
            Some(paths.map(move |(path, operand)| (operator, path, operand)))
        });
        let found = operators.flatten().filter(|(_, path, _)| {
            let rest = path.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        found
            .map(|(operator, path, operand)| (operator.clone(), path.clone(), operand.clone()))
            .collect()
    };
    on_it(old) == on_it(new)
}

/// What a hook answers for a document. Relaxed JSON does not tell an `Int64` from
/// an `Int32`, so what comes back as it was shown is what it was.
fn restored(old: &Document, new: Document, depth: usize) -> Result<Document> {
    let mut text = Vec::new();
    event::document(old, &mut text)?;
    let shown = json::parse_document(&text, depth.saturating_add(LEVELS_AROUND))?;
    Ok(fields(old, &shown, new))
}

fn fields(old: &Document, shown: &Document, new: Document) -> Document {
    let fields = new.into_iter().map(|(name, value)| {
        let value = match (old.get(&name), shown.get(&name)) {
            (Some(old), Some(shown)) => value_as_it_was(old, shown, value),
            _ => value,
        };
        (name, value)
    });
    fields.collect()
}

fn value_as_it_was(old: &Bson, shown: &Bson, new: Bson) -> Bson {
    if new == *shown {
        return old.clone();
    }
    match (old, shown, new) {
        (Bson::Document(old), Bson::Document(shown), Bson::Document(new)) => {
            Bson::Document(fields(old, shown, new))
        }
        (Bson::Array(old), Bson::Array(shown), Bson::Array(new)) if old.len() == new.len() => {
            let parts = old.iter().zip(shown).zip(new);
            let parts = parts.map(|((old, shown), new)| value_as_it_was(old, shown, new));
            Bson::Array(parts.collect())
        }
        (old, _, new) if is_written_by_javascript(old, &new) => old.clone(),
        (_, _, new) => new,
    }
}

/// Whether JavaScript, all of whose numbers are doubles, reads the one and writes the
/// other: it writes 3.0 as 3, and an integer beyond 2^53 as the shortest digits of the
/// double that is nearest (ECMA-262, `Number::toString`).
fn is_written_by_javascript(old: &Bson, new: &Bson) -> bool {
    match (old, new) {
        (Bson::Double(old), Bson::Int32(new)) => *old == f64::from(*new),
        (Bson::Double(old), Bson::Int64(new)) => *old == *new as f64,
        (Bson::Int64(old), Bson::Int64(new)) if old.unsigned_abs() > MAX_SAFE => {
            (*old as f64).to_string() == new.to_string()
        }
        // Rounded up past the largest `Int64`.
        (Bson::Int64(old), Bson::Double(new)) => {
            old.unsigned_abs() > MAX_SAFE && *old as f64 == *new
        }
        _ => false,
    }
}

fn invalid(what: &str) -> Error {
    Error::Invalid(format!("the answer {what}"))
}

/// JSON that we have written is text.
pub(super) fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| Error::Unavailable(error.into()))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn insert(document: Document) -> Write {
        Write::Insert {
            documents: vec![document],
        }
    }

    fn answered(write: &Write, answer: &str) -> Result<Option<Write>, String> {
        write
            .changed_by(answer, 10, &["_id", "_key"])
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_takes_the_place_of_what_was_shown() {
        let write = insert(doc! { "_id": "a", "n": 1_i64, "list": [1.5, 2_i64] });
        for same in [
            "null",
            "{}",
            r#"{"documents": [{"n": 1, "list": [1.5, 2], "_id": "a"}], "filter": {}}"#,
        ] {
            let changed = answered(&write, same).unwrap();
            assert!(changed.is_none(), "{same}");
        }
        let changed = answered(
            &write,
            r#"{"documents": [{"n": 1, "list": [3, 2], "new": true}]}"#,
        );
        let expected = doc! { "_id": "a", "n": 1_i64, "list": [3, 2_i64], "new": true };
        assert_eq!(changed, Ok(Some(insert(expected))));
    }

    /// What `JSON.stringify(JSON.parse(…))` makes of what a hook is shown.
    #[test]
    fn numbers_that_javascript_cannot_hold_are_left_as_they_were() {
        let document = doc! {
            "_id": "a", "id": 9_007_199_254_740_993_i64, "at": 1_700_000_000_123_456_789_i64,
            "most": i64::MAX, "least": i64::MIN, "whole": 3e9, "list": [i64::MAX, 1],
        };
        let write = insert(document.clone());
        let answer = r#"{"documents": [{"_id": "a", "id": 9007199254740992, "at": 1700000000123456800,
            "most": 9223372036854776000, "least": -9223372036854776000, "whole": 3000000000,
            "list": [9223372036854776000, 1], "by": "hook"}]}"#;
        let mut expected = document;
        expected.insert("by", "hook");
        assert_eq!(answered(&write, answer), Ok(Some(insert(expected))));

        // What is said in other words is meant.
        let write = insert(doc! { "_id": "a", "n": 1_700_000_000_123_456_789_i64, "m": 5_i64 });
        let answer = r#"{"documents": [{"n": 1700000000123456790, "m": 6}]}"#;
        let expected = doc! { "_id": "a", "n": 1_700_000_000_123_456_790_i64, "m": 6 };
        assert_eq!(answered(&write, answer), Ok(Some(insert(expected))));
    }

    #[test]
    fn what_a_hook_cannot_change_it_cannot_change() {
        let write = insert(doc! { "_id": "a", "_key": "ann", "n": 1 });
        for (answer, part) in [
            ("1", "neither null nor an object"),
            ("[]", "neither null nor an object"),
            ("{", ""),
            (r#"{"documents": {}}"#, "not a list"),
            (r#"{"documents": []}"#, "more or fewer"),
            (r#"{"documents": [1]}"#, "no object"),
            (r#"{"documents": [{"_id": "b"}]}"#, "changes `_id`"),
            (r#"{"documents": [{"_key": "bob"}]}"#, "changes `_key`"),
        ] {
            let why = answered(&write, answer).unwrap_err();
            assert!(why.contains(part), "{answer}: {why}");
        }
        let delete = Write::Delete {
            filter: doc! { "a": 1 },
            many: true,
        };
        let answer = r#"{"filter": {}, "many": false}"#;
        assert_eq!(answered(&delete, answer), Ok(None));
    }

    #[test]
    fn changes_and_replacements_are_replaced_whole() {
        let update = Write::Update {
            filter: doc! { "_id": "a" },
            change: doc! { "$set": { "n": 2.0, "at": bson::DateTime::from_millis(1) } },
            array_filters: Vec::new(),
            many: false,
            upsert: false,
        };
        let answer = r#"{"filter": {}, "change": {"$set": {"n": 2, "at": {"$date": "1970-01-01T00:00:00.001Z"}, "by": "hook"}}}"#;
        let Ok(Some(Write::Update { filter, change, .. })) = answered(&update, answer) else {
            panic!("no update");
        };
        assert_eq!(filter, doc! { "_id": "a" });
        let expected = doc! { "n": 2.0, "at": bson::DateTime::from_millis(1), "by": "hook" };
        assert_eq!(change, doc! { "$set": expected });

        for answer in [
            r#"{"change": {"$set": {"_id": "b"}}}"#,
            r#"{"change": {"$setOnInsert": {"_id.x": "b"}}}"#,
        ] {
            let why = answered(&update, answer).unwrap_err();
            assert!(why.contains("changes `_id`"), "{why}");
        }

        let replace = Write::Replace {
            filter: doc! {},
            replacement: doc! { "a": 1 },
            upsert: false,
        };
        let changed = answered(&replace, r#"{"replacement": {"b": 2}}"#).unwrap();
        assert!(
            matches!(changed, Some(Write::Replace { replacement, .. }) if replacement == doc! { "b": 2 })
        );
        let why = answered(&replace, r#"{"replacement": {"_id": 2}}"#).unwrap_err();
        assert!(why.contains("`_id`"), "{why}");
    }
}
