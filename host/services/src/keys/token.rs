//! What a key looks like: `cgx_`, 43 random characters (256 bits), and six that are a
//! checksum of all before them. Letters and digits only: a double click takes it whole,
//! and no format needs it escaped. The prefix and the checksum are for scanners that
//! look for leaked keys, and keep made-up ones from reaching the store.

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "cgx_";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is a little more than 2^256.
const RANDOM: usize = 43;
const CHECKSUM: usize = 6;

/// A new key.
pub(super) fn make() -> Result<String, getrandom::Error> {
    let mut key = String::from(PREFIX);
    let mut bytes = [0; 64];
    while key.len() < PREFIX.len() + RANDOM {
        getrandom::fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: each character is as likely.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let left = PREFIX.len() + RANDOM - key.len();
        key.extend(even.take(left).map(|byte| character(u32::from(*byte))));
    }
    let checksum = checksum(&key);
    key.push_str(&checksum);
    Ok(key)
}

/// Whether a text can be a key: its shape and checksum are right. Not whether there is
/// such a key.
pub fn is_key(text: &str) -> bool {
    let body = PREFIX.len() + RANDOM;
    text.len() == body + CHECKSUM
        && text.starts_with(PREFIX)
        && text
            .split_at_checked(body)
            .is_some_and(|(body, given)| checksum(body) == given)
}

/// What is stored of a key. It is random enough that nobody can guess it from this, so
/// that no slow hash is needed.
pub(super) fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// What a key is listed and revoked by: half of its hash.
pub(super) fn id(hash: &str) -> &str {
    hash.get(..32).unwrap_or(hash)
}

/// The first 32 bits of the text's SHA-256, in base 62.
fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut number = digest
        .iter()
        .take(4)
        .fold(0, |number, byte| (number << 8) | u32::from(*byte));
    let mut digits = [0; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = number % 62;
        number /= 62;
    }
    digits.into_iter().map(character).collect()
}

fn character(number: u32) -> char {
    let index = usize::try_from(number).unwrap_or_default() % ALPHABET.len();
    char::from(ALPHABET.get(index).copied().unwrap_or(b'0'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_random_and_prove_their_shape() {
        let keys: BTreeSet<String> = (0..100).map(|_| make().unwrap()).collect();
        assert_eq!(keys.len(), 100);
        let letters: BTreeSet<char> = keys.iter().flat_map(|key| key[4..47].chars()).collect();
        assert_eq!(letters.len(), 62);
        for key in &keys {
            assert!(is_key(key), "{key}");
            assert_eq!(key.len(), 53);
            // Every character counts.
            for at in 0..key.len() {
                let mut other = key.clone().into_bytes();
                other[at] = if other[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_key(&String::from_utf8(other).unwrap()), "{key} {at}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_told_without_a_panic() {
        for text in [
            "",
            "cgx_",
            "key-of-the-tests",
            &"ä".repeat(27),
            &"c".repeat(53),
        ] {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn the_checksum_is_as_documented() {
        // The first 32 bits of the SHA-256 of "cgx_" and 43 zeros.
        let body = format!("cgx_{}", "0".repeat(43));
        let digest = hex::encode(Sha256::digest(body.as_bytes()));
        let mut number = u64::from_str_radix(&digest[..8], 16).unwrap();
        let mut expected = String::new();
        for _ in 0..6 {
            expected.insert(0, char::from(ALPHABET[(number % 62) as usize]));
            number /= 62;
        }
        assert!(is_key(&format!("{body}{expected}")));
    }
}
