//! Accounts and mail: addresses that are verified and changed, passwords that are set
//! anew, codes to sign in with, and users who have no address yet.
//!
//! ```text
//! request ─► outbox ─► letter() ─► mail ─► confirm
//!            (job)     makes the token,
//!                      keeps its hash
//! ```
//!
//! A request does nothing but put a wish into the outbox, for users who exist and for
//! those who do not: what it answers, and how long that takes, tells nobody which. When
//! the letter is about to be sent, [`Accounts::letter`] looks for the user, makes the
//! token and keeps its hash in the user's document:
//! `_coglex.flows.<purpose>: {job, hash?, bound, address, expires, since, sent}`.
//! The token's secret is derived from the signing key and the job, so that a letter that
//! is sent twice has the same link both times, and no link is anywhere at rest.
//!
//! A token is good once, for its purpose, its user and its realm, until it expires, and
//! as long as what it was made for is as it was: the address, and for what takes the
//! place of a password, the password.

mod address;
mod anonymous;
mod code;
mod email;
mod policy;
mod reset;
mod token;
mod verification;

use bson::{Bson, DateTime, Document, doc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::keys::later;
use super::{Accounts, Client, Denial, Inner, check_key, decoded};
use crate::documents;
use crate::error::{Error, Result};
use crate::outbox::{Outbox, Posting};
use std::time::Duration;

pub use address::is_address;
pub use code::CodeChallenge;
pub use policy::{FlowPolicy, Verification};
pub use verification::AddressState;

/// Letters of one purpose to one user within [`PERIOD`], however many ask.
const MAX_LETTERS: i64 = 6;
const PERIOD: Duration = Duration::from_secs(3600);
/// Where the address is noted that was last verified: `{verified, at}`.
const EMAIL: &str = "_coglex.email";

/// What a letter's link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To show that an address is the user's.
    Verify,
    /// To set a new password.
    Reset,
    /// To take another address.
    EmailChange,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Verify => "verify",
            Purpose::Reset => "reset",
            Purpose::EmailChange => "email_change",
        }
    }

    /// The template of its letter.
    fn template(self) -> &'static str {
        match self {
            Purpose::Verify => "verify",
            Purpose::Reset => "reset",
            Purpose::EmailChange => "email-change",
        }
    }

    /// Where its token is, in the user's document.
    fn path(self) -> String {
        format!("_coglex.flows.{}", self.name())
    }
}

/// A letter that a flow wants sent. Kept in the outbox: nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLetter {
    /// The users' collection.
    realm: String,
    /// `_key` of whom it is for, if there is such a user.
    key: String,
    /// What it is for.
    #[serde(flatten)]
    what: What,
    /// When it is of no use any more, in milliseconds since 1970.
    until: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum What {
    Link {
        purpose: Purpose,
        /// The new address, where that is what it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
    Code {
        /// The hash of the challenge that the code goes with.
        challenge: String,
    },
}

impl FlowLetter {
    /// Whether it is of use for minutes only.
    pub(crate) fn is_urgent(&self) -> bool {
        matches!(self.what, What::Code { .. })
    }

    fn line(&self) -> &'static str {
        match &self.what {
            What::Link { purpose, .. } => purpose.template(),
            What::Code { .. } => "code",
        }
    }
}

/// A letter as it is to be sent.
pub struct FlowMail {
    /// The reader.
    pub to: String,
    /// The template.
    pub template: &'static str,
    /// What is filled in.
    pub values: Map<String, Value>,
}

impl std::fmt::Debug for FlowMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values have the link or the code.
        f.debug_struct("FlowMail")
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

impl Accounts {
    /// The same service, whose flows send letters through this outbox.
    #[must_use]
    pub fn with_outbox(self, outbox: Outbox) -> Self {
        Self {
            outbox: Some(outbox),
            ..self
        }
    }

