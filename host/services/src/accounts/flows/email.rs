//! Another address: whoever reads mail to the new one confirms it, and the old one is
//! told.

use bson::{Bson, Document, doc};
use serde_json::json;

use super::address::is_address;
use super::{Purpose, What, verifying};
use crate::accounts::change::Refresh;
use crate::accounts::{Accounts, Client, Denial, check_key};
use crate::caller::Credentials;
use crate::error::{Error, Result};

impl Accounts {
    /// Has a link sent to the new address of who is signed in and shows the password
    /// once more; nothing if nobody is signed in. Whether somebody has that address is
    /// not told.
    pub async fn request_email(
        &self,
        realm: &str,
        credentials: &Credentials,
        address: &str,
        password: Option<&str>,
        client: &Client,
    ) -> Result<Option<()>> {
        let inner = &*self.inner;
        self.outbox()?;
        self.linked(realm, Purpose::EmailChange)?;
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        if !is_address(address) {
            return Err(Error::Invalid("`email` must be an e-mail address".into()));
        }
        inner
            .shown_again(realm, &stored, &claims, password, client)
            .await?;
        let key = stored.get_str("_key").unwrap_or_default();
        let what = What::Link {
            purpose: Purpose::EmailChange,
            address: Some(address.to_owned()),
        };
        self.ask_for(realm, key, what, client).await?;
        Ok(Some(()))
    }

    /// Uses a link up: the address that it was sent to is the user's, and verified; the
    /// one before is told. `Conflict` if it is the `_key` and another user has it.
    pub async fn confirm_email(&self, realm: &str, token: &str) -> Result<()> {
        let inner = &*self.inner;
        let (stored, redeemed) = inner.redeemed(realm, Purpose::EmailChange, token).await?;
        let key = stored.get_str("_key").unwrap_or_default();
        let policy = &inner.settings.policy_of(realm).flows;
        let field = policy.field_of(&stored);
        let before = policy.address_of(&stored);
        if field == "_key" {
            check_key(&redeemed.address)?;
        }
        let (hidden, verified) = verifying(&redeemed.address, inner.clock.now());
        let mut unchanged = redeemed.unchanged;
        let current = stored.get(field).cloned().unwrap_or(Bson::Null);
        unchanged.insert(field, doc! { "$eq": current });
        let refresh = Refresh {
            hidden: [(hidden, verified)].into_iter().collect(),
            gone: redeemed.gone,
            unchanged,
            ..Refresh::setting_fields(doc! { field: &redeemed.address })
        };
        match self.change(realm, key, &stored, refresh, None).await {
            Ok(_) => {}
            Err(Error::NotFound(_)) => return Err(Denial::TokenInvalid.into()),
            Err(error) => return Err(error),
        }
        if let Some(before) = before.filter(|before| *before != redeemed.address) {
            let values = json!({
                "realm": realm,
                "key": key,
                "address": before,
                "new_address": redeemed.address,
            });
            self.notice("email-changed", before, values).await;
        }
        Ok(())
    }
}

impl Refresh {
    /// Fields are set, and nothing else.
    pub(in crate::accounts) fn setting_fields(set: Document) -> Self {
        Self {
            set,
            others: Document::new(),
            password: None,
            hidden: Document::new(),
            gone: Document::new(),
            unchanged: Document::new(),
        }
    }
}
