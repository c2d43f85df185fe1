//! Signing in with a code that was sent by mail.
//!
//! A code is six digits, so all depends on how often one may guess. It goes with a
//! challenge that only who has asked for it knows: others can neither guess at it nor use
//! its tries up. `_coglex.codes.<hash of the challenge>` of the user is
//! `{mac, address, expires, tries, used?}`; tries are counted there before the code is
//! looked at, so that many at once, or on many hosts, are not more. Whoever asks for many
//! codes has [`MAX_PENDING`] at a time.
//!
//! The MAC is keyed: who reads the store cannot find the code by trying a million.

use bson::{Bson, DateTime, Document, doc};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::token::text_of;
use super::{FlowMail, What, values, verified, verifying};
use crate::accounts::entry::Proven;
use crate::accounts::keys::later;
use crate::accounts::{Accounts, Client, Denial, Inner, SignedIn, check_key};
use crate::documents;
use crate::error::{Error, Result};
use crate::storage::{Change, Update};

/// Where they are.
const CODES: &str = "_coglex.codes";
/// Codes of one user that are good at a time.
const MAX_PENDING: usize = 4;
/// Tries at one code.
const MAX_TRIES: i64 = 5;
/// Where writes go that nobody needs.
const DECOYS: &str = "_coglex_decoys";
/// Of what guesses at nobody's code would be known by: they write as much.
const DECOY_DOCUMENTS: u8 = 64;

/// What a code that was sent goes with.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeChallenge {
    /// To be sent back with the code. It opens nothing by itself.
    pub challenge: String,
    /// Until when the code is good.
    pub expires: DateTime,
}

impl std::fmt::Debug for CodeChallenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeChallenge")
            .field("challenge", &"***")
            .field("expires", &self.expires)
            .finish()
    }
}

impl Accounts {
    /// Has a code sent to the address of this user, if there is such a user. Answers
    /// with what it goes with in either case. `Forbidden` where the realm has no codes.
    pub async fn request_code(
        &self,
        realm: &str,
        key: &str,
        client: &Client,
    ) -> Result<CodeChallenge> {
        let inner = &*self.inner;
        self.outbox()?;
        let policy = inner.codes_of(realm)?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let challenge = hex::encode(random);
        let what = What::Code {
            challenge: hash(&challenge),
        };
        let expires = later(inner.clock.now(), policy);
        self.ask_for(realm, key, what, client).await?;
        Ok(CodeChallenge { challenge, expires })
    }

    /// Opens a session for who has the code that was sent; the address is verified by
    /// that. `WrongCode` for anything that is not right, known user or not.
    ///
    /// The first proof that the address is the user's, where it comes by a code, ends
    /// what others may have begun with it: all sessions end and the password is gone,
    /// which somebody else may have chosen who has signed up with the address.
    pub async fn sign_in_by_code(
        &self,
        realm: &str,
        key: &str,
        challenge: &str,
        code: &str,
        condition: Document,
        client: &Client,
    ) -> Result<SignedIn> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        check_key(key)?;
        inner.codes_of(realm)?;
        documents::check_filter(&condition, inner.limits.depth)?;
        let wrong = || Error::from(Denial::WrongCode);
        let hash = hash(challenge);
        let filter = doc! { "$and": [{ "_key": { "$eq": key } }, condition] };
        let stored = inner.find_one(realm, filter).await?;
        let known = stored.clone().unwrap_or_default();
        let attempt = inner.attempt(realm, key, &known, client)?;
        // One write in any case.
        let tried = match &stored {
            Some(stored) => inner.try_code(realm, stored, &hash).await?,
            None => None,
        };
        let (Some(stored), Some(pending)) = (stored, tried) else {
            inner.decoy().await?;
            attempt.failed();
            return Err(wrong());
        };
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let given = inner.mac(realm, &id, &hash, code)?;
        if !bool::from(given.as_bytes().ct_eq(pending.mac.as_bytes())) {
            attempt.failed();
            return Err(wrong());
        }
        attempt.succeeded();
        let policy = &inner.settings.policy_of(realm).flows;
        let path = format!("{CODES}.{hash}");
        let mut unchanged = doc! {
            format!("{path}.mac"): pending.mac,
            format!("{path}.used"): Bson::Null,
        };
        // A code to an address that is not the user's any more is no proof.
        unchanged.insert(
            policy.field_of(&stored),
            doc! { "$eq": pending.address.as_str() },
        );
        let first = verified(&stored) != Some(pending.address.as_str());
        let unproven = inner.unproven_ways(realm, &stored);
        let mut proven = Proven::new(stored, unchanged);
        proven.unset.extend(unproven);
        proven.set.insert(format!("{path}.used"), true);
        let (field, now_verified) = verifying(&pending.address, inner.clock.now());
        proven.set.insert(field, now_verified);
        if first && proven.stored.contains_key("_password") {
            proven.set.insert("_password", Bson::Null);
            proven.alone = true;
        }
        let entered = inner.enter(realm, proven, client).await?;
        entered.ok_or_else(wrong)
    }
}

/// A code that may be tried.
struct Pending {
    mac: String,
    address: String,
}

impl Inner {
    /// How long codes are good in a realm that has any.
    fn codes_of(&self, realm: &str) -> Result<std::time::Duration> {
        let policy = &self.settings.policy_of(realm).flows;
        match policy.codes {
            true => Ok(policy.code_ttl),
            false => Err(Error::Forbidden(
                "users of this collection do not sign in with codes".into(),
            )),
        }
    }

