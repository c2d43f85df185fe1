//! MongoDB Extended JSON v2, relaxed, in both directions, for both doors.
//! (<https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/>)

use bson::{Bson, Document, RawDocument};

use crate::error::Result;

/// Reads a JSON object as a document.
pub fn parse_document(_text: &[u8], _max_depth: usize) -> Result<Document> {
    todo!()
}

/// Reads any JSON value.
pub fn parse_value(_text: &[u8], _max_depth: usize) -> Result<Bson> {
    todo!()
}

/// Appends a raw document as JSON text, without decoding it first.
pub fn write_document(_document: &RawDocument, _out: &mut Vec<u8>) -> Result<()> {
    todo!()
}

/// Appends a value as JSON text.
pub fn write_value(_value: &Bson, _out: &mut Vec<u8>) -> Result<()> {
    todo!()
}
