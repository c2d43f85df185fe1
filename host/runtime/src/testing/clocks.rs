//! WASI's clocks by the time of a test. They stand still but for who moves them:
//! the test, and whoever sleeps. A sleep takes no time and is over at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use super::Harness;
use crate::state::InstanceState;

const RESOLUTION: Duration = Duration::from_millis(1);

/// Has a guest's context go by the harness's time.
pub(crate) fn set(context: &mut WasiCtxBuilder, harness: &Arc<Harness>) {
    context
        .wall_clock(Time(Arc::clone(harness)))
        .monotonic_clock(Time(Arc::clone(harness)));
}

/// Puts our own monotonic clock in the place of WASI's, whose sleeps take their
/// time whatever the clock says. The linker has to allow shadowing.
pub(crate) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    monotonic_clock::add_to_linker::<_, Clocks>(linker, |state| Ticking(state))
}

struct Time(Arc<Harness>);

impl HostWallClock for Time {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        // WASI's clock begins with 1970.
        let millis = self.0.now().timestamp_millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl HostMonotonicClock for Time {
    fn resolution(&self) -> u64 {
        u64::try_from(RESOLUTION.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        self.0.elapsed()
    }
}

struct Clocks;

impl HasData for Clocks {
    type Data<'a> = Ticking<'a>;
}

struct Ticking<'a>(&'a mut InstanceState);

impl Ticking<'_> {
    fn elapsed(&self) -> u64 {
        let harness = self.0.shared.harness.as_ref();
        harness.map_or(0, |harness| harness.elapsed())
    }

    fn wake_at(&mut self, until: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let sleep = Sleep {
            harness: self.0.shared.harness.clone(),
            until,
        };
        let sleep = self.0.table.push(sleep)?;
        subscribe(&mut self.0.table, sleep)
    }
}

impl monotonic_clock::Host for Ticking<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.elapsed())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(RESOLUTION.as_nanos()).unwrap_or(u64::MAX))
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wake_at(when)
    }

    fn subscribe_duration(&mut self, time: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wake_at(self.elapsed().saturating_add(time))
    }
}

/// Waits by moving the clock to where it waits for.
struct Sleep {
    harness: Option<Arc<Harness>>,
    until: u64,
}

#[async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        // Whatever else is waited for at the same time comes first if it is there.
        tokio::task::yield_now().await;
        if let Some(harness) = &self.harness {
            let left = Duration::from_nanos(self.until.saturating_sub(harness.elapsed()));
            // Rounded up to the resolution, so that the time is over afterwards.
            let millis = left.as_nanos().div_ceil(RESOLUTION.as_nanos());
            harness.advance(Duration::from_millis(
                u64::try_from(millis).unwrap_or(u64::MAX),
            ));
        }
    }
}
