//! Dates moved, compared and cut by units of the calendar.

use bson::{Bson, DateTime};

use crate::error::{Error, Result};
use crate::expression::date::{DAY, date, days, days_in, parts, weekday, zone};
use crate::expression::operator::{argument, needs};
use crate::expression::{Scope, is_nullish, whole_number};

type Arguments<'a> = &'a [Option<Bson>];

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many months.
    Months(i64),
    Week,
    /// So many milliseconds.
    Fixed(i64),
}

/// The unit among the arguments; none when it is null.
fn unit(name: &str, value: Option<&Bson>) -> Result<Option<Unit>> {
    Ok(Some(match value {
        Some(Bson::String(unit)) => match unit.as_str() {
            "year" => Unit::Months(12),
            "quarter" => Unit::Months(3),
            "month" => Unit::Months(1),
            "week" => Unit::Week,
            "day" => Unit::Fixed(DAY),
            "hour" => Unit::Fixed(3_600_000),
            "minute" => Unit::Fixed(60_000),
            "second" => Unit::Fixed(1_000),
            "millisecond" => Unit::Fixed(1),
            _ => return Err(needs(name, "a unit such as year, week, day or second")),
        },
        value if is_nullish(value) => return Ok(None),
        _ => return Err(needs(name, "a unit that is a string")),
    }))
}

/// The first day of a week, Monday being 0; Sunday when it is not given.
fn start_of_week(name: &str, value: Option<&Bson>) -> Result<i64> {
    const DAYS: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    match value {
        None => Ok(6),
        Some(Bson::String(day)) => {
            let day = day.to_ascii_lowercase();
            // The full name, or its first three letters.
            DAYS.iter()
                .position(|known| *known == day || known.get(..3) == Some(day.as_str()))
                .and_then(|day| i64::try_from(day).ok())
                .ok_or_else(|| needs(name, "a day of the week for startOfWeek"))
        }
        Some(_) => Err(needs(name, "a day of the week for startOfWeek")),
    }
}

/// Months since the year 0, and the milliseconds since this one began.
fn months(local: i64) -> (i64, i64) {
    let parts = parts(local);
    let month = i64::from(parts.month);
    // Not by the month's beginning: the first of all dates lies in a month that
    // begins before it.
    let into = (i64::from(parts.day) - 1) * DAY + local.rem_euclid(DAY);
    (parts.year * 12 + month - 1, into)
}

/// Years whose dates can be told in milliseconds, on either side of the year 0.
const MAX_YEARS: u64 = 200_000_000;

/// Whether the month is one that [`month_start`] can tell.
fn is_near(months: &i64) -> bool {
    months.unsigned_abs() < 12 * MAX_YEARS
}

/// When a month begins.
fn month_start(months: i64) -> i64 {
    days(months.div_euclid(12), months.rem_euclid(12) + 1, 1) * DAY
}

fn out_of_range(name: &str) -> Error {
    Error::Invalid(format!("{name} leads to a date that is out of range"))
}

/// `$dateAdd` and `$dateSubtract`. A day that the new month does not have
/// becomes its last.
pub(super) fn add(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let amount = match argument(arguments, 2) {
        value if is_nullish(value) => None,
        Some(value) => Some(
            whole_number(value).ok_or_else(|| needs(name, "an amount that is a whole number"))?,
        ),
        None => None,
    };
    let (Some(date), Some(unit), Some(amount), Some(zone)) = (
        date(name, argument(arguments, 0))?,
        unit(name, argument(arguments, 1))?,
        amount,
        zone(name, arguments, 3)?,
    ) else {
        return Ok(Some(Bson::Null));
    };
    let too_far = || out_of_range(name);
    let amount = match name {
        "$dateSubtract" => amount.checked_neg().ok_or_else(too_far)?,
        _ => amount,
    };
    let local = date
        .timestamp_millis()
        .checked_add(zone)
        .ok_or_else(too_far)?;
    let moved = match unit {
        Unit::Months(each) => {
            let (before, into) = months(local);
            let after = amount
                .checked_mul(each)
                .and_then(|amount| amount.checked_add(before))
                .filter(is_near)
                .ok_or_else(too_far)?;
            let last = days_in(after.div_euclid(12), after.rem_euclid(12) + 1) - 1;
            let day = (into / DAY).min(last);
            month_start(after) + day * DAY + into % DAY
        }
        Unit::Week | Unit::Fixed(_) => {
            let each = match unit {
                Unit::Fixed(each) => each,
                _ => 7 * DAY,
            };
            let by = amount.checked_mul(each).ok_or_else(too_far)?;
            local.checked_add(by).ok_or_else(too_far)?
        }
    };
    let moved = moved.checked_sub(zone).ok_or_else(too_far)?;
    Ok(Some(Bson::DateTime(DateTime::from_millis(moved))))
}

