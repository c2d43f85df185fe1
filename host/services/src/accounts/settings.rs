//! What the operator decides about accounts. Made by the host's configuration,
//! and checked at its start, where a mistake can still be told to somebody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::flows::FlowPolicy;
use super::password;

/// Settings of the auth service.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// argon2id memory in KiB (RFC 9106).
    pub argon2_memory_kib: u32,
    /// argon2id passes.
    pub argon2_passes: u32,
    /// argon2id lanes.
    pub argon2_lanes: u32,
    /// Hashings that run at once.
    pub hash_concurrency: usize,
    /// Hashings that may wait before sign-ins are answered 503.
    pub hash_queue: usize,
    /// The key that the keys of tokens are derived from, at least 32 bytes. The same
    /// on all hosts of one database.
    pub signing_key: SigningKey,
    /// What tokens are signed with.
    pub algorithm: TokenAlgorithm,
    /// How long a key signs before another takes its place.
    pub key_lifetime: Duration,
    /// `iss` of the tokens.
    pub issuer: String,
    /// Failed sign-ins of one key from one address before each further one has to
    /// wait; 0: none ever waits.
    pub key_failures: u32,
    /// Failed sign-ins from one address within ten minutes, whatever the key; 0: as
    /// many as it likes.
    pub address_failures: u32,
    /// What holds in realms that have no policy of their own.
    pub policy: RealmPolicy,
    /// Policies by realm.
    pub realms: BTreeMap<String, RealmPolicy>,
}

impl AuthSettings {
    /// The defaults, with a key of the operator's.
    pub fn new(signing_key: SigningKey) -> Self {
        Self {
            argon2_memory_kib: 19 << 10,
            argon2_passes: 2,
            argon2_lanes: 1,
            hash_concurrency: 1,
            hash_queue: 256,
            signing_key,
            algorithm: TokenAlgorithm::Hs256,
            key_lifetime: Duration::from_secs(90 * 86_400),
            issuer: "coglex".to_owned(),
            key_failures: 10,
            address_failures: 200,
            policy: RealmPolicy::default(),
            realms: BTreeMap::new(),
        }
    }

    /// What holds in a realm.
    pub fn policy_of(&self, realm: &str) -> &RealmPolicy {
        self.realms.get(realm).unwrap_or(&self.policy)
    }

    /// The longest that any token lives.
    pub(super) fn longest_token(&self) -> Duration {
        let all = self.realms.values().chain([&self.policy]);
        let longest = all.map(|policy| policy.access_ttl.max(policy.session_ttl));
        longest.max().unwrap_or_default()
    }

    /// Whether the settings can work; the sentence names the one that cannot.
    /// Meant for the start: with settings that fail here, hashing fails later.
    pub fn check(&self) -> Result<(), String> {
        if self.signing_key.0.len() < 32 {
            return Err("the signing key must have at least 32 bytes".into());
        }
        if self.hash_concurrency == 0 {
            return Err("the hashings that run at once must be at least 1".into());
        }
        if self.key_lifetime < Duration::from_secs(60) {
            return Err("a key must sign for a minute or longer".into());
        }
        self.policy.check()?;
        for (realm, policy) in &self.realms {
            policy
                .check()
                .map_err(|sentence| format!("in the realm {realm:?}, {sentence}"))?;
        }
        password::params(self)
            .map(drop)
            .map_err(|error| format!("the argon2 parameters cannot work: {error}"))
    }
}

/// What holds for the accounts of one realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmPolicy {
    /// Whether clients may sign users up. Plugins that were granted it always may.
    pub sign_up: bool,
    /// Characters of a new password, at least.
    pub password_min: usize,
    /// Characters of a new password, at most. No password of any age has more than
    /// 1024 bytes.
    pub password_max: usize,
    /// Whether a new password may be one that many people have.
    pub allow_common: bool,
    /// How long an access token is good for.
    pub access_ttl: Duration,
    /// How long a session lives that is not renewed with its refresh token.
    pub session_ttl: Duration,
    /// How long a session lives at most, however often it is renewed.
    pub session_max: Duration,
    /// What is done by mail.
    pub flows: FlowPolicy,
    /// The providers that users sign in by, each by its name; none by default: whoever
    /// has an account there could sign up.
    pub providers: Vec<String>,
    /// The pages that users go back to from there, whole.
    pub redirect_urls: Vec<String>,
}

impl Default for RealmPolicy {
    fn default() -> Self {
        Self {
            sign_up: true,
            password_min: 8,
            password_max: 256,
            allow_common: false,
            access_ttl: Duration::from_secs(15 * 60),
            session_ttl: Duration::from_secs(7 * 86_400),
            session_max: Duration::from_secs(90 * 86_400),
            flows: FlowPolicy::default(),
            providers: Vec::new(),
            redirect_urls: Vec::new(),
        }
    }
}

impl RealmPolicy {
    fn check(&self) -> Result<(), String> {
        let second = Duration::from_secs(1);
        if self.session_ttl < second || self.access_ttl < second {
            return Err("a session and a token must live for a second or longer".into());
        }
        if self.session_max < self.session_ttl {
            return Err(
                "a session cannot live longer unrenewed (session_ttl) than in all (session_max_ttl)"
                    .into(),
            );
        }
        if self.password_min == 0 || self.password_min > self.password_max {
            return Err(
                "a password's least length must be 1 or more, and no more than its greatest".into(),
            );
        }
        for page in &self.redirect_urls {
            let absolute = page
                .split_once(':')
                .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
            let is_http = page.starts_with("http:") || page.starts_with("https:");
            if !absolute
                || page.contains('#')
                || page.chars().any(|c| c.is_control() || c == ' ')
                || is_http && !coglex_oauth::is_safe_url(page)
            {
                return Err(format!(
                    "{page:?} (redirect_urls) is no URL without a fragment, by https unless of this machine"
                ));
            }
        }
        if !self.providers.is_empty() && self.redirect_urls.is_empty() {
            return Err(
                "who signs in by a provider has no page to go back to: set redirect_urls".into(),
            );
        }
        Ok(())
    }
}

/// What tokens are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: whoever can verify can sign.
    Hs256,
    /// Ed25519 (RFC 8037): everybody can verify, by the published keys.
    EdDsa,
}

impl TokenAlgorithm {
    /// The name of RFC 7518, as in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            TokenAlgorithm::Hs256 => "HS256",
            TokenAlgorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(TokenAlgorithm::Hs256),
            "EdDSA" => Some(TokenAlgorithm::EdDsa),
            _ => None,
        }
    }
}

/// A secret key; prints as `***`.
#[derive(Clone)]
pub struct SigningKey(pub Arc<[u8]>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
