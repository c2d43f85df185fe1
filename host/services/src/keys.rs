//! Scoped API keys: each opens what it was made for, and nothing else, until it expires
//! or is revoked.
//!
//! The store has a key's SHA-256 and what the key covers; the key itself is shown once,
//! when it is made. It carries a checksum, so that what is no key is refused before
//! anything is looked up, and so that scanners of source code can tell a key from a text
//! that looks like one. A key that is used costs one read by `_id`, each time: that is
//! what makes a revocation immediate, on every host. What it covers is parsed again only
//! when it has changed.
//!
//! What a key covers are [`Grants`], the same that plugins have, and they are enforced
//! by the same code: a [`Caller::Key`] is asked about wherever a [`Caller::Plugin`] is.
//! HTTP's guard calls [`ApiKeys::check`], the routes for keys the rest. It knows no
//! headers.
//!
//! [`Caller::Key`]: crate::Caller::Key
//! [`Caller::Plugin`]: crate::Caller::Plugin

mod token;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::{DateTime, Document, RawDocument, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::caller::KeyCaller;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::grants::{Grants, PaymentVerb, Verb};
use crate::json::invalid_bson;
use crate::storage::{Change, DocumentStore, Find, Update};

pub use token::is_key;

/// Where keys are.
const COLLECTION: &str = "_coglex_api_keys";
/// How exactly it is known when a key was last used: writing it down at every request
/// would turn each read into a write.
const USED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Keys that there may be.
const MAX_KEYS: u64 = 10_000;
/// Bytes of a key's name.
const MAX_NAME: usize = 200;
/// Bytes of what a key covers, as text: it is read at every use.
const MAX_SCOPE: usize = 64 * 1024;
/// Routes, and ranges of addresses, of one key.
const MAX_LIST: usize = 100;
/// Keys whose scopes are kept parsed.
const MAX_KNOWN: usize = 1_024;

/// What a key covers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyScope {
    /// Documents, accounts and functions.
    pub grants: Grants,
    /// Routes of apps behind the guard `api-key`, by the paths that apps declare:
    /// `/api/notes/{id}`, `/api/notes/*` for all below, `*` for all.
    pub routes: Vec<String>,
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What its owner calls it.
    pub name: String,
    /// What it covers.
    pub scope: KeyScope,
    /// When it ends; never by itself where absent.
    pub expires: Option<DateTime>,
    /// Where it may be used from; anywhere when empty.
    pub addresses: Vec<IpNet>,
    /// Who makes it, for the list.
    pub by: String,
}

/// A key as it is listed: nobody can use one by this.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedKey {
    /// What it is revoked by.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// What it covers.
    pub scope: KeyScope,
    /// When it was made.
    pub created: DateTime,
    /// Who made it.
    pub by: String,
    /// When it ends.
    pub expires: Option<DateTime>,
    /// Where it may be used from.
    pub addresses: Vec<IpNet>,
    /// When it was last used, to ten minutes.
    pub used: Option<DateTime>,
    /// Where from.
    pub used_from: Option<String>,
}

/// Why a key does not count. Clients are told one and the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No key looks like this.
    Malformed,
    /// There is no such key, or no longer.
    Unknown,
    /// This key has expired; its id.
    Expired(String),
    /// This key is not for this address; its id.
    Address(String),
}

/// The scoped API keys of a server. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeys {
    store: Arc<dyn DocumentStore>,
    clock: Clock,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

/// What was made of a key's stored text.
struct Known {
    text: String,
    grants: Arc<Grants>,
    routes: Arc<[String]>,
}

