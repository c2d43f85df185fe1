//! The Checkout page: what Stripe shows between the shop's link and its success page.

use std::sync::Arc;

use axum::extract::{Path, State as Part};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::text;
use crate::objects;
use crate::orders::{self, lines_of};
use crate::reply::Reply;
use crate::state::{Shared, State};
use crate::{form, subscriptions, webhook};

const KIND: &str = "checkout.session";

/// `GET /c/pay/{id}`.
pub(crate) async fn page(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Reply> {
    show(&shared.lock(), &id, None)
}

fn show(state: &State, id: &str, problem: Option<&str>) -> Result<Response, Reply> {
    let session = state
        .get(KIND, id)
        .ok_or_else(|| Reply::no_such(404, KIND, id, "id"))?;
    if session["status"] != "open" {
        let body = "<p id=\"status\">This page is no longer open: the session is over.</p>";
        return Ok(Html(layout("Checkout", body)).into_response());
    }
    let lines = lines_of(state, id);
    let rows: String = lines
        .iter()
        .map(|line| {
            let product = line.price["product"].as_str().unwrap_or_default();
            let product = state.get("product", product);
            let name = product
                .and_then(|product| product["name"].as_str())
                .unwrap_or("?");
            let amount = money(line.amount(), session);
            format!(
                "<tr><td>{} × {}</td><td>{amount}</td></tr>",
                line.quantity,
                escape(name)
            )
        })
        .collect();
    let total = money(objects::total(&lines), session);
    let email = session["customer_email"].as_str().unwrap_or_default();
    let problem =
        problem.map(|text| format!("<p id=\"problem\" role=\"alert\">{}</p>", escape(text)));
    let cancel = match session["cancel_url"].is_string() {
        true => {
            "<button id=\"cancel\" name=\"action\" value=\"cancel\" formnovalidate>Cancel</button>"
        }
        false => "",
    };
    let body = format!(
        "<table>{rows}<tr><th>Total</th><th id=\"total\">{total}</th></tr></table>{}\
         <form method=\"post\">\
         <p><label>Email <input type=\"email\" name=\"email\" value=\"{}\" required></label></p>\
         <p><label>Card <select name=\"card\">\
         <option value=\"4242424242424242\">4242 4242 4242 4242: pays</option>\
         <option value=\"4000000000000002\">4000 0000 0000 0002: is declined</option>\
         <option value=\"4000000000009995\">4000 0000 0000 9995: has no funds</option>\
         </select></label></p>\
         <p><button id=\"pay\" name=\"action\" value=\"pay\">Pay {total}</button>\
         <button id=\"decline\" name=\"action\" value=\"decline\">Pay with a card that is declined</button>\
         {cancel}</p></form>",
        problem.unwrap_or_default(),
        escape(email),
    );
    Ok(Html(layout("Checkout", &body)).into_response())
}

/// `POST /c/pay/{id}`: what the customer has decided.
pub(crate) async fn decide(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Reply> {
    let form = Value::Object(form::parse(&body).map_err(|error| Reply::invalid("body", error))?);
    let answer = {
        let mut state = shared.lock();
        let session = state
            .get(KIND, &id)
            .ok_or_else(|| Reply::no_such(404, KIND, &id, "id"))?;
        if session["status"] != "open" {
            return show(&state, &id, None);
        }
        let session = session.clone();
        let card = text(&form, "card").unwrap_or("4242424242424242");
        match (text(&form, "action"), card) {
            (Some("cancel"), _) => {
                let target = session["cancel_url"].as_str().unwrap_or("/");
                Redirect::to(target).into_response()
            }
            (Some("pay"), "4242424242424242") => {
                let email = text(&form, "email").or_else(|| session["customer_email"].as_str());
                complete(&mut state, &shared.url, &session, email);
                let target = session["success_url"].as_str().unwrap_or("/");
                // Stripe puts the session's id there, as a shop asks for it.
                let target = target.replace("{CHECKOUT_SESSION_ID}", &id);
                Redirect::to(&target).into_response()
            }
            (Some("pay"), "4000000000009995") => {
                decline(&mut state, &session, "insufficient_funds");
                show(&state, &id, Some("Your card has insufficient funds."))?
            }
            (Some("pay" | "decline"), _) => {
                decline(&mut state, &session, "generic_decline");
                show(&state, &id, Some("Your card was declined."))?
            }
            _ => return Err(Reply::invalid("action", "Invalid action")),
        }
    };
    webhook::dispatch(&shared);
    Ok(answer)
}

/// The money is there: the session is complete, and all that comes of it exists.
fn complete(state: &mut State, url: &str, session: &Value, email: Option<&str>) {
    let id = session["id"].as_str().unwrap_or_default();
    let lines = lines_of(state, id);
    let subscribes = session["mode"] == "subscription";
    let customer = match session["customer"].as_str() {
        Some(known) => Some(known.to_owned()),
        // A payment needs none.
        None if !subscribes => None,
        None => Some(orders::new_customer(
            state,
            objects::customer(email, None, json!({})),
        )),
    };
    let (mut intent_id, mut subscription_id) = (Value::Null, Value::Null);
    if subscribes {
        let customer = customer.as_deref().unwrap_or_default();
        let begun = subscriptions::begin(state, url, customer, &lines, "active", None, json!({}));
        subscription_id = begun.into();
    } else {
        let (amount, currency) = (objects::total(&lines), objects::currency(&lines));
        let mut intent = objects::payment_intent(amount, &currency, customer.clone().into(), true);
        intent["metadata"] = session["metadata"].clone();
        let new = state.insert(intent);
        let intent = state
            .get("payment_intent", &new)
            .cloned()
            .unwrap_or_default();
        let charge = state.insert(objects::charge(&intent, email));
        if let Some(intent) = state.get_mut("payment_intent", &new) {
            intent["latest_charge"] = charge.as_str().into();
        }
        state.emit("charge.succeeded", "charge", &charge);
        state.emit("payment_intent.succeeded", "payment_intent", &new);
        intent_id = new.into();
    }
    if let Some(kept) = state.get_mut(KIND, id) {
        kept["status"] = "complete".into();
        kept["payment_status"] = "paid".into();
        kept["url"] = Value::Null;
        kept["customer"] = customer.into();
        kept["payment_intent"] = intent_id;
        kept["subscription"] = subscription_id;
        kept["customer_details"] = json!({
            "address": null, "business_name": null, "email": email, "individual_name": null,
            "name": null, "phone": null, "tax_exempt": "none", "tax_ids": [],
        });
    }
    state.emit("checkout.session.completed", KIND, id);
}

/// The bank has refused; the customer may try another card.
fn decline(state: &mut State, session: &Value, why: &str) {
    let id = session["id"].as_str().unwrap_or_default();
    let lines = lines_of(state, id);
    let (amount, currency) = (objects::total(&lines), objects::currency(&lines));
    let customer = session["customer"].clone();
    let mut intent = objects::payment_intent(amount, &currency, customer, false);
    intent["last_payment_error"] = json!({
        "type": "card_error", "code": "card_declined", "decline_code": why,
        "message": "Your card was declined.",
    });
    let intent = state.insert(intent);
    state.emit("payment_intent.payment_failed", "payment_intent", &intent);
}

/// 1,234 cents as `12.34 usd`.
fn money(amount: i64, session: &Value) -> String {
    let currency = escape(session["currency"].as_str().unwrap_or_default());
    format!("{}.{:02} {currency}", amount / 100, amount % 100)
}

pub(crate) fn layout(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <style>body{{font:16px system-ui;max-width:30rem;margin:4rem auto}}td,th{{padding:.3rem 1rem \
         .3rem 0;text-align:left}}</style><p>No money moves here: this stands in for Stripe.</p>\
         <h1>{title}</h1>{body}</html>"
    )
}

/// For HTML, in text and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
