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
//! by a budget or whose client went away is dropped, as ever. Those that wait
//! for a call have places of their own in the pool, so that they take none from
//! other plugins.

use std::sync::{Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::admission::Instances;
use crate::plugin::{CallContext, Shared};
use crate::state::{InstanceState, Watch, renew};

/// Instances of one plugin that wait. More than this many calls under way at
/// once make fresh ones.
const MAX_IDLE: usize = 16;

/// The waiting instances of one plugin's door; `G` is what is called in them.
pub(crate) struct Reuse<G>(Mutex<Vec<Idle<G>>>);

struct Idle<G> {
    instance: Warm<G>,
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

impl<G> Reuse<G> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// An instance that waits, made ready for this call; the context comes back
    /// where there is none.
    pub(crate) fn take(
        &self,
        shared: &Shared,
        context: CallContext,
    ) -> Result<(Warm<G>, Watch), CallContext> {
        if shared.budget.reuse < 2 {
            return Err(context);
        }
        // The one that was used last: its memory is in the processor's caches,
        // and the others get old.
        let idle = self.lock().pop();
        let Some(Idle { mut instance, .. }) = idle else {
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
        let Some(place) = instances.idle() else {
            return;
        };
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle {
                instance,
                _place: place,
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle<G>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
