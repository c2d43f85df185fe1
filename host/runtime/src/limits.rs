//! What stops a guest: time, memory, tables, host calls. Each limit is counted
//! in one place, here.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::budget::Budget;
use crate::engine::{CORE_INSTANCES, MEMORIES, TABLE_ELEMENTS, TABLES, TICK};

/// A budget that is spent; it ends the call as a trap. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Spent {
    #[error("the guest computed for more than its CPU budget of {0:?}")]
    Cpu(Duration),
    #[error("the guest made more than its {0} host calls")]
    HostCalls(u64),
    #[error("the guest moved more than its {0} bytes through host calls")]
    HostCallBytes(u64),
    #[error("describe() may use nothing but the log")]
    DescribeOnly,
}

/// After this much computing a guest is a long one.
const LONG: Duration = TICK.saturating_mul(4);

/// Where guests that compute for long take turns: on one core fewer than there
/// are, so that however many of them there are, short calls find a core. Short
/// calls never come here.
#[derive(Debug, Clone)]
pub(crate) struct LongLane(Arc<Semaphore>);

impl LongLane {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Arc::new(Semaphore::new(cores.saturating_sub(1).max(1))))
    }
}

/// The time that a call's guest computes: the time inside polls of its future.
/// Waiting, for a host function or for a turn, happens between polls and is
/// free. A guest that is preempted by the operating system pays for that too,
/// which only matters on a machine that is overloaded, where less is fair.
#[derive(Debug)]
pub(crate) struct CpuClock {
    base: Instant,
    /// Nanoseconds of polls that have ended.
    spent: AtomicU64,
    /// When the current poll began, in nanoseconds after `base`.
    entered: AtomicU64,
    lane: LongLane,
    /// Held during polls only: a guest that waits takes nobody's turn.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl CpuClock {
    pub(crate) fn new(lane: LongLane) -> Self {
        Self {
            base: Instant::now(),
            spent: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            lane,
            place: Mutex::new(None),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What the guest has computed; meant for use during a poll.
    pub(crate) fn spent(&self) -> Duration {
        let current = self
            .now()
            .saturating_sub(self.entered.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent.load(Ordering::Relaxed).saturating_add(current))
    }

    /// Runs a future by this clock.
    pub(crate) async fn measure<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let entered = self.now();
            self.entered.store(entered, Ordering::Relaxed);
            let polled = future.as_mut().poll(context);
            self.spent
                .fetch_add(self.now().saturating_sub(entered), Ordering::Relaxed);
            self.set_place(None);
            polled
        })
        .await
    }

    /// What to do when the epoch moved while the guest was computing: go on
    /// after others had their turn, or stop.
    pub(crate) fn tick(self: &Arc<Self>, budget: Duration) -> wasmtime::Result<UpdateDeadline> {
        let spent = self.spent();
        if spent > budget {
            return Err(Spent::Cpu(budget).into());
        }
        let clock = Arc::clone(self);
        let turn = async move {
            // tokio's own yield: it looks at sockets and timers before the guest
            // goes on, which waking oneself does not.
            tokio::task::yield_now().await;
            if spent > LONG {
                let place = Arc::clone(&clock.lane.0).acquire_owned().await;
                clock.set_place(place.ok());
            }
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(turn)))
    }

    fn set_place(&self, place: Option<OwnedSemaphorePermit>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Caps what a store allocates. A guest that is refused memory sees
/// `memory.grow` fail, and commonly panics; that it was refused is remembered,
/// so that the log can say why.
pub(crate) struct Allocations {
    memory_left: usize,
    refused: Arc<AtomicBool>,
}

impl Allocations {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            memory_left: budget.memory_bytes,
            refused: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Tells later, and from outside of the store, whether memory was refused.
    pub(crate) fn refused(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refused)
    }
}

