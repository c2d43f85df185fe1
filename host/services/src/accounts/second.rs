//! The second factor: codes of authenticator apps, and recovery codes.
//!
//! `_coglex.totp` of a user is `{secret, created, step, failures, wait?, answered?,
//! recovery: {<hash>: true}}`: the secret encrypted, the step whose code was used last,
//! how often in a row a code was wrong, until when no other is looked at, the time of
//! the challenge that was answered last. `_coglex.totp_begun` is `{secret, expires}`
//! until the user has shown a code of it.
//!
//! Whoever opens a session goes through `super::entry`, which asks in here. Failures
//! are counted in the user's own document, before a code is looked at: guesses at once,
//! on many hosts or from many addresses are not more than one after the other. That it
//! makes the user wait, too, is no way to lock somebody out: only who has shown the
//! first factor can fail here.

mod challenge;
mod recovery;
mod totp;

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};

use super::denial::{Challenge, Denial};
use super::entry::Proven;
use super::keys::later;
use super::password::{self, Verified};
use super::session::{self, Sessions};
use super::token::Claims;
use super::{Accounts, Client, Inner, SignedIn, decoded};
use crate::caller::Credentials;
use crate::documents;
use crate::error::{Error, Result};

/// Where it is, in a user's document.
const TOTP: &str = "_coglex.totp";
/// Where it is until it is confirmed.
const BEGUN: &str = "_coglex.totp_begun";
/// How long people have to read a QR code and type what their app shows.
const BEGUN_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long after a sign-in a user without a password need not sign in again.
const RECENT: Duration = Duration::from_secs(10 * 60);
/// Wrong codes in a row before each further one has to wait.
const FREE_FAILURES: i64 = 5;
/// The first wait, which doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest: two dozen guesses a day, of three in a million each.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Times that an attempt starts over because the user changed meanwhile.
const MAX_ROUNDS: usize = 3;
/// What keeps encrypted secrets apart from what else is encrypted.
const PURPOSE: &str = "totp secret";

/// A second factor that is being set up. Shown once.
pub struct TotpBegun {
    /// As people type it (base32).
    pub secret: String,
    /// `otpauth://totp/…`, for a QR code.
    pub uri: String,
    /// Until when it can be confirmed.
    pub expires: DateTime,
}

impl std::fmt::Debug for TotpBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotpBegun")
            .field("secret", &"***")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What a user may know of the own second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TotpState {
    /// Since when there is one.
    pub since: Option<DateTime>,
    /// Recovery codes that are left.
    pub recovery_codes: usize,
}

/// What goes with a code that was right: the session that it opens is written only
/// while `unchanged` holds, with `set` and `unset` in the same write, so that no code
/// counts twice.
struct Spent {
    unchanged: Document,
    set: Document,
    unset: Document,
}

