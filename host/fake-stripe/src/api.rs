//! `/v1/…`: who asks, whether the answer is known already, what goes wrong, and then
//! the object that is asked for. <https://docs.stripe.com/api>

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State as Part};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, Uri, header};
use serde_json::{Map, Value, json};

use crate::control::Kind;
use crate::reply::{Answer, Reply};
use crate::state::{Remembered, Shared, State};
use crate::{form, orders, portal, subscriptions, webhook};

/// Larger forms are not sent to Stripe.
const MAX_BODY: usize = 1024 * 1024;

pub(crate) async fn handle(Part(shared): Part<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return Reply::error(400, "invalid_request_error", None, "Invalid body").into_response();
    };
    let fault = next_fault(&shared, parts.uri.path());
    if let Some((kind, delay, false)) = fault {
        match kind {
            Kind::Drop => return hang_up(),
            Kind::Slow => tokio::time::sleep(delay).await,
            _ => {}
        }
        if let Some(reply) = kind.reply() {
            note(
                &shared,
                &parts.method,
                &parts.uri,
                &parts.headers,
                reply.status,
            );
            return reply.into_response();
        }
    }
    let reply = answer(&shared, &parts.method, &parts.uri, &parts.headers, &body);
    note(
        &shared,
        &parts.method,
        &parts.uri,
        &parts.headers,
        reply.status,
    );
    webhook::dispatch(&shared);
    if let Some((kind, delay, true)) = fault {
        match kind {
            Kind::Drop => return hang_up(),
            Kind::Slow => tokio::time::sleep(delay).await,
            _ => {}
        }
        if let Some(reply) = kind.reply() {
            return reply.into_response();
        }
    }
    reply.into_response()
}

/// An answer whose body ends in an error: the connection is closed within it.
fn hang_up() -> Response {
    let lost = futures_util::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other(
        "the answer is lost",
    ))]);
    Response::new(axum::body::Body::from_stream(lost))
}

/// The fault that meets this request: its kind, a delay, and whether it comes after.
fn next_fault(shared: &Shared, path: &str) -> Option<(Kind, Duration, bool)> {
    let mut state = shared.lock();
    let fault = state
        .faults
        .iter_mut()
        .find(|fault| fault.times > 0 && path.starts_with(&fault.path))?;
    fault.times -= 1;
    let delay = Duration::from_millis(fault.delay_ms);
    Some((fault.kind, delay, fault.after))
}

fn note(shared: &Shared, method: &Method, uri: &Uri, headers: &HeaderMap, status: u16) {
    let key = idempotency_key(headers);
    shared.lock().requests.push(json!({
        "method": method.as_str(), "path": uri.path(), "idempotency_key": key, "status": status,
    }));
}

fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    headers.get("idempotency-key")?.to_str().ok()
}

