//! Dates taken apart, put together, read and written.
//!
//! A time zone is UTC or a fixed offset from it. Names such as `Europe/Berlin`
//! are refused: their rules change several times a year, and would have to come
//! with the program and be kept up to date.

use bson::{Bson, DateTime, Document};

use crate::error::{Error, Result};
use crate::expression::operator::{argument, needs};
use crate::expression::{Scope, is_nullish, whole_number};

type Arguments<'a> = &'a [Option<Bson>];

/// A moment taken apart.
pub(super) struct Parts {
    pub(super) year: i64,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) day_of_year: u32,
    /// Sunday is 1.
    day_of_week: u32,
    hour: u32,
    minute: u32,
    second: u32,
    millisecond: u32,
    /// The ISO 8601 week, of the year it belongs to; Monday is day 1.
    iso_year: i64,
    iso_week: u32,
    iso_day: u32,
    /// The week whose first day is the year's first Sunday is 1.
    week: u32,
}

pub(super) const DAY: i64 = 86_400_000;
/// The years that MongoDB puts dates together for.
const YEARS: std::ops::RangeInclusive<i64> = 1..=9_999;

/// Days since 1970 of a civil date, after Howard Hinnant's `days_from_civil`.
/// The month is 1 to 12; days beyond the month's end run on.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let from_march = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + from_march - 719_468
}

/// The day of the week, Monday being 0.
pub(super) fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// The first day of an ISO year: the Monday of the week with January 4th.
fn iso_start(year: i64) -> i64 {
    let fourth = days(year, 1, 4);
    fourth - weekday(fourth)
}

/// A time zone as milliseconds to add to UTC.
pub(crate) fn offset(zone: &str) -> Result<i64> {
    let unknown = || {
        Error::Invalid(format!(
            "the time zone '{zone:.40}' is not supported; use UTC, or an offset such as +02:00"
        ))
    };
    if matches!(zone, "UTC" | "GMT" | "Z") {
        return Ok(0);
    }
    let (sign, digits) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return Err(unknown()),
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2).ok_or_else(unknown)?,
        5 => digits.split_once(':').ok_or_else(unknown)?,
        _ => return Err(unknown()),
    };
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<i64>().map_err(|_| unknown()),
        false => Err(unknown()),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > 23 || minutes > 59 {
        return Err(unknown());
    }
    Ok(sign * (hours * 60 + minutes) * 60_000)
}

/// The zone among the arguments; none when it is null.
pub(super) fn zone(name: &str, arguments: Arguments<'_>, index: usize) -> Result<Option<i64>> {
    match (arguments.get(index), argument(arguments, index)) {
        (None, _) => Ok(Some(0)),
        (_, Some(Bson::String(zone))) => offset(zone).map(Some),
        (_, value) if is_nullish(value) => Ok(None),
        _ => Err(needs(name, "a time zone that is a string")),
    }
}

