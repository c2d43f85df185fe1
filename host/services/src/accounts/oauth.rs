//! Signing in by an identity provider, and linking one to an account.
//!
//! ```text
//! begin ─► provider ─► finish ─► page ─► exchange
//!  │                     │        ▲ _code   │
//!  └─ sealed, cookie ────┘        │         └─ super::entry: second factor, session
//!                                 └─ a text that counts once, within a minute
//! ```
//!
//! [`coglex_oauth`] speaks with providers; `flow` is what holds both ends together,
//! `once` what counts once, `identity` whose account it is. No token of ours is ever in
//! a URL: the page gets a code there, and trades it for the session. Tokens of providers
//! are not kept.

mod flow;
mod identity;
mod once;

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{DateTime, Document, doc};
use coglex_oauth::{Authorization, Exchange, Provider, challenge};
use form_urlencoded::Serializer;
use subtle::ConstantTimeEq as _;

use super::denial::Denial;
use super::entry::Proven;
use super::flows::verifying;
use super::keys::later;
use super::{Accounts, Client, SignedIn, decoded};
use crate::caller::Credentials;
use crate::documents;
use crate::error::{Error, Result};
use flow::Flow;

pub(super) use identity::Indexed as IdentitiesIndexed;
pub use identity::OwnIdentity;
pub(super) use once::Indexed as OnceIndexed;

/// All providers of a server, by their names.
pub type Providers = BTreeMap<String, Arc<Provider>>;

/// Where a page wants a browser to go by a provider.
#[derive(Debug, Clone, Copy)]
pub struct OAuthRequest<'a> {
    /// The URL of this server that the provider sends the browser back to.
    pub callback: &'a str,
    /// The page that it ends at; one of the realm's, the first if none is named.
    pub redirect: Option<&'a str>,
    /// PKCE's challenge of that page (`S256`), which then has to show the verifier when
    /// it trades its code.
    pub challenge: Option<&'a str>,
}

/// A flow that has begun.
pub struct OAuthBegun {
    /// Where the browser goes.
    pub url: String,
    /// By which it comes back.
    pub state: String,
    /// What it has to bring along, in a cookie.
    pub sealed: String,
    /// Whether it comes back with a POST of the provider's page.
    pub posts_back: bool,
    /// How many seconds it may be away.
    pub seconds: u64,
}

impl std::fmt::Debug for OAuthBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuthBegun").finish_non_exhaustive()
    }
}

/// What a browser has come back with, none of it to be believed.
#[derive(Default, Clone)]
pub struct OAuthAnswer {
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: Option<String>,
    /// `error` (RFC 6749, section 4.1.2.1).
    pub error: Option<String>,
    /// `iss` (RFC 9207).
    pub issuer: Option<String>,
}

impl Accounts {
    /// The same service, which users can sign in to by these providers.
    #[must_use]
    pub fn with_providers(self, providers: Providers) -> Self {
        Self {
            providers: Arc::new(providers),
            ..self
        }
    }

    /// The names of the providers that a realm's users can sign in by.
    pub fn providers_of(&self, realm: &str) -> Vec<&str> {
        let allowed = &self.inner.settings.policy_of(realm).providers;
        let allowed = allowed.iter().map(String::as_str);
        allowed
            .filter(|name| self.providers.contains_key(*name))
            .collect()
    }

    /// Begins a sign-in by a provider.
    pub async fn begin_oauth(
        &self,
        realm: &str,
        provider: &str,
        request: &OAuthRequest<'_>,
    ) -> Result<OAuthBegun> {
        let flow = self.flow(realm, request)?;
        self.send_off(realm, provider, flow).await
    }

    /// Begins to link an identity to who is signed in and shows once more that it is
    /// he. Nothing if nobody is signed in.
    pub async fn begin_oauth_link(
        &self,
        realm: &str,
        provider: &str,
        request: &OAuthRequest<'_>,
        credentials: &Credentials,
        password: Option<&str>,
        client: &Client,
    ) -> Result<Option<OAuthBegun>> {
        let Some((stored, claims)) = self.claimed(realm, credentials).await? else {
            return Ok(None);
        };
        let mut flow = self.flow(realm, request)?;
        self.inner
            .shown_again(realm, &stored, &claims, password, client)
            .await?;
        flow.for_user(&claims)?;
        self.send_off(realm, provider, flow).await.map(Some)
    }

