//! The storage service: MongoDB-style documents under the rules of the house.
//!
//! HTTP handlers and guests' host functions call the same methods; each takes
//! the [`Caller`] and decides by it before the store is asked. What may be said
//! is checked in `rules`, what may be shown is cut in `hidden`. This module
//! knows neither HTTP nor which engine answers.

pub mod files;
mod hidden;
mod hooked;
mod rules;
mod schema;
mod scope;

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::{StreamExt as _, stream};

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::grants::{Fields, Verb};
use crate::hooks::{self, Done, Hooks};
use crate::json::invalid_bson;
use crate::storage::{Change, DocumentStore, Find, IndexSpec, Update, UpdateOutcome};
use scope::Scope;

use hidden::cut;
pub(crate) use hidden::strip;
pub(crate) use rules::is_reserved;
pub(crate) use rules::{
    HIDDEN, IDENTITY_INDEX, KEY_INDEX, collection as check_collection, document as check_document,
};
pub(crate) use rules::{
    field as check_field, filter as check_filter, known_id as check_known_id,
    visible as check_visible,
};

pub use crate::storage::DocumentStream;

/// Documents in one insert; the bytes are bounded by the request's limit.
const MAX_BATCH: usize = 10_000;
/// MongoDB's bound on the indexes of one collection.
const MAX_INDEXES: usize = 64;

/// Limits of the storage service.
#[derive(Debug, Clone)]
pub struct DocumentLimits {
    /// Bytes of one document.
    pub document_bytes: usize,
    /// Nesting of documents, filters and updates.
    pub depth: usize,
    /// How long one count, or one gathering of different values, may take.
    pub max_time: Duration,
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            document_bytes: 16 * 1024 * 1024,
            depth: 100,
            max_time: Duration::from_secs(30),
        }
    }
}

/// The storage service.
#[derive(Clone)]
pub struct Documents {
    pub(crate) store: Arc<dyn DocumentStore>,
    pub(crate) limits: Arc<DocumentLimits>,
    hooks: Hooks,
}

impl Documents {
    /// A service over `store`.
    pub fn new(store: Arc<dyn DocumentStore>, limits: DocumentLimits) -> Self {
        Self {
            store,
            limits: Arc::new(limits),
            hooks: Hooks::default(),
        }
    }

    /// The same service, whose writes are watched.
    #[must_use]
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// The limits in force.
    pub fn limits(&self) -> &DocumentLimits {
        &self.limits
    }

