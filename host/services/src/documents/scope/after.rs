//! What an access rule asks of a document after an update in place.
//!
//! What an update makes of a document is not known before it is made, but for fields
//! that it sets or takes away whole. Where the rule looks at such a field, the field's
//! new value is put into the rule, and what is left of the rule is asked of the document
//! together with the rule itself: one filter, which the store checks in the moment in
//! which it changes the document. So an owner can move a note from `draft` to `review`
//! under a rule that names both, and cannot give it away under one that names the owner.
//! Grants of plugins and keys are stricter: they leave alone what a condition looks at.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};

use super::{Scope, top};
use crate::error::{Error, Result};
use crate::grants::{meets, never};
use crate::storage::Change;

/// Fields as they will be; none for one that will be gone.
type Known<'a> = BTreeMap<&'a str, Option<&'a Bson>>;

impl Scope<'_> {
    /// The fields under a rule of which it is known what an update makes of them.
    pub(super) fn known_after<'c>(&self, operators: &'c Document) -> Known<'c> {
        let mut known = Known::new();
        if !self
            .forced
            .as_ref()
            .is_some_and(|forced| forced.condition.is_rule())
        {
            return known;
        }
        for (operator, fields) in operators {
            let Bson::Document(fields) = fields else {
                continue;
            };
            let whole = fields.iter().filter(|(path, _)| !path.contains('.'));
            for (path, value) in whole {
                match operator.as_str() {
                    "$set" => drop(known.insert(path, Some(value))),
                    "$unset" => drop(known.insert(path, None)),
                    _ => {}
                }
            }
        }
        // Two operators on one field: the store refuses that, and until then nothing
        // is known.
        for (operator, fields) in operators {
            let Bson::Document(fields) = fields else {
                continue;
            };
            for (path, operand) in fields {
                let target = operand.as_str().filter(|_| operator == "$rename");
                let set = matches!(operator.as_str(), "$set" | "$unset") && !path.contains('.');
                for touched in [Some(path.as_str()).filter(|_| !set), target] {
                    known.remove(touched.map_or("", top));
                }
            }
        }
        known
    }

    /// What documents have to meet so that the rule holds for what a change makes of
    /// them; nothing where the rule looks at none of that. `Forbidden` when no document
    /// can.
    pub(in crate::documents) fn after(&self, change: &Change) -> Result<Option<Document>> {
        let (Some(forced), Change::Operators(operators)) = (&self.forced, change) else {
            return Ok(None);
        };
        let mut known = self.known_after(operators);
        known.retain(|field, _| forced.condition.paths().any(|path| top(path) == *field));
        if known.is_empty() {
            return Ok(None);
        }
        let left = with(&forced.filter, &known)?;
        if left == never() {
            return Err(Error::Forbidden(format!(
                "the access rule of `{}` would no longer hold for what this makes of the document",
                self.collection
            )));
        }
        Ok(Some(left).filter(|left| !left.is_empty()))
    }
}

/// What is left of a filter to ask when some fields are known.
fn with(filter: &Document, known: &Known<'_>) -> Result<Document> {
    let mut left = Document::new();
    for (key, value) in filter {
        match (key.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                let mut inner = Vec::with_capacity(parts.len());
                for part in parts.iter().filter_map(Bson::as_document) {
                    let part = with(part, known)?;
                    match key.as_str() {
                        "$and" if part == never() => return Ok(never()),
                        "$or" | "$nor" if part == never() => {}
                        _ => inner.push(Bson::Document(part)),
                    }
                }
                match (inner.is_empty(), key.as_str()) {
                    (true, "$or") => return Ok(never()),
                    (true, _) => {}
                    (false, _) => drop(left.insert(key, inner)),
                }
            }
            (path, test) => match known.get(top(path)) {
                None => drop(left.insert(path, test.clone())),
                Some(value) => {
                    let mut document = Document::new();
                    if let Some(value) = value {
                        document.insert(top(path), (*value).clone());
                    }
                    if !meets(&document, doc! { path: test.clone() })? {
                        return Ok(never());
                    }
                }
            },
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_leaves_the_filter() {
        let check = |filter: Document, set: Document, expected: Document| {
            let known = set
                .iter()
                .map(|(field, value)| (field.as_str(), Some(value).filter(|v| **v != Bson::Null)));
            assert_eq!(
                with(&filter, &known.collect()).unwrap(),
                expected,
                "{filter} {set}"
            );
        };
        let own = || doc! { "owner": "ann", "state": { "$in": ["draft", "review"] } };
        check(own(), doc! { "state": "review" }, doc! { "owner": "ann" });
        check(own(), doc! { "state": "published" }, never());
        check(own(), doc! { "owner": "bob" }, never());
        check(own(), doc! { "owner": "ann", "state": "draft" }, doc! {});
        // Gone.
        check(own(), doc! { "owner": null }, never());
        let either = || doc! { "$or": [{ "owner": "ann" }, { "editors": "ann" }] };
        check(
            either(),
            doc! { "owner": "bob" },
            doc! { "$or": [{ "editors": "ann" }] },
        );
        check(
            either(),
            doc! { "owner": "bob", "editors": ["carl"] },
            never(),
        );
        check(
            either(),
            doc! { "owner": "ann" },
            doc! { "$or": [{}, { "editors": "ann" }] },
        );
        let no = || doc! { "$nor": [{ "locked": true }, { "team": "b" }] };
        check(
            no(),
            doc! { "locked": true },
            doc! { "$nor": [{}, { "team": "b" }] },
        );
        check(
            no(),
            doc! { "locked": false },
            doc! { "$nor": [{ "team": "b" }] },
        );
        check(doc! { "a.b": 1 }, doc! { "a": { "b": [0, 1] } }, doc! {});
    }
}
