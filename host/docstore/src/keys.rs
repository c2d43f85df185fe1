//! From a document to the keys under which an index or a sort knows it.
//!
//! An array gives one key for each element. Paths of one index that enter the
//! same array go through it together, so `{a: [{b: 1, c: 2}, {b: 3, c: 4}]}` has the
//! keys (1, 2) and (3, 4) for `a.b` and `a.c`; two different arrays are refused, as
//! their product could be endless.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::order;
use crate::path::{Part, Path};
use crate::value::{Kind, Value, field};

/// Bytes of all keys that one document may have in one index.
const MAX_KEY_BYTES: usize = 16 << 20;
/// Fields of one index or sort; MongoDB's own limit.
const MAX_FIELDS: usize = 32;

/// The fields of an index or a sort, with their directions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyPattern {
    fields: Vec<(Path, bool)>,
}

/// What a document gives for a pattern.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Sorted, each once; at least one.
    pub(crate) keys: Vec<Vec<u8>>,
    /// Whether any of the paths exists in the document.
    pub(crate) exists: bool,
    /// A bit for each field whose path led through an array.
    pub(crate) multikey: u64,
    /// A number in a path was taken for an array position, so that the keys do
    /// not tell all that the path can match.
    pub(crate) positional: bool,
}

#[derive(Clone, Copy)]
enum Slot<'a, 'p> {
    /// The path goes on in this document.
    Open(&'a [u8], &'p [Part]),
    /// It goes on, or ends, at this array.
    Array(Value<'a>, &'p [Part]),
    Found(Value<'a>),
    Missing,
}

impl KeyPattern {
    /// Parses `{ path: 1 or -1, … }`; `what` names it in errors.
    pub(crate) fn parse(document: &Document, what: &str) -> Result<Self> {
        if document.is_empty() || document.len() > MAX_FIELDS {
            return Err(Error::Invalid(format!(
                "the {what} needs 1 to {MAX_FIELDS} fields"
            )));
        }
        let mut fields = Vec::with_capacity(document.len());
        for (path, direction) in document {
            let descending = match direction {
                Bson::Int32(1) | Bson::Int64(1) => false,
                Bson::Int32(-1) | Bson::Int64(-1) => true,
                Bson::Double(double) if *double == 1.0 => false,
                Bson::Double(double) if *double == -1.0 => true,
                _ => {
                    return Err(Error::Invalid(format!(
                        "the {what} of '{path}' must be 1 or -1"
                    )));
                }
            };
            if path
                .split('.')
                .any(|name| name.is_empty() || name.starts_with('$'))
            {
                return Err(Error::Invalid(format!(
                    "the {what} has the unusable path '{path}'"
                )));
            }
            fields.push((Path::parse(path)?, descending));
        }
        Ok(KeyPattern { fields })
    }

    pub(crate) fn fields(&self) -> &[(Path, bool)] {
        &self.fields
    }

    /// The document's keys.
    pub(crate) fn extract(&self, document: &[u8]) -> Result<Keys> {
        let mut out = Keys::default();
        let mut bytes = 0;
        let slots: Vec<Slot<'_, '_>> = self
            .fields
            .iter()
            .map(|(path, _)| Slot::Open(document, path.parts()))
            .collect();
        self.expand(slots, &mut out, &mut bytes)?;
        out.keys.sort_unstable();
        out.keys.dedup();
        Ok(out)
    }

    /// The key by which the document sorts: its lowest.
    pub(crate) fn lowest(&self, document: &[u8]) -> Result<Vec<u8>> {
        Ok(self
            .extract(document)?
            .keys
            .into_iter()
            .next()
            .unwrap_or_default())
    }

    fn expand(
        &self,
        mut slots: Vec<Slot<'_, '_>>,
        out: &mut Keys,
        bytes: &mut usize,
    ) -> Result<()> {
        for slot in &mut slots {
            if let Slot::Open(document, parts) = *slot {
                *slot = follow(document, parts, &mut out.positional)?;
            }
        }
        let mut array: Option<Value<'_>> = None;
        for (index, slot) in slots.iter().enumerate() {
            if let Slot::Array(here, _) = slot {
                out.multikey |= 1 << index;
                if array.is_some_and(|array| !std::ptr::eq(array.bytes, here.bytes)) {
                    return Err(Error::Invalid(format!(
                        "cannot index or sort by two arrays of one document: '{}'",
                        self.fields
                            .iter()
                            .map(|(path, _)| path.as_str())
                            .collect::<Vec<_>>()
                            .join("', '")
                    )));
                }
                array = Some(*here);
            }
        }
        let Some(array) = array else {
            return self.emit(&slots, out, bytes);
        };
        let mut empty = true;
        for element in array.values() {
            empty = false;
            let element = element?;
            let inner = slots.iter().map(|slot| match *slot {
                Slot::Array(_, []) => Slot::Found(element),
                Slot::Array(_, parts) if element.kind == Kind::Document => {
                    Slot::Open(element.bytes, parts)
                }
                Slot::Array(..) => Slot::Missing,
                other => other,
            });
            self.expand(inner.collect(), out, bytes)?;
        }
        if empty {
            let inner = slots.iter().map(|slot| match *slot {
                Slot::Array(_, []) => Slot::Found(Value::UNDEFINED),
                Slot::Array(..) => Slot::Missing,
                other => other,
            });
            self.emit(&inner.collect::<Vec<_>>(), out, bytes)?;
        }
        Ok(())
    }

