//! What the documents of a collection must look like: MongoDB's `$jsonSchema`.
//!
//! The language is the one of MongoDB's manual (`reference/operator/query/jsonSchema`):
//! JSON Schema draft 4 without references, and `bsonType`. A schema is compiled
//! once, when it is set or read from the catalogue, and run by the writer on raw
//! BSON before a document is stored. Adapters of other engines use [`Schema`] to
//! refuse a schema before they hand it on, and [`Failure`] for what they hear
//! back. It does not know how documents come to be written.
//!
//! Two things are narrower than in MongoDB: patterns are those of `$regex` here
//! (see `query::pattern`), and a property's name has no dot, which MongoDB would
//! read as a path and JSON Schema as a name.

mod check;
mod compile;
mod equal;
mod failure;
mod parts;

use std::collections::{HashMap, HashSet};

use bson::{Document, RawDocument};

use crate::error::{Error, Result};
use crate::number::Number;
use crate::query::Pattern;
use crate::value::{Corrupt, Kind, OwnedValue, Value};

pub use check::MAX_FAILURES;
pub use failure::{Failure, detail, needed_by, pointer};

/// A compiled schema.
#[derive(Debug, Clone)]
pub struct Schema {
    root: Node,
}

impl Schema {
    /// Compiles a schema. The text of an error names the keyword and where in
    /// the schema it stands.
    pub fn compile(schema: &Document) -> Result<Self> {
        crate::validate::depth(schema)?;
        let raw = crate::value::encode(schema)?;
        let root = compile::schema(Value::document(raw.as_bytes()))?;
        Ok(Schema { root })
    }

    /// Whether a document satisfies the schema.
    pub fn matches(&self, document: &RawDocument) -> Result<bool> {
        Ok(self.accepts(document.as_bytes())?)
    }

    /// What a document fails, at most [`MAX_FAILURES`] of it, in the order in
    /// which MongoDB tells; empty when it satisfies the schema.
    pub fn failures(&self, document: &RawDocument) -> Result<Vec<Failure>> {
        Ok(check::explain(
            &self.root,
            Value::document(document.as_bytes()),
        )?)
    }

    pub(crate) fn accepts(&self, document: &[u8]) -> Result<bool, Corrupt> {
        check::accepts(&self.root, Value::document(document))
    }

    /// Refuses a document that does not satisfy the schema.
    pub(crate) fn require(&self, document: &[u8]) -> Result<()> {
        if self.accepts(document)? {
            return Ok(());
        }
        let failures = check::explain(&self.root, Value::document(document))?;
        Err(Error::DocumentInvalid { failures })
    }
}

/// One schema, at whatever depth. The keywords about one type are together: a
/// value of another type passes them all.
#[derive(Debug, Clone, Default)]
struct Node {
    types: Option<Types>,
    text: Option<Box<Text>>,
    number: Option<Box<Numeric>>,
    array: Option<Box<Array>>,
    object: Option<Box<Object>>,
    logic: Option<Box<Logic>>,
}

#[derive(Debug, Clone)]
struct Types {
    /// `bsonType` or `type`.
    keyword: &'static str,
    names: Vec<String>,
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Default)]
struct Text {
    pattern: Option<(Pattern, String)>,
    /// In code points.
    max: Option<u64>,
    min: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Numeric {
    multiple_of: Option<OwnedValue>,
    maximum: Option<Bound>,
    minimum: Option<Bound>,
}

#[derive(Debug, Clone)]
struct Bound {
    value: OwnedValue,
    exclusive: bool,
}

#[derive(Debug, Clone, Default)]
struct Array {
    min: Option<u64>,
    max: Option<u64>,
    unique: bool,
    items: Items,
}

#[derive(Debug, Clone, Default)]
enum Items {
    #[default]
    Any,
    /// One schema for all.
    Each(Node),
    /// One by one, and the rest.
    Tuple(Vec<Node>, Additional),
}

#[derive(Debug, Clone, Default)]
struct Object {
    /// Every name that the keywords below mention, with its place in the list
    /// of what one walk over a document finds.
    names: HashMap<Vec<u8>, usize>,
    properties: Vec<(Name, Node)>,
    patterns: Vec<(Pattern, Node)>,
    additional: Additional,
    required: Vec<Name>,
    min: Option<u64>,
    max: Option<u64>,
    dependencies: Vec<(Name, Dependency)>,
}

#[derive(Debug, Clone)]
struct Name {
    text: String,
    place: usize,
}

#[derive(Debug, Clone, Default)]
enum Additional {
    #[default]
    Allowed,
    Refused,
    Schema(Box<Node>),
}

#[derive(Debug, Clone)]
enum Dependency {
    Names(Vec<Name>),
    Schema(Node),
}

#[derive(Debug, Clone, Default)]
struct Logic {
    all_of: Vec<Node>,
    any_of: Vec<Node>,
    one_of: Vec<Node>,
    not: Option<Node>,
    one_value_of: Option<Enumeration>,
}

#[derive(Debug, Clone)]
struct Enumeration {
    keys: HashSet<Vec<u8>>,
    values: OwnedValue,
}

impl Bound {
    /// Whether `number` and the bound are in one of the orders that `accepts`
    /// names. NaN is beside all numbers but itself, as in MongoDB's comparisons.
    fn holds(&self, number: Number, below: bool) -> bool {
        let Some(bound) = Number::of(self.value.get()) else {
            return false;
        };
        if number.is_nan() || bound.is_nan() {
            return !self.exclusive && number.is_nan() && bound.is_nan();
        }
        let order = crate::number::compare(number, bound);
        match below {
            true => order.is_lt() || order.is_eq() && !self.exclusive,
            false => order.is_gt() || order.is_eq() && !self.exclusive,
        }
    }
}

#[cfg(test)]
mod tests;
