//! What one call owns: the data of its store. Made for a call and dropped after
//! it, whatever happened; used for another only where the plugin asks for that
//! (see `reuse`) and the call has ended well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coglex_services::Caller;
use coglex_services::accounts::User;
use coglex_services::caller::Credentials;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::budget::Budget;
use crate::egress::Egress;
use crate::limits::{Allocations, CpuClock, Quota, Spent};
use crate::output::{GuestLog, Output, Stream};
use crate::plugin::{CallContext, Shared};
use crate::testing::clocks;

/// Handles that a guest may hold at once: streams, bodies, cursors, pollables.
const MAX_HANDLES: usize = 1_000;
/// Random bytes of one call of `wasi:random`. A guest that wants more asks again.
const MAX_RANDOM: u64 = 1024 * 1024;

/// Whether a call may use what the plugin was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `describe()` at load: nothing but the log.
    Describe,
    /// A client's call.
    Serve,
}

/// The data of a store.
pub(crate) struct InstanceState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) call: Call,
    pub(crate) log: Arc<GuestLog>,
    pub(crate) table: ResourceTable,
    /// Cursors that are open.
    pub(crate) cursors: usize,
    /// What the guest has computed.
    pub(crate) clock: Arc<CpuClock>,
    phase: Phase,
    pub(crate) quota: Quota,
    allocations: Allocations,
    /// Made when it is first asked for: a guest that prints nothing and asks for
    /// no time has no use for it, and making it is a tenth of a short call.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    pub(crate) egress: Egress,
}

/// Who is served.
pub(crate) struct Call {
    pub(crate) request_id: Arc<str>,
    pub(crate) credentials: Credentials,
    /// Users that guards, or the guest before, have looked up.
    pub(crate) users: Vec<User>,
    /// As whom it asks services, once that was asked.
    pub(crate) caller: Option<Caller>,
    /// Calls around it: none around a client's.
    pub(crate) depth: u8,
    /// Write hooks around it: none around a client's.
    pub(crate) hook_depth: u8,
    /// What it may compute, which is less than its plugin's budget where the
    /// guest before has spent some.
    cpu: Duration,
    /// When the call is cut.
    deadline: Instant,
}

/// What is known of a call from outside of its store, during and after it.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) request_id: Arc<str>,
    pub(crate) clock: Arc<CpuClock>,
    pub(crate) log: Arc<GuestLog>,
    memory_refused: Arc<AtomicBool>,
}

impl Watch {
    /// Whether the guest wanted more memory than it may have.
    pub(crate) fn memory_refused(&self) -> bool {
        self.memory_refused.load(Ordering::Relaxed)
    }
}

/// A fresh store for one call, and the way to watch it.
pub(crate) fn store(
    engine: &Engine,
    shared: &Arc<Shared>,
    phase: Phase,
    budget: &Budget,
    context: CallContext,
) -> (Store<InstanceState>, Watch) {
    let request_id: Arc<str> = context.request_id.into();
    let log = GuestLog::new(
        Arc::clone(&shared.name),
        Arc::clone(&request_id),
        budget.log_bytes,
    );
    let log = Arc::new(log.heard_by(shared.harness.clone()));
    let allocations = Allocations::new(budget);
    let watch = Watch {
        request_id: Arc::clone(&request_id),
        clock: Arc::new(CpuClock::new(shared.lane.clone())),
        log: Arc::clone(&log),
        memory_refused: allocations.refused(),
    };
    let deadline = Instant::now() + budget.wall;
    let egress = Egress::new(shared, &request_id, phase, budget, deadline);
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let state = InstanceState {
        shared: Arc::clone(shared),
        call: Call {
            request_id,
            credentials: context.credentials,
            users: context.users,
            caller: None,
            depth: 0,
            hook_depth: context.hook_depth,
            cpu: budget.cpu,
            deadline,
        },
        clock: Arc::clone(&watch.clock),
        wasi: None,
        log,
        table,
        cursors: 0,
        phase,
        quota: Quota::new(budget),
        allocations,
        http: WasiHttpCtx::new(),
        egress,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.allocations);
    // What a single call between guest and host can make the host allocate: the
    // larger of its arguments and its answer, and some room for their frames.
    let arguments = usize::try_from(budget.host_call_bytes).unwrap_or(usize::MAX);
    store.set_hostcall_fuel(
        arguments
            .max(budget.response_bytes)
            .saturating_add(64 * 1024),
    );
    store.set_max_component_handles(MAX_HANDLES);
    run_by(&mut store, &watch.clock, budget.cpu);
    (store, watch)
}