/// Days since 1970 to the civil calendar, after Howard Hinnant's
/// `civil_from_days`.
pub(super) fn parts(milliseconds: i64) -> Parts {
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
    // The week belongs to the year in which its Thursday lies.
    let iso_day = weekday(days);
    let thursday = days - iso_day + 3;
    let mut iso_year = year;
    while iso_start(iso_year) > thursday {
        iso_year -= 1;
    }
    while iso_start(iso_year + 1) <= thursday {
        iso_year += 1;
    }
    let sunday = (days + 4).rem_euclid(7);
    Parts {
        iso_year,
        iso_week: small((thursday - iso_start(iso_year)) / 7 + 1),
        iso_day: small(iso_day + 1),
        week: small((day_of_year - 1 + 7 - sunday) / 7),
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
    written(date.timestamp_millis(), 0, "%Y-%m-%dT%H:%M:%S.%LZ").unwrap_or_default()
}

pub(super) fn date(name: &str, value: Option<&Bson>) -> Result<Option<DateTime>> {
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
    let (Some(date), Some(zone)) = (
        date(name, argument(arguments, 0))?,
        zone(name, arguments, 1)?,
    ) else {
        return Ok(Some(Bson::Null));
    };
    let parts = parts(date.timestamp_millis().saturating_add(zone));
    let value = match name {
        "$year" => parts.year,
        "$month" => parts.month.into(),
        "$dayOfMonth" => parts.day.into(),
        "$dayOfWeek" => parts.day_of_week.into(),
        "$dayOfYear" => parts.day_of_year.into(),
        "$hour" => parts.hour.into(),
        "$minute" => parts.minute.into(),
        "$second" => parts.second.into(),
        "$week" => parts.week.into(),
        "$isoWeek" => parts.iso_week.into(),
        "$isoDayOfWeek" => parts.iso_day.into(),
        "$isoWeekYear" => return Ok(Some(Bson::Int64(parts.iso_year))),
        _ => parts.millisecond.into(),
    };
    Ok(Some(Bson::Int32(i32::try_from(value).unwrap_or(i32::MAX))))
}

/// `$dateToParts`.
pub(super) fn to_parts(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let (Some(date), Some(zone)) = (
        date(name, argument(arguments, 0))?,
        zone(name, arguments, 2)?,
    ) else {
        return Ok(Some(Bson::Null));
    };
    let iso = match argument(arguments, 1) {
        None => false,
        Some(Bson::Boolean(iso)) => *iso,
        Some(_) => return Err(needs(name, "true or false for iso8601")),
    };
    let parts = parts(date.timestamp_millis().saturating_add(zone));
    let small = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let mut document = Document::new();
    let mut add = |name: &str, value: u32| document.insert(name, small(value.into()));
    if iso {
        add("isoWeekYear", 0);
        add("isoWeek", parts.iso_week);
        add("isoDayOfWeek", parts.iso_day);
    } else {
        add("year", 0);
        add("month", parts.month);
        add("day", parts.day);
    }
    add("hour", parts.hour);
    add("minute", parts.minute);
    add("second", parts.second);
    add("millisecond", parts.millisecond);
    // Years before the first are negative.
    if iso {
        document.insert("isoWeekYear", small(parts.iso_year));
    } else {
        document.insert("year", small(parts.year));
    }
    Ok(Some(Bson::Document(document)))
}

/// `$dateFromParts`. Parts beyond their range run over into the next.
pub(super) fn from_parts(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let given = |index: usize| argument(arguments, index);
    // A part that was given and is null makes the whole null; one that was not
    // has its default, and the two cannot be told apart but for the years.
    let part = |index: usize, default: i64| match given(index) {
        None => Ok(Some(default)),
        value if is_nullish(value) => Ok(None),
        Some(value) => whole_number(value)
            .filter(|part| (-32_768..=32_767).contains(part))
            .map(Some)
            .ok_or_else(|| needs(name, "parts that are whole numbers from -32768 to 32767")),
    };
    let Some(zone) = zone(name, arguments, 7)? else {
        return Ok(Some(Bson::Null));
    };
    let year = |index: usize| match part(index, 0)? {
        None => Ok(None),
        Some(year) if YEARS.contains(&year) => Ok(Some(year)),
        Some(_) => Err(needs(name, "a year from 1 to 9999")),
    };
    let date = if given(8).is_some() {
        if [0, 1, 2].into_iter().any(|index| given(index).is_some()) {
            return Err(needs(name, "either a year or an ISO year, not both"));
        }
        let (Some(year), Some(week), Some(day)) = (year(8)?, part(9, 1)?, part(10, 1)?) else {
            return Ok(Some(Bson::Null));
        };
        iso_start(year) + (week - 1) * 7 + day - 1
    } else {
        if given(0).is_none() {
            return Err(needs(name, "a year or an ISO year"));
        }
        if [9, 10].into_iter().any(|index| given(index).is_some()) {
            return Err(needs(name, "either a year or an ISO year, not both"));
        }
        let (Some(year), Some(month), Some(day)) = (year(0)?, part(1, 1)?, part(2, 1)?) else {
            return Ok(Some(Bson::Null));
        };
        let months = year * 12 + month - 1;
        days(months.div_euclid(12), months.rem_euclid(12) + 1, 1) + day - 1
    };
    let (Some(hour), Some(minute), Some(second), Some(millisecond)) =
        (part(3, 0)?, part(4, 0)?, part(5, 0)?, part(6, 0)?)
    else {
        return Ok(Some(Bson::Null));
    };
    let time = ((hour * 60 + minute) * 60 + second) * 1_000 + millisecond;
    Ok(Some(Bson::DateTime(DateTime::from_millis(
        date * DAY + time - zone,
    ))))
}

/// `$dateFromString`, of ISO 8601 dates.
pub(super) fn from_string(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let or = |index: usize| argument(arguments, index).cloned();
    let Some(zone) = zone(name, arguments, 3)? else {
        return Ok(Some(Bson::Null));
    };
    let read = match argument(arguments, 0) {
        Some(Bson::String(text)) => read(text, zone),
        value if is_nullish(value) => return Ok(or(2).or(Some(Bson::Null))),
        _ => None,
    };
    match (read, or(1)) {
        (Some(date), _) => Ok(Some(Bson::DateTime(date))),
        (None, Some(instead)) => Ok(Some(instead)),
        (None, None) => Err(needs(name, "a date as ISO 8601 writes it")),
    }
}

/// An ISO 8601 date: `YYYY-MM-DD`, with a time behind `T` or a space, with a
/// fraction of a second, with `Z` or an offset. `zone` is that of a text that
/// names none.
pub(super) fn read(text: &str, zone: i64) -> Option<DateTime> {
    let digits = |part: &str, length: usize| -> Option<i64> {
        (part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| part.parse().ok())
            .flatten()
    };
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let (month, day) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * DAY;
    let Some(time) = time else {
        return Some(DateTime::from_millis(midnight - zone));
    };
    let at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, named) = time.split_at_checked(at)?;
    let zone = match named {
        "" => zone,
        named => offset(named).ok()?,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |part| digits(part, 2))?;
    if hour > 23 || minute > 59 || second > 59 || fraction.is_empty() {
        return None;
    }
    let fraction = digits(fraction, fraction.len()).map(|_| fraction)?;
    let milliseconds: String = fraction.chars().chain("00".chars()).take(3).collect();
    let milliseconds: i64 = milliseconds.parse().ok()?;
    let time = ((hour * 60 + minute) * 60 + second) * 1_000 + milliseconds;
    Some(DateTime::from_millis(midnight + time - zone))
}

