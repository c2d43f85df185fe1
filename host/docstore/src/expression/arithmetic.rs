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
    let mut total = Total::default();
    for value in arguments {
        // The first null ends it, before what stands behind is looked at.
        let Some(value) = value.as_ref().filter(|value| !is_nullish(Some(value))) else {
            return Ok(Some(Bson::Null));
        };
        match value {
            Bson::DateTime(_) if date.is_some() => return Err(needs(name, "at most one date")),
            Bson::DateTime(given) => date = Some(*given),
            value => {
                number(name, value)?;
                total.take(name, Some(value))?;
            }
        }
    }
    match date {
        Some(date) => shift(date, number(name, &total.sum())?).map(Some),
        None => Ok(Some(total.sum())),
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
    let rounds = name == "$round";
    Ok(Some(match value {
        Bson::Int32(int) if place < 0 => whole_to_place(name, (*int).into(), place, rounds, true)?,
        Bson::Int64(int) if place < 0 => whole_to_place(name, *int, place, rounds, false)?,
        Bson::Int32(_) | Bson::Int64(_) => value.clone(),
        value => Bson::Double(real_to_place(number(name, value)?, place, rounds)),
    }))
}

/// An integer to a power of ten.
fn whole_to_place(name: &str, int: i64, place: i32, rounds: bool, narrow: bool) -> Result<Bson> {
    let scale = 10_i128.pow(place.unsigned_abs());
    let (int, below) = (i128::from(int), i128::from(int) % scale);
    let mut result = int - below;
    // Of two that are equally near, the even one.
    let (twice, odd) = (below.abs() * 2, result / scale % 2 != 0);
    if rounds && (twice > scale || twice == scale && odd) {
        result += scale * below.signum();
    }
    match i64::try_from(result) {
        Ok(result) => Ok(integer(result, narrow)),
        Err(_) => Err(needs(name, "a number whose result fits 64 bits")),
    }
}

