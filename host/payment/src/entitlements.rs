//! Who has paid for what, from the mirror alone.

use bson::{DateTime, Document, doc};
use serde::Serialize;
use serde_json::Value;

use crate::error::{PaymentError, Result};
use crate::mirror::{CUSTOMERS, Mirror, PAYMENTS, SUBSCRIPTIONS, fold_email};

/// Customers of one email address, and of them all the subscriptions that are active and
/// the payments that came, at most.
const MAX: u64 = 1_000;
/// Subscriptions and payments that came to nothing, at most. Anybody can begin some for
/// any address: they are asked for apart, so that they hide nothing.
const MAX_IDLE: u64 = 100;

/// What Stripe calls a subscription that is paid for.
const ACTIVE: [&str; 2] = ["active", "trialing"];
/// What it calls a session that needs no more money.
const SETTLED: [&str; 2] = ["paid", "no_payment_required"];
/// What it calls a dispute for which the money was taken back.
const TAKEN_BACK: [&str; 3] = ["needs_response", "under_review", "lost"];

/// What somebody has paid for.
#[derive(Debug, Clone, Serialize)]
pub struct Entitlements {
    /// Who was asked for, an email address in lower case.
    pub who: String,
    /// Stripe's ids of them.
    pub customers: Vec<String>,
    /// Whether any subscription is active.
    pub active: bool,
    /// The subscriptions that are known: those that are active, and up to 100 others.
    pub subscriptions: Vec<SubscriptionView>,
    /// The payments that are known: those that came, and up to 100 others.
    pub payments: Vec<PaymentView>,
}

/// A subscription, as the last event about it has said.
#[derive(Debug, Clone, Serialize)]
pub struct SubscriptionView {
    /// `sub_…`.
    pub id: String,
    /// `cus_…`.
    pub customer: Option<String>,
    /// Stripe's word.
    pub status: String,
    /// Whether it is `active` or `trialing`, and was not to end by now. One that is
    /// `past_due` is not: an app that is more patient goes by the status.
    pub active: bool,
    /// Ids of its prices.
    pub prices: Vec<String>,
    /// Ids of their products.
    pub products: Vec<String>,
    /// Names that the shop has given to prices.
    pub lookup_keys: Vec<String>,
    /// Unix seconds.
    pub current_period_end: Option<i64>,
    /// Whether it ends then.
    pub cancel_at_period_end: bool,
    /// An object of texts.
    pub metadata: Value,
}

/// A payment, as the last events about it have said.
#[derive(Debug, Clone, Serialize)]
pub struct PaymentView {
    /// `pi_…`, or `cs_…` where there is no intent.
    pub id: String,
    /// `cs_…`, where it went through Checkout.
    pub session: Option<String>,
    /// Whether the money is there, and has neither been given back whole nor taken back
    /// by a dispute.
    pub paid: bool,
    /// In the currency's smallest unit.
    pub amount: Option<i64>,
    /// What was given back of it.
    pub refunded: i64,
    /// Three letters.
    pub currency: Option<String>,
    /// An object of texts; `entitlement` in it is what was paid for.
    pub metadata: Value,
}

impl Entitlements {
    pub(crate) async fn of(mirror: &Mirror, who: &str) -> Result<Self> {
        if who.is_empty() || who.len() > 320 {
            return Err(PaymentError::Invalid(
                "an email address or a customer's id has 1 to 320 bytes".to_owned(),
            ));
        }
        let is_id = who.starts_with("cus_");
        let who = if is_id {
            who.to_owned()
        } else {
            fold_email(who)
        };
        let mut customers = vec![who.clone()];
        if !is_id {
            let named = doc! { "state.email": { "$eq": &who } };
            let named = mirror.find(CUSTOMERS, named, MAX).await?;
            customers = named
                .iter()
                .filter_map(|found| text(found, "_id"))
                .collect();
        }
        let mut own = vec![doc! { "customers": { "$in": &customers } }];
        if !is_id {
            own.push(doc! { "emails": { "$eq": &who } });
        }
        let came = bson::bson!([
            { "session.payment_status": { "$in": SETTLED.to_vec() } },
            { "intent.status": "succeeded" },
            { "charge.status": "succeeded" },
        ]);
        let paid = doc! { "$or": own.clone(), "$and": [{ "$or": came.clone() }] };
        let mut payments = mirror.find(PAYMENTS, paid, MAX).await?;
        let others = doc! { "$or": own, "$nor": came };
        payments.extend(mirror.find(PAYMENTS, others, MAX_IDLE).await?);
        if !is_id {
            // A session may have brought the customer before its own event has.
            for payment in payments
                .iter()
                .filter(|payment| has(payment, "emails", &who))
            {
                for customer in texts(payment, "customers") {
                    if !customers.contains(&customer) {
                        customers.push(customer);
                    }
                }
            }
        }
        let now = DateTime::now().timestamp_millis() / 1000;
        let mut subscriptions = Vec::new();
        for (operator, most) in [("$in", MAX), ("$nin", MAX_IDLE)] {
            let of_them = doc! {
                "state.customer": { "$in": &customers },
                "state.status": { operator: ACTIVE.to_vec() },
            };
            let found = mirror.find(SUBSCRIPTIONS, of_them, most).await?;
            let found = found.iter();
            subscriptions.extend(found.filter_map(|one| SubscriptionView::read(one, now)));
        }
        Ok(Self {
            active: subscriptions.iter().any(|one| one.active),
            payments: payments.iter().filter_map(PaymentView::read).collect(),
            subscriptions,
            customers,
            who,
        })
    }

