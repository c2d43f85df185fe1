//! The sessions inside a user's document: `_coglex.sessions.<hash>`.
//!
//! A session's identifier is random and known only to its token; the document
//! holds its SHA-256. Whoever reads the store, or a backup of it, cannot make a
//! token from that.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::token::Claims;
use crate::error::{Error, Result};

/// Where all of a user's sessions are.
pub(super) const ALL: &str = "_coglex.sessions";
/// Open sessions of one user; beyond, the oldest end.
const MAX_SESSIONS: usize = 64;

/// The path of a session in the user's document, from its identifier.
pub(super) fn path(id: &str) -> String {
    format!("{ALL}.{}", hash(id))
}

/// All of a user's sessions when the token's is the only one.
pub(super) fn only(claims: &Claims, record: &Document) -> Document {
    doc! { hash(&claims.session): record.clone() }
}

fn hash(id: &str) -> String {
    hex::encode(Sha256::digest(id.as_bytes()))
}

/// A session that is being opened.
pub(super) struct NewSession {
    /// The identifier, for the token alone.
    pub(super) id: String,
    created: DateTime,
    expires: DateTime,
}

impl NewSession {
    pub(super) fn open(now: DateTime, ttl: Duration) -> Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Error::Unavailable(Box::new(error)))?;
        // Whole seconds, as in the token, and never less than was promised.
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let expires = now
            .timestamp_millis()
            .saturating_add(ttl)
            .saturating_add(999)
            / 1000;
        Ok(Self {
            id: hex::encode(id),
            created: now,
            expires: DateTime::from_millis(expires.saturating_mul(1000)),
        })
    }

    pub(super) fn path(&self) -> String {
        path(&self.id)
    }

    pub(super) fn record(&self) -> Document {
        doc! { "created": self.created, "expires": self.expires }
    }

    /// Unix seconds.
    pub(super) fn created(&self) -> i64 {
        self.created.timestamp_millis() / 1000
    }

    /// Unix seconds.
    pub(super) fn expires(&self) -> i64 {
        self.expires.timestamp_millis() / 1000
    }
}

/// The sessions of a stored user.
pub(super) struct Sessions<'a> {
    records: Option<&'a Document>,
}

impl<'a> Sessions<'a> {
    pub(super) fn of(user: &'a Document) -> Self {
        let own = user.get_document("_coglex").ok();
        Self {
            records: own.and_then(|own| own.get_document("sessions").ok()),
        }
    }

    /// Whether the token's session is there and has not expired.
    pub(super) fn is_open(&self, claims: &Claims, now: DateTime) -> bool {
        self.record(claims)
            .and_then(expiry)
            .is_some_and(|expires| expires > now)
    }

    /// What to `$unset` so that, with one more, the sessions are within bounds:
    /// the expired, then the oldest.
    pub(super) fn surplus(&self, now: DateTime) -> Document {
        let mut records: Vec<(&String, Option<DateTime>)> = self
            .records
            .into_iter()
            .flatten()
            .map(|(hash, record)| (hash, record.as_document().and_then(expiry)))
            .collect();
        // None sorts first: a record that cannot be read is no session.
        records.sort_by_key(|(_, expires)| *expires);
        let expired =
            records.partition_point(|(_, expires)| expires.is_none_or(|expires| expires <= now));
        let over = (records.len() + 1).saturating_sub(MAX_SESSIONS);
        records
            .into_iter()
            .take(expired.max(over))
            .map(|(hash, _)| (format!("{ALL}.{hash}"), bson::Bson::from("")))
            .collect()
    }

    /// What is stored of the token's session.
    pub(super) fn record(&self, claims: &Claims) -> Option<&'a Document> {
        let wanted = hash(&claims.session);
        let mut found = None;
        // All are looked at, each in constant time: how long it takes says
        // nothing of how near a guess was.
        for (hash, record) in self.records? {
            if bool::from(hash.as_bytes().ct_eq(wanted.as_bytes())) {
                found = record.as_document();
            }
        }
        found
    }
}

fn expiry(record: &Document) -> Option<DateTime> {
    record.get_datetime("expires").ok().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::Bson;

    fn user(expiries: impl IntoIterator<Item = i64>) -> Document {
        let sessions: Document = expiries
            .into_iter()
            .map(|expires| {
                (
                    hash(&expires.to_string()),
                    Bson::from(doc! { "expires": DateTime::from_millis(expires) }),
                )
            })
            .collect();
        doc! { "_coglex": { "sessions": sessions } }
    }

    fn claims(session: &str) -> Claims {
        Claims {
            id: Bson::Null,
            session: session.into(),
        }
    }

    #[test]
    fn a_session_lives_as_long_as_promised_and_less_than_a_second_longer() {
        for now in [0, 1, 500, 999, 1_700_000_000_001] {
            let open =
                NewSession::open(DateTime::from_millis(now), Duration::from_secs(60)).unwrap();
            let lives = open.expires() * 1000 - now;
            assert!((60_000..61_000).contains(&lives), "{now}: {lives}");
            let record = open.record();
            assert_eq!(
                record.get_datetime("expires").unwrap().timestamp_millis(),
                open.expires() * 1000
            );
        }
        let forever = NewSession::open(DateTime::from_millis(0), Duration::MAX).unwrap();
        assert!(forever.expires() > 1_000_000_000_000);
    }

    #[test]
    fn a_session_is_open_until_it_expires() {
        let user = user([1000, 2000]);
        let sessions = Sessions::of(&user);
        assert!(sessions.is_open(&claims("1000"), DateTime::from_millis(999)));
        assert!(!sessions.is_open(&claims("1000"), DateTime::from_millis(1000)));
        assert!(sessions.is_open(&claims("2000"), DateTime::from_millis(1000)));
        assert!(!sessions.is_open(&claims("3000"), DateTime::from_millis(0)));
        assert!(!Sessions::of(&doc! {}).is_open(&claims("1000"), DateTime::from_millis(0)));
    }

    #[test]
    fn the_expired_and_then_the_oldest_make_room() {
        let surplus =
            |user: &Document, now| Sessions::of(user).surplus(DateTime::from_millis(now)).len();
        assert_eq!(surplus(&doc! {}, 0), 0);
        assert_eq!(surplus(&user(1..=63), 0), 0);
        assert_eq!(surplus(&user(1..=64), 0), 1);
        assert_eq!(surplus(&user(1..=70), 0), 7);
        assert_eq!(surplus(&user(1..=70), 20), 20);
        let full = user(1..=64);
        let oldest = Sessions::of(&full).surplus(DateTime::from_millis(0));
        assert_eq!(oldest, doc! { path("1"): "" });
    }

    #[test]
    fn records_that_cannot_be_read_are_no_sessions() {
        let user =
            doc! { "_coglex": { "sessions": { hash("a"): 1, hash("b"): { "expires": "never" } } } };
        let sessions = Sessions::of(&user);
        assert!(!sessions.is_open(&claims("a"), DateTime::from_millis(0)));
        assert!(!sessions.is_open(&claims("b"), DateTime::from_millis(0)));
        assert_eq!(sessions.surplus(DateTime::from_millis(0)).len(), 2);
    }
}
