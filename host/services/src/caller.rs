//! Who asks. Every service method that reads or writes a client's data takes
//! a [`Caller`], and decides by it.

use std::sync::Arc;

use crate::accounts::User;
use crate::grants::{AuthVerb, CallerId, Grants, PaymentVerb};
use crate::rules::RuleSet;

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
    /// The holder of a scoped API key, within what the key covers.
    Key(Arc<KeyCaller>),
    /// A signed-in user without an API key, within the access rules.
    User(Arc<UserCaller>),
}

impl Caller {
    /// Whether the accounts of a realm may be asked this.
    pub fn allows_auth(&self, realm: &str, verb: AuthVerb) -> bool {
        match self {
            Caller::ApiKey => true,
            Caller::Plugin(plugin) => plugin.grants.allows_auth(realm, verb),
            Caller::Key(key) => key.grants.allows_auth(realm, verb),
            Caller::User(_) => false,
        }
    }

    /// Whether this may be done with payments.
    pub fn allows_payment(&self, verb: PaymentVerb) -> bool {
        match self {
            Caller::ApiKey => true,
            Caller::Plugin(plugin) => plugin.grants.allows_payment(verb),
            Caller::Key(key) => key.grants.allows_payment(verb),
            Caller::User(_) => false,
        }
    }

    /// Whether the function may be called.
    pub fn allows_function(&self, name: &str) -> bool {
        match self {
            Caller::ApiKey => true,
            Caller::Plugin(plugin) => plugin.grants.allows_function(name),
            Caller::Key(key) => key.grants.allows_function(name),
            Caller::User(_) => false,
        }
    }

    /// Who this is, for a log of what was done: never a secret.
    pub fn label(&self) -> String {
        match self {
            Caller::ApiKey => "api_key".to_owned(),
            Caller::Plugin(plugin) => format!("plugin:{}", plugin.name),
            Caller::Key(key) => format!("key:{}", key.id),
            Caller::User(user) => format!("user:{}:{}", user.user.realm, user.user.id),
        }
    }
}

/// A scoped API key as a caller. It was there, in force and sent from where it may be
/// when the caller was made; see [`crate::keys`].
#[derive(Debug, Clone)]
pub struct KeyCaller {
    /// What the key is listed and revoked by. No secret.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// What it covers of documents, accounts and functions.
    pub grants: Arc<Grants>,
    /// Routes of apps that it opens, as it says them.
    pub routes: Arc<[String]>,
    /// For whom it is used: the signed-in users of the collections that conditions of
    /// its grants speak of.
    pub users: Vec<CallerId>,
}

/// A signed-in user as a caller, with the rules as they were when the caller was made.
#[derive(Debug, Clone)]
pub struct UserCaller {
    /// Who is signed in.
    pub user: User,
    /// What users may do.
    pub rules: Arc<RuleSet>,
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
    /// Whether the server's API key was sent and is right, or a scoped key that covers
    /// what is asked for.
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