    /// Goes on with a flow whose browser has come back, bringing along what `sealed` it.
    /// Answers with the page that it goes on to, which is told in the query either a
    /// `_code`, or what was `_linked`, or an `error`. `Denied` where it is not known
    /// what page that is.
    pub async fn finish_oauth(
        &self,
        realm: &str,
        provider: &str,
        answer: &OAuthAnswer,
        sealed: Option<&str>,
    ) -> Result<String> {
        let inner = &*self.inner;
        let known = self.provider(realm, provider)?;
        let invalid = || Error::from(Denial::OAuthStateInvalid);
        let sealed = sealed.ok_or_else(invalid)?;
        let now = inner.clock.now();
        let flow = Flow::open(&inner.master, realm, provider, &answer.state, sealed, now);
        let flow = flow.ok_or_else(invalid)?;
        // The page may have been taken from the settings meanwhile.
        let policy = inner.settings.policy_of(realm);
        if !policy.redirect_urls.contains(&flow.redirect) {
            return Err(invalid());
        }
        if !inner.use_state(&answer.state, flow.until).await? {
            return Err(invalid());
        }
        let ended = self.end(realm, &known, &flow, answer, now).await;
        let (name, value) = match ended {
            Ok(told) => told,
            Err(Error::Denied(denial)) => ("error", denial.code().to_owned()),
            Err(error) => {
                tracing::error!(
                    auth.realm = realm,
                    auth.provider = provider,
                    error = &error as &dyn std::error::Error,
                    "a sign-in by a provider has failed"
                );
                ("error", "server_error".to_owned())
            }
        };
        Ok(with_parameter(&flow.redirect, name, &value))
    }

    /// Trades the code that a page was told for a session. `Denied` with a challenge
    /// for users with a second factor.
    pub async fn exchange_oauth(
        &self,
        realm: &str,
        code: &str,
        verifier: Option<&str>,
        client: &Client,
    ) -> Result<SignedIn> {
        let inner = &*self.inner;
        documents::check_collection(realm)?;
        let invalid = || Error::from(Denial::OAuthCodeInvalid);
        let kept = inner.take_code(code).await?.ok_or_else(invalid)?;
        let wanted = kept.get_str("challenge").unwrap_or_default();
        let given = verifier.map(challenge).unwrap_or_default();
        let is_page = bool::from(wanted.as_bytes().ct_eq(given.as_bytes())) || wanted.is_empty();
        if kept.get_str("realm").ok() != Some(realm) || !is_page {
            return Err(invalid());
        }
        let id = kept.get("user").cloned().ok_or_else(invalid)?;
        let raw = inner.store.get(realm, id).await?;
        let stored = decoded(&raw.ok_or_else(invalid)?)?;
        let identity = kept.get_str("identity").unwrap_or_default();
        // It may have been unlinked in this minute.
        let unchanged = doc! { format!("{}.id", identity::ALL): identity };
        let address = stored_address(inner, realm, &stored);
        let verified = kept.get_str("email").ok();
        let proves = verified.is_some() && verified == address.as_deref();
        let mut proven = Proven::new(stored, unchanged);
        if let (true, Some(address)) = (proves, address) {
            let (field, value) = verifying(&address, inner.clock.now());
            proven.set.insert(field, value);
        }
        let entered = inner.enter(realm, proven, client).await?;
        entered.ok_or_else(invalid)
    }

    fn provider(&self, realm: &str, name: &str) -> Result<Arc<Provider>> {
        documents::check_collection(realm)?;
        let allowed = self.providers_of(realm).contains(&name);
        let provider = self.providers.get(name).filter(|_| allowed);
        let provider = provider.map(Arc::clone);
        provider.ok_or_else(|| {
            Error::NotFound("users of this collection do not sign in by this provider".into())
        })
    }

