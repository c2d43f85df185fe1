//! Instances that serve one call after another, for plugins that ask for it
//! (`reuse = N` in their `[budget]`). Off by default, where every call has a
//! fresh instance.
//!
//! What goes from one call to the next: all that the guest keeps in its memory
//! and globals, handles that it has not dropped, and its streams. What does not:
//! who calls, the request id, the log's and every other budget but memory, which
//! all calls of an instance draw from together.
//!
//! An instance serves at most N calls, one at a time. One that trapped, was cut
//! by a budget or whose client went away is dropped, as ever, and so is one that
//! has waited for a call for a minute. Those that wait have places of their own
//! in the pool, so that they take none from other plugins.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime::Store;

use crate::admission::Instances;
use crate::plugin::{CallContext, Shared};
use crate::state::{InstanceState, Watch, renew};

/// Instances of one plugin that wait. More than this many calls under way at
/// once make fresh ones.
const MAX_IDLE: usize = 16;
/// How long one waits: its memory and its place may be wanted by others.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The waiting instances of one plugin's door; `G` is what is called in them.
pub(crate) struct Reuse<G>(Waiting<Warm<G>>);

/// What waits to be used, at most for some time.
struct Waiting<T> {
    list: Arc<Mutex<List<T>>>,
    at_most: Duration,
}

struct List<T> {
    /// Who came last is last.
    idle: Vec<Idle<T>>,
    /// Whether somebody looks after them.
    watched: bool,
}

struct Idle<T> {
    instance: T,
    since: Instant,
    _place: OwnedSemaphorePermit,
}

/// An instance that has served calls and may serve some more.
pub(crate) struct Warm<G> {
    pub(crate) store: Store<InstanceState>,
    pub(crate) guest: G,
    /// Calls that it may still serve.
    left: u32,
}

impl<G> Warm<G> {
    /// An instance that has just served its first call.
    pub(crate) fn new(store: Store<InstanceState>, guest: G, shared: &Shared) -> Self {
        Self {
            store,
            guest,
            left: shared.budget.reuse.saturating_sub(1),
        }
    }
}

impl<G: Send + 'static> Reuse<G> {
    pub(crate) fn new() -> Self {
        Self(Waiting::new(MAX_WAIT))
    }

    /// An instance that waits, made ready for this call; the context comes back
    /// where there is none.
    #[expect(
        clippy::result_large_err,
        reason = "no error: the context goes on to a fresh instance, and boxing it would cost each call"
    )]
    pub(crate) fn take(
        &self,
        shared: &Shared,
        context: CallContext,
    ) -> Result<(Warm<G>, Watch), CallContext> {
        if shared.budget.reuse < 2 {
            return Err(context);
        }
        let Some(mut instance) = self.0.pop() else {
            return Err(context);
        };
        instance.left = instance.left.saturating_sub(1);
        let watch = renew(&mut instance.store, shared, context);
        Ok((instance, watch))
    }

    /// Keeps an instance whose call has ended well, if it may serve another and
    /// there is room.
    pub(crate) fn keep(&self, instances: &Instances, instance: Warm<G>) {
        if instance.left == 0 {
            return;
        }
        if let Some(place) = instances.idle() {
            self.0.push(instance, place);
        }
    }
}

impl<T: Send + 'static> Waiting<T> {
    fn new(at_most: Duration) -> Self {
        let list = List {
            idle: Vec::new(),
            watched: false,
        };
        Self {
            list: Arc::new(Mutex::new(list)),
            at_most,
        }
    }

    /// The one that was used last: its memory is in the processor's caches, and
    /// the others get old.
    fn pop(&self) -> Option<T> {
        lock(&self.list).idle.pop().map(|idle| idle.instance)
    }

    fn push(&self, instance: T, place: OwnedSemaphorePermit) {
        let mut list = lock(&self.list);
        if list.idle.len() >= MAX_IDLE {
            return;
        }
        list.idle.push(Idle {
            instance,
            since: Instant::now(),
            _place: place,
        });
        if !list.watched {
            list.watched = true;
            tokio::spawn(watch(Arc::downgrade(&self.list), self.at_most));
        }
    }
}

/// Drops those that have waited for too long, until none waits.
async fn watch<T>(list: Weak<Mutex<List<T>>>, at_most: Duration) {
    let mut next = Instant::now() + at_most;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(list) = list.upgrade() else {
            return;
        };
        let old: Vec<_>;
        {
            let mut list = lock(&list);
            let now = Instant::now();
            let count = list
                .idle
                .iter()
                .take_while(|idle| idle.since + at_most <= now)
                .count();
            old = list.idle.drain(..count).collect();
            match list.idle.first() {
                Some(oldest) => next = oldest.since + at_most,
                None => list.watched = false,
            }
            if !list.watched {
                return;
            }
        }
        // Not under the lock: it frees memory.
        drop(old);
    }
}

fn lock<T>(list: &Mutex<List<T>>) -> MutexGuard<'_, List<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_long_gives_up_its_place() {
        let instances = Instances::new(1);
        let waiting = Waiting::new(Duration::from_millis(200));
        let used = Arc::new(());
        // Twice: whoever looks after them ends when none is left, and comes back.
        for _ in 0..2 {
            waiting.push(Arc::clone(&used), instances.idle().unwrap());
            assert!(waiting.pop().is_some(), "it is there at first");
            waiting.push(Arc::clone(&used), instances.idle().unwrap());
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(waiting.pop().is_none());
            assert_eq!(Arc::strong_count(&used), 1);
        }
        let mut places = 0;
        while let Some(place) = instances.idle() {
            std::mem::forget(place);
            places += 1;
        }
        assert_eq!(places, crate::engine::IDLE);
    }
}