impl Accounts {
    /// What there is of a second factor of who is signed in; nothing if nobody is.
    pub async fn totp(&self, realm: &str, credentials: &Credentials) -> Result<Option<TotpState>> {
        let Some((stored, _)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let totp = totp_of(&stored);
        let since = totp.and_then(|totp| totp.get_datetime("created").ok());
        let codes = totp.and_then(|totp| totp.get_document("recovery").ok());
        Ok(Some(TotpState {
            since: since.copied(),
            recovery_codes: codes.map_or(0, Document::len),
        }))
    }

    /// Begins to set up a second factor for who is signed in and shows the password
    /// once more. Nothing if nobody is signed in.
    pub async fn begin_totp(
        &self,
        realm: &str,
        credentials: &Credentials,
        password: Option<&str>,
        client: &Client,
    ) -> Result<Option<TotpBegun>> {
        let inner = &*self.inner;
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        if totp_of(&stored).is_some() {
            return Err(Denial::TotpEnabled.into());
        }
        inner
            .shown_again(realm, &stored, &claims, password, client)
            .await?;
        let mut secret = [0; totp::SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let id = challenge::id_text(&stored)?;
        let sealed = inner
            .master
            .seal(PURPOSE, &[realm.as_bytes(), &id], &secret)?;
        let expires = later(inner.clock.now(), BEGUN_LIFE);
        let begun = doc! { "secret": binary(sealed), "expires": expires };
        let without = doc! { "_id": claims.id.clone(), TOTP: { "$exists": false } };
        let set = doc! { "$set": { BEGUN: begun } };
        if inner.update_hidden(realm, without, set).await?.matched == 0 {
            return Err(Denial::Changed.into());
        }
        let account = stored.get_str("_key").unwrap_or(realm);
        Ok(Some(TotpBegun {
            secret: totp::text(&secret),
            uri: totp::uri(&inner.settings.issuer, account, &secret),
            expires,
        }))
    }

    /// Takes the second factor into use whose code this is; the user's other sessions
    /// end, which were opened without it. Answers with the recovery codes; nothing if
    /// nobody is signed in.
    pub async fn confirm_totp(
        &self,
        realm: &str,
        credentials: &Credentials,
        code: &str,
        client: &Client,
    ) -> Result<Option<Vec<String>>> {
        let inner = &*self.inner;
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        if totp_of(&stored).is_some() {
            return Err(Denial::TotpEnabled.into());
        }
        let now = inner.clock.now();
        let own = stored.get_document("_coglex").ok();
        let begun = own.and_then(|own| own.get_document("totp_begun").ok());
        let begun = begun.filter(|begun| begun.get_datetime("expires").is_ok_and(|end| *end > now));
        let Some(sealed) = begun.and_then(|begun| begun.get("secret")) else {
            return Err(Denial::TotpNotBegun.into());
        };
        let secret = inner
            .opened(realm, &stored, sealed)?
            .ok_or(Denial::TotpNotBegun)?;
        let key = stored.get_str("_key").unwrap_or_default();
        let attempt = inner.attempt(realm, key, &stored, client)?;
        let Some(step) = totp::step_of(&secret, &digits(code), seconds(now), 0) else {
            attempt.failed();
            return Err(Denial::WrongCode.into());
        };
        attempt.succeeded();
        let (codes, hashes) = recovery::make(realm, &challenge::id_text(&stored)?)?;
        let record = Sessions::of(&stored).record(&claims);
        let record = record.ok_or(Denial::Changed)?;
        let set = doc! {
            TOTP: {
                "secret": sealed.clone(),
                "created": now,
                "step": step,
                "failures": 0_i64,
                "recovery": hashes,
            },
            session::ALL: session::only(&claims, record),
        };
        // The session's record is from before: if it ended or was renewed meanwhile,
        // nothing of that may be undone.
        let path = session::path(&claims.session);
        let unused = record.get("refresh").cloned().unwrap_or(Bson::Null);
        let same = doc! {
            "_id": claims.id.clone(),
            format!("{BEGUN}.secret"): sealed.clone(),
            TOTP: { "$exists": false },
            format!("{path}.refresh"): unused,
            path: { "$exists": true },
        };
        let change = doc! { "$set": set, "$unset": { BEGUN: "" } };
        match inner.update_hidden(realm, same, change).await?.matched {
            0 => Err(Denial::Changed.into()),
            _ => Ok(Some(codes)),
        }
    }

    /// Takes the second factor of who is signed in out of use, against the password and
    /// a code. Answers whether somebody is signed in.
    pub async fn disable_totp(
        &self,
        realm: &str,
        credentials: &Credentials,
        password: Option<&str>,
        code: &str,
        client: &Client,
    ) -> Result<bool> {
        let change = |_: &Document| Ok(doc! { "$unset": { TOTP: "", BEGUN: "" } });
        let proofs = (password, code);
        self.change_totp(realm, credentials, proofs, client, change)
            .await
    }

    /// Gives who is signed in new recovery codes, against the password and a code; the
    /// old ones are void. Nothing if nobody is signed in.
    pub async fn renew_recovery_codes(
        &self,
        realm: &str,
        credentials: &Credentials,
        password: Option<&str>,
        code: &str,
        client: &Client,
    ) -> Result<Option<Vec<String>>> {
        let mut made = Vec::new();
        let change = |stored: &Document| {
            let (codes, hashes) = recovery::make(realm, &challenge::id_text(stored)?)?;
            made = codes;
            Ok(doc! { "$set": { format!("{TOTP}.recovery"): hashes } })
        };
        let proofs = (password, code);
        let signed_in = self
            .change_totp(realm, credentials, proofs, client, change)
            .await?;
        Ok(signed_in.then_some(made))
    }

    /// Takes a user's second factor out of use, for an operator who was convinced in
    /// another way. All sessions of the user end. Answers whether there was one.
    pub async fn reset_totp(&self, realm: &str, id: Bson) -> Result<bool> {
        documents::check_collection(realm)?;
        documents::check_known_id(&id)?;
        let with = doc! { "_id": id, TOTP: { "$exists": true } };
        let change = doc! {
            "$set": { session::ALL: {} },
            "$unset": { TOTP: "", BEGUN: "" },
        };
        let outcome = self.inner.update_hidden(realm, with, change).await?;
        Ok(outcome.matched > 0)
    }

    /// The second step of a sign-in: opens the session that the challenge was given
    /// for, against a code of the authenticator app or a recovery code.
    pub async fn answer_challenge(
        &self,
        realm: &str,
        challenge: &str,
        code: &str,
        client: &Client,
    ) -> Result<SignedIn> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        let now = inner.clock.now();
        let invalid = || Error::from(Denial::ChallengeInvalid);
        let challenge =
            challenge::read(&inner.master, realm, challenge, now).ok_or_else(invalid)?;
        let raw = inner.store.get(realm, challenge.id.clone()).await?;
        let stored = decoded(&raw.ok_or_else(invalid)?)?;
        let answered = totp_of(&stored).map_or(i64::MAX, |totp| whole(totp, "answered"));
        if answered >= challenge.issued || !challenge.is_of(&inner.master, realm, &stored)? {
            return Err(invalid());
        }
        let key = stored.get_str("_key").unwrap_or_default().to_owned();
        let attempt = inner.attempt(realm, &key, &stored, client)?;
        let spent = match inner.spend(realm, &stored, code).await {
            Err(Error::Denied(Denial::WrongCode)) => {
                attempt.failed();
                return Err(Denial::WrongCode.into());
            }
            spent => spent?,
        };
        attempt.succeeded();
        let password = stored.get("_password").cloned().unwrap_or(Bson::Null);
        let mut unchanged = spent.unchanged;
        unchanged.insert("_password", password);
        let mut proven = Proven::new(stored, unchanged);
        proven.set = spent.set;
        proven
            .set
            .insert(format!("{TOTP}.answered"), challenge.issued);
        proven.unset = spent.unset;
        proven.second_factor = true;
        let entered = inner.enter(realm, proven, client).await?;
        // Somebody else was a moment faster with the same code.
        entered.ok_or_else(|| Denial::WrongCode.into())
    }

    /// Changes the second factor of who is signed in, shows the password once more and
    /// has a code.
    async fn change_totp(
        &self,
        realm: &str,
        credentials: &Credentials,
        (password, code): (Option<&str>, &str),
        client: &Client,
        change: impl FnOnce(&Document) -> Result<Document>,
    ) -> Result<bool> {
        let inner = &*self.inner;
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(false);
        };
        let spent = inner
            .shown_whole(realm, &stored, &claims, (password, Some(code)), client)
            .await?;
        let Some(spent) = spent else {
            return Err(Denial::TotpNotEnabled.into());
        };
        let mut change = change(&stored)?;
        // What is taken away whole needs no note of the code.
        let whole = change
            .get_document("$unset")
            .is_ok_and(|unset| unset.contains_key(TOTP));
        if !whole {
            merge(&mut change, "$set", spent.set);
            let replaced = change
                .get_document("$set")
                .is_ok_and(|set| set.contains_key(format!("{TOTP}.recovery")));
            let unset = spent.unset.into_iter();
            let unset = unset.filter(|(path, _)| !(replaced && path.contains(".recovery.")));
            merge(&mut change, "$unset", unset.collect());
        }
        let mut same = doc! { "_id": claims.id };
        same.extend(spent.unchanged);
        match inner.update_hidden(realm, same, change).await?.matched {
            0 => Err(Denial::WrongCode.into()),
            _ => Ok(true),
        }
    }
}