impl ApiKeys {
    /// The keys that are kept in a store.
    pub fn new(store: Arc<dyn DocumentStore>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            known: Arc::default(),
        }
    }

    /// Makes a key; answers with it, and with the key itself, which is not told again.
    pub async fn create(&self, new: NewKey) -> Result<(ListedKey, String)> {
        check_new(&new, self.clock.now())?;
        let text = serde_json::to_string(&new.scope)
            .map_err(|error| Error::Unavailable(Box::new(error)))?;
        if text.len() > MAX_SCOPE {
            return Err(Error::TooLarge(format!(
                "what a key covers takes more than {MAX_SCOPE} bytes"
            )));
        }
        if self.store.count(COLLECTION, doc! {}, None).await? >= MAX_KEYS {
            return Err(Error::Conflict(format!(
                "there are {MAX_KEYS} keys already; revoke some"
            )));
        }
        let key = token::make().map_err(|error| Error::Unavailable(Box::new(error)))?;
        let hash = token::hash(&key);
        let created = self.clock.now();
        let addresses: Vec<String> = new.addresses.iter().map(ToString::to_string).collect();
        let mut record = doc! {
            "_id": token::id(&hash),
            "hash": &hash,
            "name": &new.name,
            "scope": text,
            "created": created,
            "by": &new.by,
            "addresses": addresses,
        };
        record.extend(
            new.expires
                .map(|expires| ("expires".to_owned(), expires.into())),
        );
        let raw = RawDocumentBuf::try_from(&record).map_err(invalid_bson)?;
        self.store.insert(COLLECTION, vec![raw]).await?;
        Ok((listed(&record)?, key))
    }

    /// All keys, the newest first.
    pub async fn list(&self) -> Result<Vec<ListedKey>> {
        let find = Find {
            sort: Some(doc! { "created": -1, "_id": 1 }),
            limit: Some(MAX_KEYS),
            ..Find::default()
        };
        let found: Vec<RawDocumentBuf> = self
            .store
            .find(COLLECTION, find)
            .await?
            .try_collect()
            .await?;
        let keys = found.iter().map(|raw| {
            let record = Document::try_from(raw).map_err(damaged)?;
            listed(&record)
        });
        keys.collect()
    }

    /// The key with this id.
    pub async fn get(&self, id: &str) -> Result<Option<ListedKey>> {
        let stored = self.store.get(COLLECTION, id.into()).await?;
        let record = stored.map(|raw| Document::try_from(&raw).map_err(damaged));
        record.transpose()?.as_ref().map(listed).transpose()
    }

    /// Ends a key, on every host when this returns; whether there was one.
    pub async fn revoke(&self, id: &str) -> Result<bool> {
        let by_id = doc! { "_id": { "$eq": id } };
        let revoked = self.store.delete(COLLECTION, by_id, false).await?;
        self.lock().remove(id);
        Ok(revoked > 0)
    }

    /// Who comes with this key from this address. One read by `_id`, and none for
    /// what cannot be a key. `users` of the caller are empty; see [`KeyCaller::users`].
    pub async fn check(
        &self,
        key: &str,
        address: Option<IpAddr>,
    ) -> Result<Result<KeyCaller, Refusal>> {
        if !is_key(key) {
            return Ok(Err(Refusal::Malformed));
        }
        let hash = token::hash(key);
        let id = token::id(&hash);
        let Some(record) = self.store.get(COLLECTION, id.into()).await? else {
            return Ok(Err(Refusal::Unknown));
        };
        let stored = record.get_str("hash").map_err(damaged)?;
        if !bool::from(stored.as_bytes().ct_eq(hash.as_bytes())) {
            return Ok(Err(Refusal::Unknown));
        }
        let now = self.clock.now();
        let expires = record.get("expires").map_err(damaged)?;
        let expires = expires.and_then(|value| value.as_datetime());
        if expires.is_some_and(|expires| expires <= now) {
            return Ok(Err(Refusal::Expired(id.to_owned())));
        }
        if !is_from(&record, address)? {
            return Ok(Err(Refusal::Address(id.to_owned())));
        }
        let (grants, routes) = self.scope(id, &record)?;
        let caller = KeyCaller {
            id: id.to_owned(),
            name: record.get_str("name").map_err(damaged)?.to_owned(),
            grants,
            routes,
            users: Vec::new(),
        };
        self.note_use(id, &record, address, now);
        Ok(Ok(caller))
    }

    /// What the key covers, parsed when it is not as it was.
    fn scope(&self, id: &str, record: &RawDocument) -> Result<(Arc<Grants>, Arc<[String]>)> {
        let text = record.get_str("scope").map_err(damaged)?;
        if let Some(known) = self.lock().get(id).filter(|known| known.text == text) {
            return Ok((Arc::clone(&known.grants), Arc::clone(&known.routes)));
        }
        let scope: KeyScope = serde_json::from_str(text).map_err(damaged)?;
        let (grants, routes) = (Arc::new(scope.grants), Arc::from(scope.routes));
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            // The keys that are in use are back at their next use.
            known.clear();
        }
        let entry = Known {
            text: text.to_owned(),
            grants: Arc::clone(&grants),
            routes: Arc::clone(&routes),
        };
        known.insert(id.to_owned(), entry);
        Ok((grants, routes))
    }

    /// Notes that a key is in use, now and then and behind the caller's back.
    fn note_use(&self, id: &str, record: &RawDocument, address: Option<IpAddr>, now: DateTime) {
        let before = record.get_datetime("used").ok();
        let due = |used: DateTime| {
            let past = now
                .timestamp_millis()
                .saturating_sub(used.timestamp_millis());
            u128::try_from(past).is_ok_and(|past| past >= USED_EVERY.as_millis())
        };
        if !before.is_none_or(due) {
            return;
        }
        // Of many requests at once, and of many hosts, one writes.
        let as_read = match before {
            Some(used) => doc! { "_id": id, "used": used },
            None => doc! { "_id": id, "used": { "$exists": false } },
        };
        let mut set = doc! { "used": now };
        set.extend(address.map(|address| ("used_from".to_owned(), address.to_string().into())));
        let update = Update {
            filter: as_read,
            change: Change::Operators(doc! { "$set": set }),
            many: false,
            upsert: false,
            array_filters: Vec::new(),
        };
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            if let Err(error) = store.update(COLLECTION, update).await {
                tracing::warn!("the use of an API key was not noted: {error}");
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyCaller {
    /// Whether the key opens a route of an app, by the path that the app declares.
    pub fn opens(&self, route: &str) -> bool {
        self.routes
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => route.starts_with(start),
                None => route == pattern,
            })
    }
}

