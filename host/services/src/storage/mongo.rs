//! MongoDB behind the port.
//!
//! The one place that knows the driver. Writes are acknowledged by a majority
//! and reads see what a majority has, unless the URI says otherwise, so that
//! what one host of a cluster was told is what the others find.

mod error;
mod schema;
mod transfer;

use std::time::Duration;

use async_trait::async_trait;
use bson::{Bson, Document, RawDocumentBuf, doc};
use coglex_docstore::language;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use mongodb::error::Error as DriverError;
use mongodb::options::{ClientOptions, IndexOptions, ReadConcern, WriteConcern};
use mongodb::{Client, ClientSession, Collection, Database, IndexModel};

use super::{
    Change, DocumentStore, DocumentStream, Find, IndexSpec, Result, StoreError, Update,
    UpdateOutcome, Validator,
};
use error::{is_absent, is_without_transactions, store_error};

/// How long a request waits for a server to be there. The driver's own default,
/// thirty seconds, is longer than a client of ours waits.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// The database where neither the URI nor a setting names one.
const DEFAULT_DATABASE: &str = "coglex";

/// A database on a MongoDB server or cluster.
#[derive(Clone)]
pub struct MongoStore {
    client: Client,
    database: Database,
}

impl std::fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The driver's own would show the URI's credentials.
        f.debug_struct("MongoStore")
            .field("database", &self.database.name())
            .finish_non_exhaustive()
    }
}

impl MongoStore {
    /// A store on the database; `database` wins over the one in the URI, and
    /// without either it is `coglex`. `Invalid` when the URI is malformed. The
    /// server need not be there yet: connections are made when they are needed,
    /// and made again when they break.
    pub async fn connect(uri: &str, database: Option<&str>) -> Result<Self> {
        let mut options = ClientOptions::parse(uri)
            .await
            .map_err(|error| bad_uri(&error))?;
        options.app_name.get_or_insert_with(|| "coglex".into());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        options
            .write_concern
            .get_or_insert_with(WriteConcern::majority);
        options
            .read_concern
            .get_or_insert_with(ReadConcern::majority);
        let database = database
            .map(str::to_owned)
            .or_else(|| options.default_database.clone())
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let client = Client::with_options(options).map_err(|error| bad_uri(&error))?;
        let database = client.database(&database);
        Ok(Self { client, database })
    }

    /// Removes the database and all that is in it. For tests.
    pub async fn drop_database(&self) -> Result<()> {
        self.database.drop().await.map_err(store_error)
    }

    fn raw(&self, collection: &str) -> Collection<RawDocumentBuf> {
        self.database.collection(collection)
    }

    /// Several documents in a transaction. A server that stands alone has none:
    /// there, what was inserted before the failure is taken out again, and a
    /// reader may have seen it.
    async fn insert_all(&self, collection: &str, documents: &[RawDocumentBuf]) -> Result<()> {
        let target = self.raw(collection);
        let attempt = self.insert_in_transaction(&target, documents).await;
        match attempt {
            Err(error) if is_without_transactions(&error) => {}
            result => return result.map_err(store_error),
        }
        insert_in_order(&target, documents).await
    }

    /// Does an update; with `bypass`, one by operators whether or not what
    /// becomes of the documents satisfies the collection's schema.
    async fn change(
        &self,
        collection: &str,
        update: Update,
        bypass: bool,
    ) -> Result<UpdateOutcome> {
        language::check_update(&update)?;
        let target = self.raw(collection);
        let result = match update.change {
            Change::Operators(operators) => {
                let action = match update.many {
                    true => target.update_many(update.filter, operators),
                    false => target.update_one(update.filter, operators),
                };
                let action = match update.array_filters {
                    filters if filters.is_empty() => action,
                    filters => action.array_filters(filters),
                };
                let action = match bypass {
                    true => action.bypass_document_validation(true),
                    false => action,
                };
                action.upsert(update.upsert).await
            }
            Change::Replacement(_) if update.many => {
                return Err(StoreError::Invalid(
                    "a replacement changes one document, not many".into(),
                ));
            }
            Change::Replacement(replacement) => {
                let replacement = RawDocumentBuf::try_from(&replacement).map_err(|error| {
                    StoreError::Invalid(format!("not a valid document: {error}"))
                })?;
                target
                    .replace_one(update.filter, replacement)
                    .upsert(update.upsert)
                    .await
            }
        };
        let result = result.map_err(store_error)?;
        Ok(UpdateOutcome {
            matched: result.matched_count,
            modified: result.modified_count,
            upserted_id: result.upserted_id,
        })
    }