/// Makes a store that has served a call ready for another.
pub(crate) fn renew(
    store: &mut Store<InstanceState>,
    shared: &Shared,
    context: CallContext,
) -> Watch {
    let budget = &shared.budget;
    let request_id: Arc<str> = context.request_id.into();
    let deadline = Instant::now() + budget.wall;
    let state = store.data_mut();
    state.log.begin(Arc::clone(&request_id), budget.log_bytes);
    let watch = Watch {
        request_id: Arc::clone(&request_id),
        clock: Arc::new(CpuClock::new(shared.lane.clone())),
        log: Arc::clone(&state.log),
        memory_refused: state.allocations.refused(),
    };
    let shared = &state.shared;
    state.egress = Egress::new(shared, &request_id, state.phase, budget, deadline);
    state.quota = Quota::new(budget);
    state.call = Call {
        request_id,
        credentials: context.credentials,
        users: context.users,
        caller: None,
        depth: 0,
        hook_depth: context.hook_depth,
        cpu: budget.cpu,
        deadline,
    };
    state.clock = Arc::clone(&watch.clock);
    run_by(store, &watch.clock, budget.cpu);
    watch
}

/// Has the guest yield at every epoch, and stop when the clock says so.
fn run_by(store: &mut Store<InstanceState>, clock: &Arc<CpuClock>, cpu: Duration) {
    store.set_epoch_deadline(1);
    let clock = Arc::clone(clock);
    store.epoch_deadline_callback(move |_| clock.tick(cpu));
}

/// WASI without arguments, environment, files or network; standard output and
/// error go to the log.
fn wasi(shared: &Shared, log: &Arc<GuestLog>) -> WasiCtx {
    wasi_builder(shared)
        .stdout(Output::new(Arc::clone(log), Stream::Out))
        .stderr(Output::new(Arc::clone(log), Stream::Err))
        .build()
}

/// The same, whose output goes nowhere yet.
pub(crate) fn wasi_builder(shared: &Shared) -> WasiCtxBuilder {
    let mut builder = WasiCtx::builder();
    builder
        .max_random_size(MAX_RANDOM)
        // The wall: socket interfaces are linked, see `link`, but without these
        // no socket can be made and no name looked up.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if let Some(harness) = &shared.harness {
        clocks::set(&mut builder, harness);
    }
    builder
}

impl InstanceState {
    /// Counts a host call that brings `bytes`. Every host function that does
    /// work calls it first.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), Spent> {
        if self.phase == Phase::Describe {
            return Err(Spent::DescribeOnly);
        }
        self.quota.call(bytes)
    }

    /// Gives it another WASI than plugins have.
    pub(crate) fn set_wasi(&mut self, wasi: WasiCtx) {
        self.wasi = Some(wasi);
    }

    /// What the guest may still compute.
    pub(crate) fn cpu_left(&self) -> Duration {
        self.call.cpu.saturating_sub(self.clock.spent())
    }

    /// Counts the bytes of a host call's answer.
    pub(crate) fn carry(&mut self, bytes: usize) -> Result<(), Spent> {
        self.quota.carry(bytes)
    }
}

impl Call {
    /// The time that the call has left: a store need not work longer than that.
    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: self
                .wasi
                .get_or_insert_with(|| wasi(&self.shared, &self.log)),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.egress,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
