//! Access rules: what signed-in users may do in a collection when they come without an
//! API key, as browsers should. Off until an operator sets them: a collection without
//! rules is closed to users, and a user of a realm that they do not name is nobody.
//!
//! A rule is a filter in MongoDB's own language, in which `$caller.` leads into the
//! user's document: `{"read": {"owner": "$caller._id"}}`. It is forced upon every
//! operation by the code that does the same for the grants of plugins
//! (`documents/scope.rs`); this module only says which filter and which fields.
//!
//! All rules are one document of the store, so that they change at once and whole. Who
//! asks as a user reads it first, one read by `_id`: a rule that was taken away is gone
//! on every host. It is parsed again only when its revision is another.
//!
//! Operators set rules by the admin API; HTTP's guard asks [`Rules::current`] and makes
//! a [`crate::Caller::User`] of it. No HTTP and no sessions are known here.

mod parse;
mod protect;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use bson::{Bson, Document, RawDocumentBuf, doc};

use crate::documents::{check_collection, is_reserved};
use crate::error::{Error, Result};
use crate::grants::{Access, Condition, Fields, Verb};
use crate::json;
use crate::storage::{Change, DocumentStore, StoreError, Update};
use protect::AddressOf;

/// Where the rules are.
const COLLECTION: &str = "_coglex_rules";
/// The `_id` of the one document there.
const ID: &str = "rules";
/// Bytes of all rules together, as text: they are read whole.
const MAX_BYTES: usize = 256 * 1024;
/// Realms that the rules of one collection may name.
const MAX_REALMS: usize = 8;
/// Times that a change starts over because somebody else has changed the rules.
const MAX_ROUNDS: usize = 5;
/// The field that guards of apps look for roles in; never a user's own to change.
const ROLES: &str = "roles";

/// What users may do with documents.
#[derive(Debug, Clone, Default)]
enum Rule {
    /// Nothing.
    #[default]
    Nobody,
    /// With all of them.
    All,
    /// With those that meet it.
    Where(Box<Filter>),
}

/// The filter of a rule, as it was written and as it is asked.
#[derive(Debug, Clone)]
struct Filter {
    written: Document,
    condition: Condition,
}

impl Filter {
    fn new(written: Document) -> Result<Box<Self>> {
        let condition = Condition::rule(written.clone())?;
        Ok(Box::new(Self { written, condition }))
    }
}

impl Rule {
    /// Both.
    fn and(&self, other: &Self) -> Result<Self> {
        Ok(match (self, other) {
            (Rule::Nobody, _) | (_, Rule::Nobody) => Rule::Nobody,
            (Rule::All, one) | (one, Rule::All) => one.clone(),
            (Rule::Where(one), Rule::Where(other)) if one.condition == other.condition => {
                self.clone()
            }
            (Rule::Where(one), Rule::Where(other)) => {
                let both = [one.written.clone(), other.written.clone()];
                Rule::Where(Filter::new(doc! { "$and": both.to_vec() })?)
            }
        })
    }

    fn condition(&self) -> Option<&Condition> {
        match self {
            Rule::Where(filter) => Some(&filter.condition),
            Rule::Nobody | Rule::All => None,
        }
    }
}

/// What the users of one realm may do in one collection.
#[derive(Debug, Clone)]
struct RealmRules {
    realm: String,
    read: Rule,
    create: Rule,
    /// These two with `read`: what a user cannot see, a user cannot find to change it,
    /// or whether it was found would tell what is in it.
    update: Rule,
    delete: Rule,
    /// Neither seen nor named.
    hidden: BTreeSet<String>,
    /// Not written.
    readonly: BTreeSet<String>,
    fields: Option<Fields>,
    writable: Option<Fields>,
}

impl RealmRules {
    fn rules(&self) -> [&Rule; 4] {
        [&self.read, &self.create, &self.update, &self.delete]
    }

    /// Makes masks of the names.
    fn mask(&mut self) -> Result<()> {
        let mask = |names: &BTreeSet<String>| match names.is_empty() {
            true => Ok(None),
            false => Fields::except(names.iter().cloned()).map(Some),
        };
        self.fields = mask(&self.hidden)?;
        self.writable = mask(&(&self.hidden | &self.readonly))?;
        Ok(())
    }
}