impl ResourceLimiter for Allocations {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let allowed = more <= self.memory_left;
        if allowed {
            // All memories of a component draw from one budget. Growth that
            // fails for another reason stays deducted, which harms only a guest
            // that is out of memory anyway.
            self.memory_left -= more;
        } else {
            self.refused.store(true, Ordering::Relaxed);
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

/// Host calls and their bytes, counted down.
#[derive(Debug)]
pub(crate) struct Quota {
    calls: u64,
    bytes: u64,
    calls_left: u64,
    bytes_left: u64,
}

impl Quota {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            calls: budget.host_calls,
            bytes: budget.host_call_bytes,
            calls_left: budget.host_calls,
            bytes_left: budget.host_call_bytes,
        }
    }

    /// Counts one call that brings `bytes`.
    pub(crate) fn call(&mut self, bytes: usize) -> Result<(), Spent> {
        self.calls_left = self
            .calls_left
            .checked_sub(1)
            .ok_or(Spent::HostCalls(self.calls))?;
        self.carry(bytes)
    }

    /// Calls and bytes that are left.
    pub(crate) fn left(&self) -> (u64, u64) {
        (self.calls_left, self.bytes_left)
    }

    /// Counts what somebody else has spent for this call, within its limits.
    pub(crate) fn spend(&mut self, calls: u64, bytes: u64) {
        self.calls_left = self.calls_left.saturating_sub(calls);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Counts bytes that a call gives back.
    pub(crate) fn carry(&mut self, bytes: usize) -> Result<(), Spent> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes as u64)
            .ok_or(Spent::HostCallBytes(self.bytes))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_ends_at_its_limit() {
        let mut quota = Quota::new(&Budget {
            host_calls: 2,
            host_call_bytes: 10,
            ..Budget::default()
        });
        assert_eq!(quota.call(4), Ok(()));
        assert_eq!(quota.carry(6), Ok(()));
        assert_eq!(quota.carry(1), Err(Spent::HostCallBytes(10)));
        assert_eq!(quota.call(0), Ok(()));
        assert_eq!(quota.call(0), Err(Spent::HostCalls(2)));
    }

    #[test]
    fn memories_of_a_component_share_one_budget() {
        let mut allocations = Allocations::new(&Budget {
            memory_bytes: 100,
            ..Budget::default()
        });
        assert!(allocations.memory_growing(0, 60, None).unwrap());
        assert!(!allocations.refused().load(Ordering::Relaxed));
        assert!(!allocations.memory_growing(0, 60, None).unwrap());
        assert!(allocations.refused().load(Ordering::Relaxed));
        assert!(allocations.memory_growing(60, 100, None).unwrap());
    }

    #[tokio::test]
    async fn waiting_is_not_computing() {
        let clock = CpuClock::new(LongLane::new(2));
        clock
            .measure(tokio::time::sleep(Duration::from_millis(50)))
            .await;
        assert!(
            Duration::from_nanos(clock.spent.load(Ordering::Relaxed)) < Duration::from_millis(20)
        );
        clock
            .measure(async { std::thread::sleep(Duration::from_millis(50)) })
            .await;
        assert!(
            Duration::from_nanos(clock.spent.load(Ordering::Relaxed)) >= Duration::from_millis(50)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn guests_that_compute_for_long_leave_a_core_to_others() {
        let lane = LongLane::new(2);
        let computing = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        let guests: Vec<_> = (0..4)
            .map(|_| {
                let clock = Arc::new(CpuClock::new(lane.clone()));
                let (computing, most) = (Arc::clone(&computing), Arc::clone(&most));
                tokio::spawn(async move {
                    let guest = async {
                        while let Ok(UpdateDeadline::YieldCustom(_, turn)) = clock.tick(LONG * 3) {
                            let long = clock.spent() > LONG;
                            turn.await;
                            if long {
                                let now = computing.fetch_add(1, Ordering::SeqCst) + 1;
                                most.fetch_max(now, Ordering::SeqCst);
                            }
                            std::thread::sleep(TICK);
                            if long {
                                computing.fetch_sub(1, Ordering::SeqCst);
                            }
                        }
                    };
                    clock.measure(guest).await;
                })
            })
            .collect();
        for guest in guests {
            guest.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
