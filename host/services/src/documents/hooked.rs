//! Writes that hooks watch: what hooks make of them is checked as a client's
//! words are, and has to meet the conditions of the caller's grants all the same.

use bson::{Bson, Document};

use super::scope::Scope;
use super::{Documents, add_hidden, encoded, identified, rules};
use crate::error::{Error, Result};
use crate::hooks::{Done, Held, Watch, Write};
use crate::storage::{Change, Update};

/// Fields of documents that hooks leave as they are.
const FIXED: [&str; 1] = ["_id"];

impl Documents {
    /// Inserts all or none, and answers with the ids.
    pub(super) async fn insert_watched(
        &self,
        watch: &Watch,
        scope: &Scope<'_>,
        collection: &str,
        documents: Vec<Document>,
        hidden: Option<Document>,
    ) -> Result<Vec<Bson>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let limits = &self.limits;
        let mut ids = Vec::with_capacity(documents.len());
        let mut whole = Vec::with_capacity(documents.len());
        for document in documents {
            rules::document(&document, limits.depth, limits.document_bytes)?;
            let (id, document) = identified(scope.complete(document, limits)?);
            ids.push(id);
            whole.push(document);
        }
        let mut write = Write::Insert { documents: whole };
        let changed = watch
            .before(&mut write, limits.depth, &FIXED, &|write| self.check(write))
            .await?;
        let Write::Insert { documents } = &write else {
            return Err(other_write());
        };
        let mut raw = Vec::with_capacity(documents.len());
        for document in documents {
            if changed {
                scope.meets(document, limits)?;
            }
            // After the hooks, which are not shown it, and do not change it.
            raw.push(match &hidden {
                None => encoded(document, limits.document_bytes)?,
                hidden => {
                    let mut document = document.clone();
                    add_hidden(&mut document, hidden.as_ref());
                    encoded(&document, limits.document_bytes)?
                }
            });
        }
        let held = watch.hold(&write).await?;
        let inserted = self.store.insert(collection, raw).await;
        let inserted = inserted.map_err(|error| Error::from(scope.told(error)));
        if let Some(held) = held {
            held.settle(inserted.as_ref().map(|()| Done::Inserted))
                .await;
        }
        inserted.map(|()| ids)
    }

    /// Has hooks look at an update, which they may change; holds back those that
    /// come after it.
    pub(super) async fn before_update(
        &self,
        watch: &Watch,
        scope: &Scope<'_>,
        inserting: Option<&Scope<'_>>,
        update: &mut Update,
    ) -> Result<Option<Held>> {
        let limits = &self.limits;
        let filter = update.filter.clone();
        let upsert = update.upsert;
        let mut write = match &update.change {
            Change::Operators(change) => Write::Update {
                filter,
                change: change.clone(),
                array_filters: update.array_filters.clone(),
                many: update.many,
                upsert,
            },
            Change::Replacement(replacement) => Write::Replace {
                filter,
                replacement: replacement.clone(),
                upsert,
            },
        };
        let changed = watch
            .before(&mut write, limits.depth, &FIXED, &|write| self.check(write))
            .await?;
        if changed {
            let scopes = || [Some(scope), inserting].into_iter().flatten();
            update.change = match &write {
                Write::Update { change, .. } => {
                    scopes().try_for_each(|scope| scope.leaves(change))?;
                    Change::Operators(change.clone())
                }
                Write::Replace { replacement, .. } => {
                    scopes().try_for_each(|scope| scope.meets(replacement, limits))?;
                    Change::Replacement(replacement.clone())
                }
                _ => return Err(other_write()),
            };
        }
        let in_parts = update.many && !self.store.updates_all_or_none();
        let held = watch.hold(&write).await?;
        Ok(held.map(|held| held.in_parts(in_parts)))
    }

    /// Deletes the first match, or all with `many`; answers how many.
    pub(super) async fn delete_watched(
        &self,
        watch: &Watch,
        collection: &str,
        filter: Document,
        many: bool,
    ) -> Result<u64> {
        let mut write = Write::Delete { filter, many };
        let depth = self.limits.depth;
        watch.before(&mut write, depth, &[], &|_| Ok(())).await?;
        let held = watch.hold(&write).await?;
        let Write::Delete { filter, many } = write else {
            return Err(other_write());
        };
        let deleted = self.store.delete(collection, filter, many).await;
        let deleted = deleted.map_err(Error::from);
        if let Some(held) = held {
            held.settle(deleted.as_ref().map(|count| Done::Deleted(*count)))
                .await;
        }
        deleted
    }

    /// Whether a client could have asked for what hooks have made of a write.
    fn check(&self, write: &Write) -> Result<()> {
        let (depth, bytes) = (self.limits.depth, self.limits.document_bytes);
        match write {
            Write::Insert { documents } => documents.iter().try_for_each(|document| {
                rules::document(document, depth, bytes)?;
                encoded(document, bytes).map(drop)
            }),
            Write::Update { change, .. } if change.is_empty() => {
                Err(Error::Invalid("the change is empty".into()))
            }
            Write::Update { change, .. } => {
                rules::change(&Change::Operators(change.clone()), depth, bytes)
            }
            Write::Replace { replacement, .. } => rules::document(replacement, depth, bytes),
            Write::Delete { .. } => Ok(()),
        }
    }
}

/// Hooks change what is in a write, never what kind it is.
fn other_write() -> Error {
    Error::Unavailable("a hook has made another kind of write".into())
}
