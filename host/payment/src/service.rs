//! The service that HTTP handlers and guests call.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coglex_services::jobs::Jobs;
use coglex_services::storage::DocumentStore;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::entitlements::Entitlements;
use crate::error::{PaymentError, Result};
use crate::event::{Event, MAX_EVENT};
use crate::inbox::{EventQuery, EventView, Inbox, Subscribers};
use crate::mirror::Mirror;
use crate::order::{Cancel, Checkout, Portal, PriceQuery, Refund, Subscription, id};
use crate::settings::{Mode, PaymentSettings};
use crate::signature;
use crate::stripe::{Ask, Stripe};

/// How often events that were left undone are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The longest idempotency key of a client.
const MAX_KEY: usize = 255;

/// Payments, cheap to clone.
#[derive(Clone)]
pub struct Payments(Arc<Inner>);

struct Inner {
    stripe: Option<Stripe>,
    secrets: Vec<String>,
    mode: Option<Mode>,
    mirror: Mirror,
    inbox: Inbox,
}

/// Who wants a write, so that what is sent twice is done once.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks: keys of different callers are different.
    pub caller: String,
    /// The caller's own key; without one every request is one of its own.
    pub key: Option<String>,
}

impl Payments {
    /// The service, with an error sentence for settings that cannot be.
    pub fn new(
        store: Arc<dyn DocumentStore>,
        jobs: Jobs,
        settings: PaymentSettings,
    ) -> Result<Self, String> {
        let mode = settings.check()?;
        let key = settings.secret_key.as_deref();
        let stripe = key.map(|key| Stripe::new(key, &settings)).transpose()?;
        Ok(Self(Arc::new(Inner {
            stripe,
            mode,
            mirror: Mirror::new(Arc::clone(&store)),
            inbox: Inbox::new(store, jobs, settings.event_retention),
            secrets: settings.webhook_secrets,
        })))
    }

    /// Whether there is a key of Stripe.
    pub fn is_configured(&self) -> bool {
        self.0.stripe.is_some()
    }

    /// Says which functions want to be told of events. Once; who keeps plugins does it.
    pub fn tell(&self, subscribers: Arc<dyn Subscribers>) {
        self.0.inbox.tell(subscribers);
    }

    /// Makes a Checkout session.
    pub async fn checkout(&self, request: &Request, order: &Checkout) -> Result<Value> {
        self.post("checkout/sessions", order.params(), request, "checkout")
            .await
    }

    /// A Checkout session as it is now.
    pub async fn session(&self, session: &str) -> Result<Value> {
        self.get(format!("/checkout/sessions/{}", id(session)?), &Value::Null)
            .await
    }

    /// Makes a customer and a subscription. When the second fails the customer stays,
    /// and is found again by the same idempotency key.
    pub async fn subscribe(&self, request: &Request, order: &Subscription) -> Result<Value> {
        // One key for both, so that a caller without one does not get two random ones.
        let request = &request.fixed()?;
        let customer = self
            .post("customers", order.customer(), request, "customer")
            .await?;
        let customer = customer
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        self.post(
            "subscriptions",
            &order.params(customer),
            request,
            "subscription",
        )
        .await
    }

    /// Ends a subscription.
    pub async fn cancel(
        &self,
        request: &Request,
        subscription: &str,
        when: Cancel,
    ) -> Result<Value> {
        let subscription = id(subscription)?;
        match when {
            Cancel::AtOnce => {
                let ask = Ask::delete(format!("/subscriptions/{subscription}"), &Value::Null);
                self.stripe()?.ask(ask).await
            }
            Cancel::AtPeriodEnd => {
                let params = json!({"cancel_at_period_end": true});
                let path = format!("subscriptions/{subscription}");
                self.post(&path, &params, request, "cancel").await
            }
        }
    }

    /// Makes a session of the billing portal.
    pub async fn portal(&self, request: &Request, order: &Portal) -> Result<Value> {
        self.stripe()?;
        let mut customer = order.customer.clone();
        if !customer.starts_with("cus_") {
            let known = Entitlements::customer_of(&self.0.mirror, &customer).await?;
            customer = known.ok_or_else(|| {
                coglex_services::Error::NotFound("no customer has this email address".into())
            })?;
        }
        let params = json!({"customer": customer, "return_url": order.return_url});
        self.post("billing_portal/sessions", &params, request, "portal")
            .await
    }

    /// Gives money back.
    pub async fn refund(&self, request: &Request, order: &Refund) -> Result<Value> {
        self.post("refunds", order.params(), request, "refund")
            .await
    }

    /// Prices, Stripe's list of them.
    pub async fn prices(&self, query: &PriceQuery) -> Result<Value> {
        self.get("/prices".to_owned(), &query.params()?).await
    }

    /// What somebody (an email address, or a customer's id) has paid for. Asks the
    /// mirror alone.
    pub async fn entitlements(&self, who: &str) -> Result<Entitlements> {
        Entitlements::of(&self.0.mirror, who).await
    }

