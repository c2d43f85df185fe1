//! When a schedule is due: cron expressions of five fields, in UTC.
//!
//! Asked at load, whether what a plugin declares is one, and by whoever makes the
//! runs. What a run is stands in [`crate::jobs`]; here is only the calendar.
//!
//! The fields are minute, hour, day of the month, month and day of the week, as
//! [POSIX has them](https://pubs.opengroup.org/onlinepubs/9799919799/utilities/crontab.html),
//! with lists, ranges, steps (`*/15`) and names (`MON`, `JAN`). Where both days are
//! given, either will do. Beyond POSIX there are `L` (the last), `#` (the second
//! Friday is `FRI#2`), `W` (the nearest weekday) and `@hourly`, `@daily`, `@weekly`,
//! `@monthly`, `@yearly`. Seconds are refused: what is due more often than once a
//! minute is no schedule.

use bson::DateTime;
use chrono::Utc;
use croner::parser::{CronParser, Seconds, Year};

/// Longer ones are no schedule that somebody wrote.
const MAX_TEXT: usize = 100;

/// What croner understands beside five fields.
const NICKNAMES: [&str; 6] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@hourly",
];

/// A cron expression that was understood and is due some day.
#[derive(Debug, Clone)]
pub struct Cron(croner::Cron);

impl Cron {
    /// Reads an expression; else a sentence about it.
    ///
    /// ```
    /// use coglex_services::schedule::Cron;
    /// assert!(Cron::parse("0 3 * * MON-FRI").is_ok());
    /// assert!(Cron::parse("0 0 30 2 *").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT
            || !text
                .chars()
                .all(|c| c.is_ascii_graphic() || c == ' ' || c == '\t')
        {
            return Err(format!(
                "a schedule is a cron expression of at most {MAX_TEXT} ASCII characters"
            ));
        }
        let text = text.trim();
        let is_nickname = NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(text));
        if !is_nickname && text.split_whitespace().count() != 5 {
            return Err(format!(
                "the schedule `{text}` has not the five fields minute, hour, day of month, month and day of week"
            ));
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser
            .parse(text)
            .map_err(|error| format!("the schedule `{text}` cannot be understood: {error}"))?;
        let cron = Self(cron);
        match cron.next(DateTime::now()) {
            Some(_) => Ok(cron),
            None => Err(format!("the schedule `{text}` is never due")),
        }
    }

    /// The first time after this one that it is due.
    pub fn next(&self, after: DateTime) -> Option<DateTime> {
        let found = self.0.find_next_occurrence(&time(after)?, false).ok()?;
        Some(DateTime::from_millis(found.timestamp_millis()))
    }

    /// The last time that it was due, `until` included, if that is after `after`.
    pub fn latest(&self, after: DateTime, until: DateTime) -> Option<DateTime> {
        // Forward first: whatever is not due yet, which is nearly always so, is
        // answered by it.
        if self.next(after)? > until {
            return None;
        }
        let found = self.0.find_previous_occurrence(&time(until)?, true).ok()?;
        let found = DateTime::from_millis(found.timestamp_millis());
        (found > after && found <= until).then_some(found)
    }
}

/// On whole seconds: a pattern matches those, so a fraction would only be carried
/// through.
fn time(time: DateTime) -> Option<chrono::DateTime<Utc>> {
    chrono::DateTime::from_timestamp(time.timestamp_millis().div_euclid(1000), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    #[test]
    fn expressions_are_due_when_they_say() {
        let check = |cron: &str, after: &str, expected: &str| {
            let next = Cron::parse(cron).unwrap().next(at(after));
            assert_eq!(next, Some(at(expected)), "{cron} after {after}");
        };
        check("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        check(
            "* * * * *",
            "2026-01-01T00:00:59.999Z",
            "2026-01-01T00:01:00Z",
        );
        check(
            "*/15 9 * * *",
            "2026-01-01T09:50:00Z",
            "2026-01-02T09:00:00Z",
        );
        check(
            "0 3 * * MON",
            "2026-01-01T00:00:00Z",
            "2026-01-05T03:00:00Z",
        );
        check("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
        check("@daily", "2026-12-31T12:00:00Z", "2027-01-01T00:00:00Z");
        // Either day will do.
        check(
            "0 0 13 * FRI",
            "2026-01-01T00:00:00Z",
            "2026-01-02T00:00:00Z",
        );
        check(
            "0 0 13 * FRI",
            "2026-01-10T00:00:00Z",
            "2026-01-13T00:00:00Z",
        );
    }

    #[test]
    fn the_latest_is_the_last_that_was_missed() {
        let cron = Cron::parse("0 * * * *").unwrap();
        let latest = |after, until| cron.latest(at(after), at(until));
        assert_eq!(
            latest("2026-01-01T00:00:00Z", "2026-01-01T09:30:00Z"),
            Some(at("2026-01-01T09:00:00Z"))
        );
        assert_eq!(
            latest("2026-01-01T09:00:00Z", "2026-01-01T09:59:59Z"),
            None,
            "the end that was made already is not made again"
        );
        assert_eq!(
            latest("2026-01-01T09:30:00Z", "2026-01-01T10:00:00Z"),
            Some(at("2026-01-01T10:00:00Z"))
        );
        assert_eq!(latest("2026-01-01T10:00:00Z", "2026-01-01T09:00:00Z"), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "0 * * * * * *",
            "61 * * * *",
            "* 24 * * *",
            "0 0 30 2 *",
            "@reboot",
            "@daily x x x x",
            "a b c d e",
            "ü * * * *",
            // They would get into messages and logs.
            "\u{1b}[2J * * * *",
            "0 0\n* * *",
            "* * * * MON-",
            "1-0/0 * * * *",
            "99999999999999999999 * * * *",
        ] {
            assert!(Cron::parse(text).is_err(), "{text}");
        }
        assert!(Cron::parse(&format!("{} * * * *", "1,".repeat(100))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "[-*/0-9,LW#?@+ A-Z]{0,40}") {
            if let Ok(cron) = Cron::parse(&text) {
                let now = DateTime::now();
                let next = cron.next(now).unwrap();
                proptest::prop_assert!(next > now);
                proptest::prop_assert_eq!(cron.latest(now, next), Some(next));
            }
        }
    }
}
