//! How many calls of a plugin run at once, and how many wait. Beyond that a
//! client is told to come back: a slow plugin must not pile up memory, or take
//! every instance from the others. Whatever its budget says, a plugin has at
//! most half of the instances.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Budget;
use crate::engine::{DESCRIBING, IDLE};
use crate::error::CallError;
use crate::nested;

/// The instances of the pool, for all plugins; cheap to clone.
#[derive(Clone)]
pub(crate) struct Instances {
    serving: Arc<Semaphore>,
    /// The most that calls of one plugin take.
    share: usize,
    describing: Arc<Semaphore>,
    idle: Arc<Semaphore>,
    nested: Arc<Semaphore>,
}

impl Instances {
    pub(crate) fn new(serving: u32) -> Self {
        let serving = serving as usize;
        Self {
            serving: Arc::new(Semaphore::new(serving)),
            share: (serving / 2).max(1),
            describing: Arc::new(Semaphore::new(DESCRIBING as usize)),
            idle: Arc::new(Semaphore::new(IDLE as usize)),
            nested: nested::slots(),
        }
    }

    /// A place for an instance that waits for its next call, if one is free.
    pub(crate) fn idle(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.idle).try_acquire_owned().ok()
    }

    /// A place for a guest that another guest has called, if one is free.
    pub(crate) fn nested(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.nested).try_acquire_owned().ok()
    }

    /// The places of which [`Self::nested`] takes one.
    pub(crate) fn nested_slots(&self) -> Arc<Semaphore> {
        Arc::clone(&self.nested)
    }

    /// A place for `describe()`; nothing if none is free for this long.
    pub(crate) async fn describe(&self, wait: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(wait, Arc::clone(&self.describing).acquire_owned())
            .await
            .ok()?
            .ok()
    }
}

/// A call's place, among its plugin's and in the pool.
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _instance: OwnedSemaphorePermit,
}

/// The gate before a plugin.
pub(crate) struct Admission {
    instances: Instances,
    /// Places of this plugin, free and taken.
    places: usize,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    wait: Duration,
}

impl Admission {
    pub(crate) fn new(budget: &Budget, instances: Instances) -> Self {
        let places = budget.concurrency.min(instances.share);
        Self {
            places,
            running: Arc::new(Semaphore::new(places)),
            instances,
            waiting: Semaphore::new(budget.queue.min(Semaphore::MAX_PERMITS)),
            wait: budget.queue_wait,
        }
    }

    /// The instances of the pool.
    pub(crate) fn instances(&self) -> &Instances {
        &self.instances
    }

    /// Calls that are under way.
    pub(crate) fn running(&self) -> usize {
        self.places.saturating_sub(self.running.available_permits())
    }

    /// Lets a call in, now or after a short wait. It is over when the permit is
    /// dropped.
    pub(crate) async fn enter(&self) -> Result<Place, CallError> {
        let (running, serving) = (&self.running, &self.instances.serving);
        let own = Arc::clone(running).try_acquire_owned().ok();
        let instance = own
            .as_ref()
            .and_then(|_| Arc::clone(serving).try_acquire_owned().ok());
        if let (Some(own), Some(instance)) = (own, instance) {
            return Ok(Place {
                _own: own,
                _instance: instance,
            });
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(self.overloaded());
        };
        let place = async {
            Some(Place {
                _own: Arc::clone(running).acquire_owned().await.ok()?,
                _instance: Arc::clone(serving).acquire_owned().await.ok()?,
            })
        };
        match tokio::time::timeout(self.wait, place).await {
            Ok(Some(place)) => Ok(place),
            _ => Err(self.overloaded()),
        }
    }

    fn overloaded(&self) -> CallError {
        CallError::Overloaded {
            retry_after: self.wait.max(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: usize, queue: usize) -> Admission {
        among(&Instances::new(16), concurrency, queue)
    }

    fn among(instances: &Instances, concurrency: usize, queue: usize) -> Admission {
        let budget = Budget {
            concurrency,
            queue,
            queue_wait: Duration::from_millis(20),
            ..Budget::default()
        };
        Admission::new(&budget, instances.clone())
    }

    #[tokio::test]
    async fn a_waiting_call_runs_when_another_ends() {
        let gate = Arc::new(gate(1, 1));
        let first = gate.enter().await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(second.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_full_queue_and_a_long_wait_are_overload() {
        let turned_away = |result: Result<Place, CallError>| {
            assert!(matches!(result, Err(CallError::Overloaded { .. })));
        };
        for queue in [0, 1] {
            let gate = gate(1, queue);
            let _running = gate.enter().await.unwrap();
            turned_away(gate.enter().await);
        }
    }

    #[tokio::test]
    async fn a_plugin_leaves_instances_to_others_and_calls_to_describe() {
        let instances = Instances::new(4);
        let gates = [(); 3].map(|()| among(&instances, 100, 0));
        let mut places = Vec::new();
        for gate in &gates[..2] {
            places.push(gate.enter().await.unwrap());
            places.push(gate.enter().await.unwrap());
            assert!(gate.enter().await.is_err(), "half of the pool is the most");
        }
        assert!(gates[2].enter().await.is_err(), "the pool is full");
        for _ in 0..DESCRIBING {
            let place = instances.describe(Duration::ZERO).await;
            std::mem::forget(place.unwrap());
        }
        assert!(instances.describe(Duration::ZERO).await.is_none());
        places.pop();
        assert!(gates[2].enter().await.is_ok());
    }
}
