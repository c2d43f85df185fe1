//! Time-based one-time passwords (RFC 6238): what authenticator apps show.
//!
//! SHA-1, six digits and thirty seconds, since that is what all apps know; some ignore
//! whatever else they are told. HMAC-SHA-1 is not concerned by collisions of SHA-1.

use data_encoding::BASE32_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// Seconds that a code is shown.
pub(super) const PERIOD: i64 = 30;
/// Digits of a code.
pub(super) const DIGITS: u32 = 6;
/// Bytes of a secret: what the HMAC gives (RFC 4226, section 4, R6).
pub(super) const SECRET_BYTES: usize = 20;
/// Steps before and after the present one whose codes count: clocks differ, and
/// people type (RFC 6238, section 5.2).
const DRIFT: i64 = 1;

/// What may stand in a URI as it is (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The step whose code this is, if it is the present one or beside it, and later than
/// the step whose code was used last: no code counts twice.
pub(super) fn step_of(secret: &[u8], code: &str, seconds: i64, used: i64) -> Option<i64> {
    let present = seconds.div_euclid(PERIOD);
    let mut found = None;
    // All are compared, whichever it is.
    for step in present - DRIFT..=present + DRIFT {
        let Ok(counter) = u64::try_from(step) else {
            continue;
        };
        let shown = hotp(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret, counter, DIGITS);
        let is_this: bool = shown.as_bytes().ct_eq(code.as_bytes()).into();
        if is_this && step > used && found.is_none() {
            found = Some(step);
        }
    }
    found
}

/// The secret as people type it into an app.
pub(super) fn text(secret: &[u8]) -> String {
    BASE32_NOPAD.encode(secret)
}

/// The secret as a URI, which apps read from a QR code (Google Authenticator's "Key
/// URI Format", which all follow).
pub(super) fn uri(issuer: &str, account: &str, secret: &[u8]) -> String {
    let (issuer, account) = (
        utf8_percent_encode(issuer, RESERVED),
        utf8_percent_encode(account, RESERVED),
    );
    format!(
        "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}",
        text(secret)
    )
}

/// The code of a counter (RFC 4226, section 5.3).
fn hotp(algorithm: hmac::Algorithm, secret: &[u8], counter: u64, digits: u32) -> String {
    let key = hmac::Key::new(algorithm, secret);
    let tag = hmac::sign(&key, &counter.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
    let four = tag.get(offset..offset + 4);
    let four = four.and_then(|four| four.try_into().ok());
    // The shortest tag has 20 bytes, and the offset is 15 at most.
    let number = u32::from_be_bytes(four.unwrap_or_default()) & 0x7fff_ffff;
    let width = digits as usize;
    format!("{:0width$}", number % 10u32.pow(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, whose secrets are as long as the hash (its erratum 2866).
    #[test]
    fn codes_are_those_of_rfc_6238() {
        let digits = b"1234567890".repeat(7);
        let check = |algorithm, length: usize, expected: [&str; 6]| {
            let times = [
                59,
                1_111_111_109,
                1_111_111_111,
                1_234_567_890,
                2_000_000_000,
                20_000_000_000u64,
            ];
            for (time, code) in times.into_iter().zip(expected) {
                let shown = hotp(algorithm, &digits[..length], time / 30, 8);
                assert_eq!(shown, code, "{time}");
            }
        };
        check(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            20,
            [
                "94287082", "07081804", "14050471", "89005924", "69279037", "65353130",
            ],
        );
        check(
            hmac::HMAC_SHA256,
            32,
            [
                "46119246", "68084774", "67062674", "91819424", "90698825", "77737706",
            ],
        );
        check(
            hmac::HMAC_SHA512,
            64,
            [
                "90693936", "25091201", "99943326", "93441116", "38618901", "47863826",
            ],
        );
    }

    /// RFC 4226, appendix D.
    #[test]
    fn codes_are_those_of_rfc_4226() {
        let expected = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (counter, code) in (0u64..).zip(expected) {
            let sha1 = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
            assert_eq!(hotp(sha1, b"12345678901234567890", counter, 6), code);
        }
    }

    #[test]
    fn a_code_counts_one_step_before_and_after_its_own_and_never_again() {
        let secret = b"12345678901234567890";
        let code = |step: i64| {
            let sha1 = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
            hotp(sha1, secret, step.unsigned_abs(), DIGITS)
        };
        let at = |step: i64| step * PERIOD + 7;
        for (shown, now, counts) in [
            (98, 100, false),
            (99, 100, true),
            (100, 100, true),
            (101, 100, true),
            (102, 100, false),
        ] {
            let step = step_of(secret, &code(shown), at(now), 0);
            assert_eq!(step, counts.then_some(shown), "{shown}");
        }
        assert_eq!(step_of(secret, &code(100), at(100), 99), Some(100));
        assert_eq!(step_of(secret, &code(100), at(100), 100), None);
        assert_eq!(step_of(secret, &code(99), at(100), 100), None);
        for other in ["", "0", "12345", "1234567", "abcdef"] {
            assert_eq!(step_of(secret, other, at(100), 0), None, "{other}");
        }
        // At the beginning of time there is no step before the first.
        assert_eq!(step_of(secret, &code(0), 0, -1), Some(0));
    }

    #[test]
    fn the_uri_is_one_that_apps_read() {
        assert_eq!(
            uri("My App", "ann:x@example.org", b"12345678901234567890"),
            "otpauth://totp/My%20App:ann%3Ax%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=My%20App&algorithm=SHA1&digits=6&period=30"
        );
    }
}
