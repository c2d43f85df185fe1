//! Aggregation pipelines: which stages there are, what they may say, and where
//! hidden fields leave the documents.
//!
//! A filter is safe when it does not name a hidden field. A pipeline can speak
//! of whole documents (`$$ROOT`, `$objectToArray`, `$group` with `$push`), so
//! that names do not suffice: the fields are taken out, by stages of ours,
//! before any stage that could show or compare them. Documents come in at two
//! places, at a pipeline's start and in `$lookup`, which is given a pipeline for
//! this where it has none: to take fields out of the list that a join made would
//! rely on how an engine walks into lists.

use bson::{Bson, Document, doc};

use super::walk::{Walk, shorten};
use super::{HIDDEN, MAX_FILTER_BYTES, collection, operators, sort, visible};
use crate::error::{Error, Result};

/// Stages of one pipeline. The embedded engine takes 200, ours among them.
const MAX_STAGES: usize = 100;
/// Pipelines within pipelines; the embedded engine takes eight.
const MAX_NESTING: usize = 5;

/// Asked about every collection that is joined, with the path in its documents
/// by which it is, if there is one: may it be read, and if so which stages come
/// before all others.
pub(crate) type Joined<'a> = dyn Fn(&str, Option<&str>) -> Result<Vec<Document>> + 'a;

/// Checks a pipeline, and answers with one that gives the same but for hidden
/// fields. `joined` is asked about every collection that is joined.
pub(crate) fn pipeline(
    stages: Vec<Document>,
    depth: usize,
    joined: &Joined<'_>,
) -> Result<Vec<Document>> {
    let mut guard = Guard {
        walk: Walk::new("pipeline", depth, MAX_FILTER_BYTES).with_whole_documents(),
        joined,
    };
    let outer = Place {
        depth: 1,
        nesting: 0,
        stored: true,
    };
    guard.pipeline(stages, outer)
}

/// Where a pipeline stands.
#[derive(Clone, Copy)]
struct Place {
    /// The depth of its stages.
    depth: usize,
    /// Pipelines around it.
    nesting: usize,
    /// Whether its documents come as they are stored, hidden fields and all.
    stored: bool,
}

struct Guard<'a> {
    walk: Walk,
    joined: &'a Joined<'a>,
}

