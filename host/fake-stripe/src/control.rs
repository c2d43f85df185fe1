//! `/_fake/`: what tests and developers tell the fake to do. Bodies and answers are
//! JSON.
//!
//! ```text
//! POST /_fake/faults         [{"kind": "500", "times": 2, "path": "/v1/refunds", "after": true}]
//! POST /_fake/webhooks       {"hold": true, "reverse": true, "duplicate": true, "delay_ms": 500}
//! GET  /_fake/webhooks       what was delivered, and what is held
//! POST /_fake/release        {"order": [1, 0]}  delivers what is held, in this order or its own
//! POST /_fake/endpoints      {"url": "http://…", "secret": "whsec_…"}
//! GET  /_fake/requests       what was asked of the API: method, path, idempotency key
//! POST /_fake/subscriptions/ID {"status": "past_due"}
//! ```
//!
//! A fault's `kind` is `429`, `500`, `lock` (409, another request holds the object),
//! `decline` (402), `unauthorized` (401), `drop` (the connection ends without an answer) or `slow` (an answer
//! after `delay_ms`). With `after` the request is done, and remembered under its
//! idempotency key, before its answer is lost.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Part};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::reply::Reply;
use crate::state::Shared;
use crate::webhook::{self, Endpoint};

/// What goes wrong with requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// How many requests it meets.
    #[serde(default = "once")]
    pub(crate) times: u32,
    /// Only requests whose path starts so.
    #[serde(default)]
    pub(crate) path: String,
    /// Whether the request is done all the same.
    #[serde(default)]
    pub(crate) after: bool,
    /// For `slow`.
    #[serde(default)]
    pub(crate) delay_ms: u64,
}

fn once() -> u32 {
    1
}

/// In which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Kind {
    #[serde(rename = "429")]
    RateLimit,
    #[serde(rename = "500")]
    Internal,
    #[serde(rename = "lock")]
    Lock,
    #[serde(rename = "decline")]
    Decline,
    #[serde(rename = "unauthorized")]
    Unauthorized,
    #[serde(rename = "drop")]
    Drop,
    #[serde(rename = "slow")]
    Slow,
}

impl Kind {
    /// The error that takes an answer's place; nothing where there is none.
    pub(crate) fn reply(self) -> Option<Reply> {
        match self {
            Kind::RateLimit => Some(Reply::error(
                429,
                "invalid_request_error",
                Some("rate_limit"),
                "Too many requests hit the API too quickly.",
            )),
            Kind::Internal => Some(Reply::error(
                500,
                "api_error",
                None,
                "An unknown error occurred.",
            )),
            Kind::Lock => Some(Reply::error(
                409,
                "invalid_request_error",
                Some("lock_timeout"),
                "This object cannot be accessed right now because another API request or Stripe process is currently accessing it.",
            )),
            Kind::Decline => Some(declined()),
            Kind::Unauthorized => Some(Reply::error(
                401,
                "invalid_request_error",
                Some("api_key_expired"),
                "Expired API Key provided: sk_test_*******heim",
            )),
            Kind::Drop | Kind::Slow => None,
        }
    }
}

/// 402.
pub(crate) fn declined() -> Reply {
    let mut reply = Reply::error(
        402,
        "card_error",
        Some("card_declined"),
        "Your card was declined.",
    );
    reply.body["error"]["decline_code"] = "generic_decline".into();
    reply
}

/// How events are delivered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebhookRules {
    /// Not before `/_fake/release`.
    pub(crate) hold: bool,
    /// Those of one request the other way round.
    pub(crate) reverse: bool,
    /// All of them twice.
    pub(crate) duplicate: bool,
    /// After so many milliseconds.
    pub(crate) delay_ms: u64,
}

pub(crate) async fn faults(
    Part(shared): Part<Arc<Shared>>,
    Json(faults): Json<Vec<Fault>>,
) -> Json<Value> {
    shared.lock().faults = faults.into();
    Json(json!({"ok": true}))
}

pub(crate) async fn webhooks(
    Part(shared): Part<Arc<Shared>>,
    Json(rules): Json<WebhookRules>,
) -> Json<Value> {
    shared.lock().rules = rules;
    Json(json!({"ok": true}))
}

pub(crate) async fn deliveries(Part(shared): Part<Arc<Shared>>) -> Json<Value> {
    let state = shared.lock();
    Json(json!({"delivered": state.deliveries, "held": state.held}))
}

#[derive(Deserialize)]
pub(crate) struct Release {
    #[serde(default)]
    order: Option<Vec<usize>>,
}

/// Answers when everything was sent once.
pub(crate) async fn release(
    Part(shared): Part<Arc<Shared>>,
    Json(release): Json<Release>,
) -> Json<Value> {
    let held = {
        let mut state = shared.lock();
        state.rules.hold = false;
        std::mem::take(&mut state.held)
    };
    let events: Vec<Value> = match release.order {
        None => held,
        Some(order) => {
            let at = |index: usize| held.get(index).cloned();
            order.into_iter().filter_map(at).collect()
        }
    };
    let sent = events.len();
    webhook::deliver(&shared, events).await;
    Json(json!({"sent": sent}))
}

#[derive(Deserialize)]
pub(crate) struct NewEndpoint {
    url: String,
    secret: String,
}

pub(crate) async fn endpoints(
    Part(shared): Part<Arc<Shared>>,
    Json(new): Json<NewEndpoint>,
) -> Json<Value> {
    let (url, secret) = (new.url, new.secret);
    shared.lock().endpoints.push(Endpoint { url, secret });
    Json(json!({"ok": true}))
}

pub(crate) async fn requests(Part(shared): Part<Arc<Shared>>) -> Json<Value> {
    Json(shared.lock().requests.clone().into())
}

/// Has something become of a subscription that only time or Stripe does.
pub(crate) async fn subscription(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
    Json(change): Json<Value>,
) -> Result<Json<Value>, Reply> {
    let answer = {
        let mut state = shared.lock();
        let subscription = state.get_mut("subscription", &id);
        let subscription =
            subscription.ok_or_else(|| Reply::no_such(404, "subscription", &id, "id"))?;
        if let Some(status) = change["status"].as_str() {
            subscription["status"] = status.into();
        }
        let answer = subscription.clone();
        state.emit("customer.subscription.updated", "subscription", &id);
        answer
    };
    webhook::dispatch(&shared);
    Ok(Json(answer))
}
