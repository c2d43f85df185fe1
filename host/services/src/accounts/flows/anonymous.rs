//! Users without key and password, who get them later and keep their `_id`, and with it
//! what they have made until then.

use bson::{Bson, Document, doc};

use crate::accounts::change::Refresh;
use crate::accounts::entry::Proven;
use crate::accounts::session::{self, Sessions};
use crate::accounts::{Accounts, Client, SignedIn, check_key, decoded};
use crate::caller::{Caller, Credentials};
use crate::documents;
use crate::error::{Error, Result};

/// What their keys begin with.
const PREFIX: &str = "anonymous-";

/// Whether a user has yet to get key and password.
pub(super) fn is_anonymous(stored: &Document) -> bool {
    let own = stored.get_document("_coglex").ok();
    own.is_some_and(|own| own.get_bool("anonymous").unwrap_or(false))
}

impl Accounts {
    /// Makes a user without key and password, and opens a session. It is the only way in
    /// until the user is promoted. `Forbidden` where the realm has no such users.
    pub async fn sign_in_anonymously(
        &self,
        realm: &str,
        document: Document,
        client: &Client,
    ) -> Result<SignedIn> {
        let inner = &*self.inner;
        let policy = inner.settings.policy_of(realm);
        if !policy.flows.anonymous {
            return Err(Error::Forbidden(
                "this collection has no anonymous users".into(),
            ));
        }
        documents::check_collection(realm)?;
        let attempt = inner.newcomers.begin(realm, "", client.address, false);
        let attempt = attempt.map_err(|retry_after| Error::TooManyAttempts { retry_after })?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let key = format!("{PREFIX}{}", hex::encode(random));
        let own = doc! { "anonymous": true };
        let made = self.create_with(&Caller::ApiKey, realm, &key, None, document, own);
        let id = made.await?;
        // Each counts for the address that it comes from.
        attempt.failed();
        let gone = || Error::Conflict("the user was changed in this moment".into());
        let id = id.ok_or_else(gone)?;
        let raw = inner.store.get(realm, id).await?;
        let stored = decoded(&raw.ok_or_else(gone)?)?;
        let entered = inner
            .enter(realm, Proven::new(stored, Document::new()), client)
            .await?;
        entered.ok_or_else(gone)
    }

    /// Gives the anonymous user who is signed in a key and a password, and fields that
    /// are set; other sessions end. Nothing if nobody is signed in. `Conflict` for a key
    /// that is taken, and for who is not anonymous.
    pub async fn promote(
        &self,
        realm: &str,
        credentials: &Credentials,
        key: &str,
        password: &str,
        document: Document,
    ) -> Result<Option<()>> {
        let inner = &*self.inner;
        let policy = inner.settings.policy_of(realm);
        if !policy.sign_up {
            return Err(Error::Forbidden(
                "users of this collection do not sign up themselves".into(),
            ));
        }
        let mut signed_in = None;
        for token in credentials.tokens(realm) {
            if let Some((stored, claims)) = inner.claimed(realm, token).await? {
                signed_in = Some((stored, claims, token));
                break;
            }
        }
        let Some((stored, claims, token)) = signed_in else {
            return Ok(None);
        };
        let not_anonymous = || Error::Conflict("you have a key already".into());
        if !is_anonymous(&stored) {
            return Err(not_anonymous());
        }
        check_key(key)?;
        policy.check_password(key, password)?;
        let mut set = doc! { "_key": key };
        for (name, value) in document {
            if name == "_key" || name == "_password" || name == "_id" {
                continue;
            }
            let limits = &inner.limits;
            documents::check_field(&name, &value, limits.depth, limits.document_bytes)?;
            set.insert(name, value);
        }
        self.check_reachable(realm, key, &set)?;
        let old = stored.get_str("_key").unwrap_or_default();
        let record = Sessions::of(&stored).record(&claims);
        let path = session::path(&claims.session);
        let mut unchanged = doc! { "_coglex.anonymous": true };
        if let Some(refresh) = record.and_then(|record| record.get("refresh")) {
            unchanged.insert(format!("{path}.refresh"), refresh.clone());
        }
        let refresh = Refresh {
            password: Some(password.to_owned()),
            gone: doc! { "_coglex.anonymous": "" },
            unchanged,
            ..Refresh::setting_fields(set)
        };
        match self.change(realm, old, &stored, refresh, Some(token)).await {
            Ok(_) => {}
            Err(Error::NotFound(_)) => return Err(not_anonymous()),
            Err(Error::Conflict(_)) => {
                return Err(Error::Conflict("another user has this key".into()));
            }
            Err(error) => return Err(error),
        }
        self.welcome(realm, key).await;
        Ok(Some(()))
    }

    /// Where addresses have to be verified, a user needs one.
    pub(in crate::accounts) fn check_reachable(
        &self,
        realm: &str,
        key: &str,
        document: &Document,
    ) -> Result<()> {
        let policy = &self.inner.settings.policy_of(realm).flows;
        if policy.verification != super::Verification::Required {
            return Ok(());
        }
        let mut user = document.clone();
        user.insert("_key", Bson::from(key));
        match policy.address_of(&user) {
            Some(_) => Ok(()),
            None => Err(Error::Invalid(format!(
                "`{}` must be an e-mail address",
                match &policy.email_field {
                    Some(field) => field,
                    None => "_key",
                }
            ))),
        }
    }

    /// Has a new user's address verified, where that is asked. The user is there in any
    /// case, and can ask again.
    pub(in crate::accounts) async fn welcome(&self, realm: &str, key: &str) {
        let policy = &self.inner.settings.policy_of(realm).flows;
        if policy.verification == super::Verification::Off {
            return;
        }
        // The server asks: that counts for no client.
        let server = Client::default();
        let asked = self.request_verification(realm, key, &server);
        if let Err(error) = asked.await {
            tracing::warn!(
                auth.realm = realm,
                error = &error as &dyn std::error::Error,
                "a new user's address is not verified now"
            );
        }
    }
}