/// All rules, as they were at some moment.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    revision: String,
    collections: BTreeMap<String, Vec<RealmRules>>,
}

impl RuleSet {
    /// Realms whose users may do something in the collection, in the order in which
    /// the rules name them.
    pub fn realms(&self, collection: &str) -> impl Iterator<Item = &str> {
        let rules = self.collections.get(collection).into_iter().flatten();
        rules.map(|rules| rules.realm.as_str())
    }

    /// What a user of the realm may do there.
    pub(crate) fn access(&self, collection: &str, realm: &str, verb: Verb) -> Option<Access<'_>> {
        if is_reserved(collection) {
            return None;
        }
        let rules = self.of(collection, realm)?;
        let rule = match verb {
            Verb::Read => &rules.read,
            Verb::Insert => &rules.create,
            Verb::Update => &rules.update,
            Verb::Delete => &rules.delete,
            Verb::Hook => return None,
        };
        (!matches!(rule, Rule::Nobody)).then(|| Access {
            filter: rule.condition(),
            fields: rules.fields.as_ref(),
            writable: rules.writable.as_ref(),
        })
    }

    /// Whether a user of the realm may know of the collection.
    pub(crate) fn mentions(&self, collection: &str, realm: &str) -> bool {
        let mut verbs = Verb::ALL.into_iter();
        verbs.any(|verb| self.access(collection, realm, verb).is_some())
    }

    fn of(&self, collection: &str, realm: &str) -> Option<&RealmRules> {
        let mut rules = self.collections.get(collection)?.iter();
        rules.find(|rules| rules.realm == realm)
    }

    /// The rules of these collections, each as an operator wrote them.
    fn new(
        revision: &str,
        texts: &BTreeMap<String, String>,
        address_of: &AddressOf,
    ) -> Result<Self> {
        let mut collections = BTreeMap::new();
        for (collection, text) in texts {
            let written = json::parse_document(text.as_bytes(), parse::MAX_DEPTH)?;
            collections.insert(collection.clone(), parse::rules(&written)?);
        }
        let mut set = Self {
            revision: revision.to_owned(),
            collections,
        };
        set.protect(address_of)?;
        Ok(set)
    }
}

/// The access rules of a server. Cheap to clone.
#[derive(Clone)]
pub struct Rules {
    store: Arc<dyn DocumentStore>,
    known: Arc<RwLock<Arc<RuleSet>>>,
    address_of: Arc<AddressOf>,
}

impl Rules {
    /// The rules that are kept in a store.
    pub fn new(store: Arc<dyn DocumentStore>) -> Self {
        Self {
            store,
            known: Arc::default(),
            address_of: Arc::new(|_| None),
        }
    }

