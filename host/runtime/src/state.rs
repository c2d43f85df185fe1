//! What one call owns: the data of its store. Made for a call, dropped after it,
//! whatever happened; never used twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coglex_services::accounts::User;
use coglex_services::caller::Credentials;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    RequestOptions, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::budget::Budget;
use crate::limits::{Allocations, CpuClock, Quota, Spent};
use crate::output::{GuestLog, Output, Stream};
use crate::plugin::{CallContext, Shared};

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
    phase: Phase,
    quota: Quota,
    allocations: Allocations,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    egress: NoEgress,
}

/// Who is served.
pub(crate) struct Call {
    pub(crate) request_id: Arc<str>,
    pub(crate) credentials: Credentials,
    /// Users that guards, or the guest before, have looked up.
    pub(crate) users: Vec<User>,
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
    let log = Arc::new(GuestLog::new(
        Arc::clone(&shared.name),
        Arc::clone(&request_id),
        budget.log_bytes,
    ));
    let allocations = Allocations::new(budget);
    let watch = Watch {
        request_id: Arc::clone(&request_id),
        clock: Arc::new(CpuClock::new(shared.lane.clone())),
        log: Arc::clone(&log),
        memory_refused: allocations.refused(),
    };
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let state = InstanceState {
        shared: Arc::clone(shared),
        call: Call {
            request_id,
            credentials: context.credentials,
            users: context.users,
            deadline: Instant::now() + budget.wall,
        },
        wasi: wasi(&log),
        log,
        table,
        cursors: 0,
        phase,
        quota: Quota::new(budget),
        allocations,
        http: WasiHttpCtx::new(),
        egress: NoEgress,
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
    store.set_epoch_deadline(1);
    let clock = Arc::clone(&watch.clock);
    let cpu = budget.cpu;
    store.epoch_deadline_callback(move |_| clock.tick(cpu));
    (store, watch)
}

/// WASI without arguments, environment, files or network; standard output and
/// error go to the log.
fn wasi(log: &Arc<GuestLog>) -> WasiCtx {
    WasiCtx::builder()
        .stdout(Output::new(Arc::clone(log), Stream::Out))
        .stderr(Output::new(Arc::clone(log), Stream::Err))
        .max_random_size(MAX_RANDOM)
        // Second walls: no socket interface is linked, see `link`.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
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
            ctx: &mut self.wasi,
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

/// Refuses every outgoing request. Guests of the standard proxy world import
/// `wasi:http/outgoing-handler` whether they use it or not, so it is linked, and
/// answers `HTTP-request-denied`.
struct NoEgress;

type Body = UnsyncBoxBody<bytes::Bytes, wasmtime_wasi_http::Error>;
type Ending = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;

impl WasiHttpHooks for NoEgress {
    fn send_request(
        &mut self,
        _request: http::Request<Body>,
        _options: Option<RequestOptions>,
        _sent: Ending,
    ) -> Box<
        dyn Future<Output = Result<(http::Response<Body>, Ending), wasmtime_wasi_http::Error>>
            + Send,
    > {
        Box::new(std::future::ready(Err(
            wasmtime_wasi_http::Error::HttpRequestDenied,
        )))
    }

    // Two chunks of 64 KiB in flight rather than one of 1 MiB: less held for a
    // client that reads slowly.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        64 * 1024
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        2
    }
}
