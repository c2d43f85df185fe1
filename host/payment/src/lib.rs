//! Coglex's payment service: what a business needs of Stripe, behind both doors.
//!
//! ```text
//! HTTP ──┐               ┌─ stripe ─► api.stripe.com
//!        ├─► Payments ───┤
//! guest ─┘      ▲        ├─ inbox ──► jobs of functions that declare on_event
//!               │        └─ mirror ─► entitlements
//!            webhook
//! ```
//!
//! Read [`Payments`] first. `stripe` sends requests, with an idempotency key each and
//! again where that is safe; `signature` and `event` say what a webhook is believed;
//! `inbox` keeps events before they are acknowledged, and has each told to functions at
//! least once; `mirror` keeps what they say of customers, subscriptions and payments,
//! so that [`Entitlements`] cost no call to Stripe.
//!
//! It knows neither axum nor wasmtime, and no plugin: whoever keeps those brings
//! [`Subscribers`]. Objects of Stripe are passed on as they came, as JSON: a field that
//! no crate knows yet gets to the client, and an event of a kind that does not exist
//! yet gets to functions.

mod door;
mod entitlements;
mod error;
mod event;
mod form;
mod inbox;
mod mirror;
mod order;
mod service;
mod settings;
mod signature;
mod stripe;
#[cfg(test)]
mod tests;

pub use entitlements::{Entitlements, PaymentView, SubscriptionView};
pub use error::{PaymentError, Refusal, Result};
pub use event::Event;
pub use inbox::{EventQuery, EventState, EventView, Subscriber, Subscribers};
pub use order::{Cancel, Checkout, Portal, PriceQuery, Refund, Subscription};
pub use service::{Payments, Request};
pub use settings::{Mode, PaymentSettings};
pub use signature::TOLERANCE;
