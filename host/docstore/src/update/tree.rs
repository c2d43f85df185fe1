//! Following an update's path into a document, making what is missing.

use std::cmp::Ordering;

use bson::{Bson, DateTime, Document};

use crate::error::{Error, Result};
use crate::query::Filter;
use crate::update::operator::{Effect, Operator};
use crate::validate::MAX_DEPTH;

/// How far beyond its end an array may be written to; the gap fills with nulls.
const MAX_PADDING: usize = 1_500_000;

/// A dotted path of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdatePath {
    text: String,
    parts: Vec<Part>,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// An array position, which is also the field name of its digits.
    Position(usize),
    Name(String),
    /// `$`: the element that the filter matched.
    Matched,
    /// `$[]`
    Every,
    /// `$[name]`
    Filtered(String),
}

/// Names in alphabetical order, positions in numerical: MongoDB's order of
/// applying, and so of the fields that an update adds.
impl Ord for UpdatePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts.cmp(&other.parts)
    }
}

impl PartialOrd for UpdatePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl UpdatePath {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |problem: &str| {
            Err(Error::Invalid(format!(
                "the update path '{text:.200}' {problem}"
            )))
        };
        let mut parts = Vec::new();
        for name in text.split('.') {
            parts.push(match name {
                "" => return invalid("contains an empty field name"),
                "$" => Part::Matched,
                "$[]" => Part::Every,
                _ => match name
                    .strip_prefix("$[")
                    .and_then(|rest| rest.strip_suffix(']'))
                {
                    Some(identifier) => Part::Filtered(identifier.to_owned()),
                    None if name.starts_with('$') => {
                        return invalid("has a field name that starts with '$'");
                    }
                    None if name.contains('\0') => return invalid("contains a NUL character"),
                    None => match crate::path::Part::new(name).position {
                        Some(position) => Part::Position(position),
                        None => Part::Name(name.to_owned()),
                    },
                },
            });
        }
        if parts.len() > MAX_DEPTH {
            return invalid("is too deep");
        }
        if matches!(
            parts.first(),
            Some(Part::Matched | Part::Every | Part::Filtered(_))
        ) {
            return invalid("starts with an array position");
        }
        Ok(UpdatePath {
            text: text.to_owned(),
            parts,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn starts_with(&self, other: &Self) -> bool {
        self.parts.starts_with(&other.parts)
    }

    pub(crate) fn is_positional(&self) -> bool {
        self.parts.contains(&Part::Matched)
    }

    pub(crate) fn has_wildcards(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Matched | Part::Every | Part::Filtered(_)))
    }

    /// The names of array filters that the path needs.
    pub(crate) fn identifiers(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Filtered(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// What operators may ask about the moment of their application.
pub(crate) struct Context<'a> {
    /// The array element that the filter matched.
    pub(crate) position: Option<usize>,
    pub(crate) array_filters: &'a [(String, Filter)],
    pub(crate) now: DateTime,
}

/// Applies `operator` at `path`.
pub(crate) fn apply(
    document: &mut Document,
    path: &UpdatePath,
    operator: &Operator,
    context: &Context<'_>,
) -> Result<()> {
    Walk {
        path,
        operator,
        context,
    }
    .document(document, &path.parts)
}

/// Moves the value at `source` to `target`.
pub(crate) fn rename(
    document: &mut Document,
    source: &UpdatePath,
    target: &UpdatePath,
    context: &Context<'_>,
) -> Result<()> {
    if !reaches(document, source)? {
        return Ok(());
    }
    reaches(document, target)?;
    let Some(value) = take(document, &source.parts) else {
        return Ok(());
    };
    apply(document, target, &Operator::Set(value), context)
}

/// Whether a renamed path ends at a value. It may not pass through arrays (which
/// element would be meant?) or through what has no fields.
fn reaches(document: &Document, path: &UpdatePath) -> Result<bool> {
    let Some((last, before)) = path.parts.split_last() else {
        return Ok(false);
    };
    let mut document = document;
    for part in before {
        match document.get(part.name()) {
            Some(Bson::Document(inner)) => document = inner,
            None => return Ok(false),
            Some(_) => {
                return Err(Error::Invalid(format!(
                    "$rename cannot pass through the value at '{}' of '{}', which is not a document",
                    part.name(),
                    path.as_str()
                )));
            }
        }
    }
    Ok(document.contains_key(last.name()))
}

fn take(document: &mut Document, parts: &[Part]) -> Option<Bson> {
    let (part, rest) = parts.split_first()?;
    if rest.is_empty() {
        return document.remove(&*part.name());
    }
    match document.get_mut(&*part.name()) {
        Some(Bson::Document(inner)) => take(inner, rest),
        _ => None,
    }
}

impl Part {
    fn name(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Part::Name(name) => name.into(),
            Part::Position(position) => position.to_string().into(),
            Part::Matched => "$".into(),
            Part::Every => "$[]".into(),
            Part::Filtered(name) => format!("$[{name}]").into(),
        }
    }
}

struct Walk<'a> {
    path: &'a UpdatePath,
    operator: &'a Operator,
    context: &'a Context<'a>,
}

