//! What events have said of customers, subscriptions and payments, in collections of
//! the server's own.
//!
//! ```text
//! _coglex_payment_customers      {_id: cus_…, state: {…}}
//! _coglex_payment_subscriptions  {_id: sub_…, state: {…}}
//! _coglex_payment_payments       {_id: pi_… or cs_…, emails, customers, session?: {…},
//!                                 intent?: {…}, charge?: {…}, dispute?: {…}}
//! ```
//!
//! Stripe delivers events late, twice, and in any order. Each part (`state`, `session`…)
//! is what one object was like at its event's `created`, and is replaced only by what
//! came later. Seconds are all that Stripe tells, so what happens to an object within
//! one second is ordered by a rank: creation, then changes, then the end; of two
//! changes within a second the one that is delivered later wins.
//!
//! A payment is one document of up to four objects, since a session knows the email
//! address, an intent the metadata, a charge what was refunded, and a dispute whether a
//! bank has taken the money back.
#![allow(
    clippy::indexing_slicing,
    reason = "of JSON: what is absent reads as null, and what is written to is an object of ours"
)]

use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_services::storage::{Change, DocumentStore, Find, IndexSpec, StoreError, Update};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::error::Result;
use crate::event::Event;

pub(crate) const CUSTOMERS: &str = "_coglex_payment_customers";
pub(crate) const SUBSCRIPTIONS: &str = "_coglex_payment_subscriptions";
pub(crate) const PAYMENTS: &str = "_coglex_payment_payments";

/// How often a part is tried that other hosts write at the same time.
const TRIES: usize = 8;
/// Bytes of metadata that are kept; Stripe has 50 names of 40 and values of 500.
const MAX_METADATA: usize = 32 * 1024;
/// Items of a subscription that are kept.
const MAX_ITEMS: usize = 100;

pub(crate) struct Mirror {
    store: Arc<dyn DocumentStore>,
    indexed: OnceCell<()>,
}

/// What an event says of one object.
struct Part {
    collection: &'static str,
    id: String,
    name: &'static str,
    rank: i64,
    fields: Document,
    /// Of payments: whose it is.
    emails: Vec<String>,
    customers: Vec<String>,
}

impl Mirror {
    pub(crate) fn new(store: Arc<dyn DocumentStore>) -> Self {
        Self {
            store,
            indexed: OnceCell::new(),
        }
    }

    /// Takes an event over; one that is not about money, or is older than what is
    /// known, changes nothing. Taking it over again changes nothing, either.
    pub(crate) async fn apply(&self, event: &Event) -> Result<()> {
        let Some(part) = event.object().and_then(|object| read(event, object)) else {
            return Ok(());
        };
        self.ensure_indexes().await?;
        self.put(event, part).await
    }

