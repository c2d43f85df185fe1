//! Why a payment was not made, or an event not taken.

use std::time::Duration;

use coglex_services::Error;
use coglex_services::storage::StoreError;

/// The result of what this service does.
pub type Result<T, E = PaymentError> = std::result::Result<T, E>;

/// Why something was not done. Texts are for clients and never hold a key.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// No key of Stripe is set.
    #[error("payments are not configured")]
    NotConfigured,
    /// No signing secret of a webhook is set.
    #[error("the payment webhook is not configured")]
    WebhookNotConfigured,
    /// What the client has sent is malformed; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// The request of a webhook is not believed.
    #[error("{message}")]
    Untrusted {
        /// Stable, snake_case.
        code: &'static str,
        /// A sentence.
        message: &'static str,
    },
    /// A bank or Stripe's own rules refuse the payment.
    #[error("{0}")]
    Declined(Refusal),
    /// Stripe does not take the request: the client can do something about it.
    #[error("{0}")]
    Refused(Refusal),
    /// Stripe does not have such an object.
    #[error("{0}")]
    NotFound(Refusal),
    /// Stripe cannot do it now, or does not take the server's own key.
    #[error("{0}")]
    Provider(Refusal),
    /// Stripe wants fewer requests, and our own retries have not helped.
    #[error("Stripe takes no more requests for now")]
    Busy {
        /// When a retry is worth it.
        retry_after: Duration,
    },
    /// The store, or a rule of another service.
    #[error(transparent)]
    Service(#[from] Error),
}

/// What Stripe says, without keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stripe's `code`, or the `type` of the error where it has none.
    pub code: String,
    /// Stripe's sentence.
    pub message: String,
    /// Why a bank has declined, where it says so.
    pub decline_code: Option<String>,
    /// The parameter that it is about.
    pub param: Option<String>,
}

impl Refusal {
    /// One of ours.
    pub(crate) fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
            decline_code: None,
            param: None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for PaymentError {
    fn from(error: StoreError) -> Self {
        PaymentError::Service(error.into())
    }
}

/// A document of ours that cannot be written: a fault of ours.
pub(crate) fn broken(error: bson::error::Error) -> PaymentError {
    PaymentError::Service(Error::Unavailable(Box::new(error)))
}