impl Walk<'_> {
    fn invalid(&self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("cannot update '{}': {problem}", self.path.as_str()))
    }

    fn document(&self, document: &mut Document, parts: &[Part]) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            return Ok(());
        };
        let name = match part {
            Part::Name(_) | Part::Position(_) => part.name(),
            _ => {
                // `$` may stand for a field only by mistake.
                return if self.operator.creates() {
                    Err(self.invalid(format!("'{}' is not in an array", part.name())))
                } else {
                    Ok(())
                };
            }
        };
        if rest.is_empty() {
            return match self.operator.apply(
                document.get_mut(&*name),
                self.path.as_str(),
                self.context,
            )? {
                Effect::Done => Ok(()),
                Effect::Set(value) => {
                    document.insert(name, value);
                    Ok(())
                }
                Effect::Remove => {
                    document.remove(&*name);
                    Ok(())
                }
            };
        }
        match document.get_mut(&*name) {
            Some(inner) => self.value(inner, rest),
            None if self.operator.creates() => {
                let made = self.make(rest)?;
                if let Some(made) = made {
                    document.insert(name, made);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A new embedded document that holds the rest of the path.
    fn make(&self, parts: &[Part]) -> Result<Option<Bson>> {
        let mut made = Document::new();
        self.document(&mut made, parts)?;
        Ok((!made.is_empty()).then_some(Bson::Document(made)))
    }

    fn value(&self, value: &mut Bson, parts: &[Part]) -> Result<()> {
        match value {
            Bson::Document(document) => self.document(document, parts),
            Bson::Array(array) => self.array(array, parts),
            _ if self.operator.creates() => {
                let name = parts.first().map(Part::name).unwrap_or_default();
                Err(self.invalid(format!(
                    "cannot create the field '{name}' in a value that is not a document"
                )))
            }
            _ => Ok(()),
        }
    }

    fn array(&self, array: &mut Vec<Bson>, parts: &[Part]) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            return Ok(());
        };
        match part {
            Part::Position(position) => self.element(array, *position, rest),
            Part::Matched => match self.context.position {
                Some(position) => self.element(array, position, rest),
                None => Err(self.invalid("the filter did not match an array element for '$'")),
            },
            Part::Every => {
                for position in 0..array.len() {
                    self.element(array, position, rest)?;
                }
                Ok(())
            }
            Part::Filtered(name) => {
                let filter = self
                    .context
                    .array_filters
                    .iter()
                    .find(|(known, _)| known == name);
                let (_, filter) =
                    filter.ok_or_else(|| self.invalid("an array filter is missing"))?;
                for position in 0..array.len() {
                    let matched = match array.get(position) {
                        Some(element) => super::element_matches(filter, name, element)?,
                        None => false,
                    };
                    if matched {
                        self.element(array, position, rest)?;
                    }
                }
                Ok(())
            }
            Part::Name(name) if self.operator.creates() => {
                Err(self.invalid(format!("cannot create the field '{name}' in an array")))
            }
            Part::Name(_) => Ok(()),
        }
    }

    fn element(&self, array: &mut Vec<Bson>, position: usize, rest: &[Part]) -> Result<()> {
        if !rest.is_empty() {
            if let Some(element) = array.get_mut(position) {
                return self.value(element, rest);
            }
            if self.operator.creates()
                && let Some(made) = self.make(rest)?
            {
                self.put(array, position, made)?;
            }
            return Ok(());
        }
        match self
            .operator
            .apply(array.get_mut(position), self.path.as_str(), self.context)?
        {
            Effect::Done => Ok(()),
            Effect::Set(value) => self.put(array, position, value),
            Effect::Remove => {
                // An array keeps its length: what is unset becomes null.
                if let Some(element) = array.get_mut(position) {
                    *element = Bson::Null;
                }
                Ok(())
            }
        }
    }

    fn put(&self, array: &mut Vec<Bson>, position: usize, value: Bson) -> Result<()> {
        if position.saturating_sub(array.len()) > MAX_PADDING {
            return Err(self.invalid("the array position is too far beyond the end"));
        }
        if position >= array.len() {
            array.resize(position + 1, Bson::Null);
        }
        if let Some(element) = array.get_mut(position) {
            *element = value;
        }
        Ok(())
    }
}
