//! The sessions inside a user's document: `_coglex.sessions.<hash>`, each
//! `{created, used, expires, ends, agent?, address?, refresh, previous?, renewed?}`.
//!
//! A session's identifier is random and known only to its tokens; the document
//! holds its SHA-256, and so it does of the refresh token. Whoever reads the store,
//! or a backup of it, cannot make a token from that.

use std::net::IpAddr;
use std::time::Duration;

use bson::{DateTime, Document, doc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::backoff;
use super::keys::later;
use super::settings::RealmPolicy;
use super::token::Claims;
use crate::error::{Error, Result};

/// Where all of a user's sessions are.
pub(super) const ALL: &str = "_coglex.sessions";
/// Open sessions of one user; beyond, the oldest end.
const MAX_SESSIONS: usize = 64;
/// Bytes that are kept of what a client calls itself.
const MAX_AGENT_BYTES: usize = 256;
/// How exactly it is known when a session was last used: writing it down at every
/// request would turn each read into a write.
const USED_EVERY: Duration = Duration::from_secs(15 * 60);

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

/// Where a sign-in comes from, as far as that is known.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The address that counts for limits, and that the user is shown.
    pub address: Option<IpAddr>,
    /// What the client calls itself (`User-Agent`). Of any length and content.
    pub agent: Option<String>,
}

impl Client {
    /// What sessions say of it.
    pub(super) fn record(&self) -> Document {
        let mut record = Document::new();
        if let Some(agent) = &self.agent {
            let visible = agent.chars().filter(|c| !c.is_control());
            let mut kept = String::new();
            for c in visible {
                if kept.len() + c.len_utf8() > MAX_AGENT_BYTES {
                    break;
                }
                kept.push(c);
            }
            record.insert("agent", kept);
        }
        if let Some(address) = self.address {
            record.insert("address", address.to_string());
        }
        record
    }
}

/// A session as its user may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnSession {
    /// What it is ended by. Nobody can make a token of it.
    pub id: String,
    /// When it was opened.
    pub created: DateTime,
    /// When it was last used, to a quarter of an hour.
    pub used: DateTime,
    /// When it ends unless it is renewed.
    pub expires: DateTime,
    /// What the client called itself.
    pub agent: Option<String>,
    /// Where it was last opened or renewed from.
    pub address: Option<String>,
    /// Whether this is the session by which it was asked.
    pub current: bool,
}

/// A session that is being opened.
pub(super) struct NewSession {
    /// The identifier, for its tokens alone.
    pub(super) id: String,
    created: DateTime,
    expires: DateTime,
    ends: DateTime,
}

impl NewSession {
    pub(super) fn open(now: DateTime, policy: &RealmPolicy) -> Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let ends = whole(later(now, policy.session_max));
        Ok(Self {
            id: hex::encode(id),
            created: now,
            expires: whole(later(now, policy.session_ttl)).min(ends),
            ends,
        })
    }

    pub(super) fn path(&self) -> String {
        path(&self.id)
    }

    pub(super) fn record(&self, client: &Client, refresh: String) -> Document {
        let mut record = doc! {
            "created": self.created,
            "used": self.created,
            "expires": self.expires,
            "ends": self.ends,
            "refresh": refresh,
        };
        record.extend(client.record());
        record
    }

    pub(super) fn expires(&self) -> DateTime {
        self.expires
    }
}

/// Whole seconds, as in tokens, and never less than was promised.
fn whole(moment: DateTime) -> DateTime {
    let seconds = moment
        .timestamp_millis()
        .saturating_add(999)
        .div_euclid(1000);
    DateTime::from_millis(seconds.saturating_mul(1000))
}

