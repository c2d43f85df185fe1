//! Dotted paths, and MongoDB's way of following one through a document: arrays
//! on the way are entered, element by element, and a numeric name also means a
//! position.

use crate::error::{Error, Result};
use crate::validate::MAX_DEPTH;
use crate::value::{Corrupt, Kind, Value, field};

/// A parsed dotted path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    text: Box<str>,
    parts: Box<[Part]>,
}

/// One name in a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) name: Box<str>,
    /// The array position that the name also is, such as 0 for `0`.
    pub(crate) position: Option<usize>,
}

impl Part {
    pub(crate) fn new(name: &str) -> Self {
        let canonical = name.bytes().all(|byte| byte.is_ascii_digit())
            && (name == "0" || !name.starts_with('0'));
        let position = if canonical { name.parse().ok() } else { None };
        Part {
            name: name.into(),
            position,
        }
    }
}

/// What happens at an array where the path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// Its elements are visited, then the array itself.
    Expand,
    /// Only the array itself is.
    Whole,
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts: Box<[Part]> = text.split('.').map(Part::new).collect();
        if parts.len() > MAX_DEPTH {
            return Err(Error::Invalid(format!(
                "the path '{:.40}…' is too deep",
                text
            )));
        }
        Ok(Path {
            text: text.into(),
            parts,
        })
    }

    /// The path of the visited value itself, which has no parts.
    pub(crate) fn this(text: &str) -> Self {
        Path {
            text: text.into(),
            parts: Box::default(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Shows `visit` what the path leads to, until it answers true. `None`
    /// stands for a missing field. Scalars inside an array that the path goes
    /// on through lead nowhere: neither a value nor a missing one.
    pub(crate) fn any<'a, F>(
        &self,
        target: Value<'a>,
        leaf: Leaf,
        visit: &mut F,
    ) -> Result<bool, Corrupt>
    where
        F: FnMut(Option<Value<'a>>) -> Result<bool, Corrupt>,
    {
        match &*self.parts {
            [] => visit(Some(target)),
            parts => walk(target.bytes, parts, leaf, visit),
        }
    }
}

impl Path {
    /// The position, in the first array on the way, of the element through which
    /// `visit` is satisfied.
    pub(crate) fn position<'a, F>(
        &self,
        target: Value<'a>,
        visit: &mut F,
    ) -> Result<Option<usize>, Corrupt>
    where
        F: FnMut(Option<Value<'a>>) -> Result<bool, Corrupt>,
    {
        let mut value = target;
        let mut parts = &*self.parts;
        while value.kind != Kind::Array {
            let Some((part, rest)) = parts.split_first() else {
                return Ok(None);
            };
            if value.kind != Kind::Document {
                return Ok(None);
            }
            let Some(inner) = field(value.bytes, part.name.as_bytes())? else {
                return Ok(None);
            };
            (value, parts) = (inner, rest);
        }
        for (position, element) in value.values().enumerate() {
            let element = element?;
            let found = match element.kind {
                _ if parts.is_empty() => visit(Some(element))?,
                Kind::Document => walk(element.bytes, parts, Leaf::Expand, visit)?,
                _ => false,
            };
            if found {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }
}

fn walk<'a, F>(
    document: &'a [u8],
    parts: &[Part],
    leaf: Leaf,
    visit: &mut F,
) -> Result<bool, Corrupt>
where
    F: FnMut(Option<Value<'a>>) -> Result<bool, Corrupt>,
{
    let mut document = document;
    let mut parts = parts;
    while let Some((part, rest)) = parts.split_first() {
        let Some(value) = field(document, part.name.as_bytes())? else {
            return visit(None);
        };
        match value.kind {
            Kind::Array => return walk_array(value, rest, leaf, visit),
            _ if rest.is_empty() => return visit(Some(value)),
            Kind::Document => document = value.bytes,
            _ => return visit(None),
        }
        parts = rest;
    }
    Ok(false)
}

fn walk_array<'a, F>(
    array: Value<'a>,
    parts: &[Part],
    leaf: Leaf,
    visit: &mut F,
) -> Result<bool, Corrupt>
where
    F: FnMut(Option<Value<'a>>) -> Result<bool, Corrupt>,
{
    let Some((part, rest)) = parts.split_first() else {
        if leaf == Leaf::Expand {
            for element in array.values() {
                if visit(Some(element?))? {
                    return Ok(true);
                }
            }
        }
        return visit(Some(array));
    };
    for (position, element) in array.values().enumerate() {
        let element = element?;
        if element.kind == Kind::Document && walk(element.bytes, parts, leaf, visit)? {
            return Ok(true);
        }
        if part.position == Some(position) {
            let found = match element.kind {
                _ if rest.is_empty() => visit(Some(element))?,
                Kind::Document => walk(element.bytes, rest, leaf, visit)?,
                Kind::Array => walk_array(element, rest, leaf, visit)?,
                _ => false,
            };
            if found {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, Document, bson, doc};

    fn check(document: Document, path: &str, leaf: Leaf, expected: &[Option<Bson>]) {
        let raw = crate::value::encode(&document).unwrap();
        let mut seen = Vec::new();
        Path::parse(path)
            .unwrap()
            .any(Value::document(raw.as_bytes()), leaf, &mut |value| {
                seen.push(value.map(|value| value.to_bson().unwrap()));
                Ok(false)
            })
            .unwrap();
        assert_eq!(seen, expected, "{document} at {path}");
    }

    /// The cases of MongoDB's own tests of its paths.
    #[test]
    fn paths_lead_where_mongodbs_do() {
        use Leaf::{Expand, Whole};
        let some = |value: Bson| Some(value);
        check(doc! { "a": 5 }, "a", Expand, &[some(bson!(5))]);
        check(doc! { "b": 5 }, "a", Expand, &[None]);
        check(doc! { "a": { "b": 5 } }, "a.b", Expand, &[some(bson!(5))]);
        check(doc! { "a": 5 }, "a.b", Expand, &[None]);
        check(doc! { "a": {} }, "a.b", Expand, &[None]);
        check(
            doc! { "a": [5, 6] },
            "a",
            Expand,
            &[some(bson!(5)), some(bson!(6)), some(bson!([5, 6]))],
        );
        check(doc! { "a": [5, 6] }, "a", Whole, &[some(bson!([5, 6]))]);
        check(doc! { "a": [] }, "a", Expand, &[some(bson!([]))]);
        check(
            doc! { "a": [{ "b": 5 }, 3, {}, { "b": [9, 11] }, { "b": 7 }] },
            "a.b",
            Expand,
            &[
                some(bson!(5)),
                None,
                some(bson!(9)),
                some(bson!(11)),
                some(bson!([9, 11])),
                some(bson!(7)),
            ],
        );
        check(doc! { "a": [1, 2] }, "a.b", Expand, &[]);
        check(doc! { "a": [] }, "a.b", Expand, &[]);
        check(doc! { "a": [5, 7, 3] }, "a.1", Expand, &[some(bson!(7))]);
        check(
            doc! { "a": [5, [2, 4]] },
            "a.1",
            Expand,
            &[some(bson!([2, 4]))],
        );
        check(
            doc! { "a": [5, { "1": 4 }] },
            "a.1",
            Expand,
            &[some(bson!(4)), some(bson!({ "1": 4 }))],
        );
        check(
            doc! { "a": [5, { "b": 4 }] },
            "a.1.b",
            Expand,
            &[None, some(bson!(4))],
        );
        check(
            doc! { "a": [5, [{ "b": 4 }]] },
            "a.1.b",
            Expand,
            &[some(bson!(4))],
        );
        check(doc! { "a": { "1": 3 } }, "a.1", Expand, &[some(bson!(3))]);
    }

    #[test]
    fn only_canonical_numbers_are_positions() {
        assert_eq!(Part::new("0").position, Some(0));
        assert_eq!(Part::new("10").position, Some(10));
        for name in ["01", "-1", "+1", "", "1a", "99999999999999999999999"] {
            assert_eq!(Part::new(name).position, None, "{name}");
        }
    }
}
