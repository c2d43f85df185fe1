//! What this engine understands of MongoDB's language, for whoever stands before
//! it: the names of all operators and stages, and the checks that refuse what
//! the engine would refuse.
//!
//! Another engine behind the same interface can ask here first, so that a
//! question is answered or refused alike by both. Only what can be told without
//! the documents is checked.

use bson::Document;

use crate::aggregate::Pipeline;
use crate::error::Result;
use crate::keys::KeyPattern;
use crate::model::{Find, Update};
use crate::projection::Projection;
use crate::query::{Budget, Filter};
use crate::update::Updater;

/// Operators of filters, and the three names of a DBRef.
pub const QUERY: &[&str] = crate::query::OPERATORS;
/// Operators of updates.
pub const UPDATE: &[&str] = crate::update::OPERATORS;
/// What `$push` and `$addToSet` take beside values.
pub const MODIFIER: &[&str] = &["$each", "$position", "$slice", "$sort"];
/// Stages of pipelines.
pub const STAGE: &[&str] = crate::aggregate::STAGES;

/// Operators of expressions.
pub fn expressions() -> impl Iterator<Item = &'static str> {
    crate::expression::operators()
}

/// Accumulators of `$group` and `$bucket`.
pub fn accumulators() -> impl Iterator<Item = &'static str> {
    crate::aggregate::accumulators()
}

/// Refuses a filter that is malformed, or not supported.
pub fn check_filter(filter: &Document) -> Result<()> {
    Filter::compile(filter).map(drop)
}

/// Refuses a find of which a part is malformed, or not supported.
pub fn check_find(find: &Find) -> Result<()> {
    let _patterns = Budget::open();
    check_filter(&find.filter)?;
    if let Some(projection) = &find.projection {
        Projection::compile(projection)?;
    }
    match &find.sort {
        Some(sort) if !sort.is_empty() => KeyPattern::parse(sort, "sort").map(drop),
        _ => Ok(()),
    }
}

/// Refuses an update of which a part is malformed, or not supported.
pub fn check_update(update: &Update) -> Result<()> {
    let _patterns = Budget::open();
    check_filter(&update.filter)?;
    Updater::compile(update).map(drop)
}

/// Refuses a pipeline of which a stage is malformed, or not supported.
pub fn check_pipeline(pipeline: &[Document]) -> Result<()> {
    Pipeline::compile(pipeline).map(drop)
}