/// When a session expires that is renewed now.
pub(super) fn renewed(record: &Document, now: DateTime, policy: &RealmPolicy) -> DateTime {
    let expires = whole(later(now, policy.session_ttl));
    match record.get_datetime("ends") {
        Ok(ends) => expires.min(*ends),
        Err(_) => expires,
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

    /// The token's session, if it is there and has not expired.
    pub(super) fn open(&self, claims: &Claims, now: DateTime) -> Option<&'a Document> {
        let record = self.record(claims)?;
        expiry(record).filter(|expires| *expires > now)?;
        Some(record)
    }

    /// All that are open, those last used first.
    pub(super) fn list(&self, claims: &Claims, now: DateTime) -> Vec<OwnSession> {
        let current = hash(&claims.session);
        let text = |record: &Document, name| record.get_str(name).ok().map(str::to_owned);
        let mut open: Vec<OwnSession> = self
            .records
            .into_iter()
            .flatten()
            .filter_map(|(hash, record)| {
                let record = record.as_document()?;
                let created = *record.get_datetime("created").ok()?;
                Some(OwnSession {
                    id: hash.clone(),
                    created,
                    used: record
                        .get_datetime("used")
                        .ok()
                        .map_or(created, |used| *used),
                    expires: expiry(record).filter(|expires| *expires > now)?,
                    agent: text(record, "agent"),
                    address: text(record, "address"),
                    current: *hash == current,
                })
            })
            .collect();
        open.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
        open
    }

    /// Whether one of the open sessions is from this address.
    pub(super) fn knows(&self, address: IpAddr, now: DateTime) -> bool {
        let network = backoff::network(address);
        let records = self.records.into_iter().flatten();
        let mut open = records
            .filter_map(|(_, record)| record.as_document())
            .filter(|record| expiry(record).is_some_and(|expires| expires > now));
        open.any(|record| {
            let known = record.get_str("address").ok();
            let known = known.and_then(|text| text.parse().ok());
            known.map(backoff::network) == Some(network)
        })
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

/// What to set so that it is known that a session is used now; nothing if that is
/// known well enough.
pub(super) fn used(path: &str, record: &Document, now: DateTime) -> Option<Document> {
    let used = record.get_datetime("used").ok()?;
    (later(*used, USED_EVERY) <= now).then(|| doc! { format!("{path}.used"): now })
}

/// Whether this can be the name of a session in a document.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
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

    fn minute() -> RealmPolicy {
        RealmPolicy {
            session_ttl: Duration::from_secs(60),
            session_max: Duration::from_secs(180),
            ..RealmPolicy::default()
        }
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
            let open = NewSession::open(DateTime::from_millis(now), &minute()).unwrap();
            let lives = open.expires().timestamp_millis() - now;
            assert!((60_000..61_000).contains(&lives), "{now}: {lives}");
            let record = open.record(&Client::default(), String::new());
            assert_eq!(*record.get_datetime("expires").unwrap(), open.expires());
        }
        let forever = RealmPolicy {
            session_ttl: Duration::MAX,
            session_max: Duration::MAX,
            ..minute()
        };
        let forever = NewSession::open(DateTime::from_millis(0), &forever).unwrap();
        assert!(forever.expires().timestamp_millis() > 1_000_000_000_000_000);
    }

    #[test]
    fn a_renewed_session_lives_on_until_its_end() {
        let now = DateTime::from_millis(0);
        let record = NewSession::open(now, &minute()).unwrap();
        let record = record.record(&Client::default(), String::new());
        let renewed = |seconds: i64| {
            let now = DateTime::from_millis(seconds * 1000);
            renewed(&record, now, &minute()).timestamp_millis() / 1000
        };
        assert_eq!(renewed(0), 60);
        assert_eq!(renewed(50), 110);
        assert_eq!(renewed(170), 180);
        assert_eq!(renewed(500), 180);
    }

    #[test]
    fn clients_are_noted_within_bounds() {
        let client = Client {
            address: Some("2001:db8::1".parse().unwrap()),
            agent: Some(format!("Agent\n{}", "ä".repeat(300))),
        };
        let record = client.record();
        assert_eq!(record.get_str("address").unwrap(), "2001:db8::1");
        let agent = record.get_str("agent").unwrap();
        assert!(
            agent.starts_with("Agentää") && agent.len() <= 256,
            "{agent}"
        );
        assert_eq!(Client::default().record(), doc! {});
    }

    #[test]
    fn use_is_noted_every_quarter_of_an_hour() {
        let record = doc! { "used": DateTime::from_millis(0) };
        let set = |minutes: i64| used("p", &record, DateTime::from_millis(minutes * 60_000));
        assert_eq!(set(14), None);
        assert_eq!(
            set(15),
            Some(doc! { "p.used": DateTime::from_millis(900_000) })
        );
    }

    #[test]
    fn an_address_is_known_while_a_session_from_its_network_is_open() {
        let now = DateTime::from_millis(1_000);
        let user = doc! { "_coglex": { "sessions": {
            "a": { "expires": DateTime::from_millis(2_000), "address": "2001:db8::1" },
            "b": { "expires": DateTime::from_millis(1_000), "address": "192.0.2.1" },
        } } };
        let knows = |address: &str| Sessions::of(&user).knows(address.parse().unwrap(), now);
        assert!(knows("2001:db8::2"));
        assert!(!knows("2001:db8:0:1::2") && !knows("192.0.2.1"));
    }

    #[test]
    fn a_session_is_open_until_it_expires() {
        let user = user([1000, 2000]);
        let sessions = Sessions::of(&user);
        let is_open = |session: &str, now| {
            let now = DateTime::from_millis(now);
            sessions.open(&claims(session), now).is_some()
        };
        assert!(is_open("1000", 999) && !is_open("1000", 1000));
        assert!(is_open("2000", 1000) && !is_open("3000", 0));
        let nobody = doc! {};
        let none = Sessions::of(&nobody).open(&claims("1000"), DateTime::from_millis(0));
        assert!(none.is_none());
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
        for session in ["a", "b"] {
            let open = sessions.open(&claims(session), DateTime::from_millis(0));
            assert!(open.is_none());
        }
        assert_eq!(sessions.surplus(DateTime::from_millis(0)).len(), 2);
    }
}
