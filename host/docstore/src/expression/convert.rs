//! Types and conversions.

use bson::oid::ObjectId;
use bson::{Bson, DateTime};

use crate::error::{Error, Result};
use crate::expression::Scope;
use crate::expression::operator::{any_null, argument};

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
    let failed = || Error::Invalid(format!("{name} cannot convert the value"));
    let converted = match name {
        "$toString" => written(value).map(Bson::String),
        "$toBool" => match value {
            Bson::Boolean(_) => Some(value.clone()),
            Bson::Decimal128(_) => None,
            _ => Some(Bson::Boolean(super::is_true(Some(value)))),
        },
        "$toDouble" => match value {
            Bson::String(text) => text.parse().ok().map(Bson::Double),
            Bson::Boolean(truth) => Some(Bson::Double(f64::from(u8::from(*truth)))),
            Bson::DateTime(date) => Some(Bson::Double(date.timestamp_millis() as f64)),
            _ => super::as_f64(value).map(Bson::Double),
        },
        "$toInt" => whole(value)
            .and_then(|int| i32::try_from(int).ok())
            .map(Bson::Int32),
        "$toLong" => whole(value).map(Bson::Int64),
        "$toDate" => match value {
            Bson::DateTime(_) => Some(value.clone()),
            Bson::ObjectId(id) => Some(Bson::DateTime(id.timestamp())),
            Bson::String(text) => DateTime::parse_rfc3339_str(text).ok().map(Bson::DateTime),
            Bson::Int64(_) | Bson::Double(_) => {
                whole(value).map(|ms| Bson::DateTime(DateTime::from_millis(ms)))
            }
            Bson::Timestamp(timestamp) => Some(Bson::DateTime(DateTime::from_millis(
                i64::from(timestamp.time) * 1_000,
            ))),
            _ => None,
        },
        _ => match value {
            Bson::ObjectId(_) => Some(value.clone()),
            Bson::String(text) => ObjectId::parse_str(text).ok().map(Bson::ObjectId),
            _ => None,
        },
    };
    converted.map(Some).ok_or_else(failed)
}

/// A value as an integer, cut towards zero.
fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(int) => Some((*int).into()),
        Bson::Int64(int) => Some(*int),
        Bson::Double(double) if (-9.2e18..9.2e18).contains(double) => Some(*double as i64),
        Bson::Boolean(truth) => Some((*truth).into()),
        Bson::String(text) => text.parse().ok(),
        Bson::DateTime(date) => Some(date.timestamp_millis()),
        _ => None,
    }
}
