//! Payments for guests: the same calls, with JSON as text, and the grants asked first.

use async_trait::async_trait;
use coglex_services::grants::PaymentVerb;
use coglex_services::payment::{PaymentDoor, PaymentFailure};
use coglex_services::{Caller, Error};
use serde_json::Value;

use crate::error::PaymentError;
use crate::order::Checkout;
use crate::service::{Payments, Request};

#[async_trait]
impl PaymentDoor for Payments {
    async fn create_checkout(
        &self,
        caller: &Caller,
        order: &str,
        key: Option<String>,
    ) -> Result<String, PaymentFailure> {
        granted(caller, PaymentVerb::Checkout)?;
        let order: Value = serde_json::from_str(order)
            .map_err(|_| PaymentFailure::Invalid("the order is not JSON".to_owned()))?;
        let request = Request {
            caller: caller.label(),
            key,
        };
        let session = self.checkout(&request, &Checkout::read(&order)?).await?;
        Ok(session.to_string())
    }

    async fn checkout_session(&self, caller: &Caller, id: &str) -> Result<String, PaymentFailure> {
        granted(caller, PaymentVerb::Checkout)?;
        Ok(self.session(id).await?.to_string())
    }

    async fn entitlements(&self, caller: &Caller, who: &str) -> Result<String, PaymentFailure> {
        granted(caller, PaymentVerb::Entitlements)?;
        let entitlements = Payments::entitlements(self, who).await?;
        serde_json::to_string(&entitlements)
            .map_err(|error| PaymentFailure::Unavailable(Error::Unavailable(error.into())))
    }

    async fn is_entitled(
        &self,
        caller: &Caller,
        who: &str,
        what: &str,
    ) -> Result<bool, PaymentFailure> {
        granted(caller, PaymentVerb::Entitlements)?;
        Ok(Payments::entitlements(self, who).await?.covers(what))
    }
}

fn granted(caller: &Caller, verb: PaymentVerb) -> Result<(), PaymentFailure> {
    match caller.allows_payment(verb) {
        true => Ok(()),
        false => Err(PaymentFailure::Denied(format!(
            "payment: {verb} was not granted"
        ))),
    }
}

impl From<PaymentError> for PaymentFailure {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::NotConfigured | PaymentError::WebhookNotConfigured => Self::NotConfigured,
            PaymentError::Invalid(sentence) => Self::Invalid(sentence),
            PaymentError::Untrusted { message, .. } => Self::Invalid(message.to_owned()),
            PaymentError::Declined(refusal)
            | PaymentError::Refused(refusal)
            | PaymentError::NotFound(refusal) => Self::Refused {
                code: refusal.code,
                message: refusal.message,
            },
            PaymentError::Provider(refusal) => {
                Self::Unavailable(Error::Unavailable(refusal.message.into()))
            }
            PaymentError::Busy { retry_after } => {
                Self::Unavailable(Error::Overloaded { retry_after })
            }
            PaymentError::Service(error) => Self::Unavailable(error),
        }
    }
}
