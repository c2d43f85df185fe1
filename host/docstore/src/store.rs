//! The store's public face.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};

use crate::aggregate::Pipeline;
use crate::cursor::Cursor;
use crate::engine::backup;
use crate::engine::candidates::Limits;
use crate::engine::catalog::{Catalog, Shared, Validation};
use crate::engine::check;
use crate::engine::checkpoint::Checkpointer;
use crate::engine::direct::Direct;
use crate::engine::expiry::Expiry;
use crate::engine::file::{create_private, lock, sync_folder};
use crate::engine::plan;
use crate::engine::read::{self, Query};
use crate::engine::readers::{Readers, STACK};
use crate::engine::sqlite::{self, Session, Sql, blob};
use crate::engine::write::{Answer, Bounds, Operation, check_index, is_id_index};
use crate::engine::writer::Writer;
use crate::error::{Error, Result};
use crate::keys::KeyPattern;
use crate::model::{CheckReport, Find, IndexSpec, Update, UpdateOutcome, Validator};
use crate::order;
use crate::path;
use crate::projection::Projection;
use crate::query::{Budget, Filter};
use crate::update::Updater;
use crate::validate;
use crate::value::{Corrupt, OwnedValue};

/// Tries of a read that met a table younger than its snapshot.
const STALE_TRIES: usize = 5;

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that read. Default: as many as cores, at least two.
    pub readers: usize,
    /// Bytes of one document. Default: 16 MiB.
    pub max_document_bytes: usize,
    /// Bytes that a sort, or another step that must hold its input, may hold.
    /// Default: 64 MiB.
    pub max_result_bytes: usize,
    /// How long one update or delete may look for and change documents, while
    /// all other writers wait. Default: 30 seconds.
    pub max_write_time: Duration,
    /// Bytes that the file may grow to; writes beyond are refused as if the disk
    /// were full. Default: no bound but the disk.
    pub max_file_bytes: Option<u64>,
    /// How often documents are looked for whose time has come. Default: one
    /// minute.
    pub expire_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            readers: std::thread::available_parallelism()
                .map_or(2, usize::from)
                .max(2),
            max_document_bytes: 16 << 20,
            max_result_bytes: 64 << 20,
            max_write_time: Duration::from_secs(30),
            max_file_bytes: None,
            expire_every: Duration::from_secs(60),
        }
    }
}

/// A document store in one file. Clones share it. The last one to go lets its
/// threads finish and end; [`Store::close`] also waits for them.
#[derive(Debug, Clone)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) catalog: Arc<Shared>,
    pub(crate) readers: Readers,
    direct: Arc<Direct>,
    writer: Writer,
    expiry: Arc<Expiry>,
    pub(crate) options: Options,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when its channel closes, which dropping it does.
        self.direct.close();
        self.readers.close();
        self.expiry.close();
    }
}

