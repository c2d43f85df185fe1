//! A provider's metadata (OpenID Connect Discovery 1.0) and keys (RFC 7517), as they
//! are fetched.

use http::Request;
use http::header;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::{Http, is_safe_url};
use crate::{Error, Preset};

/// Keys of a provider that are looked at; most have two or three.
const MAX_KEYS: usize = 64;

/// What is used of the metadata.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) jwks_uri: String,
    pub(crate) userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 9207, section 3.
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Whether the client's secret goes into the form instead of a header, which is
    /// what has to be understood unless it is said that it is not (RFC 6749, 2.3.1).
    pub(crate) fn secret_in_form(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_deref();
        methods.is_some_and(|methods| {
            let has = |name: &str| methods.iter().any(|method| method == name);
            !has("client_secret_basic") && has("client_secret_post")
        })
    }
}

/// The keys of a provider that can be read.
#[derive(Debug, Default)]
pub(crate) struct Keys(pub(crate) Vec<Jwk>);

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// Fetches the metadata of an issuer, which has to say that it is it: who serves them
/// could speak for others otherwise (OpenID Connect Discovery, section 4.3).
pub(crate) async fn metadata(
    http: &dyn Http,
    provider: &str,
    preset: Preset,
    issuer: &str,
) -> Result<Metadata, Error> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let metadata: Metadata = json(http, provider, &url, None).await?;
    let wrong = |why: &str| Error::Answer {
        provider: provider.to_owned(),
        why: why.to_owned(),
    };
    let is_issuer = match preset {
        // It names the tenant by its id, or no tenant where there are many.
        Preset::Microsoft => {
            let rest = metadata
                .issuer
                .strip_prefix("https://login.microsoftonline.com/");
            rest.and_then(|rest| rest.strip_suffix("/v2.0"))
                .is_some_and(|tenant| !tenant.contains('/'))
        }
        _ => metadata.issuer == issuer,
    };
    if !is_issuer {
        return Err(wrong("its metadata are of another issuer"));
    }
    let endpoints = [
        Some(&metadata.authorization_endpoint),
        Some(&metadata.token_endpoint),
        Some(&metadata.jwks_uri),
        metadata.userinfo_endpoint.as_ref(),
    ];
    if endpoints.into_iter().flatten().any(|url| !is_safe_url(url)) {
        return Err(wrong("an endpoint in its metadata is not https"));
    }
    Ok(metadata)
}

/// Fetches the keys; what cannot be read of them is left out.
pub(crate) async fn keys(http: &dyn Http, provider: &str, url: &str) -> Result<Keys, Error> {
    let set: KeySet = json(http, provider, url, None).await?;
    let keys = set.keys.into_iter().take(MAX_KEYS);
    Ok(Keys(
        keys.filter_map(|key| serde_json::from_value(key).ok())
            .collect(),
    ))
}

/// JSON of a URL, with a token where one is needed.
pub(crate) async fn json<T: DeserializeOwned>(
    http: &dyn Http,
    provider: &str,
    url: &str,
    token: Option<&str>,
) -> Result<T, Error> {
    let unreachable = |why: String| Error::Unreachable {
        provider: provider.to_owned(),
        why,
    };
    let mut request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        // GitHub wants to be told who asks.
        .header(header::USER_AGENT, "coglex");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(bytes::Bytes::new());
    let request = request.map_err(|error| unreachable(error.to_string()))?;
    let answer = http.send(request).await.map_err(unreachable)?;
    let wrong = |why: String| Error::Answer {
        provider: provider.to_owned(),
        why,
    };
    if !answer.status.is_success() {
        return Err(wrong(format!("{} for {}", answer.status, path_of(url))));
    }
    serde_json::from_slice(&answer.body)
        .map_err(|error| wrong(format!("{} is not as it should be: {error}", path_of(url))))
}

/// A URL without its query, for the log.
fn path_of(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}
