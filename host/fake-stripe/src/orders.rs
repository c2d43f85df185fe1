//! What is made with a form: customers, products, prices, Checkout sessions, refunds.

use serde_json::{Value, json};

use crate::api::{metadata, required, show, text};
use crate::objects::{self, Line};
use crate::reply::{Answer, Reply};
use crate::state::State;

pub(crate) fn new_customer(state: &mut State, customer: Value) -> String {
    let id = state.insert(customer);
    state.emit("customer.created", "customer", &id);
    id
}

pub(crate) fn create_customer(state: &mut State, form: &Value) -> Answer {
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

pub(crate) fn create_product(state: &mut State, form: &Value) -> Answer {
    let id = state.insert(objects::product(required(form, "name")?));
    state.emit("product.created", "product", &id);
    show(state, "product", &id)
}

pub(crate) fn create_price(state: &mut State, form: &Value) -> Answer {
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

pub(crate) fn create_session(state: &mut State, url: &str, form: &Value) -> Answer {
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

pub(crate) fn expire(state: &mut State, id: &str) -> Answer {
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

pub(crate) fn refund(state: &mut State, form: &Value) -> Answer {
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

fn integer(form: &Value, name: &str, param: &str) -> Result<Option<i64>, Reply> {
    let invalid = || Reply::invalid(param, format!("Invalid integer: {}", form[name]));
    let parsed = text(form, name).map(|text| text.parse().map_err(|_| invalid()));
    parsed.transpose()
}
