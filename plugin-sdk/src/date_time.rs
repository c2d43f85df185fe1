//! Dates as MongoDB has them: milliseconds since 1970, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::{self, Deserializer};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// A point in time, to the millisecond. In JSON it is `{"$date": "…"}`, so that
/// the server stores a date rather than a string.
///
/// ```
/// use coglex_sdk::DateTime;
///
/// let opened: DateTime = serde_json::from_str(r#"{"$date": "2026-11-22T17:13:53.250Z"}"#)?;
/// assert_eq!(opened.millis(), 1_795_367_633_250);
/// assert_eq!(opened.to_string(), "2026-11-22T17:13:53.250Z");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DateTime(i64);

const DAY: i64 = 24 * 60 * 60 * 1000;
/// The first moment of the year 10000, which four digits cannot write.
const YEAR_10000: i64 = 253_402_300_800_000;

impl DateTime {
    /// The server's present time.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The point this many milliseconds after 1970 began, or before it.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whether the usual text can hold it.
    const fn is_common(self) -> bool {
        0 <= self.0 && self.0 < YEAR_10000
    }
}

impl From<SystemTime> for DateTime {
    fn from(time: SystemTime) -> Self {
        let millis =
            |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(error) => Self(-millis(error.duration())),
        }
    }
}

/// RFC 3339 in UTC, e.g. `2026-11-22T17:13:53.250Z`.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        let time = self.0.rem_euclid(DAY);
        let (hour, minute, second, milli) = (
            time / 3_600_000,
            time / 60_000 % 60,
            time / 1000 % 60,
            time % 1000,
        );
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if milli != 0 {
            write!(f, ".{milli:03}")?;
        }
        f.write_str("Z")
    }
}

/// The text is not a date and time as RFC 3339 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADateTime;

impl fmt::Display for NotADateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a date is written like 2026-11-22T17:13:53.250Z")
    }
}

impl std::error::Error for NotADateTime {}

impl FromStr for DateTime {
    type Err = NotADateTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or(NotADateTime)
    }
}

/// Reads RFC 3339; digits beyond the milliseconds are dropped.
fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;

    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let milli: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;

    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (sign, zone) = zone.split_at_checked(1)?;
            let [hours, minutes] = numbers(zone, ':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000;
            if sign == "-" { -offset } else { offset }
        }
    };

    let days = days(year, month, day);
    let valid = civil(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    valid.then_some(days * DAY + ((hour * 60 + minute) * 60 + second) * 1000 + milli - offset)
}

/// Exactly `N` numbers of exactly these widths.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut out = [0; N];
    for (number, width) in out.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Days since 1970 of a date in the Gregorian calendar, counted in eras of 400
/// years that begin on 1 March, so that the leap day comes last
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * 146_097 + day_of_era - 719_468
}

/// The date of a day since 1970; the inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        if self.is_common() {
            map.serialize_entry("$date", &format_args!("{self}"))?;
        } else {
            map.serialize_entry(
                "$date",
                &NumberLong {
                    number: self.0.to_string(),
                },
            )?;
        }
        map.end()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberLong {
    #[serde(rename = "$numberLong")]
    number: String,
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wrapped {
            #[serde(rename = "$date")]
            date: Inner,
        }

        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a date is {\"$date\": \"2026-11-22T17:13:53.250Z\"}"
        )]
        enum Inner {
            Text(String),
            Millis(NumberLong),
        }

        match Wrapped::deserialize(deserializer)?.date {
            Inner::Text(text) => text.parse().map_err(de::Error::custom),
            Inner::Millis(millis) => millis.number.parse().map(Self).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_read_and_written() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (YEAR_10000 - 1, "9999-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(DateTime(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(DateTime(millis)), "{text}");
        }
    }

    #[test]
    fn every_day_of_two_eras_survives_the_round_trip() {
        for day in -146_097..146_097 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood() {
        for (text, same) in [
            ("2026-11-22T19:13:53+02:00", "2026-11-22T17:13:53Z"),
            ("2026-11-22T12:43:53.5-04:30", "2026-11-22T17:13:53.500Z"),
            ("2026-11-22t17:13:53.123456789z", "2026-11-22T17:13:53.123Z"),
        ] {
            assert_eq!(text.parse::<DateTime>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T17:13:53",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T17:60:00Z",
            "2026-11-22T17:13Z",
            "2026-11-22T17:13:53.Z",
            "2026-11-22T17:13:53.xZ",
            "2026-11-22T17:13:53+99:00",
            "+026-11-22T17:13:53Z",
            "2026-11-22T17:13:53é",
            "2026-11-22T17:13:53Zjunk",
        ] {
            assert_eq!(text.parse::<DateTime>(), Err(NotADateTime), "{text}");
        }
    }

    #[test]
    fn json_is_extended_json() {
        for (date, json) in [
            (
                DateTime(1_795_367_633_250),
                r#"{"$date":"2026-11-22T17:13:53.250Z"}"#,
            ),
            (DateTime(-1), r#"{"$date":{"$numberLong":"-1"}}"#),
            (
                DateTime(i64::MAX),
                r#"{"$date":{"$numberLong":"9223372036854775807"}}"#,
            ),
            (
                DateTime(i64::MIN),
                r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&date).unwrap(), json);
            assert_eq!(serde_json::from_str::<DateTime>(json).unwrap(), date);
            // Extremes print too, without overflow.
            assert!(date.to_string().ends_with('Z'));
        }
        for json in [
            r#"{"$date":"x"}"#,
            r#"{"$date":7}"#,
            r#""2026-11-22T17:13:53Z""#,
            "7",
        ] {
            assert!(serde_json::from_str::<DateTime>(json).is_err(), "{json}");
        }
    }
}
