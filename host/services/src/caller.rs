//! Who asks. Every service method that reads or writes a client's data takes
//! a [`Caller`], and decides by it.

use std::sync::Arc;

use crate::grants::Grants;

/// The header that carries the server's API key, in lower case.
pub const API_KEY_HEADER: &str = "x-api-key";

/// Session cookies are named this and their realm. Whoever reads, sets or
/// hides credentials goes by these two.
pub const SESSION_COOKIE_PREFIX: &str = "coglex_";

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of the server's API key: may do what the HTTP API offers.
    ApiKey,
    /// A plugin, within its grants.
    Plugin(Arc<PluginCaller>),
}

/// A plugin as a caller.
#[derive(Debug)]
pub struct PluginCaller {
    /// The plugin's name, for messages and logs.
    pub name: String,
    /// What it may touch.
    pub grants: Grants,
}

/// What a request brought to show who sends it. Collected by the HTTP door
/// once, handed to [`crate::Accounts::session_of`] when somebody asks.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Whether the server's API key was sent and is right.
    pub api_key: bool,
    /// The token of `Authorization: Bearer`, unverified.
    pub bearer: Option<String>,
    /// Session cookies as (realm, token), unverified.
    pub cookies: Vec<(String, String)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let realms: Vec<&str> = self
            .cookies
            .iter()
            .map(|(realm, _)| realm.as_str())
            .collect();
        f.debug_struct("Credentials")
            .field("api_key", &self.api_key)
            .field("bearer", &self.bearer.as_ref().map(|_| "***"))
            .field("cookies", &realms)
            .finish()
    }
}
