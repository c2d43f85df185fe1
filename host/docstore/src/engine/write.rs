//! Writing inside a transaction: documents, and the keys that indexes hold of
//! them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf};

use crate::engine::candidates::{self, Limits};
use crate::engine::catalog::{Catalog, Collection, Index, Validation};
use crate::engine::plan;
use crate::engine::sqlite::{Session, Sql, StatementError, blob};
use crate::error::{Error, Result};
use crate::keys::{KeyPattern, Keys};
use crate::model::{IndexSpec, UpdateOutcome, ValidationLevel};
use crate::order;
use crate::query::Filter;
use crate::update::Updater;
use crate::validate;
use crate::value::{Corrupt, field};

/// A change, checked and compiled before it reaches the writer.
#[derive(Debug)]
pub(crate) enum Operation {
    Insert {
        documents: Vec<RawDocumentBuf>,
    },
    Update {
        filter: Filter,
        source: Document,
        updater: Updater,
        many: bool,
        upsert: bool,
        /// Whether the schema is asked about what becomes of a document.
        validated: bool,
    },
    Delete {
        filter: Filter,
        limit: usize,
    },
    CreateIndex {
        spec: IndexSpec,
    },
    DropIndex {
        name: String,
    },
    DropCollection,
    /// Sets or removes what documents must look like.
    SetValidation {
        validation: Option<Arc<Validation>>,
    },
    /// Makes the collection's indexes anew.
    Rebuild,
    /// Inserts, then panics, as a mistake in this crate would.
    #[cfg(test)]
    Break(RawDocumentBuf),
}

/// What an operation did.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Count(u64),
    Outcome(UpdateOutcome),
}

impl Operation {
    /// Bytes that the operation brings, for bounding a batch.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Operation::Insert { documents } => documents
                .iter()
                .map(|document| document.as_bytes().len())
                .sum(),
            _ => 1_024,
        }
    }
}

/// What one operation may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_document_bytes: usize,
    /// How long an update or delete may keep all other writers waiting.
    pub(crate) max_write_time: Duration,
}

/// The writer's state inside one transaction.
pub(crate) struct Transaction<'a, 'c> {
    pub(crate) session: &'a mut Session<'c>,
    /// The catalogue as this transaction sees it.
    pub(crate) catalog: Arc<Catalog>,
    /// Indexes that learnt something which the file does not say yet.
    pub(crate) learnt: &'a mut HashMap<i64, Arc<Index>>,
    pub(crate) bounds: Bounds,
    /// Of the operation under way.
    pub(crate) limits: Limits,
    /// Whether the update under way must leave documents as the schema wants.
    pub(crate) validated: bool,
}

impl Transaction<'_, '_> {
    /// Does one operation. After an error, the caller rolls back.
    pub(crate) fn run(&mut self, collection: &str, operation: Operation) -> Result<Answer> {
        // Making an index takes as long as it takes; its caller knows.
        self.limits.deadline = match &operation {
            Operation::Update { .. } | Operation::Delete { .. } => {
                Instant::now().checked_add(self.bounds.max_write_time)
            }
            _ => None,
        };
        match operation {
            Operation::Insert { documents } => {
                let collection = self.collection(collection)?;
                for document in &documents {
                    self.insert(&collection, document.as_bytes())?;
                }
                Ok(Answer::Done)
            }
            Operation::Update {
                filter,
                source,
                updater,
                many,
                upsert,
                validated,
            } => {
                self.validated = validated;
                self.update(collection, &filter, &source, &updater, many, upsert)
                    .map(Answer::Outcome)
            }
            Operation::Delete { filter, limit } => {
                self.delete(collection, &filter, limit).map(Answer::Count)
            }
            Operation::CreateIndex { spec } => {
                self.create_index(collection, &spec).map(|()| Answer::Done)
            }
            Operation::DropIndex { name } => {
                let dropped = Arc::make_mut(&mut self.catalog).drop_index(
                    self.session.connection,
                    collection,
                    &name,
                )?;
                Ok(Answer::Count(dropped.into()))
            }
            Operation::DropCollection => {
                let dropped = Arc::make_mut(&mut self.catalog)
                    .drop_collection(self.session.connection, collection)?;
                Ok(Answer::Count(dropped.into()))
            }
            Operation::SetValidation { validation } => self
                .set_validation(collection, validation)
                .map(|()| Answer::Done),
            Operation::Rebuild => self.rebuild(collection).map(|()| Answer::Done),
            #[cfg(test)]
            Operation::Break(document) => {
                let collection = self.collection(collection)?;
                self.insert(&collection, document.as_bytes())?;
                panic!("asked for by a test")
            }
        }
    }

    /// The collection, made if it is not there.
    fn collection(&mut self, name: &str) -> Result<Arc<Collection>> {
        match self.catalog.get(name) {
            Some(collection) => Ok(Arc::clone(collection)),
            None => {
                Arc::make_mut(&mut self.catalog).create_collection(self.session.connection, name)
            }
        }
    }

