//! Recovery codes: what lets a user in whose authenticator app is lost. Each once.
//!
//! A code has 120 random bits, so that a plain hash keeps it: nobody counts through
//! them. It is not derived from the signing key, unlike what authenticator apps hold:
//! when that key is lost, recovery codes are how users with a second factor get in.

use bson::Document;
use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// How many a user gets.
pub(super) const CODES: usize = 10;
/// Random bytes of one.
const BYTES: usize = 15;
/// Characters of one, without the dashes.
const LENGTH: usize = 24;

/// New codes, and the fields by which they are known: `<hash>: true`.
pub(super) fn make(realm: &str, id: &[u8]) -> Result<(Vec<String>, Document)> {
    let mut codes = Vec::with_capacity(CODES);
    let mut hashes = Document::new();
    for _ in 0..CODES {
        let mut random = [0; BYTES];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let plain = BASE32_NOPAD.encode(&random).to_ascii_lowercase();
        hashes.insert(hash(realm, id, &plain), true);
        let groups: Vec<&str> = [0, 4, 8, 12, 16, 20]
            .into_iter()
            .filter_map(|start| plain.get(start..start + 4))
            .collect();
        codes.push(groups.join("-"));
    }
    Ok((codes, hashes))
}

/// The field by which a code would be known; none of a text that cannot be one.
pub(super) fn field(realm: &str, id: &[u8], given: &str) -> Option<String> {
    let plain: String = given
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_one = plain.len() == LENGTH
        && plain
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
    is_one.then(|| hash(realm, id, &plain))
}

fn hash(realm: &str, id: &[u8], plain: &str) -> String {
    let mut hash = Sha256::new();
    for part in [
        b"coglex recovery code",
        realm.as_bytes(),
        id,
        plain.as_bytes(),
    ] {
        // With lengths, so that no two lists of parts read the same.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_known_by_their_hash_however_they_are_typed() {
        let (codes, hashes) = make("users", b"\"ann\"").unwrap();
        assert_eq!((codes.len(), hashes.len()), (CODES, CODES));
        for code in &codes {
            assert_eq!(code.len(), LENGTH + 5, "{code}");
            for typed in [
                code.clone(),
                code.to_uppercase(),
                code.replace('-', ""),
                code.replace('-', " "),
            ] {
                let field = field("users", b"\"ann\"", &typed).unwrap();
                assert!(hashes.contains_key(&field), "{typed}");
            }
            let others = [
                field("users", b"\"bob\"", code),
                field("admins", b"\"ann\"", code),
            ];
            for other in others {
                assert!(!hashes.contains_key(other.unwrap()));
            }
            assert!(!format!("{hashes:?}").contains(code.as_str()));
        }
        for no_code in [
            "",
            "123456",
            "abcd-efgh-ijkl-mnop-qrst-uvw",
            "abcd-efgh-ijkl-mnop-qrst-uvw1",
            "$bcd-efgh-ijkl-mnop-qrst-uvwx",
        ] {
            assert_eq!(field("users", b"\"ann\"", no_code), None, "{no_code}");
        }
    }
}
