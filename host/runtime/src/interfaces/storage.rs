//! `coglex:storage`: the documents service, through the guest door. Which
//! collections and verbs are allowed, and which fields and operators, is decided
//! there; sizes of what a cursor hands out are decided here.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, RawDocument};
use coglex_services::documents::DocumentStream;
use coglex_services::storage::{self, Change, Find, Update};
use coglex_services::{Caller, Error as ServiceError, json};
use futures_util::StreamExt;
use tokio::sync::SemaphorePermit;
use wasmtime::component::Resource;

use crate::bindings::storage::documents::{
    Error, FindOptions, Host, HostCursor, UpdateOptions, UpdateOutcome,
};
use crate::plugin::Shared;
use crate::state::InstanceState;

/// Documents of one batch, whatever the guest asks for.
const MAX_BATCH: u32 = 1_000;
/// Bytes of one batch; a single larger document still comes, alone.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Cursors that a call may hold open: each keeps a read of the store alive.
const MAX_CURSORS: usize = 16;
/// Operations of one plugin that are at the store at once; more wait their turn.
/// The store's readers have a queue in common, which one plugin's scans must not
/// fill. An open cursor is none: it reads when it is asked for a batch.
pub(crate) const MAX_AT_STORE: usize = 16;
/// Documents of one insert.
const MAX_INSERT: usize = 10_000;
/// Texts of one list beside that: stages, array filters. The service's own bounds
/// are lower; this one is against parsing what will be refused.
const MAX_PARTS: usize = 1_000;
/// Different values that a guest is given at once.
const MAX_VALUES: usize = 100_000;

/// An open `find`.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Cursor {
    documents: DocumentStream,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for InstanceState {
    async fn find(&mut self, collection: String, options: FindOptions) -> Answer<Resource<Cursor>> {
        let asked = [
            Some(&collection),
            Some(&options.filter),
            options.projection.as_ref(),
            options.sort.as_ref(),
        ];
        self.charge(asked.into_iter().flatten().map(String::len).sum())?;
        let caller = match self.reader().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let time = self.call.time_left();
        let found = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let find = read_options(shared, options, time)?;
            let documents = &shared.services.documents;
            documents.find(&caller, &collection, find).await
        };
        let found = found.await;
        self.open(found)
    }

    async fn aggregate(
        &mut self,
        collection: String,
        pipeline: Vec<String>,
    ) -> Answer<Resource<Cursor>> {
        self.charge(collection.len() + bytes(&pipeline))?;
        let caller = match self.reader().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let time = Some(self.call.time_left());
        let made = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let stages = parts(shared, "a pipeline", &pipeline)?;
            let documents = &shared.services.documents;
            documents
                .aggregate(&caller, &collection, stages, None, time)
                .await
        };
        let made = made.await;
        self.open(made)
    }

    async fn distinct(
        &mut self,
        collection: String,
        path: String,
        filter: String,
    ) -> Answer<Vec<String>> {
        self.charge(collection.len() + path.len() + filter.len())?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let found = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let filter = document(shared, &filter)?;
            let documents = &shared.services.documents;
            let values = documents
                .distinct(&caller, &collection, &path, filter)
                .await?;
            if values.len() > MAX_VALUES {
                return Err(ServiceError::TooLarge(format!(
                    "there are more than {MAX_VALUES} different values"
                )));
            }
            values.iter().map(write_value).collect::<Result<_, _>>()
        };
        let found = found.await;
        self.give(found, |values| bytes(values))
    }

    async fn get(&mut self, collection: String, id: String) -> Answer<Option<String>> {
        self.charge(collection.len() + id.len())?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let got = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let id = json::parse_value(id.as_bytes(), depth(shared))?;
            let document = shared
                .services
                .documents
                .get(&caller, &collection, id, None)
                .await?;
            document.as_deref().map(write).transpose()
        };
        let document = got.await;
        self.give(document, |document| {
            document.as_ref().map_or(0, String::len)
        })
    }

    async fn count(&mut self, collection: String, filter: String) -> Answer<u64> {
        self.charge(collection.len() + filter.len())?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let counted = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let filter = document(shared, &filter)?;
            shared
                .services
                .documents
                .count(&caller, &collection, filter)
                .await
        };
        let counted = counted.await;
        self.give(counted, |_| 0)
    }

    async fn insert(&mut self, collection: String, documents: Vec<String>) -> Answer<Vec<String>> {
        self.charge(collection.len() + bytes(&documents))?;
        if documents.len() > MAX_INSERT {
            return Ok(Err(Error::TooLarge(format!(
                "at most {MAX_INSERT} documents can be inserted at once"
            ))));
        }
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let inserted = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let documents: Result<Vec<_>, _> = documents
                .iter()
                .map(|text| document(shared, text))
                .collect();
            let ids = shared
                .services
                .documents
                .insert(&caller, &collection, documents?)
                .await?;
            ids.iter().map(write_value).collect::<Result<Vec<_>, _>>()
        };
        let ids = inserted.await;
        self.give(ids, |ids| bytes(ids))
    }

    async fn update(
        &mut self,
        collection: String,
        filter: String,
        update: String,
        options: UpdateOptions,
    ) -> Answer<UpdateOutcome> {
        let filters = bytes(&options.array_filters);
        self.charge(collection.len() + filter.len() + update.len() + filters)?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let updated = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let filter = document(shared, &filter)?;
            let change = operators(document(shared, &update)?)?;
            let array_filters = parts(shared, "an update", &options.array_filters)?;
            let update = Update {
                filter,
                change,
                many: options.many,
                upsert: options.upsert,
                array_filters,
            };
            let documents = &shared.services.documents;
            outcome(documents.apply(&caller, &collection, update).await?)
        };
        let outcome = updated.await;
        self.give(outcome, |outcome| {
            outcome.upserted_id.as_ref().map_or(0, String::len)
        })
    }

    async fn replace(
        &mut self,
        collection: String,
        filter: String,
        replacement: String,
        upsert: bool,
    ) -> Answer<UpdateOutcome> {
        self.charge(collection.len() + filter.len() + replacement.len())?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let replaced = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let filter = document(shared, &filter)?;
            let replacement = document(shared, &replacement)?;
            let documents = &shared.services.documents;
            let replaced = documents
                .replace(&caller, &collection, filter, replacement, upsert)
                .await?;
            outcome(replaced)
        };
        let replaced = replaced.await;
        self.give(replaced, |outcome| {
            outcome.upserted_id.as_ref().map_or(0, String::len)
        })
    }

    async fn delete(&mut self, collection: String, filter: String, many: bool) -> Answer<u64> {
        self.charge(collection.len() + filter.len())?;
        let caller = match self.acting().await {
            Ok(caller) => caller,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let shared = &*self.shared;
        let deleted = async {
            let _turn = turn(shared, self.call.hook_depth).await;
            let filter = document(shared, &filter)?;
            shared
                .services
                .documents
                .delete(&caller, &collection, filter, many)
                .await
        };
        let deleted = deleted.await;
        self.give(deleted, |_| 0)
    }
}

