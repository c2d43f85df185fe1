//! A document as a line of text, and back, without losing a bit.
//!
//! The line is canonical Extended JSON v2. Some documents it cannot say: a field
//! that is named like a type wrapper (`{"a": {"$date": "x"}}`), two fields of
//! one name, more levels than a parser takes. So every line is read back while it
//! is written, and a document that would come back as another is written as its
//! bytes instead: `{"$binary":{"base64":"…","subType":"00"}}` alone on the line,
//! which is Extended JSON, and can be no document's own text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, RawDocument, RawDocumentBuf};

use crate::json;

/// How a document was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As Extended JSON.
    Text,
    /// As its bytes.
    Bytes,
}

/// Appends the document and a line feed.
pub fn write(document: &RawDocument, out: &mut Vec<u8>) -> Form {
    let start = out.len();
    let written = json::write_canonical(document, out).is_ok();
    let form = if written && reads_back(out.get(start..).unwrap_or_default(), document) {
        Form::Text
    } else {
        out.truncate(start);
        out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
        out.extend_from_slice(BASE64.encode(document.as_bytes()).as_bytes());
        out.extend_from_slice(b"\",\"subType\":\"00\"}}");
        Form::Bytes
    };
    out.push(b'\n');
    form
}

/// Reads a line's document. `_id` becomes the first field, as MongoDB stores it
/// (<https://www.mongodb.com/docs/manual/core/document/#the-_id-field>).
pub fn read(text: &[u8]) -> Result<RawDocumentBuf, String> {
    let document = match json::parse_exported(text).map_err(|error| error.to_string())? {
        Bson::Document(document) => {
            RawDocumentBuf::try_from(&document).map_err(|error| error.to_string())?
        }
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes,
        }) => RawDocumentBuf::from_bytes(bytes)
            .map_err(|_| "the bytes are not those of a document".to_owned())?,
        _ => return Err("a JSON object is expected".into()),
    };
    id_first(document)
}

fn reads_back(text: &[u8], document: &RawDocument) -> bool {
    let back = match json::parse_exported(text) {
        Ok(Bson::Document(back)) => RawDocumentBuf::try_from(&back),
        _ => return false,
    };
    back.is_ok_and(|back| back.as_bytes() == document.as_bytes())
}

fn id_first(document: RawDocumentBuf) -> Result<RawDocumentBuf, String> {
    let damaged = |_| "the document is not well-formed BSON".to_owned();
    let mut fields = document.iter();
    let first = fields.next().transpose().map_err(damaged)?;
    if first.is_some_and(|(name, _)| name == "_id") {
        return Ok(document);
    }
    let Some(id) = document.get("_id").map_err(damaged)? else {
        return Err("the document has no `_id`".into());
    };
    let mut moved = RawDocumentBuf::new();
    moved.append(bson::raw::cstr!("_id"), id);
    for field in document.iter() {
        let (name, value) = field.map_err(damaged)?;
        if name != "_id" {
            moved.append(name, value);
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn raw(document: bson::Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(&document).unwrap()
    }

    /// The document is written in this form, and reads back bit by bit.
    #[track_caller]
    fn check(document: &RawDocument, expected: Form) -> String {
        let mut text = Vec::new();
        let form = write(document, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(form, expected, "{text}");
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'));
        let back = read(line.as_bytes()).unwrap();
        assert_eq!(back.as_bytes(), document.as_bytes(), "{text}");
        line.to_owned()
    }

    #[test]
    fn types_are_told_apart() {
        let text = check(
            &raw(
                doc! { "_id": 1, "l": 1_i64, "d": 1.0, "z": -0.0, "n": f64::NAN, "t": bson::DateTime::from_millis(0) },
            ),
            Form::Text,
        );
        assert_eq!(
            text,
            r#"{"_id":{"$numberInt":"1"},"l":{"$numberLong":"1"},"d":{"$numberDouble":"1.0"},"z":{"$numberDouble":"-0.0"},"n":{"$numberDouble":"NaN"},"t":{"$date":{"$numberLong":"0"}}}"#
        );
    }

    #[test]
    fn what_extended_json_cannot_say_is_written_as_bytes() {
        check(&raw(doc! { "_id": 1, "a": { "$date": "x" } }), Form::Bytes);
        check(
            &raw(doc! { "_id": 1, "a": { "$numberInt": "1" } }),
            Form::Bytes,
        );
        let odd_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        check(&raw(doc! { "_id": 1, "a": odd_nan }), Form::Bytes);
        let deep = (0..140).fold(doc! {}, |inner, _| doc! { "a": inner });
        check(&raw(doc! { "_id": 1, "a": deep }), Form::Bytes);
        let mut twice = raw(doc! { "_id": 1, "a": 1 });
        twice.append(bson::raw::cstr!("a"), 2);
        check(&twice, Form::Bytes);
        let mut invalid = raw(doc! { "_id": 1, "a": "text" }).into_bytes();
        let place = invalid.windows(4).position(|four| four == b"text").unwrap();
        invalid[place] = 0xFF;
        check(&RawDocumentBuf::from_bytes(invalid).unwrap(), Form::Bytes);
        // Operators' names are no wrappers.
        check(
            &raw(doc! { "_id": 1, "a": { "$set": 1, "": 2 } }),
            Form::Text,
        );
    }

    #[test]
    fn the_identifier_comes_first() {
        let read = read(br#"{"b":1,"_id":2,"a":3}"#).unwrap();
        assert_eq!(read, raw(doc! { "_id": 2, "b": 1, "a": 3 }));
    }

    #[test]
    fn other_lines_are_refused() {
        for (text, says) in [
            ("", "not valid JSON"),
            ("[]", "a JSON object is expected"),
            ("{}", "no `_id`"),
            (r#"{"a":1}"#, "no `_id`"),
            (r#"{"_id":1,"_id":2}"#, "there twice"),
            (
                r#"{"$binary":{"base64":"AAAA","subType":"00"}}"#,
                "the bytes",
            ),
            (
                r#"{"$binary":{"base64":"AAAA","subType":"01"}}"#,
                "an object is",
            ),
            (r#"{"_id":{"$oid":"x"}}"#, "24 hexadecimal"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            let says = says.replace("an object is", "a JSON object is expected");
            assert!(error.contains(&says), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_of_a_document_survive(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            let mut document = raw(doc! { "_id": 1 }).into_bytes();
            document.pop();
            document.extend_from_slice(&bytes);
            document.push(0);
            let length = i32::try_from(document.len()).unwrap().to_le_bytes();
            document[..4].copy_from_slice(&length);
            let document = RawDocumentBuf::from_bytes(document).unwrap();
            let mut text = Vec::new();
            write(&document, &mut text);
            let back = read(text.strip_suffix(b"\n").unwrap()).unwrap();
            proptest::prop_assert_eq!(back.as_bytes(), document.as_bytes());
        }
    }
}
