//! A new password for who has forgotten the old one, by a link to the user's address.

use bson::Document;
use serde_json::json;

use super::{Purpose, What, verifying};
use crate::accounts::change::Refresh;
use crate::accounts::{Accounts, Client, Denial};
use crate::error::{Error, Result};

impl Accounts {
    /// Has a link sent to the address of this user, if there is such a user.
    pub async fn request_reset(&self, realm: &str, key: &str, client: &Client) -> Result<()> {
        self.outbox()?;
        self.linked(realm, Purpose::Reset)?;
        let what = What::Link {
            purpose: Purpose::Reset,
            address: None,
        };
        self.ask_for(realm, key, what, client).await
    }

    /// Uses a link up: sets the password and ends all of the user's sessions. The
    /// address is verified by that. A second factor stays as it is. `Invalid` for a
    /// password that is not good enough, and then the link is good still.
    pub async fn confirm_reset(&self, realm: &str, token: &str, password: &str) -> Result<()> {
        let inner = &*self.inner;
        let (stored, redeemed) = inner.redeemed(realm, Purpose::Reset, token).await?;
        let key = stored.get_str("_key").unwrap_or_default();
        let policy = inner.settings.policy_of(realm);
        policy.check_password(key, password)?;
        let (field, verified) = verifying(&redeemed.address, inner.clock.now());
        let mut gone = redeemed.gone;
        gone.extend(inner.unproven_ways(realm, &stored));
        let refresh = Refresh {
            password: Some(password.to_owned()),
            hidden: [(field, verified)].into_iter().collect(),
            gone,
            unchanged: redeemed.unchanged,
            ..Refresh::setting_fields(Document::new())
        };
        match inner
            .apply_refresh(realm, key, &stored, refresh, None)
            .await
        {
            Ok(_) => {}
            // Used, renamed or deleted while we hashed.
            Err(Error::NotFound(_)) => return Err(Denial::TokenInvalid.into()),
            Err(error) => return Err(error),
        }
        let values = json!({ "realm": realm, "key": key, "address": redeemed.address });
        self.notice("password-changed", &redeemed.address, values)
            .await;
        Ok(())
    }
}
