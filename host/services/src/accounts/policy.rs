//! What makes a new password good enough (NIST SP 800-63B, section 3.1.1): long,
//! and none that an attacker tries first. Which characters it is made of is
//! nobody's business. Passwords that there are already are only verified.

use super::settings::RealmPolicy;
use crate::error::{Error, Result};

/// Passwords that many people have: lower case, one a line, sorted by bytes.
/// Where they are from and on what terms is told beside the file.
static COMMON: &str = include_str!("../../data/common-passwords.txt");

/// The shortest part of a key that a password may not be.
const SHORTEST_NAME: usize = 4;

impl RealmPolicy {
    /// Whether a user with this key may have this new password.
    pub(super) fn check_password(&self, key: &str, password: &str) -> Result<()> {
        super::password::check(password)?;
        let length = password.chars().count();
        if length < self.password_min {
            return Err(Error::Invalid(format!(
                "`_password` must have at least {} characters",
                self.password_min
            )));
        }
        if length > self.password_max {
            return Err(Error::Invalid(format!(
                "`_password` must have at most {} characters",
                self.password_max
            )));
        }
        if self.allow_common {
            return Ok(());
        }
        let password = password.to_lowercase();
        if is_common(&password) {
            return Err(Error::Invalid(
                "`_password` is one that many people have, and that is tried first".into(),
            ));
        }
        if is_name(&key.to_lowercase(), &password) {
            return Err(Error::Invalid(
                "`_password` must not be the `_key` or a part of it".into(),
            ));
        }
        Ok(())
    }
}

/// Whether the password is an address, or what stands before or after its `@`.
fn is_name(key: &str, password: &str) -> bool {
    let parts = key.split('@').chain([key]);
    parts
        .filter(|part| part.len() >= SHORTEST_NAME)
        .any(|part| part == password)
}

/// Looks a lower-case password up. The list is searched as the text that it is,
/// so that it takes no room but its own.
fn is_common(password: &str) -> bool {
    let text = COMMON.as_bytes();
    let (mut low, mut high) = (0, text.len());
    while low < high {
        let middle = low.midpoint(high);
        let before = text.get(..middle).unwrap_or_default();
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let rest = text.get(start..).unwrap_or_default();
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match line.cmp(password.as_bytes()) {
            std::cmp::Ordering::Equal => return !password.is_empty(),
            std::cmp::Ordering::Less => low = start + line.len() + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_list_is_found_and_nothing_else() {
        let mut last = "";
        for word in COMMON.lines() {
            assert!(last < word, "{last:?} {word:?}");
            assert!(is_common(word), "{word:?}");
            assert_eq!(word, word.to_lowercase());
            last = word;
        }
        assert!(COMMON.lines().count() > 10_000);
        for other in [
            "",
            "\n",
            "correct horse",
            "passwor",
            "password\n",
            "~",
            "\u{0}",
            "zzzzzzzzzzzzzz",
        ] {
            assert!(!is_common(other), "{other:?}");
        }
    }

    #[test]
    fn a_new_password_is_long_uncommon_and_not_the_key() {
        let policy = RealmPolicy::default();
        let check = |password: &str, says: Option<&str>| {
            let answer = policy.check_password("ann.smith@example.org", password);
            match (answer, says) {
                (Ok(()), None) => {}
                (Err(Error::Invalid(sentence)), Some(says)) => {
                    assert!(sentence.contains(says), "{password}: {sentence}");
                    assert!(!sentence.contains(password) || password.is_empty());
                }
                (answer, _) => panic!("{password}: {answer:?}"),
            }
        };
        check("correct horse", None);
        check("пароль-и-слон", None);
        check("", Some("1 to 1024"));
        check("short77", Some("at least 8"));
        // Characters count, not bytes.
        check("пароль7", Some("at least 8"));
        check(&"x".repeat(257), Some("at most 256"));
        check("Password1", Some("many people"));
        check("ann.smith", Some("`_key`"));
        check("EXAMPLE.org", Some("`_key`"));
        check("Ann.Smith@Example.Org", Some("`_key`"));
    }

    #[test]
    fn common_passwords_can_be_allowed() {
        let policy = RealmPolicy {
            allow_common: true,
            password_min: 1,
            ..RealmPolicy::default()
        };
        assert!(policy.check_password("ann", "password").is_ok());
    }
}
