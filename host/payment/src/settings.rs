//! What the operator says about payments, and the check that test and live mode are
//! not mixed.

use std::fmt;
use std::time::Duration;

/// Whether money moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Stripe's test mode.
    Test,
    /// Real money.
    Live,
}

impl Mode {
    /// Whether objects of this mode have `livemode`.
    pub fn is_live(self) -> bool {
        self == Mode::Live
    }

    /// What a secret or restricted key says of itself.
    fn of_key(key: &str) -> Option<Self> {
        let rest = key
            .strip_prefix("sk_")
            .or_else(|| key.strip_prefix("rk_"))?;
        match rest.split('_').next() {
            Some("test") => Some(Mode::Test),
            Some("live") => Some(Mode::Live),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Test => "test",
            Mode::Live => "live",
        })
    }
}

/// What the operator says. Secrets are shown as `***`.
#[derive(Clone)]
pub struct PaymentSettings {
    /// The secret or restricted key, `sk_test_…`; without one payments are off.
    pub secret_key: Option<String>,
    /// Signing secrets of the webhook, `whsec_…`; any of them is believed.
    pub webhook_secrets: Vec<String>,
    /// Where requests go instead of Stripe: a URL.
    pub api_base: Option<String>,
    /// The mode that is meant; else the key's.
    pub mode: Option<Mode>,
    /// How long one attempt at a request may take.
    pub timeout: Duration,
    /// How often a request is sent at most.
    pub attempts: u32,
    /// For how long events are kept, and known as seen.
    pub event_retention: Duration,
}

impl fmt::Debug for PaymentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentSettings")
            .field("secret_key", &self.secret_key.as_ref().map(|_| "***"))
            .field("webhook_secrets", &self.webhook_secrets.len())
            .field("api_base", &self.api_base)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Default for PaymentSettings {
    fn default() -> Self {
        Self {
            secret_key: None,
            webhook_secrets: Vec::new(),
            api_base: None,
            mode: None,
            timeout: Duration::from_secs(15),
            attempts: 3,
            event_retention: Duration::from_secs(90 * 24 * 60 * 60),
        }
    }
}

impl PaymentSettings {
    /// The mode, or what is wrong with the settings: a sentence for the operator.
    pub fn check(&self) -> Result<Option<Mode>, String> {
        for secret in &self.webhook_secrets {
            // With nothing behind the prefix anybody could sign.
            if secret.strip_prefix("whsec_").is_none_or(str::is_empty) {
                return Err("payment.webhook_secret takes signing secrets, which start with whsec_; the API keys of Stripe are none".to_owned());
            }
        }
        let Some(key) = &self.secret_key else {
            return Ok(self.mode);
        };
        let Some(of_key) = Mode::of_key(key) else {
            return Err("payment.secret_key must be a secret or restricted key of Stripe, which starts with sk_test_, sk_live_, rk_test_ or rk_live_".to_owned());
        };
        if let Some(meant) = self.mode
            && meant != of_key
        {
            return Err(format!(
                "payment.mode is {meant}, but payment.secret_key is a key of {of_key} mode"
            ));
        }
        let plain = self
            .api_base
            .as_deref()
            .is_some_and(|base| base.starts_with("http://"));
        if plain && of_key.is_live() {
            return Err(
                "payment.api_base is not https, and a key of live mode is not sent in the clear"
                    .to_owned(),
            );
        }
        Ok(Some(of_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_not_mixed() {
        let check = |key: &str, mode: Option<Mode>, base: Option<&str>| {
            let settings = PaymentSettings {
                secret_key: Some(key.to_owned()),
                mode,
                api_base: base.map(str::to_owned),
                ..PaymentSettings::default()
            };
            settings.check()
        };
        assert_eq!(check("sk_test_1", None, None), Ok(Some(Mode::Test)));
        assert_eq!(
            check("rk_live_1", Some(Mode::Live), None),
            Ok(Some(Mode::Live))
        );
        assert!(
            check("sk_live_1", Some(Mode::Test), None)
                .unwrap_err()
                .contains("live mode")
        );
        assert!(check("sk_test_1", Some(Mode::Live), None).is_err());
        assert!(
            check("sk_live_1", None, Some("http://127.0.0.1:1"))
                .unwrap_err()
                .contains("clear")
        );
        check("sk_test_1", None, Some("http://127.0.0.1:1")).unwrap();
        for wrong in ["pk_live_1", "whsec_1", "sk_other_1", ""] {
            assert!(check(wrong, None, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_publishable_key_is_no_signing_secret() {
        for wrong in ["pk_test_1", "whsec_", ""] {
            let settings = PaymentSettings {
                webhook_secrets: vec![wrong.to_owned()],
                ..PaymentSettings::default()
            };
            let refused = settings.check().unwrap_err();
            assert!(refused.contains("whsec_"), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = PaymentSettings {
            secret_key: Some("sk_test_geheim".to_owned()),
            webhook_secrets: vec!["whsec_geheim".to_owned()],
            ..PaymentSettings::default()
        };
        assert!(!format!("{settings:?}").contains("geheim"));
    }
}
