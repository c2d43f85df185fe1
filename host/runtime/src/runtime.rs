//! Loads components: compile or take from the cache, read what they ask for,
//! link what they are granted, have them describe themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coglex_services::caller::{Credentials, PluginCaller};
use coglex_services::grants::Grants;
use coglex_services::{Caller, Services};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::admission::{Admission, Instances};
use crate::ask::{Allow, Ask, Policy, effective_budget};
use crate::bindings::function::{declarations, functions};
use crate::bindings::gateway::{app, handler};
use crate::bindings::payment_events;
use crate::bodies::BodyMemory;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::describe::{self, FunctionInfo, Route};
use crate::doors;
use crate::egress::{MAX_CONNECTIONS, Tls};
use crate::engine;
use crate::error::{LoadError, RuntimeError};
use crate::interfaces::storage::MAX_AT_STORE;
use crate::limits::LongLane;
use crate::link;
use crate::nested::{self, Directory, FindFunction};
use crate::plugin::{CallContext, Counts, HttpDoor, Loaded, Plugin, Shared};
use crate::reuse::Reuse;
use crate::state::{InstanceState, Phase, Watch, store};
use crate::testing::{Harness, Tested};
use crate::tiers::{self, Quick, Tier, Unhurried};

/// Bytes that a component may have. One with an interpreter in it has some 40 MB.
pub const MAX_WASM: usize = 128 * 1024 * 1024;

/// How long a load waits for a place to `describe` in.
const DESCRIBE_WAIT: Duration = Duration::from_secs(10);

/// Settings of the runtime.
#[derive(Debug, Clone)]
pub struct RuntimeSettings {
    /// Where compiled components are kept; nowhere if absent.
    pub cache_dir: Option<PathBuf>,
    /// Whether a component is compiled quickly when it is loaded, and well a little
    /// later.
    pub quick_first: bool,
    /// Calls that run at once, of all plugins. One plugin gets half of them at
    /// most, and a plugin that is being loaded has a place beside them.
    pub max_instances: u32,
    /// Bytes of request bodies that are held whole at once, for all plugins;
    /// past it a request is turned away. Bodies that stream to a guest are not
    /// held.
    pub body_memory: usize,
    /// A PEM file of certificate authorities that are believed when guests send
    /// requests, beside those that browsers believe.
    pub egress_authorities: Option<PathBuf>,
    /// The budget of a call, unless plugin and operator say otherwise.
    pub budget: Budget,
    /// What a plugin can ask for at most; the default budget if absent.
    pub max_budget: Option<Budget>,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            quick_first: false,
            max_instances: 512,
            body_memory: 256 * 1024 * 1024,
            egress_authorities: None,
            budget: Budget::default(),
            max_budget: None,
        }
    }
}

/// The runtime, cheap to clone. One for each process.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// Where new versions are to serve soon.
    quick: Option<Quick>,
    cache: Option<Arc<Cache>>,
    settings: RuntimeSettings,
    services: Services,
    lane: LongLane,
    bodies: BodyMemory,
    instances: Instances,
    directory: Directory,
    tls: Tls,
    /// What the pool's slots can hold.
    max_memory: usize,
    /// The test that all of this is for, in no server.
    harness: Option<Arc<Harness>>,
}

impl Runtime {
    /// An engine with its pool, its cache and its ticker. Blocks shortly.
    pub fn new(settings: RuntimeSettings, services: Services) -> Result<Self, RuntimeError> {
        let ceiling = settings
            .max_budget
            .as_ref()
            .map_or(0, |budget| budget.memory_bytes);
        let max_memory = settings.budget.memory_bytes.max(ceiling);
        let engine = engine::engine(settings.max_instances, max_memory)?;
        let quick = match settings.quick_first {
            true => Some(Quick::new(max_memory)?),
            false => None,
        };
        engine::start_ticker(&engine)?;
        let cache = settings
            .cache_dir
            .clone()
            .map(|dir| Cache::new(dir, &engine).map(Arc::new))
            .transpose()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let lane = LongLane::new(cores);
        let bodies = BodyMemory::new(settings.body_memory);
        let instances = Instances::new(settings.max_instances);
        let tls = Tls::new(settings.egress_authorities.as_deref())?;
        Ok(Self(Arc::new(Inner {
            engine,
            quick,
            cache,
            settings,
            services,
            lane,
            bodies,
            instances,
            directory: Directory::default(),
            tls,
            max_memory,
            harness: None,
        })))
    }

