//! `/service/payment/v1`: Stripe. The rules are [`Payments`]'s; what is here is how
//! requests become orders, and Stripe's objects responses.
//!
//! [`Payments`]: coglex_payment::Payments

mod error;
pub(crate) mod events;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use coglex_payment::{
    Cancel, Checkout, Entitlements, PaymentError, Portal, PriceQuery, Refund, Request, Subscription,
};
use coglex_services::grants::PaymentVerb;
use coglex_services::{Caller, Error};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::AppState;
use crate::http::error::ApiError;
use crate::http::extract::{JsonText, Path, Query, read_body};

/// Whoever writes may send this, so that a request that is sent twice is done once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Bodies of events; Stripe's are some kilobytes. An event may have half of it, so that
/// one that is too large is told from one that nobody would send.
const EVENT_LIMIT: usize = 1024 * 1024;

/// `POST checkout`: a Checkout session.
pub(crate) async fn checkout(
    caller: Caller,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Json<Value>, ApiError> {
    let request = request(&caller, PaymentVerb::Checkout, &headers)?;
    let order = Checkout::read(&object(&body)?)?;
    Ok(Json(state.payments.checkout(&request, &order).await?))
}

/// `GET session/<id>`: a Checkout session as it is at Stripe now.
pub(crate) async fn session(
    caller: Caller,
    State(state): State<AppState>,
    Path(session): Path<String>,
) -> Result<Json<Value>, ApiError> {
    covered(&caller, PaymentVerb::Checkout)?;
    Ok(Json(state.payments.session(&session).await?))
}

/// `POST subscription`: a customer and a subscription that is paid by invoice.
pub(crate) async fn subscribe(
    caller: Caller,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Json<Value>, ApiError> {
    let request = request(&caller, PaymentVerb::Subscriptions, &headers)?;
    let order = Subscription::read(&object(&body)?)?;
    Ok(Json(state.payments.subscribe(&request, &order).await?))
}

/// How a subscription is to end.
#[derive(Deserialize)]
pub(crate) struct CancelParams {
    #[serde(default)]
    at_period_end: bool,
}

/// `DELETE subscription/<id>`: ends it, now or with its period.
pub(crate) async fn cancel(
    caller: Caller,
    State(state): State<AppState>,
    Path(subscription): Path<String>,
    Query(params): Query<CancelParams>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let request = request(&caller, PaymentVerb::Subscriptions, &headers)?;
    let when = match params.at_period_end {
        true => Cancel::AtPeriodEnd,
        false => Cancel::AtOnce,
    };
    let ended = state.payments.cancel(&request, &subscription, when).await?;
    Ok(Json(ended))
}

/// `POST portal`: a session of the billing portal.
pub(crate) async fn portal(
    caller: Caller,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Json<Value>, ApiError> {
    let request = request(&caller, PaymentVerb::Subscriptions, &headers)?;
    let order = Portal::read(&object(&body)?)?;
    Ok(Json(state.payments.portal(&request, &order).await?))
}

/// `POST refund`: gives money back.
pub(crate) async fn refund(
    caller: Caller,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Json<Value>, ApiError> {
    let request = request(&caller, PaymentVerb::Refund, &headers)?;
    let order = Refund::read(&object(&body)?)?;
    Ok(Json(state.payments.refund(&request, &order).await?))
}

/// Which prices.
#[derive(Deserialize)]
pub(crate) struct PriceParams {
    product: Option<String>,
    active: Option<bool>,
    r#type: Option<String>,
    currency: Option<String>,
    limit: Option<u8>,
    starting_after: Option<String>,
}

/// `GET prices`: Stripe's list.
pub(crate) async fn prices(
    caller: Caller,
    State(state): State<AppState>,
    Query(params): Query<PriceParams>,
) -> Result<Json<Value>, ApiError> {
    covered(&caller, PaymentVerb::Checkout)?;
    let query = PriceQuery {
        product: params.product,
        active: params.active,
        kind: params.r#type,
        currency: params.currency,
        limit: params.limit,
        starting_after: params.starting_after,
    };
    Ok(Json(state.payments.prices(&query).await?))
}

/// `GET entitlements/<who>`: what somebody has paid for.
pub(crate) async fn entitlements(
    caller: Caller,
    State(state): State<AppState>,
    Path(who): Path<String>,
) -> Result<Json<Entitlements>, ApiError> {
    covered(&caller, PaymentVerb::Entitlements)?;
    Ok(Json(state.payments.entitlements(&who).await?))
}

/// `GET entitlements/<who>/<what>`: whether somebody has paid for it.
pub(crate) async fn entitled(
    caller: Caller,
    State(state): State<AppState>,
    Path((who, what)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    covered(&caller, PaymentVerb::Entitlements)?;
    let entitlements = state.payments.entitlements(&who).await?;
    Ok(Json(json!({
        "who": entitlements.who,
        "what": what,
        "entitled": entitlements.covers(&what),
    })))
}

/// `POST webhook`: an event from Stripe, which shows itself by its signature.
pub(crate) async fn webhook(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    // The raw bytes are what is signed: nothing is read of them before.
    let body = read_body(body, EVENT_LIMIT, state.config.server.body_timeout).await?;
    let mut signatures = headers.get_all("stripe-signature").iter();
    let signature = signatures.next().and_then(|value| value.to_str().ok());
    // Of two headers nobody knows which was meant.
    let signature = signature.filter(|_| signatures.next().is_none());
    state.payments.webhook(signature, &body).await?;
    Ok(Json(json!({"success": true})))
}

fn request(caller: &Caller, verb: PaymentVerb, headers: &HeaderMap) -> Result<Request, ApiError> {
    covered(caller, verb)?;
    let key = headers.get(IDEMPOTENCY_KEY).map(|value| {
        let text = value.to_str().map(str::to_owned);
        text.map_err(|_| ApiError::invalid("The header Idempotency-Key must be visible ASCII."))
    });
    Ok(Request {
        caller: caller.label(),
        key: key.transpose()?,
    })
}

fn covered(caller: &Caller, verb: PaymentVerb) -> Result<(), ApiError> {
    match caller.allows_payment(verb) {
        true => Ok(()),
        false => Err(ApiError::from(Error::Forbidden(format!(
            "this API key does not cover payment: {verb}"
        )))),
    }
}

/// A body that is one JSON object; what it lacks is named by who reads it.
fn object(body: &[u8]) -> Result<Value, ApiError> {
    let value = serde_json::from_slice::<Value>(body).ok();
    let object = value.filter(Value::is_object);
    object.ok_or_else(|| ApiError::bad_request("invalid_json", "The body is not a JSON object."))
}

impl From<PaymentError> for ApiError {
    fn from(error: PaymentError) -> Self {
        error::problem(error)
    }
}
