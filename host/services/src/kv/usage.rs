//! How much room the entries of each plugin take, so that none fills the store.
//!
//! Kept in this process: counted at the store once, then added up with every
//! write, which may take an overwritten entry for a new one. Where the sum comes to
//! the limit it is counted again, so that what was overwritten, has expired or was
//! written by other hosts comes right. Counting reads all entries of the plugin,
//! which the limit bounds; it is done at most once a second, and at most for a
//! twentieth of the time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::KvError;

/// How long a count counts at least.
const FRESH: Duration = Duration::from_secs(1);
/// For how many times the time that it took, if that is longer.
const SHARE: u32 = 20;
/// What an entry takes beside its key and value: names of fields, revision, and
/// its place in the indexes.
const OVERHEAD: u64 = 128;

/// The bytes that an entry takes.
pub(super) fn size(id: &str, value: usize) -> u64 {
    OVERHEAD + id.len() as u64 + value as u64
}

/// The room that every plugin has taken.
#[derive(Clone, Default)]
pub(super) struct Usage(Arc<Lock<HashMap<String, Arc<Mutex<Account>>>>>);

/// Of one plugin.
#[derive(Default)]
struct Account {
    bytes: u64,
    /// Until when the count counts; nothing was counted yet without.
    fresh: Option<Instant>,
}

impl Usage {
    /// Makes room for an entry of `more` bytes where there were `less`, or says
    /// that there is none. `count` asks the store how many bytes there are.
    pub(super) async fn take<F>(
        &self,
        plugin: &str,
        limit: u64,
        (less, more): (u64, u64),
        count: impl FnOnce() -> F,
    ) -> Result<(), KvError>
    where
        F: Future<Output = Result<u64, KvError>>,
    {
        let account = self.account(plugin);
        let mut account = account.lock().await;
        let fits = |bytes: u64| bytes.saturating_sub(less).saturating_add(more) <= limit;
        let now = Instant::now();
        let stale = account.fresh.is_none_or(|until| now >= until);
        if account.fresh.is_none() || (stale && !fits(account.bytes)) {
            account.bytes = count().await?;
            let took = now.elapsed();
            account.fresh = Some(Instant::now() + FRESH.max(took * SHARE));
        }
        // What shrinks is let in however full it is. That it makes room shows at the
        // next count: several who overwrite one entry at once have each read it as it
        // was, and would make its room free once each.
        if more > less && !fits(account.bytes) {
            return Err(KvError::Full(limit));
        }
        account.bytes = account.bytes.saturating_add(more.saturating_sub(less));
        Ok(())
    }

    /// An entry of so many bytes is gone.
    pub(super) async fn give(&self, plugin: &str, bytes: u64) {
        let account = self.account(plugin);
        let mut account = account.lock().await;
        account.bytes = account.bytes.saturating_sub(bytes);
    }

    fn account(&self, plugin: &str) -> Arc<Mutex<Account>> {
        // Nothing in here can be left half-done by a panic.
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(plugin) {
            return Arc::clone(account);
        }
        Arc::clone(accounts.entry(plugin.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_plugin_takes_room_until_there_is_none() {
        let usage = Usage::default();
        let counted = AtomicU64::new(0);
        let stored = AtomicU64::new(10);
        let take = async |change| {
            let count = || async {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(stored.load(Ordering::Relaxed))
            };
            usage.take("a", 100, change, count).await
        };
        take((0, 90)).await.unwrap();
        assert!(matches!(take((0, 1)).await, Err(KvError::Full(100))));
        take((50, 50)).await.unwrap();
        take((10, 20)).await.unwrap_err();
        usage.give("a", 5).await;
        take((0, 5)).await.unwrap();
        // A count counts for a while, however often there is no room.
        assert!(take((0, 1)).await.is_err());
        assert_eq!(counted.load(Ordering::Relaxed), 1);
        stored.store(0, Ordering::Relaxed);
        tokio::time::sleep(FRESH + Duration::from_millis(50)).await;
        take((0, 100)).await.unwrap();
        assert_eq!(counted.load(Ordering::Relaxed), 2);
        // Others are not concerned.
        let other = usage.take("b", 100, (0, 100), || async { Ok(0) }).await;
        other.unwrap();
    }

    #[tokio::test]
    async fn an_entry_that_many_make_smaller_at_once_gives_its_room_once() {
        let usage = Usage::default();
        let take = async |change| usage.take("a", 100, change, || async { Ok(100) }).await;
        // Each has read it before any of them wrote.
        for _ in 0..10 {
            take((50, 1)).await.unwrap();
        }
        assert!(matches!(take((0, 60)).await, Err(KvError::Full(100))));
    }

    #[tokio::test]
    async fn what_is_over_a_limit_that_was_lowered_can_shrink() {
        let usage = Usage::default();
        let take = async |change| usage.take("a", 100, change, || async { Ok(500) }).await;
        take((200, 150)).await.unwrap();
        assert!(take((10, 11)).await.is_err());
    }
}