    async fn insert_in_transaction(
        &self,
        target: &Collection<RawDocumentBuf>,
        documents: &[RawDocumentBuf],
    ) -> std::result::Result<(), DriverError> {
        let mut session = self.client.start_session().await?;
        let work = (target.clone(), documents.to_vec());
        session
            .start_transaction()
            .and_run(work, |session: &mut ClientSession, (target, documents)| {
                async move {
                    target
                        .insert_many(documents.iter())
                        .session(session)
                        .await
                        .map(drop)
                }
                .boxed()
            })
            .await
    }
}

#[async_trait]
impl DocumentStore for MongoStore {
    async fn ping(&self) -> Result<()> {
        self.database
            .run_command(doc! { "ping": 1 })
            .await
            .map_err(store_error)?;
        Ok(())
    }

    async fn get(&self, collection: &str, id: Bson) -> Result<Option<RawDocumentBuf>> {
        self.raw(collection)
            .find_one(doc! { "_id": { "$eq": id } })
            .await
            .map_err(store_error)
    }

    // What the embedded engine would refuse is refused before the server is
    // asked: both stores take the same questions, and no pattern costs the server
    // more than time that is linear in the text.
    async fn find(&self, collection: &str, find: Find) -> Result<DocumentStream> {
        language::check_find(&find)?;
        // To MongoDB a limit of zero is none.
        let limit = match find.limit {
            Some(0) => return Ok(stream::empty().boxed()),
            limit => limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        };
        let target = self.raw(collection);
        let mut action = target.find(find.filter).skip(find.skip);
        if let Some(limit) = limit {
            action = action.limit(limit);
        }
        if let Some(projection) = find.projection {
            action = action.projection(projection);
        }
        if let Some(sort) = find.sort {
            action = action.sort(sort);
        }
        if let Some(max_time) = find.max_time {
            action = action.max_time(max_time);
        }
        let cursor = action.await.map_err(store_error)?;
        Ok(cursor.map(|document| document.map_err(store_error)).boxed())
    }

    async fn count(
        &self,
        collection: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<u64> {
        language::check_filter(&filter)?;
        let target = self.raw(collection);
        let mut action = target.count_documents(filter);
        if let Some(max_time) = max_time {
            action = action.max_time(limit(max_time));
        }
        within(max_time, action.into_future()).await
    }

    async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        max_time: Option<Duration>,
    ) -> Result<DocumentStream> {
        language::check_pipeline(&pipeline)?;
        let target = self.raw(collection);
        let mut action = target.aggregate(pipeline).with_type::<RawDocumentBuf>();
        if let Some(max_time) = max_time {
            action = action.max_time(max_time);
        }
        let cursor = action.await.map_err(store_error)?;
        Ok(cursor.map(|document| document.map_err(store_error)).boxed())
    }

    async fn distinct(
        &self,
        collection: &str,
        path: &str,
        filter: Document,
        max_time: Option<Duration>,
    ) -> Result<Vec<Bson>> {
        language::check_filter(&filter)?;
        let target = self.raw(collection);
        let mut action = target.distinct(path, filter);
        if let Some(max_time) = max_time {
            action = action.max_time(limit(max_time));
        }
        within(max_time, action.into_future()).await
    }

    async fn insert(&self, collection: &str, documents: Vec<RawDocumentBuf>) -> Result<()> {
        // The driver would add an `_id` silently, and the caller not know it.
        if documents.iter().any(|document| id_of(document).is_none()) {
            return Err(StoreError::Invalid(
                "a document to insert has no `_id`".into(),
            ));
        }
        match documents.as_slice() {
            [] => Ok(()),
            [document] => self
                .raw(collection)
                .insert_one(document)
                .await
                .map(drop)
                .map_err(store_error),
            several => self.insert_all(collection, several).await,
        }
    }

    /// `updateMany` goes from document to document, and stops at the first that it
    /// cannot change.
    fn updates_all_or_none(&self) -> bool {
        false
    }

    async fn update(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        self.change(collection, update, false).await
    }

