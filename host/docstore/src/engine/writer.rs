//! The thread that writes.
//!
//! Whatever waits becomes one transaction, made durable by one flush to the disk,
//! and only then acknowledged: with many writers the cost of the flush is shared.
//! Each request runs inside a savepoint, so that one that fails, or panics, takes
//! nothing else with it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::engine::candidates::Limits;
use crate::engine::catalog::{Catalog, Index, Shared};
use crate::engine::checkpoint::Checkpointer;
use crate::engine::direct::Direct;
use crate::engine::readers::closed;
use crate::engine::sqlite::{Session, Sql};
use crate::engine::write::{Answer, Bounds, Operation, Transaction};
use crate::error::{Error, Result};

/// Operations of one transaction.
const BATCH_OPERATIONS: usize = 512;
/// Bytes of one transaction.
const BATCH_BYTES: usize = 4 << 20;
/// Requests that may wait before callers wait to hand theirs in.
const WAITING: usize = 4 * BATCH_OPERATIONS;

/// The way to the writer thread.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Write {
        collection: String,
        operation: Box<Operation>,
        reply: oneshot::Sender<Result<Answer>>,
    },
    /// Finish, and answer when everything is on the disk.
    Close(oneshot::Sender<()>),
}

/// What the thread owns.
pub(crate) struct WriterThread {
    pub(crate) connection: Connection,
    pub(crate) catalog: Arc<Shared>,
    pub(crate) checkpointer: Arc<Checkpointer>,
    pub(crate) direct: Arc<Direct>,
    pub(crate) bounds: Bounds,
    requests: mpsc::Receiver<Request>,
}

impl Writer {
    /// A writer, and the thread's part of it.
    pub(crate) fn new(
        connection: Connection,
        catalog: Arc<Shared>,
        checkpointer: Arc<Checkpointer>,
        direct: Arc<Direct>,
        bounds: Bounds,
    ) -> (Self, WriterThread) {
        let (sender, requests) = mpsc::channel(WAITING);
        let thread = WriterThread {
            connection,
            catalog,
            checkpointer,
            direct,
            bounds,
            requests,
        };
        (Writer { requests: sender }, thread)
    }

    /// Does an operation; resolves when it is durable.
    pub(crate) async fn run(&self, collection: &str, operation: Operation) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Write {
            collection: collection.to_owned(),
            operation: Box::new(operation),
            reply,
        };
        self.requests.send(request).await.map_err(|_| closed())?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the writer stopped".into())))
    }

    /// A way for the store's own threads.
    pub(crate) fn downgrade(&self) -> WeakWriter {
        WeakWriter {
            requests: self.requests.downgrade(),
        }
    }

    /// Lets the writer finish what waits, and end.
    pub(crate) async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that the thread is gone already.
            let _ = finished.await;
        }
    }
}

/// A way to the writer that does not keep the store open.
#[derive(Debug, Clone)]
pub(crate) struct WeakWriter {
    requests: mpsc::WeakSender<Request>,
}

impl WeakWriter {
    /// Does an operation, from a thread of the store's own; none when the store
    /// is closing.
    pub(crate) fn run(&self, collection: &str, operation: Operation) -> Option<Result<Answer>> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Write {
            collection: collection.to_owned(),
            operation: Box::new(operation),
            reply,
        };
        self.requests.upgrade()?.blocking_send(request).ok()?;
        answer.blocking_recv().ok()
    }
}

/// Answers that wait for the commit.
type Pending = Vec<(oneshot::Sender<Result<Answer>>, Result<Answer>)>;

impl WriterThread {
    /// The thread's life. Answers whoever asked for its end, to be told when all
    /// else is done too.
    pub(crate) fn run(mut self) -> Option<oneshot::Sender<()>> {
        let mut learnt = HashMap::new();
        let mut closing = None;
        {
            let mut session = Session::new(&self.connection);
            while closing.is_none() {
                let Some(first) = self.requests.blocking_recv() else {
                    break;
                };
                self.checkpointer.make_room(&self.connection);
                closing = batch(
                    &mut session,
                    &self.catalog,
                    &self.direct,
                    self.bounds,
                    &mut learnt,
                    first,
                    &mut self.requests,
                );
            }
        }
        self.requests.close();
        self.checkpointer.finish(&self.connection);
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store did not close cleanly"
            );
        }
        closing
    }
}

