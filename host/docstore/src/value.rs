//! BSON read in place: a value is a kind and a slice of somebody else's bytes.
//!
//! Matching, comparing and projecting a document this way costs tens of
//! nanoseconds, decoding it thousands. Everything in the crate that looks at
//! stored documents goes through here. Nothing in here panics on malformed
//! bytes: a walk that meets them ends in [`Corrupt`].

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use crate::error::{Error, Result};

/// The bytes are not BSON. For a stored document that means damage, since
/// documents are validated before they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed BSON")]
pub(crate) struct Corrupt;

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Error::Unavailable(Box::new(corrupt))
    }
}

/// BSON's types, by their tag byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Double = 0x01,
    String = 0x02,
    Document = 0x03,
    Array = 0x04,
    Binary = 0x05,
    Undefined = 0x06,
    ObjectId = 0x07,
    Boolean = 0x08,
    DateTime = 0x09,
    Null = 0x0A,
    Regex = 0x0B,
    DbPointer = 0x0C,
    Code = 0x0D,
    Symbol = 0x0E,
    CodeWithScope = 0x0F,
    Int32 = 0x10,
    Timestamp = 0x11,
    Int64 = 0x12,
    Decimal128 = 0x13,
    MaxKey = 0x7F,
    MinKey = 0xFF,
}

impl Kind {
    fn from_tag(tag: u8) -> Result<Self, Corrupt> {
        Ok(match tag {
            0x01 => Kind::Double,
            0x02 => Kind::String,
            0x03 => Kind::Document,
            0x04 => Kind::Array,
            0x05 => Kind::Binary,
            0x06 => Kind::Undefined,
            0x07 => Kind::ObjectId,
            0x08 => Kind::Boolean,
            0x09 => Kind::DateTime,
            0x0A => Kind::Null,
            0x0B => Kind::Regex,
            0x0C => Kind::DbPointer,
            0x0D => Kind::Code,
            0x0E => Kind::Symbol,
            0x0F => Kind::CodeWithScope,
            0x10 => Kind::Int32,
            0x11 => Kind::Timestamp,
            0x12 => Kind::Int64,
            0x13 => Kind::Decimal128,
            0x7F => Kind::MaxKey,
            0xFF => Kind::MinKey,
            _ => return Err(Corrupt),
        })
    }

    /// Whether this is one of the four number types.
    pub(crate) fn is_number(self) -> bool {
        matches!(
            self,
            Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Decimal128
        )
    }
}

/// One BSON value inside a longer buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value<'a> {
    pub(crate) kind: Kind,
    /// The value exactly as BSON writes it after the field name.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    pub(crate) const NULL: Value<'static> = Value {
        kind: Kind::Null,
        bytes: &[],
    };
    pub(crate) const UNDEFINED: Value<'static> = Value {
        kind: Kind::Undefined,
        bytes: &[],
    };

    /// A whole document as a value.
    pub(crate) fn document(bytes: &'a [u8]) -> Self {
        Value {
            kind: Kind::Document,
            bytes,
        }
    }

    pub(crate) fn as_i32(self) -> i32 {
        i32::from_le_bytes(self.bytes.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn as_i64(self) -> i64 {
        i64::from_le_bytes(self.bytes.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn as_u64(self) -> u64 {
        u64::from_le_bytes(self.bytes.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn as_f64(self) -> f64 {
        f64::from_le_bytes(self.bytes.first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn as_bool(self) -> bool {
        self.bytes.first().is_some_and(|byte| *byte != 0)
    }

    /// The bytes of a string, symbol or code, without length and terminator.
    pub(crate) fn text(self) -> &'a [u8] {
        let end = self.bytes.len().saturating_sub(1);
        self.bytes.get(4..end).unwrap_or_default()
    }

    /// A string's text.
    pub(crate) fn as_str(self) -> Result<&'a str, Corrupt> {
        std::str::from_utf8(self.text()).map_err(|_| Corrupt)
    }

    /// Subtype and payload of binary data.
    pub(crate) fn binary(self) -> (u8, &'a [u8]) {
        let subtype = self.bytes.get(4).copied().unwrap_or_default();
        (subtype, self.bytes.get(5..).unwrap_or_default())
    }

    /// Pattern and options of a regular expression.
    pub(crate) fn regex(self) -> (&'a [u8], &'a [u8]) {
        match split_cstring(self.bytes) {
            Ok((pattern, rest)) => (pattern, rest.strip_suffix(&[0]).unwrap_or(rest)),
            Err(Corrupt) => (&[], &[]),
        }
    }

    /// Code and scope of a JavaScript closure.
    pub(crate) fn code_with_scope(self) -> Result<(&'a [u8], &'a [u8]), Corrupt> {
        let rest = self.bytes.get(4..).ok_or(Corrupt)?;
        let (code, scope) = split_at(rest, 4 + length(rest)?)?;
        Ok((
            Value {
                kind: Kind::Code,
                bytes: code,
            }
            .text(),
            scope,
        ))
    }

    /// The members of a document or array.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements::of(self.bytes)
    }

    /// The values of an array, or of a document's fields.
    pub(crate) fn values(self) -> impl Iterator<Item = Result<Value<'a>, Corrupt>> {
        self.elements()
            .map(|element| element.map(|(_, value)| value))
    }

    /// How many members a document or array has.
    pub(crate) fn len(self) -> Result<usize, Corrupt> {
        let mut count = 0;
        for element in self.elements() {
            element?;
            count += 1;
        }
        Ok(count)
    }

    /// Whether MongoDB takes the value for true: all but false, zero, null
    /// and undefined.
    pub(crate) fn is_truthy(self) -> bool {
        match self.kind {
            Kind::Boolean => self.as_bool(),
            Kind::Null | Kind::Undefined => false,
            _ => match crate::number::Number::of(self) {
                Some(number) => !number.is_zero(),
                None => true,
            },
        }
    }

    /// Decodes the value.
    pub(crate) fn to_bson(self) -> Result<Bson, Corrupt> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 8);
        let start = begin_document(&mut bytes);
        push(&mut bytes, b"v", self);
        end_document(&mut bytes, start);
        let mut document = decode(&bytes)?;
        document.remove("v").ok_or(Corrupt)
    }
}

/// A value that owns its bytes, such as a filter's operand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnedValue {
    kind: Kind,
    bytes: Box<[u8]>,
}

