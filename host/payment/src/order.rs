//! What clients and guests order, read from their JSON, and the form of it that Stripe
//! takes. Members that are not known are left out, as the original server did.
#![allow(
    clippy::indexing_slicing,
    reason = "of JSON: what is absent reads as null, and what is written to is an object of ours"
)]

use serde_json::{Map, Value, json};

use crate::error::{PaymentError, Result};

/// `POST checkout/`.
#[derive(Debug, Clone)]
pub struct Checkout {
    params: Value,
}

impl Checkout {
    /// `{success_url, cancel_url, email, linedata, metadata?, mode? = "payment"}`.
    pub fn read(body: &Value) -> Result<Self> {
        let mode = match optional(body, "mode")? {
            None => "payment",
            Some(mode @ ("payment" | "subscription" | "setup")) => mode,
            Some(_) => {
                return Err(invalid("`mode` must be payment, subscription or setup"));
            }
        };
        let mut params = json!({
            "mode": mode,
            "success_url": text(body, "success_url")?,
            "cancel_url": text(body, "cancel_url")?,
            "customer_email": text(body, "email")?,
            "line_items": items(body, "linedata")?,
            "metadata": metadata(body)?,
        });
        if mode == "subscription" {
            // So that events of the subscription tell what it is for, too.
            params["subscription_data"] = json!({"metadata": metadata(body)?});
        } else if mode == "payment" {
            params["payment_intent_data"] = json!({"metadata": metadata(body)?});
        }
        Ok(Self { params })
    }

    pub(crate) fn params(&self) -> &Value {
        &self.params
    }
}

/// `POST subscription/`.
#[derive(Debug, Clone)]
pub struct Subscription {
    customer: Value,
    params: Value,
}

impl Subscription {
    /// `{email, items, due? = 7, metadata?}`.
    pub fn read(body: &Value) -> Result<Self> {
        let due = match member(body, "due") {
            None => 7,
            Some(due) => due
                .as_u64()
                .filter(|due| (1..=730).contains(due))
                .ok_or_else(|| invalid("`due` must be a whole number of days from 1 to 730"))?,
        };
        Ok(Self {
            customer: json!({"email": text(body, "email")?}),
            params: json!({
                "items": items(body, "items")?,
                "collection_method": "send_invoice",
                "days_until_due": due,
                "payment_behavior": "default_incomplete",
                "metadata": metadata(body)?,
            }),
        })
    }

    pub(crate) fn customer(&self) -> &Value {
        &self.customer
    }

    pub(crate) fn params(&self, customer: &str) -> Value {
        let mut params = self.params.clone();
        params["customer"] = customer.into();
        params
    }
}

/// `POST portal/`.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Stripe's id, or an email address that the mirror knows.
    pub(crate) customer: String,
    pub(crate) return_url: String,
}

impl Portal {
    /// `{customer | email, return_url}`.
    pub fn read(body: &Value) -> Result<Self> {
        let customer = match optional(body, "customer")? {
            Some(customer) => customer,
            None => optional(body, "email")?
                .ok_or_else(|| invalid("`customer` or `email` is required"))?,
        };
        Ok(Self {
            customer: customer.to_owned(),
            return_url: text(body, "return_url")?.to_owned(),
        })
    }
}

/// `POST refund/`.
#[derive(Debug, Clone)]
pub struct Refund {
    params: Value,
}

impl Refund {
    /// `{payment_intent | charge, amount?, reason?, metadata?}`.
    pub fn read(body: &Value) -> Result<Self> {
        let intent = optional(body, "payment_intent")?;
        let charge = optional(body, "charge")?;
        if intent.is_some() == charge.is_some() {
            return Err(invalid("either `payment_intent` or `charge` is required"));
        }
        let amount = match member(body, "amount") {
            None => None,
            Some(amount) => Some(amount.as_u64().filter(|amount| *amount > 0).ok_or_else(
                || {
                    invalid(
                        "`amount` must be a whole number above 0, in the currency's smallest unit",
                    )
                },
            )?),
        };
        Ok(Self {
            params: json!({
                "payment_intent": intent,
                "charge": charge,
                "amount": amount,
                "reason": optional(body, "reason")?,
                "metadata": metadata(body)?,
            }),
        })
    }

    pub(crate) fn params(&self) -> &Value {
        &self.params
    }
}

/// How a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// Now.
    AtOnce,
    /// When what was paid for is over.
    AtPeriodEnd,
}

