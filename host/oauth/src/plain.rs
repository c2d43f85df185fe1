//! Providers without OpenID Connect, whose word about a user is had with the access
//! token: GitHub and Facebook.

use serde::Deserialize;
use serde_json::Value;

use crate::discovery::json;
use crate::http::Http;
use crate::{Email, Error, Identity, Preset};

#[derive(Deserialize)]
struct GitHubEmail {
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

/// Who an access token is of.
pub(crate) async fn identity(
    http: &dyn Http,
    provider: &str,
    preset: Preset,
    issuer: &str,
    url: &str,
    token: &str,
) -> Result<Identity, Error> {
    let asked = match preset {
        Preset::Facebook => format!("{url}?fields=id,name,email"),
        _ => url.to_owned(),
    };
    let user: Value = json(http, provider, &asked, Some(token)).await?;
    // Numbers at GitHub, which people keep when they change their names.
    let subject = match user.get("id") {
        Some(Value::Number(id)) => id.to_string(),
        Some(Value::String(id)) if !id.is_empty() && id.len() <= 255 => id.clone(),
        _ => {
            return Err(Error::Answer {
                provider: provider.to_owned(),
                why: "the user has no id".to_owned(),
            });
        }
    };
    let text = |name: &str| user.get(name).and_then(Value::as_str).map(str::to_owned);
    let email = match preset {
        // What is in the profile may be anything.
        Preset::GitHub => github_email(http, provider, url, token).await?,
        // It does not say whether it has verified an address.
        _ => text("email").map(|address| Email {
            address,
            verified: false,
            authoritative: false,
        }),
    };
    Ok(Identity {
        issuer: issuer.to_owned(),
        subject,
        email,
        name: text("name").or_else(|| text("login")),
    })
}

async fn github_email(
    http: &dyn Http,
    provider: &str,
    url: &str,
    token: &str,
) -> Result<Option<Email>, Error> {
    let url = format!("{}/emails", url.trim_end_matches('/'));
    let emails: Vec<GitHubEmail> = match json(http, provider, &url, Some(token)).await {
        Ok(emails) => emails,
        // The user has not let us see them.
        Err(Error::Answer { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let primary = emails.into_iter().find(|one| one.primary && one.verified);
    Ok(primary.map(|one| Email {
        address: one.email,
        verified: true,
        authoritative: true,
    }))
}
