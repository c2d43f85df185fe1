//! Access tokens: JWTs that name a session, signed by one of the [`Keys`].
//!
//! A token only names a session; whether that is still open is the store's to
//! say, so that a key alone does not let anybody in. There are two kinds: what a
//! client sends as a bearer, which lives for minutes and which others may verify,
//! and what a browser sends as its cookie, which scripts cannot read and which lives
//! as long as the session. Their audiences differ, so that nobody who verifies
//! tokens for himself takes the long one.

use std::sync::Arc;

use bson::{Bson, DateTime};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::settings::TokenAlgorithm;
use crate::clock::Clock;
use crate::documents;
use crate::error::{Error, Result};
use crate::json;

/// Ours have some 500 bytes; nothing longer is worth a look.
const MAX_TOKEN_BYTES: usize = 4096;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;
/// Seconds that the clocks of two hosts may differ.
const LEEWAY: i64 = 60;
/// What precedes the realm in the audience of cookies. No realm has a `$` in it.
const COOKIE_AUDIENCE: &str = "$cookie:";

/// What a verified token says.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    /// The user's `_id`.
    pub(super) id: Bson,
    /// The session's identifier.
    pub(super) session: String,
}

/// How a token travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// In `Authorization: Bearer`.
    Bearer,
    /// In the session cookie.
    Cookie,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    /// Ours have none. One that is there counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// Unique to the token.
    jti: String,
    /// The session (OpenID Connect Front-Channel Logout, section 3).
    sid: String,
}

/// Issues and verifies.
pub(super) struct Tokens {
    pub(super) keys: Arc<Keys>,
    issuer: String,
    clock: Clock,
}

impl Tokens {
    pub(super) fn new(keys: Arc<Keys>, issuer: &str, clock: Clock) -> Self {
        Self {
            keys,
            issuer: issuer.to_owned(),
            clock,
        }
    }

    /// A token for a session of the realm's user, good until `expires` (Unix
    /// seconds).
    pub(super) async fn issue(
        &self,
        carrier: Carrier,
        realm: &str,
        claims: &Claims,
        expires: i64,
    ) -> Result<String> {
        let key = self.keys.signing().await?;
        let mut sub = Vec::new();
        json::write_value(&claims.id, &mut sub)?;
        let mut jti = [0; 16];
        getrandom::fill(&mut jti).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let payload = Payload {
            iss: self.issuer.clone(),
            aud: audience(carrier, realm),
            sub: String::from_utf8_lossy(&sub).into_owned(),
            iat: seconds(self.clock.now()),
            exp: expires,
            nbf: None,
            jti: hex::encode(jti),
            sid: claims.session.clone(),
        };
        let header = Header {
            kid: Some(key.kid.clone()),
            ..Header::new(algorithm(key.algorithm))
        };
        jsonwebtoken::encode(&header, &payload, &key.encoding)
            .map_err(|error| Error::Unavailable(Box::new(error)))
    }

    /// What the token says, if we signed it for this realm and it is neither over
    /// nor from the future. Why not is nobody's business.
    pub(super) async fn verify(&self, realm: &str, token: &str) -> Result<Option<Claims>> {
        let verified = self.verify_any(realm, token).await?;
        Ok(verified.filter(|(_, over)| !over).map(|(claims, _)| claims))
    }

    /// The same, also of a token that is over: for who wants nothing but to end the
    /// session.
    pub(super) async fn verify_to_end(&self, realm: &str, token: &str) -> Result<Option<Claims>> {
        let verified = self.verify_any(realm, token).await?;
        Ok(verified.map(|(claims, _)| claims))
    }

    /// What the token says, and whether it is over.
    async fn verify_any(&self, realm: &str, token: &str) -> Result<Option<(Claims, bool)>> {
        let Some((wanted, kid)) = named(token) else {
            return Ok(None);
        };
        // The algorithm is the key's. What the header says has to be the same.
        let Some(key) = self.keys.find(wanted, &kid).await? else {
            return Ok(None);
        };
        let mut validation = Validation::new(algorithm(key.algorithm));
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[
            audience(Carrier::Bearer, realm),
            audience(Carrier::Cookie, realm),
        ]);
        // By our own clock, below.
        validation.validate_exp = false;
        let Ok(verified) = jsonwebtoken::decode::<Payload>(token, &key.decoding, &validation)
        else {
            return Ok(None);
        };
        let payload = verified.claims;
        let now = seconds(self.clock.now());
        let starts = payload.nbf.unwrap_or(payload.iat).max(payload.iat);
        if starts > now.saturating_add(LEEWAY) {
            return Ok(None);
        }
        let id = json::parse_value(payload.sub.as_bytes(), ID_DEPTH).ok();
        let id = id.filter(|id| documents::check_known_id(id).is_ok());
        Ok(id.map(|id| {
            let session = payload.sid;
            (Claims { id, session }, payload.exp <= now)
        }))
    }

    /// Whether the header names a key that was made here, be it over by now.
    pub(super) fn is_own(&self, token: &str) -> bool {
        named(token).is_some_and(|(algorithm, kid)| self.keys.is_ours(algorithm, &kid))
    }
}

/// The algorithm and the key that a token's header names; unverified.
fn named(token: &str) -> Option<(TokenAlgorithm, String)> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    let algorithm = match header.alg {
        Algorithm::HS256 => TokenAlgorithm::Hs256,
        Algorithm::EdDSA => TokenAlgorithm::EdDsa,
        _ => return None,
    };
    Some((algorithm, header.kid?))
}

fn algorithm(ours: TokenAlgorithm) -> Algorithm {
    match ours {
        TokenAlgorithm::Hs256 => Algorithm::HS256,
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn audience(carrier: Carrier, realm: &str) -> String {
    match carrier {
        Carrier::Bearer => realm.to_owned(),
        Carrier::Cookie => format!("{COOKIE_AUDIENCE}{realm}"),
    }
}

fn seconds(moment: DateTime) -> i64 {
    moment.timestamp_millis().div_euclid(1_000)
}
