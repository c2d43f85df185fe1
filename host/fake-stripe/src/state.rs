//! What the fake knows: its objects in the order of their making, answers by
//! idempotency key, faults to come, and what is still to be delivered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::control::{Fault, WebhookRules};
use crate::reply::Reply;
use crate::webhook::{Delivery, Endpoint};

/// Stripe's version that the objects are of.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

/// What all requests share.
pub(crate) struct Shared {
    /// The fake's own address, for the pages that it links to.
    pub(crate) url: String,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By id. Ids begin with the kind and a number that counts up, so that this is
    /// the order of making within a kind.
    objects: BTreeMap<String, Value>,
    made: u64,
    pub(crate) keys: BTreeMap<String, Remembered>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) rules: WebhookRules,
    /// Events that wait for `/_fake/release`.
    pub(crate) held: Vec<Value>,
    /// What was sent, oldest first.
    pub(crate) deliveries: Vec<Delivery>,
    /// Requests that reached the API, oldest first.
    pub(crate) requests: Vec<Value>,
    /// Events of the request at hand.
    pub(crate) emitted: Vec<Value>,
    /// The idempotency key of the request at hand.
    pub(crate) request_key: Option<String>,
}

/// An answer that an idempotency key gets again.
pub(crate) struct Remembered {
    /// Method, path and parameters.
    pub(crate) asked: String,
    pub(crate) answer: Reply,
}

impl Shared {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            state: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one request leaves plain data behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps a new object; answers with its id. The id is made here from the prefix
    /// that the object brings.
    pub(crate) fn insert(&mut self, mut object: Value) -> String {
        self.made += 1;
        let prefix = object["id"].as_str().unwrap_or("obj").to_owned();
        let id = format!("{prefix}_{:06}{}", self.made, random());
        object["id"] = id.as_str().into();
        self.objects.insert(id.clone(), object);
        id
    }

    /// The object of this id and kind (`object` in it).
    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<&Value> {
        self.objects
            .get(id)
            .filter(|object| object["object"] == kind)
    }

    pub(crate) fn get_mut(&mut self, kind: &str, id: &str) -> Option<&mut Value> {
        self.objects
            .get_mut(id)
            .filter(|object| object["object"] == kind)
    }

    /// The object, or what Stripe says where a parameter names one that is not there.
    pub(crate) fn named(&self, kind: &str, id: &str, param: &str) -> Result<&Value, Reply> {
        let missing = || Reply::no_such(400, kind, id, param);
        self.get(kind, id).ok_or_else(missing)
    }

    /// All of a kind, the newest first.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        let of_kind = |object: &&Value| object["object"] == kind;
        self.objects.values().filter(of_kind).rev().collect()
    }

    /// Says that something has happened to an object, as it is now.
    pub(crate) fn emit(&mut self, name: &str, kind: &str, id: &str) {
        let Some(object) = self.get(kind, id).cloned() else {
            return;
        };
        let event = json!({
            "id": "evt",
            "object": "event",
            "api_version": API_VERSION,
            "created": now(),
            "data": {"object": object},
            "livemode": false,
            "pending_webhooks": self.endpoints.len(),
            "request": {"id": format!("req_{}", random()), "idempotency_key": self.request_key},
            "type": name,
        });
        let id = self.insert(event);
        let event = self.objects.get(&id).cloned();
        self.emitted.extend(event);
    }
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Sixteen hex digits.
pub(crate) fn random() -> String {
    let mut bytes = [0; 8];
    // A fake that cannot get random bytes still has ids that count up.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}
