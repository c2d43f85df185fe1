//! Who asks. Every service method that reads or writes a client's data takes
//! a [`Caller`], and decides by it.

use std::sync::Arc;

use crate::grants::{CallerId, Grants};

/// The header that carries the server's API key, in lower case.
pub const API_KEY_HEADER: &str = "x-api-key";

/// The header that carries the operator's admin key, in lower case. No
/// [`Caller`] comes of it: it opens the admin API and nothing else.
pub const ADMIN_KEY_HEADER: &str = "x-admin-key";

/// Session cookies are named this and their realm. Whoever reads, sets or
/// hides credentials goes by these.
pub const SESSION_COOKIE_PREFIX: &str = "coglex_";

/// The same over https: browsers take a cookie of such a name only from the host
/// itself, for all of its paths, and never from a neighbour (RFC 6265bis, section
/// 4.1.3.2).
pub const SECURE_COOKIE_PREFIX: &str = "__Host-coglex_";

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// The holder of the server's API key: may do what the HTTP API offers.
    ApiKey,
    /// A plugin, within its grants.
    Plugin(Arc<PluginCaller>),
}

/// A plugin as a caller.
#[derive(Debug, Clone)]
pub struct PluginCaller {
    /// The plugin's name, for messages and logs.
    pub name: String,
    /// What it may touch.
    pub grants: Arc<Grants>,
    /// For whom it is called: the signed-in users of the collections that
    /// conditions of its grants speak of. Verified by whoever made the caller.
    pub users: Vec<CallerId>,
    /// The bytes that its keys and values may take; see [`crate::kv`].
    pub kv_bytes: u64,
    /// What it does this within.
    pub origin: Origin,
}

/// What a plugin does something within, beside a client's request.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Write hooks around it; see [`crate::hooks`].
    pub hook_depth: u8,
    /// Whether another guest waits for it.
    pub nested: bool,
    /// The request, for the log; where it is not the one at hand.
    pub request_id: Option<Arc<str>>,
}

impl PluginCaller {
    /// A plugin that is called for nobody in particular.
    pub fn new(name: impl Into<String>, grants: impl Into<Arc<Grants>>) -> Self {
        Self {
            name: name.into(),
            grants: grants.into(),
            users: Vec::new(),
            kv_bytes: u64::MAX,
            origin: Origin::default(),
        }
    }
}

/// Cookies of one realm that are tried: a browser sends one, an attacker may
/// send many, and each costs a signature check.
const MAX_COOKIES: usize = 4;

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
    /// Whether there were cookies that do not count, because the page of another
    /// site has made a browser send them.
    pub cross_site: bool,
}

impl Credentials {
    /// The session tokens that may be of this realm, unverified: the bearer
    /// token, which can be of any, and the first of the realm's cookies.
    pub fn tokens(&self, realm: &str) -> impl Iterator<Item = &str> {
        let cookies = self
            .cookies
            .iter()
            .filter(move |(of, _)| of == realm)
            .take(MAX_COOKIES);
        let cookies = cookies.map(|(_, token)| token.as_str());
        self.bearer.as_deref().into_iter().chain(cookies)
    }
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
            .field("cross_site", &self.cross_site)
            .finish()
    }
}
