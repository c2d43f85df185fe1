//! What the operator decides about a realm's mail.

use std::time::Duration;

use bson::Document;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Purpose;
use super::address::is_address;

/// What holds for the mail of one realm's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPolicy {
    /// The field that holds the address. By default it is `_key` where that is one, else
    /// `email`.
    pub email_field: Option<String>,
    /// What is asked of addresses.
    pub verification: Verification,
    /// Whether users sign in with codes that are sent to them.
    pub codes: bool,
    /// Whether somebody can become a user without key and password.
    pub anonymous: bool,
    /// How long links are good that verify an address.
    pub verify_ttl: Duration,
    /// How long links are good that set a password or change an address.
    pub reset_ttl: Duration,
    /// How long codes are good.
    pub code_ttl: Duration,
    /// The page that verifies an address, in which `{realm}` is the realm; without it
    /// none is verified by a link.
    pub verify_url: Option<String>,
    /// The page that sets a password.
    pub reset_url: Option<String>,
    /// The page that changes an address.
    pub email_url: Option<String>,
}

/// What is asked of users' addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Nothing.
    Off,
    /// A letter is sent at sign-up.
    Ask,
    /// The same, and who has not verified the address is not signed in.
    Required,
}

impl Default for FlowPolicy {
    fn default() -> Self {
        Self {
            email_field: None,
            verification: Verification::Off,
            codes: false,
            anonymous: false,
            verify_ttl: Duration::from_secs(86_400),
            reset_ttl: Duration::from_secs(3_600),
            code_ttl: Duration::from_secs(600),
            verify_url: None,
            reset_url: None,
            email_url: None,
        }
    }
}

impl FlowPolicy {
    /// The name of the field that holds this user's address, or would.
    pub(super) fn field_of(&self, stored: &Document) -> &str {
        match &self.email_field {
            Some(field) => field,
            None if stored.get_str("_key").is_ok_and(is_address) => "_key",
            None => "email",
        }
    }

    /// The user's address, if there is one.
    pub(in crate::accounts) fn address_of<'a>(&self, stored: &'a Document) -> Option<&'a str> {
        let address = stored.get_str(self.field_of(stored)).ok();
        address.filter(|address| is_address(address))
    }

    pub(super) fn page(&self, purpose: Purpose) -> Option<&str> {
        let page = match purpose {
            Purpose::Verify => &self.verify_url,
            Purpose::Reset => &self.reset_url,
            Purpose::EmailChange => &self.email_url,
        };
        page.as_deref()
    }

    pub(super) fn life(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Verify => self.verify_ttl,
            Purpose::Reset | Purpose::EmailChange => self.reset_ttl,
        }
    }
}

/// The page for a realm: `{realm}` in it is the realm's name.
pub(super) fn of_realm(page: &str, realm: &str) -> String {
    let name = utf8_percent_encode(realm, NON_ALPHANUMERIC).to_string();
    page.replace("{realm}", &name)
}

/// The page with the token behind a `#`, which browsers send to no server, not even as a
/// referrer. A page that has one already, such as one that routes by it, gets a parameter
/// there.
pub(super) fn with_token(page: &str, token: &str) -> String {
    let join = match page.split_once('#') {
        None => "#",
        Some((_, route)) if route.contains('?') => "&",
        Some(_) => "?",
    };
    format!("{page}{join}token={token}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn the_address_is_the_key_or_a_field() {
        let auto = FlowPolicy::default();
        let named = FlowPolicy {
            email_field: Some("mail".to_owned()),
            ..FlowPolicy::default()
        };
        let user = doc! { "_key": "ann@example.org", "mail": "work@example.org" };
        assert_eq!(auto.address_of(&user), Some("ann@example.org"));
        assert_eq!(named.address_of(&user), Some("work@example.org"));
        let user = doc! { "_key": "ann", "email": "ann@example.org" };
        assert_eq!(auto.address_of(&user), Some("ann@example.org"));
        assert_eq!(named.address_of(&user), None);
        for odd in [
            doc! {},
            doc! { "_key": "ann", "email": 1 },
            doc! { "email": "ann" },
        ] {
            assert_eq!(auto.address_of(&odd), None, "{odd}");
        }
    }

    #[test]
    fn tokens_stay_behind_the_hash() {
        let check = |page: &str, link: &str| assert_eq!(with_token(page, "t"), link);
        check("https://a.example/reset", "https://a.example/reset#token=t");
        check("https://a.example/?x=1", "https://a.example/?x=1#token=t");
        check(
            "https://a.example/#/reset",
            "https://a.example/#/reset?token=t",
        );
        check(
            "https://a.example/#/r?x=1",
            "https://a.example/#/r?x=1&token=t",
        );
    }
}
