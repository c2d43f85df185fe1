//! A client of identity providers: OAuth 2's authorization code flow with PKCE (RFC
//! 6749, 7636, 9700), and OpenID Connect on it.
//!
//! [`Provider`] makes the URL that a browser is sent to, and turns the code that it
//! comes back with into an [`Identity`]. It knows nothing of accounts, sessions,
//! cookies or stores: what holds a flow together (state, nonce, PKCE's verifier) is
//! made with [`random`] and kept by who asks. Tokens of providers are used for that one
//! exchange and dropped.
//!
//! The signatures of ID tokens are `jsonwebtoken`'s business, as everywhere in Coglex.
//! What is around them is little, and would not be less with a framework: providers
//! differ in what they call verified, not in how a form is sent.

mod cached;
mod discovery;
mod error;
mod http;
mod id_token;
mod plain;
mod preset;
mod provider;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest as _, Sha256};

pub use error::Error;
pub use http::{Answer, Http, HttpsClient, is_safe_url};
pub use preset::{AppleKey, ClientSecret, Preset, ProviderSettings};
pub use provider::{Authorization, Email, Exchange, Identity, Provider};

/// A text of 256 random bits: a state, a nonce, PKCE's verifier (RFC 7636, section 4.1).
pub fn random() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::Local("there is no randomness"))?;
    Ok(BASE64.encode(bytes))
}

/// PKCE's challenge of a verifier, by the method `S256` (RFC 7636, section 4.2).
pub fn challenge(verifier: &str) -> String {
    BASE64.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        assert_eq!(
            super::challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn random_texts_are_verifiers_and_differ() {
        let (one, other) = (super::random().unwrap(), super::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
    }
}
