//! One provider: where browsers are sent, and what comes of the code that they bring
//! back.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use http::{Request, header};
use serde::Deserialize;
use serde_json::Value;

use crate::cached::Cached;
use crate::discovery::{self, Keys, Metadata};
use crate::http::{Http, is_safe_url};
use crate::id_token::{self, Claims, Expected};
use crate::{ClientSecret, Error, Preset, ProviderSettings, plain};

/// Longer codes are not sent on.
const MAX_CODE: usize = 4096;

/// Where a browser is to be sent, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Authorization<'a> {
    /// Where it is to come back.
    pub redirect_uri: &'a str,
    /// What it is to bring back.
    pub state: &'a str,
    /// What is to be in the ID token.
    pub nonce: &'a str,
    /// PKCE's challenge.
    pub challenge: &'a str,
}

/// A code that a browser has brought back, and what its flow was begun with.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The code.
    pub code: &'a str,
    /// Who says so, if that was said (RFC 9207).
    pub issuer: Option<&'a str>,
    /// As in [`Authorization`].
    pub redirect_uri: &'a str,
    /// PKCE's verifier.
    pub verifier: &'a str,
    /// As in [`Authorization`].
    pub nonce: &'a str,
    /// The time, in Unix seconds.
    pub now: i64,
}

/// Who somebody is, by a provider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider, by its issuer.
    pub issuer: String,
    /// Who it is there; never given to another, and never changed.
    pub subject: String,
    /// The address, if it is told.
    pub email: Option<Email>,
    /// What the user is called.
    pub name: Option<String>,
}

/// An address, by a provider's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// The address.
    pub address: String,
    /// Whether the provider says that it has verified it.
    pub verified: bool,
    /// Whether it is the one to say whose it is today: Google verifies an address of
    /// another company once, and does not hear when that gives it to somebody else.
    pub authoritative: bool,
}

/// A provider.
pub struct Provider {
    settings: ProviderSettings,
    issuer: String,
    http: Arc<dyn Http>,
    metadata: Cached<Metadata>,
    keys: Cached<Keys>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<String>,
    id_token: Option<String>,
    error: Option<String>,
}