    fn insert(&mut self, collection: &Collection, document: &[u8]) -> Result<()> {
        if let Some(validation) = &collection.validation {
            validation.schema.require(document)?;
        }
        let id = field(document, b"_id")?.ok_or(Corrupt)?;
        let mut idk = Vec::with_capacity(16);
        order::encode(id, &mut idk)?;
        self.session
            .execute(Sql::Insert, collection.id, (idk, document))
            .map_err(|error| error.of_index("_id_"))?;
        let rid = self.session.connection.last_insert_rowid();
        for index in &collection.indexes {
            let keys = index.pattern.extract(document)?;
            self.learn(index, &keys);
            for key in indexed(index, keys) {
                self.add_key(index, &key, rid)?;
            }
        }
        Ok(())
    }

    fn add_key(&mut self, index: &Index, key: &[u8], rid: i64) -> Result<()> {
        self.session
            .execute(Sql::IndexInsert, index.id, (key, rid))
            .map_err(|error| error.of_index(&index.name))
    }

    fn remove_key(&mut self, index: &Index, key: &[u8], rid: i64) -> Result<()> {
        self.session
            .execute(Sql::IndexDelete, index.id, (key, rid))
            .map_err(StatementError::into_error)
    }

    fn learn(&mut self, index: &Arc<Index>, keys: &Keys) {
        if index.learn(keys.multikey, keys.positional) {
            self.learnt.insert(index.id, Arc::clone(index));
        }
    }

