//! From a proof of who somebody is to an open session. Every way of signing in
//! ends here, so that what else is asked of a user is asked in one place.

use bson::{Bson, Document, doc};

use super::denial::Denial;
use super::renewal::RefreshToken;
use super::session::{self, NewSession, Sessions};
use super::token::Claims;
use super::{Client, Inner, SignedIn};
use crate::error::Result;

/// A user who has shown who he is, by a password or by something else.
pub(super) struct Proven {
    /// The user, as stored when the proof was looked at.
    pub(super) stored: Document,
    /// What the proof rests on: a condition that must still hold when the session is
    /// opened, or the proof is void.
    pub(super) unchanged: Document,
    /// Hidden fields that are set in the same write.
    pub(super) set: Document,
    /// Hidden fields that are removed in the same write, such as a code that is used
    /// up.
    pub(super) unset: Document,
    /// Whether the user's other sessions end in the same write.
    pub(super) alone: bool,
    /// Whether a second factor has been shown with it.
    pub(super) second_factor: bool,
}

impl Proven {
    /// A proof that rests on this, and changes nothing.
    pub(super) fn new(stored: Document, unchanged: Document) -> Self {
        Self {
            stored,
            unchanged,
            set: Document::new(),
            unset: Document::new(),
            alone: false,
            second_factor: false,
        }
    }
}

impl Inner {
    /// Opens a session for somebody who has shown who he is. Nothing if what the
    /// proof rests on has changed meanwhile; then nothing is written either. A user
    /// with a second factor who has not shown that yet is `Denied` with a challenge.
    pub(super) async fn enter(
        &self,
        realm: &str,
        proven: Proven,
        client: &Client,
    ) -> Result<Option<SignedIn>> {
        let Proven {
            stored,
            unchanged,
            mut set,
            mut unset,
            alone,
            second_factor,
        } = proven;
        self.check_verified(realm, &stored, &set)?;
        let now = self.clock.now();
        if !second_factor {
            let hashes = [&set, &unchanged, &stored];
            let mut hashes = hashes.iter().filter_map(|one| one.get("_password"));
            let password = hashes.next().cloned().unwrap_or(Bson::Null);
            if let Some(challenge) = self.second_factor(realm, &stored, &password)? {
                return self
                    .stop_short(realm, &stored, unchanged, set, unset, alone)
                    .await?
                    .then(|| Err(Denial::SecondFactorRequired(challenge).into()))
                    .transpose();
            }
        }
        let session = NewSession::open(now, self.settings.policy_of(realm))?;
        let id = stored.get("_id").cloned().unwrap_or(Bson::Null);
        let refresh = RefreshToken::first(Claims {
            id: id.clone(),
            session: session.id.clone(),
        })?;
        let record = session.record(client, refresh.hash());
        if alone {
            set.insert(session::ALL, session::only(&refresh.claims, &record));
        } else {
            set.insert(session.path(), record);
            unset.extend(Sessions::of(&stored).surplus(now));
        }
        let mut change = doc! { "$set": set };
        if !unset.is_empty() {
            change.insert("$unset", unset);
        }
        let mut still = doc! { "_id": id };
        still.extend(unchanged);
        if self.update_hidden(realm, still, change).await?.matched == 0 {
            return Ok(None);
        }
        let signed_in = self.tokens_for(realm, stored, &refresh, session.expires());
        signed_in.await.map(Some)
    }

    /// Writes what a proof changes, such as that a code is used up, without opening a
    /// session: the user has a second factor to show first. Answers whether what the
    /// proof rests on still holds.
    async fn stop_short(
        &self,
        realm: &str,
        stored: &Document,
        unchanged: Document,
        mut set: Document,
        unset: Document,
        alone: bool,
    ) -> Result<bool> {
        if alone {
            set.insert(session::ALL, Document::new());
        }
        let mut change = Document::new();
        for (operator, fields) in [("$set", set), ("$unset", unset)] {
            if !fields.is_empty() {
                change.insert(operator, fields);
            }
        }
        if change.is_empty() {
            // The challenge is void if the password changes, even if it just has.
            return Ok(true);
        }
        let mut still = doc! { "_id": stored.get("_id").cloned().unwrap_or(Bson::Null) };
        still.extend(unchanged);
        Ok(self.update_hidden(realm, still, change).await?.matched > 0)
    }
}