    /// The field with the address of a realm's users, where mail is sent there: who may
    /// write it decides who gets the link for a new password.
    pub fn address_field(&self, realm: &str) -> Option<String> {
        self.outbox.as_ref().filter(|outbox| outbox.is_on())?;
        let field = &self.inner.settings.policy_of(realm).flows.email_field;
        let field = field.as_deref().unwrap_or("email");
        // What is no name of a field holds no address either.
        let is_name = !field.contains(['.', '$', '\0']) && documents::check_visible(field).is_ok();
        (is_name && !field.is_empty()).then(|| field.to_owned())
    }

    /// Makes the letter of a job of the outbox. Nothing if there is none to send: no
    /// such user, no address, too late, too many already, or done with.
    pub async fn letter(&self, letter: &FlowLetter, job: &str) -> Result<Option<FlowMail>> {
        let inner = &*self.inner;
        if inner.clock.now().timestamp_millis() >= letter.until {
            return Ok(None);
        }
        let by_key = doc! { "_key": { "$eq": &letter.key } };
        let Some(stored) = inner.find_one(&letter.realm, by_key).await? else {
            return Ok(None);
        };
        match &letter.what {
            What::Link { purpose, address } => {
                let link = inner.link(&letter.realm, *purpose, &stored, address.as_deref(), job);
                link.await
            }
            What::Code { challenge } => {
                let code = inner.code_letter(&letter.realm, &stored, challenge, letter.until);
                code.await
            }
        }
    }

    /// Puts a letter into the outbox, for somebody who may not exist. Each counts for
    /// the key and the address that it is asked from.
    async fn ask_for(&self, realm: &str, key: &str, what: What, client: &Client) -> Result<()> {
        let inner = &*self.inner;
        let outbox = self.outbox()?;
        documents::check_collection(realm)?;
        check_key(key)?;
        let attempt = inner.letters.begin(realm, key, client.address, false);
        let attempt = attempt.map_err(|retry_after| Error::TooManyAttempts { retry_after })?;
        // Each counts, whatever becomes of it.
        attempt.failed();
        let life = inner.life_of(realm, &what);
        let letter = FlowLetter {
            realm: realm.to_owned(),
            key: key.to_owned(),
            what,
            until: later(inner.clock.now(), life).timestamp_millis(),
        };
        let line = letter.line();
        outbox.post(line, None, &Posting::Flow(letter)).await?;
        Ok(())
    }

    /// Sends a notice, if mail can be sent. That it could not is for the log: what it is
    /// about has happened.
    async fn notice(&self, template: &'static str, to: &str, values: Value) {
        let Some(outbox) = self.outbox.as_ref().filter(|outbox| outbox.is_on()) else {
            return;
        };
        let values = match values {
            Value::Object(values) => values,
            _ => Map::new(),
        };
        let posting = Posting::Template {
            to: to.to_owned(),
            template: template.to_owned(),
            values,
            reply_to: None,
        };
        if let Err(error) = outbox.post(template, None, &posting).await {
            tracing::warn!(
                mail.template = template,
                error = &error as &dyn std::error::Error,
                "a notice was not taken into the outbox"
            );
        }
    }

    fn outbox(&self) -> Result<&Outbox> {
        let outbox = self.outbox.as_ref().ok_or(Error::MailUnavailable)?;
        outbox.check_on()?;
        Ok(outbox)
    }

    /// The outbox, if this purpose's letters have a page to link to.
    fn linked(&self, realm: &str, purpose: Purpose) -> Result<()> {
        let policy = &self.inner.settings.policy_of(realm).flows;
        match policy.page(purpose) {
            Some(_) => Ok(()),
            None => Err(Error::MailUnavailable),
        }
    }
}

impl Inner {
    fn life_of(&self, realm: &str, what: &What) -> Duration {
        let policy = &self.settings.policy_of(realm).flows;
        match what {
            What::Link { purpose, .. } => policy.life(*purpose),
            What::Code { .. } => policy.code_ttl,
        }
    }

