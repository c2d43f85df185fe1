//! `/v1/…`: who asks, whether the answer is known already, what goes wrong, and then
//! the object that is asked for. <https://docs.stripe.com/api>

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State as Part};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, Uri, header};
use serde_json::{Map, Value, json};

use crate::control::Kind;
use crate::objects::{self, Line};
use crate::reply::{Answer, Reply};
use crate::state::{Remembered, Shared, State};
use crate::{form, portal, subscriptions, webhook};

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
        ("POST", ["customers"]) => create_customer(state, &form),
        ("POST", ["products"]) => create_product(state, &form),
        ("POST", ["prices"]) => create_price(state, &form),
        ("POST", ["refunds"]) => refund(state, &form),
        ("POST", ["checkout", "sessions"]) => create_session(state, url, &form),
        ("POST", ["checkout", "sessions", id, "expire"]) => expire(state, id),
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

fn show(state: &State, kind: &str, id: &str) -> Answer {
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

fn integer(form: &Value, name: &str, param: &str) -> Result<Option<i64>, Reply> {
    let invalid = || Reply::invalid(param, format!("Invalid integer: {}", form[name]));
    let parsed = text(form, name).map(|text| text.parse().map_err(|_| invalid()));
    parsed.transpose()
}

pub(crate) fn new_customer(state: &mut State, customer: Value) -> String {
    let id = state.insert(customer);
    state.emit("customer.created", "customer", &id);
    id
}

fn create_customer(state: &mut State, form: &Value) -> Answer {
    let email = text(form, "email");
    if email.is_some_and(|email| !email.contains('@')) {
        let message = format!("Invalid email address: {}", email.unwrap_or_default());
        return Err(Reply::invalid("email", message));
    }
    let id = new_customer(
        state,
        objects::customer(email, text(form, "name"), metadata(form)),
    );
    show(state, "customer", &id)
}

fn create_product(state: &mut State, form: &Value) -> Answer {
    let id = state.insert(objects::product(required(form, "name")?));
    state.emit("product.created", "product", &id);
    show(state, "product", &id)
}

fn create_price(state: &mut State, form: &Value) -> Answer {
    let price = ad_hoc_price(state, form, "")?;
    let id = price["id"].as_str().unwrap_or_default().to_owned();
    state.emit("price.created", "price", &id);
    Ok(price)
}

/// Of `price_data`, or of what a price is created with.
fn ad_hoc_price(state: &mut State, form: &Value, param: &str) -> Answer {
    let at = |name: &str| match param {
        "" => name.to_owned(),
        param => format!("{param}[{name}]"),
    };
    let currency = text(form, "currency").ok_or_else(|| Reply::missing(&at("currency")))?;
    let amount = integer(form, "unit_amount", &at("unit_amount"))?;
    let amount = amount.ok_or_else(|| Reply::missing(&at("unit_amount")))?;
    if amount < 0 {
        return Err(Reply::invalid(
            &at("unit_amount"),
            "This value must be greater than or equal to 0.",
        ));
    }
    let every = form
        .get("recurring")
        .and_then(|recurring| text(recurring, "interval"));
    let product = match (text(form, "product"), form.get("product_data")) {
        (Some(id), _) => {
            state.named("product", id, &at("product"))?;
            id.to_owned()
        }
        (None, Some(data)) => {
            let name =
                text(data, "name").ok_or_else(|| Reply::missing(&at("product_data[name]")))?;
            state.insert(objects::product(name))
        }
        (None, None) => return Err(Reply::missing(&at("product"))),
    };
    let id = state.insert(objects::price(&product, amount, currency, every));
    show(state, "price", &id)
}

/// What is bought: `price` or `price_data`, and `quantity`.
pub(crate) fn lines(state: &mut State, form: &Value, name: &str) -> Result<Vec<Line>, Reply> {
    let items = form.get(name).and_then(Value::as_array);
    let items = items.filter(|items| !items.is_empty());
    let mut lines = Vec::new();
    for (index, item) in items
        .ok_or_else(|| Reply::missing(name))?
        .iter()
        .enumerate()
    {
        let param = format!("{name}[{index}]");
        let price = match (text(item, "price"), item.get("price_data")) {
            (Some(id), _) => state
                .named("price", id, &format!("{param}[price]"))?
                .clone(),
            (None, Some(data)) => {
                let data = data.clone();
                ad_hoc_price(state, &data, &format!("{param}[price_data]"))?
            }
            (None, None) => return Err(Reply::missing(&format!("{param}[price]"))),
        };
        let quantity = integer(item, "quantity", &format!("{param}[quantity]"))?.unwrap_or(1);
        if quantity < 1 {
            let message = "This value must be greater than or equal to 1.";
            return Err(Reply::invalid(&format!("{param}[quantity]"), message));
        }
        lines.push(Line { price, quantity });
    }
    let first = lines.first().map(|line| line.price["currency"].clone());
    if lines
        .iter()
        .any(|line| Some(&line.price["currency"]) != first.as_ref())
    {
        return Err(Reply::invalid(
            name,
            "All prices must have the same currency.",
        ));
    }
    Ok(lines)
}

fn create_session(state: &mut State, url: &str, form: &Value) -> Answer {
    let mode = required(form, "mode")?;
    if !matches!(mode, "payment" | "subscription") {
        let message = "Invalid mode: must be one of payment or subscription";
        return Err(Reply::invalid("mode", message));
    }
    for name in ["success_url", "cancel_url"] {
        let target = text(form, name);
        if name == "success_url" && target.is_none() {
            return Err(Reply::missing(name));
        }
        let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        if target.is_some_and(|target| !is_url(target)) {
            let code = Some("url_invalid");
            return Err(Reply::error(
                400,
                "invalid_request_error",
                code,
                "Not a valid URL",
            ));
        }
    }
    if let Some(customer) = text(form, "customer") {
        state.named("customer", customer, "customer")?;
    }
    let lines = lines(state, form, "line_items")?;
    let recurring = |line: &Line| line.price["type"] == "recurring";
    if mode == "payment" && lines.iter().any(recurring) {
        let message = "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.";
        return Err(Reply::invalid("line_items", message));
    }
    if mode == "subscription" && !lines.iter().any(recurring) {
        let message = "You must provide at least one recurring price in `subscription` mode when using prices.";
        return Err(Reply::invalid("line_items", message));
    }
    let id = state.insert(objects::session(mode, &lines, form));
    let bought: Vec<Value> = lines
        .iter()
        .map(|line| json!({"price": line.price, "quantity": line.quantity}))
        .collect();
    // Beside it, since Stripe's own object does not show them.
    let lines = json!({"id": "lines", "object": "fake.lines", "of": id, "lines": bought});
    state.insert(lines);
    if let Some(session) = state.get_mut("checkout.session", &id) {
        session["url"] = format!("{url}/c/pay/{id}").into();
    }
    show(state, "checkout.session", &id)
}

/// What a session sells.
pub(crate) fn lines_of(state: &State, session: &str) -> Vec<Line> {
    let all = state.all("fake.lines");
    let kept = all.into_iter().find(|lines| lines["of"] == session);
    let lines = kept.and_then(|kept| kept["lines"].as_array());
    lines
        .into_iter()
        .flatten()
        .map(|line| Line {
            price: line["price"].clone(),
            quantity: line["quantity"].as_i64().unwrap_or(1),
        })
        .collect()
}

fn expire(state: &mut State, id: &str) -> Answer {
    let missing = || Reply::no_such(404, "checkout.session", id, "session");
    let session = state.get_mut("checkout.session", id).ok_or_else(missing)?;
    if session["status"] != "open" {
        return Err(Reply::invalid(
            "session",
            "Only Checkout Sessions with a status in [\"open\"] can be expired.",
        ));
    }
    session["status"] = "expired".into();
    session["url"] = Value::Null;
    state.emit("checkout.session.expired", "checkout.session", id);
    show(state, "checkout.session", id)
}

fn refund(state: &mut State, form: &Value) -> Answer {
    let intent = text(form, "payment_intent");
    if let Some(intent) = intent {
        state.named("payment_intent", intent, "payment_intent")?;
    }
    let charge = match (text(form, "charge"), intent) {
        (Some(id), _) => state.named("charge", id, "charge")?.clone(),
        (None, Some(intent)) => {
            let all = state.all("charge");
            let charge = all
                .into_iter()
                .find(|charge| charge["payment_intent"] == intent);
            let unpaid = || {
                Reply::invalid(
                    "payment_intent",
                    "This PaymentIntent does not have a successful charge to refund.",
                )
            };
            charge.cloned().ok_or_else(unpaid)?
        }
        (None, None) => return Err(Reply::missing("charge")),
    };
    let charge_id = charge["id"].as_str().unwrap_or_default().to_owned();
    let of = |name: &str| charge[name].as_i64().unwrap_or(0);
    let left = of("amount") - of("amount_refunded");
    if left == 0 {
        let message = format!("Charge {charge_id} has already been refunded.");
        let code = Some("charge_already_refunded");
        return Err(Reply::error(400, "invalid_request_error", code, &message));
    }
    let amount = integer(form, "amount", "amount")?.unwrap_or(left);
    if !(1..=left).contains(&amount) {
        let message = format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        );
        return Err(Reply::invalid("amount", message));
    }
    let reason = form.get("reason").cloned().unwrap_or(Value::Null);
    let id = state.insert(objects::refund(amount, &charge, reason, metadata(form)));
    if let Some(charge) = state.get_mut("charge", &charge_id) {
        charge["amount_refunded"] = (of("amount_refunded") + amount).into();
        charge["refunded"] = (amount == left).into();
    }
    state.emit("refund.created", "refund", &id);
    state.emit("charge.refunded", "charge", &charge_id);
    show(state, "refund", &id)
}
