//! Requests to Stripe: each write with an idempotency key, each with a time, and sent
//! again only where Stripe says that it may be.
//! <https://docs.stripe.com/error-low-level>
//!
//! The bindings' client sends them and reads errors; answers are kept as JSON.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError};
use stripe_client_core::{CustomizedStripeRequest, RequestBuilder, StripeClient, StripeMethod};

use crate::error::{PaymentError, Refusal, Result};
use crate::form;
use crate::settings::PaymentSettings;

/// The first wait between two attempts, at most; each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(400);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// When a client that was turned away should come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is asked of Stripe.
pub(crate) struct Ask<'a> {
    method: StripeMethod,
    /// Below `/v1`.
    path: String,
    params: &'a Value,
    /// For writes.
    key: Option<String>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: impl Into<String>, params: &'a Value) -> Self {
        Self {
            method: StripeMethod::Get,
            path: path.into(),
            params,
            key: None,
        }
    }

    pub(crate) fn post(path: impl Into<String>, params: &'a Value, key: String) -> Self {
        Self {
            method: StripeMethod::Post,
            path: path.into(),
            params,
            key: Some(key),
        }
    }

    /// Deleting twice deletes once; Stripe needs no key for it.
    pub(crate) fn delete(path: impl Into<String>, params: &'a Value) -> Self {
        Self {
            method: StripeMethod::Delete,
            path: path.into(),
            params,
            key: None,
        }
    }
}

/// The way to Stripe.
pub(crate) struct Stripe {
    client: Client,
    timeout: Duration,
    attempts: u32,
    /// The key, which no message may hold.
    secret: String,
}

impl Stripe {
    pub(crate) fn new(secret: &str, settings: &PaymentSettings) -> Result<Self, String> {
        let mut builder = ClientBuilder::new(secret).app_info(
            "Coglex",
            Some(env!("CARGO_PKG_VERSION").to_owned()),
            None,
        );
        if let Some(base) = &settings.api_base {
            // The bindings put `v1` right behind it.
            let base = base.trim_end_matches('/').trim_end_matches("/v1");
            builder = builder.url(format!("{base}/"));
        }
        let client = builder.build().map_err(|_| {
            "payment.secret_key or payment.api_base cannot be used in a request".to_owned()
        })?;
        Ok(Self {
            client,
            timeout: settings.timeout,
            attempts: settings.attempts.max(1),
            secret: secret.to_owned(),
        })
    }

