//! Users' identities at providers: `_coglex.identities` is a list of
//! `{id, provider, issuer, subject, email?, linked}`, whose `id` is a hash of issuer and
//! subject, under a unique index: nobody is two users of a realm.
//!
//! Whose account somebody gets who comes from a provider for the first time is decided
//! in [`Accounts::user_of`]. An account with the same address is only given to them if
//! both the provider and a letter of ours say that the address is theirs. Without the
//! second, somebody could have signed up with a victim's address beforehand and wait.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bson::{Bson, DateTime, Document, doc};
use coglex_oauth::Identity;
use sha2::{Digest as _, Sha256};

use super::super::denial::Denial;
use super::super::flows::{Verification, is_address, verifying};
use super::super::session::{self, Sessions};
use super::super::token::Claims;
use super::super::{Accounts, Client, Inner, decoded};
use crate::caller::{Caller, Credentials};
use crate::documents;
use crate::error::{Error, Result};
use crate::storage::IndexSpec;

/// Where they are, in a user's document.
pub(in crate::accounts) const ALL: &str = "_coglex.identities";
/// What they are looked up by.
const ID: &str = "_coglex.identities.id";
/// Of one user.
const MAX: usize = 16;

/// Realms whose index is known to be there.
#[derive(Default)]
pub(in crate::accounts) struct Indexed(Mutex<HashSet<String>>);

/// An identity as its user may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnIdentity {
    /// What it is unlinked by.
    pub id: String,
    /// The provider's name.
    pub provider: String,
    /// The address that the provider told when it was linked.
    pub email: Option<String>,
    /// Since when it is linked.
    pub linked: DateTime,
}

