//! Dates, in UTC. Time zones are refused until they can be done whole.

use bson::{Bson, DateTime};

use crate::error::{Error, Result};
use crate::expression::operator::{argument, needs};
use crate::expression::{Scope, is_nullish};

type Arguments<'a> = &'a [Option<Bson>];

/// A moment taken apart.
struct Parts {
    year: i64,
    month: u32,
    day: u32,
    day_of_year: u32,
    /// Sunday is 1.
    day_of_week: u32,
    hour: u32,
    minute: u32,
    second: u32,
    millisecond: u32,
}

const DAY: i64 = 86_400_000;

/// Days since 1970 to the civil calendar, after Howard Hinnant's
/// `civil_from_days`.
fn parts(date: DateTime) -> Parts {
    let milliseconds = date.timestamp_millis();
    let (days, time) = (milliseconds.div_euclid(DAY), milliseconds.rem_euclid(DAY));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let from_march = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * from_march + 2) / 153;
    let day = from_march - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let day_of_year = if month > 2 {
        from_march + 60 + leap
    } else {
        from_march - 305
    };
    let small = |value: i64| u32::try_from(value).unwrap_or_default();
    Parts {
        year,
        month: small(month),
        day: small(day),
        day_of_year: small(day_of_year),
        day_of_week: small((days + 4).rem_euclid(7) + 1),
        hour: small(time / 3_600_000),
        minute: small(time / 60_000 % 60),
        second: small(time / 1_000 % 60),
        millisecond: small(time % 1_000),
    }
}

/// As `$toString` writes dates.
pub(super) fn iso(date: DateTime) -> String {
    written(date, "%Y-%m-%dT%H:%M:%S.%LZ").unwrap_or_default()
}

fn date(name: &str, value: Option<&Bson>) -> Result<Option<DateTime>> {
    match value {
        Some(Bson::DateTime(date)) => Ok(Some(*date)),
        Some(Bson::ObjectId(id)) => Ok(Some(id.timestamp())),
        Some(Bson::Timestamp(timestamp)) => Ok(Some(DateTime::from_millis(
            i64::from(timestamp.time) * 1_000,
        ))),
        value if is_nullish(value) => Ok(None),
        _ => Err(needs(name, "a date")),
    }
}

pub(super) fn part(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(date) = date(name, argument(arguments, 0))? else {
        return Ok(Some(Bson::Null));
    };
    let parts = parts(date);
    let value = match name {
        "$year" => parts.year,
        "$month" => parts.month.into(),
        "$dayOfMonth" => parts.day.into(),
        "$dayOfWeek" => parts.day_of_week.into(),
        "$dayOfYear" => parts.day_of_year.into(),
        "$hour" => parts.hour.into(),
        "$minute" => parts.minute.into(),
        "$second" => parts.second.into(),
        _ => parts.millisecond.into(),
    };
    Ok(Some(Bson::Int32(i32::try_from(value).unwrap_or(i32::MAX))))
}

pub(super) fn format(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(date) = date(name, argument(arguments, 0))? else {
        return Ok(Some(argument(arguments, 2).cloned().unwrap_or(Bson::Null)));
    };
    let format = match argument(arguments, 1) {
        None => "%Y-%m-%dT%H:%M:%S.%LZ",
        Some(Bson::String(format)) => format,
        Some(_) => return Err(needs(name, "a format that is a string")),
    };
    written(date, format).map(|text| Some(Bson::String(text)))
}

fn written(date: DateTime, format: &str) -> Result<String> {
    use std::fmt::Write;
    let parts = parts(date);
    let mut out = String::with_capacity(format.len() + 16);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        // Writing into a string cannot fail.
        let _ = match characters.next() {
            Some('Y') => write!(out, "{:04}", parts.year),
            Some('m') => write!(out, "{:02}", parts.month),
            Some('d') => write!(out, "{:02}", parts.day),
            Some('H') => write!(out, "{:02}", parts.hour),
            Some('M') => write!(out, "{:02}", parts.minute),
            Some('S') => write!(out, "{:02}", parts.second),
            Some('L') => write!(out, "{:03}", parts.millisecond),
            Some('j') => write!(out, "{:03}", parts.day_of_year),
            Some('w') => write!(out, "{}", parts.day_of_week),
            Some('u') => write!(out, "{}", (parts.day_of_week + 5) % 7 + 1),
            Some('z') => write!(out, "+0000"),
            Some('Z') => write!(out, "0"),
            Some('%') => write!(out, "%"),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(Error::Invalid(format!(
                    "$dateToString does not know %{other}"
                )));
            }
        };
    }
    Ok(out)
}