    /// Whether nobody but who reads mail to this user's address can have verified it.
    pub(super) fn is_verified(&self, realm: &str, stored: &Document) -> bool {
        let policy = &self.settings.policy_of(realm).flows;
        policy
            .address_of(stored)
            .is_some_and(|address| verified(stored) == Some(address))
    }

    /// Whether a user may be signed in as far as the address goes. `set` is what is
    /// written along with the sign-in.
    pub(super) fn check_verified(
        &self,
        realm: &str,
        stored: &Document,
        set: &Document,
    ) -> Result<()> {
        let policy = &self.settings.policy_of(realm).flows;
        if policy.verification != Verification::Required
            || set.contains_key(EMAIL)
            || anonymous::is_anonymous(stored)
            || self.is_verified(realm, stored)
        {
            return Ok(());
        }
        Err(Denial::EmailNotVerified.into())
    }

    /// Makes a token and its letter; the same ones at each try of the same job.
    async fn link(
        &self,
        realm: &str,
        purpose: Purpose,
        stored: &Document,
        new_address: Option<&str>,
        job: &str,
    ) -> Result<Option<FlowMail>> {
        let policy = &self.settings.policy_of(realm).flows;
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let current = policy.address_of(stored);
        let Some(address) = new_address.or(current) else {
            return Ok(None);
        };
        let Some(page) = policy.page(purpose) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let token = token::FlowToken::of_job(&self.master, realm, purpose, &id, job)?;
        let path = purpose.path();
        let record = record(stored, purpose);
        let same_job = record.is_some_and(|record| record.get_str("job").ok() == Some(job));
        if same_job {
            // Sent again, unless it has been used meanwhile.
            if record.is_none_or(|record| record.get_str("hash").is_err()) {
                return Ok(None);
            }
        } else {
            let Some((since, sent)) = allowance(record, now) else {
                tracing::warn!(
                    auth.realm = realm,
                    user.id = %id,
                    mail.template = purpose.template(),
                    "a user has been sent as many letters of this kind as there may be"
                );
                return Ok(None);
            };
            let made = doc! {
                "job": job,
                "hash": token.hash(),
                "bound": self.bound(realm, purpose, stored),
                "address": address,
                "expires": later(now, policy.life(purpose)),
                "since": since,
                "sent": sent,
            };
            // What was there, so that of two hosts one makes the token.
            let before = match record.and_then(|record| record.get_str("job").ok()) {
                Some(job) => Bson::from(job),
                None => Bson::Null,
            };
            let unchanged = doc! { "_id": id, format!("{path}.job"): before };
            let set = doc! { "$set": { path: made } };
            if self.update_hidden(realm, unchanged, set).await?.matched == 0 {
                return Err(Error::Conflict(
                    "the user was changed in this moment".into(),
                ));
            }
        }
        let page = policy::of_realm(page, realm);
        let link = policy::with_token(&page, &token.write(&self.master, realm, purpose)?);
        let minutes = policy.life(purpose).as_secs().div_ceil(60);
        let mut values = values(realm, stored, address);
        values.insert("link".to_owned(), link.into());
        values.insert("minutes".to_owned(), minutes.into());
        Ok(Some(FlowMail {
            to: address.to_owned(),
            template: purpose.template(),
            values,
        }))
    }