    /// Whether the store answers, for readiness.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.store.ping().await?)
    }

    /// Documents that match, as a stream. `find.limit` is the caller's to set.
    pub async fn find(
        &self,
        caller: &Caller,
        collection: &str,
        mut find: Find,
    ) -> Result<DocumentStream> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::filter(&find.filter, self.limits.depth)?;
        if let Some(projection) = &find.projection {
            rules::projection(projection, self.limits.depth)?;
            scope.projection(projection)?;
        }
        if let Some(sort) = &find.sort {
            rules::sort(sort)?;
            scope.keys(sort)?;
        }
        find.filter = scope.narrow(find.filter)?;
        let found = self.store.find(collection, find).await?;
        Ok(shown(found, scope.fields()))
    }

    /// The document with this id.
    pub async fn get(
        &self,
        caller: &Caller,
        collection: &str,
        id: Bson,
        projection: Option<Document>,
    ) -> Result<Option<RawDocumentBuf>> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::known_id(&id)?;
        if projection.is_some() || !scope.is_whole() {
            let filter = doc! { "_id": { "$eq": id } };
            let find = Find {
                filter,
                projection,
                limit: Some(1),
                ..Find::default()
            };
            let mut found = self.find(caller, collection, find).await?;
            return Ok(found.next().await.transpose()?);
        }
        let document = self.store.get(collection, id).await?;
        Ok(document.map(strip).transpose()?)
    }

    /// How many match.
    pub async fn count(&self, caller: &Caller, collection: &str, filter: Document) -> Result<u64> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::filter(&filter, self.limits.depth)?;
        let filter = scope.narrow(filter)?;
        let time = self.limits.max_time;
        Ok(self.store.count(collection, filter, Some(time)).await?)
    }

    /// What a pipeline makes of a collection, as a stream of at most `limit`
    /// documents. Stages that not every store has are refused, by name.
    pub async fn aggregate(
        &self,
        caller: &Caller,
        collection: &str,
        pipeline: Vec<Document>,
        limit: Option<u64>,
        max_time: Option<Duration>,
    ) -> Result<DocumentStream> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        let joined = |from: &str, by: Option<&str>| {
            let scope = Scope::of(caller, from, Verb::Read)?;
            by.map_or(Ok(()), |path| scope.path(path))?;
            Ok(scope.stages())
        };
        let asked = rules::pipeline(pipeline, self.limits.depth, &joined)?;
        let mut pipeline = scope.stages();
        pipeline.extend(asked);
        match limit {
            // To a pipeline a limit of zero is a mistake.
            Some(0) => return Ok(stream::empty().boxed()),
            Some(limit) => {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                pipeline.push(doc! { "$limit": limit });
            }
            None => {}
        }
        let made = self.store.aggregate(collection, pipeline, max_time).await?;
        // A pipeline can make a field of a hidden one's name. There is nothing
        // in it, but nobody should have to wonder.
        Ok(made.map(|document| document.and_then(strip)).boxed())
    }

    /// The different values at a path of the documents that match.
    pub async fn distinct(
        &self,
        caller: &Caller,
        collection: &str,
        path: &str,
        filter: Document,
    ) -> Result<Vec<Bson>> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::path(path)?;
        scope.path(path)?;
        rules::filter(&filter, self.limits.depth)?;
        let filter = scope.narrow(filter)?;
        let time = self.limits.max_time;
        let values = self
            .store
            .distinct(collection, path, filter, Some(time))
            .await?;
        Ok(values)
    }

    /// Inserts all or none; answers with the ids, generated where absent.
    pub async fn insert(
        &self,
        caller: &Caller,
        collection: &str,
        documents: Vec<Document>,
    ) -> Result<Vec<Bson>> {
        self.insert_with(caller, collection, documents, None).await
    }

    /// The same; `hidden` is what stands in the server's own field of each.
    async fn insert_with(
        &self,
        caller: &Caller,
        collection: &str,
        documents: Vec<Document>,
        hidden: Option<Document>,
    ) -> Result<Vec<Bson>> {
        let scope = Scope::of(caller, collection, Verb::Insert)?;
        if documents.len() > MAX_BATCH {
            return Err(Error::TooLarge(format!(
                "one insert takes at most {MAX_BATCH} documents"
            )));
        }
        if let Some(watch) = self.hooks.watch(caller, collection, hooks::INSERT)? {
            return self
                .insert_watched(&watch, &scope, collection, documents, hidden)
                .await;
        }
        let mut ids = Vec::with_capacity(documents.len());
        let mut raw = Vec::with_capacity(documents.len());
        for document in documents {
            rules::document(&document, self.limits.depth, self.limits.document_bytes)?;
            let document = scope.complete(document, &self.limits)?;
            let (id, mut document) = identified(document);
            add_hidden(&mut document, hidden.as_ref());
            raw.push(encoded(&document, self.limits.document_bytes)?);
            ids.push(id);
        }
        if !raw.is_empty() {
            let inserted = self.store.insert(collection, raw).await;
            inserted.map_err(|error| scope.told(error))?;
        }
        Ok(ids)
    }

    /// Applies a change to the first match, or to all with `many`.
    pub async fn update(
        &self,
        caller: &Caller,
        collection: &str,
        filter: Document,
        change: Change,
        many: bool,
        upsert: bool,
    ) -> Result<UpdateOutcome> {
        let update = Update {
            filter,
            change,
            many,
            upsert,
            array_filters: Vec::new(),
        };
        self.apply(caller, collection, update).await
    }

    /// Applies an update with all that belongs to one, array filters too.
    pub async fn apply(
        &self,
        caller: &Caller,
        collection: &str,
        update: Update,
    ) -> Result<UpdateOutcome> {
        let scope = Scope::of(caller, collection, Verb::Update)?;
        if let (Caller::User(_), true) = (caller, update.upsert) {
            return Err(Error::Forbidden(
                "under access rules documents are made by inserting them, not by an upsert".into(),
            ));
        }
        let inserting = match update.upsert {
            true => Some(Scope::of(caller, collection, Verb::Insert)?),
            false => None,
        };
        let limits = &self.limits;
        rules::filter(&update.filter, limits.depth)?;
        rules::change(&update.change, limits.depth, limits.document_bytes)?;
        rules::array_filters(&update.array_filters, limits.depth)?;
        scope.change(&update.change)?;
        let watch = match &inserting {
            Some(_) => self.hooks.watch(caller, collection, hooks::UPSERT)?,
            None => self.hooks.watch(caller, collection, hooks::UPDATE)?,
        };
        let filter = match &inserting {
            Some(inserting) => {
                rules::upsert_filter(&update.filter)?;
                inserting.change(&update.change)?;
                scope.upsert(update.filter, inserting)?
            }
            None => scope.narrow(update.filter)?,
        };
        let change = match update.change {
            Change::Replacement(_) if update.many => {
                return Err(Error::Invalid(
                    "a replacement changes one document, not many".into(),
                ));
            }
            Change::Replacement(document) => Change::Replacement(scope.complete(document, limits)?),
            operators => operators,
        };
        let mut update = Update {
            filter,
            change,
            ..update
        };
        let held = match &watch {
            Some(watch) => {
                self.before_update(watch, &scope, inserting.as_ref(), &mut update)
                    .await?
            }
            None => None,
        };
        // Last: what hooks have made of the change is what the document becomes.
        if let Some(after) = scope.after(&update.change)? {
            update.filter = doc! { "$and": [update.filter, after] };
        }
        let updated = async {
            if let Change::Replacement(_) = update.change {
                update.filter = self.spare_users(collection, update.filter).await?;
            }
            let updated = self.store.update(collection, update).await;
            Ok(updated.map_err(|error| {
                let error = scope.told(error);
                match &inserting {
                    Some(inserting) => inserting.told(error),
                    None => error,
                }
            })?)
        };
        let updated = updated.await;
        if let Some(held) = held {
            held.settle(updated.as_ref().map(|done| Done::Updated(done.clone())))
                .await;
        }
        updated
    }

    /// Puts a document in the place of the first match, whose `_id` it keeps;
    /// with `upsert`, or makes it.
    pub async fn replace(
        &self,
        caller: &Caller,
        collection: &str,
        filter: Document,
        document: Document,
        upsert: bool,
    ) -> Result<UpdateOutcome> {
        let change = Change::Replacement(document);
        self.update(caller, collection, filter, change, false, upsert)
            .await
    }

    /// Deletes the first match, or all with `many`; answers how many.
    pub async fn delete(
        &self,
        caller: &Caller,
        collection: &str,
        filter: Document,
        many: bool,
    ) -> Result<u64> {
        let scope = Scope::of(caller, collection, Verb::Delete)?;
        rules::filter(&filter, self.limits.depth)?;
        let filter = scope.narrow(filter)?;
        let watch = self.hooks.watch(caller, collection, hooks::DELETE)?;
        match watch {
            None => Ok(self.store.delete(collection, filter, many).await?),
            Some(watch) => self.delete_watched(&watch, collection, filter, many).await,
        }
    }

    /// Makes an index unless it is there; answers with its name.
    pub async fn create_index(
        &self,
        caller: &Caller,
        collection: &str,
        index: IndexSpec,
    ) -> Result<String> {
        administer(caller, collection)?;
        let index = rules::index(index)?;
        let name = index.name();
        let there = self.store.indexes(collection).await?;
        if there.len() >= MAX_INDEXES && !there.iter().any(|other| other.name() == name) {
            return Err(Error::Invalid(format!(
                "a collection has at most {MAX_INDEXES} indexes"
            )));
        }
        self.store.create_index(collection, index).await?;
        Ok(name)
    }

    /// The collection's indexes.
    pub async fn indexes(&self, caller: &Caller, collection: &str) -> Result<Vec<IndexSpec>> {
        administer(caller, collection)?;
        Ok(self.store.indexes(collection).await?)
    }

    /// Drops an index; answers whether it was there.
    pub async fn drop_index(&self, caller: &Caller, collection: &str, name: &str) -> Result<bool> {
        administer(caller, collection)?;
        rules::index_to_drop(name)?;
        Ok(self.store.drop_index(collection, name).await?)
    }

    /// Names of the collections that the caller may know of.
    pub async fn collections(&self, caller: &Caller) -> Result<Vec<String>> {
        let mut names = self.store.collections().await?;
        names.retain(|name| match caller {
            Caller::ApiKey => !is_reserved(name),
            Caller::Plugin(plugin) => plugin.grants.mentions(name),
            Caller::Key(key) => key.grants.mentions(name),
            Caller::User(user) => user.rules.mentions(name, &user.user.realm),
        });
        names.sort();
        Ok(names)
    }

    /// Narrows the filter of a replacement to documents that are no users: one
    /// that replaced a user would drop its key, password and sessions. The
    /// question asked first is for a clear answer; the filter is what protects.
    async fn spare_users(&self, collection: &str, filter: Document) -> Result<Document> {
        let users = doc! { "$and": [filter.clone(), { "_key": { "$exists": true } }] };
        let time = self.limits.max_time;
        if self.store.count(collection, users, Some(time)).await? > 0 {
            return Err(Error::Forbidden(
                "a user's document cannot be replaced, only its fields set".into(),
            ));
        }
        Ok(doc! { "$and": [filter, { "_key": { "$exists": false } }] })
    }
}

