//! Mail, through the server's SMTP account, which no plugin sees.
//!
//! The plugin's `coglex.toml` has to ask for whom it writes to: addresses, domains, or
//! `*` for anybody.
//!
//! ```toml
//! [grants]
//! mail = ["@example.org", "sales@partner.example"]
//! ```
//!
//! ```no_run
//! use coglex_sdk::prelude::*;
//!
//! fn thank(address: &str, order: &str) -> Result<()> {
//!     mail::to(address)
//!         .reply_to("shop@example.org")
//!         .once(order)
//!         .send("Thank you", format!("We have your order {order}."))?;
//!     Ok(())
//! }
//!
//! /// With `templates/mail/invoice.txt` of the operator's.
//! fn invoice(address: &str, number: u32) -> Result<()> {
//!     mail::to(address).send_template("invoice", &json!({"number": number}))?;
//!     Ok(())
//! }
//! ```
//!
//! A letter is kept when `send` returns, and sent soon after. Whether the address takes
//! it is not known by then. Past the operator's limit for an hour the answer is an
//! [`Error::Problem`] with the code `mail_quota`.

use serde::Serialize;

use crate::bindings::capabilities::coglex::mail::outbox as wit;
use crate::error::{Error, Result};

/// Begins a letter to an address.
pub fn to(address: impl Into<String>) -> Draft {
    Draft {
        to: address.into(),
        html: None,
        reply_to: None,
        key: None,
    }
}

/// A letter that is being written.
#[derive(Debug, Clone)]
#[must_use = "a letter is sent by `send` or `send_template`"]
pub struct Draft {
    to: String,
    html: Option<String>,
    reply_to: Option<String>,
    key: Option<String>,
}

impl Draft {
    /// Has answers go to this address instead of the one that letters are from.
    pub fn reply_to(mut self, address: impl Into<String>) -> Self {
        self.reply_to = Some(address.into());
        self
    }

    /// Has a letter sent once for this key, for a day, however often it is asked for. In
    /// a job, [`execution::invocation_id`](crate::execution::invocation_id) is such a key.
    pub fn once(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The letter as HTML, for readers that show it. What is put into it has to be
    /// escaped; templates do that.
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// Sends the letter; answers with its id in the server's outbox.
    pub fn send(self, subject: impl Into<String>, text: impl Into<String>) -> Result<String> {
        let options = wit::Options {
            reply_to: self.reply_to,
            key: self.key,
        };
        let letter = wit::Letter {
            subject: subject.into(),
            text: text.into(),
            html: self.html,
        };
        Ok(wit::send(&self.to, &letter, &options)?)
    }

    /// Sends what a template of the operator's makes of these values, an object.
    pub fn send_template(self, template: &str, values: &impl Serialize) -> Result<String> {
        let options = wit::Options {
            reply_to: self.reply_to,
            key: self.key,
        };
        let values = serde_json::to_string(values)?;
        Ok(wit::send_template(&self.to, template, &values, &options)?)
    }
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::Invalid(text) | wit::Error::NotFound(text) => Self::Invalid(text),
            wit::Error::TooLarge(text) => Self::TooLarge(text),
            wit::Error::AccessDenied(text) => Self::AccessDenied(text),
            wit::Error::Quota => Self::failure(
                "mail_quota",
                "the plugin has sent as many letters as it may within an hour",
            ),
            wit::Error::NotConfigured => {
                Self::failure("mail_not_configured", "the server has no mail server")
            }
            wit::Error::Overloaded | wit::Error::Unavailable => Self::Unavailable,
        }
    }
}