/// How many days a month has.
pub(super) fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days(next_year, next, 1) - days(year, month, 1)
}

/// `$tsSecond` and `$tsIncrement`.
pub(super) fn timestamp(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    match argument(arguments, 0) {
        Some(Bson::Timestamp(timestamp)) => Ok(Some(Bson::Int64(
            if name == "$tsSecond" {
                timestamp.time
            } else {
                timestamp.increment
            }
            .into(),
        ))),
        value if is_nullish(value) => Ok(Some(Bson::Null)),
        _ => Err(needs(name, "a timestamp")),
    }
}

pub(super) fn format(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let Some(date) = date(name, argument(arguments, 0))? else {
        return Ok(Some(argument(arguments, 2).cloned().unwrap_or(Bson::Null)));
    };
    let Some(zone) = zone(name, arguments, 3)? else {
        return Ok(Some(Bson::Null));
    };
    let format = match argument(arguments, 1) {
        None if zone == 0 => "%Y-%m-%dT%H:%M:%S.%LZ",
        None => "%Y-%m-%dT%H:%M:%S.%L",
        Some(Bson::String(format)) => format,
        Some(_) => return Err(needs(name, "a format that is a string")),
    };
    written(date.timestamp_millis(), zone, format).map(|text| Some(Bson::String(text)))
}

fn written(milliseconds: i64, zone: i64, format: &str) -> Result<String> {
    use std::fmt::Write;
    let parts = parts(milliseconds.saturating_add(zone));
    let minutes = zone / 60_000;
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
            Some('u') => write!(out, "{}", parts.iso_day),
            Some('G') => write!(out, "{:04}", parts.iso_year),
            Some('V') => write!(out, "{:02}", parts.iso_week),
            Some('U') => write!(out, "{:02}", parts.week),
            Some('z') => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(
                    out,
                    "{sign}{:02}{:02}",
                    minutes.abs() / 60,
                    minutes.abs() % 60
                )
            }
            Some('Z') => write!(out, "{minutes}"),
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
