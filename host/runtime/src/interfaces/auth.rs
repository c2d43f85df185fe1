//! `coglex:auth`: who is calling, as the host has verified it.

use std::sync::Arc;

use coglex_services::accounts;
use coglex_services::caller::{Origin, PluginCaller};
use coglex_services::{Caller, Error as ServiceError};

use super::storage::write_value;
use crate::bindings::auth::caller::{self, Error, User};
use crate::state::InstanceState;

impl caller::Host for InstanceState {
    fn has_api_key(&mut self) -> wasmtime::Result<bool> {
        Ok(self.call.credentials.api_key)
    }

    async fn signed_in(
        &mut self,
        collection: String,
    ) -> wasmtime::Result<Result<Option<User>, Error>> {
        self.charge(collection.len())?;
        let found = match self.user_of(&collection).await {
            Ok(Some(user)) => view(user).map(Some),
            Ok(None) => return Ok(Ok(None)),
            Err(error) => Err(error),
        };
        match found {
            Ok(user) => {
                self.carry(user.as_ref().map_or(0, size))?;
                Ok(Ok(user))
            }
            Err(error) => {
                self.log_failure(&error);
                Ok(Err(Error::Unavailable))
            }
        }
    }

    async fn require(&mut self, collection: String) -> wasmtime::Result<Result<User, Error>> {
        let found = caller::Host::signed_in(self, collection).await?;
        Ok(found.and_then(|user| user.ok_or(Error::SignedOut)))
    }

    fn request_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.call.request_id.to_string())
    }
}

impl InstanceState {
    /// The signed-in user of a collection. Asked again it costs nothing.
    async fn user_of(&mut self, collection: &str) -> Result<Option<&accounts::User>, ServiceError> {
        let known = self
            .call
            .users
            .iter()
            .position(|user| user.realm == collection);
        let index = match known {
            Some(index) => index,
            None => {
                let accounts = &self.shared.services.accounts;
                let found = accounts.session_of(collection, &self.call.credentials);
                match found.await {
                    Ok(Some(user)) => self.call.users.push(user),
                    // A collection that cannot hold users has none.
                    Ok(None)
                    | Err(
                        ServiceError::Invalid(_)
                        | ServiceError::NotFound(_)
                        | ServiceError::Forbidden(_),
                    ) => return Ok(None),
                    Err(error) => return Err(error),
                }
                self.call.users.len() - 1
            }
        };
        Ok(self.call.users.get(index))
    }

    /// The plugin as who asks a service, on behalf of the signed-in users that
    /// conditions of its grants speak of. They are looked up once in a call, and
    /// only where there are such conditions.
    pub(crate) async fn caller(&mut self) -> Result<Caller, ServiceError> {
        if let Some(caller) = &self.call.caller {
            return Ok(caller.clone());
        }
        let shared = Arc::clone(&self.shared);
        let mut caller = shared.caller.clone();
        if let Caller::Plugin(plugin) = &shared.caller {
            let mut users = Vec::new();
            for realm in plugin.grants.realms() {
                if let Some(user) = self.user_of(realm).await? {
                    users.push((realm.to_owned(), user.id.clone()));
                }
            }
            let nested = self.call.depth > 0 || self.call.hook_depth > 0;
            if !users.is_empty() || nested {
                let plugin = PluginCaller {
                    users,
                    origin: Origin {
                        hook_depth: self.call.hook_depth,
                        nested,
                        request_id: Some(Arc::clone(&self.call.request_id)),
                    },
                    ..PluginCaller::clone(plugin)
                };
                caller = Caller::Plugin(Arc::new(plugin));
            }
        }
        self.call.caller = Some(caller.clone());
        Ok(caller)
    }

    /// What a guest is told to be unavailable, for the log.
    pub(crate) fn log_failure(&self, error: &ServiceError) {
        tracing::warn!(
            plugin.name = &*self.shared.name,
            request.id = &*self.call.request_id,
            cause = std::error::Error::source(error),
            "a service failed a guest: {error}"
        );
    }
}

pub(super) fn size(user: &User) -> usize {
    user.id.len() + user.key.len() + user.document.len()
}

/// A user as guests see one: the document without `_password`, which services
/// have taken out.
pub(super) fn view(user: &accounts::User) -> Result<User, ServiceError> {
    Ok(User {
        collection: user.realm.clone(),
        id: write_value(&user.id)?,
        key: user.key.clone(),
        document: write_value(&bson::Bson::Document(user.document.clone()))?,
    })
}