impl Inner {
    /// What is asked of a user who has shown the first factor; nothing of those who
    /// have no second one. `password` is the hash that holds from now on.
    pub(super) fn second_factor(
        &self,
        realm: &str,
        stored: &Document,
        password: &Bson,
    ) -> Result<Option<Challenge>> {
        if totp_of(stored).is_none() {
            return Ok(None);
        }
        let now = self.clock.now();
        challenge::make(&self.master, realm, stored, password, now).map(Some)
    }

    /// Has who is signed in show once more that it is he, before the ways of getting in
    /// are changed: a session may have been stolen. By the password; a user without
    /// one has to have signed in a moment ago.
    pub(super) async fn shown_again(
        &self,
        realm: &str,
        stored: &Document,
        claims: &Claims,
        password: Option<&str>,
        client: &Client,
    ) -> Result<()> {
        let hash = stored.get("_password").filter(|hash| **hash != Bson::Null);
        let Some(hash) = hash else {
            let record = Sessions::of(stored).record(claims);
            let created = record.and_then(|record| record.get_datetime("created").ok());
            let recent = created.is_some_and(|at| later(*at, RECENT) > self.clock.now());
            return match recent {
                true => Ok(()),
                false => Err(Denial::SignInAgain.into()),
            };
        };
        let password = password.ok_or(Denial::WrongPassword)?;
        password::check(password)?;
        let key = stored.get_str("_key").unwrap_or_default();
        let attempt = self.attempt(realm, key, stored, client)?;
        match self.hasher.verify(password, Some(hash)).await? {
            Verified::Yes { .. } => {
                attempt.succeeded();
                Ok(())
            }
            Verified::No => {
                attempt.failed();
                Err(Denial::WrongPassword.into())
            }
        }
    }

