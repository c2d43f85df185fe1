//! `coglex:auth/accounts`: the accounts service, through the guest door.

use coglex_services::accounts::User as Account;
use coglex_services::{Error as ServiceError, json};

use super::auth::{size, view};
use super::storage::write_value;
use crate::bindings::auth::accounts::{Error, Host};
use crate::bindings::auth::caller::User;
use crate::state::InstanceState;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for InstanceState {
    async fn lookup(&mut self, collection: String, key: String) -> Answer<Option<User>> {
        self.charge(collection.len() + key.len())?;
        let shared = &*self.shared;
        let accounts = &shared.services.accounts;
        let found = accounts.look_up(&shared.caller, &collection, &key).await;
        self.show(found)
    }

    async fn lookup_by_id(&mut self, collection: String, id: String) -> Answer<Option<User>> {
        self.charge(collection.len() + id.len())?;
        let shared = &*self.shared;
        let depth = shared.services.documents.limits().depth;
        let found = async {
            let id = json::parse_value(id.as_bytes(), depth)?;
            let accounts = &shared.services.accounts;
            accounts
                .look_up_by_id(&shared.caller, &collection, id)
                .await
        };
        let found = found.await;
        self.show(found)
    }

    async fn sign_up(
        &mut self,
        collection: String,
        key: String,
        password: String,
        document: String,
    ) -> Answer<String> {
        self.charge(collection.len() + key.len() + password.len() + document.len())?;
        let caller = match self.caller().await {
            Ok(caller) => caller,
            Err(error) => return Ok(Err(self.account_refusal(error))),
        };
        let shared = &*self.shared;
        let depth = shared.services.documents.limits().depth;
        let made = async {
            let document = json::parse_document(document.as_bytes(), depth)?;
            let accounts = &shared.services.accounts;
            let id = accounts
                .sign_up_for(&caller, &collection, &key, &password, document)
                .await?;
            write_value(&id)
        };
        match made.await {
            Ok(id) => {
                self.carry(id.len())?;
                Ok(Ok(id))
            }
            Err(error) => Ok(Err(self.account_refusal(error))),
        }
    }

    async fn verify(
        &mut self,
        collection: String,
        key: String,
        password: String,
    ) -> Answer<Option<User>> {
        self.charge(collection.len() + key.len() + password.len())?;
        let shared = &*self.shared;
        let accounts = &shared.services.accounts;
        let found = accounts
            .verify(&shared.caller, &collection, &key, &password)
            .await;
        self.show(found)
    }
}

impl InstanceState {
    fn show(&mut self, found: Result<Option<Account>, ServiceError>) -> Answer<Option<User>> {
        let shown = found.and_then(|account| account.as_ref().map(view).transpose());
        match shown {
            Ok(user) => {
                self.carry(user.as_ref().map_or(0, size))?;
                Ok(Ok(user))
            }
            Err(error) => Ok(Err(self.account_refusal(error))),
        }
    }

    fn account_refusal(&self, error: ServiceError) -> Error {
        match error {
            ServiceError::Invalid(text) | ServiceError::NotFound(text) => Error::Invalid(text),
            error @ (ServiceError::DocumentInvalid { .. } | ServiceError::HookRefused { .. }) => {
                Error::Invalid(error.to_string())
            }
            ServiceError::Conflict(text) => Error::Conflict(text),
            ServiceError::Forbidden(text) => Error::AccessDenied(text),
            ServiceError::Denied(denial) => Error::AccessDenied(denial.to_string()),
            ServiceError::TooLarge(text) => Error::TooLarge(text),
            ServiceError::Overloaded { .. } | ServiceError::TooManyAttempts { .. } => {
                Error::Overloaded
            }
            error @ (ServiceError::Timeout
            | ServiceError::Unavailable(_)
            | ServiceError::MailUnavailable
            | ServiceError::HookFailed(_)) => {
                self.log_failure(&error);
                Error::Unavailable
            }
        }
    }
}
