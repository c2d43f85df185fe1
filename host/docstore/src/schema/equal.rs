//! Equality as `enum` and `uniqueItems` have it: numbers by value whatever their
//! type, and documents without regard to the order of their fields.

use crate::order;
use crate::value::{Corrupt, Kind, Value, begin_document, end_document, push, push_key};

/// Bytes that are equal for values that are.
pub(super) fn key(value: Value<'_>) -> Result<Vec<u8>, Corrupt> {
    let mut key = Vec::with_capacity(value.bytes.len() + 16);
    match value.kind {
        Kind::Document | Kind::Array => {
            let mut sorted = Vec::with_capacity(value.bytes.len());
            write_sorted(value, &mut sorted)?;
            let sorted = Value {
                kind: value.kind,
                bytes: &sorted,
            };
            order::encode(sorted, &mut key)?;
        }
        _ => order::encode(value, &mut key)?,
    }
    Ok(key)
}

/// Writes a document with its fields in the order of their names, and so on
/// downwards. An array's items stay as they are.
fn write_sorted(value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    let mut members = value.elements().collect::<Result<Vec<_>, Corrupt>>()?;
    if value.kind == Kind::Document {
        members.sort_by_key(|(name, _)| *name);
    }
    let start = begin_document(out);
    for (name, member) in members {
        match member.kind {
            Kind::Document | Kind::Array => {
                push_key(out, member.kind, name);
                write_sorted(member, out)?;
            }
            _ => push(out, name, member),
        }
    }
    end_document(out, start);
    Ok(())
}