    /// A flow to a page, which has to be one of the realm's.
    fn flow(&self, realm: &str, request: &OAuthRequest<'_>) -> Result<Flow> {
        documents::check_collection(realm)?;
        let pages = &self.inner.settings.policy_of(realm).redirect_urls;
        let page = match request.redirect {
            Some(wanted) => pages.iter().find(|page| *page == wanted),
            None => pages.first(),
        };
        let page = page.ok_or_else(|| {
            Error::Invalid("`redirect` is not one of the setting auth.redirect_urls".into())
        })?;
        if let Some(challenge) = request.challenge {
            let is_one = challenge.len() == 43
                && challenge
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !is_one {
                return Err(Error::Invalid(
                    "`code_challenge` must be the SHA-256 of a verifier in base64url (RFC 7636)"
                        .into(),
                ));
            }
        } else if !coglex_oauth::is_safe_url(page) {
            // Any app of a phone can claim the scheme of another.
            return Err(Error::Invalid(
                "`code_challenge` is needed where `redirect` is no https URL".into(),
            ));
        }
        Flow::new(request.callback, page.clone(), request.challenge)
    }

    async fn send_off(&self, realm: &str, provider: &str, mut flow: Flow) -> Result<OAuthBegun> {
        let inner = &*self.inner;
        let known = self.provider(realm, provider)?;
        let state = flow::random()?;
        flow.until = later(inner.clock.now(), flow::LIFE).timestamp_millis();
        let url = known
            .authorization_url(&Authorization {
                redirect_uri: &flow.callback,
                state: &state,
                nonce: &flow.nonce,
                challenge: &challenge(&flow.verifier),
            })
            .await
            .map_err(|error| failed(realm, provider, &error))?;
        Ok(OAuthBegun {
            url,
            sealed: flow.seal(&inner.master, realm, provider, &state)?,
            state,
            posts_back: known.preset().posts_back(),
            seconds: flow::LIFE.as_secs(),
        })
    }

    /// What a page is told.
    async fn end(
        &self,
        realm: &str,
        provider: &Provider,
        flow: &Flow,
        answer: &OAuthAnswer,
        now: DateTime,
    ) -> Result<(&'static str, String)> {
        if let Some(error) = &answer.error {
            // Two words for a person's own wish; the rest is somebody's fault.
            return match error.as_str() {
                "access_denied" | "user_cancelled_authorize" => Err(Denial::ProviderDenied.into()),
                _ => Err(Denial::ProviderFailed.into()),
            };
        }
        let identity = provider
            .identify(&Exchange {
                code: answer.code.as_deref().unwrap_or_default(),
                issuer: answer.issuer.as_deref(),
                redirect_uri: &flow.callback,
                verifier: &flow.verifier,
                nonce: &flow.nonce,
                now: now.timestamp_millis().div_euclid(1000),
            })
            .await
            .map_err(|error| failed(realm, provider.name(), &error))?;
        if let Some(claims) = flow.user() {
            self.link(realm, provider.name(), &identity, &claims)
                .await?;
            return Ok(("_linked", provider.name().to_owned()));
        }
        let user = self.user_of(realm, provider.name(), &identity).await?;
        let mut kept = doc! {
            "realm": realm,
            "user": user,
            "identity": identity::hash(&identity),
        };
        if let Some(challenge) = &flow.challenge {
            kept.insert("challenge", challenge);
        }
        let email = identity.email.filter(|email| email.authoritative);
        if let Some(email) = email {
            kept.insert("email", email.address);
        }
        Ok(("_code", self.inner.make_code(kept).await?))
    }
}

fn stored_address(inner: &super::Inner, realm: &str, stored: &Document) -> Option<String> {
    let policy = &inner.settings.policy_of(realm).flows;
    policy.address_of(stored).map(str::to_owned)
}

/// What went wrong with a provider is for the log; clients hear that it did.
fn failed(realm: &str, provider: &str, error: &coglex_oauth::Error) -> Error {
    tracing::warn!(
        auth.realm = realm,
        auth.provider = provider,
        "a provider's word could not be had: {error}"
    );
    Denial::ProviderFailed.into()
}

/// A URL with one more parameter in its query.
fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let parameter = Serializer::new(String::new())
        .append_pair(name, value)
        .finish();
    let separator = match url.split_once('?') {
        None => "?",
        Some((_, "")) => "",
        Some(_) => "&",
    };
    format!("{url}{separator}{parameter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_in_their_query() {
        let check =
            |page: &str, whole: &str| assert_eq!(with_parameter(page, "_code", "a b"), whole);
        check("https://a.example/in", "https://a.example/in?_code=a+b");
        check("https://a.example/?", "https://a.example/?_code=a+b");
        check("https://a.example/?x=1", "https://a.example/?x=1&_code=a+b");
        check("app://in", "app://in?_code=a+b");
    }
}
