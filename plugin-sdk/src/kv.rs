//! Keys and values that outlive a call: for caches, counters, rate limits and
//! locks.
//!
//! They are this plugin's own, durable, and the same on every host of a cluster.
//! A plugin asks for them in its `coglex.toml`:
//!
//! ```toml
//! [grants]
//! kv = true
//! ```
//!
//! ```no_run
//! use std::time::Duration;
//! use coglex_sdk::prelude::*;
//!
//! fn rates() -> Result<Value> {
//!     if let Some(kept) = kv::get_json("rates")? {
//!         return Ok(kept);
//!     }
//!     let fresh = json!({"EUR": 1.0});
//!     kv::set_json("rates", &fresh, Duration::from_secs(600))?;
//!     Ok(fresh)
//! }
//! ```
//!
//! Keys have 1 to 512 bytes, values at most 1 MiB, all entries together as much as
//! the plugin's budget says (64 MiB by default): past it a write that takes more room
//! is [`Error::Invalid`].

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::kv::store as wit;
use crate::error::{Error, Result};

/// How long an entry lives: a [`Duration`] up to a year, or [`FOREVER`].
pub trait Ttl {
    /// Milliseconds, or none for good.
    fn millis(self) -> Option<u64>;
}

/// For good, until it is deleted.
pub const FOREVER: Forever = Forever;

/// See [`FOREVER`].
#[derive(Debug, Clone, Copy)]
pub struct Forever;

impl Ttl for Forever {
    fn millis(self) -> Option<u64> {
        None
    }
}

impl Ttl for Duration {
    fn millis(self) -> Option<u64> {
        // Less than a millisecond is one: none would mean for good.
        Some(u64::try_from(self.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

/// The value of a key, or none. That of a counter is its digits.
pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
    Ok(wit::get(key)?)
}

/// The value of a key that was set by [`set_json`].
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    let value = get(key)?;
    let read = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::Mismatch(format!(
                "the value of `{key}` does not fit the type: {error}"
            ))
        })
    };
    value.map(read).transpose()
}

/// Sets a key, whatever was there.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// kv::set("greeting", "Hello", kv::FOREVER)?;
/// # Ok(()) }
/// ```
pub fn set(key: &str, value: impl AsRef<[u8]>, ttl: impl Ttl) -> Result<()> {
    Ok(wit::set(key, value.as_ref(), ttl.millis())?)
}

/// Sets a key to a value as JSON.
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T, ttl: impl Ttl) -> Result<()> {
    set(key, serde_json::to_vec(value)?, ttl)
}

/// Removes a key; tells whether it was there.
pub fn delete(key: &str) -> Result<bool> {
    Ok(wit::delete(key)?)
}

/// Adds to a counter, atomically, and answers with the sum. One that is not there
/// counts from 0 and gets the time to live, which later calls leave as it is.
///
/// ```no_run
/// # use std::time::Duration;
/// # use coglex_sdk::prelude::*;
/// fn limit(address: &str) -> Result<()> {
///     if kv::increment(&format!("hits:{address}"), 1, Duration::from_secs(60))? > 100 {
///         return Err(Error::status(429, "at most 100 a minute"));
///     }
///     Ok(())
/// }
/// ```
pub fn increment(key: &str, by: i64, ttl: impl Ttl) -> Result<i64> {
    Ok(wit::increment(key, by, ttl.millis())?)
}

/// Sets a key if it holds what is expected (none: if it is not there),
/// atomically; tells whether it did.
///
/// ```no_run
/// # use std::time::Duration;
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// // A lock that ends by itself.
/// if kv::compare_and_set("import", None, "running", Duration::from_secs(30))? {
///     // …
/// }
/// # Ok(()) }
/// ```
pub fn compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: impl Ttl,
) -> Result<bool> {
    Ok(wit::compare_and_set(
        key,
        expected,
        value.as_ref(),
        ttl.millis(),
    )?)
}

/// Keys that begin with a prefix, in order, after `after`; at most 1,000.
pub fn keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
    Ok(wit::keys(prefix, after, limit)?)
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::Invalid(text) => Self::Invalid(text),
            wit::Error::WrongType(text) => Self::Mismatch(text),
            wit::Error::Contended | wit::Error::Unavailable => Self::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_never_mistaken_for_none() {
        assert_eq!(Duration::ZERO.millis(), Some(1));
        assert_eq!(Duration::from_micros(1_500).millis(), Some(1));
        assert_eq!(Duration::from_secs(2).millis(), Some(2_000));
        assert_eq!(FOREVER.millis(), None);
    }
}
