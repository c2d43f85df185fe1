//! A loaded plugin: what it has, and the calls that it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use coglex_services::accounts::User;
use coglex_services::caller::Credentials;
use coglex_services::grants::Grants;
use coglex_services::{Caller, Services};
use http::{Request, Response};
use tokio::sync::Semaphore;
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::admission::Admission;
use crate::ask::PluginSecret;
use crate::bindings::{function::functions, gateway::handler};
use crate::bodies::BodyMemory;
use crate::budget::Budget;
use crate::credentials;
use crate::describe::{FunctionInfo, Route};
use crate::doors::{self, Door, Failure, RequestBody, ResponseBody, RouteMatch};
use crate::egress::Tls;
use crate::error::CallError;
use crate::limits::LongLane;
use crate::nested::Directory;
use crate::reuse::Reuse;
use crate::state::InstanceState;
use crate::testing::Harness;
use crate::tiers::Tier;

/// A loaded plugin, cheap to clone. It never changes: a new file is a new
/// plugin, and calls that run on the old one keep it alive.
#[derive(Clone)]
pub struct Plugin(pub(crate) Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) digest: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) functions: Vec<FunctionInfo>,
    pub(crate) asked: Grants,
    pub(crate) granted: Grants,
    /// Its code; replaced at most once, by better code of the same component.
    pub(crate) tier: ArcSwap<Tier>,
}

/// What all calls of a plugin share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) caller: Caller,
    pub(crate) services: Services,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) secrets: BTreeMap<String, PluginSecret>,
    pub(crate) budget: Budget,
    pub(crate) admission: Admission,
    pub(crate) counts: Counts,
    pub(crate) lane: LongLane,
    pub(crate) bodies: BodyMemory,
    /// Where functions are found that it may call.
    pub(crate) directory: Directory,
    /// Its share of nested calls; see `nested`.
    pub(crate) nested: Arc<Semaphore>,
    /// Turns at the store; see `interfaces::storage`.
    pub(crate) storage: Semaphore,
    pub(crate) tls: Tls,
    /// The test that it runs for, in no server.
    pub(crate) harness: Option<Arc<Harness>>,
    /// Turns at connecting to other servers; see `egress`.
    pub(crate) connections: Arc<Semaphore>,
}

/// What calls of a plugin came to since it was loaded.
#[derive(Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    traps: AtomicU64,
    deadlines: AtomicU64,
}

impl Counts {
    /// A call has begun.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was ended by a trap or by a budget other than time.
    pub(crate) fn trap(&self) {
        self.traps.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was ended by its time budget.
    pub(crate) fn deadline(&self) {
        self.deadlines.fetch_add(1, Ordering::Relaxed);
    }
}

/// What calls of a plugin came to since it was loaded. Numbers of one moment,
/// not of one instant: calls go on while they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls that were made, those that were turned away included.
    pub calls: u64,
    /// Calls that ended in a trap: a fault, or a spent budget other than time.
    pub traps: u64,
    /// Calls that spent their time.
    pub deadlines: u64,
    /// Calls that are under way now: with nobody calling it is 0, whatever ended
    /// the calls before.
    pub running: usize,
}

/// The export that answers HTTP requests.
pub(crate) enum HttpDoor {
    None,
    Records(handler::GuestIndices, Reuse<handler::Guest>),
    WasiHttp(incoming_handler::GuestIndices),
}

/// Whose call it is.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// The request's id, for the log.
    pub request_id: String,
    /// What the request brought to show who sends it.
    pub credentials: Credentials,
    /// Users that the route's guards have looked up already.
    pub users: Vec<User>,
    /// The id of a function's call, where it has to be the same over several
    /// attempts; else one is made.
    pub invocation: Option<String>,
    /// Write hooks around the call: none around a client's.
    pub hook_depth: u8,
}

impl Plugin {
    /// Its name, which is its file's.
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// SHA-256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The routes that it declares.
    pub fn routes(&self) -> &[Route] {
        &self.0.routes
    }

    /// The functions that it declares.
    pub fn functions(&self) -> &[FunctionInfo] {
        &self.0.functions
    }

