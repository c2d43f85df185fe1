//! Access tokens: JWTs signed with HS256 by a key that signs nothing else.
//!
//! A token only names a session; whether that is still open is the store's to
//! say. `kid` names the key, so that keys can be rotated and our own tokens be
//! told from others' without verifying them.

use bson::Bson;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::SigningKey;
use super::session::NewSession;
use crate::clock::Clock;
use crate::documents;
use crate::error::{Error, Result};
use crate::json;

/// Ours have some 400 bytes; nothing longer is worth a look.
const MAX_TOKEN_BYTES: usize = 4096;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;

/// What a verified token says.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    /// The user's `_id`.
    pub(super) id: Bson,
    /// The session's identifier.
    pub(super) session: String,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    jti: String,
}

/// Issues and verifies.
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    kid: String,
    issuer: String,
    clock: Clock,
}

impl Tokens {
    pub(super) fn new(key: &SigningKey, issuer: &str, clock: Clock) -> Self {
        let digest = Sha256::digest(&key.0);
        Self {
            encoding: EncodingKey::from_secret(&key.0),
            decoding: DecodingKey::from_secret(&key.0),
            kid: hex::encode(digest.get(..4).unwrap_or_default()),
            issuer: issuer.to_owned(),
            clock,
        }
    }

    /// A token for the session of the realm's user.
    pub(super) fn issue(&self, realm: &str, id: &Bson, session: &NewSession) -> Result<String> {
        let mut sub = Vec::new();
        json::write_value(id, &mut sub)?;
        let payload = Payload {
            iss: self.issuer.clone(),
            aud: realm.to_owned(),
            sub: String::from_utf8_lossy(&sub).into_owned(),
            iat: session.created(),
            exp: session.expires(),
            jti: session.id.clone(),
        };
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::HS256)
        };
        jsonwebtoken::encode(&header, &payload, &self.encoding)
            .map_err(|error| Error::Unavailable(Box::new(error)))
    }

    /// What the token says, if we signed it for this realm and it has not
    /// expired. Why not is nobody's business.
    pub(super) fn verify(&self, realm: &str, token: &str) -> Option<Claims> {
        if !self.is_own(token) {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[realm]);
        // By our own clock, below.
        validation.validate_exp = false;
        let payload: Payload = jsonwebtoken::decode(token, &self.decoding, &validation)
            .ok()?
            .claims;
        if payload.exp < self.clock.now().timestamp_millis().div_euclid(1_000) {
            return None;
        }
        let id = json::parse_value(payload.sub.as_bytes(), ID_DEPTH).ok()?;
        documents::check_known_id(&id).ok()?;
        Some(Claims {
            id,
            session: payload.jti,
        })
    }

    /// Whether the header names our key.
    pub(super) fn is_own(&self, token: &str) -> bool {
        token.len() <= MAX_TOKEN_BYTES
            && jsonwebtoken::decode_header(token).is_ok_and(|header| {
                header.alg == Algorithm::HS256 && header.kid.as_deref() == Some(&self.kid)
            })
    }
}
