//! An entry as a document: `{_id, v: bytes or number, n: the room that it takes,
//! r: revision, x: when it is over, if ever}`.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::usage::size;
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bytes(Vec<u8>),
    Counter(i64),
}

impl Value {
    /// The bytes that it takes as the value of this entry.
    pub(super) fn size(&self, id: &str) -> u64 {
        match self {
            Value::Bytes(bytes) => size(id, bytes.len()),
            Value::Counter(_) => size(id, 8),
        }
    }

    /// The bytes that a reader gets.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Counter(count) => count.to_string().into_bytes(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) expires: Option<DateTime>,
    revision: ObjectId,
}

impl Entry {
    /// The document of an entry, with a revision of its own.
    pub(super) fn document(id: &str, value: &Value, expires: Option<DateTime>) -> Document {
        let room = value.size(id);
        let value = match value {
            Value::Bytes(bytes) => Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes: bytes.clone(),
            }),
            Value::Counter(count) => Bson::Int64(*count),
        };
        let size = i64::try_from(room).unwrap_or(i64::MAX);
        let mut document = doc! { "_id": id, "v": value, "n": size, "r": ObjectId::new() };
        document.extend(expires.map(|expires| ("x".to_owned(), Bson::DateTime(expires))));
        document
    }

    pub(super) fn read(raw: &RawDocument) -> Result<Self> {
        let damaged = |error: bson::error::Error| Error::Unavailable(Box::new(error));
        let value = match raw.get("v").map_err(damaged)? {
            Some(RawBsonRef::Binary(binary)) => Value::Bytes(binary.bytes.to_vec()),
            Some(RawBsonRef::Int64(count)) => Value::Counter(count),
            Some(RawBsonRef::Int32(count)) => Value::Counter(count.into()),
            _ => return Err(Error::Unavailable("an entry holds no value".into())),
        };
        let expires = match raw.get("x").map_err(damaged)? {
            Some(RawBsonRef::DateTime(expires)) => Some(expires),
            _ => None,
        };
        let revision = raw.get_object_id("r");
        Ok(Self {
            value,
            expires,
            revision: revision.map_err(|error| Error::Unavailable(Box::new(error)))?,
        })
    }

    /// Whether its time is not over.
    pub(super) fn is_live(&self, now: DateTime) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    /// The filter that only this very state of the entry meets.
    pub(super) fn same(&self, id: &str) -> Document {
        doc! { "_id": id, "r": self.revision }
    }
}
