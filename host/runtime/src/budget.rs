//! What one call may cost. Every plugin has a budget, on by default; the plugin
//! can ask for more, up to what the operator lets it have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: usize = 1024 * 1024;

/// The limits of one call, and of the calls of one plugin together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Linear memory of the guest, all of its memories together.
    pub memory_bytes: usize,
    /// Time that the guest computes. Waiting for a host function is free.
    pub cpu: Duration,
    /// Time from the start of the call to its end, a streamed body included.
    pub wall: Duration,
    /// Calls of host functions that do work (storage, auth, settings).
    pub host_calls: u64,
    /// Bytes that host functions take and give.
    pub host_call_bytes: u64,
    /// Bytes of the response body or of a function's result.
    pub response_bytes: usize,
    /// Bytes of log, standard output and standard error of one call.
    pub log_bytes: usize,
    /// Bytes that its keys and values may take in the store.
    pub kv_bytes: u64,
    /// Calls of this plugin that run at once; never more than half of the
    /// runtime's instances.
    pub concurrency: usize,
    /// Calls that may wait for one of those to end.
    pub queue: usize,
    /// How long they wait before they are turned away.
    pub queue_wait: Duration,
    /// Calls that one instance serves, one after the other; with 0 and 1 each has
    /// a fresh one. Not a limit, so no ceiling lowers it: what leaks from a call
    /// to the next is the plugin's own.
    pub reuse: u32,
}

/// What the settings (`plugins.budget.*`) say when nobody has set them. In the
/// server they decide; these are for who embeds or tests the runtime, and agree.
impl Default for Budget {
    fn default() -> Self {
        Self {
            memory_bytes: 128 * MIB,
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(30),
            host_calls: 1_000,
            host_call_bytes: 64 * MIB as u64,
            response_bytes: 16 * MIB,
            log_bytes: 64 * 1024,
            kv_bytes: 64 * MIB as u64,
            concurrency: 256,
            queue: 256,
            queue_wait: Duration::from_secs(1),
            reuse: 0,
        }
    }
}

/// Changes to a budget, as they stand in a `[budget]` table. What is absent
/// stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOverrides {
    /// [`Budget::memory_bytes`] in MiB.
    pub memory_mib: Option<u32>,
    /// [`Budget::cpu`] in milliseconds.
    pub cpu_ms: Option<u32>,
    /// [`Budget::wall`] in milliseconds.
    pub wall_ms: Option<u32>,
    /// [`Budget::host_calls`].
    pub host_calls: Option<u32>,
    /// [`Budget::host_call_bytes`] in MiB.
    pub host_call_mib: Option<u32>,
    /// [`Budget::response_bytes`] in MiB.
    pub response_mib: Option<u32>,
    /// [`Budget::log_bytes`] in KiB.
    pub log_kib: Option<u32>,
    /// [`Budget::kv_bytes`] in MiB.
    pub kv_mib: Option<u32>,
    /// [`Budget::concurrency`].
    pub concurrency: Option<u32>,
    /// [`Budget::queue`].
    pub queue: Option<u32>,
    /// [`Budget::queue_wait`] in milliseconds.
    pub queue_wait_ms: Option<u32>,
    /// [`Budget::reuse`].
    pub reuse: Option<u32>,
}

impl Budget {
    /// This budget with some of its limits replaced.
    #[must_use]
    pub fn with(mut self, overrides: &BudgetOverrides) -> Self {
        let millis = |ms: u32| Duration::from_millis(u64::from(ms));
        let mib = |mib: u32| (mib as usize).saturating_mul(MIB);
        set(&mut self.memory_bytes, overrides.memory_mib.map(mib));
        set(&mut self.cpu, overrides.cpu_ms.map(millis));
        set(&mut self.wall, overrides.wall_ms.map(millis));
        set(&mut self.host_calls, overrides.host_calls.map(u64::from));
        set(
            &mut self.host_call_bytes,
            overrides.host_call_mib.map(|n| mib(n) as u64),
        );
        set(&mut self.response_bytes, overrides.response_mib.map(mib));
        set(
            &mut self.log_bytes,
            overrides
                .log_kib
                .map(|kib| (kib as usize).saturating_mul(1024)),
        );
        set(&mut self.kv_bytes, overrides.kv_mib.map(|n| mib(n) as u64));
        set(
            &mut self.concurrency,
            overrides.concurrency.map(|n| n as usize),
        );
        set(&mut self.queue, overrides.queue.map(|n| n as usize));
        set(&mut self.queue_wait, overrides.queue_wait_ms.map(millis));
        set(&mut self.reuse, overrides.reuse);
        self
    }

    /// This budget with no limit above that of `max`.
    #[must_use]
    pub fn at_most(self, max: &Budget) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(max.memory_bytes),
            cpu: self.cpu.min(max.cpu),
            wall: self.wall.min(max.wall),
            host_calls: self.host_calls.min(max.host_calls),
            host_call_bytes: self.host_call_bytes.min(max.host_call_bytes),
            response_bytes: self.response_bytes.min(max.response_bytes),
            log_bytes: self.log_bytes.min(max.log_bytes),
            kv_bytes: self.kv_bytes.min(max.kv_bytes),
            concurrency: self.concurrency.min(max.concurrency),
            queue: self.queue.min(max.queue),
            queue_wait: self.queue_wait.min(max.queue_wait),
            reuse: self.reuse,
        }
    }

    /// The budget for `describe()`, which has nothing to compute or to wait for:
    /// a component that hangs there must not hold up the others at start.
    pub(crate) fn for_describe(&self) -> Self {
        Self {
            cpu: self.cpu.min(Duration::from_secs(2)),
            wall: self.wall.min(Duration::from_secs(5)),
            ..self.clone()
        }
    }
}

fn set<T>(limit: &mut T, replacement: Option<T>) {
    if let Some(replacement) = replacement {
        *limit = replacement;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_what_they_name_and_nothing_else() {
        let overrides: BudgetOverrides = toml::from_str("memory_mib = 1\ncpu_ms = 5").unwrap();
        let budget = Budget::default().with(&overrides);
        assert_eq!(budget.memory_bytes, MIB);
        assert_eq!(budget.cpu, Duration::from_millis(5));
        assert_eq!(budget.wall, Budget::default().wall);
    }

    #[test]
    fn a_ceiling_lowers_every_limit_above_it() {
        let greedy = Budget::default().with(&BudgetOverrides {
            memory_mib: Some(4096),
            concurrency: Some(1),
            ..BudgetOverrides::default()
        });
        let capped = greedy.at_most(&Budget::default());
        assert_eq!(capped.memory_bytes, Budget::default().memory_bytes);
        assert_eq!(capped.concurrency, 1);
    }

    #[test]
    fn an_unknown_limit_is_refused() {
        assert!(toml::from_str::<BudgetOverrides>("memory = 1").is_err());
    }
}
