//! Types and conversions.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Decimal128};

use crate::error::{Error, Result};
use crate::expression::operator::{any_null, argument, needs};
use crate::expression::{Scope, is_nullish};
use crate::number::Number;
use crate::value::OwnedValue;

type Arguments<'a> = &'a [Option<Bson>];

pub(super) fn type_name(
    _: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let name = match argument(arguments, 0) {
        None => "missing",
        Some(value) => match value {
            Bson::Double(_) => "double",
            Bson::String(_) => "string",
            Bson::Document(_) => "object",
            Bson::Array(_) => "array",
            Bson::Binary(_) => "binData",
            Bson::Undefined => "undefined",
            Bson::ObjectId(_) => "objectId",
            Bson::Boolean(_) => "bool",
            Bson::DateTime(_) => "date",
            Bson::Null => "null",
            Bson::RegularExpression(_) => "regex",
            Bson::DbPointer(_) => "dbPointer",
            Bson::JavaScriptCode(_) => "javascript",
            Bson::Symbol(_) => "symbol",
            Bson::JavaScriptCodeWithScope(_) => "javascriptWithScope",
            Bson::Int32(_) => "int",
            Bson::Timestamp(_) => "timestamp",
            Bson::Int64(_) => "long",
            Bson::Decimal128(_) => "decimal",
            Bson::MinKey => "minKey",
            Bson::MaxKey => "maxKey",
        },
    };
    Ok(Some(Bson::String(name.to_owned())))
}

pub(super) fn is_number(
    _: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let number = matches!(
        argument(arguments, 0),
        Some(Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_))
    );
    Ok(Some(Bson::Boolean(number)))
}

/// A scalar in words, as `$toString` writes it.
pub(super) fn written(value: &Bson) -> Option<String> {
    Some(match value {
        Bson::String(text) | Bson::Symbol(text) => text.clone(),
        Bson::Int32(int) => int.to_string(),
        Bson::Int64(int) => int.to_string(),
        Bson::Double(double) if double.is_nan() => "NaN".to_owned(),
        Bson::Double(double) if double.is_infinite() => if *double > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned(),
        Bson::Double(double) => double.to_string(),
        Bson::Decimal128(decimal) => decimal.to_string(),
        Bson::Boolean(truth) => truth.to_string(),
        Bson::ObjectId(id) => id.to_hex(),
        Bson::DateTime(date) => super::date::iso(*date),
        _ => return None,
    })
}

pub(super) fn convert(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(value) = argument(arguments, 0).filter(|_| !any_null(arguments)) else {
        return Ok(Some(Bson::Null));
    };
    let target = match name {
        "$toString" => Target::String,
        "$toBool" => Target::Bool,
        "$toDouble" => Target::Double,
        "$toInt" => Target::Int,
        "$toLong" => Target::Long,
        "$toDate" => Target::Date,
        "$toDecimal" => Target::Decimal,
        _ => Target::ObjectId,
    };
    target
        .of(value)
        .map(Some)
        .ok_or_else(|| Error::Invalid(format!("{name} cannot convert the value")))
}

/// `$convert`.
pub(super) fn convert_to(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let or = |index: usize| argument(arguments, index).cloned();
    let to = argument(arguments, 1);
    if is_nullish(to) {
        return Ok(Some(Bson::Null));
    }
    let target = to
        .and_then(Target::parse)
        .ok_or_else(|| Error::Invalid(format!("{name} does not know the type to convert to")))?;
    let Some(value) = argument(arguments, 0).filter(|value| !is_nullish(Some(value))) else {
        return Ok(or(3).or(Some(Bson::Null)));
    };
    match (target.of(value), or(2)) {
        (Some(converted), _) => Ok(Some(converted)),
        (None, Some(instead)) => Ok(Some(instead)),
        (None, None) => Err(Error::Invalid(format!("{name} cannot convert the value"))),
    }
}

/// What a value can be converted to.
#[derive(Debug, Clone, Copy)]
enum Target {
    Double,
    String,
    ObjectId,
    Bool,
    Date,
    Int,
    Long,
    Decimal,
}

impl Target {
    /// By the type's name or number.
    fn parse(value: &Bson) -> Option<Self> {
        const NAMES: [(&str, i64, Target); 8] = [
            ("double", 1, Target::Double),
            ("string", 2, Target::String),
            ("objectId", 7, Target::ObjectId),
            ("bool", 8, Target::Bool),
            ("date", 9, Target::Date),
            ("int", 16, Target::Int),
            ("long", 18, Target::Long),
            ("decimal", 19, Target::Decimal),
        ];
        let found = NAMES.iter().find(|(name, number, _)| match value {
            Bson::String(given) => given == name,
            other => super::whole_number(other) == Some(*number),
        });
        found.map(|(.., target)| *target)
    }

