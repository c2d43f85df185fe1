//! `coglex:auth`: who is calling, as the host has verified it.

use coglex_services::accounts;
use coglex_services::{Error as ServiceError, json};

use crate::bindings::auth::caller::{Error, Host, User};
use crate::plugin::Shared;
use crate::state::{Call, InstanceState};

impl Host for InstanceState {
    fn has_api_key(&mut self) -> wasmtime::Result<bool> {
        Ok(self.call.credentials.api_key)
    }

    async fn signed_in(
        &mut self,
        collection: String,
    ) -> wasmtime::Result<Result<Option<User>, Error>> {
        self.charge(collection.len())?;
        let known = self
            .call
            .users
            .iter()
            .position(|user| user.realm == collection);
        let index = match known {
            Some(index) => index,
            None => match look_up(&self.shared, &self.call, &collection).await {
                Ok(Some(user)) => {
                    // The next question of this call is free.
                    self.call.users.push(user);
                    self.call.users.len() - 1
                }
                Ok(None) => return Ok(Ok(None)),
                Err(error) => return Ok(Err(error)),
            },
        };
        let Some(user) = self.call.users.get(index) else {
            return Ok(Ok(None));
        };
        match view(user) {
            Ok(user) => {
                self.carry(user.id.len() + user.key.len() + user.document.len())?;
                Ok(Ok(Some(user)))
            }
            Err(error) => {
                tracing::error!(
                    request.id = &*self.call.request_id,
                    "a user cannot be shown to a guest: {error}"
                );
                Ok(Err(Error::Unavailable))
            }
        }
    }

    fn request_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.call.request_id.to_string())
    }
}

async fn look_up(
    shared: &Shared,
    call: &Call,
    collection: &str,
) -> Result<Option<accounts::User>, Error> {
    match shared
        .services
        .accounts
        .session_of(collection, &call.credentials)
        .await
    {
        Ok(user) => Ok(user),
        // A collection that cannot hold users has none.
        Err(ServiceError::Invalid(_) | ServiceError::NotFound(_) | ServiceError::Forbidden(_)) => {
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(
                plugin.name = &*shared.name,
                request.id = &*call.request_id,
                cause = std::error::Error::source(&error),
                "a session could not be looked up for a guest: {error}"
            );
            Err(Error::Unavailable)
        }
    }
}

/// A user as guests see one: the document without `_password`, which services
/// have taken out.
fn view(user: &accounts::User) -> Result<User, String> {
    let text = |value: bson::Bson| {
        let mut out = Vec::new();
        json::write_value(&value, &mut out).map_err(|error| error.to_string())?;
        String::from_utf8(out).map_err(|error| error.to_string())
    };
    Ok(User {
        collection: user.realm.clone(),
        id: text(user.id.clone())?,
        key: user.key.clone(),
        document: text(bson::Bson::Document(user.document.clone()))?,
    })
}
