//! MongoDB's update language: a change is compiled and checked once, then applied
//! to each document that matched.
//!
//! Documents that change are few beside those that are looked at, and each costs
//! a write, so they are decoded, changed as a tree, and encoded again.

mod array;
mod compile;
mod operator;
mod tree;
mod upsert;

use bson::{Bson, DateTime, Document, RawDocumentBuf};

use crate::error::{Error, Result};
use crate::model::{Change, Update};
use crate::query::Filter;
use crate::value::{self, field};

pub(crate) use array::{check_sort, sort_by};
pub(crate) use operator::KNOWN as OPERATORS;
use operator::Operator;
use tree::{Context, UpdatePath};

/// A compiled change.
#[derive(Debug, Clone)]
pub(crate) enum Updater {
    /// Operators in the order in which they apply.
    Operators {
        steps: Vec<Step>,
        array_filters: Vec<(String, Filter)>,
    },
    /// A whole document, whose `_id` may be absent.
    Replacement(Document),
}

/// One operator at one path.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    path: UpdatePath,
    operator: Operator,
}

impl Step {
    /// The path that is written to.
    fn target(&self) -> &UpdatePath {
        match &self.operator {
            Operator::Rename(target) => target,
            _ => &self.path,
        }
    }
}

impl Updater {
    /// Compiles and checks a change.
    pub(crate) fn compile(update: &Update) -> Result<Self> {
        let _patterns = crate::query::Budget::open();
        match &update.change {
            Change::Operators(operators) => {
                crate::validate::depth(operators)?;
                compile::operators(operators, &update.array_filters)
            }
            Change::Replacement(document) => {
                crate::validate::depth(document)?;
                if let Some(name) = document.keys().find(|name| name.starts_with('$')) {
                    return Err(Error::Invalid(format!(
                        "the replacement document has the operator '{name}'"
                    )));
                }
                if update.many {
                    return Err(Error::Invalid(
                        "a replacement changes one document, not many".into(),
                    ));
                }
                Ok(Updater::Replacement(document.clone()))
            }
        }
    }

    /// Whether a step needs to know which array element the filter matched.
    pub(crate) fn is_positional(&self) -> bool {
        match self {
            Updater::Operators { steps, .. } => steps.iter().any(|step| step.path.is_positional()),
            Updater::Replacement(_) => false,
        }
    }

    /// The document after the change, or nothing when it stays as it is.
    /// `position` is the array element that the filter matched.
    pub(crate) fn apply(
        &self,
        document: &[u8],
        position: Option<usize>,
    ) -> Result<Option<RawDocumentBuf>> {
        let mut changed = match self {
            Updater::Replacement(replacement) => {
                let mut changed = Document::new();
                if let Some(id) = field(document, b"_id")? {
                    changed.insert("_id", id.to_bson()?);
                }
                changed.extend(replacement.clone());
                changed
            }
            Updater::Operators { .. } => {
                let mut changed = value::decode(document)?;
                self.run(&mut changed, position, false)?;
                changed
            }
        };
        keep_id_first(&mut changed);
        let encoded = value::encode(&changed)?;
        if encoded.as_bytes() == document {
            return Ok(None);
        }
        let same_id = match (field(document, b"_id")?, field(encoded.as_bytes(), b"_id")?) {
            (Some(before), Some(after)) => {
                crate::order::compare(before, after)? == std::cmp::Ordering::Equal
            }
            _ => false,
        };
        if !same_id {
            return Err(Error::Invalid(
                "the update would change the immutable field '_id'".into(),
            ));
        }
        Ok(Some(encoded))
    }

    /// The document that an upsert inserts when `filter` matched nothing.
    pub(crate) fn insertion(&self, filter: &Document) -> Result<RawDocumentBuf> {
        let mut document = match self {
            Updater::Replacement(replacement) => {
                let mut document = replacement.clone();
                if !document.contains_key("_id")
                    && let Some(id) = upsert::equalities(filter)?.remove("_id")
                {
                    document.insert("_id", id);
                }
                document
            }
            Updater::Operators { .. } => {
                let mut document = upsert::equalities(filter)?;
                let id = document.get("_id").cloned();
                self.run(&mut document, None, true)?;
                if id.is_some() && document.get("_id") != id.as_ref() {
                    return Err(Error::Invalid(
                        "the update would change the immutable field '_id'".into(),
                    ));
                }
                document
            }
        };
        if !document.contains_key("_id") {
            document.insert("_id", bson::oid::ObjectId::new());
        }
        keep_id_first(&mut document);
        value::encode(&document)
    }

    fn run(&self, document: &mut Document, position: Option<usize>, inserting: bool) -> Result<()> {
        let Updater::Operators {
            steps,
            array_filters,
        } = self
        else {
            return Ok(());
        };
        let context = Context {
            position,
            array_filters,
            now: DateTime::now(),
        };
        for step in steps {
            match &step.operator {
                Operator::SetOnInsert(_) if !inserting => {}
                Operator::Rename(target) => tree::rename(document, &step.path, target, &context)?,
                operator => tree::apply(document, &step.path, operator, &context)?,
            }
        }
        Ok(())
    }
}

/// MongoDB stores `_id` as the first field.
fn keep_id_first(document: &mut Document) {
    if document.keys().next().is_some_and(|first| first != "_id")
        && let Some(id) = document.remove("_id")
    {
        let rest = std::mem::take(document);
        document.insert("_id", id);
        document.extend(rest);
    }
}

/// MongoDB's order of two decoded values.
fn compare(a: &Bson, b: &Bson) -> Result<std::cmp::Ordering> {
    let (a, b) = (value::OwnedValue::encode(a)?, value::OwnedValue::encode(b)?);
    Ok(crate::order::compare(a.get(), b.get())?)
}

/// Whether a filter over elements, as `$pull` and array filters have, holds.
fn element_matches(filter: &Filter, key: &str, element: &Bson) -> Result<bool> {
    let mut wrapper = Document::new();
    wrapper.insert(key, element.clone());
    let raw = value::encode(&wrapper)?;
    filter.matches(raw.as_bytes())
}

#[cfg(test)]
mod tests;
