//! MongoDB's query language: a filter is compiled once into a tree, and the tree
//! is run on documents as they lie in the store, without decoding them.

mod compile;
mod pattern;
mod test;

use bson::Document;

use crate::error::Result;
use crate::path::{Leaf, Path};
use crate::value::{Corrupt, Kind, Value};

pub(crate) use pattern::Pattern;
pub(crate) use test::{Comparison, Test};

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    root: Node,
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
    /// The path leads to an array with one element that the node matches.
    Element {
        path: Path,
        node: Box<Node>,
    },
}

impl Filter {
    /// Compiles a filter. The text of an error names the operator and path.
    pub fn compile(filter: &Document) -> Result<Self> {
        crate::validate::depth(filter)?;
        let raw = crate::value::encode(filter)?;
        let root = compile::filter(Value::document(raw.as_bytes()))?;
        Ok(Filter { root })
    }

    /// Whether a document matches.
    pub(crate) fn matches(&self, document: &[u8]) -> Result<bool, Corrupt> {
        self.root.matches(Value::document(document))
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
            Node::Not(_) | Node::Size { .. } => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