    /// Asks, and again where that is safe; answers with Stripe's JSON.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Value> {
        let params = form::encode(ask.params)?;
        let key = ask.key.as_deref().map(IdempotencyKey::new).transpose();
        let key = key.map_err(|error| PaymentError::Invalid(error.to_string()))?;
        let mut attempt = 1;
        loop {
            let error = match self.once(&ask, &params, key.clone()).await {
                Ok(bytes) => {
                    return serde_json::from_slice(&bytes).map_err(|_| {
                        provider("stripe_invalid_response", "Stripe's answer is not JSON.")
                    });
                }
                Err(error) => error,
            };
            if attempt >= self.attempts || !may_retry(&error) {
                return Err(self.explain(error));
            }
            // Without its text, which may name what a customer has bought.
            tracing::warn!(
                path = ask.path,
                attempt,
                "a request to Stripe is sent again"
            );
            tokio::time::sleep(wait(attempt)).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        params: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<Bytes, StripeError> {
        let params = (!params.is_empty()).then(|| params.to_owned());
        let (query, body) = match ask.method {
            StripeMethod::Post => (None, params),
            StripeMethod::Get | StripeMethod::Delete => (params, None),
        };
        let request = RequestBuilder {
            query,
            body,
            path: ask.path.clone(),
            method: ask.method,
        };
        let strategy = key.map_or(RequestStrategy::Once, RequestStrategy::Idempotent);
        let keep = Keep {
            client: &self.client,
            answer: OnceLock::new(),
        };
        // Nothing is read into the bindings' types: `()` never fits, what counts is kept.
        let request = request.customize::<()>().request_strategy(strategy);
        let sent = request.timeout(self.timeout).send(&keep).await;
        match (keep.answer.into_inner(), sent) {
            (Some(bytes), _) => Ok(bytes),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(Bytes::new()),
        }
    }

    /// What a client is told.
    fn explain(&self, error: StripeError) -> PaymentError {
        let (error, status) = match error {
            StripeError::Stripe(error, status) => (error, status),
            StripeError::Timeout => {
                return provider("stripe_timeout", "Stripe did not answer in time.");
            }
            StripeError::ClientError(cause) => {
                tracing::warn!("Stripe cannot be reached: {}", self.clean(&cause));
                return provider("stripe_unreachable", "Stripe cannot be reached.");
            }
            StripeError::JSONDeserialize(_) | StripeError::ConfigError(_) => {
                return provider(
                    "stripe_invalid_response",
                    "Stripe's answer is not readable.",
                );
            }
        };
        let kind = error.type_.as_str().to_owned();
        let code = error.code.as_ref().map(|code| code.as_str().to_owned());
        let message = error
            .message
            .as_deref()
            .unwrap_or("Stripe refuses the request.");
        let refusal = Refusal {
            code: snake(code.as_deref().unwrap_or(&kind)),
            message: self.clean(message),
            decline_code: error.decline_code.as_deref().map(snake),
            param: error.param.as_deref().map(|param| self.clean(param)),
        };
        match status {
            401 | 403 => {
                tracing::error!(status, "Stripe does not take payment.secret_key for this");
                provider(
                    "stripe_key_refused",
                    "Stripe does not take the server's key for this.",
                )
            }
            402 => PaymentError::Declined(refusal),
            404 => PaymentError::NotFound(refusal),
            400 => PaymentError::Refused(refusal),
            429 => PaymentError::Busy {
                retry_after: RETRY_AFTER,
            },
            _ => PaymentError::Provider(refusal),
        }
    }

    /// The text without keys: ours, and whatever looks like one.
    fn clean(&self, text: &str) -> String {
        let text = text.replace(&self.secret, "***");
        let is_secret = |word: &str| {
            let word = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
            ["sk_", "rk_", "whsec_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        };
        let words = text
            .split(' ')
            .map(|word| if is_secret(word) { "***" } else { word });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A client that keeps the bytes of an answer.
struct Keep<'a> {
    client: &'a Client,
    answer: OnceLock<Bytes>,
}

impl StripeClient for Keep<'_> {
    type Err = StripeError;

    async fn execute(&self, request: CustomizedStripeRequest) -> Result<Bytes, StripeError> {
        let bytes = self.client.execute(request).await?;
        // Called once.
        let _ = self.answer.set(bytes.clone());
        Ok(bytes)
    }
}

/// Whether the same request, with the same idempotency key, may be sent again: nothing
/// was done (409 for a lock, 429), or nobody knows (5xx, no answer) and the key sees to
/// it that it is done once.
fn may_retry(error: &StripeError) -> bool {
    match error {
        StripeError::Stripe(error, status) => match status {
            409 => error.code.as_ref().is_none_or(|code| {
                matches!(code.as_str(), "lock_timeout" | "idempotency_key_in_use")
            }),
            429 => true,
            status => *status >= 500,
        },
        // An error that is not Stripe's JSON comes from a proxy before it.
        StripeError::ClientError(_) | StripeError::Timeout | StripeError::JSONDeserialize(_) => {
            true
        }
        StripeError::ConfigError(_) => false,
    }
}

/// Between half of it and all of it, so that those who failed together do not come back
/// together.
fn wait(attempt: u32) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    let longest = longest.min(LONGEST_WAIT);
    let mut byte = [0];
    // Without randomness it is the longest.
    let part = match getrandom::fill(&mut byte) {
        Ok(()) => u32::from(byte[0]),
        Err(_) => 255,
    };
    longest / 2 + longest / 2 * part / 255
}

fn provider(code: &str, message: &str) -> PaymentError {
    PaymentError::Provider(Refusal::new(code, message))
}

/// A code of Stripe's as a code of ours: it is a stranger's text.
fn snake(code: &str) -> String {
    let known = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let code: String = code.chars().filter(known).take(100).collect();
    code.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_holds_a_key() {
        let stripe = Stripe::new("sk_test_geheim", &PaymentSettings::default()).unwrap();
        for text in [
            "Invalid API Key provided: sk_test_geheim",
            "the key 'sk_live_other' and whsec_123",
            "before:sk_test_geheim:after",
        ] {
            let clean = stripe.clean(text);
            assert!(
                !clean.contains("geheim") && !clean.contains("sk_live"),
                "{clean}"
            );
            assert!(!clean.contains("whsec_1"), "{clean}");
        }
        assert_eq!(
            stripe.clean("No such price: 'price_1'"),
            "No such price: 'price_1'"
        );
    }

    #[test]
    fn waits_grow_and_end() {
        for (attempt, most) in [(1, 400), (2, 800), (3, 1600), (30, 4000)] {
            let wait = wait(attempt);
            assert!(wait <= Duration::from_millis(most), "{wait:?}");
            assert!(wait >= Duration::from_millis(most / 2), "{wait:?}");
        }
    }
}