    /// The same, and a code of those who have a second factor, to be used up with the
    /// change that it is for.
    async fn shown_whole(
        &self,
        realm: &str,
        stored: &Document,
        claims: &Claims,
        (password, code): (Option<&str>, Option<&str>),
        client: &Client,
    ) -> Result<Option<Spent>> {
        self.shown_again(realm, stored, claims, password, client)
            .await?;
        if totp_of(stored).is_none() {
            return Ok(None);
        }
        let code = code.ok_or(Denial::WrongCode)?;
        self.spend(realm, stored, code).await.map(Some)
    }

    /// Looks at a code of a user who has a second factor. The attempt is counted
    /// before; what is answered has to be written with what the code is for.
    async fn spend(&self, realm: &str, stored: &Document, code: &str) -> Result<Spent> {
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let now = self.clock.now();
        let at = |name: &str| format!("{TOTP}.{name}");
        let mut totp = totp_of(stored).cloned().ok_or(Denial::TotpNotEnabled)?;
        let mut rounds = 0;
        loop {
            let wait = totp.get_datetime("wait").ok().copied();
            if let Some(wait) = wait.filter(|wait| *wait > now) {
                return Err(Error::TooManyAttempts {
                    retry_after: wait.saturating_duration_since(now),
                });
            }
            let failures = whole(&totp, "failures").max(0);
            let failed = failures.saturating_add(1);
            let mut set = doc! { at("failures"): failed };
            if let Some(wait) = wait_after(failed) {
                set.insert(at("wait"), later(now, wait));
            }
            let same = doc! {
                "_id": id.clone(),
                at("secret"): totp.get("secret").cloned().unwrap_or(Bson::Null),
                at("failures"): totp.get("failures").cloned().unwrap_or(Bson::Null),
            };
            let counted = self
                .update_hidden(realm, same, doc! { "$set": set })
                .await?;
            if counted.matched > 0 {
                if failures >= FREE_FAILURES {
                    tracing::warn!(
                        auth.realm = realm,
                        user.id = %id,
                        "somebody has the first factor of a user, and not the second"
                    );
                }
                break;
            }
            rounds += 1;
            if rounds == MAX_ROUNDS {
                return Err(Error::TooManyAttempts {
                    retry_after: Duration::from_secs(1),
                });
            }
            let raw = self.store.get(realm, id.clone()).await?;
            let again = decoded(&raw.ok_or(Denial::Changed)?)?;
            totp = totp_of(&again).cloned().ok_or(Denial::Changed)?;
        }
        let mut spent = Spent {
            unchanged: doc! { at("secret"): totp.get("secret").cloned().unwrap_or(Bson::Null) },
            set: doc! { at("failures"): 0_i64 },
            unset: doc! { at("wait"): "" },
        };
        if let Some(field) = recovery::field(realm, &challenge::id_text(stored)?, code) {
            let known = totp.get_document("recovery").ok();
            if known.is_some_and(|known| known.contains_key(&field)) {
                let path = format!("{TOTP}.recovery.{field}");
                spent
                    .unchanged
                    .insert(path.clone(), doc! { "$exists": true });
                spent.unset.insert(path, "");
                return Ok(spent);
            }
            return Err(Denial::WrongCode.into());
        }
        let sealed = totp.get("secret").cloned().unwrap_or(Bson::Null);
        let Some(secret) = self.opened(realm, stored, &sealed)? else {
            tracing::warn!(
                auth.realm = realm,
                user.id = %id,
                "the secret of a second factor cannot be read: auth.signing_key is another now"
            );
            return Err(Denial::WrongCode.into());
        };
        let used = whole(&totp, "step");
        let step = totp::step_of(&secret, &digits(code), seconds(now), used);
        let step = step.ok_or(Denial::WrongCode)?;
        let last = totp.get("step").cloned().unwrap_or(Bson::Null);
        spent.unchanged.insert(at("step"), last);
        spent.set.insert(at("step"), step);
        Ok(spent)
    }

