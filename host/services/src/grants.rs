//! What a plugin may touch: what it asks for ∩ what the operator allows,
//! computed when the plugin is loaded, and asked on every call.
//!
//! Pure: it knows names, verbs and conditions, no store and no plugin. Grants
//! add up: an entry more never takes anything away, and one without conditions
//! covers whatever stands beside it.

mod condition;
mod egress;
mod mail;
mod payment;
mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::documents::is_reserved;

pub use self::condition::{CallerId, Condition, Fields};
pub(crate) use self::condition::{Subject, meets, never};
pub use self::egress::{EgressGrant, Origin, Reach, reach};
pub use self::payment::PaymentVerb;
pub use self::storage::{Access, StorageGrant, Verb};

/// Everything of its kind that is not the server's own.
const ANY: &str = "*";

/// What can be asked of the accounts of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthVerb {
    /// Find a user by its key or `_id`.
    Lookup,
    /// Make a user.
    Signup,
    /// Check a user's password; for an API key, sign in and ask whose a session is.
    Verify,
    /// Set fields, key and password of any user without knowing the password. For API
    /// keys: no guest has a call for it.
    Manage,
}

impl AuthVerb {
    /// All of them.
    pub const ALL: [AuthVerb; 4] = [
        AuthVerb::Lookup,
        AuthVerb::Signup,
        AuthVerb::Verify,
        AuthVerb::Manage,
    ];
}

impl fmt::Display for AuthVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthVerb::Lookup => "lookup",
            AuthVerb::Signup => "signup",
            AuthVerb::Verify => "verify",
            AuthVerb::Manage => "manage",
        })
    }
}

/// What one plugin wants of the accounts of a collection, or what an operator
/// allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthGrant {
    /// The collection that holds the users, or `*` for any.
    pub collection: String,
    /// What may be asked there.
    pub verbs: Vec<AuthVerb>,
}

/// A set of grants; empty denies everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, try_from = "Unchecked")]
pub struct Grants {
    /// Collections.
    pub storage: Vec<StorageGrant>,
    /// Servers that requests may be sent to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressGrant>,
    /// Accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<AuthGrant>,
    /// Names of functions that may be called; `*` is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
    /// Names of the plugin's secrets that may be read; `*` is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Whether keys and values may be kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kv: bool,
    /// What may be done with payments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payment: Vec<PaymentVerb>,
    /// Who may be written to: addresses, domains (`@example.org`), or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<String>,
}

/// Grants as they are written, before they are checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    storage: Vec<StorageGrant>,
    egress: Vec<EgressGrant>,
    auth: Vec<AuthGrant>,
    functions: Vec<String>,
    secrets: Vec<String>,
    kv: bool,
    payment: Vec<PaymentVerb>,
    mail: Vec<String>,
}

impl TryFrom<Unchecked> for Grants {
    type Error = String;

    fn try_from(written: Unchecked) -> Result<Self, String> {
        storage::check(&written.storage)?;
        mail::check(&written.mail)?;
        Ok(Self {
            storage: written.storage,
            egress: written.egress,
            auth: written.auth,
            functions: written.functions,
            secrets: written.secrets,
            kv: written.kv,
            payment: written.payment,
            mail: written.mail,
        })
    }
}

impl Grants {
    /// What both sides agree on: granted exactly when both grant it, under the
    /// conditions of both. In one order, whatever the order of the sides.
    #[must_use]
    pub fn intersect(&self, allowed: &Grants) -> Grants {
        Grants {
            storage: storage::intersect(&self.storage, &allowed.storage),
            egress: intersect_egress(&self.egress, &allowed.egress),
            auth: intersect_auth(&self.auth, &allowed.auth),
            functions: intersect_names(&self.functions, &allowed.functions),
            secrets: intersect_names(&self.secrets, &allowed.secrets),
            kv: self.kv && allowed.kv,
            payment: payment::intersect(&self.payment, &allowed.payment),
            mail: mail::intersect(&self.mail, &allowed.mail),
        }
    }