    async fn update_unvalidated(&self, collection: &str, update: Update) -> Result<UpdateOutcome> {
        // To bypass validation is a right that a user of MongoDB may lack, and
        // that is hardly ever needed.
        match self.change(collection, update.clone(), false).await {
            Err(StoreError::DocumentInvalid { .. }) => self.change(collection, update, true).await,
            answer => answer,
        }
    }

    async fn delete(&self, collection: &str, filter: Document, many: bool) -> Result<u64> {
        language::check_filter(&filter)?;
        let target = self.raw(collection);
        let action = if many {
            target.delete_many(filter)
        } else {
            target.delete_one(filter)
        };
        Ok(action.await.map_err(store_error)?.deleted_count)
    }

    async fn create_index(&self, collection: &str, index: IndexSpec) -> Result<()> {
        let options = IndexOptions::builder()
            .name(index.name())
            // Absent rather than false: an index that somebody made by hand
            // without the options is then the same index.
            .unique(index.unique.then_some(true))
            .sparse(index.sparse.then_some(true))
            .expire_after(index.expire_after)
            .build();
        let model = IndexModel::builder()
            .keys(index.keys)
            .options(options)
            .build();
        self.raw(collection)
            .create_index(model)
            .await
            .map_err(store_error)?;
        Ok(())
    }

    async fn indexes(&self, collection: &str) -> Result<Vec<IndexSpec>> {
        let models = match self.raw(collection).list_indexes().await {
            Ok(cursor) => cursor.try_collect::<Vec<IndexModel>>().await,
            Err(error) => Err(error),
        };
        match models {
            Ok(models) => Ok(models.into_iter().map(index_spec).collect()),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn drop_index(&self, collection: &str, name: &str) -> Result<bool> {
        match self.raw(collection).drop_index(name).await {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn validator(&self, collection: &str) -> Result<Option<Validator>> {
        schema::validator(&self.database, collection).await
    }

    async fn set_validator(&self, collection: &str, validator: Option<Validator>) -> Result<()> {
        schema::set_validator(&self.database, collection, validator).await
    }

    async fn close(&self) {
        self.client.clone().shutdown().await;
    }

    async fn collections(&self) -> Result<Vec<String>> {
        self.database
            .list_collection_names()
            .await
            .map_err(store_error)
    }
}

/// The answer, or `Timeout`. The server keeps to the limit too, but it may be out
/// of reach.
async fn within<T>(
    max_time: Option<Duration>,
    answer: impl Future<Output = mongodb::error::Result<T>>,
) -> Result<T> {
    let answer = match max_time {
        Some(max_time) => tokio::time::timeout(max_time, answer)
            .await
            .map_err(|_| StoreError::Timeout)?,
        None => answer.await,
    };
    answer.map_err(store_error)
}

/// The limit as the server is told it, in milliseconds, of which none is no limit.
fn limit(max_time: Duration) -> Duration {
    max_time.max(Duration::from_millis(1))
}

/// Inserts one by one, so that it is known exactly which are ours: an `_id` that
/// was taken must not be among those that are taken out again.
async fn insert_in_order(
    target: &Collection<RawDocumentBuf>,
    documents: &[RawDocumentBuf],
) -> Result<()> {
    for (index, document) in documents.iter().enumerate() {
        let Err(failure) = target.insert_one(document).await else {
            continue;
        };
        let ids: Vec<Bson> = documents.iter().take(index).filter_map(id_of).collect();
        let clean = target.delete_many(doc! { "_id": { "$in": ids } }).await;
        return Err(store_error(clean.err().unwrap_or(failure)));
    }
    Ok(())
}

/// What the server says of an index, in the port's words.
fn index_spec(model: IndexModel) -> IndexSpec {
    let options = model.options.unwrap_or_default();
    // That the identifier is unique goes without saying, for the server.
    let is_id = options.name.as_deref() == Some("_id_");
    IndexSpec {
        name: options.name,
        keys: model.keys,
        unique: is_id || options.unique.unwrap_or_default(),
        sparse: options.sparse.unwrap_or_default(),
        expire_after: options.expire_after,
    }
}

fn id_of(document: &RawDocumentBuf) -> Option<Bson> {
    document
        .get("_id")
        .ok()
        .flatten()
        .and_then(|id| Bson::try_from(id).ok())
}

/// What the driver says of a URI, which never repeats the URI's password.
fn bad_uri(error: &DriverError) -> StoreError {
    // The kind alone: the whole error goes on about labels and responses.
    StoreError::Invalid(error.kind.to_string())
}

#[cfg(test)]
mod tests;