    /// A runtime for one test, over services of its own. It shares the engine with
    /// this one; what is loaded here is not known there.
    #[must_use]
    pub fn for_test(&self, services: Services, harness: Arc<Harness>) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            engine: inner.engine.clone(),
            quick: inner.quick.clone(),
            cache: inner.cache.clone(),
            settings: inner.settings.clone(),
            services,
            lane: inner.lane.clone(),
            bodies: inner.bodies.clone(),
            instances: inner.instances.clone(),
            directory: Directory::default(),
            tls: inner.tls.clone(),
            max_memory: inner.max_memory,
            harness: Some(harness),
        }))
    }

    /// Compiles a component that is no plugin.
    pub(crate) async fn compile_only(&self, wasm: Vec<u8>) -> Result<Component, LoadError> {
        let inner = Arc::clone(&self.0);
        let compiled = tokio::task::spawn_blocking(move || inner.compile(wasm, false, false)).await;
        let compiled = compiled.map_err(|error| LoadError::Internal(error.into()))??;
        Ok(compiled.component)
    }

    /// What the calls of a plugin share, for its tests.
    pub(crate) fn share_tests(&self, tested: &Tested) -> Arc<Shared> {
        let granted = tested.policy.allow.grant(&tested.ask.grants);
        let policy = tested.policy.clone();
        self.0.share(&tested.name, &tested.ask, &granted, policy)
    }

    /// Says where functions are found that guests call. Once; who keeps plugins
    /// does it.
    pub fn find_functions_by(&self, find: FindFunction) {
        self.0.directory.set(find);
    }

    /// Loads a component. `beside` is the text of `NAME.toml`, where there is
    /// one: it takes the place of what the component carries in itself.
    pub async fn load(
        &self,
        name: &str,
        wasm: Vec<u8>,
        beside: Option<&str>,
        policy: Policy,
    ) -> Result<Plugin, LoadError> {
        let inner = Arc::clone(&self.0);
        let embed = beside.is_none();
        // Compilation takes up to seconds of all cores.
        let compiled = tokio::task::spawn_blocking(move || inner.compile(wasm, embed, true)).await;
        let compiled = compiled.map_err(|error| LoadError::Internal(error.into()))??;
        let ask = match beside.or(compiled.ask.as_deref()) {
            Some(text) => Ask::parse(text)?,
            None => Ask::default(),
        };
        let granted = policy.allow.grant(&ask.grants);
        let in_test = self.0.harness.is_some();
        let pre = link::link(&compiled.component, &ask.grants, &granted, in_test)?;
        let exports = Exports::find(&pre)?;
        let shared = self.0.share(name, &ask, &granted, policy);
        let place = self.0.instances.describe(DESCRIBE_WAIT).await;
        let place = place.ok_or(LoadError::Busy)?;
        let routes = match &exports.app {
            Some(app) => self.0.routes(&shared, &pre, app).await?,
            None => Vec::new(),
        };
        let functions = match &exports.functions {
            Some(functions) => {
                let infos = self.0.functions(&shared, &pre, functions).await?;
                let mut infos = match &exports.declarations {
                    Some(door) => {
                        let declared = self.0.declared(&shared, &pre, door).await?;
                        declare(infos, declared, granted.clone()).await?
                    }
                    None => infos,
                };
                if let Some(door) = &exports.events {
                    let wanted = self.0.events(&shared, &pre, door).await?;
                    describe::add_events(&mut infos, wanted, &granted)?;
                }
                infos
            }
            None => Vec::new(),
        };
        drop(place);
        let loaded = Arc::new(Loaded {
            shared,
            digest: compiled.digest.clone(),
            routes,
            functions,
            asked: Allow::Everything.grant(&ask.grants),
            granted,
            tier: ArcSwap::from_pointee(exports.tier(pre)),
        });
        if let (Some(quick), Some(wasm)) = (&self.0.quick, compiled.in_a_hurry) {
            let work = Unhurried {
                wasm,
                digest: compiled.digest,
                engine: self.0.engine.clone(),
                cache: self.0.cache.clone(),
                asked: ask.grants,
            };
            quick.improve_later(&loaded, work);
        }
        Ok(Plugin(loaded))
    }
}

/// What the blocking part of a load gives.
struct Compiled {
    component: Component,
    digest: String,
    ask: Option<String>,
    /// What it was compiled of, where that was done quickly.
    in_a_hurry: Option<Vec<u8>>,
}

