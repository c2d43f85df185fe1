//! What the operator decides about accounts. Made by the host's configuration,
//! and checked at its start, where a mistake can still be told to somebody.

use std::sync::Arc;
use std::time::Duration;

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
    /// How long a session lives.
    pub session_ttl: Duration,
    /// The key that signs access tokens (HS256), at least 32 bytes.
    pub signing_key: SigningKey,
    /// `iss` of the tokens.
    pub issuer: String,
}

impl AuthSettings {
    /// Whether the settings can work; the sentence names the one that cannot.
    /// Meant for the start: with settings that fail here, hashing fails later.
    pub fn check(&self) -> Result<(), String> {
        if self.signing_key.0.len() < 32 {
            return Err("the signing key must have at least 32 bytes".into());
        }
        if self.hash_concurrency == 0 {
            return Err("the hashings that run at once must be at least 1".into());
        }
        if self.session_ttl < Duration::from_secs(1) {
            return Err("a session must live for a second or longer".into());
        }
        password::params(self)
            .map(drop)
            .map_err(|error| format!("the argon2 parameters cannot work: {error}"))
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
