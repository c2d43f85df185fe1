//! An event of Stripe, as far as the server goes by it. Kinds of events, and what is in
//! them, grow; only what every event has is read here, the rest is passed on.
//! <https://docs.stripe.com/api/events/object>

use serde_json::Value;

use crate::error::{PaymentError, Result};

/// The most bytes of an event: with it, the arguments of a job stay within theirs.
pub(crate) const MAX_EVENT: usize = 512 * 1024;

/// An event, believed.
#[derive(Debug, Clone)]
pub struct Event {
    /// `evt_…`.
    pub id: String,
    /// `checkout.session.completed` and the like.
    pub kind: String,
    /// When it has happened, Unix seconds.
    pub created: i64,
    /// Whether it is of live mode.
    pub livemode: bool,
    /// All of it.
    pub body: Value,
}

impl Event {
    /// Reads what Stripe has sent; `now` in Unix seconds, for one that does not say when.
    pub fn parse(payload: &[u8], now: i64) -> Result<Self> {
        let no = |message| PaymentError::Untrusted {
            code: "event_malformed",
            message,
        };
        let body: Value =
            serde_json::from_slice(payload).map_err(|_| no("The body is not JSON."))?;
        let text = |name: &str| {
            let text = body.get(name).and_then(Value::as_str);
            text.filter(|text| (1..=255).contains(&text.len()))
                .map(str::to_owned)
        };
        let (Some(id), Some(kind)) = (text("id"), text("type")) else {
            return Err(no("The event has no `id` or no `type`."));
        };
        // Events of Stripe's second API say it as a text; the mirror reads none of those.
        let created = body.get("created").and_then(Value::as_i64).unwrap_or(now);
        Ok(Self {
            id,
            kind,
            created,
            livemode: body
                .get("livemode")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            body,
        })
    }

    /// The object that it is about, as it was then.
    pub fn object(&self) -> Option<&Value> {
        self.body.get("data")?.get("object")
    }
}
