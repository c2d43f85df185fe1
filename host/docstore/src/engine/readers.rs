//! The threads that read, each with a connection of its own.
//!
//! SQLite blocks, so nothing of it runs on an async worker. A job is a closure;
//! whoever sent it waits for the answer, and a caller who stops waiting makes the
//! job stop too.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use crate::engine::candidates::Limits;
use crate::engine::sqlite::{self, Session};
use crate::error::{Error, Result};

/// Jobs that may wait for each thread before callers wait to hand theirs in.
const WAITING_PER_READER: usize = 128;

/// Bytes of a thread's stack: documents are walked recursively.
pub(crate) const STACK: usize = 8 << 20;

type Job = Box<dyn FnOnce(&mut Session<'_>) + Send>;

/// The pool of reader threads.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: Arc<Queue>,
    /// Bounds the queue without blocking a caller's thread.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Readers {
    /// Starts `count` threads on the file; answers them for joining.
    pub(crate) fn start(path: &Path, count: usize) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let queue = Arc::new(Queue::default());
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (queue, path) = (Arc::clone(&queue), path.to_owned());
            let thread = std::thread::Builder::new()
                .name(format!("docstore-read-{number}"))
                .stack_size(STACK)
                .spawn(move || serve(&queue, &path))
                .map_err(|error| Error::Unavailable(Box::new(error)))?;
            threads.push(thread);
        }
        let room = Arc::new(Semaphore::new(count * WAITING_PER_READER));
        Ok((Readers { queue, room }, threads))
    }

    /// Runs `work` on a reader thread.
    pub(crate) async fn run<T, F>(&self, mut limits: Limits, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>, &Limits) -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let abandoned = Arc::new(AtomicBool::new(false));
        let guard = Abandon(Arc::clone(&abandoned));
        limits.abandoned = Some(abandoned);
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |session| {
            let _permit = permit;
            if !answer.is_closed() {
                // A caller who is gone needs no answer.
                let _ = answer.send(work(session, &limits));
            }
        });
        self.queue.push(job)?;
        let result = answered.await;
        drop(guard);
        result.unwrap_or_else(|_| Err(Error::Unavailable("a reader failed".into())))
    }

    /// Lets the threads finish what waits, and end.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

/// Tells the job when its caller is dropped.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn closed() -> Error {
    Error::Unavailable("the store is closed".into())
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.jobs.push_back(job);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next job; none when the queue is closed and empty.
    fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A reader's life: serve jobs, with a fresh connection after a panic.
fn serve(queue: &Queue, path: &Path) {
    loop {
        let connection = match sqlite::open_other(path, true) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a reader cannot open the store"
                );
                // The job's sender is dropped with it, which is its answer.
                if queue.pop().is_none() {
                    return;
                }
                continue;
            }
        };
        let mut session = Session::new(&connection);
        loop {
            let Some(job) = queue.pop() else { return };
            if catch_unwind(AssertUnwindSafe(|| job(&mut session))).is_err() {
                tracing::error!("a read panicked; its connection is replaced");
                break;
            }
        }
    }
}