impl Accounts {
    /// The identities of who is signed in; nothing if nobody is.
    pub async fn identities(
        &self,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<Option<Vec<OwnIdentity>>> {
        let Some((stored, _)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let own = |record: &Bson| {
            let record = record.as_document()?;
            Some(OwnIdentity {
                id: record.get_str("id").ok()?.to_owned(),
                provider: record.get_str("provider").ok()?.to_owned(),
                email: record.get_str("email").ok().map(str::to_owned),
                linked: *record.get_datetime("linked").ok()?,
            })
        };
        Ok(Some(list(&stored).iter().filter_map(own).collect()))
    }

    /// Takes an identity from who is signed in and shows once more that it is he.
    /// Answers whether there was one; nothing if nobody is signed in.
    pub async fn unlink(
        &self,
        realm: &str,
        credentials: &Credentials,
        id: &str,
        password: Option<&str>,
        client: &Client,
    ) -> Result<Option<bool>> {
        let inner = &*self.inner;
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let is_it = |record: &&Bson| {
            let record = record.as_document();
            record.is_some_and(|record| record.get_str("id").is_ok_and(|one| one == id))
        };
        if !list(&stored).iter().any(|record| is_it(&record)) {
            return Ok(Some(false));
        }
        inner
            .shown_again(realm, &stored, &claims, password, client)
            .await?;
        // Another way in has to be left, also if two are unlinked at once.
        let another = doc! {
            "_id": claims.id,
            ID: id,
            "$or": [
                { "_password": { "$type": "string" } },
                { format!("{ALL}.1"): { "$exists": true } },
            ],
        };
        let change = doc! { "$pull": { ALL: { "id": id } } };
        match inner.update_hidden(realm, another, change).await?.matched {
            0 => Err(Denial::LastWayIn.into()),
            _ => Ok(Some(true)),
        }
    }

    /// The user whom somebody is signed in as, by a provider's word; made if there is
    /// none and the realm takes new users.
    pub(super) async fn user_of(
        &self,
        realm: &str,
        provider: &str,
        identity: &Identity,
    ) -> Result<Bson> {
        let inner = &*self.inner;
        inner.ensure_identities(realm).await?;
        let id = hash(identity);
        let by_identity = doc! { ID: &id };
        let found = inner.find_one(realm, by_identity.clone()).await?;
        if let Some(stored) = found {
            return Ok(stored.get("_id").cloned().unwrap_or(Bson::Null));
        }
        let policy = inner.settings.policy_of(realm);
        let now = inner.clock.now();
        let email = identity.email.as_ref();
        let email = email.filter(|email| email.verified && is_address(&email.address));
        let record = record(&id, provider, identity, now);
        if let Some(email) = email
            && let Some(known) = inner.with_address(realm, &email.address).await?
        {
            // Both have to say so; see above.
            if !email.authoritative || !inner.is_verified(realm, &known) {
                return Err(Denial::AccountExists.into());
            }
            let id = known.get("_id").cloned().unwrap_or(Bson::Null);
            let (field, _) = verifying(&email.address, now);
            let still = doc! {
                "_id": id.clone(),
                format!("{field}.verified"): email.address.as_str(),
                format!("{ALL}.{}", MAX - 1): { "$exists": false },
            };
            return match inner.push(realm, still, record).await? {
                true => Ok(id),
                false => Err(Denial::AccountExists.into()),
            };
        }
        if !policy.sign_up {
            return Err(Denial::SignUpClosed.into());
        }
        if policy.flows.verification == Verification::Required && email.is_none() {
            return Err(Denial::EmailNotVerified.into());
        }
        let mut document = Document::new();
        let mut own = doc! { "identities": [record] };
        // An address that is not verified names nobody: it may be another's. One that
        // the provider is not the one to vouch for does not count as verified here, so
        // that its owner can still take the account over by a letter.
        let mut key = format!("{provider}:{}", identity.subject);
        if let Some(email) = email {
            match policy.flows.email_field.as_deref() {
                None | Some("_key") => key.clone_from(&email.address),
                Some(field) => drop(document.insert(field, email.address.as_str())),
            }
            if email.authoritative {
                own.insert(
                    "email",
                    doc! { "verified": email.address.as_str(), "at": now },
                );
            }
        }
        if key.len() > super::super::MAX_KEY_BYTES {
            key = format!("{provider}:{id}");
        }
        let caller = Caller::ApiKey;
        let made = self.create_with(&caller, realm, &key, None, document, own);
        match made.await {
            Ok(Some(id)) => {
                if email.is_some_and(|email| !email.authoritative) {
                    self.welcome(realm, &key).await;
                }
                Ok(id)
            }
            Ok(None) => Err(Denial::AccountExists.into()),
            // The same person, in two windows.
            Err(Error::Conflict(_)) => {
                let found = inner.find_one(realm, by_identity).await?;
                let found = found.ok_or(Denial::Changed)?;
                Ok(found.get("_id").cloned().unwrap_or(Bson::Null))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the user of a session an identity.
    pub(super) async fn link(
        &self,
        realm: &str,
        provider: &str,
        identity: &Identity,
        claims: &Claims,
    ) -> Result<()> {
        let inner = &*self.inner;
        inner.ensure_identities(realm).await?;
        let raw = inner.store.get(realm, claims.id.clone()).await?;
        let stored = decoded(&raw.ok_or(Denial::SignInAgain)?)?;
        let now = inner.clock.now();
        if Sessions::of(&stored).open(claims, now).is_none() {
            return Err(Denial::SignInAgain.into());
        }
        let id = hash(identity);
        let has = |record: &Bson| {
            let record = record.as_document();
            record.is_some_and(|record| record.get_str("id").is_ok_and(|one| one == id))
        };
        if list(&stored).iter().any(has) {
            return Ok(());
        }
        let still = doc! {
            "_id": claims.id.clone(),
            session::path(&claims.session): { "$exists": true },
            ID: { "$ne": &id },
            format!("{ALL}.{}", MAX - 1): { "$exists": false },
        };
        let record = record(&id, provider, identity, now);
        match inner.push(realm, still, record).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denial::Changed.into()),
            Err(Error::Conflict(_)) => Err(Denial::IdentityTaken.into()),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// The user with this address. A key that was typed in another case is the same
    /// address to people, and to most mail servers.
    async fn with_address(&self, realm: &str, address: &str) -> Result<Option<Document>> {
        let policy = &self.settings.policy_of(realm).flows;
        let field = policy.email_field.as_deref().unwrap_or("_key");
        let mut spellings = vec![address.to_owned()];
        let lower = address.to_ascii_lowercase();
        if lower != address {
            spellings.push(lower);
        }
        self.find_one(realm, doc! { field: { "$in": spellings } })
            .await
    }

    async fn push(&self, realm: &str, still: Document, record: Document) -> Result<bool> {
        let change = doc! { "$push": { ALL: record }, "$unset": { "_coglex.anonymous": "" } };
        let pushed = self.update_hidden(realm, still, change).await?;
        Ok(pushed.matched > 0)
    }

    /// What an account loses whose owner shows for the first time that the address is
    /// the owner's: ways in that whoever made it may have left for himself. A second
    /// factor is none, and stays: who reads mail must not get around it.
    pub(in crate::accounts) fn unproven_ways(&self, realm: &str, stored: &Document) -> Document {
        match self.is_verified(realm, stored) {
            true => Document::new(),
            false => doc! { ALL: "" },
        }
    }

    /// Makes the realm's unique index, once in this process's life.
    async fn ensure_identities(&self, realm: &str) -> Result<()> {
        let is_known = |realm: &str| {
            let known = self.identities.0.lock();
            known
                .unwrap_or_else(PoisonError::into_inner)
                .contains(realm)
        };
        if is_known(realm) {
            return Ok(());
        }
        let index = IndexSpec {
            name: Some(documents::IDENTITY_INDEX.into()),
            keys: doc! { ID: 1 },
            unique: true,
            sparse: true,
            expire_after: None,
        };
        self.store.create_index(realm, index).await?;
        let mut known = self
            .identities
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(realm.to_owned());
        Ok(())
    }
}

fn list(stored: &Document) -> &[Bson] {
    let own = stored.get_document("_coglex").ok();
    let list = own.and_then(|own| own.get_array("identities").ok());
    list.map_or(&[], Vec::as_slice)
}

fn record(id: &str, provider: &str, identity: &Identity, now: DateTime) -> Document {
    let mut record = doc! {
        "id": id,
        "provider": provider,
        "issuer": &identity.issuer,
        "subject": &identity.subject,
        "linked": now,
    };
    let email = identity.email.as_ref().map(|email| email.address.as_str());
    if let Some(email) = email.filter(|email| email.len() <= 320) {
        record.insert("email", email);
    }
    record
}

/// What somebody is known by. Lengths, so that no two pairs read the same.
pub(super) fn hash(identity: &Identity) -> String {
    let mut hash = Sha256::new();
    for part in [&identity.issuer, &identity.subject] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coglex_oauth::Email;

    use super::*;
    use crate::accounts::tests::settings;
    use crate::documents::DocumentLimits;
    use crate::storage::embedded::EmbeddedStore;

    /// Somebody whom a provider knows by this address, which it has verified.
    fn somebody(issuer: &str, authoritative: bool) -> Identity {
        Identity {
            issuer: issuer.to_owned(),
            subject: "1".to_owned(),
            email: Some(Email {
                address: "ann@example.org".to_owned(),
                verified: true,
                authoritative,
            }),
            name: None,
        }
    }

    /// Whether who signs up by one provider shares an account with who comes by another
    /// with the same address, and whether a letter to that address would take the
    /// first one's identity away.
    async fn shares(authoritative: bool) -> (bool, bool) {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("db"), Default::default()).unwrap();
        let accounts = Accounts::new(Arc::new(store), settings(), DocumentLimits::default());
        let first = somebody("https://one.example", authoritative);
        let first = accounts.user_of("users", "one", &first).await.unwrap();
        let raw = accounts.inner.store.get("users", first.clone()).await;
        let stored = decoded(&raw.unwrap().unwrap()).unwrap();
        let gone = accounts.inner.unproven_ways("users", &stored);
        let other = somebody("https://other.example", true);
        let shared = match accounts.user_of("users", "other", &other).await {
            Ok(id) => id == first,
            Err(Error::Denied(Denial::AccountExists)) => false,
            Err(error) => panic!("{error}"),
        };
        (shared, gone.contains_key(ALL))
    }

    #[tokio::test]
    async fn an_address_that_a_provider_only_passes_on_is_not_its_users_yet() {
        assert_eq!(shares(false).await, (false, true));
        assert_eq!(shares(true).await, (true, false));
    }
}
