//! `Range` (RFC 9110, section 14): which bytes of a file a client wants.

use std::ops::Range;

/// Ranges of one request; more are taken for an attack, or a mistake.
const MOST: usize = 32;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it: there is no usable header, and such are to be ignored.
    Whole,
    /// These, none of them empty, in the client's order.
    Ranges(Vec<Range<u64>>),
    /// Nothing that there is.
    Nothing,
}

/// Reads a header's value, for a file of `size` bytes.
pub(super) fn asked(value: &str, size: u64) -> Asked {
    let Some((unit, list)) = value.split_once('=') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let mut ranges = Vec::new();
    for (position, spec) in list.split(',').enumerate() {
        if position >= MOST {
            return Asked::Whole;
        }
        match one(spec.trim(), size) {
            Some(range) if !range.is_empty() => ranges.push(range),
            Some(_) => {}
            None => return Asked::Whole,
        }
    }
    let bytes = ranges.iter().map(|range| range.end - range.start);
    let bytes = bytes.fold(0_u64, u64::saturating_add);
    match ranges.is_empty() {
        true => Asked::Nothing,
        // They overlap: the whole costs less.
        false if bytes > size => Asked::Whole,
        false => Asked::Ranges(ranges),
    }
}

/// `0-99`, `100-` or `-100`; empty where the file has no such bytes.
fn one(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number that does not fit is larger than any file.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first, last) {
        ("", suffix) => {
            let suffix: u64 = number(suffix)?;
            Some(size.saturating_sub(suffix)..size)
        }
        (first, "") => {
            let first: u64 = number(first)?;
            Some(first.min(size)..size)
        }
        (first, last) => {
            let (first, last): (u64, u64) = (number(first)?, number(last)?);
            let end = last.saturating_add(1).min(size);
            (first <= last).then_some(first.min(end)..end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_standard_says() {
        let check = |value: &str, expected: Asked| {
            assert_eq!(asked(value, 100), expected, "{value}");
        };
        let ranges = |ranges: &[(u64, u64)]| {
            Asked::Ranges(ranges.iter().map(|&(start, end)| start..end).collect())
        };
        check("bytes=0-9", ranges(&[(0, 10)]));
        check("bytes=90-", ranges(&[(90, 100)]));
        check("bytes=-10", ranges(&[(90, 100)]));
        check("bytes=-1000", ranges(&[(0, 100)]));
        check("bytes=0-1000", ranges(&[(0, 100)]));
        check("Bytes=0-0, -1", ranges(&[(0, 1), (99, 100)]));
        check("bytes=50-59,0-9", ranges(&[(50, 60), (0, 10)]));
        check("bytes=0-9,100-", ranges(&[(0, 10)]));
        check("bytes=99999999999999999999999-", Asked::Nothing);
        check("bytes=100-", Asked::Nothing);
        check("bytes=-0", Asked::Nothing);
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=a-b",
            "bytes=9-0",
            "items=0-9",
            "bytes=0-9,x",
            "bytes=1.5-2",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0-99,0-99",
        ] {
            check(ignored, Asked::Whole);
        }
        check(&format!("bytes={}", ["0-0"; 33].join(",")), Asked::Whole);
        assert_eq!(asked("bytes=0-", 0), Asked::Nothing);
    }
}