    fn opened(&self, realm: &str, stored: &Document, sealed: &Bson) -> Result<Option<Vec<u8>>> {
        let Bson::Binary(Binary { bytes, .. }) = sealed else {
            return Ok(None);
        };
        let id = challenge::id_text(stored)?;
        Ok(self.master.unseal(PURPOSE, &[realm.as_bytes(), &id], bytes))
    }
}

fn totp_of(stored: &Document) -> Option<&Document> {
    stored
        .get_document("_coglex")
        .ok()?
        .get_document("totp")
        .ok()
}

/// What is removed with a new password: only who knew the old one has failed at the
/// second factor, and the user need not wait for that any more.
pub(super) fn waits_of(stored: &Document) -> Document {
    match totp_of(stored).is_some() {
        true => doc! { format!("{TOTP}.failures"): "", format!("{TOTP}.wait"): "" },
        false => Document::new(),
    }
}

/// How long to wait after so many failures in a row.
fn wait_after(failures: i64) -> Option<Duration> {
    let beyond = failures.saturating_sub(FREE_FAILURES).min(16);
    let beyond = u32::try_from(beyond).ok()?;
    Some((FIRST_WAIT * 2u32.pow(beyond)).min(LONGEST_WAIT))
}

/// A number of our own, whichever integer the store made of it.
fn whole(document: &Document, name: &str) -> i64 {
    match document.get(name) {
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Int32(number)) => i64::from(*number),
        _ => 0,
    }
}

/// A code as typed, without the gap that apps show in the middle.
fn digits(code: &str) -> String {
    code.chars().filter(|c| *c != ' ').take(64).collect()
}

fn seconds(moment: DateTime) -> i64 {
    moment.timestamp_millis().div_euclid(1000)
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    }
}

fn merge(change: &mut Document, operator: &str, more: Document) {
    if more.is_empty() {
        return;
    }
    match change.get_document_mut(operator) {
        Ok(there) => there.extend(more),
        Err(_) => drop(change.insert(operator, more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_begin_after_five_failures_double_and_have_an_end() {
        assert_eq!(wait_after(4), None);
        let waits: Vec<u64> = (5..14)
            .filter_map(|failures| Some(wait_after(failures)?.as_secs()))
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(wait_after(i64::MAX), Some(LONGEST_WAIT));
    }
}
