//! How long the queue is, near enough: counting it for each new job would cost
//! more than taking the job in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::storage;

/// A count is good for this long, while it is within the limit.
const FRESH: Duration = Duration::from_secs(10);
/// And this long, when it would have jobs refused.
const FRESH_WHEN_FULL: Duration = Duration::from_secs(1);
/// When a client that was refused should come back.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The bound on jobs that are not over. What other hosts take in, and what is
/// over, is seen at the next count, so that the limit is met to within what comes
/// in ten seconds.
pub(super) struct Queue {
    limit: u64,
    /// The last count, and what was taken in since.
    length: AtomicU64,
    counted: Mutex<Option<Instant>>,
}

impl Queue {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            length: AtomicU64::new(0),
            counted: Mutex::new(None),
        }
    }

    /// Lets a job in, or refuses it. `count` counts those in the store.
    pub(super) async fn admit<F>(&self, count: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = storage::Result<u64>>,
    {
        let full = self.length.load(Ordering::Relaxed) >= self.limit;
        // Others go by what is known while one counts, but not before it is known.
        let counted = match self.counted.try_lock() {
            Ok(counted) => Some(counted),
            Err(_) if full => Some(self.counted.lock().await),
            Err(_) => None,
        };
        if let Some(mut counted) = counted {
            let full = self.length.load(Ordering::Relaxed) >= self.limit;
            let fresh = if full { FRESH_WHEN_FULL } else { FRESH };
            if counted.is_none_or(|counted| counted.elapsed() >= fresh) {
                self.length.store(count().await?, Ordering::Relaxed);
                *counted = Some(Instant::now());
            }
        }
        let before = self.length.fetch_add(1, Ordering::Relaxed);
        if before >= self.limit {
            self.length.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_counting_is_rare() {
        let counts = AtomicU64::new(0);
        let count = || async {
            counts.fetch_add(1, Ordering::Relaxed);
            Ok(2)
        };
        let queue = Queue::new(4);
        for _ in 0..2 {
            queue.admit(count).await.unwrap();
        }
        assert_eq!(counts.load(Ordering::Relaxed), 1);
        // Full by what was taken in: it is counted again before it is refused,
        // though not at once.
        for _ in 0..3 {
            let refused = queue.admit(count).await;
            assert!(matches!(refused, Err(Error::Overloaded { .. })));
        }
        assert_eq!(counts.load(Ordering::Relaxed), 1);
        tokio::time::sleep(FRESH_WHEN_FULL).await;
        queue.admit(count).await.unwrap();
        assert_eq!(counts.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_no_empty_queue() {
        let queue = Queue::new(4);
        let away = || async { Err(storage::StoreError::Timeout) };
        for _ in 0..2 {
            assert!(matches!(queue.admit(away).await, Err(Error::Timeout)));
        }
    }
}
