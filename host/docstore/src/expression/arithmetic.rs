//! Numbers. Integers stay integers while they fit and become doubles beyond;
//! Decimal128 is refused.

use bson::{Bson, DateTime};

use crate::error::{Error, Result};
use crate::expression::operator::{any_null, argument, needs};
use crate::expression::{Scope, is_nullish};

type Arguments<'a> = &'a [Option<Bson>];

/// A number as a double.
pub(crate) fn as_f64(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(int) => Some(f64::from(*int)),
        Bson::Int64(int) => Some(*int as f64),
        Bson::Double(double) => Some(*double),
        _ => None,
    }
}

fn as_i64(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(int) => Some(i64::from(*int)),
        Bson::Int64(int) => Some(*int),
        _ => None,
    }
}

fn number(name: &str, value: &Bson) -> Result<f64> {
    match value {
        Bson::Decimal128(_) => Err(Error::Invalid(format!(
            "{name} does not support Decimal128"
        ))),
        _ => as_f64(value).ok_or_else(|| needs(name, "numbers")),
    }
}

/// An integer result in the width of its operands, if it fits.
fn integer(result: i64, narrow: bool) -> Bson {
    match i32::try_from(result) {
        Ok(small) if narrow => Bson::Int32(small),
        _ => Bson::Int64(result),
    }
}

fn combine(
    name: &str,
    a: &Bson,
    b: &Bson,
    ints: fn(i64, i64) -> Option<i64>,
    doubles: fn(f64, f64) -> f64,
) -> Result<Bson> {
    if let (Some(x), Some(y)) = (as_i64(a), as_i64(b))
        && let Some(result) = ints(x, y)
    {
        return Ok(integer(
            result,
            matches!((a, b), (Bson::Int32(_), Bson::Int32(_))),
        ));
    }
    Ok(Bson::Double(doubles(number(name, a)?, number(name, b)?)))
}

/// The sum of two numbers.
pub(crate) fn add(name: &str, a: &Bson, b: &Bson) -> Result<Bson> {
    combine(name, a, b, i64::checked_add, |a, b| a + b)
}

fn shift(date: DateTime, milliseconds: f64) -> Result<Bson> {
    let moved = date.timestamp_millis() as f64 + milliseconds;
    if moved.abs() > i64::MAX as f64 / 2.0 {
        return Err(Error::Invalid("the date is out of range".into()));
    }
    Ok(Bson::DateTime(DateTime::from_millis(moved as i64)))
}

pub(super) fn sum(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let mut date = None;
    let mut total = Bson::Int32(0);
    for value in arguments {
        // The first null ends it, before what stands behind is looked at.
        let Some(value) = value.as_ref().filter(|value| !is_nullish(Some(value))) else {
            return Ok(Some(Bson::Null));
        };
        match value {
            Bson::DateTime(_) if date.is_some() => return Err(needs(name, "at most one date")),
            Bson::DateTime(given) => date = Some(*given),
            value => total = add(name, &total, value)?,
        }
    }
    match date {
        Some(date) => shift(date, number(name, &total)?).map(Some),
        None => Ok(Some(total)),
    }
}

pub(super) fn subtract(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return Ok(Some(Bson::Null));
    }
    match (argument(arguments, 0), argument(arguments, 1)) {
        (Some(Bson::DateTime(a)), Some(Bson::DateTime(b))) => Ok(Some(Bson::Int64(
            a.timestamp_millis().saturating_sub(b.timestamp_millis()),
        ))),
        (Some(Bson::DateTime(date)), Some(value)) => shift(*date, -number(name, value)?).map(Some),
        (Some(a), Some(b)) => combine(name, a, b, i64::checked_sub, |a, b| a - b).map(Some),
        _ => Ok(Some(Bson::Null)),
    }
}

pub(super) fn multiply(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let mut product = Bson::Int32(1);
    for value in arguments {
        let Some(value) = value.as_ref().filter(|value| !is_nullish(Some(value))) else {
            return Ok(Some(Bson::Null));
        };
        product = combine(name, &product, value, i64::checked_mul, |a, b| a * b)?;
    }
    Ok(Some(product))
}

fn pair<'a>(name: &str, arguments: Arguments<'a>) -> Result<Option<(&'a Bson, &'a Bson)>> {
    if any_null(arguments) {
        return Ok(None);
    }
    match (argument(arguments, 0), argument(arguments, 1)) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        _ => Err(needs(name, "two arguments")),
    }
}

