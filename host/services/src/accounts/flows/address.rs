//! What counts as an e-mail address: what people have, not all that RFC 5322 could be
//! read to allow.

/// The longest (RFC 5321, section 4.5.3.1, less the angle brackets), and the longest
/// part before the `@`.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

/// Whether this is an address that mail can be sent to: `local@domain.tld`, in ASCII,
/// without quotes or comments.
pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    text.len() <= MAX_BYTES && is_local(local) && is_domain(domain)
}

/// A dot-atom (RFC 5322, section 3.2.3).
fn is_local(local: &str) -> bool {
    local.len() <= MAX_LOCAL_BYTES
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        })
}

/// Labels of letters, digits and hyphens (RFC 1123, section 2.1), at least two.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    domain.contains('.') && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_keys() {
        for address in [
            "ann@example.org",
            "Ann.Smith+tag@mail.example.co.uk",
            "o'neill@xn--bcher-kva.example",
        ] {
            assert!(is_address(address), "{address}");
        }
        for other in [
            "",
            "ann",
            "ann@",
            "@example.org",
            "ann@localhost",
            "ann@example..org",
            "ann@-example.org",
            ".ann@example.org",
            "ann..smith@example.org",
            "ann smith@example.org",
            "ann@example.org\r\nBcc: eve@example.org",
            "ann@example.org,eve@example.org",
            "a@b@example.org",
            "\"ann\"@example.org",
            "<ann@example.org>",
            "änn@example.org",
            "ann@[127.0.0.1]",
        ] {
            assert!(!is_address(other), "{other:?}");
        }
        assert!(!is_address(&format!("{}@example.org", "x".repeat(65))));
    }
}