/// A range of addresses as people write it: `192.0.2.0/24`, or one address.
pub fn address_range(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(one)
}

/// What is wrong with a key that is to be made, if anything.
fn check_new(new: &NewKey, now: DateTime) -> Result<()> {
    let wrong = |sentence: &str| Err(Error::Invalid(sentence.to_owned()));
    if new.name.trim().is_empty() || new.name.len() > MAX_NAME {
        return Err(Error::Invalid(format!(
            "`name` must have 1 to {MAX_NAME} bytes"
        )));
    }
    if new.expires.is_some_and(|expires| expires <= now) {
        return wrong("`expires` is in the past");
    }
    let KeyScope { grants, routes } = &new.scope;
    if routes.len() > MAX_LIST || new.addresses.len() > MAX_LIST {
        return Err(Error::Invalid(format!(
            "`routes` and `addresses` have at most {MAX_LIST} entries"
        )));
    }
    for route in routes {
        let stars = route.matches('*').count();
        let shaped = match route.as_str() {
            "*" => true,
            route if stars == 0 => route.starts_with('/'),
            route => route.starts_with('/') && route.ends_with("/*") && stars == 1,
        };
        if !shaped && !route.ends_with('}') {
            return wrong(
                "a route is a path as an app declares it, one that ends in `/*` for all below, or `*`",
            );
        }
    }
    let for_keys = Grants {
        storage: grants.storage.clone(),
        auth: grants.auth.clone(),
        functions: grants.functions.clone(),
        payment: grants.payment.clone(),
        ..Grants::default()
    };
    if *grants != for_keys {
        return wrong(
            "the grants of an API key are `storage`, `auth`, `functions` and `payment`; the others are for plugins",
        );
    }
    if grants
        .storage
        .iter()
        .any(|grant| grant.verbs.contains(&Verb::Hook))
    {
        return wrong("`hook` is for plugins, not for API keys");
    }
    if grants.payment.contains(&PaymentVerb::Events) {
        return wrong("`events` is for plugins, not for API keys");
    }
    if *grants == Grants::default() && routes.is_empty() {
        return wrong("the key covers nothing: give it `grants` or `routes`");
    }
    Ok(())
}

/// Whether a key may be used from an address; from an unknown one only if from any.
fn is_from(record: &RawDocument, address: Option<IpAddr>) -> Result<bool> {
    let mut any = true;
    for range in record.get_array("addresses").map_err(damaged)? {
        any = false;
        let range = range.map_err(damaged)?;
        let range: Option<IpNet> = range.as_str().and_then(|text| text.parse().ok());
        let (Some(range), Some(address)) = (range, address) else {
            continue;
        };
        // `::ffff:192.0.2.1` is 192.0.2.1.
        if range.contains(&address.to_canonical()) {
            return Ok(true);
        }
    }
    Ok(any)
}

fn listed(record: &Document) -> Result<ListedKey> {
    let text = |name: &str| record.get_str(name).map(str::to_owned).map_err(damaged);
    let addresses = record.get_array("addresses").map_err(damaged)?.iter();
    Ok(ListedKey {
        id: text("_id")?,
        name: text("name")?,
        scope: serde_json::from_str(&text("scope")?).map_err(damaged)?,
        created: *record.get_datetime("created").map_err(damaged)?,
        by: text("by")?,
        expires: record.get_datetime("expires").ok().copied(),
        addresses: addresses
            .filter_map(|range| range.as_str()?.parse().ok())
            .collect(),
        used: record.get_datetime("used").ok().copied(),
        used_from: text("used_from").ok(),
    })
}

/// What was stored is not what this module stores.
fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}