    /// The value in this type, if it can be had.
    fn of(self, value: &Bson) -> Option<Bson> {
        match self {
            Target::String => written(value).map(Bson::String),
            Target::Bool => Some(match value {
                Bson::Boolean(_) => value.clone(),
                Bson::Decimal128(_) => Bson::Boolean(!number(value)?.is_zero()),
                _ => Bson::Boolean(super::is_true(Some(value))),
            }),
            Target::Double => match value {
                Bson::String(text) => real(text).map(Bson::Double),
                Bson::Boolean(truth) => Some(Bson::Double(f64::from(u8::from(*truth)))),
                Bson::DateTime(date) => Some(Bson::Double(date.timestamp_millis() as f64)),
                Bson::Decimal128(_) => {
                    let near = number(value)?.to_f64();
                    // What a double cannot hold is refused, infinity itself is not.
                    let infinite = written(value)?.contains("Infinity");
                    (near.is_finite() || near.is_nan() || infinite).then_some(Bson::Double(near))
                }
                _ => super::as_f64(value).map(Bson::Double),
            },
            Target::Int => match value {
                Bson::DateTime(_) => None,
                _ => whole(value)
                    .and_then(|int| i32::try_from(int).ok())
                    .map(Bson::Int32),
            },
            Target::Long => whole(value).map(Bson::Int64),
            Target::Decimal => match value {
                Bson::Decimal128(_) => Some(value.clone()),
                Bson::Boolean(truth) => Some(decimal(if *truth { "1" } else { "0" })?),
                Bson::Int32(_) | Bson::Int64(_) => decimal(&whole(value)?.to_string()),
                Bson::DateTime(_) => decimal(&whole(value)?.to_string()),
                Bson::String(text) => decimal(text),
                // A double would have to be rounded as MongoDB does it.
                _ => None,
            },
            Target::Date => match value {
                Bson::DateTime(_) => Some(value.clone()),
                Bson::ObjectId(id) => Some(Bson::DateTime(id.timestamp())),
                Bson::String(text) => super::date::read(text, 0).map(Bson::DateTime),
                Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => {
                    whole(value).map(|ms| Bson::DateTime(DateTime::from_millis(ms)))
                }
                Bson::Timestamp(timestamp) => Some(Bson::DateTime(DateTime::from_millis(
                    i64::from(timestamp.time) * 1_000,
                ))),
                _ => None,
            },
            Target::ObjectId => match value {
                Bson::ObjectId(_) => Some(value.clone()),
                Bson::String(text) => ObjectId::parse_str(text).ok().map(Bson::ObjectId),
                _ => None,
            },
        }
    }
}

/// A decimal number in words, without white space.
fn decimal(text: &str) -> Option<Bson> {
    text.parse::<Decimal128>().ok().map(Bson::Decimal128)
}

/// A double in words; Rust's own reading takes no white space and no hex.
fn real(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn number(value: &Bson) -> Option<Number> {
    let value = OwnedValue::encode(value).ok()?;
    Number::of(value.get())
}

/// A value as an integer, cut towards zero.
fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(int) => Some((*int).into()),
        Bson::Int64(int) => Some(*int),
        Bson::Double(double) if (-9.2e18..9.2e18).contains(double) => Some(*double as i64),
        Bson::Decimal128(_) => number(value)?.truncated(),
        Bson::Boolean(truth) => Some((*truth).into()),
        Bson::String(text) => text.parse().ok(),
        Bson::DateTime(date) => Some(date.timestamp_millis()),
        _ => None,
    }
}

/// `$binarySize`: bytes of a string or of binary data.
pub(super) fn binary_size(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let bytes = match argument(arguments, 0) {
        Some(Bson::String(text)) => text.len(),
        Some(Bson::Binary(binary)) => binary.bytes.len(),
        value if is_nullish(value) => return Ok(Some(Bson::Null)),
        _ => return Err(needs(name, "a string or binary data")),
    };
    Ok(Some(Bson::Int32(i32::try_from(bytes).unwrap_or(i32::MAX))))
}

/// `$bsonSize`: bytes of a document when it is encoded.
pub(super) fn bson_size(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    match argument(arguments, 0) {
        Some(Bson::Document(document)) => {
            let bytes = crate::value::encode(document)?.as_bytes().len();
            Ok(Some(Bson::Int32(i32::try_from(bytes).unwrap_or(i32::MAX))))
        }
        value if is_nullish(value) => Ok(Some(Bson::Null)),
        _ => Err(needs(name, "a document")),
    }
}