impl Store {
    /// Opens the store at `path`, made if it is not there. A second process on
    /// the same file is refused.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let lock = lock(path)?;
        create_private(path)?;
        let mut connection = sqlite::open_writer(path)?;
        sync_folder(path)?;
        let catalog = Arc::new(Shared::new(Catalog::load(&connection)?));
        if let Some(bytes) = options.max_file_bytes {
            sqlite::bound(&connection, bytes)?;
        }
        let direct = Arc::new(Direct::open(path, options.readers.max(1))?);
        let checkpointer = Arc::new(Checkpointer::new(Arc::clone(&direct)));
        sqlite::on_commit(&mut connection, {
            let checkpointer = Arc::clone(&checkpointer);
            move |pages| checkpointer.committed(pages)
        })?;
        let (readers, mut threads) = Readers::start(path, options.readers.max(1))?;
        let (writer, thread) = Writer::new(
            connection,
            Arc::clone(&catalog),
            Arc::clone(&checkpointer),
            Arc::clone(&direct),
            Bounds {
                max_document_bytes: options.max_document_bytes,
                max_write_time: options.max_write_time,
            },
        );
        let file = path.to_owned();
        let checkpoints = spawn("docstore-checkpoint", move || checkpointer.run(&file))?;
        let expiry = Arc::new(Expiry::default());
        let expirer = {
            let (expiry, catalog, writer) = (
                Arc::clone(&expiry),
                Arc::clone(&catalog),
                writer.downgrade(),
            );
            spawn("docstore-expire", move || {
                expiry.run(&catalog, &writer, options.expire_every)
            })?
        };
        threads.extend([checkpoints, expirer]);
        spawn("docstore-write", move || {
            let closing = thread.run();
            finish(threads, lock);
            if let Some(done) = closing {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        })?;
        Ok(Store(Arc::new(Inner {
            catalog,
            readers,
            direct,
            writer,
            expiry,
            options,
        })))
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<()> {
        let read = |session: &mut Session<'_>, _: &Limits| session.snapshot(|_| Ok(()));
        self.0.readers.run(Limits::default(), read).await
    }

    /// The document with this `_id`.
    pub async fn get(&self, collection: &str, id: Bson) -> Result<Option<RawDocumentBuf>> {
        validate::collection_name(collection)?;
        let Some(collection) = self.0.catalog.get().get(collection).cloned() else {
            return Ok(None);
        };
        let mut key = Vec::with_capacity(16);
        order::encode(OwnedValue::encode(&id)?.get(), &mut key)?;
        // An answer at once is no point at which other tasks get their turn.
        tokio::task::consume_budget().await;
        if let Some(found) = self.0.direct.get(collection.id, &key) {
            return Ok(found);
        }
        self.0
            .readers
            .run(Limits::default(), move |session, _| {
                session.first(Sql::GetById, collection.id, [key], |row| {
                    RawDocumentBuf::from_bytes(blob(row, 0)?.to_vec()).map_err(|_| Corrupt.into())
                })
            })
            .await
    }

    /// Documents that match, in batches. Nothing is held in the store between
    /// two batches: a document that changes meanwhile is seen as it is then.
    pub async fn find(&self, collection: &str, find: Find) -> Result<Cursor> {
        validate::collection_name(collection)?;
        let patterns = Budget::open();
        let query = Query {
            filter: Filter::compile(&find.filter)?,
            projection: find
                .projection
                .as_ref()
                .map(Projection::compile)
                .transpose()?
                .flatten(),
            sort: match &find.sort {
                Some(sort) if !sort.is_empty() => Some(KeyPattern::parse(sort, "sort")?),
                _ => None,
            },
            skip: find.skip,
            limit: find.limit,
            max_sort_bytes: self.0.options.max_result_bytes,
        };
        drop(patterns);
        let deadline = Limits::within(find.max_time).deadline;
        Ok(Cursor::new(
            self.clone(),
            collection.to_owned(),
            query,
            deadline,
        ))
    }

    /// How many documents match.
    pub async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<u64> {
        validate::collection_name(collection)?;
        let (name, shared) = (collection.to_owned(), Arc::clone(&self.0.catalog));
        self.0
            .readers
            .run(Limits::within(max_time), move |session, limits| {
                let filter = Filter::compile(&filter)?;
                fresh(|| match shared.get().get(&name) {
                    Some(collection) => read::count(session, collection, &filter, limits),
                    None => Ok(0),
                })
            })
            .await
    }

    /// How a find would look for its documents: the stage (`scan`, `ids`, `index`,
    /// `union`), the index, and whether the sort happens in memory.
    pub async fn explain(&self, collection: &str, find: Find) -> Result<Document> {
        validate::collection_name(collection)?;
        let filter = Filter::compile(&find.filter)?;
        let sort = match &find.sort {
            Some(sort) if !sort.is_empty() => Some(KeyPattern::parse(sort, "sort")?),
            _ => None,
        };
        let Some(collection) = self.0.catalog.get().get(collection).cloned() else {
            return Ok(doc! { "stage": "nothing" });
        };
        let mut plan = plan::choose(&filter, sort.as_ref(), &collection).describe();
        if sort.is_some() {
            let ordered = plan.get_bool("ordered").unwrap_or_default();
            plan.insert("sort", if ordered { "index" } else { "memory" });
        }
        Ok(plan)
    }

    /// Inserts all of the documents or none. Each has an `_id`.
    pub async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<()> {
        validate::collection_name(collection)?;
        for document in &documents {
            validate::document(document.as_bytes(), self.0.options.max_document_bytes)?;
        }
        if documents.is_empty() {
            return Ok(());
        }
        self.0
            .writer
            .run(collection, Operation::Insert { documents })
            .await
            .map(drop)
    }

    /// Changes the first match, or all.
    pub async fn update(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        self.change(collection, update, true).await
    }

    /// Like [`Store::update`], but what the collection's documents must look like
    /// is not asked about documents that are there; an upsert still inserts only
    /// what fits. For changes of fields that the schema has no say about.
    pub async fn update_unvalidated(
        &self,
        collection: &str,
        update: Update,
    ) -> Result<UpdateOutcome> {
        self.change(collection, update, false).await
    }

    async fn change(
        &self,
        collection: &str,
        update: Update,
        validated: bool,
    ) -> Result<UpdateOutcome> {
        validate::collection_name(collection)?;
        let (filter, updater) = {
            let _patterns = Budget::open();
            (Filter::compile(&update.filter)?, Updater::compile(&update)?)
        };
        let operation = Operation::Update {
            filter,
            updater,
            many: update.many,
            upsert: update.upsert,
            validated,
            source: update.filter,
        };
        match self.0.writer.run(collection, operation).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Done | Answer::Count(_) => Ok(UpdateOutcome::default()),
        }
    }