    /// Takes an event from Stripe: believes it, keeps it, has it told. When this answers
    /// well the event is durable, whatever comes of telling it.
    pub async fn webhook(&self, signature: Option<&str>, payload: &[u8]) -> Result<()> {
        let inner = &self.0;
        if inner.secrets.is_empty() {
            return Err(PaymentError::WebhookNotConfigured);
        }
        let now = unix_now();
        signature::verify(signature, payload, &inner.secrets, now)?;
        if payload.len() > MAX_EVENT {
            let sentence = format!("an event has at most {MAX_EVENT} bytes");
            return Err(coglex_services::Error::TooLarge(sentence).into());
        }
        let event = Event::parse(payload, now)?;
        // JSON is UTF-8, and was just read.
        let text = std::str::from_utf8(payload).unwrap_or_default();
        if let Some(mode) = inner.mode
            && event.livemode != mode.is_live()
        {
            tracing::warn!(
                event = event.id,
                livemode = event.livemode,
                "an event of the other mode is refused: the webhook is of another mode than payment.secret_key"
            );
            return Err(PaymentError::Untrusted {
                code: "livemode_mismatch",
                message: "The event is of the other mode (live or test) than this server.",
            });
        }
        if !inner.inbox.keep(&event, text).await? {
            return Ok(());
        }
        tracing::info!(
            event = event.id,
            r#type = event.kind,
            "event of Stripe received"
        );
        let inner = Arc::clone(inner);
        // Goes on when Stripe does not wait for it.
        let told = tokio::spawn(async move {
            let told = inner.inbox.process(&inner.mirror, &event.id).await;
            if let Err(error) = told {
                tracing::warn!(
                    event = event.id,
                    error = &error as &dyn std::error::Error,
                    "an event of Stripe is kept, and told later"
                );
            }
        });
        if let Err(error) = told.await {
            tracing::error!(%error, "an event of Stripe was not told");
        }
        Ok(())
    }

    /// Does again and again what was left undone, for ever. One task for each host.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if self.0.secrets.is_empty() {
                continue;
            }
            if let Err(error) = self.0.inbox.sweep(&self.0.mirror).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "events of Stripe cannot be looked for now"
                );
            }
        }
    }

    /// Events that were received, the newest first, and whether there are more.
    pub async fn events(&self, query: EventQuery) -> Result<(Vec<EventView>, bool)> {
        self.0.inbox.list(query).await
    }

    /// One event, with what Stripe has sent.
    pub async fn event(&self, event: &str) -> Result<EventView> {
        self.0.inbox.show(event).await
    }

    /// Has an event told again.
    pub async fn replay(&self, event: &str) -> Result<EventView> {
        self.0.inbox.replay(&self.0.mirror, event).await
    }

    fn stripe(&self) -> Result<&Stripe> {
        self.0.stripe.as_ref().ok_or(PaymentError::NotConfigured)
    }

    async fn get(&self, path: String, params: &Value) -> Result<Value> {
        self.stripe()?.ask(Ask::get(path, params)).await
    }

    async fn post(
        &self,
        path: &str,
        params: &Value,
        request: &Request,
        purpose: &str,
    ) -> Result<Value> {
        let key = request.key_for(purpose)?;
        self.stripe()?
            .ask(Ask::post(format!("/{path}"), params, key))
            .await
    }
}

impl Request {
    /// The same, with a key in any case.
    fn fixed(&self) -> Result<Self> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => random()?,
        };
        Ok(Self {
            caller: self.caller.clone(),
            key: Some(key),
        })
    }

    /// The key that Stripe gets: of the caller's key, so that nobody meets another's
    /// answer by guessing it.
    fn key_for(&self, purpose: &str) -> Result<String> {
        let Some(key) = &self.key else {
            return random();
        };
        if !(1..=MAX_KEY).contains(&key.len()) {
            return Err(PaymentError::Invalid(format!(
                "the header Idempotency-Key has 1 to {MAX_KEY} characters"
            )));
        }
        let mut hash = Sha256::new();
        for part in [self.caller.as_str(), purpose, key] {
            // The length, so that no two triples are the same text.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(format!("coglex-{}", hex::encode(hash.finalize())))
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| coglex_services::Error::Unavailable(error.to_string().into()))?;
    Ok(format!("coglex-{}", hex::encode(bytes)))
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_apart_by_caller_and_purpose_and_the_same_otherwise() {
        let key = |caller: &str, key: &str, purpose: &str| {
            let request = Request {
                caller: caller.to_owned(),
                key: Some(key.to_owned()),
            };
            request.key_for(purpose).unwrap()
        };
        assert_eq!(key("a", "k", "refund"), key("a", "k", "refund"));
        for other in [
            key("b", "k", "refund"),
            key("a", "l", "refund"),
            key("a", "k", "portal"),
        ] {
            assert_ne!(key("a", "k", "refund"), other);
        }
        let none = Request {
            caller: "a".to_owned(),
            key: None,
        };
        assert_ne!(
            none.key_for("refund").unwrap(),
            none.key_for("refund").unwrap()
        );
        let fixed = none.fixed().unwrap();
        assert_eq!(
            fixed.key_for("refund").unwrap(),
            fixed.key_for("refund").unwrap()
        );
    }
}
