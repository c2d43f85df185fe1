//! Payments through the server's account at Stripe, whose keys no plugin sees.
//!
//! The plugin's `coglex.toml` has to ask for what it does:
//!
//! ```toml
//! [grants]
//! payment = ["checkout", "entitlements", "events"]
//! ```
//!
//! ```no_run
//! use coglex_sdk::prelude::*;
//!
//! coglex_sdk::functions! {
//!     /// Where to pay for an order.
//!     fn buy(email: String, price: String) -> Result<String> {
//!         let session = payment::checkout(&json!({
//!             "success_url": "https://shop.example/thanks",
//!             "cancel_url": "https://shop.example/cart",
//!             "email": email,
//!             "linedata": [{"price": price, "quantity": 1}],
//!             "metadata": {"entitlement": "gold"},
//!         }))?;
//!         Ok(session["url"].as_str().unwrap_or_default().to_owned())
//!     }
//!
//!     /// Runs as a job when Stripe has told that it is paid.
//!     #[on_event("checkout.session.completed")]
//!     fn paid(event: payment::Event) -> Result<()> {
//!         log::info!("{} is paid", event.object()["id"]);
//!         Ok(())
//!     }
//!
//!     /// Whether somebody may come in.
//!     fn may_enter(email: String) -> Result<bool> {
//!         payment::is_entitled(&email, "gold")
//!     }
//! }
//! # fn main() {}
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bindings::capabilities::coglex::payment::payments as wit;
use crate::error::{Error, Result};

/// Makes a Checkout session; answers with Stripe's, whose `url` is where the customer
/// pays. The grant is `checkout`. The order is the body of `POST
/// /service/payment/v1/checkout/`.
///
/// Called twice, it makes two: see [`checkout_once`].
pub fn checkout(order: &Value) -> Result<Value> {
    made(wit::create_checkout(&order.to_string(), None))
}

/// The same, but the same key with the same order gives the same session. In a job,
/// [`execution::invocation_id`](crate::execution::invocation_id) is such a key.
pub fn checkout_once(order: &Value, key: &str) -> Result<Value> {
    made(wit::create_checkout(&order.to_string(), Some(key)))
}

/// A Checkout session as it is at Stripe now. The grant is `checkout`.
pub fn session(id: &str) -> Result<Value> {
    made(wit::checkout_session(id))
}

/// What somebody (an email address, or a customer's id) has paid for, as events have
/// told. The grant is `entitlements`.
pub fn entitlements(who: &str) -> Result<Entitlements> {
    let json = wit::entitlements(who)?;
    Ok(serde_json::from_str(&json)?)
}

/// Whether somebody has paid for it: an active subscription of this price, product or
/// lookup key, or a payment whose metadata names it under `entitlement`. The grant is
/// `entitlements`.
pub fn is_entitled(who: &str, what: &str) -> Result<bool> {
    Ok(wit::is_entitled(who, what)?)
}

fn made(answer: Result<String, wit::Error>) -> Result<Value> {
    Ok(serde_json::from_str(&answer?)?)
}

/// What somebody has paid for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entitlements {
    /// Who was asked for.
    pub who: String,
    /// Stripe's ids of them.
    pub customers: Vec<String>,
    /// Whether any subscription is active.
    pub active: bool,
    /// Subscriptions; see `coglex:payment`.
    pub subscriptions: Vec<Value>,
    /// Payments; see `coglex:payment`.
    pub payments: Vec<Value>,
}

/// An event, as Stripe has sent it: what a function with `#[on_event(…)]` is called with.
/// It may come again, and before one that has happened earlier.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// `evt_…`; the same when it comes again.
    pub id: String,
    /// `checkout.session.completed` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it has happened, Unix seconds. Nothing in events of Stripe's second API.
    #[serde(default)]
    pub created: Value,
    /// The rest of it.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

impl Event {
    /// The object that it is about, as it was then; `null` where there is none.
    pub fn object(&self) -> &Value {
        let data = self.rest.get("data").and_then(|data| data.get("object"));
        data.unwrap_or(&Value::Null)
    }
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            // An order is made of what a customer has typed, more often than not.
            wit::Error::Invalid(text) => Self::failure("payment_invalid", text),
            wit::Error::AccessDenied(text) => Self::AccessDenied(text),
            wit::Error::Refused(refusal) => Self::failure(refusal.code, refusal.message),
            wit::Error::NotConfigured => Self::failure(
                "payment_not_configured",
                "the server has no account at Stripe",
            ),
            wit::Error::Unavailable => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_read_with_what_nobody_knows_yet() {
        let sent = json!({
            "id": "evt_1", "type": "charge.refunded", "created": 7,
            "data": {"object": {"id": "ch_1"}}, "future": [1],
        });
        let event: Event = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(event.object()["id"], "ch_1");
        assert_eq!(serde_json::to_value(&event).unwrap(), sent);
        let bare: Event = serde_json::from_value(json!({"id": "e", "type": "t"})).unwrap();
        assert!(bare.object().is_null());
    }
}
