//! Who is calling.
//!
//! The server has verified what this module says; no header that a client sends
//! can forge it.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::auth::caller;
use crate::error::{Error, Result};
use crate::id::Id;

/// A signed-in user.
#[derive(Clone)]
pub struct User {
    collection: String,
    id: Id,
    key: String,
    document: String,
}

impl User {
    /// The collection (realm) that holds the user, e.g. `users`.
    #[must_use]
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The user's `_id`.
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The user's `_key`, the name that they sign in with.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The user's document, without `_password`, as it was when this call was
    /// authenticated.
    ///
    /// ```no_run
    /// # use coglex_sdk::prelude::*;
    /// #[derive(Deserialize)]
    /// struct Profile {
    ///     name: String,
    /// }
    ///
    /// fn me(_: Request) -> Result<String> {
    ///     let profile: Profile = auth::require("users")?.document()?;
    ///     Ok(profile.name)
    /// }
    /// ```
    pub fn document<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.document).map_err(|error| {
            Error::Mismatch(format!(
                "a user of `{}` does not fit the type: {error}",
                self.collection
            ))
        })
    }
}

impl fmt::Debug for User {
    /// Without the document, which is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("collection", &self.collection)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The signed-in user of `collection`, or none when the caller has no valid
/// session there. Free when the route is guarded by
/// [`authenticated`](crate::authenticated) with the same collection.
pub fn user(collection: &str) -> Result<Option<User>> {
    let found = caller::signed_in(collection).map_err(|error| match error {
        caller::Error::Unavailable => Error::Unavailable,
    })?;
    found
        .map(|user| {
            let id = serde_json::from_str(&user.id).map_err(|error| {
                Error::Mismatch(format!(
                    "the `_id` of a user of `{collection}` does not fit: {error}"
                ))
            })?;
            Ok(User {
                collection: user.collection,
                id,
                key: user.key,
                document: user.document,
            })
        })
        .transpose()
}

/// The signed-in user of `collection`; without one the request is answered with
/// 401.
pub fn require(collection: &str) -> Result<User> {
    user(collection)?.ok_or_else(|| Error::status(401, "sign in first"))
}

/// Whether the request carried a valid API key.
#[must_use]
pub fn has_api_key() -> bool {
    caller::has_api_key()
}

/// The id of the request, as in the `X-Request-Id` header and the server's log.
#[must_use]
pub fn request_id() -> String {
    caller::request_id()
}
