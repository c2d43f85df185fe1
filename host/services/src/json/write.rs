//! Raw BSON to text, in one pass over the bytes: this runs once for every
//! document that leaves the server, so it decodes and allocates nothing beside
//! the output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::{Bson, DateTime, RawArray, RawBsonRef, RawDocument};

use crate::error::{Error, Result};

/// Stores refuse documents far below this; it keeps the stack safe from a file
/// that somebody damaged.
const DEEPEST: usize = 256;

/// Which of the two forms of Extended JSON is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Plain numbers and readable dates.
    Relaxed,
    /// Every type told apart.
    Canonical,
}

pub(super) fn document(document: &RawDocument, form: Form, out: &mut Vec<u8>) -> Result<()> {
    object(document, form, out, 1)
}

pub(super) fn value(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Result<()> {
    any(value, Form::Relaxed, out, 1)
}

fn object(document: &RawDocument, form: Form, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check(depth)?;
    out.push(b'{');
    let mut first = true;
    for element in document.iter() {
        let (key, value) = element.map_err(damaged)?;
        if !first {
            out.push(b',');
        }
        first = false;
        string(key.as_str(), out)?;
        out.push(b':');
        any(value, form, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn array(array: &RawArray, form: Form, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check(depth)?;
    out.push(b'[');
    let mut first = true;
    for element in array {
        if !first {
            out.push(b',');
        }
        first = false;
        any(element.map_err(damaged)?, form, out, depth)?;
    }
    out.push(b']');
    Ok(())
}

/// `depth` is that of the value's parent.
fn any(value: RawBsonRef<'_>, form: Form, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    match value {
        RawBsonRef::String(text) => string(text, out)?,
        RawBsonRef::Int32(number) if form == Form::Canonical => {
            quoted("$numberInt", &number, out)?;
        }
        RawBsonRef::Int64(number) if form == Form::Canonical => {
            quoted("$numberLong", &number, out)?;
        }
        RawBsonRef::Double(number) if form == Form::Canonical && number.is_finite() => {
            quoted("$numberDouble", &number, out)?;
        }
        RawBsonRef::Int32(number) => plain(&number, out)?,
        RawBsonRef::Int64(number) => plain(&number, out)?,
        RawBsonRef::Double(number) if number.is_finite() => plain(&number, out)?,
        RawBsonRef::Double(number) => {
            let name = match number {
                f64::INFINITY => "Infinity",
                f64::NEG_INFINITY => "-Infinity",
                _ => "NaN",
            };
            wrapped("$numberDouble", name, out)?;
        }
        RawBsonRef::Boolean(true) => out.extend_from_slice(b"true"),
        RawBsonRef::Boolean(false) => out.extend_from_slice(b"false"),
        RawBsonRef::Null => out.extend_from_slice(b"null"),
        RawBsonRef::Document(inner) => object(inner, form, out, depth + 1)?,
        RawBsonRef::Array(inner) => array(inner, form, out, depth + 1)?,
        RawBsonRef::ObjectId(id) => {
            let mut hex = [0; 24];
            // The buffer is exactly twice the twelve bytes.
            hex::encode_to_slice(id.bytes(), &mut hex).map_err(damaged)?;
            out.extend_from_slice(b"{\"$oid\":\"");
            out.extend_from_slice(&hex);
            out.extend_from_slice(b"\"}");
        }
        RawBsonRef::DateTime(time) => date(time, form, out)?,
        RawBsonRef::Decimal128(number) => wrapped("$numberDecimal", &number.to_string(), out)?,
        RawBsonRef::Binary(binary) => {
            out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
            base64(binary.bytes, out);
            out.extend_from_slice(b"\",\"subType\":\"");
            out.extend_from_slice(format!("{:02x}", u8::from(binary.subtype)).as_bytes());
            out.extend_from_slice(b"\"}}");
        }
        RawBsonRef::RegularExpression(regex) => {
            out.extend_from_slice(b"{\"$regularExpression\":{\"pattern\":");
            string(regex.pattern.as_str(), out)?;
            out.extend_from_slice(b",\"options\":");
            string(regex.options.as_str(), out)?;
            out.extend_from_slice(b"}}");
        }
        RawBsonRef::Timestamp(stamp) => {
            let text = format!(
                "{{\"$timestamp\":{{\"t\":{},\"i\":{}}}}}",
                stamp.time, stamp.increment
            );
            out.extend_from_slice(text.as_bytes());
        }
        RawBsonRef::MinKey => out.extend_from_slice(b"{\"$minKey\":1}"),
        RawBsonRef::MaxKey => out.extend_from_slice(b"{\"$maxKey\":1}"),
        RawBsonRef::Undefined => out.extend_from_slice(b"{\"$undefined\":true}"),
        RawBsonRef::Symbol(text) => wrapped("$symbol", text, out)?,
        RawBsonRef::JavaScriptCode(code) => wrapped("$code", code, out)?,
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            out.extend_from_slice(b"{\"$code\":");
            string(code.code, out)?;
            out.extend_from_slice(b",\"$scope\":");
            object(code.scope, form, out, depth + 1)?;
            out.push(b'}');
        }
        // Deprecated, and its parts are private to the crate: its own writer
        // may be slow here.
        pointer @ RawBsonRef::DbPointer(_) => {
            // Its two parts look the same in both forms.
            let json = Bson::try_from(pointer)
                .map_err(damaged)?
                .into_relaxed_extjson();
            serde_json::to_writer(out, &json).map_err(damaged)?;
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) -> Result<()> {
    plain(text, out)
}

/// What JSON and serde_json write alike: strings, integers, finite doubles
/// (shortest digits, always with a point or an exponent).
fn plain<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(out, value).map_err(damaged)
}

fn wrapped(wrapper: &str, text: &str, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(wrapper.as_bytes());
    out.extend_from_slice(b"\":");
    string(text, out)?;
    out.push(b'}');
    Ok(())
}

/// A number in quotes, in the wrapper that names its type.
fn quoted<T: serde::Serialize>(wrapper: &str, number: &T, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(wrapper.as_bytes());
    out.extend_from_slice(b"\":\"");
    plain(number, out)?;
    out.extend_from_slice(b"\"}");
    Ok(())
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    // In thirds of a multiple of three, so that no padding falls between them.
    let mut buffer = [0; 1024];
    for chunk in bytes.chunks(768) {
        if let Ok(length) = BASE64.encode_slice(chunk, &mut buffer) {
            out.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
    }
}

/// ISO 8601 from 1970 to 9999, milliseconds only where there are any; outside,
/// the number of milliseconds. That is what relaxed Extended JSON says; canonical
/// has the number always.
fn date(time: DateTime, form: Form, out: &mut Vec<u8>) -> Result<()> {
    const END_OF_9999: i64 = 253_402_300_799_999;
    let millis = time.timestamp_millis();
    if form == Form::Canonical || !(0..=END_OF_9999).contains(&millis) {
        out.extend_from_slice(b"{\"$date\":{\"$numberLong\":\"");
        plain(&millis, out)?;
        out.extend_from_slice(b"\"}}");
        return Ok(());
    }
    let (seconds, fraction) = (millis / 1000, millis % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    out.extend_from_slice(b"{\"$date\":\"");
    digits(year, 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
    out.push(b'T');
    digits(second / 3600, 2, out);
    out.push(b':');
    digits(second / 60 % 60, 2, out);
    out.push(b':');
    digits(second % 60, 2, out);
    if fraction > 0 {
        out.push(b'.');
        digits(fraction, 3, out);
    }
    out.extend_from_slice(b"Z\"}");
    Ok(())
}

/// Year, month and day of a day since 1970-01-01, not negative (Howard
/// Hinnant's `civil_from_days`: years run from March, so that the leap day is
/// their last and eras of 400 years repeat).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// `number` in decimal, exactly `width` digits.
fn digits(number: i64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
}

fn check(depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(Error::TooLarge(
            "a stored document is nested too deep to be shown".into(),
        ));
    }
    Ok(())
}

/// What a store returned is not BSON: its file is damaged. For the log, not for
/// the client.
fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}