impl OwnedValue {
    pub(crate) fn get(&self) -> Value<'_> {
        Value {
            kind: self.kind,
            bytes: &self.bytes,
        }
    }

    /// Encodes a decoded value.
    pub(crate) fn encode(value: &Bson) -> Result<Self> {
        let mut wrapper = Document::new();
        wrapper.insert("v", value.clone());
        let raw = encode(&wrapper)?;
        let (_, value) = Elements::of(raw.as_bytes()).next().ok_or(Corrupt)??;
        Ok(value.into())
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        OwnedValue {
            kind: value.kind,
            bytes: value.bytes.into(),
        }
    }
}

/// The members of a document or array, in order.
#[derive(Debug, Clone)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The members of the document in `bytes`, which include its length prefix.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Elements {
            rest: bytes.get(4..).unwrap_or_default(),
        }
    }

    #[inline]
    fn step(&mut self) -> Result<Option<(&'a [u8], Value<'a>)>, Corrupt> {
        let Some((&tag, rest)) = self.rest.split_first() else {
            return Err(Corrupt);
        };
        if tag == 0 {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(Corrupt)
            };
        }
        let kind = Kind::from_tag(tag)?;
        let (key, rest) = split_cstring(rest)?;
        let size = match kind {
            Kind::Double | Kind::DateTime | Kind::Timestamp | Kind::Int64 => 8,
            Kind::Int32 => 4,
            Kind::Boolean => 1,
            Kind::ObjectId => 12,
            Kind::Decimal128 => 16,
            Kind::Null | Kind::Undefined | Kind::MinKey | Kind::MaxKey => 0,
            Kind::String | Kind::Code | Kind::Symbol => 4 + length_from(1, rest)?,
            Kind::Document | Kind::Array => length_from(5, rest)?,
            Kind::CodeWithScope => length_from(14, rest)?,
            Kind::Binary => 5 + length(rest)?,
            Kind::DbPointer => 16 + length_from(1, rest)?,
            Kind::Regex => {
                let (pattern, tail) = split_cstring(rest)?;
                let (options, _) = split_cstring(tail)?;
                pattern.len() + options.len() + 2
            }
        };
        let (bytes, rest) = split_at(rest, size)?;
        // After the last one there is still the document's end.
        if rest.is_empty() {
            return Err(Corrupt);
        }
        self.rest = rest;
        Ok(Some((key, Value { kind, bytes })))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<(&'a [u8], Value<'a>), Corrupt>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.step() {
            Ok(Some(element)) => Some(Ok(element)),
            Ok(None) => {
                self.rest = &[];
                None
            }
            Err(corrupt) => {
                self.rest = &[];
                Some(Err(corrupt))
            }
        }
    }
}

