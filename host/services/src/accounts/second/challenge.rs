//! The token between the two steps of a sign-in.
//!
//! It says who has shown the first factor, and when. Nothing is stored for it: its MAC
//! is ours alone, and covers a fingerprint of the user's password and second factor, so
//! that it is over when either changes. That it is good once is seen to by the time
//! that it was made at: one that is answered ends itself and all that are older.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bson::{Bson, DateTime, Document, doc};
use subtle::ConstantTimeEq as _;

use super::super::denial::Challenge;
use super::super::keys::{Master, later};
use crate::documents;
use crate::error::{Error, Result};
use crate::json;

/// How long people have to find their phones.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// What challenges start with, so that people and scanners know one when they see it.
const PREFIX: &str = "cgsf_";
/// Longer ones are not looked at. An `_id` has at most a kilobyte or so.
const MAX_BYTES: usize = 4096;
const STATE_BYTES: usize = 16;
const PROOF_BYTES: usize = 16;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;

/// A challenge that is authentic and not over yet.
#[derive(Debug)]
pub(super) struct Open {
    /// Whose it is.
    pub(super) id: Bson,
    /// When it was made, in milliseconds of Unix time.
    pub(super) issued: i64,
    state: [u8; STATE_BYTES],
}

/// Challenges this user; `password` is the stored hash that the first factor was
/// checked against, or will be from now on.
pub(super) fn make(
    master: &Master,
    realm: &str,
    user: &Document,
    password: &Bson,
    now: DateTime,
) -> Result<Challenge> {
    let id = id_text(user)?;
    let state = state(master, realm, &id, user, password)?;
    let mut rest = now.timestamp_millis().to_be_bytes().to_vec();
    rest.extend(state);
    rest.extend(proof(master, realm, &id, &rest));
    Ok(Challenge {
        token: format!("{PREFIX}{}.{}", BASE64.encode(&id), BASE64.encode(&rest)),
        expires: later(now, LIFE),
    })
}

/// Reads a challenge that was made for this realm.
pub(super) fn read(master: &Master, realm: &str, text: &str, now: DateTime) -> Option<Open> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let (id, rest) = text.strip_prefix(PREFIX)?.split_once('.')?;
    let (id, rest) = (BASE64.decode(id).ok()?, BASE64.decode(rest).ok()?);
    let (signed, given) = rest.split_at_checked(rest.len().checked_sub(PROOF_BYTES)?)?;
    if !bool::from(proof(master, realm, &id, signed).as_slice().ct_eq(given)) {
        return None;
    }
    let (issued, state) = signed.split_at_checked(8)?;
    let issued = i64::from_be_bytes(issued.try_into().ok()?);
    if later(DateTime::from_millis(issued), LIFE) <= now {
        return None;
    }
    let id = json::parse_value(&id, ID_DEPTH).ok()?;
    documents::check_known_id(&id).ok()?;
    Some(Open {
        id,
        issued,
        state: state.try_into().ok()?,
    })
}

impl Open {
    /// Whether the user is as when the challenge was made.
    pub(super) fn is_of(&self, master: &Master, realm: &str, user: &Document) -> Result<bool> {
        let password = user.get("_password").cloned().unwrap_or(Bson::Null);
        let now = state(master, realm, &id_text(user)?, user, &password)?;
        Ok(now.ct_eq(&self.state).into())
    }
}

/// A user's `_id`, as text that no other has.
pub(super) fn id_text(user: &Document) -> Result<Vec<u8>> {
    let mut id = Vec::new();
    json::write_value(user.get("_id").unwrap_or(&Bson::Null), &mut id)?;
    Ok(id)
}

fn state(
    master: &Master,
    realm: &str,
    id: &[u8],
    user: &Document,
    password: &Bson,
) -> Result<[u8; STATE_BYTES]> {
    let own = user.get_document("_coglex").ok();
    let totp = own.and_then(|own| own.get_document("totp").ok());
    let secret = totp.and_then(|totp| totp.get("secret"));
    let factors = doc! { "p": password.clone(), "s": secret.cloned().unwrap_or(Bson::Null) };
    let factors = factors
        .to_vec()
        .map_err(|error| Error::Unavailable(Box::new(error)))?;
    let derived = master.derive("second factor's state", &[realm.as_bytes(), id, &factors]);
    let mut state = [0; STATE_BYTES];
    for (to, from) in state.iter_mut().zip(derived) {
        *to = from;
    }
    Ok(state)
}

fn proof(master: &Master, realm: &str, id: &[u8], signed: &[u8]) -> Vec<u8> {
    let parts = [realm.as_bytes(), id, signed];
    let mut proof = master.derive("second factor's challenge", &parts).to_vec();
    proof.truncate(PROOF_BYTES);
    proof
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann(secret: &str) -> Document {
        doc! { "_id": "ann", "_password": "hash", "_coglex": { "totp": { "secret": secret } } }
    }

    fn master() -> Master {
        Master::new(&[7; 32])
    }

    fn challenge() -> String {
        let now = DateTime::from_millis(1_000_000);
        let made = make(&master(), "users", &ann("s"), &"hash".into(), now);
        made.unwrap().token
    }

    fn reads(master: &Master, realm: &str, text: &str, millis: i64) -> Option<Open> {
        read(master, realm, text, DateTime::from_millis(millis))
    }

    #[test]
    fn a_challenge_is_read_for_its_realm_while_it_lasts() {
        let text = challenge();
        let open = reads(&master(), "users", &text, 1_299_999).unwrap();
        assert_eq!((open.id.clone(), open.issued), ("ann".into(), 1_000_000));
        assert!(reads(&master(), "users", &text, 1_300_000).is_none());
        assert!(reads(&master(), "admins", &text, 1_000_000).is_none());
        assert!(reads(&Master::new(&[8; 32]), "users", &text, 1_000_000).is_none());
    }

    #[test]
    fn it_is_over_when_password_or_second_factor_change() {
        let open = reads(&master(), "users", &challenge(), 1_000_001).unwrap();
        let is_of = |user: &Document| open.is_of(&master(), "users", user).unwrap();
        assert!(is_of(&ann("s")));
        assert!(!is_of(&ann("t")));
        let mut other = ann("s");
        other.insert("_password", "another");
        assert!(!is_of(&other));
        other.remove("_password");
        assert!(!is_of(&other));
        other.remove("_coglex");
        assert!(!is_of(&other));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let text = challenge();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let read = reads(&master(), "users", &changed, 1_000_001);
            assert!(read.is_none(), "{changed}");
        }
        for other in ["", "cgsf_", "cgsf_.", &text[1..], &format!("{text}A")] {
            assert!(reads(&master(), "users", other, 1_000_001).is_none());
        }
    }
}
