//! A stand-in for Stripe with a state of its own: for tests, and for `coglex dev
//! --fake-stripe`, where a developer clicks "pay" without a network and sees the
//! webhook arrive.
//!
//! It answers the part of Stripe's API that a shop needs (customers, products and
//! prices, Checkout, subscriptions, refunds, the billing portal) with whole objects,
//! as the crates of async-stripe read them; remembers idempotency keys as Stripe
//! does; shows Checkout pages; and signs and delivers events. What Stripe does on
//! bad days is asked for under `/_fake/` (`control`): declines, delays, duplicates,
//! events out of order, 429, 500 and lost answers.
//!
//! It is no mock: nothing is canned, an object that was not created is not found, and
//! money that was refunded cannot be refunded again. It only knows test mode, keeps
//! everything in memory, and believes every key that starts with `sk_test_` or
//! `rk_test_`. It does not know Coglex.

#![allow(
    clippy::indexing_slicing,
    reason = "of JSON: what is absent reads as null, and what is written to is an object"
)]
#![recursion_limit = "512"] // whole objects in one `json!` each

mod api;
mod checkout;
mod control;
mod form;
mod objects;
mod orders;
mod portal;
mod reply;
mod state;
mod subscriptions;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use state::Shared;
pub use webhook::{Endpoint, sign};

/// A fake that answers, until it is dropped or its runtime ends.
pub struct FakeStripe {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

impl FakeStripe {
    /// Starts on an address of the loopback interface; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(format!("http://{address}")));
        let router = router(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the stand-in for Stripe has ended");
            }
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    /// `http://127.0.0.1:<port>`, where Stripe's would be `https://api.stripe.com`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends events there from now on.
    pub fn deliver_to(&self, endpoint: Endpoint) {
        self.shared.lock().endpoints.push(endpoint);
    }

    /// Makes a product with a price, as somebody does in Stripe's dashboard; answers
    /// with the price's id. `every` is `month` or the like, or nothing for once.
    pub fn offer(&self, name: &str, amount: i64, currency: &str, every: Option<&str>) -> String {
        let mut state = self.shared.lock();
        let product = objects::product(name);
        let product_id = state.insert(product);
        let price = objects::price(&product_id, amount, currency, every);
        state.insert(price)
    }
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/c/pay/{id}", get(checkout::page).post(checkout::decide))
        .route(
            "/i/{id}",
            get(subscriptions::invoice_page).post(subscriptions::pay_invoice),
        )
        .route("/p/session/{id}", get(portal::page).post(portal::act))
        .route("/_fake/faults", post(control::faults))
        .route(
            "/_fake/webhooks",
            get(control::deliveries).post(control::webhooks),
        )
        .route("/_fake/release", post(control::release))
        .route("/_fake/endpoints", post(control::endpoints))
        .route("/_fake/requests", get(control::requests))
        .route("/_fake/subscriptions/{id}", post(control::subscription))
        .fallback(api::handle)
        .with_state(shared)
}
