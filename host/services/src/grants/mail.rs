//! Who may be written to: addresses, domains (`@example.org`), or `*`. Compared without
//! regard to case.

use std::collections::BTreeSet;

use super::ANY;
use crate::accounts::is_address;

/// Whether each entry can be one.
pub(super) fn check(entries: &[String]) -> Result<(), String> {
    let is_entry = |entry: &String| {
        // An asterisk can be part of an address, but nobody means that here.
        let plain = !entry.contains('*');
        *entry == ANY
            || (plain && is_address(entry))
            || (plain && entry.starts_with('@') && is_address(&format!("x{entry}")))
    };
    match entries.iter().find(|entry| !is_entry(entry)) {
        Some(entry) => Err(format!(
            "{entry:?} under mail is neither an address nor a domain such as \"@example.org\" nor \"*\""
        )),
        None => Ok(()),
    }
}

/// Whether an entry grants all that another one does.
fn covers(entry: &str, other: &str) -> bool {
    let (entry, other) = (entry.to_ascii_lowercase(), other.to_ascii_lowercase());
    entry == ANY || entry == other || (entry.starts_with('@') && other.ends_with(&entry))
}

/// Whether the address may be written to.
pub(super) fn allows(entries: &[String], address: &str) -> bool {
    is_address(address) && entries.iter().any(|entry| covers(entry, address))
}

/// What both lists cover, in order.
pub(super) fn intersect(asked: &[String], allowed: &[String]) -> Vec<String> {
    let within = |these: &[String], those: &[String]| -> Vec<String> {
        let covered = |this: &&String| those.iter().any(|that| covers(that, this));
        these.iter().filter(covered).cloned().collect()
    };
    let both: BTreeSet<String> = within(asked, allowed)
        .into_iter()
        .chain(within(allowed, asked))
        .collect();
    both.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn what_both_sides_cover_is_granted() {
        let both = |asked: &[&str], allowed: &[&str]| intersect(&list(asked), &list(allowed));
        assert_eq!(both(&["*"], &["*"]), ["*"]);
        assert_eq!(both(&["*"], &["@a.example"]), ["@a.example"]);
        assert_eq!(
            both(&["ann@a.example", "bob@b.example"], &["@A.example"]),
            ["ann@a.example"]
        );
        assert_eq!(both(&["@a.example"], &["@b.example"]), [""; 0]);
        assert_eq!(both(&["@a.example"], &[]), [""; 0]);
    }

    #[test]
    fn a_domain_is_no_suffix() {
        let granted = list(&["@example.org", "bob@b.example"]);
        for address in ["ann@example.org", "Ann@EXAMPLE.org", "bob@b.example"] {
            assert!(allows(&granted, address), "{address}");
        }
        for other in [
            "ann@evilexample.org",
            "ann@mail.example.org",
            "ann@example.org.evil.example",
            "eve@b.example",
            "@example.org",
            "x\r\n@example.org",
            "a@b@example.org",
        ] {
            assert!(!allows(&granted, other), "{other:?}");
        }
        assert!(check(&list(&["*", "@example.org", "ann@example.org"])).is_ok());
        for odd in [
            "",
            "example.org",
            "@",
            "@*",
            "*@example.org",
            "a b@example.org",
        ] {
            assert!(check(&list(&[odd])).is_err(), "{odd}");
        }
    }
}