/// Runs one transaction, beginning with `request`; answers a request to close.
fn batch(
    session: &mut Session<'_>,
    shared: &Shared,
    direct: &Direct,
    bounds: Bounds,
    learnt: &mut HashMap<i64, Arc<Index>>,
    request: Request,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<oneshot::Sender<()>> {
    let catalog = shared.get();
    let mut pending: Pending = Vec::new();
    let mut closing = None;
    let mut next = Some(request);
    let mut outcome = session.control(Sql::BeginImmediate);
    let mut transaction = Transaction {
        session,
        catalog: Arc::clone(&catalog),
        learnt,
        bounds,
        limits: Limits::default(),
        validated: true,
    };
    let mut bytes = 0;
    while let Some(request) = next.take() {
        match request {
            Request::Close(done) => {
                closing = Some(done);
                break;
            }
            Request::Write {
                collection,
                operation,
                reply,
            } => {
                bytes += operation.bytes();
                let answer = match &outcome {
                    Ok(()) => guarded(&mut transaction, &collection, *operation, &mut outcome),
                    Err(_) => Err(Error::Unavailable("the transaction failed".into())),
                };
                pending.push((reply, answer));
            }
        }
        if pending.len() < BATCH_OPERATIONS && bytes < BATCH_BYTES {
            next = requests.try_recv().ok();
        }
    }
    let changed = transaction.catalog;
    let outcome = outcome.and_then(|()| {
        for index in learnt.values() {
            Catalog::store_knowledge(session.connection, index)?;
        }
        direct.commit(|| session.control(Sql::Commit))
    });
    match outcome {
        Ok(()) => {
            learnt.clear();
            if !Arc::ptr_eq(&changed, &catalog) {
                shared.publish(changed);
            }
            for (reply, answer) in pending {
                // A caller who is gone needs no answer.
                let _ = reply.send(answer);
            }
        }
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                requests = pending.len(),
                "a write transaction failed"
            );
            if !session.connection.is_autocommit()
                && let Err(error) = session.control(Sql::Rollback)
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "rolling back failed"
                );
            }
            for (reply, answer) in pending {
                let refusal = match answer {
                    // A malformed request stays the client's mistake.
                    Err(
                        error @ (Error::Invalid(_)
                        | Error::TooLarge(_)
                        | Error::DocumentInvalid { .. }),
                    ) => error,
                    _ => Error::Unavailable("the transaction could not be committed".into()),
                };
                let _ = reply.send(Err(refusal));
            }
        }
    }
    closing
}

/// Runs one operation inside a savepoint. When the savepoint itself fails, so
/// does the transaction.
fn guarded(
    transaction: &mut Transaction<'_, '_>,
    collection: &str,
    operation: Operation,
    outcome: &mut Result<()>,
) -> Result<Answer> {
    let before = Arc::clone(&transaction.catalog);
    if let Err(error) = transaction.session.control(Sql::Savepoint) {
        *outcome = Err(error);
        return Err(Error::Unavailable("the transaction failed".into()));
    }
    // A panic is a mistake in this crate, and costs the request and not the store.
    // What it leaves behind is undone below: the catalogue is put back, statements
    // are reset as the panic passes them, and what indexes learnt is only ever too
    // careful.
    let answer = catch_unwind(AssertUnwindSafe(|| transaction.run(collection, operation)))
        .unwrap_or_else(|_| {
            tracing::error!(collection, "a write panicked and was rolled back");
            Err(Error::Unavailable("the write failed".into()))
        });
    let mut ended = Ok(());
    if answer.is_err() {
        transaction.catalog = before;
        // A full disk or a failed read may have rolled everything back already.
        ended = transaction.session.control(Sql::RollbackTo);
    }
    if let Err(error) = ended.and_then(|()| transaction.session.control(Sql::Release)) {
        *outcome = Err(error);
    }
    answer
}
