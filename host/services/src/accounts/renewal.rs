//! Refresh tokens: what a client trades for a new access token.
//!
//! A token is opaque, of its session alone, and used up when it is used: the answer
//! has its successor. The session knows the hash of the one that is good now. A token
//! that is authentic and not that one has been used before, so somebody has a copy,
//! and the session ends (RFC 9700, section 4.14.2).
//!
//! A client that lost the answer may ask again for [`GRACE`], while the successor is
//! unused, and gets the same successor, because it is derived from its predecessor.
//! Nothing is gained by that with a stolen token: thief and owner then hold the very
//! same successor, and the second of them who uses it ends the session.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bson::{DateTime, doc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::keys::{Master, later};
use super::session::{self, Sessions};
use super::token::Claims;
use super::{Accounts, Client, SignedIn, decoded};
use crate::documents;
use crate::error::{Error, Result};
use crate::json;

/// How long a token that was used once more brings the same answer.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// What tokens start with, so that people and scanners know one when they see it.
const PREFIX: &str = "cgrt_";
/// Longer ones are not looked at. An `_id` has at most a kilobyte or so.
const MAX_BYTES: usize = 4096;
const SECRET_BYTES: usize = 32;
const PROOF_BYTES: usize = 16;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;
/// Times that a renewal starts over because the session changed meanwhile.
const MAX_ROUNDS: usize = 3;

/// A refresh token, authentic.
pub(super) struct RefreshToken {
    pub(super) claims: Claims,
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The first token of a session.
    pub(super) fn first(claims: Claims) -> Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| Error::Unavailable(Box::new(error)))?;
        Ok(Self { claims, secret })
    }

    /// The token that this one is traded for; always the same.
    fn successor(&self, master: &Master) -> Self {
        let parts = [self.claims.session.as_bytes(), &self.secret[..]];
        Self {
            claims: self.claims.clone(),
            secret: master.derive("next refresh token", &parts),
        }
    }

    /// What the store has of it.
    pub(super) fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.secret))
    }

    /// As the client gets it: user, session, secret, and a proof that they belong
    /// together and to the realm. What is made up ends before the store is asked.
    pub(super) fn write(&self, master: &Master, realm: &str) -> Result<String> {
        let mut id = Vec::new();
        json::write_value(&self.claims.id, &mut id)?;
        let mut rest = self.secret.to_vec();
        rest.extend(proof(
            master,
            realm,
            &id,
            &self.claims.session,
            &self.secret,
        ));
        Ok(format!(
            "{PREFIX}{}.{}.{}",
            BASE64.encode(&id),
            self.claims.session,
            BASE64.encode(&rest)
        ))
    }

    /// Reads one that was written for this realm.
    pub(super) fn read(master: &Master, realm: &str, text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let mut parts = text.strip_prefix(PREFIX)?.split('.');
        let (id, session, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let id = BASE64.decode(id).ok()?;
        let rest = BASE64.decode(rest).ok()?;
        let (secret, given) = rest.split_at_checked(SECRET_BYTES)?;
        let secret: [u8; SECRET_BYTES] = secret.try_into().ok()?;
        let expected = proof(master, realm, &id, session, &secret);
        if !bool::from(expected.as_slice().ct_eq(given)) {
            return None;
        }
        let id = json::parse_value(&id, ID_DEPTH).ok()?;
        documents::check_known_id(&id).ok()?;
        let claims = Claims {
            id,
            session: session.to_owned(),
        };
        Some(Self { claims, secret })
    }
}

fn proof(master: &Master, realm: &str, id: &[u8], session: &str, secret: &[u8]) -> Vec<u8> {
    let parts = [realm.as_bytes(), id, session.as_bytes(), secret];
    let mut proof = master.derive("refresh token", &parts).to_vec();
    proof.truncate(PROOF_BYTES);
    proof
}

