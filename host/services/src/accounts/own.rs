//! What users do to their own sessions and passwords, by a token of theirs alone.

use bson::{Bson, Document, doc};

use super::change::Refresh;
use super::session::{self, OwnSession, Sessions};
use super::token::Claims;
use super::{Accounts, Client, decoded};
use crate::caller::Credentials;
use crate::documents;
use crate::error::{Error, Result};

/// What became of a user's wish to change the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordChange {
    /// It is changed, and the user's other sessions have ended.
    Changed,
    /// The old password is wrong.
    Wrong,
    /// Nobody is signed in.
    SignedOut,
}

impl Accounts {
    /// The open sessions of who is signed in; none if nobody is.
    pub async fn sessions(
        &self,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<Option<Vec<OwnSession>>> {
        let now = self.inner.clock.now();
        let found = self.claimed(realm, credentials).await?;
        Ok(found.map(|(stored, claims)| Sessions::of(&stored).list(&claims, now)))
    }

    /// Ends one session of who is signed in. Answers whether it was there; nothing if
    /// nobody is signed in.
    pub async fn end_session(
        &self,
        realm: &str,
        credentials: &Credentials,
        id: &str,
    ) -> Result<Option<bool>> {
        let Some((_, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        if !session::is_id(id) {
            return Ok(Some(false));
        }
        let path = format!("{}.{id}", session::ALL);
        let theirs = doc! { "_id": claims.id, &path: { "$exists": true } };
        let change = doc! { "$unset": { path: "" } };
        let ended = self.inner.update_hidden(realm, theirs, change).await?;
        Ok(Some(ended.matched > 0))
    }

    /// Ends all sessions of who is signed in but this one. Answers how many were
    /// open; nothing if nobody is signed in.
    pub async fn end_other_sessions(
        &self,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<Option<usize>> {
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let sessions = Sessions::of(&stored);
        let others = sessions.list(&claims, self.inner.clock.now());
        // By name, so that neither this one, which may be renewed just now, is touched,
        // nor a sign-in undone that comes after this.
        let others: Vec<String> = others
            .into_iter()
            .filter(|session| !session.current)
            .map(|session| session.id)
            .collect();
        let ended: Document = others
            .iter()
            .map(|id| (format!("{}.{id}", session::ALL), Bson::from("")))
            .collect();
        if !ended.is_empty() {
            let change = doc! { "$unset": ended };
            let theirs = doc! { "_id": claims.id };
            self.inner.update_hidden(realm, theirs, change).await?;
        }
        Ok(Some(others.len()))
    }

    /// Gives who is signed in a new password, if the old one is right. All other
    /// sessions end.
    pub async fn change_password(
        &self,
        realm: &str,
        credentials: &Credentials,
        old: &str,
        new: &str,
        client: &Client,
    ) -> Result<PasswordChange> {
        let inner = &*self.inner;
        let mut signed_in = None;
        for token in credentials.tokens(realm) {
            if let Some((stored, _)) = inner.claimed(realm, token).await? {
                signed_in = Some((stored, token));
                break;
            }
        }
        let Some((stored, token)) = signed_in else {
            return Ok(PasswordChange::SignedOut);
        };
        super::password::check(old)?;
        let key = stored.get_str("_key").unwrap_or_default().to_owned();
        inner.settings.policy_of(realm).check_password(&key, new)?;
        // Who has stolen a session must not guess here faster than at the door.
        let attempt = inner.attempt(realm, &key, &stored, client)?;
        let verified = inner.hasher.verify(old, stored.get("_password")).await?;
        if verified == super::password::Verified::No {
            attempt.failed();
            return Ok(PasswordChange::Wrong);
        }
        attempt.succeeded();
        let refresh = Refresh {
            password: Some(new.to_owned()),
            ..Refresh::setting_fields(Document::new())
        };
        let changed = inner.apply_refresh(realm, &key, &stored, refresh, Some(token));
        match changed.await {
            Ok(_) => Ok(PasswordChange::Changed),
            // Renamed or deleted while we hashed.
            Err(Error::NotFound(_)) => Ok(PasswordChange::SignedOut),
            Err(error) => Err(error),
        }
    }

    /// The stored user among a request's credentials, and the session it is by.
    pub(super) async fn claimed(
        &self,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<Option<(Document, Claims)>> {
        for token in credentials.tokens(realm) {
            if let Some(found) = self.inner.claimed(realm, token).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl super::Inner {
    /// The stored user whose session the token is, and what the token says.
    pub(super) async fn claimed(
        &self,
        realm: &str,
        token: &str,
    ) -> Result<Option<(Document, Claims)>> {
        documents::check_collection(realm)?;
        // Nobody reaches the store with a token that we did not sign.
        let Some(claims) = self.tokens.verify(realm, token).await? else {
            return Ok(None);
        };
        let Some(raw) = self.store.get(realm, claims.id.clone()).await? else {
            return Ok(None);
        };
        let stored = decoded(&raw)?;
        let is_open = Sessions::of(&stored)
            .open(&claims, self.clock.now())
            .is_some();
        Ok(is_open.then_some((stored, claims)))
    }
}