/// `$dateDiff`: how many borders of the unit lie between two dates.
pub(super) fn difference(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let week = start_of_week(name, argument(arguments, 4))?;
    let (Some(start), Some(end), Some(unit), Some(zone)) = (
        date(name, argument(arguments, 0))?,
        date(name, argument(arguments, 1))?,
        unit(name, argument(arguments, 2))?,
        zone(name, arguments, 3)?,
    ) else {
        return Ok(Some(Bson::Null));
    };
    let index = |date: DateTime| {
        let local = date.timestamp_millis().saturating_add(zone);
        match unit {
            Unit::Months(each) => months(local).0.div_euclid(each),
            // Day 3 after the beginning of 1970 was a Sunday, day 4 a Monday.
            Unit::Week => (local.div_euclid(DAY) - 4 - week).div_euclid(7),
            Unit::Fixed(each) => local.div_euclid(each),
        }
    };
    Ok(Some(Bson::Int64(index(end).saturating_sub(index(start)))))
}

/// `$dateTrunc`: the beginning of the unit, or of the bin of several, that a date
/// lies in. Bins are counted from the year 2000.
pub(super) fn truncate(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let week = start_of_week(name, argument(arguments, 4))?;
    let bin = match argument(arguments, 2) {
        None => 1,
        Some(value) => whole_number(value)
            .filter(|bin| (1..=100_000_000_000).contains(bin))
            .ok_or_else(|| needs(name, "a binSize that is a whole number above 0"))?,
    };
    let (Some(date), Some(unit), Some(zone)) = (
        date(name, argument(arguments, 0))?,
        unit(name, argument(arguments, 1))?,
        zone(name, arguments, 3)?,
    ) else {
        return Ok(Some(Bson::Null));
    };
    let too_far = || out_of_range(name);
    let local = date
        .timestamp_millis()
        .checked_add(zone)
        .ok_or_else(too_far)?;
    let start = days(2000, 1, 1);
    let cut = match unit {
        Unit::Months(each) => {
            let each = each.checked_mul(bin).ok_or_else(too_far)?;
            let since = months(local).0 - 2000 * 12;
            let begins = since
                .div_euclid(each)
                .checked_mul(each)
                .and_then(|since| since.checked_add(2000 * 12))
                .filter(is_near)
                .ok_or_else(too_far)?;
            month_start(begins)
        }
        Unit::Week | Unit::Fixed(_) => {
            let (reference, each) = match unit {
                Unit::Fixed(each) => (start * DAY, each),
                // The first such day of the year 2000.
                _ => (
                    (start + (week - weekday(start)).rem_euclid(7)) * DAY,
                    7 * DAY,
                ),
            };
            let each = each.checked_mul(bin).ok_or_else(too_far)?;
            let since = local.checked_sub(reference).ok_or_else(too_far)?;
            since
                .div_euclid(each)
                .checked_mul(each)
                .and_then(|since| since.checked_add(reference))
                .ok_or_else(too_far)?
        }
    };
    let cut = cut.checked_sub(zone).ok_or_else(too_far)?;
    Ok(Some(Bson::DateTime(DateTime::from_millis(cut))))
}