impl Accounts {
    /// Trades a refresh token for new tokens of the same session, which lives on.
    /// Nothing if the token is not ours, its session is over, or it was used before.
    pub async fn renew(
        &self,
        realm: &str,
        token: &str,
        client: &Client,
    ) -> Result<Option<SignedIn>> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        let Some(token) = RefreshToken::read(&inner.master, realm, token) else {
            return Ok(None);
        };
        let given = token.hash();
        let next = token.successor(&inner.master);
        for _ in 0..MAX_ROUNDS {
            let Some(raw) = inner.store.get(realm, token.claims.id.clone()).await? else {
                return Ok(None);
            };
            let stored = decoded(&raw)?;
            let sessions = Sessions::of(&stored);
            let now = inner.clock.now();
            let Some(record) = sessions.open(&token.claims, now) else {
                return Ok(None);
            };
            let is = |name: &str, hash: &str| {
                let known = record.get_str(name).unwrap_or_default();
                bool::from(known.as_bytes().ct_eq(hash.as_bytes()))
            };
            let path = session::path(&token.claims.session);
            let current = format!("{path}.refresh");
            let ends = record.get_datetime("expires").ok().copied();
            let expires = if is("refresh", &given) {
                let policy = inner.settings.policy_of(realm);
                let expires = session::renewed(record, now, policy);
                let mut set = doc! {
                    &current: next.hash(),
                    format!("{path}.previous"): &given,
                    format!("{path}.renewed"): now,
                    format!("{path}.used"): now,
                    format!("{path}.expires"): expires,
                };
                for (name, value) in client.record() {
                    set.insert(format!("{path}.{name}"), value);
                }
                let unused = doc! { "_id": token.claims.id.clone(), current: &given };
                let change = doc! { "$set": set };
                if inner.update_hidden(realm, unused, change).await?.matched == 0 {
                    // Used, or the session ended, in this moment.
                    continue;
                }
                expires
            } else if is("previous", &given)
                && is("refresh", &next.hash())
                && within_grace(record.get_datetime("renewed").ok(), now)
                && let Some(ends) = ends
            {
                ends
            } else {
                let known = record.get_str("refresh").unwrap_or_default();
                // If it was renewed in this moment, look again at what it is now.
                let this = doc! { "_id": token.claims.id.clone(), current: known };
                let end = doc! { "$unset": { path: "" } };
                if inner.update_hidden(realm, this, end).await?.matched == 0 {
                    continue;
                }
                tracing::warn!(
                    auth.realm = realm,
                    user.id = %token.claims.id,
                    client.address = client.address.map(tracing::field::display),
                    "a refresh token was used a second time; its session has been ended"
                );
                return Ok(None);
            };
            let signed_in = inner.tokens_for(realm, stored, &next, expires);
            return signed_in.await.map(Some);
        }
        Err(Error::Overloaded {
            retry_after: Duration::from_secs(1),
        })
    }
}

fn within_grace(renewed: Option<&DateTime>, now: DateTime) -> bool {
    renewed.is_some_and(|renewed| later(*renewed, GRACE) > now)
}

#[cfg(test)]
mod tests {
    use bson::Bson;

    use super::*;

    fn master() -> Master {
        Master::new(&[7; 32])
    }

    fn token(id: impl Into<Bson>) -> RefreshToken {
        RefreshToken::first(Claims {
            id: id.into(),
            session: "5e55".into(),
        })
        .unwrap()
    }

    #[test]
    fn what_is_written_is_read_for_its_realm_alone() {
        for id in [
            Bson::from("ann"),
            Bson::from(bson::oid::ObjectId::new()),
            Bson::from(7),
            Bson::from("with.dots and \"quotes\""),
        ] {
            let token = token(id.clone());
            let text = token.write(&master(), "users").unwrap();
            assert!(text.starts_with("cgrt_"), "{text}");
            let read = RefreshToken::read(&master(), "users", &text).unwrap();
            assert_eq!((read.claims.id, read.secret), (id, token.secret));
            assert_eq!(read.claims.session, "5e55");
            assert!(RefreshToken::read(&master(), "admins", &text).is_none());
            assert!(RefreshToken::read(&Master::new(&[8; 32]), "users", &text).is_none());
        }
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let text = token("ann").write(&master(), "users").unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                RefreshToken::read(&master(), "users", &changed).is_none(),
                "{changed}"
            );
        }
        for other in [
            "",
            "cgrt_",
            "cgrt_..",
            &text[1..],
            &format!("{text}.x"),
            &format!("{text}A"),
        ] {
            assert!(
                RefreshToken::read(&master(), "users", other).is_none(),
                "{other}"
            );
        }
    }

    #[test]
    fn successors_are_always_the_same_and_all_differ() {
        let first = token("ann");
        let second = first.successor(&master());
        assert_eq!(second.secret, first.successor(&master()).secret);
        let third = second.successor(&master());
        assert!(first.secret != second.secret && second.secret != third.secret);
        assert_ne!(token("ann").successor(&master()).secret, second.secret);
        assert_eq!(second.hash().len(), 64);
    }
}