    fn emit(&self, slots: &[Slot<'_, '_>], out: &mut Keys, bytes: &mut usize) -> Result<()> {
        let mut key = Vec::with_capacity(16 * slots.len());
        for (slot, (_, descending)) in slots.iter().zip(&self.fields) {
            let value = match slot {
                Slot::Found(value) => {
                    out.exists = true;
                    *value
                }
                _ => Value::NULL,
            };
            if *descending {
                order::encode_descending(value, &mut key)?;
            } else {
                order::encode(value, &mut key)?;
            }
        }
        *bytes += key.len();
        if *bytes > MAX_KEY_BYTES {
            return Err(Error::TooLarge(
                "the document's index keys have more than 16 MiB".into(),
            ));
        }
        out.keys.push(key);
        Ok(())
    }
}

/// Follows a path to its end or to the first array.
fn follow<'a, 'p>(
    document: &'a [u8],
    parts: &'p [Part],
    positional: &mut bool,
) -> Result<Slot<'a, 'p>> {
    let (mut document, mut parts) = (document, parts);
    while let Some((part, rest)) = parts.split_first() {
        let Some(mut value) = field(document, part.name.as_bytes())? else {
            return Ok(Slot::Missing);
        };
        parts = rest;
        while value.kind == Kind::Array
            && let Some((
                Part {
                    position: Some(position),
                    ..
                },
                rest,
            )) = parts.split_first()
        {
            *positional = true;
            match value.values().nth(*position).transpose()? {
                Some(element) => value = element,
                None => return Ok(Slot::Missing),
            }
            parts = rest;
            if parts.is_empty() {
                return Ok(Slot::Found(value));
            }
        }
        match value.kind {
            Kind::Array => return Ok(Slot::Array(value, parts)),
            _ if parts.is_empty() => return Ok(Slot::Found(value)),
            Kind::Document => document = value.bytes,
            _ => return Ok(Slot::Missing),
        }
    }
    Ok(Slot::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{bson, doc};

    fn key(values: &[Bson]) -> Vec<u8> {
        let mut out = Vec::new();
        for value in values {
            order::encode(
                crate::value::OwnedValue::encode(value).unwrap().get(),
                &mut out,
            )
            .unwrap();
        }
        out
    }

    fn check(
        document: Document,
        pattern: Document,
        expected: &[&[Bson]],
        multikey: u64,
        exists: bool,
    ) {
        let raw = crate::value::encode(&document).unwrap();
        let keys = KeyPattern::parse(&pattern, "index")
            .unwrap()
            .extract(raw.as_bytes())
            .unwrap();
        let mut expected: Vec<Vec<u8>> = expected.iter().map(|values| key(values)).collect();
        expected.sort();
        assert_eq!(keys.keys, expected, "{document} by {pattern}");
        assert_eq!(
            (keys.multikey, keys.exists),
            (multikey, exists),
            "{document} by {pattern}"
        );
    }

    #[test]
    fn keys_are_what_mongodb_indexes() {
        let null = || Bson::Null;
        check(doc! { "a": 1 }, doc! { "a": 1 }, &[&[bson!(1)]], 0, true);
        check(doc! {}, doc! { "a": 1 }, &[&[null()]], 0, false);
        check(
            doc! { "a": { "b": 2 } },
            doc! { "a.b": 1 },
            &[&[bson!(2)]],
            0,
            true,
        );
        check(doc! { "a": 5 }, doc! { "a.b": 1 }, &[&[null()]], 0, false);
        check(
            doc! { "a": [1, 2, 1] },
            doc! { "a": 1 },
            &[&[bson!(1)], &[bson!(2)]],
            1,
            true,
        );
        check(
            doc! { "a": [] },
            doc! { "a": 1 },
            &[&[Bson::Undefined]],
            1,
            true,
        );
        check(
            doc! { "a": [[1], 2] },
            doc! { "a": 1 },
            &[&[bson!([1])], &[bson!(2)]],
            1,
            true,
        );
        check(
            doc! { "a": [{ "b": 1 }, { "c": 2 }, 3] },
            doc! { "a.b": 1 },
            &[&[bson!(1)], &[null()]],
            1,
            true,
        );
        check(
            doc! { "a": [1, 2], "b": 3 },
            doc! { "b": 1, "a": 1 },
            &[&[bson!(3), bson!(1)], &[bson!(3), bson!(2)]],
            2,
            true,
        );
        check(
            doc! { "a": [{ "b": 1, "c": 2 }, { "b": 3, "c": 4 }] },
            doc! { "a.b": 1, "a.c": 1 },
            &[&[bson!(1), bson!(2)], &[bson!(3), bson!(4)]],
            3,
            true,
        );
        check(
            doc! { "a": [{ "b": [1, 2] }] },
            doc! { "a.b": 1 },
            &[&[bson!(1)], &[bson!(2)]],
            1,
            true,
        );
    }

    #[test]
    fn two_arrays_are_refused() {
        let raw = crate::value::encode(&doc! { "a": [1], "b": [2] }).unwrap();
        let pattern = KeyPattern::parse(&doc! { "a": 1, "b": 1 }, "index").unwrap();
        assert!(
            pattern
                .extract(raw.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("two arrays")
        );
    }

    #[test]
    fn positions_are_noticed() {
        let raw = crate::value::encode(&doc! { "a": [7, { "b": 8 }] }).unwrap();
        let keys = KeyPattern::parse(&doc! { "a.1.b": 1 }, "index")
            .unwrap()
            .extract(raw.as_bytes())
            .unwrap();
        assert!(keys.positional);
        assert_eq!(keys.keys, [key(&[bson!(8)])]);
    }

    #[test]
    fn patterns_are_checked() {
        for bad in [
            doc! {},
            doc! { "a": 2 },
            doc! { "a": "text" },
            doc! { "": 1 },
            doc! { "a.": 1 },
            doc! { "a.$b": 1 },
        ] {
            assert!(KeyPattern::parse(&bad, "index").is_err(), "{bad}");
        }
    }
}