    async fn put(&self, event: &Event, part: Part) -> Result<()> {
        let mut fields = part.fields;
        fields.insert("at", event.created);
        fields.insert("rank", part.rank);
        fields.insert("event", &event.id);
        let (name, at, rank) = (
            part.name,
            format!("{}.at", part.name),
            format!("{}.rank", part.name),
        );
        let owners = doc! {
            "emails": { "$each": &part.emails },
            "customers": { "$each": &part.customers },
        };
        let is_payment = part.collection == PAYMENTS;
        for _ in 0..TRIES {
            let older = doc! { &at: { "$lt": event.created } };
            let same = doc! { &at: event.created, &rank: { "$lte": part.rank } };
            let absent = doc! { &at: { "$exists": false } };
            let mut change = doc! { "$set": { name: fields.clone() } };
            if is_payment {
                change.insert("$addToSet", owners.clone());
            }
            let update = Update {
                filter: doc! { "_id": &part.id, "$or": [older, same, absent] },
                change: Change::Operators(change),
                many: false,
                upsert: false,
                array_filters: Vec::new(),
            };
            if self.store.update(part.collection, update).await?.matched > 0 {
                return Ok(());
            }
            let mut new = doc! { "_id": &part.id, name: fields.clone() };
            if is_payment {
                new.insert("emails", &part.emails);
                new.insert("customers", &part.customers);
            }
            let raw = RawDocumentBuf::try_from(&new).map_err(crate::error::broken)?;
            match self.store.insert(part.collection, vec![raw]).await {
                Ok(()) => return Ok(()),
                // It is there: newer, or another host has just made it.
                Err(StoreError::DuplicateKey { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let known = self
                .store
                .get(part.collection, Bson::from(part.id.as_str()))
                .await?;
            let newer = known.as_ref().is_some_and(|known| {
                let known = known.get_document(name);
                known.is_ok_and(|known| {
                    let number = |name: &str| known.get(name).ok().flatten().and_then(whole);
                    (number("at"), number("rank")) > (Some(event.created), Some(part.rank))
                })
            });
            if newer {
                return Ok(());
            }
        }
        Err(
            coglex_services::Error::Unavailable("the mirror of a payment is contended".into())
                .into(),
        )
    }

    /// Documents of a collection, at most so many.
    pub(crate) async fn find(
        &self,
        collection: &str,
        filter: Document,
        limit: u64,
    ) -> Result<Vec<Document>> {
        let find = Find {
            filter,
            sort: Some(doc! { "_id": 1 }),
            limit: Some(limit),
            max_time: Some(std::time::Duration::from_secs(10)),
            ..Find::default()
        };
        let found: Vec<RawDocumentBuf> = self
            .store
            .find(collection, find)
            .await?
            .try_collect()
            .await?;
        let read = |raw: &RawDocumentBuf| Document::try_from(raw.as_ref());
        let documents = found
            .iter()
            .map(read)
            .collect::<bson::error::Result<Vec<Document>>>();
        documents.map_err(|error| coglex_services::Error::Unavailable(Box::new(error)).into())
    }

    /// Makes the indexes, once in this process's life.
    async fn ensure_indexes(&self) -> Result<()> {
        let make = || async {
            for (collection, key) in [
                (CUSTOMERS, "state.email"),
                (SUBSCRIPTIONS, "state.customer"),
                (PAYMENTS, "emails"),
                (PAYMENTS, "customers"),
            ] {
                let index = IndexSpec {
                    name: None,
                    keys: doc! { key: 1 },
                    unique: false,
                    sparse: false,
                    expire_after: None,
                };
                self.store.create_index(collection, index).await?;
            }
            Ok::<_, StoreError>(())
        };
        self.indexed.get_or_try_init(make).await?;
        Ok(())
    }
}

/// Addresses are compared as they would be by nearly every mail server.
pub(crate) fn fold_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// The part that an event is about, if the mirror keeps such.
fn read(event: &Event, object: &Value) -> Option<Part> {
    let id = |value: &Value| {
        // Some are expanded to the object itself.
        let id = value.as_str().or_else(|| value.get("id")?.as_str());
        id.filter(|id| id.len() <= 255).map(str::to_owned)
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let own = id(object.get("id")?)?;
    let rank = rank(&event.kind, object);
    let customer = object.get("customer").and_then(id);
    let mut part = Part {
        collection: PAYMENTS,
        id: own.clone(),
        name: "state",
        rank,
        fields: Document::new(),
        emails: Vec::new(),
        customers: customer.clone().into_iter().collect(),
    };
    let mut emails: Vec<&str> = Vec::new();
    let intent = object.get("payment_intent").and_then(id);
    match text("object")? {
        "customer" => {
            part.collection = CUSTOMERS;
            part.fields = doc! {
                "email": text("email").map(fold_email),
                "name": text("name"),
                "deleted": event.kind == "customer.deleted",
            };
        }
        "subscription" => {
            part.collection = SUBSCRIPTIONS;
            part.fields = subscription(object, customer);
        }
        "checkout.session" => {
            (part.id, part.name) = (intent.unwrap_or_else(|| own.clone()), "session");
            emails.extend(text("customer_email"));
            emails.extend(object["customer_details"]["email"].as_str());
            part.fields = doc! {
                "id": own,
                "status": text("status"),
                "payment_status": text("payment_status"),
                "mode": text("mode"),
                "amount": object["amount_total"].as_i64(),
                "currency": text("currency"),
                "subscription": object.get("subscription").and_then(id),
                "metadata": metadata(object),
            };
        }
        "payment_intent" => {
            part.name = "intent";
            emails.extend(text("receipt_email"));
            part.fields = doc! {
                "status": text("status"),
                "amount": object["amount"].as_i64(),
                "currency": text("currency"),
                "metadata": metadata(object),
            };
        }
        "charge" => {
            (part.id, part.name) = (intent.unwrap_or_else(|| own.clone()), "charge");
            emails.extend(object["billing_details"]["email"].as_str());
            part.fields = doc! {
                "id": own,
                "status": text("status"),
                "amount": object["amount"].as_i64(),
                "refunded": object["amount_refunded"].as_i64(),
                "captured": object["captured"].as_bool(),
                "disputed": object["disputed"].as_bool(),
                "currency": text("currency"),
            };
        }
        "dispute" => {
            let charge = object.get("charge").and_then(id);
            (part.id, part.name) = (intent.or(charge)?, "dispute");
            part.fields = doc! { "id": own, "status": text("status") };
        }
        _ => return None,
    }
    part.emails = emails.into_iter().map(fold_email).collect();
    part.emails.dedup();
    Some(part)
}

fn subscription(object: &Value, customer: Option<String>) -> Document {
    let items = object["items"]["data"].as_array();
    let items = items.into_iter().flatten().take(MAX_ITEMS);
    let (mut prices, mut products, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
    // Of the items since 2025, and of the subscription before.
    let mut ends = object["current_period_end"].as_i64();
    for item in items {
        let price = &item["price"];
        let product = price["product"]
            .as_str()
            .or_else(|| price["product"]["id"].as_str());
        prices.extend(price["id"].as_str());
        products.extend(product);
        lookups.extend(price["lookup_key"].as_str());
        ends = ends.max(item["current_period_end"].as_i64());
    }
    doc! {
        "customer": customer,
        "status": object["status"].as_str(),
        "prices": prices,
        "products": products,
        "lookup_keys": lookups,
        "current_period_end": ends,
        "cancel_at_period_end": object["cancel_at_period_end"].as_bool(),
        "created": object["created"].as_i64(),
        "metadata": metadata(object),
    }
}

/// As JSON: names may be anything.
fn metadata(object: &Value) -> Option<String> {
    let text = object
        .get("metadata")
        .filter(|metadata| metadata.is_object())?
        .to_string();
    (text.len() <= MAX_METADATA).then_some(text)
}

/// Of two events of one second, the one of the higher rank came later.
fn rank(kind: &str, object: &Value) -> i64 {
    let last = kind.rsplit('.').next().unwrap_or_default();
    if object["object"] == "charge" {
        // What was refunded only grows.
        return object["amount_refunded"].as_i64().unwrap_or(0);
    }
    match last {
        "created" => 0,
        "deleted" | "completed" | "succeeded" | "canceled" | "expired" => 2,
        // Of a session: the bank's answer, days after it was completed. Of a dispute: its
        // end.
        "async_payment_succeeded" | "async_payment_failed" | "closed" => 3,
        _ => 1,
    }
}

/// A whole number, in whichever width it came back.
pub(crate) fn whole(value: bson::RawBsonRef<'_>) -> Option<i64> {
    match value {
        bson::RawBsonRef::Int32(number) => Some(number.into()),
        bson::RawBsonRef::Int64(number) => Some(number),
        _ => None,
    }
}
