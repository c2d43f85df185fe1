//! File names: what is taken from an upload, and how a download tells it.

use std::fmt::Write as _;

use crate::error::{Error, Result};

/// Bytes of the longest name, as file systems have it.
const LONGEST: usize = 255;

/// The name of an uploaded file: the last part of whatever path a sender gives
/// (RFC 7578, section 4.2). It is never used as a path here; a client that saves
/// the file will.
pub fn file_name(given: &str) -> Result<String> {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let refused = if name.is_empty() || name.bytes().all(|b| b == b'.') {
        "is empty"
    } else if name.len() > LONGEST {
        "is longer than 255 bytes"
    } else if name.chars().any(|c| c.is_control() || turns_text(c)) {
        "contains characters that cannot be seen"
    } else {
        return Ok(name.to_owned());
    };
    Err(Error::invalid(format!("the file's name {refused}")))
}

/// Characters that turn the direction of text: `exe.txt` can be shown for a name
/// that ends in `exe`.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `Content-Disposition` (RFC 6266) with the name as ASCII for old clients, and
/// as it is (RFC 8187) where that says more.
pub fn content_disposition(kind: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| match c {
            // A `%` makes some clients decode the plain form.
            '"' | '\\' | '%' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let mut header = format!("{kind}; filename=\"{plain}\"");
    if plain != name {
        header.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            // attr-char of RFC 8187.
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                header.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                let _ = write!(header, "%{byte:02X}");
            }
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_paths() {
        let check = |given: &str, expected: &str| {
            assert_eq!(file_name(given).unwrap(), expected);
        };
        check("report.pdf", "report.pdf");
        check("../../etc/passwd", "passwd");
        check("C:\\Users\\me\\photo.jpg", "photo.jpg");
        check("/abs/olute", "olute");
        check(" spaced name.txt ", "spaced name.txt");
        check("Übersicht – 日本.txt", "Übersicht – 日本.txt");
        check(".env", ".env");
        check("..%2f..%2fx", "..%2f..%2fx");
    }

    #[test]
    fn unusable_names_are_refused() {
        for bad in [
            "",
            " ",
            ".",
            "..",
            "...",
            "a/",
            "a\\",
            "../",
            "a\0b",
            "a\nb",
            "a\r\nSet-Cookie: x",
            "a\u{202e}txt.exe",
            "\u{7f}",
            &"x".repeat(256),
        ] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_told_in_headers_without_breaking_them() {
        let check = |name: &str, expected: &str| {
            let header = content_disposition("attachment", name);
            assert_eq!(header, format!("attachment; {expected}"));
            assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)));
        };
        check("a b.txt", "filename=\"a b.txt\"");
        check(
            "a\"; x=\"y",
            "filename=\"a_; x=_y\"; filename*=UTF-8''a%22%3B%20x%3D%22y",
        );
        check(
            "€ rates",
            "filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates",
        );
        check(
            "50%.txt",
            "filename=\"50_.txt\"; filename*=UTF-8''50%25.txt",
        );
        check("a\\b", "filename=\"a_b\"; filename*=UTF-8''a%5Cb");
    }
}