impl HostCursor for InstanceState {
    async fn next(&mut self, cursor: Resource<Cursor>, max: u32) -> Answer<Vec<String>> {
        self.charge(0)?;
        let shared = Arc::clone(&self.shared);
        let cursor = self.table.get_mut(&cursor)?;
        let batch = {
            let _turn = turn(&shared, self.call.hook_depth).await;
            cursor.batch(max.clamp(1, MAX_BATCH)).await
        };
        self.give(batch, |batch| bytes(batch))
    }

    async fn drop(&mut self, cursor: Resource<Cursor>) -> wasmtime::Result<()> {
        self.table.delete(cursor)?;
        self.cursors = self.cursors.saturating_sub(1);
        Ok(())
    }
}

impl Cursor {
    async fn batch(&mut self, max: u32) -> Result<Vec<String>, ServiceError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < max as usize && bytes < MAX_BATCH_BYTES {
            let Some(document) = self.documents.next().await else {
                break;
            };
            let text = write(&document?)?;
            bytes += text.len();
            batch.push(text);
        }
        Ok(batch)
    }
}

impl InstanceState {
    /// As whom the guest asks, or why it may not.
    async fn acting(&mut self) -> Result<Caller, Error> {
        match self.caller().await {
            Ok(caller) => Ok(caller),
            Err(error) => Err(self.refusal(error)),
        }
    }

    /// The same for what opens a cursor, if there is room for one.
    async fn reader(&mut self) -> Result<Caller, Error> {
        if self.cursors >= MAX_CURSORS {
            return Err(Error::TooLarge(format!(
                "at most {MAX_CURSORS} cursors may be open at once"
            )));
        }
        self.acting().await
    }

    fn open(&mut self, found: Result<DocumentStream, ServiceError>) -> Answer<Resource<Cursor>> {
        match found {
            Ok(documents) => {
                let cursor = self.table.push(Cursor { documents })?;
                self.cursors += 1;
                Ok(Ok(cursor))
            }
            Err(error) => Ok(Err(self.refusal(error))),
        }
    }

