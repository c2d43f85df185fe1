//! MongoDB's total order of values, in two forms that must agree: comparing
//! two values in place, and writing one as bytes that sort the same way.
//!
//! The bytes are stored in indexes, so the encoding is part of the file
//! format. Each value encodes to a self-delimiting string: no value's bytes are
//! a prefix of another's, which lets compound keys be plain concatenation and
//! descending keys plain inversion.

use std::cmp::Ordering;

use crate::number::{self, Number};
use crate::value::{Corrupt, Kind, Value};

/// Where a kind stands in MongoDB's order of types. Kinds of one class compare
/// with each other; zero is free for terminators, 255 for upper bounds.
pub(crate) fn class(kind: Kind) -> u8 {
    match kind {
        Kind::MinKey => 0x08,
        Kind::Undefined => 0x10,
        Kind::Null => 0x18,
        Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Decimal128 => 0x20,
        Kind::String | Kind::Symbol => 0x28,
        Kind::Document => 0x30,
        Kind::Array => 0x38,
        Kind::Binary => 0x40,
        Kind::ObjectId => 0x48,
        Kind::Boolean => 0x50,
        Kind::DateTime => 0x58,
        Kind::Timestamp => 0x60,
        Kind::Regex => 0x68,
        Kind::DbPointer => 0x70,
        Kind::Code => 0x78,
        Kind::CodeWithScope => 0x80,
        Kind::MaxKey => 0x88,
    }
}

/// MongoDB's order.
pub(crate) fn compare(a: Value<'_>, b: Value<'_>) -> Result<Ordering, Corrupt> {
    match class(a.kind).cmp(&class(b.kind)) {
        Ordering::Equal => compare_within(a, b),
        unequal => Ok(unequal),
    }
}

/// Compares two values of one class.
fn compare_within(a: Value<'_>, b: Value<'_>) -> Result<Ordering, Corrupt> {
    Ok(match a.kind {
        Kind::MinKey | Kind::MaxKey | Kind::Undefined | Kind::Null => Ordering::Equal,
        Kind::Int32 if b.kind == Kind::Int32 => a.as_i32().cmp(&b.as_i32()),
        Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Decimal128 => {
            match (Number::of(a), Number::of(b)) {
                (Some(a), Some(b)) => number::compare(a, b),
                _ => return Err(Corrupt),
            }
        }
        Kind::String | Kind::Symbol | Kind::Code => a.text().cmp(b.text()),
        Kind::Document | Kind::Array => compare_members(a, b)?,
        Kind::Binary => {
            let (left, right) = (a.binary(), b.binary());
            left.1
                .len()
                .cmp(&right.1.len())
                .then_with(|| left.cmp(&right))
        }
        Kind::ObjectId => a.bytes.cmp(b.bytes),
        Kind::Boolean => a.as_bool().cmp(&b.as_bool()),
        Kind::DateTime => a.as_i64().cmp(&b.as_i64()),
        Kind::Timestamp => a.as_u64().cmp(&b.as_u64()),
        Kind::Regex => a.regex().cmp(&b.regex()),
        Kind::DbPointer => a.bytes.cmp(b.bytes),
        Kind::CodeWithScope => {
            let ((code, scope), (other_code, other_scope)) =
                (a.code_with_scope()?, b.code_with_scope()?);
            match code.cmp(other_code) {
                Ordering::Equal => {
                    compare_members(Value::document(scope), Value::document(other_scope))?
                }
                unequal => unequal,
            }
        }
    })
}

