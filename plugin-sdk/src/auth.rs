//! Who is calling, and the accounts of those who could.
//!
//! The server has verified what this module says; no header that a client sends
//! can forge it.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::auth::{accounts, caller};
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
    /// A user for tests; see [`Request::signed_in`](crate::Request::signed_in).
    pub fn new(
        collection: impl Into<String>,
        id: impl Into<Id>,
        key: impl Into<String>,
        document: &impl Serialize,
    ) -> Result<Self> {
        Ok(Self {
            collection: collection.into(),
            id: id.into(),
            key: key.into(),
            document: serde_json::to_string(document)?,
        })
    }

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

impl TryFrom<caller::User> for User {
    type Error = Error;

    fn try_from(user: caller::User) -> Result<Self> {
        let id = serde_json::from_str(&user.id).map_err(|error| {
            Error::Mismatch(format!(
                "the `_id` of a user of `{}` does not fit: {error}",
                user.collection
            ))
        })?;
        Ok(Self {
            collection: user.collection,
            id,
            key: user.key,
            document: user.document,
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
        caller::Error::SignedOut => signed_out(),
    })?;
    found.map(User::try_from).transpose()
}

fn signed_out() -> Error {
    Error::status(401, "sign in first")
}

/// The signed-in user of `collection`; without one the request is answered with
/// 401.
pub fn require(collection: &str) -> Result<User> {
    user(collection)?.ok_or_else(signed_out)
}

/// The user of `collection` with this `_key`, or none. Needs the grant
/// `auth = [{ collection = "users", verbs = ["lookup"] }]`.
pub fn lookup(collection: &str, key: &str) -> Result<Option<User>> {
    accounts::lookup(collection, key)?
        .map(User::try_from)
        .transpose()
}

/// The user of `collection` with this `_id`, or none. Needs the verb `lookup`.
pub fn lookup_by_id(collection: &str, id: impl Into<Id>) -> Result<Option<User>> {
    let id = serde_json::to_string(&id.into())?;
    accounts::lookup_by_id(collection, &id)?
        .map(User::try_from)
        .transpose()
}

/// Makes a user of `collection`; answers with its `_id`. [`Error::Conflict`] when
/// the key is taken. Needs the verb `signup`.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// #[derive(Deserialize)]
/// struct Form {
///     email: String,
///     password: String,
///     name: String,
/// }
///
/// fn join(request: Request) -> Result<Json<Id>> {
///     let form: Form = request.json()?;
///     let profile = json!({"name": form.name});
///     Ok(Json(auth::sign_up("users", &form.email, &form.password, &profile)?))
/// }
/// ```
pub fn sign_up<T: Serialize + ?Sized>(
    collection: &str,
    key: &str,
    password: &str,
    document: &T,
) -> Result<Id> {
    let document = serde_json::to_string(document)?;
    let id = accounts::sign_up(collection, key, password, &document)?;
    Ok(serde_json::from_str(&id)?)
}

/// The user of `collection` with this `_key`, if the password is right. It opens
/// no session. Needs the verb `verify`.
pub fn verify(collection: &str, key: &str, password: &str) -> Result<Option<User>> {
    accounts::verify(collection, key, password)?
        .map(User::try_from)
        .transpose()
}

impl From<accounts::Error> for Error {
    fn from(error: accounts::Error) -> Self {
        match error {
            accounts::Error::AccessDenied(text) => Self::AccessDenied(text),
            accounts::Error::Invalid(text) => Self::Invalid(text),
            accounts::Error::Conflict(text) => Self::Conflict(text),
            accounts::Error::TooLarge(text) => Self::TooLarge(text),
            accounts::Error::Overloaded | accounts::Error::Unavailable => Self::Unavailable,
        }
    }
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