    /// The user whose token this is, and what it was made for, if it is good.
    async fn redeemed(
        &self,
        realm: &str,
        purpose: Purpose,
        text: &str,
    ) -> Result<(Document, Redeemed)> {
        use subtle::ConstantTimeEq as _;

        documents::check_collection(realm)?;
        let invalid = || Error::from(Denial::TokenInvalid);
        let token = token::FlowToken::read(&self.master, realm, purpose, text);
        let token = token.ok_or_else(invalid)?;
        let raw = self.store.get(realm, token.id.clone()).await?;
        let stored = decoded(&raw.ok_or_else(invalid)?)?;
        let made = record(&stored, purpose).ok_or_else(invalid)?;
        let text = |name: &str| made.get_str(name).map_err(|_| invalid());
        let hash = text("hash")?;
        let same = |known: &str, given: &str| bool::from(known.as_bytes().ct_eq(given.as_bytes()));
        let good = same(hash, &token.hash())
            && same(text("bound")?, &self.bound(realm, purpose, &stored))
            && made
                .get_datetime("expires")
                .is_ok_and(|expires| *expires > self.clock.now());
        if !good {
            return Err(invalid());
        }
        let path = format!("{}.hash", purpose.path());
        let redeemed = Redeemed {
            address: text("address")?.to_owned(),
            unchanged: doc! { &path: hash },
            gone: doc! { path: "" },
        };
        Ok((stored, redeemed))
    }

    /// What a token dies with: the address, and for what takes the place of a password
    /// the password.
    fn bound(&self, realm: &str, purpose: Purpose, stored: &Document) -> String {
        let policy = &self.settings.policy_of(realm).flows;
        let address = policy.address_of(stored).unwrap_or_default();
        let password = match purpose {
            Purpose::Verify => "",
            Purpose::Reset | Purpose::EmailChange => {
                stored.get_str("_password").unwrap_or_default()
            }
        };
        let parts = [
            purpose.name().as_bytes(),
            address.as_bytes(),
            password.as_bytes(),
        ];
        hex::encode(
            self.master
                .derive("what a mailed token is bound to", &parts),
        )
    }
}

/// A token that is good.
struct Redeemed {
    /// Where it was sent, or the new address.
    address: String,
    /// What must still hold when it is used up.
    unchanged: Document,
    /// What is removed, so that it is used up.
    gone: Document,
}

/// The address that was last verified.
fn verified(stored: &Document) -> Option<&str> {
    let own = stored.get_document("_coglex").ok()?;
    own.get_document("email").ok()?.get_str("verified").ok()
}

/// What to set so that this address counts as verified.
pub(super) fn verifying(address: &str, now: DateTime) -> (String, Bson) {
    (
        EMAIL.to_owned(),
        doc! { "verified": address, "at": now }.into(),
    )
}

/// What is stored of a purpose's last token.
fn record(stored: &Document, purpose: Purpose) -> Option<&Document> {
    let own = stored.get_document("_coglex").ok()?;
    let flows = own.get_document("flows").ok()?;
    flows.get_document(purpose.name()).ok()
}

/// Since when letters are counted, and how many there are with one more; nothing if
/// there have been enough.
fn allowance(record: Option<&Document>, now: DateTime) -> Option<(DateTime, i64)> {
    let before = record.and_then(|record| {
        let since = *record.get_datetime("since").ok()?;
        let sent = match record.get("sent")? {
            Bson::Int32(sent) => i64::from(*sent),
            Bson::Int64(sent) => *sent,
            _ => return None,
        };
        (later(since, PERIOD) > now).then_some((since, sent))
    });
    match before {
        None => Some((now, 1)),
        Some((since, sent)) if sent < MAX_LETTERS => Some((since, sent + 1)),
        Some(_) => None,
    }
}

/// What every letter may say of its reader.
fn values(realm: &str, stored: &Document, address: &str) -> Map<String, Value> {
    let values = json!({
        "realm": realm,
        "key": stored.get_str("_key").unwrap_or_default(),
        "address": address,
    });
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_by_the_hour() {
        let at = |minutes: i64| DateTime::from_millis(minutes * 60_000);
        let mut record = None;
        for sent in 1..=MAX_LETTERS {
            let (since, count) = allowance(record.as_ref(), at(sent)).unwrap();
            assert_eq!((since, count), (at(1), sent));
            record = Some(doc! { "since": since, "sent": count });
        }
        assert_eq!(allowance(record.as_ref(), at(60)), None);
        assert_eq!(allowance(record.as_ref(), at(61)), Some((at(61), 1)));
    }
}
