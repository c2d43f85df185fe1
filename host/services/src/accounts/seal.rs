//! Secrets that have to be read again, such as those of authenticator apps: encrypted
//! under keys that are derived from the operator's signing key, so that who reads the
//! store, or a backup of it, has nothing.
//!
//! ChaCha20-Poly1305 (RFC 8439). The purpose and what a secret belongs to are part of
//! its key: moved to another user or another use, it cannot be opened.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::keys::Master;
use crate::error::{Error, Result};

impl Master {
    /// Encrypts. A nonce is random: under one key 2^32 texts are safe, which is more
    /// than anybody signs in within the life of a signing key.
    pub(super) fn seal(&self, purpose: &str, parts: &[&[u8]], text: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let mut sealed = text.to_vec();
        self.sealing(purpose, parts)
            .and_then(|key| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed)
                    .ok()
            })
            .ok_or_else(|| Error::Unavailable("a secret could not be encrypted".into()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Decrypts what was encrypted for the same purpose and parts under the same
    /// signing key; nothing if it was not, or was tampered with.
    pub(super) fn unseal(&self, purpose: &str, parts: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = sealed.to_vec();
        let key = self.sealing(purpose, parts)?;
        let opened = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        Some(opened.to_vec())
    }

    fn sealing(&self, purpose: &str, parts: &[&[u8]]) -> Option<LessSafeKey> {
        let key = self.derive(purpose, parts);
        UnboundKey::new(&CHACHA20_POLY1305, &key)
            .ok()
            .map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_for_the_same_purpose_alone() {
        let master = Master::new(&[7; 32]);
        let sealed = master.seal("totp", &[b"users", b"ann"], b"secret").unwrap();
        assert_ne!(
            sealed,
            master.seal("totp", &[b"users", b"ann"], b"secret").unwrap()
        );
        let open = |master: &Master, purpose: &str, parts: &[&[u8]]| {
            master.unseal(purpose, parts, &sealed)
        };
        let text = open(&master, "totp", &[b"users", b"ann"]);
        assert_eq!(text.as_deref(), Some(&b"secret"[..]));
        assert_eq!(open(&master, "totp", &[b"users", b"bob"]), None);
        assert_eq!(open(&master, "totp", &[b"usersann"]), None);
        assert_eq!(open(&master, "state", &[b"users", b"ann"]), None);
        let other = Master::new(&[8; 32]);
        assert_eq!(open(&other, "totp", &[b"users", b"ann"]), None);
    }

    #[test]
    fn no_byte_can_be_changed_or_taken_away() {
        let master = Master::new(&[7; 32]);
        let sealed = master.seal("totp", &[], b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(master.unseal("totp", &[], &changed), None, "{at}");
            assert_eq!(master.unseal("totp", &[], &sealed[..at]), None, "{at}");
        }
    }
}
