//! Whether an address is the user's: a letter to it has a link that says so.

use bson::{Bson, doc};

use super::{Purpose, What, verifying};
use crate::accounts::{Accounts, Client, Denial};
use crate::caller::Credentials;
use crate::error::Result;

/// What a user may know of the own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressState {
    /// The address, if there is one.
    pub address: Option<String>,
    /// Whether it is verified.
    pub verified: bool,
}

impl Accounts {
    /// Has a link sent to the address of this user, if there is such a user, and one
    /// that is not verified yet.
    pub async fn request_verification(
        &self,
        realm: &str,
        key: &str,
        client: &Client,
    ) -> Result<()> {
        self.outbox()?;
        self.linked(realm, Purpose::Verify)?;
        let what = What::Link {
            purpose: Purpose::Verify,
            address: None,
        };
        self.ask_for(realm, key, what, client).await
    }

    /// Uses a link up: the address that it was sent to is verified. `TokenInvalid` if
    /// that is not the user's address any more.
    pub async fn confirm_verification(&self, realm: &str, token: &str) -> Result<()> {
        let inner = &*self.inner;
        let (stored, redeemed) = inner.redeemed(realm, Purpose::Verify, token).await?;
        let now = inner.clock.now();
        let set = [verifying(&redeemed.address, now)];
        let mut unchanged = doc! { "_id": stored.get("_id").cloned().unwrap_or(Bson::Null) };
        unchanged.extend(redeemed.unchanged);
        let policy = &inner.settings.policy_of(realm).flows;
        // The address must still be there when it is written that it is verified.
        unchanged.insert(
            policy.field_of(&stored),
            doc! { "$eq": redeemed.address.as_str() },
        );
        let set: bson::Document = set.into_iter().collect();
        let change = doc! { "$set": set, "$unset": redeemed.gone };
        match inner.update_hidden(realm, unchanged, change).await?.matched {
            0 => Err(Denial::TokenInvalid.into()),
            _ => Ok(()),
        }
    }

    /// The address of who is signed in; nothing if nobody is.
    pub async fn address(
        &self,
        realm: &str,
        credentials: &Credentials,
    ) -> Result<Option<AddressState>> {
        let Some((stored, _)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let policy = &self.inner.settings.policy_of(realm).flows;
        Ok(Some(AddressState {
            address: policy.address_of(&stored).map(str::to_owned),
            verified: self.inner.is_verified(realm, &stored),
        }))
    }
}
