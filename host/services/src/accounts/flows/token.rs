//! The tokens of mailed links: whose, a secret, and a proof that the two belong together,
//! to the realm and to the purpose. What is made up ends before the store is asked.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bson::Bson;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Purpose;
use crate::accounts::keys::Master;
use crate::documents;
use crate::error::Result;
use crate::json;

/// What tokens start with, so that people and scanners know one when they see it.
const PREFIX: &str = "cgmt_";
/// Longer ones are not looked at. An `_id` has at most a kilobyte or so.
const MAX_BYTES: usize = 4096;
const SECRET_BYTES: usize = 32;
const PROOF_BYTES: usize = 16;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;

/// A token, authentic.
pub(super) struct FlowToken {
    /// The user's `_id`.
    pub(super) id: Bson,
    secret: [u8; SECRET_BYTES],
}

impl FlowToken {
    /// The token of a job of the outbox. Jobs have 128 random bits in their ids, which
    /// the outbox shows to operators; without the signing key they make no token.
    pub(super) fn of_job(
        master: &Master,
        realm: &str,
        purpose: Purpose,
        id: &Bson,
        job: &str,
    ) -> Result<Self> {
        let id_text = text_of(id)?;
        let parts = [
            realm.as_bytes(),
            purpose.name().as_bytes(),
            &id_text,
            job.as_bytes(),
        ];
        Ok(Self {
            id: id.clone(),
            secret: master.derive("mailed token", &parts),
        })
    }

    /// What the store has of it.
    pub(super) fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.secret))
    }

    pub(super) fn write(&self, master: &Master, realm: &str, purpose: Purpose) -> Result<String> {
        let id = text_of(&self.id)?;
        let mut rest = self.secret.to_vec();
        rest.extend(proof(master, realm, purpose, &id, &self.secret));
        Ok(format!(
            "{PREFIX}{}.{}",
            BASE64.encode(&id),
            BASE64.encode(&rest)
        ))
    }

    /// Reads one that was written for this realm and purpose.
    pub(super) fn read(master: &Master, realm: &str, purpose: Purpose, text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (id, rest) = text.strip_prefix(PREFIX)?.split_once('.')?;
        let (id, rest) = (BASE64.decode(id).ok()?, BASE64.decode(rest).ok()?);
        let (secret, given) = rest.split_at_checked(SECRET_BYTES)?;
        let secret: [u8; SECRET_BYTES] = secret.try_into().ok()?;
        let expected = proof(master, realm, purpose, &id, &secret);
        if !bool::from(expected.as_slice().ct_eq(given)) {
            return None;
        }
        let id = json::parse_value(&id, ID_DEPTH).ok()?;
        documents::check_known_id(&id).ok()?;
        Some(Self { id, secret })
    }
}

/// An `_id` as text, the same for the same one.
pub(super) fn text_of(id: &Bson) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    json::write_value(id, &mut text)?;
    Ok(text)
}

fn proof(master: &Master, realm: &str, purpose: Purpose, id: &[u8], secret: &[u8]) -> Vec<u8> {
    let parts = [realm.as_bytes(), purpose.name().as_bytes(), id, secret];
    let mut proof = master.derive("mailed token's proof", &parts).to_vec();
    proof.truncate(PROOF_BYTES);
    proof
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> Master {
        Master::new(&[7; 32])
    }

    fn token() -> FlowToken {
        let id = Bson::from("ann");
        FlowToken::of_job(&master(), "users", Purpose::Reset, &id, "job").unwrap()
    }

    #[test]
    fn a_token_is_of_its_job_user_realm_and_purpose() {
        let text = token().write(&master(), "users", Purpose::Reset).unwrap();
        let read = FlowToken::read(&master(), "users", Purpose::Reset, &text).unwrap();
        assert_eq!(
            (read.id.clone(), read.hash()),
            (Bson::from("ann"), token().hash())
        );
        let not =
            |realm: &str, purpose| FlowToken::read(&master(), realm, purpose, &text).is_none();
        assert!(not("admins", Purpose::Reset) && not("users", Purpose::Verify));
        let other = Master::new(&[8; 32]);
        assert!(FlowToken::read(&other, "users", Purpose::Reset, &text).is_none());
        let id = Bson::from("ann");
        let next = FlowToken::of_job(&master(), "users", Purpose::Reset, &id, "job2").unwrap();
        assert_ne!(next.hash(), token().hash());
    }

    #[test]
    fn a_token_that_was_tampered_with_is_none() {
        let text = token().write(&master(), "users", Purpose::Reset).unwrap();
        let read = |text: &str| FlowToken::read(&master(), "users", Purpose::Reset, text);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(read(&changed).is_none(), "{changed}");
        }
        for other in ["", "cgmt_", "cgmt_.", &text[1..], &format!("{text}A")] {
            assert!(read(other).is_none(), "{other}");
        }
    }
}
