//! `auth.providers.<name>`: who else may say who somebody is.

use std::collections::BTreeMap;

use anyhow::bail;
use coglex_oauth::{AppleKey, ClientSecret, Preset, ProviderSettings};
use serde::Deserialize;

use super::{AuthConfig, Secret, Variables};

/// `COGLEX_PROVIDER_SECRET_<NAME>` is the secret of a provider, or Apple's private key;
/// its name in upper case, with `_` for `-`.
pub(super) const SECRET: &str = "COGLEX_PROVIDER_SECRET_";

/// Names that are words of the routes.
const RESERVED: [&str; 2] = ["exchange", "identities"];

/// A provider, as an operator describes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// `google`, `github`, `microsoft`, `apple`, `facebook` or `oidc`; by default the one
    /// that it is named after, else `oidc`.
    pub preset: Option<String>,
    /// The issuer's URL, for `oidc`.
    pub issuer: Option<String>,
    /// Microsoft's tenant.
    pub tenant: Option<String>,
    /// What the provider calls this server.
    pub client_id: String,
    /// What it knows it by.
    pub client_secret: Option<Secret>,
    /// What is asked for instead of the preset's scopes.
    pub scopes: Option<Vec<String>>,
    /// Endpoints other than the preset's, of those without OpenID Connect.
    pub authorization_url: Option<String>,
    /// The same.
    pub token_url: Option<String>,
    /// The same.
    pub userinfo_url: Option<String>,
    /// Apple's name for the team.
    pub team_id: Option<String>,
    /// Apple's name for the key.
    pub key_id: Option<String>,
    /// The key itself: the text of the `.p8` file.
    pub private_key: Option<Secret>,
}

impl ProviderConfig {
    /// Which it is; none of a preset that there is not.
    pub(super) fn preset(&self, name: &str) -> Option<Preset> {
        match &self.preset {
            Some(preset) => Preset::of_name(preset),
            None => Some(Preset::of_name(name).unwrap_or(Preset::Oidc)),
        }
    }

    /// What the provider's client is made of.
    pub(crate) fn settings(&self, name: &str) -> anyhow::Result<ProviderSettings> {
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(is_name)
            || RESERVED.contains(&name)
        {
            bail!(
                "a provider's name has lower-case letters, digits and `-`, and is none of {RESERVED:?}"
            );
        }
        let Some(preset) = self.preset(name) else {
            bail!("`preset` must be one of google, github, microsoft, apple, facebook, oidc");
        };
        let apple = [&self.team_id, &self.key_id].map(Option::as_deref);
        let client_secret = match (apple, &self.private_key) {
            ([Some(team), Some(key)], Some(pem)) => {
                let key = AppleKey::new(team, key, pem.expose()).map_err(anyhow::Error::msg)?;
                Some(ClientSecret::Apple(key))
            }
            ([None, None], None) => {
                let secret = self.client_secret.as_ref();
                secret.map(|secret| ClientSecret::Text(secret.expose().into()))
            }
            _ => bail!("Apple's key is `team_id`, `key_id` and `private_key`, all three"),
        };
        Ok(ProviderSettings {
            name: name.to_owned(),
            preset,
            issuer: self.issuer.clone(),
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            client_secret,
            scopes: self.scopes.clone(),
            authorization_url: self.authorization_url.clone(),
            token_url: self.token_url.clone(),
            userinfo_url: self.userinfo_url.clone(),
        })
    }
}

/// Gives providers the secrets that are in the environment.
pub(super) fn add_secrets(providers: &mut BTreeMap<String, ProviderConfig>, variables: &Variables) {
    for (name, provider) in providers {
        let variable = format!("{SECRET}{}", name.to_ascii_uppercase().replace('-', "_"));
        let Some((value, _)) = variables.get(&variable) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let secret = Some(Secret::from(value.clone()));
        match provider.preset(name) {
            Some(Preset::Apple) => provider.private_key = secret,
            _ => provider.client_secret = secret,
        }
    }
}

/// Whether a variable is the secret of a provider that there is.
pub(super) fn is_secret(variable: &str) -> bool {
    variable.starts_with(SECRET)
}

/// Whether each realm names providers that there are.
pub(super) fn check(auth: &AuthConfig) -> anyhow::Result<()> {
    for (realm, own) in &auth.realms {
        for name in own.providers.iter().flatten() {
            if !auth.providers.contains_key(name) {
                bail!(
                    "auth.realms.{realm}.providers names {name:?}, and there is no [auth.providers.{name}]"
                );
            }
        }
    }
    Ok(())
}