    /// The same, which keep users from writing the field that this names for their
    /// realm: the address that links for new passwords go to.
    #[must_use]
    pub fn with_addresses(
        self,
        address_of: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            address_of: Arc::new(address_of),
            ..self
        }
    }

    /// The rules that are in force now: one read by `_id`.
    pub async fn current(&self) -> Result<Arc<RuleSet>> {
        let stored = self.store.get(COLLECTION, ID.into()).await?;
        let revision = match &stored {
            Some(raw) => raw.get_str("revision").map_err(damaged)?,
            None => "",
        };
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        if known.revision == revision {
            return Ok(known);
        }
        let texts = stored.as_ref().map(texts).transpose()?.unwrap_or_default();
        // What this server cannot read lets nobody in, rather than somebody too many.
        let set = RuleSet::new(revision, &texts, &*self.address_of)
            .map_err(|error| Error::Unavailable(error.into()))?;
        let set = Arc::new(set);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&set);
        Ok(set)
    }

    /// All rules as they were written, by collection.
    pub async fn list(&self) -> Result<Document> {
        let (_, texts) = self.stored().await?;
        let mut all = Document::new();
        for (collection, text) in texts {
            all.insert(
                collection,
                json::parse_document(text.as_bytes(), parse::MAX_DEPTH)?,
            );
        }
        Ok(all)
    }

    /// The rules of one collection as they were written.
    pub async fn of(&self, collection: &str) -> Result<Option<Document>> {
        check_collection(collection)?;
        let (_, texts) = self.stored().await?;
        let text = texts.get(collection);
        text.map(|text| json::parse_document(text.as_bytes(), parse::MAX_DEPTH))
            .transpose()
    }

    /// Sets the rules of a collection, by realm:
    /// `{"users": {"read": {…}, "create": …, "update": …, "delete": …, "hidden": […],
    /// "readonly": […]}}`. In force on every host when this returns. `Invalid` when
    /// they cannot be read.
    pub async fn set(&self, collection: &str, rules: &Document) -> Result<()> {
        check_collection(collection)?;
        let mut text = Vec::new();
        json::write_value(&Bson::Document(rules.clone()), &mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        // As it will be read: what cannot be read again must not be stored.
        let read = json::parse_document(text.as_bytes(), parse::MAX_DEPTH)?;
        parse::rules(&read)?;
        self.change(|texts| {
            texts.insert(collection.to_owned(), text.clone());
            true
        })
        .await
        .map(drop)
    }

    /// Takes the rules of a collection away, which closes it to users; whether there
    /// were any.
    pub async fn remove(&self, collection: &str) -> Result<bool> {
        check_collection(collection)?;
        self.change(|texts| texts.remove(collection).is_some())
            .await
    }

    /// Changes what is stored, whole, unless `change` has nothing to change.
    async fn change(&self, change: impl Fn(&mut BTreeMap<String, String>) -> bool) -> Result<bool> {
        for _ in 0..MAX_ROUNDS {
            let (before, mut texts) = self.stored().await?;
            if !change(&mut texts) {
                return Ok(false);
            }
            if texts
                .iter()
                .map(|(name, text)| name.len() + text.len())
                .sum::<usize>()
                > MAX_BYTES
            {
                return Err(Error::TooLarge(format!(
                    "the access rules of all collections take more than {MAX_BYTES} bytes"
                )));
            }
            let revision = fresh()?;
            RuleSet::new(&revision, &texts, &*self.address_of)?;
            let list = texts
                .into_iter()
                .map(|(collection, text)| doc! { "collection": collection, "rules": text });
            let list: Vec<Document> = list.collect();
            let done = match before {
                Some(before) => {
                    let update = Update {
                        filter: doc! { "_id": ID, "revision": before },
                        change: Change::Operators(
                            doc! { "$set": { "revision": revision, "rules": list } },
                        ),
                        many: false,
                        upsert: false,
                        array_filters: Vec::new(),
                    };
                    self.store.update(COLLECTION, update).await?.matched > 0
                }
                None => {
                    let first = doc! { "_id": ID, "revision": revision, "rules": list };
                    let raw = RawDocumentBuf::try_from(&first).map_err(json::invalid_bson)?;
                    match self.store.insert(COLLECTION, vec![raw]).await {
                        Ok(()) => true,
                        Err(StoreError::DuplicateKey { .. }) => false,
                        Err(error) => return Err(error.into()),
                    }
                }
            };
            if done {
                return Ok(true);
            }
        }
        Err(Error::Conflict(
            "the access rules are being changed by somebody else".into(),
        ))
    }

    /// The revision and the texts, by collection.
    async fn stored(&self) -> Result<(Option<String>, BTreeMap<String, String>)> {
        match self.store.get(COLLECTION, ID.into()).await? {
            None => Ok((None, BTreeMap::new())),
            Some(raw) => {
                let revision = raw.get_str("revision").map_err(damaged)?.to_owned();
                Ok((Some(revision), texts(&raw)?))
            }
        }
    }
}

fn texts(stored: &RawDocumentBuf) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for entry in stored.get_array("rules").map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let entry = entry
            .as_document()
            .ok_or_else(|| Error::Unavailable("an access rule is damaged".into()))?;
        let text = |name| entry.get_str(name).map(str::to_owned).map_err(damaged);
        texts.insert(text("collection")?, text("rules")?);
    }
    Ok(texts)
}

fn fresh() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::Unavailable(Box::new(error)))?;
    Ok(hex::encode(random))
}

/// What was stored is not what this module stores.
fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable(Box::new(error))
}
