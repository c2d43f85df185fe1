//! What plugins may ask of accounts, within their grants: to find a user, to
//! make one, to check a password. Hashes and sessions stay in here.

use bson::{Bson, Document, doc};

use super::password::{self, Verified};
use super::{Accounts, User, check_key, decoded, user};
use crate::caller::Caller;
use crate::documents;
use crate::error::{Error, Result};
use crate::grants::AuthVerb;

/// Fields of a new user that a scoped key does not set. `_id`: one of a user who is gone
/// owns what that user owned. `roles`: they are what guards of apps go by.
const NOT_BY_KEYS: [&str; 2] = ["_id", "roles"];

impl Accounts {
    /// Whether the caller may ask this of the accounts of the realm; `Forbidden` when
    /// not.
    pub fn authorize(&self, caller: &Caller, realm: &str, verb: AuthVerb) -> Result<()> {
        authorize(caller, realm, verb)
    }

    /// Whether the caller may sign a user up who has this document.
    pub fn authorize_sign_up(
        &self,
        caller: &Caller,
        realm: &str,
        document: &Document,
    ) -> Result<()> {
        authorize(caller, realm, AuthVerb::Signup)?;
        // By their first parts: where fields are set, `roles.0` leads into `roles`.
        let names: Vec<&str> = document
            .keys()
            .filter_map(|path| path.split('.').next())
            .collect();
        let mut refused = NOT_BY_KEYS.into_iter();
        match (caller, refused.find(|name| names.contains(name))) {
            (Caller::Key(_), Some(name)) => Err(Error::Forbidden(format!(
                "a scoped API key cannot set `{name}` of a new user"
            ))),
            _ => Ok(()),
        }
    }

    /// The user with this key.
    pub async fn look_up(&self, caller: &Caller, realm: &str, key: &str) -> Result<Option<User>> {
        authorize(caller, realm, AuthVerb::Lookup)?;
        check_key(key)?;
        let by_key = doc! { "_key": { "$eq": key } };
        let found = self.inner.find_one(realm, by_key).await?;
        Ok(found.map(|stored| user(realm, stored)))
    }

    /// The user with this `_id`. A document of the collection that is no user is
    /// nobody.
    pub async fn look_up_by_id(
        &self,
        caller: &Caller,
        realm: &str,
        id: Bson,
    ) -> Result<Option<User>> {
        authorize(caller, realm, AuthVerb::Lookup)?;
        documents::check_known_id(&id)?;
        let Some(raw) = self.inner.store.get(realm, id).await? else {
            return Ok(None);
        };
        let stored = decoded(&raw)?;
        let is_user = stored.get_str("_key").is_ok();
        Ok(is_user.then(|| user(realm, stored)))
    }

    /// Makes a user; answers with its `_id`. `Conflict` when the key is taken.
    pub async fn sign_up_for(
        &self,
        caller: &Caller,
        realm: &str,
        key: &str,
        password: &str,
        document: Document,
    ) -> Result<Bson> {
        authorize(caller, realm, AuthVerb::Signup)?;
        let made = self.create(caller, realm, key, password, document).await?;
        made.ok_or_else(|| Error::Conflict("another user has this key".into()))
    }

    /// The user with this key, if the password is right. An unknown key costs
    /// what a wrong password does, and both wait in the queue of sign-ins.
    pub async fn verify(
        &self,
        caller: &Caller,
        realm: &str,
        key: &str,
        password: &str,
    ) -> Result<Option<User>> {
        authorize(caller, realm, AuthVerb::Verify)?;
        check_key(key)?;
        password::check(password)?;
        let by_key = doc! { "_key": { "$eq": key } };
        let stored = self.inner.find_one(realm, by_key).await?;
        let hash = stored.as_ref().and_then(|user| user.get("_password"));
        let verified = self.inner.hasher.verify(password, hash).await?;
        match verified {
            Verified::Yes { .. } => Ok(stored.map(|stored| user(realm, stored))),
            Verified::No => Ok(None),
        }
    }
}

/// Whether the caller may ask this of the accounts of the collection.
pub(crate) fn authorize(caller: &Caller, realm: &str, verb: AuthVerb) -> Result<()> {
    documents::check_collection(realm)?;
    match caller {
        Caller::Plugin(plugin) if !plugin.grants.allows_auth(realm, verb) => {
            Err(Error::Forbidden(format!(
                "the plugin `{}` was not granted `{verb}` on the accounts of `{realm}`",
                plugin.name
            )))
        }
        caller if !caller.allows_auth(realm, verb) => Err(Error::Forbidden(format!(
            "this API key does not cover `{verb}` on the accounts of `{realm}`"
        ))),
        _ => Ok(()),
    }
}