    /// How it answers HTTP requests.
    pub fn door(&self) -> Door {
        match self.0.tier.load().http {
            HttpDoor::None => Door::None,
            HttpDoor::Records(..) => Door::Records,
            HttpDoor::WasiHttp(_) => Door::WasiHttp,
        }
    }

    /// What it asks for.
    pub fn asked(&self) -> &Grants {
        &self.0.asked
    }

    /// What it may touch.
    pub fn granted(&self) -> &Grants {
        &self.0.granted
    }

    /// What a call of it may cost.
    pub fn budget(&self) -> &Budget {
        &self.0.shared.budget
    }

    /// How its calls went since it was loaded.
    pub fn counts(&self) -> CallCounts {
        let counts = &self.0.shared.counts;
        CallCounts {
            calls: counts.calls.load(Ordering::Relaxed),
            traps: counts.traps.load(Ordering::Relaxed),
            deadlines: counts.deadlines.load(Ordering::Relaxed),
            running: self.0.shared.admission.running(),
        }
    }

    /// Has it answer a request. Guards and the body's limit are the caller's to
    /// check; the server's own credentials are taken out here, for both doors.
    /// Dropping the future, or the response's body, ends the guest.
    pub async fn handle(
        &self,
        mut request: Request<RequestBody>,
        matched: RouteMatch,
        context: CallContext,
    ) -> Result<Response<ResponseBody>, CallError> {
        let shared = &self.0.shared;
        let tier = self.0.tier.load_full();
        let Tier { pre, http, .. } = &*tier;
        shared.counts.call();
        credentials::strip(request.headers_mut(), &shared.services.accounts);
        match http {
            HttpDoor::Records(door, reuse) => {
                let door = (door, reuse);
                doors::records::handle(shared, pre, door, request, matched, context).await
            }
            HttpDoor::WasiHttp(door) => {
                doors::wasi_http::handle(shared, pre, door, request, matched, context).await
            }
            HttpDoor::None => Err(CallError::InvalidRequest(
                "This plugin answers no requests.".to_owned(),
            )),
        }
    }

    /// Checks arguments against what one of its functions declares, without running
    /// it; hands them back.
    pub async fn check(
        &self,
        function: &str,
        args: String,
        kwargs: String,
    ) -> Result<(String, String), CallError> {
        let info = self.functions().iter().find(|info| info.name == function);
        match info {
            Some(info) => doors::function::check(info, args, kwargs).await,
            None => Ok((args, kwargs)),
        }
    }

    /// Runs one of its functions. `args` is a JSON array and `kwargs` a JSON
    /// object; the answer is the guest's text, which should be JSON.
    pub async fn run(
        &self,
        function: &str,
        args: String,
        kwargs: String,
        context: CallContext,
    ) -> Result<Result<String, Failure>, CallError> {
        let Loaded {
            shared,
            functions,
            tier,
            ..
        } = &*self.0;
        let tier = tier.load_full();
        let Tier {
            pre,
            function: door,
            ..
        } = &*tier;
        let info = functions.iter().find(|info| info.name == function);
        match (door, info) {
            (Some(door), Some(info)) => {
                shared.counts.call();
                let (args, kwargs) = doors::function::check(info, args, kwargs).await?;
                doors::function::call(shared, pre, door, function, args, kwargs, context).await
            }
            _ => Err(CallError::InvalidRequest(
                "There is no function of this name.".to_owned(),
            )),
        }
    }
}

impl Plugin {
    /// What it takes to run one of its functions.
    pub(crate) fn function_door(
        &self,
        function: &str,
    ) -> Option<(
        &Arc<Shared>,
        InstancePre<InstanceState>,
        functions::GuestIndices,
        &FunctionInfo,
    )> {
        let loaded = &*self.0;
        let mut known = loaded.functions.iter();
        let info = known.find(|info| info.name == function)?;
        let tier = loaded.tier.load();
        let door = tier.function.clone()?;
        loaded.shared.counts.call();
        Some((&loaded.shared, tier.pre.clone(), door, info))
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}
