//! Events on their way: signed as Stripe signs them, delivered in order or not, again
//! when the endpoint does not answer with 2xx.
//! <https://docs.stripe.com/webhooks#verify-manually>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::Value;
use sha2::Sha256;

use crate::state::{Shared, now};

/// How often an event is sent to an endpoint that does not take it. Stripe goes on for
/// days; a developer does not wait that long.
const ATTEMPTS: u32 = 6;
/// The first wait between two; each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where events are sent.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// An http URL.
    pub url: String,
    /// The signing secret, `whsec_…`.
    pub secret: String,
}

/// An event that was sent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Delivery {
    pub(crate) event: String,
    pub(crate) r#type: String,
    pub(crate) url: String,
    /// The status that came back; nothing if nobody answered.
    pub(crate) status: Option<u16>,
}

/// The header `Stripe-Signature` of a payload that is sent at this time.
pub fn sign(payload: &[u8], secret: &str, timestamp: i64) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(payload);
    let signature = hex::encode(mac.finalize().into_bytes());
    format!("t={timestamp},v1={signature}")
}

/// Sends what a request has emitted, by the rules of the day, in the background.
pub(crate) fn dispatch(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    let mut events = std::mem::take(&mut state.emitted);
    if events.is_empty() {
        return;
    }
    let rules = state.rules.clone();
    if rules.hold {
        state.held.extend(events);
        return;
    }
    drop(state);
    if rules.reverse {
        events.reverse();
    }
    if rules.duplicate {
        let again = events.clone();
        events.extend(again);
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(rules.delay_ms)).await;
        deliver(&shared, events).await;
    });
}

/// Sends events one after the other to all endpoints.
pub(crate) async fn deliver(shared: &Arc<Shared>, events: Vec<Value>) {
    let endpoints = shared.lock().endpoints.clone();
    for event in events {
        for endpoint in &endpoints {
            if !send(shared, endpoint, &event).await {
                // The others do not wait for it.
                let (shared, endpoint) = (Arc::clone(shared), endpoint.clone());
                let event = event.clone();
                tokio::spawn(async move {
                    let mut wait = FIRST_WAIT;
                    for _ in 1..ATTEMPTS {
                        tokio::time::sleep(wait).await;
                        if send(&shared, &endpoint, &event).await {
                            return;
                        }
                        wait *= 2;
                    }
                });
            }
        }
    }
}

/// Sends an event once; answers whether it was taken.
async fn send(shared: &Shared, endpoint: &Endpoint, event: &Value) -> bool {
    let payload = serde_json::to_vec_pretty(event).unwrap_or_default();
    let signature = sign(&payload, &endpoint.secret, now());
    let request = Request::post(&endpoint.url)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(
            header::USER_AGENT,
            "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        )
        .header("stripe-signature", signature)
        .body(Full::new(Bytes::from(payload)));
    let status = match request {
        Ok(request) => {
            let client: Client<HttpConnector, Full<Bytes>> =
                Client::builder(TokioExecutor::new()).build_http();
            let answer = tokio::time::timeout(PATIENCE, client.request(request)).await;
            answer
                .ok()
                .and_then(Result::ok)
                .map(|answer| answer.status())
        }
        Err(_) => None,
    };
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let delivery = Delivery {
        event: text("id"),
        r#type: text("type"),
        url: endpoint.url.clone(),
        status: status.map(|status| status.as_u16()),
    };
    tracing::info!(
        event = delivery.event,
        r#type = delivery.r#type,
        status = delivery.status,
        "the stand-in for Stripe has sent an event"
    );
    shared.lock().deliveries.push(delivery);
    status.is_some_and(|status| status.is_success())
}
