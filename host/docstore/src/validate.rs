//! What may enter the store: names, sizes, depth, and well-formed BSON.
//!
//! Documents are checked once, here, before they are written, so that everything
//! that reads them later may take their shape for granted.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::value::{Kind, Value};

/// Nesting that documents, filters and updates may have.
pub(crate) const MAX_DEPTH: usize = 100;
/// Bytes of a collection's name.
const MAX_COLLECTION_NAME: usize = 200;

/// Refuses names that MongoDB refuses, and the store's own.
pub(crate) fn collection_name(name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_COLLECTION_NAME {
        "is longer than 200 bytes"
    } else if name.contains('\0') {
        "contains a NUL character"
    } else if name.contains('$') {
        "contains '$'"
    } else if name.starts_with("system.") {
        "starts with 'system.'"
    } else if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        "has an empty part between dots"
    } else {
        return Ok(());
    };
    Err(Error::Invalid(format!("the collection name {problem}")))
}

/// Checks a whole document for storage: sound BSON, bounded depth and size, an
/// `_id` of a storable type, and no operator for a top-level name.
pub(crate) fn document(bytes: &[u8], max_bytes: usize) -> Result<()> {
    if bytes.len() > max_bytes {
        return Err(Error::TooLarge(format!(
            "the document has {} bytes; the limit is {max_bytes}",
            bytes.len()
        )));
    }
    let length = bytes
        .first_chunk::<4>()
        .map(|length| u32::from_le_bytes(*length));
    if length.map(u64::from) != Some(bytes.len() as u64) || bytes.last() != Some(&0) {
        return Err(malformed());
    }
    let mut has_id = false;
    for element in Value::document(bytes).elements() {
        let (name, value) = element.map_err(|_| malformed())?;
        if name.first() == Some(&b'$') {
            let name = String::from_utf8_lossy(name);
            return Err(Error::Invalid(format!(
                "the field name '{name}' starts with '$'"
            )));
        }
        if name == b"_id" {
            if has_id {
                return Err(Error::Invalid("the document has two _id fields".into()));
            }
            has_id = true;
            id(value)?;
        }
    }
    if !has_id {
        return Err(Error::Invalid("the document has no _id".into()));
    }
    sound(Value::document(bytes), 1)
}

/// Refuses identifiers that MongoDB refuses.
pub(crate) fn id(value: Value<'_>) -> Result<()> {
    match value.kind {
        Kind::Array => Err(Error::Invalid("the _id cannot be an array".into())),
        Kind::Regex => Err(Error::Invalid(
            "the _id cannot be a regular expression".into(),
        )),
        Kind::Undefined => Err(Error::Invalid("the _id cannot be undefined".into())),
        _ => Ok(()),
    }
}

fn malformed() -> Error {
    Error::Invalid("the document is not well-formed BSON".into())
}

fn too_deep() -> Error {
    Error::Invalid(format!("the nesting is deeper than {MAX_DEPTH}"))
}

/// Walks every byte that a reader may later rely on.
fn sound(value: Value<'_>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    for element in value.elements() {
        let (name, member) = element.map_err(|_| malformed())?;
        std::str::from_utf8(name).map_err(|_| malformed())?;
        let terminated = member.bytes.last() == Some(&0);
        match member.kind {
            Kind::String | Kind::Symbol | Kind::Code => {
                member.as_str().map_err(|_| malformed())?;
                if !terminated {
                    return Err(malformed());
                }
            }
            Kind::Document | Kind::Array if !terminated => return Err(malformed()),
            Kind::Document | Kind::Array => sound(member, depth + 1)?,
            Kind::Boolean if member.bytes.first().is_none_or(|byte| *byte > 1) => {
                return Err(malformed());
            }
            // Rare kinds: the codec's own reading is check enough.
            Kind::CodeWithScope => {
                member.to_bson().map_err(|_| malformed())?;
                let (_, scope) = member.code_with_scope().map_err(|_| malformed())?;
                sound(Value::document(scope), depth + 1)?;
            }
            Kind::Regex | Kind::DbPointer | Kind::Binary => {
                member.to_bson().map_err(|_| malformed())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses decoded input that is nested too deeply, before anything recurses
/// into it.
pub(crate) fn depth(document: &Document) -> Result<()> {
    fn too_deep_value(value: &Bson, left: usize) -> bool {
        match value {
            Bson::Document(document) => too_deep_document(document, left),
            Bson::Array(array) => {
                left == 0 || array.iter().any(|value| too_deep_value(value, left - 1))
            }
            _ => false,
        }
    }
    fn too_deep_document(document: &Document, left: usize) -> bool {
        left == 0
            || document
                .values()
                .any(|value| too_deep_value(value, left - 1))
    }
    if too_deep_document(document, MAX_DEPTH) {
        Err(too_deep())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, doc};

    fn check(input: Document, expected: &str) {
        let raw = RawDocumentBuf::try_from(&input).unwrap();
        let answer = document(raw.as_bytes(), 1000).map_err(|error| error.to_string());
        match answer {
            Ok(()) => assert_eq!(expected, "", "{input}"),
            Err(error) => assert!(
                !expected.is_empty() && error.contains(expected),
                "{input}: {error}"
            ),
        }
    }

    fn nested(depth: usize) -> Document {
        (0..depth).fold(doc! { "leaf": 1 }, |inner, _| doc! { "a": inner })
    }

    #[test]
    fn documents_are_checked_before_they_are_stored() {
        check(doc! { "_id": 1, "a": [1, { "b": "text" }] }, "");
        check(doc! { "_id": { "a": 1 } }, "");
        check(doc! { "a": 1 }, "no _id");
        check(doc! { "_id": [1] }, "cannot be an array");
        check(doc! { "_id": Bson::Undefined }, "undefined");
        check(doc! { "_id": 1, "$set": 1 }, "'$set'");
        check(doc! { "_id": 1, "a": "x".repeat(1000) }, "limit is 1000");
        check(doc! { "_id": 1, "n": nested(97) }, "");
        check(doc! { "_id": 1, "n": nested(110) }, "deeper than 100");
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let raw =
            RawDocumentBuf::try_from(&doc! { "_id": 1, "a": "text", "b": true, "c": { "d": "é" } })
                .unwrap();
        let good = raw.into_bytes();
        assert!(document(&good, 1000).is_ok());
        let mut longer = good.clone();
        longer[0] += 1;
        assert!(document(&longer, 1000).is_err());
        longer.push(0);
        assert!(document(&longer, 1000).is_err());
        let text = good
            .windows(4)
            .position(|window| window == b"text")
            .unwrap();
        let mut bad = good.clone();
        bad[text] = 0xFF;
        assert!(document(&bad, 1000).is_err());
        let truth = good
            .windows(3)
            .position(|window| window == b"b\0\x01")
            .unwrap()
            + 2;
        let mut bad = good.clone();
        bad[truth] = 2;
        assert!(document(&bad, 1000).is_err());
    }

    #[test]
    fn collection_names_are_checked() {
        for good in ["users", "a.b", "_private", "ünïcode", "with space"] {
            assert!(collection_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a$b",
            "a\0b",
            ".a",
            "a.",
            "a..b",
            "system.users",
            &"x".repeat(201),
        ] {
            assert!(collection_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn decoded_input_is_measured_too() {
        assert!(depth(&nested(99)).is_ok());
        assert!(depth(&nested(100)).is_err());
    }
}
