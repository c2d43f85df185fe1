//! How large a schema is with its references written out, and how large a value
//! is, so that what a check costs is known before it is made.

use std::collections::HashMap;

use serde_json::Value;

/// Keywords whose members are schemas under names of the author's choice.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];
/// Keywords whose values are data.
const DATA: [&str; 6] = ["const", "enum", "default", "examples", "required", "type"];
/// Keywords that make a reference mean another place than the pointer says, or
/// that mean another draft.
const REFUSED: [&str; 7] = [
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
];
/// A check recurses this deep at most.
const MAX_DEPTH: usize = 100;
/// Places that are referred to; the walk recurses through them.
const MAX_TARGETS: usize = 100;
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// How far a schema extends, each reference written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Subschemas.
    pub(super) size: u64,
    /// How deep they are nested, which is what a check takes of the stack.
    pub(super) depth: usize,
}

impl Extent {
    const NONE: Self = Self { size: 0, depth: 0 };
    const ONE: Self = Self { size: 1, depth: 1 };

    fn and(self, other: Self) -> Self {
        Self {
            size: self.size.saturating_add(other.size),
            depth: self.depth.max(other.depth),
        }
    }

    fn below_another(self) -> Self {
        Self {
            size: self.size.saturating_add(1),
            depth: self.depth + 1,
        }
    }
}

/// The extent of a schema; else the rest of the sentence "a schema …".
pub(super) fn of(root: &Value) -> Result<Extent, String> {
    let mut walk = Walk {
        root,
        known: HashMap::new(),
    };
    walk.schema(root)
}

/// Parts of a value; long texts count for what reading them costs.
pub(super) fn parts(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() as u64 / 16,
        Value::Array(items) => 1 + items.iter().map(parts).sum::<u64>(),
        Value::Object(members) => {
            1 + members
                .iter()
                .map(|(name, value)| 1 + name.len() as u64 / 16 + parts(value))
                .sum::<u64>()
        }
    }
}

struct Walk<'a> {
    root: &'a Value,
    /// What each reference extends to; nothing while that is being found out.
    known: HashMap<&'a str, Option<Extent>>,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, schema: &'a Value) -> Result<Extent, String> {
        let Value::Object(keywords) = schema else {
            return Ok(Extent::ONE);
        };
        let mut below = Extent::NONE;
        for (keyword, value) in keywords {
            let keyword = keyword.as_str();
            if REFUSED.contains(&keyword) {
                return Err(format!("with {keyword}, which is not supported"));
            }
            let more = match (keyword, value) {
                ("$schema", Value::String(draft)) if draft.trim_end_matches('#') == DRAFT => {
                    Extent::NONE
                }
                ("$schema", _) => return Err(format!("with a $schema other than {DRAFT}")),
                ("$ref", Value::String(target)) => self.reference(target)?,
                // Compared one by one.
                ("enum", Value::Array(values)) => Extent {
                    size: values.len() as u64,
                    depth: 1,
                },
                (name, _) if DATA.contains(&name) => Extent::ONE,
                // What is defined counts where it is referred to.
                ("$defs" | "definitions", Value::Object(named)) => {
                    self.all(named.values())?;
                    Extent::NONE
                }
                (name, Value::Object(named)) if NAMED.contains(&name) => {
                    self.all(named.values())?
                }
                (_, Value::Object(_)) => self.schema(value)?,
                (_, Value::Array(list)) => self.all(list.iter())?,
                _ => Extent::ONE,
            };
            below = below.and(more);
        }
        let extent = below.below_another();
        if extent.depth > MAX_DEPTH {
            return Err(format!(
                "nested deeper than {MAX_DEPTH}, references written out"
            ));
        }
        Ok(extent)
    }

    fn all(&mut self, mut schemas: impl Iterator<Item = &'a Value>) -> Result<Extent, String> {
        schemas.try_fold(
            Extent::NONE,
            |all, schema| Ok(all.and(self.schema(schema)?)),
        )
    }

    fn reference(&mut self, target: &'a str) -> Result<Extent, String> {
        match self.known.get(target) {
            Some(Some(extent)) => return Ok(*extent),
            Some(None) => {
                return Err(format!(
                    "with a $ref to {target:?}, which contains the reference"
                ));
            }
            None if self.known.len() >= MAX_TARGETS => {
                return Err(format!("that refers to more than {MAX_TARGETS} places"));
            }
            None => {}
        }
        // With percent signs there would be two ways to write a pointer.
        let pointer = target.strip_prefix('#').filter(|_| !target.contains('%'));
        let Some(referred) = pointer.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(format!(
                "with a $ref to {target:?}, which is no pointer to a part of it such as \"#/$defs/name\""
            ));
        };
        self.known.insert(target, None);
        let extent = self.schema(referred)?;
        self.known.insert(target, Some(extent));
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_count_as_what_they_refer_to() {
        let schema = json!({
            "$defs": {"a": {"type": "object", "properties": {"x": {"minimum": 1}}}},
            "items": {"$ref": "#/$defs/a"},
        });
        // The root, items, and what a is.
        let size = 1 + 1 + (1 + 1 + (1 + 1));
        assert_eq!(of(&schema), Ok(Extent { size, depth: 5 }));
        assert!(of(&json!({"items": {"$ref": "#"}})).is_err());
        let mutual = json!({
            "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"not": {"$ref": "#/$defs/a"}}},
        });
        assert!(of(&mutual).is_err());
        assert!(of(&json!({"$ref": "#/%24defs/a", "$defs": {"a": {}}})).is_err());
    }

    #[test]
    fn a_value_is_as_large_as_its_parts() {
        assert_eq!(parts(&json!([1, {"a": null}])), 1 + 1 + (1 + 1 + 1));
        assert_eq!(parts(&json!("x".repeat(160))), 11);
    }
}
