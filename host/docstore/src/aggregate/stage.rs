//! The stages, compiled.

use bson::Bson;

use crate::aggregate::Pipeline;
use crate::aggregate::group::Accumulator;
use crate::aggregate::project::Shape;
use crate::expression::Expression;
use crate::keys::KeyPattern;
use crate::path::Path;
use crate::query::Filter;

/// One stage.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Match(Filter),
    /// `$project`, `$addFields`, `$unset`.
    Project(Shape),
    ReplaceRoot(Expression),
    Sort(KeyPattern),
    Skip(u64),
    Limit(u64),
    Unwind {
        path: Vec<String>,
        index: Option<String>,
        keep: bool,
    },
    Group {
        key: Expression,
        fields: Vec<(String, Accumulator)>,
    },
    Bucket {
        key: Expression,
        boundaries: Vec<Bson>,
        default: Option<Bson>,
        fields: Vec<(String, Accumulator)>,
    },
    Count(String),
    Lookup(Box<Lookup>),
    Facet(Vec<(String, Pipeline)>),
    Sample(usize),
}

/// `$lookup`.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) from: String,
    /// Fields that must be equal, here and there.
    pub(crate) fields: Option<(Path, String)>,
    pub(crate) variables: Vec<(String, Expression)>,
    pub(crate) pipeline: Pipeline,
    pub(crate) target: Vec<String>,
}