/// The field `name` of the document in `bytes`.
#[inline]
pub(crate) fn field<'a>(bytes: &'a [u8], name: &[u8]) -> Result<Option<Value<'a>>, Corrupt> {
    for element in Elements::of(bytes) {
        let (key, value) = element?;
        if key == name {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[inline]
fn length(bytes: &[u8]) -> Result<usize, Corrupt> {
    let prefix = bytes.first_chunk::<4>().ok_or(Corrupt)?;
    usize::try_from(i32::from_le_bytes(*prefix)).map_err(|_| Corrupt)
}

/// A length that counts at least what no value of its kind can do without.
#[inline]
fn length_from(least: usize, bytes: &[u8]) -> Result<usize, Corrupt> {
    let length = length(bytes)?;
    if length < least {
        return Err(Corrupt);
    }
    Ok(length)
}

#[inline]
fn split_at(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), Corrupt> {
    bytes.split_at_checked(at).ok_or(Corrupt)
}

#[inline]
fn split_cstring(bytes: &[u8]) -> Result<(&[u8], &[u8]), Corrupt> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Corrupt)?;
    let (text, rest) = split_at(bytes, end)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// Starts a document or array in `out`; the result goes to [`end_document`].
pub(crate) fn begin_document(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

/// Terminates the document that began at `start` and fills its length in.
pub(crate) fn end_document(out: &mut Vec<u8>, start: usize) {
    out.push(0);
    // No buffer here can reach 2 GiB: inputs are bounded far below.
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(prefix) = out.get_mut(start..start + 4) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
}

/// Appends the tag and name of a field whose value the caller writes next.
pub(crate) fn push_key(out: &mut Vec<u8>, kind: Kind, key: &[u8]) {
    out.push(kind as u8);
    out.extend_from_slice(key);
    out.push(0);
}

/// Appends a field.
pub(crate) fn push(out: &mut Vec<u8>, key: &[u8], value: Value<'_>) {
    push_key(out, value.kind, key);
    out.extend_from_slice(value.bytes);
}

/// Encodes a document that a caller gave in decoded form.
pub(crate) fn encode(document: &Document) -> Result<RawDocumentBuf> {
    RawDocumentBuf::try_from(document)
        .map_err(|_| Error::Invalid("a field name or pattern contains a NUL character".into()))
}

/// Decodes a document.
pub(crate) fn decode(bytes: &[u8]) -> Result<Document, Corrupt> {
    let raw = RawDocument::from_bytes(bytes).map_err(|_| Corrupt)?;
    Document::try_from(raw).map_err(|_| Corrupt)
}

/// A regular expression, for tests.
#[cfg(test)]
pub(crate) fn regex(pattern: &str, options: &str) -> Bson {
    let (pattern, options) = (
        pattern.to_owned().try_into().unwrap(),
        options.to_owned().try_into().unwrap(),
    );
    Bson::RegularExpression(bson::Regex { pattern, options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn walk_yields_every_kind_and_decodes_back() {
        let document = doc! {
            "double": 1.5, "string": "text", "doc": { "a": 1 }, "array": [1, "two"],
            "binary": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] },
            "undefined": Bson::Undefined, "oid": bson::oid::ObjectId::new(), "bool": true,
            "date": bson::DateTime::from_millis(5), "null": Bson::Null,
            "regex": regex("a.b", "i"),
            "code": Bson::JavaScriptCode("x".into()), "symbol": Bson::Symbol("s".into()),
            "scoped": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "y".into(), scope: doc! { "z": 1 } }),
            "int": 3_i32, "timestamp": bson::Timestamp { time: 1, increment: 2 }, "long": 4_i64,
            "decimal": Bson::Decimal128("1.5".parse().unwrap()), "max": Bson::MaxKey, "min": Bson::MinKey,
        };
        let raw = encode(&document).unwrap();
        let mut rebuilt = Document::new();
        for element in Elements::of(raw.as_bytes()) {
            let (key, value) = element.unwrap();
            rebuilt.insert(std::str::from_utf8(key).unwrap(), value.to_bson().unwrap());
        }
        assert_eq!(rebuilt, document);
        let regex = field(raw.as_bytes(), b"regex").unwrap().unwrap();
        assert_eq!(regex.regex(), (&b"a.b"[..], &b"i"[..]));
        let scoped = field(raw.as_bytes(), b"scoped").unwrap().unwrap();
        assert_eq!(scoped.code_with_scope().unwrap().0, b"y");
    }

    #[test]
    fn every_truncation_and_byte_flip_ends_in_an_error_or_a_walk_never_a_panic() {
        fn walk(bytes: &[u8], depth: usize) {
            for element in Elements::of(bytes) {
                let Ok((_, value)) = element else { return };
                let _ = value.to_bson();
                let _ = (
                    value.text(),
                    value.regex(),
                    value.binary(),
                    value.code_with_scope(),
                );
                if matches!(value.kind, Kind::Document | Kind::Array) && depth < 10 {
                    walk(value.bytes, depth + 1);
                }
            }
        }
        let raw = encode(&doc! {
            "a": "text", "b": { "c": [1, 2.5, { "d": Bson::Null }] }, "e": regex("x", "i"),
            "f": Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "y".into(), scope: doc! {} }),
        })
        .unwrap();
        let bytes = raw.as_bytes();
        for end in 0..bytes.len() {
            walk(&bytes[..end], 0);
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                walk(&damaged, 0);
            }
        }
    }
}
