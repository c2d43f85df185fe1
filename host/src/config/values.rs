//! Lengths of time and sizes as people write them: `30s`, `16 MiB`.

use std::time::Duration;

use figment::value::Value;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The milliseconds of `500ms`, `30s`, `5m`, `12h`, `7d`, or of a plain number
/// of seconds.
pub(super) fn period_ms(value: &Value) -> Option<u64> {
    let (number, unit) = split(value)?;
    let factor = match unit.as_str() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The bytes of `4096`, `64 KiB`, `16 MiB`, `1 GiB`.
pub(super) fn size_bytes(value: &Value) -> Option<u64> {
    let (number, unit) = split(value)?;
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size with the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// A value in messages and in printed configurations: as TOML writes it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::from(text.as_str()).to_string(),
        Value::Bool(_, switch) => switch.to_string(),
        Value::Num(..) => value
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| value.to_u128().map(|number| number.to_string()))
            .or_else(|| value.to_f64().map(|number| number.to_string()))
            .unwrap_or_default(),
        Value::Char(_, letter) => toml::Value::from(letter.to_string()).to_string(),
        Value::Array(_, items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(..) => "a table".to_owned(),
        Value::Empty(..) => "nothing".to_owned(),
    }
}

fn split(value: &Value) -> Option<(u64, String)> {
    if let Some(text) = value.as_str() {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        return Some((number.parse().ok()?, unit.trim().to_ascii_lowercase()));
    }
    let number = value.to_u128().or_else(|| {
        value
            .to_i128()
            .and_then(|number| u128::try_from(number).ok())
    })?;
    Some((u64::try_from(number).ok()?, String::new()))
}

/// For `#[serde(deserialize_with)]` on a [`Duration`].
pub(super) fn period<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let value = <Value as Deserialize>::deserialize(input)?;
    period_ms(&value)
        .map(Duration::from_millis)
        .ok_or_else(|| D::Error::custom("not a length of time"))
}

/// The same for one that need not be there.
pub(super) fn some_period<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Duration>, D::Error> {
    period(input).map(Some)
}

/// For `#[serde(deserialize_with)]` on a number of bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    let value = <Value as Deserialize>::deserialize(input)?;
    size_bytes(&value)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| D::Error::custom("not a size"))
}

/// The same for one that need not be there.
pub(super) fn some_size<'de, D: Deserializer<'de>>(input: D) -> Result<Option<usize>, D::Error> {
    size(input).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_with_their_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(period_ms(&Value::from(text)), expected, "{text}");
        };
        check("500ms", Some(500));
        check("30s", Some(30_000));
        check("30", Some(30_000));
        check(" 5 m ", Some(300_000));
        check("12h", Some(43_200_000));
        check("7d", Some(604_800_000));
        check("", None);
        check("s", None);
        check("1w", None);
        check("-1s", None);
        check("99999999999999999999s", None);
        check("18446744073709551615d", None);
        assert_eq!(period_ms(&Value::from(3)), Some(3000));
        assert_eq!(period_ms(&Value::from(-3)), None);
    }

    #[test]
    fn sizes_are_read_and_shown_with_their_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(size_bytes(&Value::from(text)), expected, "{text}");
        };
        check("4096", Some(4096));
        check("64KiB", Some(65_536));
        check("16 mib", Some(16_777_216));
        check("1 GiB", Some(1_073_741_824));
        check("1 MB", None);
        check("1.5 MiB", None);
        assert_eq!(show_size(16 << 20), "16 MiB");
        assert_eq!(show_size(1000), "1000 B");
        assert_eq!(show_size(0), "0 B");
    }
}
