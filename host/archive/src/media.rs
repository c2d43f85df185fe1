//! Media types: what a sender declares, and what the bytes look like.

/// First bytes that are looked at.
pub(crate) const HEAD: usize = 8 << 10;

/// The type of what nobody knows.
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// `type/subtype` of a declared media type, in lower case, without parameters;
/// none when it is no such thing (RFC 9110, section 8.3.1).
pub fn essence(declared: &str) -> Option<String> {
    let essence = declared.split(';').next()?.trim();
    let token = |text: &str| {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !text.is_empty() && text.bytes().all(is_token)
    };
    let (kind, subtype) = essence.split_once('/')?;
    (essence.len() <= 127 && token(kind) && token(subtype)).then(|| essence.to_ascii_lowercase())
}

/// What the bytes look like, if they look like something.
pub(crate) fn sniff(head: &[u8]) -> Option<&'static str> {
    infer::get(head).map(|found| found.mime_type())
}

/// Whether files of this type are taken. Both what is declared and what is seen
/// has to be: an image that looks like a program is none.
pub(crate) fn allowed(types: &[String], declared: &str, seen: Option<&str>) -> bool {
    if types.is_empty() {
        return true;
    }
    let listed = |media: &str| types.iter().any(|pattern| matches(pattern, media));
    listed(declared) && seen.is_none_or(|seen| listed(seen) || is_container(seen, declared))
}

fn matches(pattern: &str, media: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(kind) => media.split('/').next() == Some(kind),
        None => pattern == "*" || pattern.eq_ignore_ascii_case(media),
    }
}

/// Whether bytes that look like one format may well be of another, which is
/// written in it.
fn is_container(seen: &str, declared: &str) -> bool {
    match seen {
        "text/xml" => declared.ends_with("+xml") || declared.ends_with("/xml"),
        "application/zip" => {
            declared.ends_with("+zip")
                || declared.starts_with("application/vnd.openxmlformats")
                || declared.starts_with("application/vnd.oasis.")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_read_strictly() {
        let check = |declared: &str, expected: Option<&str>| {
            assert_eq!(essence(declared).as_deref(), expected, "{declared}");
        };
        check("text/plain", Some("text/plain"));
        check("Text/HTML; charset=utf-8", Some("text/html"));
        check("image/svg+xml", Some("image/svg+xml"));
        check("text", None);
        check("text/", None);
        check("text/pl ain", None);
        check("text/plain\r\nx: y", None);
        check("a/b/c", None);
        check(&format!("text/{}", "x".repeat(200)), None);
    }

    #[test]
    fn both_the_declared_and_the_seen_type_have_to_be_allowed() {
        let types = ["image/*".to_owned(), "application/pdf".to_owned()];
        let check = |declared: &str, seen: Option<&str>, expected: bool| {
            assert_eq!(
                allowed(&types, declared, seen),
                expected,
                "{declared} {seen:?}"
            );
        };
        check("image/png", Some("image/png"), true);
        check("image/png", None, true);
        check("image/svg+xml", Some("text/xml"), true);
        check("image/png", Some("text/html"), false);
        check("image/png", Some("application/x-executable"), false);
        check("text/html", Some("image/png"), false);
        check("imagex/png", None, false);
        assert!(allowed(&[], "text/html", Some("application/x-executable")));
    }

    #[test]
    fn bytes_are_recognised() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n\0\0\0\0"), Some("image/png"));
        assert_eq!(sniff(b"%PDF-1.7\n"), Some("application/pdf"));
        assert_eq!(sniff(b"plain words"), None);
        assert_eq!(sniff(b""), None);
    }
}
