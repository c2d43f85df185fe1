//! What a flow is held together by while the browser is at the provider: sealed, in a
//! cookie of that very browser, so that any host can go on with it and nothing is stored
//! for whoever only asks where to go.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bson::{Bson, DateTime};
use serde::{Deserialize, Serialize};

use super::super::keys::Master;
use super::super::token::Claims;
use crate::error::{Error, Result};
use crate::json;

/// How long a browser may be away.
pub(super) const LIFE: Duration = Duration::from_secs(10 * 60);
/// Longer ones are not looked at: browsers keep no longer cookies.
const MAX_BYTES: usize = 4096;
/// A wrapper around a scalar, and one around that.
const ID_DEPTH: usize = 3;
const PURPOSE: &str = "oauth flow";

/// A flow.
#[derive(Serialize, Deserialize)]
pub(super) struct Flow {
    /// In the ID token.
    pub(super) nonce: String,
    /// PKCE's, towards the provider.
    pub(super) verifier: String,
    /// Where the provider sends the browser back to.
    pub(super) callback: String,
    /// The page that the browser ends at.
    pub(super) redirect: String,
    /// PKCE's, of the page towards us.
    pub(super) challenge: Option<String>,
    /// Whose identity it is to become, if that is what it is for.
    link: Option<Link>,
    /// When it is over, in milliseconds since 1970.
    pub(super) until: i64,
}

#[derive(Serialize, Deserialize)]
struct Link {
    user: String,
    session: String,
}

impl Flow {
    pub(super) fn new(callback: &str, redirect: String, challenge: Option<&str>) -> Result<Self> {
        Ok(Self {
            nonce: random()?,
            verifier: random()?,
            callback: callback.to_owned(),
            redirect,
            challenge: challenge.map(str::to_owned),
            link: None,
            until: 0,
        })
    }

    /// Has it be for an identity of this user.
    pub(super) fn for_user(&mut self, claims: &Claims) -> Result<()> {
        let mut user = Vec::new();
        json::write_value(&claims.id, &mut user)?;
        self.link = Some(Link {
            user: String::from_utf8_lossy(&user).into_owned(),
            session: claims.session.clone(),
        });
        Ok(())
    }

    /// The user and the session that it is for.
    pub(super) fn user(&self) -> Option<Claims> {
        let link = self.link.as_ref()?;
        let id: Bson = json::parse_value(link.user.as_bytes(), ID_DEPTH).ok()?;
        Some(Claims {
            id,
            session: link.session.clone(),
        })
    }

    /// For the cookie. Only with the same state, at the same realm and provider, is it
    /// opened again.
    pub(super) fn seal(
        &self,
        master: &Master,
        realm: &str,
        provider: &str,
        state: &str,
    ) -> Result<String> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let parts = [realm.as_bytes(), provider.as_bytes(), state.as_bytes()];
        let sealed = BASE64.encode(master.seal(PURPOSE, &parts, &text)?);
        match sealed.len() > MAX_BYTES - 512 {
            true => Err(Error::Invalid("`redirect` is too long".into())),
            false => Ok(sealed),
        }
    }

    pub(super) fn open(
        master: &Master,
        realm: &str,
        provider: &str,
        state: &str,
        sealed: &str,
        now: DateTime,
    ) -> Option<Self> {
        if sealed.len() > MAX_BYTES {
            return None;
        }
        let sealed = BASE64.decode(sealed).ok()?;
        let parts = [realm.as_bytes(), provider.as_bytes(), state.as_bytes()];
        let text = master.unseal(PURPOSE, &parts, &sealed)?;
        let flow: Self = serde_json::from_slice(&text).ok()?;
        (flow.until > now.timestamp_millis()).then_some(flow)
    }
}

pub(super) fn random() -> Result<String> {
    coglex_oauth::random().map_err(|error| Error::Unavailable(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_opened_with_its_state_where_it_began_until_it_is_over() {
        let master = Master::new(&[7; 32]);
        let mut flow = Flow::new("https://a/b", "https://a/c".into(), None).unwrap();
        flow.until = 1_000;
        let claims = Claims {
            id: "ann".into(),
            session: "5e55".into(),
        };
        flow.for_user(&claims).unwrap();
        let sealed = flow.seal(&master, "users", "google", "s").unwrap();
        let open = |master: &Master, realm: &str, provider: &str, state: &str, now: i64| {
            let now = DateTime::from_millis(now);
            Flow::open(master, realm, provider, state, &sealed, now)
        };
        let opened = open(&master, "users", "google", "s", 999).unwrap();
        assert_eq!(opened.user().unwrap().id, "ann".into());
        assert_eq!(opened.nonce, flow.nonce);
        assert!(!sealed.contains(&flow.verifier));
        assert!(open(&master, "users", "google", "s", 1_000).is_none());
        assert!(open(&master, "users", "google", "t", 999).is_none());
        assert!(open(&master, "users", "apple", "s", 999).is_none());
        assert!(open(&master, "admins", "google", "s", 999).is_none());
        assert!(open(&Master::new(&[8; 32]), "users", "google", "s", 999).is_none());
    }

    #[test]
    fn what_no_browser_would_keep_is_refused() {
        let master = Master::new(&[7; 32]);
        let flow = Flow::new("https://a/b", "x".repeat(4_000), None).unwrap();
        assert!(flow.seal(&master, "users", "google", "s").is_err());
    }
}