impl Guard<'_> {
    fn pipeline(&mut self, stages: Vec<Document>, place: Place) -> Result<Vec<Document>> {
        if stages.len() > MAX_STAGES {
            return Err(Error::Invalid(format!(
                "a pipeline has at most {MAX_STAGES} stages"
            )));
        }
        if place.nesting > MAX_NESTING {
            return Err(Error::Invalid(format!(
                "pipelines nest at most {MAX_NESTING} deep"
            )));
        }
        let mut guarded = Vec::with_capacity(stages.len() + 1);
        let mut stored = place.stored;
        for stage in stages {
            self.walk.enter(place.depth)?;
            let (name, operand) = only(stage)?;
            self.walk.key(&name)?;
            if !operators::is_stage(&name) {
                return Err(Error::Invalid(format!(
                    "the stage `{}` is not supported",
                    shorten(&name)
                )));
            }
            let operand = self.operand(&name, operand, place)?;
            if stored && !passes_unseen(&name, &operand) {
                guarded.push(without_hidden());
                stored = false;
            }
            guarded.push(doc! { name: operand });
        }
        if stored {
            guarded.push(without_hidden());
        }
        Ok(guarded)
    }

    /// A stage's operand, with its own pipelines guarded.
    fn operand(&mut self, name: &str, operand: Bson, place: Place) -> Result<Bson> {
        match (name, &operand) {
            ("$lookup", _) => return self.lookup(document(name, operand)?, place),
            ("$facet", _) => return self.facets(document(name, operand)?, place),
            // A filter: what begins with `$` there is plain text, but in `$expr`.
            ("$match", _) => self.walk.query_value(&operand, place.depth, false)?,
            ("$sort", Bson::Document(keys)) => {
                sort(keys)?;
                self.walk.query_value(&operand, place.depth, true)?;
            }
            // These name fields by plain strings.
            ("$unset" | "$unwind" | "$count", _) => {
                self.walk.query_value(&operand, place.depth, true)?;
                names(&operand)?;
            }
            _ => self.walk.query_value(&operand, place.depth, true)?,
        }
        Ok(operand)
    }

    fn facets(&mut self, facets: Document, place: Place) -> Result<Bson> {
        self.walk.enter(place.depth + 1)?;
        let inner = Place {
            depth: place.depth + 3,
            nesting: place.nesting + 1,
            // What comes into `$facet` has passed the stage of ours.
            stored: false,
        };
        let mut guarded = Document::new();
        for (field, stages) in facets {
            self.walk.key(&field)?;
            let stages = self.pipeline(documents("$facet", stages)?, inner)?;
            guarded.insert(field, stages);
        }
        Ok(guarded.into())
    }

    fn lookup(&mut self, options: Document, place: Place) -> Result<Bson> {
        self.walk.enter(place.depth + 1)?;
        let inner = Place {
            depth: place.depth + 3,
            nesting: place.nesting + 1,
            stored: true,
        };
        let mut guarded = Document::new();
        let mut before = match options.get("from") {
            Some(Bson::String(name)) => {
                collection(name)?;
                let by = options.get("foreignField").and_then(Bson::as_str);
                (self.joined)(name, by)?
            }
            _ => Vec::new(),
        };
        for (option, value) in options {
            self.walk.name(&option)?;
            let value = match (option.as_str(), value) {
                ("from", Bson::String(name)) => name.into(),
                ("as" | "localField" | "foreignField", Bson::String(path)) => {
                    self.walk.name(&path)?;
                    super::path(&path)?;
                    path.into()
                }
                ("let", value) => {
                    self.walk.query_value(&value, place.depth + 1, true)?;
                    value
                }
                ("pipeline", stages) => {
                    let stages = self.pipeline(documents("$lookup", stages)?, inner)?;
                    let before = std::mem::take(&mut before);
                    before.into_iter().chain(stages).collect::<Vec<_>>().into()
                }
                ("from" | "as" | "localField" | "foreignField", _) => {
                    return Err(Error::Invalid(format!(
                        "`{option}` of `$lookup` must be a string"
                    )));
                }
                _ => {
                    return Err(Error::Invalid(format!(
                        "`$lookup` has no option `{}`",
                        shorten(&option)
                    )));
                }
            };
            guarded.insert(option, value);
        }
        if !guarded.contains_key("from") || !guarded.contains_key("as") {
            return Err(Error::Invalid("`$lookup` needs `from` and `as`".into()));
        }
        if !guarded.contains_key("pipeline") {
            // With a pipeline, the fields to join by are no longer required.
            if !guarded.contains_key("localField") || !guarded.contains_key("foreignField") {
                return Err(Error::Invalid(
                    "`$lookup` needs `localField` and `foreignField`, or a `pipeline`".into(),
                ));
            }
            before.extend(self.pipeline(Vec::new(), inner)?);
            guarded.insert("pipeline", before);
        }
        Ok(guarded.into())
    }
}

/// The stage that takes hidden fields out.
fn without_hidden() -> Document {
    doc! { "$unset": HIDDEN.to_vec() }
}

/// Whether the stage lets documents through as they are and looks at no hidden
/// field: what an index can do best, and what goes before the stage of ours.
fn passes_unseen(name: &str, operand: &Bson) -> bool {
    match name {
        "$sort" | "$skip" | "$limit" | "$sample" => true,
        "$match" => !names_whole(operand),
        _ => false,
    }
}

/// Whether anything in here could stand for the whole document.
fn names_whole(value: &Bson) -> bool {
    match value {
        Bson::String(text) => text.starts_with("$$ROOT") || text.starts_with("$$CURRENT"),
        Bson::Array(values) => values.iter().any(names_whole),
        Bson::Document(document) => document.values().any(names_whole),
        _ => false,
    }
}

/// Checks every string in here as a path.
fn names(value: &Bson) -> Result<()> {
    match value {
        Bson::String(text) => visible(text),
        Bson::Array(values) => values.iter().try_for_each(names),
        Bson::Document(document) => document.values().try_for_each(names),
        _ => Ok(()),
    }
}

/// The one field of a stage.
fn only(stage: Document) -> Result<(String, Bson)> {
    let mut fields = stage.into_iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(field),
        _ => Err(Error::Invalid(
            "a stage has exactly one field, its operator".into(),
        )),
    }
}

fn document(name: &str, operand: Bson) -> Result<Document> {
    match operand {
        Bson::Document(document) => Ok(document),
        _ => Err(Error::Invalid(format!("`{name}` takes an object"))),
    }
}

fn documents(name: &str, operand: Bson) -> Result<Vec<Document>> {
    let wrong = || {
        Error::Invalid(format!(
            "a pipeline in `{name}` must be a list of objects, its stages"
        ))
    };
    let Bson::Array(stages) = operand else {
        return Err(wrong());
    };
    stages
        .into_iter()
        .map(|stage| match stage {
            Bson::Document(stage) => Ok(stage),
            _ => Err(wrong()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
