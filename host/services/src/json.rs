//! MongoDB Extended JSON v2 in both directions, for both doors: relaxed for
//! clients, canonical for exports.
//! (<https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/>)
//!
//! Both doors speak it: an HTTP body or query parameter and a guest's document
//! are read here, and what a store answers is written here, straight from its
//! bytes. This module knows types and syntax only; which names and operators a
//! client may use is decided in [`crate::documents`].
//!
//! Reading keeps the order of keys and refuses what would be ambiguous: the
//! same key twice in one object, text after the value, and a type wrapper
//! (`{"$oid": …}`, `{"$date": …}`) that is malformed. Other keys that begin with
//! `$` are operators and pass through. An integer becomes an `Int32` when it
//! fits, else an `Int64`; relaxed Extended JSON does not tell the two apart.

mod read;
mod write;

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use crate::error::{Error, Result};

/// The most values that one text may hold. A number in JSON may be two bytes
/// long and takes some hundred in memory: without this bound a body within the
/// size limit could claim a gigabyte.
const MAX_VALUES: usize = 1_000_000;

/// Reads a JSON object as a document.
pub fn parse_document(text: &[u8], max_depth: usize) -> Result<Document> {
    match parse_value(text, max_depth)? {
        Bson::Document(document) => Ok(document),
        _ => Err(Error::Invalid("a JSON object is expected".into())),
    }
}

/// Reads any JSON value.
pub fn parse_value(text: &[u8], max_depth: usize) -> Result<Bson> {
    read::value(text, max_depth, MAX_VALUES)
}

/// Reads a line of an export: as deep as the parser goes, and with as many
/// values as there are, since whoever hands it in bounds its length.
pub(crate) fn parse_exported(text: &[u8]) -> Result<Bson> {
    read::value(text, usize::MAX, usize::MAX)
}

/// Appends a raw document as JSON text, without decoding it first.
pub fn write_document(document: &RawDocument, out: &mut Vec<u8>) -> Result<()> {
    write::document(document, write::Form::Relaxed, out)
}

/// Appends a raw document as canonical Extended JSON, which tells every type
/// from every other. For exports; clients get the relaxed form.
pub fn write_canonical(document: &RawDocument, out: &mut Vec<u8>) -> Result<()> {
    write::document(document, write::Form::Canonical, out)
}

/// Appends a value as JSON text.
pub fn write_value(value: &Bson, out: &mut Vec<u8>) -> Result<()> {
    match value {
        // Encoding once is cheaper than a second writer to keep equal to the first.
        Bson::Document(document) => {
            let raw = RawDocumentBuf::try_from(document).map_err(invalid_bson)?;
            write::document(&raw, write::Form::Relaxed, out)
        }
        Bson::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(value, out)?;
            }
            out.push(b']');
            Ok(())
        }
        scalar => {
            let raw = bson::RawBson::try_from(scalar.clone()).map_err(invalid_bson)?;
            write::value(raw.as_raw_bson_ref(), out)
        }
    }
}

/// A value that BSON cannot hold: in practice a name with a NUL in it.
pub(crate) fn invalid_bson(error: bson::error::Error) -> Error {
    Error::Invalid(format!("not a valid document: {error}"))
}

#[cfg(test)]
mod tests;
