//! The auth service: accounts, passwords, sessions. Every collection is a realm
//! of its own.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document};

use crate::caller::Credentials;
use crate::error::Result;
use crate::storage::DocumentStore;

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

/// A secret key; prints as `***`.
#[derive(Clone)]
pub struct SigningKey(pub Arc<[u8]>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A signed-in user.
#[derive(Debug, Clone)]
pub struct User {
    /// The collection that holds the user.
    pub realm: String,
    /// `_id`.
    pub id: Bson,
    /// `_key`.
    pub key: String,
    /// The document as clients may see it.
    pub document: Document,
}

/// The result of a sign-in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who signed in.
    pub user: User,
    /// The access token (JWT).
    pub token: String,
    /// When it expires, in Unix seconds.
    pub expires: i64,
}

/// The auth service.
#[derive(Clone)]
pub struct Accounts {
    inner: Arc<Inner>,
}

#[allow(dead_code, reason = "skeleton")]
struct Inner {
    store: Arc<dyn DocumentStore>,
    settings: AuthSettings,
}

#[allow(unused_variables, reason = "skeleton")]
impl Accounts {
    /// A service over `store`.
    pub fn new(store: Arc<dyn DocumentStore>, settings: AuthSettings) -> Self {
        Self { inner: Arc::new(Inner { store, settings }) }
    }

    /// Makes a user; answers with its `_id`. `_key` and `_password` inside
    /// `document` are ignored. `Invalid` when the key is taken (the contract
    /// says 400).
    pub async fn sign_up(&self, realm: &str, key: &str, password: &str, document: Document) -> Result<Bson> {
        todo!()
    }

    /// Checks key, password and the further condition; opens a session. All
    /// failures are the same `NotFound`, after the same work.
    pub async fn sign_in(&self, realm: &str, key: &str, password: &str, condition: Document) -> Result<SignedIn> {
        todo!()
    }

    /// The user whose session the token is, if it is valid and not revoked.
    pub async fn session(&self, realm: &str, token: &str) -> Result<Option<User>> {
        todo!()
    }

    /// The realm's user among a request's credentials: the bearer token is tried
    /// first, then that realm's cookie.
    pub async fn session_of(&self, realm: &str, credentials: &Credentials) -> Result<Option<User>> {
        todo!()
    }

    /// Revokes the session that the token is for; fine if there is none.
    pub async fn sign_out(&self, realm: &str, token: &str) -> Result<()> {
        todo!()
    }

    /// Sets fields of a user; hashes `_password`; answers with the number of
    /// documents changed. A new password ends the user's sessions (all but the
    /// one of `keep_token`).
    pub async fn refresh(&self, realm: &str, key: &str, document: Document, keep_token: Option<&str>) -> Result<u64> {
        todo!()
    }

    /// Whether a bearer token is shaped like one of ours, so that the gateway
    /// can keep it from guests. Does not verify it.
    pub fn is_own_token(&self, token: &str) -> bool {
        todo!()
    }
}