/// A double to a decimal place, by its exact decimal value: scaled by a power of
/// ten, 1.115 would become 111.50000000000001 and round to the wrong side.
fn real_to_place(double: f64, place: i32, rounds: bool) -> f64 {
    if !double.is_finite() {
        return double;
    }
    let Ok(digits) = usize::try_from(place) else {
        let scale = 10_f64.powi(-place);
        let scaled = double / scale;
        let cut = if rounds {
            scaled.round_ties_even()
        } else {
            scaled.trunc()
        };
        return cut * scale;
    };
    let written = if rounds {
        format!("{double:.digits$}")
    } else {
        // More digits than two neighbouring doubles could have in common.
        let mut written = format!("{double:.*}", digits + 40);
        if let Some(dot) = written.find('.') {
            written.truncate(dot + 1 + digits);
        }
        written
    };
    written.parse().unwrap_or(double)
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

/// `$log`, to any base.
pub(super) fn logarithm(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some((value, base)) = pair(name, arguments)? else {
        return Ok(Some(Bson::Null));
    };
    let (value, base) = (number(name, value)?, number(name, base)?);
    if value <= 0.0 {
        return Err(needs(name, "a number above 0"));
    }
    if base <= 0.0 || base == 1.0 {
        return Err(needs(name, "a base above 0 other than 1"));
    }
    Ok(Some(Bson::Double(value.ln() / base.ln())))
}

/// The trigonometric functions of one number.
pub(super) fn angle(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(value) = argument(arguments, 0).filter(|_| !any_null(arguments)) else {
        return Ok(Some(Bson::Null));
    };
    let value = number(name, value)?;
    let (good, result) = match name {
        "$sin" => (!value.is_infinite(), value.sin()),
        "$cos" => (!value.is_infinite(), value.cos()),
        "$tan" => (!value.is_infinite(), value.tan()),
        "$asin" => (value.abs() <= 1.0 || value.is_nan(), value.asin()),
        "$acos" => (value.abs() <= 1.0 || value.is_nan(), value.acos()),
        "$atan" => (true, value.atan()),
        "$sinh" => (true, value.sinh()),
        "$cosh" => (true, value.cosh()),
        "$tanh" => (true, value.tanh()),
        "$asinh" => (true, value.asinh()),
        "$acosh" => (value >= 1.0 || value.is_nan(), value.acosh()),
        "$atanh" => (value.abs() <= 1.0 || value.is_nan(), value.atanh()),
        "$degreesToRadians" => (true, value * (std::f64::consts::PI / 180.0)),
        _ => (true, value * (180.0 / std::f64::consts::PI)),
    };
    if good {
        Ok(Some(Bson::Double(result)))
    } else {
        Err(needs(name, "a number in the function's domain"))
    }
}

/// `$atan2`.
pub(super) fn angle_of_point(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some((y, x)) = pair(name, arguments)? else {
        return Ok(Some(Bson::Null));
    };
    Ok(Some(Bson::Double(number(name, y)?.atan2(number(name, x)?))))
}

/// `$bitAnd`, `$bitOr`, `$bitXor`, `$bitNot`: of integers, as wide as the widest.
pub(super) fn bits(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let mut result: Option<i64> = None;
    let mut narrow = true;
    for value in arguments {
        let Some(value) = value.as_ref().filter(|value| !is_nullish(Some(value))) else {
            return Ok(Some(Bson::Null));
        };
        let bits = as_i64(value).ok_or_else(|| needs(name, "integers"))?;
        narrow &= matches!(value, Bson::Int32(_));
        result = Some(match (name, result) {
            ("$bitNot", _) => !bits,
            (_, None) => bits,
            ("$bitAnd", Some(before)) => before & bits,
            ("$bitOr", Some(before)) => before | bits,
            (_, Some(before)) => before ^ bits,
        });
    }
    Ok(result.map(|result| integer(result, narrow)))
}

/// Refuses a Decimal128 where numbers are gathered: to pass over it, as over
/// what is no number, would give a wrong sum.
pub(crate) fn refuse_decimal(name: &str, value: Option<&Bson>) -> Result<()> {
    match value {
        Some(Bson::Decimal128(_)) => Err(Error::Invalid(format!(
            "{name} does not support Decimal128"
        ))),
        _ => Ok(()),
    }
}

/// A sum as `$sum` and `$avg` take it: integers exactly, doubles with the error of
/// each addition carried along, as MongoDB does, so that ten times 0.1 is 1.
#[derive(Debug, Default)]
pub(crate) struct Total {
    whole: i128,
    sum: f64,
    error: f64,
    doubles: bool,
    longs: bool,
    count: u64,
}

impl Total {
    /// Adds a number; what is none is passed over, but Decimal128 is refused.
    pub(crate) fn take(&mut self, name: &str, value: Option<&Bson>) -> Result<()> {
        refuse_decimal(name, value)?;
        match value {
            Some(Bson::Int32(int)) => self.whole += i128::from(*int),
            Some(Bson::Int64(int)) => {
                self.whole += i128::from(*int);
                self.longs = true;
            }
            Some(Bson::Double(double)) => {
                self.doubles = true;
                self.double(*double);
            }
            _ => return Ok(()),
        }
        self.count += 1;
        Ok(())
    }

    /// Knuth's two-sum.
    fn double(&mut self, double: f64) {
        let sum = self.sum + double;
        let shifted = sum - self.sum;
        let error = (self.sum - (sum - shifted)) + (double - shifted);
        self.sum = sum;
        // Beyond infinity the error is no number.
        if error.is_finite() {
            self.error += error;
        }
    }

    fn as_double(&self) -> f64 {
        let mut all = Total {
            sum: self.sum,
            error: self.error,
            ..Total::default()
        };
        let whole = self.whole as f64;
        all.double(whole);
        // What the double of the integers left out.
        all.error += (self.whole - whole as i128) as f64;
        all.sum + all.error
    }

    /// The sum, in the widest type that was met.
    pub(crate) fn sum(&self) -> Bson {
        if self.doubles {
            return Bson::Double(self.as_double());
        }
        match (i32::try_from(self.whole), i64::try_from(self.whole)) {
            (Ok(int), _) if !self.longs => Bson::Int32(int),
            (_, Ok(long)) => Bson::Int64(long),
            _ => Bson::Double(self.whole as f64),
        }
    }

    /// The mean; null of nothing.
    pub(crate) fn mean(&self) -> Bson {
        if self.count == 0 {
            Bson::Null
        } else {
            Bson::Double(self.as_double() / self.count as f64)
        }
    }
}