fn answer(shared: &Shared, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Reply {
    let authorised = headers.get(header::AUTHORIZATION);
    let key = authorised.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !key.is_some_and(|key| key.starts_with("sk_test_") || key.starts_with("rk_test_")) {
        let shown: String = key.unwrap_or_default().chars().take(8).collect();
        let message = format!("Invalid API Key provided: {shown}****");
        return Reply::error(401, "invalid_request_error", None, &message);
    }
    let text = match *method {
        Method::POST => body,
        _ => uri.query().unwrap_or_default().as_bytes(),
    };
    let form = match form::parse(text) {
        Ok(form) => form,
        Err(message) => return Reply::error(400, "invalid_request_error", None, &message),
    };
    let mut state = shared.lock();
    let key = idempotency_key(headers).filter(|_| *method == Method::POST);
    // What differs only in the order of the parameters is the same.
    let asked = format!(
        "{method} {} {}",
        uri.path(),
        sorted(&Value::Object(form.clone()))
    );
    if let Some(known) = key.and_then(|key| state.keys.get(key)) {
        if known.asked == asked {
            return known.answer.clone();
        }
        let message = "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than the one you used before if you meant to execute a different request.";
        return Reply::error(400, "idempotency_error", None, message);
    }
    state.request_key = key.map(str::to_owned);
    let done = route(&mut state, &shared.url, method, uri.path(), form);
    state.request_key = None;
    let answer = done.map_or_else(|error| error, Reply::ok);
    if let Some(key) = key {
        // Stripe keeps whatever an endpoint has begun to answer with.
        let answer = answer.clone();
        state
            .keys
            .insert(key.to_owned(), Remembered { asked, answer });
    }
    answer
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut parts: Vec<String> = object
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", sorted(value)))
                .collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(list) => list.iter().map(sorted).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Kinds of objects that can be looked at and listed, by the name of their path.
const KINDS: [(&str, &str); 9] = [
    ("customers", "customer"),
    ("products", "product"),
    ("prices", "price"),
    ("payment_intents", "payment_intent"),
    ("charges", "charge"),
    ("refunds", "refund"),
    ("subscriptions", "subscription"),
    ("invoices", "invoice"),
    ("events", "event"),
];

fn route(
    state: &mut State,
    url: &str,
    method: &Method,
    path: &str,
    form: Map<String, Value>,
) -> Answer {
    let form = Value::Object(form);
    let path = path.strip_prefix("/v1/").unwrap_or(path);
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match (method.as_str(), segments.as_slice()) {
        ("POST", ["customers"]) => orders::create_customer(state, &form),
        ("POST", ["products"]) => orders::create_product(state, &form),
        ("POST", ["prices"]) => orders::create_price(state, &form),
        ("POST", ["refunds"]) => orders::refund(state, &form),
        ("POST", ["checkout", "sessions"]) => orders::create_session(state, url, &form),
        ("POST", ["checkout", "sessions", id, "expire"]) => orders::expire(state, id),
        ("GET", ["checkout", "sessions", id]) => show(state, "checkout.session", id),
        ("GET", ["checkout", "sessions"]) => list(state, "checkout.session", path, &form),
        ("POST", ["subscriptions"]) => subscriptions::create(state, url, &form),
        ("POST", ["subscriptions", id]) => subscriptions::update(state, id, &form),
        ("DELETE", ["subscriptions", id]) => subscriptions::cancel(state, id),
        ("POST", ["billing_portal", "sessions"]) => portal::create(state, url, &form),
        ("GET", [plural]) => match kind(plural) {
            Some(kind) => list(state, kind, path, &form),
            None => Err(unrecognized(method, path)),
        },
        ("GET", [plural, id]) => match kind(plural) {
            Some(kind) => show(state, kind, id),
            None => Err(unrecognized(method, path)),
        },
        _ => Err(unrecognized(method, path)),
    }
}

fn kind(plural: &str) -> Option<&'static str> {
    let found = KINDS.iter().find(|(name, _)| *name == plural);
    found.map(|(_, kind)| *kind)
}

fn unrecognized(method: &Method, path: &str) -> Reply {
    let message = format!("Unrecognized request URL ({method}: /v1/{path}).");
    Reply::error(404, "invalid_request_error", None, &message)
}

pub(crate) fn show(state: &State, kind: &str, id: &str) -> Answer {
    let found = state.get(kind, id);
    found
        .cloned()
        .ok_or_else(|| Reply::no_such(404, kind, id, "id"))
}

/// Filters by members that are texts or flags; `limit`, `starting_after`.
fn list(state: &State, kind: &str, path: &str, form: &Value) -> Answer {
    let limit = match text(form, "limit").map(str::parse::<usize>) {
        None => 10,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(Reply::invalid("limit", "Invalid limit: must be 1 to 100")),
    };
    let mut all = state.all(kind);
    for name in [
        "active",
        "customer",
        "email",
        "product",
        "status",
        "type",
        "currency",
        "payment_intent",
    ] {
        if let Some(wanted) = text(form, name) {
            all.retain(|object| match &object[name] {
                Value::Bool(flag) => flag.to_string() == wanted,
                Value::String(text) => text == wanted,
                _ => false,
            });
        }
    }
    if let Some(after) = text(form, "starting_after") {
        let at = all.iter().position(|object| object["id"] == after);
        let at = at.ok_or_else(|| Reply::no_such(400, kind, after, "starting_after"))?;
        all.drain(..=at);
    }
    let has_more = all.len() > limit;
    all.truncate(limit);
    Ok(json!({"object": "list", "data": all, "has_more": has_more, "url": format!("/v1/{path}")}))
}

/// A parameter that is a text, and not empty.
pub(crate) fn text<'a>(form: &'a Value, name: &str) -> Option<&'a str> {
    form.get(name)?.as_str().filter(|text| !text.is_empty())
}

pub(crate) fn required<'a>(form: &'a Value, name: &str) -> Result<&'a str, Reply> {
    text(form, name).ok_or_else(|| Reply::missing(name))
}

pub(crate) fn metadata(form: &Value) -> Value {
    form.get("metadata").cloned().unwrap_or_else(|| json!({}))
}
