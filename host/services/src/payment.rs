//! The port to payments, for guests. Who implements it knows Stripe; who calls it is
//! the runtime, which does not.

use async_trait::async_trait;

use crate::caller::Caller;
use crate::error::Error;

/// Why a guest does not get what it wants of payments.
#[derive(Debug, thiserror::Error)]
pub enum PaymentFailure {
    /// The order is malformed; the text says what and where.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not; the text names what was missing.
    #[error("{0}")]
    Denied(String),
    /// Stripe, or a bank, says no.
    #[error("{message}")]
    Refused {
        /// Stripe's code.
        code: String,
        /// A sentence.
        message: String,
    },
    /// There is no account at Stripe.
    #[error("payments are not configured")]
    NotConfigured,
    /// Stripe or the store cannot be reached. The cause is for the log.
    #[error("payments are unavailable")]
    Unavailable(#[source] Error),
}

/// What guests can do with payments. JSON goes in and out as text.
#[async_trait]
pub trait PaymentDoor: Send + Sync + 'static {
    /// Makes a Checkout session.
    async fn create_checkout(
        &self,
        caller: &Caller,
        order: &str,
        key: Option<String>,
    ) -> Result<String, PaymentFailure>;
    /// A Checkout session as it is now.
    async fn checkout_session(&self, caller: &Caller, id: &str) -> Result<String, PaymentFailure>;
    /// What somebody has paid for.
    async fn entitlements(&self, caller: &Caller, who: &str) -> Result<String, PaymentFailure>;
    /// Whether somebody has paid for it.
    async fn is_entitled(
        &self,
        caller: &Caller,
        who: &str,
        what: &str,
    ) -> Result<bool, PaymentFailure>;
}