impl Inner {
    /// `may_hurry`: whether it is enough to compile it quickly.
    fn compile(&self, wasm: Vec<u8>, embed: bool, may_hurry: bool) -> Result<Compiled, LoadError> {
        check_kind(&wasm)?;
        let ask = if embed { Ask::embedded(&wasm)? } else { None };
        let digest = hex::encode(Sha256::digest(&wasm));
        let cached = self
            .cache
            .as_ref()
            .and_then(|cache| cache.get(&self.engine, &digest));
        let is_new = cached.is_none();
        let quick = self.quick.as_ref().filter(|_| may_hurry && is_new);
        let quickly = match quick {
            Some(quick) => quick.compile(&self.engine, &wasm)?,
            None => None,
        };
        let is_quick = quickly.is_some();
        let component = match cached.or(quickly) {
            Some(component) => {
                // Now rather than during the first call.
                component
                    .initialize_copy_on_write_image()
                    .map_err(|error| LoadError::Internal(error.into()))?;
                component
            }
            None => tiers::compile(&self.engine, self.cache.as_deref(), &wasm, &digest)?,
        };
        Ok(Compiled {
            component,
            digest,
            ask,
            in_a_hurry: is_quick.then_some(wasm),
        })
    }

    fn share(&self, name: &str, ask: &Ask, granted: &Grants, policy: Policy) -> Arc<Shared> {
        let Policy {
            settings,
            secrets,
            budget: operator,
            default_budget,
            max_budget,
            ..
        } = policy;
        let default = default_budget.as_ref().unwrap_or(&self.settings.budget);
        let ceiling = max_budget.as_ref().or(self.settings.max_budget.as_ref());
        let mut budget = effective_budget(default, ceiling, &ask.budget, operator.as_ref());
        if budget.memory_bytes > self.max_memory {
            tracing::warn!(
                plugin.name = name,
                "its memory budget is more than the {} bytes that a guest's place has; see the largest budget",
                self.max_memory
            );
            budget.memory_bytes = self.max_memory;
        }
        let caller = PluginCaller {
            kv_bytes: budget.kv_bytes,
            ..PluginCaller::new(name, granted.clone())
        };
        Arc::new(Shared {
            name: name.into(),
            caller: Caller::Plugin(Arc::new(caller)),
            services: self.services.clone(),
            settings,
            secrets,
            counts: Counts::default(),
            admission: Admission::new(&budget, self.instances.clone()),
            lane: self.lane.clone(),
            bodies: self.bodies.clone(),
            directory: self.directory.clone(),
            nested: Arc::new(Semaphore::new(nested::SHARE)),
            storage: Semaphore::new(MAX_AT_STORE),
            tls: self.tls.clone(),
            harness: self.harness.clone(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            budget,
        })
    }

    async fn routes(
        &self,
        shared: &Arc<Shared>,
        pre: &InstancePre<InstanceState>,
        app: &app::GuestIndices,
    ) -> Result<Vec<Route>, LoadError> {
        let (mut store, watch, budget) = self.describing(shared);
        let described = doors::attempt(&watch, budget.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            let guest = app.load(&mut store, &instance)?;
            guest.call_describe(&mut store).await
        });
        let manifest = described
            .await
            .map_err(|ending| ending.as_load_error(&watch))?;
        // Compiles schemas.
        tokio::task::spawn_blocking(move || describe::routes(manifest))
            .await
            .map_err(|error| LoadError::Internal(error.into()))?
    }

    async fn functions(
        &self,
        shared: &Arc<Shared>,
        pre: &InstancePre<InstanceState>,
        functions: &functions::GuestIndices,
    ) -> Result<Vec<FunctionInfo>, LoadError> {
        let (mut store, watch, budget) = self.describing(shared);
        let described = doors::attempt(&watch, budget.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            let guest = functions.load(&mut store, &instance)?;
            guest.call_describe(&mut store).await
        });
        let infos = described
            .await
            .map_err(|ending| ending.as_load_error(&watch))?;
        describe::functions(infos)
    }

    async fn declared(
        &self,
        shared: &Arc<Shared>,
        pre: &InstancePre<InstanceState>,
        declarations: &declarations::GuestIndices,
    ) -> Result<Vec<declarations::Declaration>, LoadError> {
        let (mut store, watch, budget) = self.describing(shared);
        let declared = doors::attempt(&watch, budget.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            let guest = declarations.load(&mut store, &instance)?;
            guest.call_declare(&mut store).await
        });
        declared
            .await
            .map_err(|ending| ending.as_load_error(&watch))
    }

    async fn events(
        &self,
        shared: &Arc<Shared>,
        pre: &InstancePre<InstanceState>,
        events: &payment_events::GuestIndices,
    ) -> Result<Vec<payment_events::Subscription>, LoadError> {
        let (mut store, watch, budget) = self.describing(shared);
        let declared = doors::attempt(&watch, budget.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            let guest = events.load(&mut store, &instance)?;
            guest.call_declare_events(&mut store).await
        });
        declared
            .await
            .map_err(|ending| ending.as_load_error(&watch))
    }

    /// A store for `describe()`: nobody calls, and only the log answers.
    fn describing(&self, shared: &Arc<Shared>) -> (wasmtime::Store<InstanceState>, Watch, Budget) {
        let budget = shared.budget.for_describe();
        let context = CallContext {
            request_id: "describe".to_owned(),
            credentials: Credentials::default(),
            users: Vec::new(),
            ..CallContext::default()
        };
        let (store, watch) = store(&self.engine, shared, Phase::Describe, &budget, context);
        (store, watch, budget)
    }
}

