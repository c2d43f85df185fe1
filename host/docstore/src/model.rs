//! The vocabulary of document operations: what a caller says, whichever engine
//! answers. The shapes are MongoDB's.

use std::time::Duration;

use bson::{Bson, Document};

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Find {
    /// Query filter; empty matches all.
    pub filter: Document,
    /// Fields to include or exclude.
    pub projection: Option<Document>,
    /// Sort keys in order, `1` or `-1`. Natural order without.
    pub sort: Option<Document>,
    /// Matches to pass over.
    pub skip: u64,
    /// The most documents to yield.
    pub limit: Option<u64>,
    /// Give up with [`crate::Error::Timeout`] after this long.
    pub max_time: Option<Duration>,
}

/// A change of documents.
#[derive(Debug, Clone)]
pub struct Update {
    /// Which documents.
    pub filter: Document,
    /// What to do to them.
    pub change: Change,
    /// Every match rather than the first.
    pub many: bool,
    /// Insert when nothing matches.
    pub upsert: bool,
    /// Conditions for `$[name]` in paths.
    pub array_filters: Vec<Document>,
}

/// The two kinds of change that MongoDB knows.
#[derive(Debug, Clone)]
pub enum Change {
    /// Update operators: every key starts with `$`.
    Operators(Document),
    /// A whole new document; `_id` stays.
    Replacement(Document),
}

/// What an update did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UpdateOutcome {
    /// Documents that the filter matched.
    pub matched: u64,
    /// Documents that changed.
    pub modified: u64,
    /// The `_id` of the document that an upsert made.
    pub upserted_id: Option<Bson>,
}

/// A secondary index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSpec {
    /// Made from the keys, as MongoDB does (`a_1_b_-1`), when absent.
    pub name: Option<String>,
    /// Paths and directions, `1` or `-1`.
    pub keys: Document,
    /// Refuse a second document with the same key.
    pub unique: bool,
    /// Leave out documents that have none of the paths.
    pub sparse: bool,
    /// Delete documents this long after the date that the one path holds.
    pub expire_after: Option<Duration>,
}

impl IndexSpec {
    /// The index's name: the given one, or MongoDB's default for the keys.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let parts: Vec<String> = self
                .keys
                .iter()
                .map(|(path, direction)| format!("{path}_{direction}"))
                .collect();
            parts.join("_")
        })
    }
}

/// What the documents of a collection must look like.
#[derive(Debug, Clone, PartialEq)]
pub struct Validator {
    /// A schema in the language of MongoDB's `$jsonSchema`.
    pub schema: Document,
    /// Which writes it is asked about.
    pub level: ValidationLevel,
}

/// Which writes a collection's schema is asked about. Inserts always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ValidationLevel {
    /// Every update.
    #[default]
    Strict,
    /// Updates of documents that satisfy the schema already; older documents
    /// that do not can still be changed.
    Moderate,
}

/// What a check of the whole store found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckReport {
    /// Collections that were read.
    pub collections: u64,
    /// Documents that were read.
    pub documents: u64,
    /// What is wrong, in words for an operator; empty when nothing is.
    pub problems: Vec<String>,
}