/// Whether a client could ask for these operators.
pub(crate) fn check_change(change: Document, depth: usize, bytes: usize) -> Result<()> {
    rules::change(&Change::Operators(change), depth, bytes)
}

/// What a client sees of documents that come from the store.
fn shown(found: DocumentStream, fields: Option<&Fields>) -> DocumentStream {
    match fields.cloned() {
        None => found.map(|document| document.and_then(strip)).boxed(),
        Some(fields) => found
            .map(move |document| document.and_then(|document| cut(&document, &fields)))
            .boxed(),
    }
}

/// Whether the caller may change how a collection is kept: no plugin may.
fn administer(caller: &Caller, collection: &str) -> Result<()> {
    rules::collection(collection)?;
    match caller {
        Caller::ApiKey => Ok(()),
        Caller::Plugin(plugin) => Err(Error::Forbidden(format!(
            "the plugin `{}` cannot see or change indexes",
            plugin.name
        ))),
        Caller::Key(_) | Caller::User(_) => Err(Error::Forbidden(
            "indexes are seen and changed with the server's own API key only".into(),
        )),
    }
}

/// The document with its `_id` in front, where MongoDB keeps it.
pub(crate) fn identified(mut document: Document) -> (Bson, Document) {
    let id = document
        .get("_id")
        .cloned()
        .unwrap_or_else(|| Bson::ObjectId(ObjectId::new()));
    if document.keys().next().is_some_and(|first| first == "_id") {
        return (id, document);
    }
    document.remove("_id");
    let mut ordered = doc! { "_id": id.clone() };
    ordered.extend(document);
    (id, ordered)
}

/// Puts what nobody else may see or write into a document that is to be stored.
fn add_hidden(document: &mut Document, hidden: Option<&Document>) {
    if let Some(hidden) = hidden {
        document.insert("_coglex", hidden.clone());
    }
}

/// The document as bytes, if it is not too large.
pub(crate) fn encoded(document: &Document, max_bytes: usize) -> Result<RawDocumentBuf> {
    let raw = RawDocumentBuf::try_from(document).map_err(invalid_bson)?;
    if raw.as_bytes().len() > max_bytes {
        return Err(Error::TooLarge(format!(
            "the document is larger than {max_bytes} bytes"
        )));
    }
    Ok(raw)
}