/// Compiles schemas.
async fn declare(
    functions: Vec<FunctionInfo>,
    declared: Vec<declarations::Declaration>,
    granted: Grants,
) -> Result<Vec<FunctionInfo>, LoadError> {
    tokio::task::spawn_blocking(move || describe::add_declarations(functions, declared, &granted))
        .await
        .map_err(|error| LoadError::Internal(error.into()))?
}

fn check_kind(wasm: &[u8]) -> Result<(), LoadError> {
    if wasm.len() > MAX_WASM {
        return Err(LoadError::TooLarge {
            bytes: wasm.len(),
            limit: MAX_WASM,
        });
    }
    if wasmparser::Parser::is_component(wasm) {
        Ok(())
    } else if wasmparser::Parser::is_core_wasm(wasm) {
        Err(LoadError::CoreModule)
    } else {
        Err(LoadError::NotWasm)
    }
}

/// The exports that can be called.
pub(crate) struct Exports {
    app: Option<app::GuestIndices>,
    functions: Option<functions::GuestIndices>,
    declarations: Option<declarations::GuestIndices>,
    events: Option<payment_events::GuestIndices>,
    http: HttpDoor,
}

impl Exports {
    /// Its code with its doors.
    pub(crate) fn tier(self, pre: InstancePre<InstanceState>) -> Tier {
        Tier {
            pre,
            http: self.http,
            function: self.functions,
        }
    }

    pub(crate) fn find(pre: &InstancePre<InstanceState>) -> Result<Self, LoadError> {
        const APP: &str = "coglex:gateway/app@0.1.0";
        const HANDLER: &str = "coglex:gateway/handler@0.1.0";
        const WASI: &str = "wasi:http/incoming-handler@0.2.0";
        const FUNCTIONS: &str = "coglex:function/functions@0.1.0";
        const DECLARATIONS: &str = "coglex:function/declarations@0.1.0";
        const EVENTS: &str = "coglex:payment/events@0.1.0";
        let has = |name: &str| pre.component().get_export_index(None, name).is_some();
        let misfit = |error: wasmtime::Error| LoadError::Link(error.into());

        let app = has(APP)
            .then(|| app::GuestIndices::new(pre))
            .transpose()
            .map_err(misfit)?;
        let functions = has(FUNCTIONS)
            .then(|| functions::GuestIndices::new(pre))
            .transpose()
            .map_err(misfit)?;
        let declarations = has(DECLARATIONS)
            .then(|| declarations::GuestIndices::new(pre))
            .transpose()
            .map_err(misfit)?;
        if declarations.is_some() && functions.is_none() {
            return Err(LoadError::HalfAnApp {
                has: DECLARATIONS,
                lacks: FUNCTIONS,
            });
        }
        let events = has(EVENTS)
            .then(|| payment_events::GuestIndices::new(pre))
            .transpose()
            .map_err(misfit)?;
        if events.is_some() && functions.is_none() {
            return Err(LoadError::HalfAnApp {
                has: EVENTS,
                lacks: FUNCTIONS,
            });
        }
        let http = if has(HANDLER) {
            let door = handler::GuestIndices::new(pre).map_err(misfit)?;
            HttpDoor::Records(door, Reuse::new())
        } else if has(WASI) {
            HttpDoor::WasiHttp(incoming_handler::GuestIndices::new(pre).map_err(misfit)?)
        } else {
            HttpDoor::None
        };
        match (&app, &http) {
            (None, HttpDoor::Records(..)) => {
                return Err(LoadError::HalfAnApp {
                    has: HANDLER,
                    lacks: APP,
                });
            }
            (Some(_), HttpDoor::None) => {
                return Err(LoadError::HalfAnApp {
                    has: APP,
                    lacks: HANDLER,
                });
            }
            (None, HttpDoor::None) if functions.is_none() => return Err(LoadError::NoDoor),
            _ => {}
        }
        Ok(Self {
            app,
            functions,
            declarations,
            events,
            http,
        })
    }
}