pub(super) fn divide(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some((a, b)) = pair(name, arguments)? else {
        return Ok(Some(Bson::Null));
    };
    let (a, b) = (number(name, a)?, number(name, b)?);
    if b == 0.0 {
        return Err(Error::Invalid("$divide cannot divide by zero".into()));
    }
    Ok(Some(Bson::Double(a / b)))
}

pub(super) fn modulo(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some((a, b)) = pair(name, arguments)? else {
        return Ok(Some(Bson::Null));
    };
    if number(name, b)? == 0.0 {
        return Err(Error::Invalid("$mod cannot divide by zero".into()));
    }
    combine(
        name,
        a,
        b,
        |a, b| Some(a.checked_rem(b).unwrap_or(0)),
        |a, b| a % b,
    )
    .map(Some)
}

pub(super) fn rounded(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(value) = argument(arguments, 0).filter(|_| !any_null(arguments)) else {
        return Ok(Some(Bson::Null));
    };
    Ok(Some(match (name, value) {
        ("$abs", Bson::Int32(int)) => integer(i64::from(*int).abs(), true),
        ("$abs", Bson::Int64(int)) => Bson::Int64(
            int.checked_abs()
                .ok_or_else(|| needs(name, "a number whose absolute value fits"))?,
        ),
        (_, Bson::Int32(_) | Bson::Int64(_)) => value.clone(),
        ("$abs", value) => Bson::Double(number(name, value)?.abs()),
        ("$ceil", value) => Bson::Double(number(name, value)?.ceil()),
        (_, value) => Bson::Double(number(name, value)?.floor()),
    }))
}

/// `$round` (half to even) and `$trunc`, to a decimal place.
pub(super) fn to_place(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return Ok(Some(Bson::Null));
    }
    let Some(value) = argument(arguments, 0) else {
        return Ok(Some(Bson::Null));
    };
    let place = match argument(arguments, 1) {
        None => 0,
        Some(place) => {
            let place = number(name, place)?;
            if place.fract() != 0.0 || !(-20.0..=100.0).contains(&place) {
                return Err(needs(name, "a place from -20 to 100"));
            }
            place as i32
        }
    };
    let cut = |double: f64| {
        if name == "$round" {
            double.round_ties_even()
        } else {
            double.trunc()
        }
    };
    if as_i64(value).is_some() && place >= 0 {
        return Ok(Some(value.clone()));
    }
    let scale = 10_f64.powi(place.abs());
    let double = number(name, value)?;
    let result = if place >= 0 {
        cut(double * scale) / scale
    } else {
        cut(double / scale) * scale
    };
    // A scale beyond a double's range leaves nothing to round.
    let result = if result.is_finite() { result } else { double };
    Ok(Some(match value {
        Bson::Int32(_) => integer(result as i64, true),
        Bson::Int64(_) => Bson::Int64(result as i64),
        _ => Bson::Double(result),
    }))
}

pub(super) fn real(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(value) = argument(arguments, 0).filter(|_| !any_null(arguments)) else {
        return Ok(Some(Bson::Null));
    };
    let value = number(name, value)?;
    let result = match name {
        "$exp" => value.exp(),
        "$sqrt" if value < 0.0 => return Err(needs(name, "a number from 0")),
        "$sqrt" => value.sqrt(),
        _ if value <= 0.0 => return Err(needs(name, "a number above 0")),
        "$ln" => value.ln(),
        _ => value.log10(),
    };
    Ok(Some(Bson::Double(result)))
}

pub(super) fn power(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some((base, exponent)) = pair(name, arguments)? else {
        return Ok(Some(Bson::Null));
    };
    if let (Some(base_int), Some(exponent)) = (as_i64(base), as_i64(exponent))
        && let Ok(exponent) = u32::try_from(exponent)
        && let Some(result) = base_int.checked_pow(exponent)
    {
        return Ok(Some(integer(result, matches!(base, Bson::Int32(_)))));
    }
    let (base, exponent) = (number(name, base)?, number(name, exponent)?);
    if base == 0.0 && exponent < 0.0 {
        return Err(needs(name, "an exponent from 0 for the base 0"));
    }
    Ok(Some(Bson::Double(base.powf(exponent))))
}
