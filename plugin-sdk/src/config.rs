//! Settings that the operator gives to this plugin, in
//! `[plugins.settings.<name>]` of the server's configuration.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::config::settings;
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

fn mismatch(name: &str, error: impl Display) -> Error {
    Error::Mismatch(format!("the setting `{name}` does not fit: {error}"))
}
