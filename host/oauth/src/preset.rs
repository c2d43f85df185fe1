//! What is known of providers beforehand, and what an operator says of one.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::Error;

/// Which provider it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Any that speaks OpenID Connect.
    Oidc,
    /// Google.
    Google,
    /// Microsoft Entra and personal accounts.
    Microsoft,
    /// Apple.
    Apple,
    /// GitHub: OAuth 2 without OpenID Connect.
    GitHub,
    /// Facebook: likewise.
    Facebook,
}

impl Preset {
    /// The preset of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "oidc" => Self::Oidc,
            "google" => Self::Google,
            "microsoft" => Self::Microsoft,
            "apple" => Self::Apple,
            "github" => Self::GitHub,
            "facebook" => Self::Facebook,
            _ => return None,
        })
    }

    /// Its issuer, as identities name it; none where the operator has to say.
    pub(crate) fn issuer(self, tenant: &str) -> Option<String> {
        Some(match self {
            Self::Oidc => return None,
            Self::Google => "https://accounts.google.com".to_owned(),
            Self::Microsoft => format!("https://login.microsoftonline.com/{tenant}/v2.0"),
            Self::Apple => "https://appleid.apple.com".to_owned(),
            Self::GitHub => "https://github.com".to_owned(),
            Self::Facebook => "https://www.facebook.com".to_owned(),
        })
    }

    /// What is asked of it unless the operator says otherwise.
    pub(crate) fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Oidc | Self::Google | Self::Microsoft => &["openid", "email", "profile"],
            // OpenID Connect is not asked for: an ID token comes with it all the same.
            Self::Apple => &["name", "email"],
            Self::GitHub => &["read:user", "user:email"],
            Self::Facebook => &["public_profile", "email"],
        }
    }

    /// Authorization, token and user endpoints of those without OpenID Connect.
    pub(crate) fn endpoints(self) -> Option<[&'static str; 3]> {
        match self {
            Self::GitHub => Some([
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "https://api.github.com/user",
            ]),
            Self::Facebook => Some([
                "https://www.facebook.com/v25.0/dialog/oauth",
                "https://graph.facebook.com/v25.0/oauth/access_token",
                "https://graph.facebook.com/v25.0/me",
            ]),
            _ => None,
        }
    }

    /// Whether the browser comes back with a POST, which it is told to make (OAuth 2.0
    /// Form Post Response Mode): Apple insists on it.
    pub fn posts_back(self) -> bool {
        self == Self::Apple
    }
}

/// What a provider knows this server by; prints as `***`.
#[derive(Clone)]
pub enum ClientSecret {
    /// A text.
    Text(Arc<str>),
    /// A key that signs one for each request (Apple).
    Apple(AppleKey),
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A key of Apple's.
#[derive(Clone)]
pub struct AppleKey {
    team: String,
    name: String,
    key: EncodingKey,
}

impl AppleKey {
    /// The key of a team: its name, and the text of the `.p8` file.
    pub fn new(team: &str, name: &str, pem: &str) -> Result<Self, String> {
        let body: String = pem
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("-----"))
            .collect();
        // In an environment variable the lines may have become one.
        let body = body.replace("\\n", "");
        let der = BASE64_STANDARD
            .decode(body)
            .ok()
            .filter(|der| !der.is_empty())
            .ok_or("the private key is not a PEM file, as Apple's .p8 files are")?;
        Ok(Self {
            team: team.to_owned(),
            name: name.to_owned(),
            key: EncodingKey::from_ec_der(&der),
        })
    }

    /// The client's secret of the next minutes ("Creating a client secret", Apple).
    pub(crate) fn secret(&self, client: &str, audience: &str, now: i64) -> Result<String, Error> {
        let header = Header {
            kid: Some(self.name.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = json!({
            "iss": self.team,
            "iat": now,
            "exp": now + 300,
            "aud": audience,
            "sub": client,
        });
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| Error::Local("Apple's private key cannot sign"))
    }
}

/// What an operator says of a provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Its name, in paths and for users' identities.
    pub name: String,
    /// Which it is.
    pub preset: Preset,
    /// The issuer's URL; needed for [`Preset::Oidc`].
    pub issuer: Option<String>,
    /// Microsoft's tenant: an id, a domain, `common`, `organizations` or `consumers`.
    pub tenant: Option<String>,
    /// What the provider calls this server.
    pub client_id: String,
    /// What it knows it by; none for a public client.
    pub client_secret: Option<ClientSecret>,
    /// What is asked for instead of the preset's.
    pub scopes: Option<Vec<String>>,
    /// Endpoints other than the preset's: a GitHub of one's own.
    pub authorization_url: Option<String>,
    /// The same.
    pub token_url: Option<String>,
    /// The same.
    pub userinfo_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{DecodingKey, Validation};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;

    #[test]
    fn apples_secret_is_signed_by_the_key_of_its_file() {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let body = BASE64_STANDARD.encode(der.as_ref());
        let (first, second) = body.split_at(64);
        let lines =
            format!("-----BEGIN PRIVATE KEY-----\n{first}\n{second}\n-----END PRIVATE KEY-----\n");
        let key = AppleKey::new("TEAM", "KEY", &lines).unwrap();
        let secret = key
            .secret("org.example.app", "https://appleid.apple.com", 1_000)
            .unwrap();
        let public = Jwk::from_encoding_key(&key.key, Algorithm::ES256).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.set_audience(&["https://appleid.apple.com"]);
        let public = DecodingKey::from_jwk(&public).unwrap();
        let token: jsonwebtoken::TokenData<serde_json::Value> =
            jsonwebtoken::decode(&secret, &public, &validation).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some("KEY"));
        assert_eq!(token.claims["iss"], "TEAM");
        assert_eq!(token.claims["sub"], "org.example.app");
        assert_eq!(token.claims["exp"], 1_300);
        assert!(AppleKey::new("T", "K", "no key").is_err());
        assert!(AppleKey::new("T", "K", "").is_err());
    }
}