    /// Makes a code and its letter; the same ones at each try.
    pub(super) async fn code_letter(
        &self,
        realm: &str,
        stored: &Document,
        challenge: &str,
        until: i64,
    ) -> Result<Option<FlowMail>> {
        let policy = &self.settings.policy_of(realm).flows;
        let (Some(address), true) = (policy.address_of(stored), policy.codes) else {
            return Ok(None);
        };
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let code = self.digits(realm, &id, challenge)?;
        let now = self.clock.now();
        let codes = codes(stored);
        match codes.and_then(|codes| codes.get_document(challenge).ok()) {
            // Sent again, unless it has been used meanwhile.
            Some(record) if record.contains_key("used") => return Ok(None),
            Some(_) => {}
            None => {
                let expired = |record: &Bson| {
                    let record = record.as_document();
                    let expires = record.and_then(|record| record.get_datetime("expires").ok());
                    expires.is_none_or(|expires| *expires <= now)
                };
                let old: Document = codes
                    .into_iter()
                    .flatten()
                    .filter(|(_, record)| expired(record))
                    .map(|(hash, _)| (format!("{CODES}.{hash}"), Bson::from("")))
                    .collect();
                let pending = codes.map_or(0, Document::len) - old.len();
                if pending >= MAX_PENDING {
                    tracing::warn!(
                        auth.realm = realm,
                        user.id = %id,
                        "a user has been sent as many codes as there may be at a time"
                    );
                    return Ok(None);
                }
                let record = doc! {
                    "mac": self.mac(realm, &id, challenge, &code)?,
                    "address": address,
                    "expires": DateTime::from_millis(until),
                    "tries": 0_i64,
                };
                let path = format!("{CODES}.{challenge}");
                let unchanged = doc! { "_id": id, &path: { "$exists": false } };
                let mut change = doc! { "$set": { path: record } };
                if !old.is_empty() {
                    change.insert("$unset", old);
                }
                if self.update_hidden(realm, unchanged, change).await?.matched == 0 {
                    return Err(Error::Conflict(
                        "the user was changed in this moment".into(),
                    ));
                }
            }
        }
        let mut values = values(realm, stored, address);
        values.insert("code".to_owned(), code.into());
        values.insert(
            "minutes".to_owned(),
            policy.code_ttl.as_secs().div_ceil(60).into(),
        );
        Ok(Some(FlowMail {
            to: address.to_owned(),
            template: "code",
            values,
        }))
    }

    /// Counts a try at a code; nothing if there is none to try at.
    async fn try_code(
        &self,
        realm: &str,
        stored: &Document,
        hash: &str,
    ) -> Result<Option<Pending>> {
        let record = codes(stored).and_then(|codes| codes.get_document(hash).ok());
        let Some(record) = record else {
            return Ok(None);
        };
        let pending = Pending {
            mac: record.get_str("mac").unwrap_or_default().to_owned(),
            address: record.get_str("address").unwrap_or_default().to_owned(),
        };
        let path = format!("{CODES}.{hash}");
        let good = doc! {
            "_id": stored.get("_id").cloned().unwrap_or(Bson::Null),
            format!("{path}.used"): Bson::Null,
            format!("{path}.tries"): { "$lt": MAX_TRIES },
            format!("{path}.expires"): { "$gt": self.clock.now() },
        };
        let count = doc! { "$inc": { format!("{path}.tries"): 1_i64 } };
        let counted = self.update_hidden(realm, good, count).await?;
        Ok((counted.matched > 0 && !pending.mac.is_empty()).then_some(pending))
    }

    /// Writes something, so that a guess at nobody's code takes as long.
    async fn decoy(&self) -> Result<()> {
        let mut byte = [0_u8; 1];
        getrandom::fill(&mut byte).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let [byte] = byte;
        let update = Update {
            filter: doc! { "_id": i32::from(byte % DECOY_DOCUMENTS) },
            change: Change::Operators(doc! { "$inc": { "tries": 1_i64 } }),
            many: false,
            upsert: true,
            array_filters: Vec::new(),
        };
        self.store.update(DECOYS, update).await?;
        Ok(())
    }

    /// The digits that go with a challenge.
    fn digits(&self, realm: &str, id: &Bson, challenge: &str) -> Result<String> {
        let id = text_of(id)?;
        let parts = [realm.as_bytes(), &id, challenge.as_bytes()];
        let derived = self.master.derive("code to sign in with", &parts);
        let number = derived
            .iter()
            .take(16)
            .fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
        Ok(format!("{:06}", number % 1_000_000))
    }

    /// What the store has of a code. People type spaces and hyphens.
    fn mac(&self, realm: &str, id: &Bson, challenge: &str, code: &str) -> Result<String> {
        let id = text_of(id)?;
        let digits: String = code
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .take(32)
            .collect();
        let parts = [
            realm.as_bytes(),
            &id,
            challenge.as_bytes(),
            digits.as_bytes(),
        ];
        Ok(hex::encode(
            self.master.derive("code to sign in with, kept", &parts),
        ))
    }
}

/// A challenge's name in a document.
fn hash(challenge: &str) -> String {
    hex::encode(Sha256::digest(challenge.as_bytes()))
}

fn codes(stored: &Document) -> Option<&Document> {
    let own = stored.get_document("_coglex").ok()?;
    own.get_document("codes").ok()
}
