//! How many calls of a plugin run at once, and how many wait. Beyond that a
//! client is told to come back: a slow plugin must not pile up memory, or take
//! every instance from the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Budget;
use crate::error::CallError;

/// The gate before a plugin.
pub(crate) struct Admission {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    wait: Duration,
}

impl Admission {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            running: Arc::new(Semaphore::new(
                budget.concurrency.min(Semaphore::MAX_PERMITS),
            )),
            waiting: Semaphore::new(budget.queue.min(Semaphore::MAX_PERMITS)),
            wait: budget.queue_wait,
        }
    }

    /// Lets a call in, now or after a short wait. It is over when the permit is
    /// dropped.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(self.overloaded());
        };
        match tokio::time::timeout(self.wait, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
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
        Admission::new(&Budget {
            concurrency,
            queue,
            queue_wait: Duration::from_millis(20),
            ..Budget::default()
        })
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
        let turned_away = |result: Result<OwnedSemaphorePermit, CallError>| {
            assert!(matches!(result, Err(CallError::Overloaded { .. })));
        };
        for queue in [0, 1] {
            let gate = gate(1, queue);
            let _running = gate.enter().await.unwrap();
            turned_away(gate.enter().await);
        }
    }
}
