//! Deleting documents whose time has come, as indexes with `expire_after` ask.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bson::{DateTime, doc};

use crate::engine::catalog::Shared;
use crate::engine::write::{Answer, Operation};
use crate::engine::writer::WeakWriter;
use crate::error::Result;
use crate::query::Filter;

/// Documents that one transaction deletes, so that other writers wait little.
const PORTION: usize = 500;

/// Ends the thread.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    closed: Mutex<bool>,
    wake: Condvar,
}

impl Expiry {
    /// The thread's life: look every `interval`, until closed.
    pub(crate) fn run(&self, catalog: &Arc<Shared>, writer: &WeakWriter, interval: Duration) {
        loop {
            let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            let (closed, _) = self
                .wake
                .wait_timeout_while(closed, interval, |closed| !*closed)
                .unwrap_or_else(PoisonError::into_inner);
            if *closed {
                return;
            }
            drop(closed);
            if let Err(error) = sweep(catalog, writer) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired documents were not deleted"
                );
            }
        }
    }

    pub(crate) fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }
}

fn sweep(catalog: &Shared, writer: &WeakWriter) -> Result<()> {
    let catalog = catalog.get();
    for name in catalog.names() {
        let indexes = catalog
            .get(&name)
            .map(|collection| collection.indexes.as_slice())
            .unwrap_or_default();
        for index in indexes {
            let (Some(after), Some(path)) =
                (index.spec.expire_after, index.spec.keys.keys().next())
            else {
                continue;
            };
            let age = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
            let limit =
                DateTime::from_millis(DateTime::now().timestamp_millis().saturating_sub(age));
            let filter = Filter::compile(&doc! { path: { "$lte": limit } })?;
            loop {
                let operation = Operation::Delete {
                    filter: filter.clone(),
                    limit: PORTION,
                };
                match writer.run(&name, operation) {
                    Some(Ok(Answer::Count(deleted))) if deleted == PORTION as u64 => {}
                    Some(Err(error)) => return Err(error),
                    Some(Ok(_)) => break,
                    // The store is closing.
                    None => return Ok(()),
                }
            }
        }
    }
    Ok(())
}
