//! Subscriptions, and the page where an invoice that was sent is paid.

use std::sync::Arc;

use axum::extract::{Path, State as Part};
use axum::response::{Html, IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::api::{metadata, required, text};
use crate::checkout::{escape, layout};
use crate::objects::{self, Line};
use crate::orders::lines;
use crate::reply::{Answer, Reply};
use crate::state::{Shared, State, now};
use crate::webhook;

/// `POST /v1/subscriptions`.
pub(crate) fn create(state: &mut State, url: &str, form: &Value) -> Answer {
    let customer = required(form, "customer")?.to_owned();
    state.named("customer", &customer, "customer")?;
    let lines = lines(state, form, "items")?;
    if let Some(line) = lines.iter().find(|line| line.price["type"] != "recurring") {
        let message = format!(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: {}",
            line.price["id"]
        );
        return Err(Reply::invalid("items[0][price]", message));
    }
    let due = text(form, "days_until_due").map(str::parse::<i64>);
    let sent = text(form, "collection_method") == Some("send_invoice");
    let due = match (sent, due) {
        (true, Some(Ok(days))) if days > 0 => Some(days),
        (true, None) => return Err(Reply::missing("days_until_due")),
        (true, Some(_)) => return Err(Reply::invalid("days_until_due", "Invalid integer")),
        (false, None) => None,
        (false, Some(_)) => {
            let message =
                "You can only set `days_until_due` if `collection_method` is `send_invoice`.";
            return Err(Reply::invalid("days_until_due", message));
        }
    };
    // What is sent as an invoice is active until the invoice is overdue.
    let status = if sent { "active" } else { "incomplete" };
    let id = begin(state, url, &customer, &lines, status, due, metadata(form));
    let subscription = state.get("subscription", &id).cloned();
    subscription.ok_or_else(|| Reply::no_such(404, "subscription", &id, "id"))
}

/// Makes a subscription and its first invoice.
pub(crate) fn begin(
    state: &mut State,
    url: &str,
    customer: &str,
    lines: &[Line],
    status: &str,
    due: Option<i64>,
    metadata: Value,
) -> String {
    let id = state.insert(objects::subscription(
        customer, lines, status, due, metadata,
    ));
    let paid = status == "active" && due.is_none();
    let subscription = state.get("subscription", &id).cloned().unwrap_or_default();
    let mut invoice = objects::invoice(&subscription, lines, paid);
    invoice["customer_email"] = match state.get("customer", customer) {
        Some(customer) => customer["email"].clone(),
        None => Value::Null,
    };
    let invoice = state.insert(invoice);
    if let Some(kept) = state.get_mut("invoice", &invoice) {
        kept["hosted_invoice_url"] = format!("{url}/i/{invoice}").into();
    }
    if let Some(subscription) = state.get_mut("subscription", &id) {
        subscription["latest_invoice"] = invoice.as_str().into();
        let items = subscription["items"]["data"].as_array_mut();
        for item in items.into_iter().flatten() {
            item["subscription"] = id.as_str().into();
        }
    }
    state.emit("customer.subscription.created", "subscription", &id);
    state.emit(
        if paid {
            "invoice.paid"
        } else {
            "invoice.finalized"
        },
        "invoice",
        &invoice,
    );
    id
}

/// `POST /v1/subscriptions/{id}`: metadata, and whether it ends with its period.
pub(crate) fn update(state: &mut State, id: &str, form: &Value) -> Answer {
    let subscription = living(state, id)?;
    if let Some(at_end) = text(form, "cancel_at_period_end") {
        let at_end = at_end == "true";
        subscription["cancel_at_period_end"] = at_end.into();
        subscription["canceled_at"] = if at_end { now().into() } else { Value::Null };
    }
    if let Some(Value::Object(metadata)) = form.get("metadata") {
        for (name, value) in metadata {
            subscription["metadata"][name] = value.clone();
        }
    }
    let answer = subscription.clone();
    state.emit("customer.subscription.updated", "subscription", id);
    Ok(answer)
}

/// `DELETE /v1/subscriptions/{id}`.
pub(crate) fn cancel(state: &mut State, id: &str) -> Answer {
    let subscription = living(state, id)?;
    subscription["status"] = "canceled".into();
    subscription["canceled_at"] = now().into();
    subscription["ended_at"] = now().into();
    subscription["cancellation_details"]["reason"] = "cancellation_requested".into();
    let answer = subscription.clone();
    state.emit("customer.subscription.deleted", "subscription", id);
    Ok(answer)
}

/// One that is not canceled; Stripe does not find others to change.
fn living<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Value, Reply> {
    let found = state.get_mut("subscription", id);
    let living = found.filter(|subscription| subscription["status"] != "canceled");
    living.ok_or_else(|| Reply::no_such(404, "subscription", id, "id"))
}

/// `GET /i/{id}`.
pub(crate) async fn invoice_page(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Reply> {
    let state = shared.lock();
    let missing = || Reply::no_such(404, "invoice", &id, "id");
    let invoice = state.get("invoice", &id).ok_or_else(missing)?;
    let body = match invoice["status"] == "paid" {
        true => "<p id=\"status\">Paid. Thank you!</p>".to_owned(),
        false => format!(
            "<p>{} {} are due.</p><form method=\"post\"><button id=\"pay\">Pay</button></form>",
            invoice["amount_due"],
            escape(invoice["currency"].as_str().unwrap_or_default()),
        ),
    };
    Ok(Html(layout("Invoice", &body)).into_response())
}

/// `POST /i/{id}`: it is paid.
pub(crate) async fn pay_invoice(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Reply> {
    {
        let mut state = shared.lock();
        let missing = || Reply::no_such(404, "invoice", &id, "id");
        let invoice = state.get_mut("invoice", &id).ok_or_else(missing)?;
        if invoice["status"] == "paid" {
            return Err(Reply::invalid("invoice", "Invoice is already paid"));
        }
        invoice["status"] = "paid".into();
        invoice["amount_paid"] = invoice["amount_due"].clone();
        invoice["amount_remaining"] = json!(0);
        let of = &invoice["parent"]["subscription_details"]["subscription"];
        let of = of.as_str().unwrap_or_default().to_owned();
        state.emit("invoice.paid", "invoice", &id);
        if let Some(subscription) = state.get_mut("subscription", &of)
            && subscription["status"] != "canceled"
            && subscription["status"] != "active"
        {
            subscription["status"] = "active".into();
            state.emit("customer.subscription.updated", "subscription", &of);
        }
    }
    webhook::dispatch(&shared);
    invoice_page(Part(shared), Path(id)).await
}