    /// Counts an answer's bytes and turns a failure into the guest's words.
    fn give<T>(
        &mut self,
        result: Result<T, ServiceError>,
        size: impl Fn(&T) -> usize,
    ) -> Answer<T> {
        match result {
            Ok(answer) => {
                self.carry(size(&answer))?;
                Ok(Ok(answer))
            }
            Err(error) => Ok(Err(self.refusal(error))),
        }
    }

    /// A service's error as a guest sees it. What went wrong inside is for the
    /// log alone.
    fn refusal(&self, error: ServiceError) -> Error {
        match error {
            ServiceError::Invalid(text) | ServiceError::NotFound(text) => Error::Invalid(text),
            error @ (ServiceError::DocumentInvalid { .. } | ServiceError::HookRefused { .. }) => {
                Error::Invalid(error.to_string())
            }
            ServiceError::Conflict(text) => Error::Conflict(text),
            ServiceError::Forbidden(text) => Error::AccessDenied(text),
            ServiceError::Denied(denial) => Error::AccessDenied(denial.to_string()),
            ServiceError::TooLarge(text) => Error::TooLarge(text),
            ServiceError::Timeout => Error::Timeout,
            ServiceError::Overloaded { .. } | ServiceError::TooManyAttempts { .. } => {
                Error::Unavailable
            }
            error @ (ServiceError::HookFailed(_) | ServiceError::MailUnavailable) => {
                self.log_failure(&error);
                Error::Unavailable
            }
            ServiceError::Unavailable(cause) => {
                tracing::warn!(
                    plugin.name = &*self.shared.name,
                    request.id = &*self.call.request_id,
                    "the store failed a guest: {cause}"
                );
                Error::Unavailable
            }
        }
    }
}

/// Waits for one of the plugin's turns at the store. The call's wall-clock
/// budget bounds the wait. Within a hook nobody waits: who writes has a turn, and
/// waits for the hook.
pub(super) async fn turn(shared: &Shared, hook_depth: u8) -> Option<SemaphorePermit<'_>> {
    if hook_depth > 0 {
        return None;
    }
    shared.storage.acquire().await.ok()
}

fn depth(shared: &Shared) -> usize {
    shared.services.documents.limits().depth
}

fn document(shared: &Shared, text: &str) -> Result<Document, ServiceError> {
    json::parse_document(text.as_bytes(), depth(shared))
}

fn read_options(
    shared: &Shared,
    options: FindOptions,
    time: Duration,
) -> Result<Find, ServiceError> {
    let optional = |text: Option<String>| text.map(|text| document(shared, &text)).transpose();
    Ok(Find {
        filter: document(shared, &options.filter)?,
        projection: optional(options.projection)?,
        sort: optional(options.sort)?,
        skip: options.skip,
        limit: options.limit,
        max_time: Some(time),
    })
}

/// Several documents, each a text of its own.
fn parts(shared: &Shared, what: &str, texts: &[String]) -> Result<Vec<Document>, ServiceError> {
    if texts.len() > MAX_PARTS {
        return Err(ServiceError::TooLarge(format!(
            "{what} has at most {MAX_PARTS} parts"
        )));
    }
    texts.iter().map(|text| document(shared, text)).collect()
}

fn bytes(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

fn outcome(outcome: storage::UpdateOutcome) -> Result<UpdateOutcome, ServiceError> {
    Ok(UpdateOutcome {
        matched: outcome.matched,
        modified: outcome.modified,
        upserted_id: outcome.upserted_id.as_ref().map(write_value).transpose()?,
    })
}

/// A guest changes documents by operators, and replaces them knowingly, by
/// `replace`.
fn operators(update: Document) -> Result<Change, ServiceError> {
    if update.is_empty() || !update.keys().all(|key| key.starts_with('$')) {
        return Err(ServiceError::Invalid(
            "an update consists of operators such as `$set`".to_owned(),
        ));
    }
    Ok(Change::Operators(update))
}

fn write(document: &RawDocument) -> Result<String, ServiceError> {
    let mut out = Vec::with_capacity(document.as_bytes().len() * 2);
    json::write_document(document, &mut out)?;
    text(out)
}

pub(crate) fn write_value(value: &Bson) -> Result<String, ServiceError> {
    let mut out = Vec::new();
    json::write_value(value, &mut out)?;
    text(out)
}

fn text(bytes: Vec<u8>) -> Result<String, ServiceError> {
    String::from_utf8(bytes).map_err(|error| ServiceError::Unavailable(error.into()))
}