    /// Deletes the first match, or all; answers how many.
    pub async fn delete(&self, collection: &str, filter: Document, many: bool) -> Result<u64> {
        validate::collection_name(collection)?;
        let operation = Operation::Delete {
            filter: Filter::compile(&filter)?,
            limit: if many { usize::MAX } else { 1 },
        };
        match self.0.writer.run(collection, operation).await? {
            Answer::Count(count) => Ok(count),
            Answer::Done | Answer::Outcome(_) => Ok(0),
        }
    }

    /// Makes an index, and the collection if it is not there. Doing it again
    /// changes nothing.
    pub async fn create_index(&self, collection: &str, index: IndexSpec) -> Result<()> {
        validate::collection_name(collection)?;
        check_index(&index)?;
        if is_id_index(&index) {
            return Ok(());
        }
        self.0
            .writer
            .run(collection, Operation::CreateIndex { spec: index })
            .await
            .map(drop)
    }

    /// The collection's indexes, that on `_id` first.
    pub async fn indexes(&self, collection: &str) -> Result<Vec<IndexSpec>> {
        validate::collection_name(collection)?;
        let Some(collection) = self.0.catalog.get().get(collection).cloned() else {
            return Ok(Vec::new());
        };
        let id = IndexSpec {
            name: Some("_id_".into()),
            keys: doc! { "_id": 1 },
            unique: true,
            sparse: false,
            expire_after: None,
        };
        let others = collection.indexes.iter().map(|index| index.spec.clone());
        Ok([id].into_iter().chain(others).collect())
    }

    /// Drops an index; answers whether it was there.
    pub async fn drop_index(&self, collection: &str, name: &str) -> Result<bool> {
        validate::collection_name(collection)?;
        if name == "_id_" {
            return Err(Error::Invalid("the index on _id cannot be dropped".into()));
        }
        let operation = Operation::DropIndex {
            name: name.to_owned(),
        };
        let answer = self.0.writer.run(collection, operation).await?;
        Ok(matches!(answer, Answer::Count(1)))
    }

    /// Says what the collection's documents must look like; makes the collection
    /// if it is not there. None removes what was said. Documents that are there
    /// stay as they are. Writes that are refused for it end in
    /// [`Error::DocumentInvalid`].
    pub async fn set_validator(
        &self,
        collection: &str,
        validator: Option<Validator>,
    ) -> Result<()> {
        validate::collection_name(collection)?;
        let validation = validator.map(Validation::compile).transpose()?;
        let operation = Operation::SetValidation {
            validation: validation.map(Arc::new),
        };
        self.0.writer.run(collection, operation).await.map(drop)
    }

    /// What the collection's documents must look like.
    pub async fn validator(&self, collection: &str) -> Result<Option<Validator>> {
        validate::collection_name(collection)?;
        let catalog = self.0.catalog.get();
        let validation = catalog
            .get(collection)
            .and_then(|found| found.validation.as_ref());
        Ok(validation.map(|validation| validation.validator.clone()))
    }

    /// Drops a collection with its documents and indexes; answers whether it was
    /// there.
    pub async fn drop_collection(&self, collection: &str) -> Result<bool> {
        validate::collection_name(collection)?;
        let answer = self
            .0
            .writer
            .run(collection, Operation::DropCollection)
            .await?;
        Ok(matches!(answer, Answer::Count(1)))
    }

