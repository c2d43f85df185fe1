//! Settings that the operator gives to this plugin, in
//! `[plugins.settings.<name>]` of the server's configuration, and secrets.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::config::{secrets, settings};
use crate::error::{Error, Result};

/// A setting as text, or none when the operator has not set it.
#[must_use]
pub fn get(name: &str) -> Option<String> {
    settings::get(name)
}

/// A setting, parsed: `let limit: u64 = config::get_as("limit")?.unwrap_or(20);`
pub fn get_as<T>(name: &str) -> Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    get(name)
        .map(|text| text.parse().map_err(|error| mismatch(name, error)))
        .transpose()
}

/// A setting that is a list or a table:
/// `let hosts: Vec<String> = config::get_json("hosts")?.unwrap_or_default();`
pub fn get_json<T: DeserializeOwned>(name: &str) -> Result<Option<T>> {
    get(name)
        .map(|text| serde_json::from_str(&text).map_err(|error| mismatch(name, error)))
        .transpose()
}

/// A setting that this plugin cannot do without.
pub fn require(name: &str) -> Result<String> {
    get(name).ok_or_else(|| Error::Mismatch(format!("the setting `{name}` is missing")))
}

/// A secret: a text that prints as `***`, so that it cannot end up in a log or an
/// answer by mistake.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let key = config::require_secret("stripe_key")?;
/// let answer = client::get("https://api.stripe.com/v1/balance")
///     .header("authorization", format!("Bearer {}", key.expose()))
///     .send()?;
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret that the operator gives to this plugin, in
/// `[plugins.secrets.<name>]` of the server's configuration or its environment;
/// none when it is not set. Needs the grant `secrets = ["…"]`.
pub fn secret(name: &str) -> Result<Option<Secret>> {
    match secrets::get(name) {
        Ok(value) => Ok(value.map(Secret)),
        Err(secrets::Error::AccessDenied(text)) => Err(Error::AccessDenied(text)),
    }
}

/// A secret that this plugin cannot do without.
pub fn require_secret(name: &str) -> Result<Secret> {
    secret(name)?.ok_or_else(|| Error::Mismatch(format!("the secret `{name}` is missing")))
}

fn mismatch(name: &str, error: impl Display) -> Error {
    Error::Mismatch(format!("the setting `{name}` does not fit: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret("sk_live".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "sk_live");
    }
}