    /// The customer of an email address whose billing portal may be opened: one that
    /// Stripe has under this address and that was not deleted. Only where none is known
    /// yet, one that a payment has named: the address of a payment is whatever its payer
    /// typed.
    pub(crate) async fn customer_of(mirror: &Mirror, email: &str) -> Result<Option<String>> {
        let known = Self::of(mirror, email).await?;
        let live = doc! {
            "state.email": { "$eq": &known.who },
            "state.deleted": { "$ne": true },
        };
        let live = mirror.find(CUSTOMERS, live, MAX).await?;
        if let Some(last) = live.last() {
            return Ok(text(last, "_id"));
        }
        // Not those that are known to be gone, or another's.
        let of_payments = doc! { "_id": { "$in": &known.customers } };
        let strangers = mirror.find(CUSTOMERS, of_payments, MAX).await?;
        let strangers: Vec<String> = strangers
            .iter()
            .filter_map(|one| text(one, "_id"))
            .collect();
        let mut unknown = known.customers.into_iter().rev();
        Ok(unknown.find(|customer| !strangers.contains(customer)))
    }

    /// Whether this is paid for: an active subscription of the price, product or lookup
    /// key, or a payment whose metadata names it under `entitlement`, alone or among
    /// others with commas between them.
    pub fn covers(&self, wanted: &str) -> bool {
        let subscribed = self
            .subscriptions
            .iter()
            .filter(|one| one.active)
            .any(|one| {
                let mut names = one
                    .prices
                    .iter()
                    .chain(&one.products)
                    .chain(&one.lookup_keys);
                names.any(|name| name == wanted) || names_it(&one.metadata, wanted)
            });
        let mut paid = self.payments.iter().filter(|payment| payment.paid);
        subscribed || paid.any(|payment| names_it(&payment.metadata, wanted))
    }
}

fn names_it(metadata: &Value, wanted: &str) -> bool {
    let named = metadata.get("entitlement").and_then(Value::as_str);
    named.is_some_and(|named| named.split(',').any(|name| name.trim() == wanted))
}

impl SubscriptionView {
    /// `now` in Unix seconds.
    fn read(document: &Document, now: i64) -> Option<Self> {
        let state = document.get_document("state").ok()?;
        let status = text(state, "status")?;
        let current_period_end = number(state, "current_period_end");
        let cancel_at_period_end = state.get_bool("cancel_at_period_end").unwrap_or(false);
        // The event that says so may be late, or never come.
        let is_over = cancel_at_period_end && current_period_end.is_some_and(|end| end <= now);
        Some(Self {
            id: text(document, "_id")?,
            customer: text(state, "customer"),
            active: ACTIVE.contains(&status.as_str()) && !is_over,
            status,
            prices: texts(state, "prices"),
            products: texts(state, "products"),
            lookup_keys: texts(state, "lookup_keys"),
            current_period_end,
            cancel_at_period_end,
            metadata: metadata(state),
        })
    }
}

impl PaymentView {
    fn read(document: &Document) -> Option<Self> {
        let none = Document::new();
        let part = |name: &str| document.get_document(name).unwrap_or(&none);
        let (session, intent, charge) = (part("session"), part("intent"), part("charge"));
        let is = |part: &Document, name: &str, words: &[&str]| {
            text(part, name).is_some_and(|text| words.contains(&text.as_str()))
        };
        // What starts a subscription is the subscription's matter.
        if is(session, "mode", &["subscription", "setup"]) {
            return None;
        }
        let amount = [intent, session, charge]
            .into_iter()
            .find_map(|part| number(part, "amount"));
        let refunded = number(charge, "refunded").unwrap_or(0);
        // A charge that is only authorised has succeeded, too.
        let is_captured = charge.get_bool("captured").unwrap_or(true);
        let came = is(session, "payment_status", &SETTLED)
            || is(intent, "status", &["succeeded"])
            || is(charge, "status", &["succeeded"]) && is_captured;
        let taken_back = is(part("dispute"), "status", &TAKEN_BACK);
        let given_back = refunded > 0 && amount.is_some_and(|amount| refunded >= amount);
        // What was said when it was ordered stands on either.
        let told = [session, intent].map(metadata);
        let told = told
            .into_iter()
            .find(|told| told.as_object().is_some_and(|map| !map.is_empty()));
        Some(Self {
            id: text(document, "_id")?,
            session: text(session, "id"),
            paid: came && !given_back && !taken_back,
            amount,
            refunded,
            currency: [intent, session, charge]
                .into_iter()
                .find_map(|part| text(part, "currency")),
            metadata: told.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        })
    }
}

fn text(document: &Document, name: &str) -> Option<String> {
    document.get_str(name).ok().map(str::to_owned)
}

fn texts(document: &Document, name: &str) -> Vec<String> {
    let list = document.get_array(name).into_iter().flatten();
    list.filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn has(document: &Document, name: &str, wanted: &str) -> bool {
    texts(document, name).iter().any(|text| text == wanted)
}

fn number(document: &Document, name: &str) -> Option<i64> {
    let value = document.get(name)?;
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

fn metadata(part: &Document) -> Value {
    let text = text(part, "metadata");
    let parsed = text.and_then(|text| serde_json::from_str(&text).ok());
    parsed.unwrap_or(Value::Null)
}