    /// What may be done with the verb in the collection. Nothing ever covers the
    /// server's own collections.
    pub fn access(&self, collection: &str, verb: Verb) -> Option<Access<'_>> {
        if is_reserved(collection) {
            return None;
        }
        storage::access(&self.storage, collection, verb)
    }

    /// Whether these grants cover the verb on the collection, with or without
    /// conditions.
    pub fn allows(&self, collection: &str, verb: Verb) -> bool {
        self.access(collection, verb).is_some()
    }

    /// Whether there may be hooks on the writes of the collection.
    pub fn allows_hook(&self, collection: &str) -> bool {
        self.access(collection, Verb::Hook)
            .is_some_and(|access| access.is_whole())
    }

    /// Whether documents of any collection can be reached.
    pub fn reaches_documents(&self) -> bool {
        let reach = |grant: &StorageGrant| grant.verbs.iter().any(|verb| *verb != Verb::Hook);
        self.storage.iter().any(reach)
    }

    /// Whether any verb on the collection is covered: whether its existence may
    /// be known.
    pub fn mentions(&self, collection: &str) -> bool {
        Verb::ALL
            .into_iter()
            .any(|verb| self.allows(collection, verb))
    }

    /// Whether a request may be sent to a server: what must hold of the address
    /// behind it, or nothing if it may not. `host` as in a URL's authority.
    pub fn allows_egress(&self, tls: bool, host: &str, port: u16) -> Option<Reach> {
        let matching = || {
            self.egress
                .iter()
                .filter(|grant| grant.origin.matches(tls, host, port))
        };
        let private = matching().any(|grant| grant.private);
        matching().next().map(|_| match private {
            true => Reach::Private,
            false => Reach::Public,
        })
    }

    /// Whether these grants cover the verb on the accounts of the collection.
    pub fn allows_auth(&self, collection: &str, verb: AuthVerb) -> bool {
        !is_reserved(collection) && auth_verbs(&self.auth, collection).contains(&verb)
    }

    /// Whether this may be done with payments.
    pub fn allows_payment(&self, verb: PaymentVerb) -> bool {
        self.payment.contains(&verb)
    }

    /// Whether mail may be sent to this address.
    pub fn allows_mail(&self, address: &str) -> bool {
        mail::allows(&self.mail, address)
    }

    /// Whether the function may be called.
    pub fn allows_function(&self, name: &str) -> bool {
        names(&self.functions, name)
    }

    /// Whether the secret may be read.
    pub fn allows_secret(&self, name: &str) -> bool {
        names(&self.secrets, name)
    }

    /// Collections whose signed-in user conditions speak of.
    pub fn realms(&self) -> BTreeSet<&str> {
        self.storage
            .iter()
            .filter_map(|grant| grant.filter.as_ref())
            .flat_map(Condition::realms)
            .collect()
    }
}

/// What both lists grant, without what another entry of it grants as well, in
/// order.
fn intersect_egress(asked: &[EgressGrant], allowed: &[EgressGrant]) -> Vec<EgressGrant> {
    let pairs = asked.iter().flat_map(|asked| {
        allowed
            .iter()
            .filter_map(|allowed| asked.intersect(allowed))
    });
    let all: BTreeSet<EgressGrant> = pairs.collect();
    let covered = |grant: &EgressGrant| {
        all.iter()
            .any(|other| other != grant && other.covers(grant))
    };
    all.iter()
        .filter(|grant| !covered(grant))
        .cloned()
        .collect()
}

/// Whether the name is in the list, by itself or by `*`.
fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|entry| entry == name || entry == ANY)
}

fn intersect_names(asked: &[String], allowed: &[String]) -> Vec<String> {
    let everything = |list: &[String]| list.iter().any(|entry| entry == ANY);
    if everything(asked) && everything(allowed) {
        return vec![ANY.to_owned()];
    }
    let both: BTreeSet<&String> = asked
        .iter()
        .chain(allowed)
        .filter(|name| *name != ANY && names(asked, name) && names(allowed, name))
        .collect();
    both.into_iter().cloned().collect()
}

/// The verbs that hold for a collection, by its own entry or by `*`.
fn auth_verbs(grants: &[AuthGrant], collection: &str) -> BTreeSet<AuthVerb> {
    grants
        .iter()
        .filter(|grant| grant.collection == ANY || grant.collection == collection)
        .flat_map(|grant| grant.verbs.iter().copied())
        .collect()
}

fn intersect_auth(asked: &[AuthGrant], allowed: &[AuthGrant]) -> Vec<AuthGrant> {
    let both = |collection: &str| &auth_verbs(asked, collection) & &auth_verbs(allowed, collection);
    let everywhere = both(ANY);
    let mut granted: BTreeMap<&str, BTreeSet<AuthVerb>> = BTreeMap::new();
    for grant in asked.iter().chain(allowed) {
        let collection = grant.collection.as_str();
        let verbs = match collection {
            ANY => everywhere.clone(),
            _ if is_reserved(collection) => BTreeSet::new(),
            _ => &both(collection) - &everywhere,
        };
        if !verbs.is_empty() {
            granted.insert(collection, verbs);
        }
    }
    granted
        .into_iter()
        .map(|(collection, verbs)| AuthGrant {
            collection: collection.to_owned(),
            verbs: verbs.into_iter().collect(),
        })
        .collect()
}

/// For people: `my_collection: read, insert; *: read; kv`, or `nothing`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.storage.iter().map(ToString::to_string).collect();
        parts.extend(self.egress.iter().map(ToString::to_string));
        parts.extend(self.auth.iter().map(|grant| {
            let verbs: Vec<String> = grant.verbs.iter().map(ToString::to_string).collect();
            format!("accounts of {}: {}", grant.collection, verbs.join(", "))
        }));
        parts.extend(self.functions.iter().map(|name| format!("function {name}")));
        parts.extend(self.secrets.iter().map(|name| format!("secret {name}")));
        parts.extend(self.kv.then(|| "kv".to_owned()));
        parts.extend(self.payment.iter().map(|verb| format!("payment: {verb}")));
        parts.extend(self.mail.iter().map(|who| format!("mail to {who}")));
        match parts.as_slice() {
            [] => f.write_str("nothing"),
            parts => f.write_str(&parts.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests;