    /// The first rows that match.
    fn matching(
        &mut self,
        collection: &Collection,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<i64>> {
        let limits = self.limits.clone();
        let plan = plan::choose(filter, None, collection);
        let source = candidates::resolve(self.session, collection, plan, &limits)?;
        let mut rows = Vec::new();
        candidates::visit(
            self.session,
            collection,
            &source,
            &candidates::Mark::default(),
            &limits,
            |rid, document| {
                if filter.matches(document)? {
                    rows.push(rid);
                }
                Ok(rows.len() < limit)
            },
        )?;
        Ok(rows)
    }

    fn document(&mut self, collection: &Collection, rid: i64) -> Result<Vec<u8>> {
        let found = self
            .session
            .first(Sql::GetByRid, collection.id, [rid], |row| {
                Ok(blob(row, 0)?.to_vec())
            })?;
        found.ok_or_else(|| Corrupt.into())
    }

    fn update(
        &mut self,
        name: &str,
        filter: &Filter,
        source: &Document,
        updater: &Updater,
        many: bool,
        upsert: bool,
    ) -> Result<UpdateOutcome> {
        let mut outcome = UpdateOutcome::default();
        if let Some(collection) = self.catalog.get(name).cloned() {
            for rid in self.matching(&collection, filter, if many { usize::MAX } else { 1 })? {
                self.limits.check()?;
                let before = self.document(&collection, rid)?;
                let position = if updater.is_positional() {
                    filter.position(&before)?
                } else {
                    None
                };
                outcome.matched += 1;
                if let Some(after) = updater.apply(&before, position)? {
                    validate::document(after.as_bytes(), self.bounds.max_document_bytes)?;
                    if self.validated {
                        still_valid(&collection, &before, after.as_bytes())?;
                    }
                    self.replace(&collection, rid, &before, after.as_bytes())?;
                    outcome.modified += 1;
                }
            }
        }
        if outcome.matched == 0 && upsert {
            let document = updater.insertion(source)?;
            validate::document(document.as_bytes(), self.bounds.max_document_bytes)?;
            let collection = self.collection(name)?;
            self.insert(&collection, document.as_bytes())?;
            outcome.upserted_id = match field(document.as_bytes(), b"_id")? {
                Some(id) => Some(id.to_bson()?),
                None => None,
            };
        }
        Ok(outcome)
    }

    fn replace(
        &mut self,
        collection: &Collection,
        rid: i64,
        before: &[u8],
        after: &[u8],
    ) -> Result<()> {
        for index in &collection.indexes {
            let old = indexed(index, index.pattern.extract(before)?);
            let keys = index.pattern.extract(after)?;
            self.learn(index, &keys);
            let new = indexed(index, keys);
            if old == new {
                continue;
            }
            // Both are sorted; what left goes first, so that a unique key can
            // move within one document.
            for key in old.iter().filter(|key| new.binary_search(key).is_err()) {
                self.remove_key(index, key, rid)?;
            }
            for key in new.iter().filter(|key| old.binary_search(key).is_err()) {
                self.add_key(index, key, rid)?;
            }
        }
        self.session
            .execute(Sql::Replace, collection.id, (rid, after))
            .map_err(StatementError::into_error)
    }

    fn delete(&mut self, name: &str, filter: &Filter, limit: usize) -> Result<u64> {
        let Some(collection) = self.catalog.get(name).cloned() else {
            return Ok(0);
        };
        let rows = self.matching(&collection, filter, limit)?;
        for rid in &rows {
            self.limits.check()?;
            if !collection.indexes.is_empty() {
                let document = self.document(&collection, *rid)?;
                for index in &collection.indexes {
                    for key in indexed(index, index.pattern.extract(&document)?) {
                        self.remove_key(index, &key, *rid)?;
                    }
                }
            }
            self.session
                .execute(Sql::Delete, collection.id, [*rid])
                .map_err(StatementError::into_error)?;
        }
        Ok(rows.len() as u64)
    }

    fn create_index(&mut self, name: &str, spec: &IndexSpec) -> Result<()> {
        let collection = self.collection(name)?;
        let same_keys = |index: &Index| index.spec.keys.iter().eq(spec.keys.iter());
        for index in &collection.indexes {
            let equal = same_keys(index)
                && (
                    index.spec.unique,
                    index.spec.sparse,
                    index.spec.expire_after,
                ) == (spec.unique, spec.sparse, spec.expire_after);
            match (index.name == spec.name(), equal) {
                (true, true) => return Ok(()),
                (true, false) => {
                    return Err(Error::Invalid(format!(
                        "another index is named '{}'",
                        index.name
                    )));
                }
                (false, _) if same_keys(index) => {
                    return Err(Error::Invalid(format!(
                        "the index '{}' has the same keys",
                        index.name
                    )));
                }
                (false, _) => {}
            }
        }
        let index =
            Arc::make_mut(&mut self.catalog).create_index(self.session.connection, name, spec)?;
        self.fill(&collection, &index)
    }

    fn set_validation(&mut self, name: &str, validation: Option<Arc<Validation>>) -> Result<()> {
        if validation.is_none() && self.catalog.get(name).is_none() {
            return Ok(());
        }
        self.collection(name)?;
        Arc::make_mut(&mut self.catalog).set_validation(self.session.connection, name, validation)
    }

    fn rebuild(&mut self, name: &str) -> Result<()> {
        let Some(collection) = self.catalog.get(name).cloned() else {
            return Ok(());
        };
        self.session
            .execute(Sql::IdRebuild, collection.id, [])
            .map_err(StatementError::into_error)?;
        for index in &collection.indexes {
            self.session
                .execute(Sql::IndexClear, index.id, [])
                .map_err(StatementError::into_error)?;
            self.fill(&collection, index)?;
        }
        Ok(())
    }

    /// Puts the keys of all documents into an empty index.
    fn fill(&mut self, collection: &Collection, index: &Arc<Index>) -> Result<()> {
        let mut after = candidates::Mark::default();
        loop {
            // In portions, as the same connection writes between them.
            let mut portion = Vec::new();
            let mut bytes = 0;
            let limits = Limits::default();
            let stopped = candidates::visit(
                self.session,
                collection,
                &candidates::Source::Scan,
                &after,
                &limits,
                |rid, document| {
                    let keys = index.pattern.extract(document)?;
                    bytes += keys.keys.iter().map(|key| key.len() + 32).sum::<usize>();
                    portion.push((rid, keys));
                    Ok(bytes < 8 << 20)
                },
            )?;
            for (rid, keys) in portion {
                self.learn(index, &keys);
                for key in indexed(index, keys) {
                    self.add_key(index, &key, rid)?;
                }
            }
            match stopped {
                Some(at) => after = at,
                None => return Ok(()),
            }
        }
    }
}

/// Refuses a change that the collection's schema does not allow.
fn still_valid(collection: &Collection, before: &[u8], after: &[u8]) -> Result<()> {
    let Some(validation) = &collection.validation else {
        return Ok(());
    };
    let excused = validation.validator.level == ValidationLevel::Moderate
        && !validation.schema.accepts(before)?;
    if excused {
        return Ok(());
    }
    validation.schema.require(after)
}

/// The keys that the index holds of a document.
pub(crate) fn indexed(index: &Index, keys: Keys) -> Vec<Vec<u8>> {
    if index.spec.sparse && !keys.exists {
        Vec::new()
    } else {
        keys.keys
    }
}

/// Checks what can be checked of an index without the data.
pub(crate) fn check_index(spec: &IndexSpec) -> Result<()> {
    KeyPattern::parse(&spec.keys, "index")?;
    let name = spec.name();
    if name.is_empty() || name.len() > 200 || name.contains('\0') {
        return Err(Error::Invalid(
            "the index name must have 1 to 200 bytes and no NUL".into(),
        ));
    }
    if name == "_id_" && !is_id_index(spec) {
        return Err(Error::Invalid("the index name '_id_' is taken".into()));
    }
    if spec.expire_after.is_some() && (spec.keys.len() != 1 || spec.keys.contains_key("_id")) {
        return Err(Error::Invalid(
            "an expiring index needs exactly one field, not _id".into(),
        ));
    }
    Ok(())
}

/// Whether the spec asks for the index on `_id`, which every collection has.
pub(crate) fn is_id_index(spec: &IndexSpec) -> bool {
    spec.keys.len() == 1 && spec.keys.contains_key("_id")
}