impl Provider {
    /// A provider by its settings; a sentence if they cannot work.
    pub fn new(settings: ProviderSettings, http: Arc<dyn Http>) -> Result<Self, String> {
        let tenant = settings.tenant.as_deref().unwrap_or("common");
        let is_tenant = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if tenant.is_empty() || !tenant.chars().all(is_tenant) {
            return Err("`tenant` is none of Microsoft's".into());
        }
        let issuer = settings.issuer.clone();
        let issuer = issuer.or_else(|| settings.preset.issuer(tenant));
        let issuer = issuer.ok_or("`issuer` is missing")?;
        if settings.client_id.is_empty() {
            return Err("`client_id` is missing".into());
        }
        let urls = [
            ("issuer", Some(&issuer)),
            ("authorization_url", settings.authorization_url.as_ref()),
            ("token_url", settings.token_url.as_ref()),
            ("userinfo_url", settings.userinfo_url.as_ref()),
        ];
        for (name, url) in urls {
            if url.is_some_and(|url| !is_safe_url(url)) {
                return Err(format!(
                    "`{name}` must be an https URL, or one of this very machine"
                ));
            }
        }
        let is_apple = matches!(settings.client_secret, Some(ClientSecret::Apple(_)));
        if is_apple != (settings.preset == Preset::Apple) {
            return Err(
                "Apple, and nobody else, takes `team_id`, `key_id` and `private_key`".into(),
            );
        }
        Ok(Self {
            issuer,
            settings,
            http,
            metadata: Cached::default(),
            keys: Cached::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Which it is.
    pub fn preset(&self) -> Preset {
        self.settings.preset
    }

    /// Where a browser is to be sent.
    pub async fn authorization_url(&self, request: &Authorization<'_>) -> Result<String, Error> {
        let endpoint = match self.plain() {
            Some([authorization, ..]) => authorization,
            None => self.metadata().await?.authorization_endpoint.clone(),
        };
        let preset = self.settings.preset;
        let own = self.settings.scopes.as_ref().map(|scopes| scopes.join(" "));
        let scope = own.unwrap_or_else(|| preset.scopes().join(" "));
        let mut query = Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("scope", &scope)
            .append_pair("state", request.state)
            .append_pair("code_challenge", request.challenge)
            .append_pair("code_challenge_method", "S256");
        if self.plain().is_none() {
            query.append_pair("nonce", request.nonce);
        }
        if preset.posts_back() {
            query.append_pair("response_mode", "form_post");
        }
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{separator}{}", query.finish()))
    }

    /// Who has come back with this code.
    pub async fn identify(&self, exchange: &Exchange<'_>) -> Result<Identity, Error> {
        if exchange.code.is_empty() || exchange.code.len() > MAX_CODE {
            return Err(self.wrong("the code is none"));
        }
        if let Some([_, token, user]) = self.plain() {
            let tokens = self.tokens(&token, true, exchange).await?;
            let access = tokens
                .access_token
                .ok_or_else(|| self.wrong("there is no access token"))?;
            return plain::identity(
                &*self.http,
                self.name(),
                self.settings.preset,
                &self.issuer,
                &user,
                &access,
            )
            .await;
        }
        let metadata = self.metadata().await?;
        let required = metadata.authorization_response_iss_parameter_supported;
        let is_right = match exchange.issuer {
            Some(issuer) => issuer == metadata.issuer,
            None => !required,
        };
        if !is_right && self.settings.preset != Preset::Microsoft {
            return Err(self.wrong("the code is of another issuer"));
        }
        let in_form = metadata.secret_in_form() || self.settings.preset == Preset::Apple;
        let tokens = self
            .tokens(&metadata.token_endpoint, in_form, exchange)
            .await?;
        let token = tokens
            .id_token
            .ok_or_else(|| self.wrong("there is no ID token"))?;
        let claims = self.verified(&metadata, &token, exchange).await?;
        let mut identity = self.identity(&claims.iss, &claims.sub, &claims.rest);
        if identity.email.is_none()
            && let (Some(url), Some(access)) = (&metadata.userinfo_endpoint, &tokens.access_token)
        {
            let told = self.user_info(url, access, &claims).await;
            match told {
                Ok(told) => identity = told,
                // An address is no condition of being somebody.
                Err(error) => tracing::warn!("nothing more is known of a user: {error}"),
            }
        }
        Ok(identity)
    }

    /// The endpoints, if there is no OpenID Connect.
    fn plain(&self) -> Option<[String; 3]> {
        let [authorization, token, user] = self.settings.preset.endpoints()?;
        let settings = &self.settings;
        let or = |own: &Option<String>, preset: &str| own.clone().unwrap_or(preset.to_owned());
        Some([
            or(&settings.authorization_url, authorization),
            or(&settings.token_url, token),
            or(&settings.userinfo_url, user),
        ])
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, Error> {
        let fetch =
            || discovery::metadata(&*self.http, self.name(), self.settings.preset, &self.issuer);
        self.metadata.get(|_| true, fetch).await
    }

    async fn verified(
        &self,
        metadata: &Metadata,
        token: &str,
        exchange: &Exchange<'_>,
    ) -> Result<Claims, Error> {
        let not_good = |why| Error::IdToken {
            provider: self.name().to_owned(),
            why,
        };
        let header =
            id_token::header(token).ok_or_else(|| not_good("it is not signed by a key"))?;
        let fetch = || discovery::keys(&*self.http, self.name(), &metadata.jwks_uri);
        let knows = |keys: &Keys| keys.0.iter().any(|key| id_token::fits(key, &header));
        let keys = self.keys.get(knows, fetch).await?;
        let expected = Expected {
            issuer: &metadata.issuer,
            client_id: &self.settings.client_id,
            nonce: exchange.nonce,
            now: exchange.now,
        };
        id_token::verify(token, &header, &keys.0, &expected).map_err(not_good)
    }

    /// Trades the code (RFC 6749, section 4.1.3).
    async fn tokens(
        &self,
        url: &str,
        secret_in_form: bool,
        exchange: &Exchange<'_>,
    ) -> Result<Tokens, Error> {
        let unreachable = |why: String| Error::Unreachable {
            provider: self.name().to_owned(),
            why,
        };
        let request = self.token_request(url, secret_in_form, exchange)?;
        let answer = self.http.send(request).await.map_err(unreachable)?;
        let tokens: Result<Tokens, _> = serde_json::from_slice(&answer.body);
        // GitHub answers 200 to everything.
        if let Ok(Tokens {
            error: Some(code), ..
        }) = tokens
        {
            let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            return Err(Error::Refused {
                provider: self.name().to_owned(),
                code: code.chars().filter(is_plain).take(64).collect(),
            });
        }
        if !answer.status.is_success() {
            return Err(self.wrong(&format!("{} to a code", answer.status)));
        }
        tokens.map_err(|_| self.wrong("the answer to a code is no JSON"))
    }

    fn token_request(
        &self,
        url: &str,
        secret_in_form: bool,
        exchange: &Exchange<'_>,
    ) -> Result<Request<Bytes>, Error> {
        let client = self.settings.client_id.as_str();
        let secret = match &self.settings.client_secret {
            None => None,
            Some(ClientSecret::Text(text)) => Some(text.to_string()),
            Some(ClientSecret::Apple(key)) => {
                Some(key.secret(client, &self.issuer, exchange.now)?)
            }
        };
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", exchange.code)
            .append_pair("redirect_uri", exchange.redirect_uri)
            .append_pair("code_verifier", exchange.verifier);
        let mut request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "coglex");
        match &secret {
            Some(secret) if !secret_in_form => {
                // Both are form-encoded first (RFC 6749, section 2.3.1).
                let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(client), encode(secret));
                let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
                request = request.header(header::AUTHORIZATION, basic);
            }
            _ => {
                form.append_pair("client_id", client);
                if let Some(secret) = &secret {
                    form.append_pair("client_secret", secret);
                }
            }
        }
        request
            .body(Bytes::from(form.finish()))
            .map_err(|_| Error::Local("the URL for tokens is none"))
    }

    async fn user_info(&self, url: &str, token: &str, claims: &Claims) -> Result<Identity, Error> {
        let told: serde_json::Map<String, Value> =
            discovery::json(&*self.http, self.name(), url, Some(token)).await?;
        // It has to be of the same user (OpenID Connect Core, section 5.3.2).
        if told.get("sub").and_then(Value::as_str) != Some(&*claims.sub) {
            return Err(self.wrong("the user information is of somebody else"));
        }
        Ok(self.identity(&claims.iss, &claims.sub, &told))
    }

    fn identity(
        &self,
        issuer: &str,
        subject: &str,
        told: &serde_json::Map<String, Value>,
    ) -> Identity {
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        // Apple writes it as text, Microsoft as a number.
        let is = |name: &str| match told.get(name) {
            Some(Value::Bool(value)) => *value,
            Some(Value::String(value)) => value == "true" || value == "1",
            Some(Value::Number(value)) => value.as_u64() == Some(1),
            _ => false,
        };
        let email = text("email").map(|address| {
            let (verified, authoritative) = match self.settings.preset {
                // `email` is whatever the tenant's administrator has written there, in
                // tokens of any tenant; only this claim says that the domain is theirs.
                Preset::Microsoft => (is("xms_edov"), is("xms_edov")),
                Preset::Google => {
                    let own = address.to_ascii_lowercase().ends_with("@gmail.com");
                    let hosted = text("hd").is_some_and(|domain| !domain.is_empty());
                    (is("email_verified"), own || hosted)
                }
                _ => (is("email_verified"), true),
            };
            Email {
                address,
                verified,
                authoritative: verified && authoritative,
            }
        });
        Identity {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            email,
            name: text("name"),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Answer {
            provider: self.name().to_owned(),
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
