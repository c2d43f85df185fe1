//! The billing portal: a page where a customer ends a subscription.

use std::sync::Arc;

use axum::extract::{Path, State as Part};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use serde_json::Value;

use crate::api::{required, text};
use crate::checkout::{escape, layout};
use crate::reply::{Answer, Reply};
use crate::state::{Shared, State};
use crate::{form, objects, subscriptions, webhook};

const KIND: &str = "billing_portal.session";

/// `POST /v1/billing_portal/sessions`.
pub(crate) fn create(state: &mut State, url: &str, form: &Value) -> Answer {
    let customer = required(form, "customer")?;
    state.named("customer", customer, "customer")?;
    let return_url = form.get("return_url").cloned().unwrap_or(Value::Null);
    let id = state.insert(objects::portal_session(customer, return_url));
    let missing = || Reply::no_such(404, KIND, &id, "id");
    let session = state.get_mut(KIND, &id).ok_or_else(missing)?;
    session["url"] = format!("{url}/p/session/{id}").into();
    Ok(session.clone())
}

/// `GET /p/session/{id}`.
pub(crate) async fn page(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Reply> {
    let state = shared.lock();
    let session = state
        .get(KIND, &id)
        .ok_or_else(|| Reply::no_such(404, KIND, &id, "id"))?;
    let all = state.all("subscription");
    let own = all
        .into_iter()
        .filter(|one| one["customer"] == session["customer"]);
    let rows: String = own
        .map(|one| {
            let (id, status) = (shown(&one["id"]), shown(&one["status"]));
            let button = match one["status"] == "canceled" {
                true => String::new(),
                false => format!("<button name=\"cancel\" value=\"{id}\">Cancel</button>"),
            };
            format!("<p>{id}: {status} {button}</p>")
        })
        .collect();
    let back = match session["return_url"].as_str() {
        Some(url) => format!("<p><a href=\"{}\">Back to the shop</a></p>", escape(url)),
        None => String::new(),
    };
    let body = format!("<form method=\"post\">{rows}</form>{back}");
    Ok(Html(layout("Your subscriptions", &body)).into_response())
}

/// `POST /p/session/{id}`: ends a subscription of this customer.
pub(crate) async fn act(
    Part(shared): Part<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Reply> {
    {
        let mut state = shared.lock();
        let session = state
            .get(KIND, &id)
            .ok_or_else(|| Reply::no_such(404, KIND, &id, "id"))?;
        let customer = session["customer"].clone();
        let form =
            Value::Object(form::parse(&body).map_err(|error| Reply::invalid("body", error))?);
        let wanted = text(&form, "cancel").unwrap_or_default();
        let own = state
            .get("subscription", wanted)
            .is_some_and(|one| one["customer"] == customer);
        if !own {
            return Err(Reply::no_such(404, "subscription", wanted, "cancel"));
        }
        subscriptions::cancel(&mut state, wanted)?;
    }
    webhook::dispatch(&shared);
    Ok(Redirect::to(&format!("/p/session/{id}")).into_response())
}

fn shown(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}
