//! How often routes may be asked. Each caller of a route has a bucket that fills
//! evenly (the generic cell rate algorithm: all that is kept of a bucket is the
//! moment when it will be full again).
//!
//! In this process's memory only: servers of a cluster count for themselves, and
//! a restart forgets. Nothing here touches the disk or waits.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coglex_runtime::Rate;
use coglex_services::bounded::make_room;

/// Locks that requests spread over.
const SHARDS: usize = 16;
/// Buckets of one shard. A bucket that is full again needs no place; where all
/// places are taken by others, one that is nearly full gives way.
const MAX_BUCKETS: usize = 8 * 1024;

/// All buckets of a server.
pub(crate) struct RateLimits {
    base: Instant,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Duration>>; SHARDS],
}

/// What a bucket says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether it may pass.
    pub(crate) admitted: bool,
    /// Requests that could pass right after it.
    pub(crate) remaining: u32,
    /// Until the bucket is full again.
    pub(crate) reset: Duration,
    /// Until the next request could pass; zero where one can now.
    pub(crate) retry_after: Duration,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl RateLimits {
    /// Takes one request out of the bucket that `key` names. A changed rate is
    /// another bucket.
    pub(crate) fn take(&self, key: impl Hash, rate: Rate) -> Verdict {
        self.take_at(key, rate, self.base.elapsed())
    }

    fn take_at(&self, key: impl Hash, rate: Rate, now: Duration) -> Verdict {
        // Seeded: nobody can aim at another's bucket.
        let hash = self.hasher.hash_one((key, rate.requests, rate.period));
        let each = rate.period / rate.requests.max(1);
        let Some(shard) = self.shards.get(hash as usize % SHARDS) else {
            return Verdict::unlimited();
        };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.get(&hash).copied().unwrap_or(now).max(now);
        let next = full_at + each;
        let admitted = next <= now + rate.period;
        let full_at = if admitted {
            let is_full = |full_at: &Duration| *full_at <= now;
            make_room(&mut buckets, MAX_BUCKETS, hash, is_full, |full_at| *full_at);
            buckets.insert(hash, next);
            next
        } else {
            full_at
        };
        drop(buckets);
        let reset = full_at - now;
        let room = rate.period.saturating_sub(reset);
        let remaining = room.as_nanos() / each.as_nanos().max(1);
        Verdict {
            admitted,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset,
            retry_after: (reset + each).saturating_sub(rate.period),
        }
    }
}

impl Verdict {
    /// The values of `RateLimit-Policy` and `RateLimit`.
    pub(crate) fn told(&self, name: &str, rate: Rate) -> (String, String) {
        let seconds = |time: Duration| time.as_millis().div_ceil(1000);
        let policy = format!("\"{name}\";q={};w={}", rate.requests, seconds(rate.period));
        let left = format!("\"{name}\";r={};t={}", self.remaining, seconds(self.reset));
        (policy, left)
    }

    fn unlimited() -> Self {
        Self {
            admitted: true,
            remaining: u32::MAX,
            reset: Duration::ZERO,
            retry_after: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use coglex_runtime::RateScope;

    use super::*;

    const RATE: Rate = Rate {
        requests: 3,
        period: Duration::from_secs(30),
        per: RateScope::Caller,
    };

    #[test]
    fn a_bucket_holds_its_requests_and_fills_evenly() {
        let limits = RateLimits::default();
        let take = |seconds: u64| limits.take_at("ann", RATE, Duration::from_secs(seconds));
        assert_eq!(take(0).remaining, 2);
        assert_eq!(take(0).remaining, 1);
        let last = take(0);
        assert!(last.admitted && last.remaining == 0);
        assert_eq!(last.reset, Duration::from_secs(30));
        let refused = take(4);
        assert!(!refused.admitted);
        assert_eq!(refused.retry_after, Duration::from_secs(6));
        assert!(!take(9).admitted);
        assert!(take(10).admitted);
        assert!(!take(10).admitted);
        assert_eq!(take(1000).remaining, 2);
    }

    #[test]
    fn callers_and_rates_have_buckets_of_their_own() {
        let limits = RateLimits::default();
        for _ in 0..3 {
            assert!(limits.take("ann", RATE).admitted);
        }
        assert!(!limits.take("ann", RATE).admitted);
        assert!(limits.take("bob", RATE).admitted);
        let other = Rate {
            requests: 4,
            ..RATE
        };
        assert!(limits.take("ann", other).admitted);
    }

    #[test]
    fn a_flood_of_callers_takes_bounded_memory() {
        let limits = RateLimits::default();
        for caller in 0..=(SHARDS * MAX_BUCKETS) as u64 {
            let now = Duration::from_nanos(caller);
            assert!(limits.take_at(caller, RATE, now).admitted);
        }
        let kept: usize = limits
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().len())
            .sum();
        assert!(kept <= SHARDS * MAX_BUCKETS, "{kept}");
    }
}