/// `GET prices/`. Texts as the client has sent them.
#[derive(Debug, Clone, Default)]
pub struct PriceQuery {
    /// Only prices of this product.
    pub product: Option<String>,
    /// Only those that can be bought, or only those that cannot.
    pub active: Option<bool>,
    /// `recurring` or `one_time`.
    pub kind: Option<String>,
    /// Three letters, in lower case.
    pub currency: Option<String>,
    /// At most so many.
    pub limit: Option<u8>,
    /// Those after this price.
    pub starting_after: Option<String>,
}

impl PriceQuery {
    pub(crate) fn params(&self) -> Result<Value> {
        if self.limit.is_some_and(|limit| !(1..=100).contains(&limit)) {
            return Err(invalid("`limit` must be a number from 1 to 100"));
        }
        Ok(json!({
            "product": self.product,
            "active": self.active,
            "type": self.kind,
            "currency": self.currency,
            "limit": self.limit,
            "starting_after": self.starting_after,
        }))
    }
}

/// An id of Stripe's, which becomes a part of a path.
pub(crate) fn id(text: &str) -> Result<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (1..=255).contains(&text.len()) && text.chars().all(known) {
        true => Ok(text),
        false => Err(invalid(
            "an id of Stripe is made of letters, digits and `_`",
        )),
    }
}

/// A member that is there and not null.
fn member<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn optional<'a>(body: &'a Value, name: &str) -> Result<Option<&'a str>> {
    let not_text = || invalid(format!("`{name}` must be a text, and not empty"));
    let member = member(body, name);
    let text = member.map(|value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .ok_or_else(not_text)
    });
    text.transpose()
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str> {
    optional(body, name)?.ok_or_else(|| invalid(format!("`{name}` is required")))
}

/// Line items, as Stripe has them: a list of objects.
fn items<'a>(body: &'a Value, name: &str) -> Result<&'a Value> {
    let list = member(body, name).ok_or_else(|| invalid(format!("`{name}` is required")))?;
    let is_list = list.as_array().is_some_and(|items| {
        (1..=100).contains(&items.len()) && items.iter().all(Value::is_object)
    });
    match is_list {
        true => Ok(list),
        false => Err(invalid(format!(
            "`{name}` must be a list of 1 to 100 objects"
        ))),
    }
}

/// Texts by name. Numbers and flags become texts, as they would on the way.
fn metadata(body: &Value) -> Result<Value> {
    let Some(given) = member(body, "metadata") else {
        return Ok(Value::Null);
    };
    let wrong = || invalid("`metadata` must be an object of texts");
    let given = given.as_object().ok_or_else(wrong)?;
    let mut metadata = Map::new();
    for (name, value) in given {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(wrong()),
        };
        metadata.insert(name.clone(), text.into());
    }
    Ok(metadata.into())
}

fn invalid(sentence: impl Into<String>) -> PaymentError {
    PaymentError::Invalid(sentence.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_read_and_names_what_is_missing() {
        let whole = json!({
            "success_url": "https://s", "cancel_url": "https://c", "email": "a@b",
            "linedata": [{"price": "p", "quantity": 1}], "metadata": {"order": 7},
        });
        let checkout = Checkout::read(&whole).unwrap();
        assert_eq!(checkout.params()["mode"], "payment");
        assert_eq!(checkout.params()["line_items"], whole["linedata"]);
        assert_eq!(checkout.params()["metadata"]["order"], "7");
        for name in ["success_url", "cancel_url", "email", "linedata"] {
            for wrong in [Value::Null, json!(7), json!(""), json!([]), json!([1])] {
                let mut body = whole.clone();
                body[name] = wrong;
                let error = Checkout::read(&body).unwrap_err().to_string();
                assert!(error.contains(&format!("`{name}`")), "{error}");
            }
        }
        let mut body = whole.clone();
        body["mode"] = "gift".into();
        assert!(Checkout::read(&body).is_err());
    }

    #[test]
    fn a_subscription_has_the_contracts_terms() {
        let body = json!({"email": "a@b", "items": [{"price": "p"}]});
        let params = Subscription::read(&body).unwrap().params("cus_1");
        assert_eq!(params["collection_method"], "send_invoice");
        assert_eq!(params["days_until_due"], 7);
        assert_eq!(params["payment_behavior"], "default_incomplete");
        assert_eq!(params["customer"], "cus_1");
        for due in [json!(0), json!(-1), json!("7"), json!(1.5), json!(1000)] {
            let body = json!({"email": "a@b", "items": [{"price": "p"}], "due": due});
            assert!(Subscription::read(&body).is_err(), "{due}");
        }
    }

    #[test]
    fn ids_cannot_leave_their_place_in_a_path() {
        for bad in ["", "../v1/charges", "cs_1/expire", "a?b", "a%2f", "ä"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert_eq!(id("cs_test_A1").unwrap(), "cs_test_A1");
    }
}
