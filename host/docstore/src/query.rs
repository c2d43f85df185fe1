//! MongoDB's query language: a filter is compiled once into a tree, and the tree
//! is run on documents as they lie in the store, without decoding them.

mod compile;
mod pattern;
mod test;

use std::sync::Arc;

use bson::{Bson, Document};

use crate::error::Result;
use crate::expression::{Environment, Expression, Scope, is_true};
use crate::path::{Leaf, Path};
use crate::value::{Corrupt, Kind, OwnedValue, Value};

pub(crate) use compile::OPERATORS;
pub(crate) use compile::kinds_named;
pub(crate) use pattern::{Budget, Pattern};
pub(crate) use test::{Comparison, Test};

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    root: Node,
    has_expression: bool,
    uses_variables: bool,
}

/// A node of the filter tree.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// All hold; an empty list is true.
    And(Vec<Node>),
    /// One holds; an empty list is false.
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Something that the path leads to passes the test.
    Field {
        path: Path,
        test: Test,
    },
    /// The path leads to an array of this many elements.
    Size {
        path: Path,
        size: usize,
    },
    /// An aggregation expression is true.
    Expression(Arc<Expression>),
    /// The path leads to an array with one element that the node matches.
    Element {
        path: Path,
        node: Box<Node>,
    },
}

impl Filter {
    /// Compiles a filter. The text of an error names the operator and path.
    pub fn compile(filter: &Document) -> Result<Self> {
        Self::compile_with(filter, &[])
    }

    /// Compiles a filter whose `$expr` may use the variables `names`.
    pub(crate) fn compile_with(filter: &Document, names: &[String]) -> Result<Self> {
        crate::validate::depth(filter)?;
        let _patterns = Budget::open();
        let raw = crate::value::encode(filter)?;
        let root = compile::filter(Value::document(raw.as_bytes()), Some(names))?;
        let has_expression = root.has_expression();
        Ok(Filter {
            root,
            has_expression,
            uses_variables: has_expression && !names.is_empty(),
        })
    }

    /// The filter that matches all.
    pub(crate) fn everything() -> Self {
        Filter::plain(Node::And(Vec::new()))
    }

    fn plain(root: Node) -> Self {
        Filter {
            root,
            has_expression: false,
            uses_variables: false,
        }
    }

    /// Matches documents of which `field` equals one of the values, arrays and
    /// operators among them taken as what they are.
    pub(crate) fn any_of(field: &str, values: Vec<Bson>) -> Result<Self> {
        let mut list = Vec::with_capacity(values.len());
        let mut null = false;
        for value in &values {
            null |= *value == Bson::Null;
            list.push(OwnedValue::encode(value)?);
        }
        let test = Test::any_of(list, null);
        Ok(Filter::plain(Node::Field {
            path: Path::parse(field)?,
            test,
        }))
    }

    /// Both filters hold.
    pub(crate) fn and(self, other: Self) -> Self {
        let mut nodes = Vec::new();
        for root in [self.root, other.root] {
            match root {
                Node::And(inner) => nodes.extend(inner),
                node => nodes.push(node),
            }
        }
        Filter {
            root: Node::And(nodes),
            has_expression: self.has_expression || other.has_expression,
            uses_variables: self.uses_variables || other.uses_variables,
        }
    }

    /// Whether the filter may need variables beside the document.
    pub(crate) fn uses_variables(&self) -> bool {
        self.uses_variables
    }

    /// Whether a decoded document matches, with these variables.
    pub(crate) fn matches_with(
        &self,
        document: &Document,
        variables: &[(String, Bson)],
        environment: &Environment,
    ) -> Result<bool> {
        let raw = crate::value::encode(document)?;
        if self.has_expression {
            return self
                .root
                .check(raw.as_bytes(), document, variables, environment);
        }
        Ok(self.root.matches(Value::document(raw.as_bytes()))?)
    }

    /// Whether a document, as BSON, matches.
    #[inline]
    pub fn matches(&self, document: &[u8]) -> Result<bool> {
        if self.has_expression {
            let decoded = crate::value::decode(document)?;
            return self
                .root
                .check(document, &decoded, &[], &Environment::default());
        }
        Ok(self.root.matches(Value::document(document))?)
    }

    /// The position of the array element by which a document matches, for the
    /// update operator `$`.
    pub(crate) fn position(&self, document: &[u8]) -> Result<Option<usize>, Corrupt> {
        self.root.position(Value::document(document))
    }

    /// Whether the filter matches everything.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.root, Node::And(nodes) if nodes.is_empty())
    }

    /// The conditions that must all hold, for the planner.
    pub(crate) fn conjuncts(&self) -> &[Node] {
        match &self.root {
            Node::And(nodes) => nodes,
            node => std::slice::from_ref(node),
        }
    }
}

impl Node {
    fn has_expression(&self) -> bool {
        match self {
            Node::Expression(_) => true,
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::has_expression),
            Node::Not(node) => node.has_expression(),
            Node::Field { .. } | Node::Size { .. } | Node::Element { .. } => false,
        }
    }

    /// As [`Node::matches`], for trees with expressions, which see the decoded
    /// document.
    fn check(
        &self,
        raw: &[u8],
        document: &Document,
        variables: &[(String, Bson)],
        environment: &Environment,
    ) -> Result<bool> {
        match self {
            Node::And(nodes) => {
                for node in nodes {
                    if !node.check(raw, document, variables, environment)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Or(nodes) => {
                for node in nodes {
                    if node.check(raw, document, variables, environment)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Not(node) => Ok(!node.check(raw, document, variables, environment)?),
            Node::Expression(expression) => {
                let mut scope = Scope::new(document, variables, environment);
                Ok(is_true(expression.evaluate(&mut scope)?.as_ref()))
            }
            node => Ok(node.matches(Value::document(raw))?),
        }
    }

    pub(crate) fn matches(&self, target: Value<'_>) -> Result<bool, Corrupt> {
        match self {
            Node::And(nodes) => {
                for node in nodes {
                    if !node.matches(target)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Node::Or(nodes) => {
                for node in nodes {
                    if node.matches(target)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Not(node) => Ok(!node.matches(target)?),
            // Trees with expressions are run by `check`.
            Node::Expression(_) => Ok(false),
            Node::Field { path, test } => {
                path.any(target, Leaf::Expand, &mut |value| test.passes(value))
            }
            Node::Size { path, size } => path.any(target, Leaf::Whole, &mut |value| match value {
                Some(value) if value.kind == Kind::Array => Ok(value.len()? == *size),
                _ => Ok(false),
            }),
            Node::Element { path, node } => path.any(target, Leaf::Whole, &mut |value| {
                let Some(array) = value.filter(|value| value.kind == Kind::Array) else {
                    return Ok(false);
                };
                for element in array.values() {
                    if node.matches(element?)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }),
        }
    }

    /// The first array element by which a condition holds.
    fn position(&self, target: Value<'_>) -> Result<Option<usize>, Corrupt> {
        match self {
            Node::And(nodes) | Node::Or(nodes) => {
                for node in nodes {
                    if node.matches(target)?
                        && let Some(position) = node.position(target)?
                    {
                        return Ok(Some(position));
                    }
                }
                Ok(None)
            }
            Node::Field { path, test } => path.position(target, &mut |value| test.passes(value)),
            Node::Element { path, node } => path.position(target, &mut |value| match value {
                Some(value) => node.matches(value),
                None => Ok(false),
            }),
            Node::Not(_) | Node::Size { .. } | Node::Expression(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