/// Member by member: type, then name, then value; the shorter one is lower.
fn compare_members(a: Value<'_>, b: Value<'_>) -> Result<Ordering, Corrupt> {
    let named = a.kind == Kind::Document;
    let (mut left, mut right) = (a.elements(), b.elements());
    loop {
        let ((name, value), (other_name, other)) = match (left.next(), right.next()) {
            (None, None) => return Ok(Ordering::Equal),
            (None, Some(_)) => return Ok(Ordering::Less),
            (Some(_), None) => return Ok(Ordering::Greater),
            (Some(a), Some(b)) => (a?, b?),
        };
        let mut order = class(value.kind).cmp(&class(other.kind));
        if named {
            order = order.then_with(|| name.cmp(other_name));
        }
        if order == Ordering::Equal {
            order = compare_within(value, other)?;
        }
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
}

/// Appends `value` as bytes that sort as [`compare`] orders.
pub(crate) fn encode(value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    out.push(class(value.kind));
    encode_payload(value, out)
}

/// As [`encode`], with every bit turned for a descending key.
pub(crate) fn encode_descending(value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    let start = out.len();
    encode(value, out)?;
    for byte in out.iter_mut().skip(start) {
        *byte = !*byte;
    }
    Ok(())
}

fn encode_payload(value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Corrupt> {
    match value.kind {
        Kind::MinKey | Kind::MaxKey | Kind::Undefined | Kind::Null => {}
        Kind::Double | Kind::Int32 | Kind::Int64 | Kind::Decimal128 => {
            Number::of(value).ok_or(Corrupt)?.encode(out);
        }
        Kind::String | Kind::Symbol | Kind::Code => encode_text(value.text(), out),
        Kind::Document => {
            for element in value.elements() {
                let (name, member) = element?;
                out.push(class(member.kind));
                encode_text(name, out);
                encode_payload(member, out)?;
            }
            out.push(0);
        }
        Kind::Array => {
            for member in value.values() {
                encode(member?, out)?;
            }
            out.push(0);
        }
        Kind::Binary => {
            let (subtype, data) = value.binary();
            out.extend_from_slice(
                &u32::try_from(data.len())
                    .map_err(|_| Corrupt)?
                    .to_be_bytes(),
            );
            out.push(subtype);
            out.extend_from_slice(data);
        }
        Kind::ObjectId => out.extend_from_slice(value.bytes),
        Kind::DbPointer => {
            // Its own length comes first, so it delimits itself.
            out.extend_from_slice(value.bytes);
        }
        Kind::Boolean => out.push(value.as_bool().into()),
        Kind::DateTime => {
            let flipped = value.as_i64().cast_unsigned() ^ 1 << 63;
            out.extend_from_slice(&flipped.to_be_bytes());
        }
        Kind::Timestamp => out.extend_from_slice(&value.as_u64().to_be_bytes()),
        Kind::Regex => {
            let (pattern, options) = value.regex();
            encode_text(pattern, out);
            encode_text(options, out);
        }
        Kind::CodeWithScope => {
            let (code, scope) = value.code_with_scope()?;
            encode_text(code, out);
            encode_payload(Value::document(scope), out)?;
        }
    }
    Ok(())
}

/// Text ends in two zeros; a zero inside is followed by 255.
fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The smallest byte string above every string that starts with `prefix`.
pub(crate) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < 0xFF {
            next.push(last + 1);
            break;
        }
    }
    // Every key starts below 255, so this is above all of them.
    if next.is_empty() { vec![0xFF] } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{OwnedValue, regex};
    use bson::{Bson, bson, doc};
    use proptest::prelude::*;

    fn owned(value: &Bson) -> OwnedValue {
        OwnedValue::encode(value).unwrap()
    }

    fn key(value: &Bson, descending: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let encode = if descending {
            encode_descending
        } else {
            encode
        };
        encode(owned(value).get(), &mut out).unwrap();
        out
    }

    #[test]
    fn types_follow_mongodbs_order() {
        let ascending = [
            Bson::MinKey,
            Bson::Undefined,
            Bson::Null,
            bson!(-5),
            bson!(2.5),
            bson!(""),
            bson!("a"),
            bson!("a\u{0}"),
            bson!("ab"),
            bson!("b"),
            bson!({}),
            bson!({ "a": 1 }),
            bson!({ "a": 1, "b": 1 }),
            bson!({ "b": 0 }),
            bson!({ "a": "x" }),
            bson!([]),
            bson!([1]),
            bson!([1, 2]),
            bson!([2]),
            bson!(["a"]),
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![9],
            }),
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![0, 0],
            }),
            Bson::ObjectId(bson::oid::ObjectId::from_bytes([0; 12])),
            Bson::ObjectId(bson::oid::ObjectId::from_bytes([1; 12])),
            Bson::Boolean(false),
            Bson::Boolean(true),
            Bson::DateTime(bson::DateTime::from_millis(-1)),
            Bson::DateTime(bson::DateTime::from_millis(1)),
            Bson::Timestamp(bson::Timestamp {
                time: 1,
                increment: 5,
            }),
            Bson::Timestamp(bson::Timestamp {
                time: 2,
                increment: 0,
            }),
            regex("a", ""),
            regex("a", "i"),
            Bson::JavaScriptCode("a".into()),
            Bson::MaxKey,
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                let expected = i.cmp(&j);
                assert_eq!(
                    compare(owned(a).get(), owned(b).get()).unwrap(),
                    expected,
                    "{a} {b}"
                );
                assert_eq!(key(a, false).cmp(&key(b, false)), expected, "key {a} {b}");
                assert_eq!(
                    key(b, true).cmp(&key(a, true)),
                    expected,
                    "descending key {a} {b}"
                );
            }
        }
    }

    #[test]
    fn equal_numbers_and_symbols_have_equal_keys() {
        assert_eq!(key(&bson!(1), false), key(&bson!(1.0), false));
        assert_eq!(
            key(&bson!({ "a": 1 }), false),
            key(&bson!({ "a": 1_i64 }), false)
        );
        assert_eq!(
            key(&bson!("s"), false),
            key(&Bson::Symbol("s".into()), false)
        );
    }

    #[test]
    fn successor_carries() {
        assert_eq!(successor(&[1, 2]), [1, 3]);
        assert_eq!(successor(&[1, 0xFF]), [2]);
        assert_eq!(successor(&[0xFF, 0xFF]), [0xFF]);
    }

    fn any_value() -> impl Strategy<Value = Bson> {
        let leaf = prop_oneof![
            Just(Bson::Null),
            Just(Bson::MinKey),
            Just(Bson::MaxKey),
            any::<bool>().prop_map(Bson::Boolean),
            any::<i32>().prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            (-3..3_i32).prop_map(Bson::Int32),
            (-3..3_i64).prop_map(Bson::Int64),
            (-6..6_i32).prop_map(|half| Bson::Double(f64::from(half) / 2.0)),
            any::<f64>().prop_map(Bson::Double),
            (any::<i64>(), -40..40_i32)
                .prop_map(|(c, e)| Bson::Decimal128(format!("{c}E{e}").parse().unwrap())),
            "[a-c\u{0}é]{0,3}".prop_map(Bson::String),
            any::<i64>().prop_map(|ms| Bson::DateTime(bson::DateTime::from_millis(ms))),
            (any::<u32>(), any::<u32>())
                .prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| Bson::Binary(
                bson::Binary {
                    subtype: bson::spec::BinarySubtype::Generic,
                    bytes
                }
            )),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Bson::Array),
                proptest::collection::vec(("[ab]{1,2}", inner), 0..3)
                    .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn key_bytes_order_as_values_compare(a in any_value(), b in any_value()) {
            let expected = compare(owned(&a).get(), owned(&b).get()).unwrap();
            let (left, right) = (key(&a, false), key(&b, false));
            prop_assert_eq!(left.cmp(&right), expected);
            prop_assert_eq!(key(&b, true).cmp(&key(&a, true)), expected);
            if expected != Ordering::Equal {
                prop_assert!(!right.starts_with(&left), "a key is a prefix of another");
            }
        }
    }

    #[test]
    fn document_members_compare_type_before_name() {
        let (a, b) = (
            owned(&Bson::Document(doc! { "b": 1 })),
            owned(&Bson::Document(doc! { "a": "x" })),
        );
        assert_eq!(compare(a.get(), b.get()).unwrap(), Ordering::Less);
    }
}
