//! `coglex:payment`: orders, and who has paid.

use std::sync::Arc;

use coglex_services::payment::{PaymentDoor, PaymentFailure};

use crate::bindings::payment::payments::{Error, Host, Refusal};
use crate::state::InstanceState;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for InstanceState {
    async fn create_checkout(&mut self, order: String, key: Option<String>) -> Answer<String> {
        self.charge(order.len() + key.as_ref().map_or(0, String::len))?;
        let made = match self.payment() {
            Some(door) => door.create_checkout(&self.shared.caller, &order, key).await,
            None => Err(PaymentFailure::NotConfigured),
        };
        self.hand_payment(made, String::len)
    }

    async fn checkout_session(&mut self, id: String) -> Answer<String> {
        self.charge(id.len())?;
        let found = match self.payment() {
            Some(door) => door.checkout_session(&self.shared.caller, &id).await,
            None => Err(PaymentFailure::NotConfigured),
        };
        self.hand_payment(found, String::len)
    }

    async fn entitlements(&mut self, who: String) -> Answer<String> {
        self.charge(who.len())?;
        let found = match self.payment() {
            Some(door) => door.entitlements(&self.shared.caller, &who).await,
            None => Err(PaymentFailure::NotConfigured),
        };
        self.hand_payment(found, String::len)
    }

    async fn is_entitled(&mut self, who: String, what: String) -> Answer<bool> {
        self.charge(who.len() + what.len())?;
        let found = match self.payment() {
            Some(door) => door.is_entitled(&self.shared.caller, &who, &what).await,
            None => Err(PaymentFailure::NotConfigured),
        };
        self.hand_payment(found, |_| 0)
    }
}

impl InstanceState {
    fn payment(&self) -> Option<Arc<dyn PaymentDoor>> {
        self.shared.services.payment.clone()
    }

    fn hand_payment<T>(
        &mut self,
        result: Result<T, PaymentFailure>,
        size: impl Fn(&T) -> usize,
    ) -> Answer<T> {
        Ok(match result {
            Ok(answer) => {
                self.carry(size(&answer))?;
                Ok(answer)
            }
            Err(PaymentFailure::Invalid(why)) => Err(Error::Invalid(why)),
            Err(PaymentFailure::Denied(why)) => Err(Error::AccessDenied(why)),
            Err(PaymentFailure::Refused { code, message }) => {
                Err(Error::Refused(Refusal { code, message }))
            }
            Err(PaymentFailure::NotConfigured) => Err(Error::NotConfigured),
            Err(PaymentFailure::Unavailable(error)) => {
                self.log_failure(&error);
                Err(Error::Unavailable)
            }
        })
    }
}