    /// The different values at `path` of the documents that match. An array
    /// counts as its elements.
    pub async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<Vec<Bson>> {
        validate::collection_name(collection)?;
        let path = path::Path::parse(path)?;
        let (name, shared) = (collection.to_owned(), Arc::clone(&self.0.catalog));
        let max_bytes = self.0.options.max_result_bytes;
        self.0
            .readers
            .run(Limits::within(max_time), move |session, limits| {
                let filter = Filter::compile(&filter)?;
                fresh(|| match shared.get().get(&name) {
                    Some(collection) => {
                        read::distinct(session, collection, &path, &filter, max_bytes, limits)
                    }
                    None => Ok(Vec::new()),
                })
            })
            .await
    }

    /// Runs an aggregation pipeline on one snapshot. Its result, and what its
    /// stages must hold, is bounded by [`Options::max_result_bytes`] each.
    pub async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> Result<Vec<RawDocumentBuf>> {
        validate::collection_name(collection)?;
        let (name, shared) = (collection.to_owned(), Arc::clone(&self.0.catalog));
        let max_bytes = self.0.options.max_result_bytes;
        self.0
            .readers
            .run(Limits::within(max_time), move |session, limits| {
                let pipeline = Pipeline::compile(&pipeline)?;
                fresh(|| pipeline.run(session, &shared.get(), &name, max_bytes, limits))
            })
            .await
    }

    /// Reads everything and reports what is not as it should be.
    pub async fn check(&self) -> Result<CheckReport> {
        let shared = Arc::clone(&self.0.catalog);
        self.0
            .readers
            .run(Limits::default(), move |session, limits| {
                fresh(|| check::check(session, &shared.get(), limits))
            })
            .await
    }

    /// Makes all indexes anew from the documents.
    pub async fn rebuild(&self) -> Result<()> {
        for collection in self.0.catalog.get().names() {
            self.0.writer.run(&collection, Operation::Rebuild).await?;
        }
        Ok(())
    }

    /// Copies the store, as it is at one moment, to a new file; reads and writes
    /// go on meanwhile. The copy opens like any store.
    pub async fn backup(&self, target: &Path) -> Result<()> {
        let target = target.to_owned();
        self.0
            .readers
            .run(Limits::default(), move |session, _| {
                backup::copy(session.connection, &target, false, &mut |_, _| {})
            })
            .await
    }

    /// The collections' names, sorted.
    pub async fn collections(&self) -> Result<Vec<String>> {
        Ok(self.0.catalog.get().names())
    }

    /// Finishes the writes that wait, moves everything into the file and lets
    /// go of it. Later calls, on any clone, are refused.
    pub async fn close(&self) {
        self.0.direct.close();
        self.0.readers.close();
        self.0.expiry.close();
        self.0.writer.close().await;
    }
}

/// Runs a read again when the catalogue was ahead of its snapshot.
pub(crate) fn fresh<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..STALE_TRIES {
        match read() {
            // The commit is done, or its catalogue is about to be published.
            Err(error) if sqlite::is_stale(&error) => std::thread::sleep(Duration::from_millis(2)),
            answer => return answer,
        }
    }
    read()
}

fn spawn<F>(name: &str, work: F) -> Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    builder
        .spawn(work)
        .map_err(|error| Error::Unavailable(Box::new(error)))
}

/// The writer ends last, and holds the lock until nobody uses the file.
fn finish(threads: Vec<JoinHandle<()>>, lock: File) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
    drop(lock);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn a_write_that_panics_takes_nothing_else_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data.db"), Options::default()).unwrap();
        let document = |id: i32| RawDocumentBuf::try_from(&doc! { "_id": id }).unwrap();
        store.insert("things", vec![document(1)]).await.unwrap();
        // Side by side, so that they may share a transaction.
        let (before, broken, fresh, after) = tokio::join!(
            store.insert("things", vec![document(2)]),
            store.0.writer.run("things", Operation::Break(document(3))),
            store.0.writer.run("others", Operation::Break(document(3))),
            store.insert("things", vec![document(4)]),
        );
        before.unwrap();
        after.unwrap();
        for broken in [broken, fresh] {
            assert!(matches!(broken, Err(Error::Unavailable(_))), "{broken:?}");
        }
        // What the two had written is gone, and the writer still writes.
        store.insert("things", vec![document(5)]).await.unwrap();
        let ids = store
            .distinct("things", "_id", doc! {}, None)
            .await
            .unwrap();
        assert_eq!(ids, [1, 2, 4, 5].map(Bson::Int32));
        assert_eq!(store.collections().await.unwrap(), ["things"]);
        assert_eq!(store.check().await.unwrap().problems, [""; 0]);
        store.close().await;
    }
}
