//! Calls from guest to guest: a guest calls a function by name, of another
//! plugin or of its own.
//!
//! The called function has the grants of its plugin, and a budget within what
//! its caller has left; what it spends is the caller's, too. It gets an instance
//! from slots that only nested calls use, and never waits for one: a call that
//! waited for what its callers hold would wait for ever, and one that took what
//! clients' calls need could keep them out.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coglex_services::hooks::Waiter;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::bindings::function::functions::Call;
use crate::budget::Budget;
use crate::doors::{self, Failure, function};
use crate::engine::NESTED;
use crate::error::CallError;
use crate::plugin::{CallContext, Plugin, Shared};
use crate::state::{InstanceState, Phase, store};

/// Calls within calls. Each level may hold an instance's memory.
pub(crate) const MAX_DEPTH: u8 = 8;
/// Nested calls that one plugin makes at a time: half of the slots, so that it
/// cannot keep the others from calling.
pub(crate) const SHARE: usize = NESTED as usize / 2;

/// Bytes of the arguments of a nested call together, and of its result: they are
/// read where other calls wait.
const MAX_JSON: usize = 1024 * 1024;

/// Finds the plugin that has a function now.
pub type FindFunction = Arc<dyn Fn(&str) -> Option<Plugin> + Send + Sync>;

/// Where functions are found; known only when there is somebody who keeps them.
#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<OnceLock<FindFunction>>);

impl Directory {
    /// Says where; the first time counts.
    pub(crate) fn set(&self, find: FindFunction) {
        let _ = self.0.set(find);
    }

    /// The plugin that has a function now.
    pub(crate) fn find(&self, function: &str) -> Option<Plugin> {
        self.0.get().and_then(|find| find(function))
    }
}

/// Why a nested call has no result.
pub(crate) enum NestedError {
    /// It would be one level too deep.
    TooDeep,
    /// There is no such function.
    NotFound,
    /// The arguments are not what a function takes.
    Invalid(&'static str),
    /// It ended otherwise.
    Call(CallError),
}

impl From<CallError> for NestedError {
    fn from(error: CallError) -> Self {
        NestedError::Call(error)
    }
}

type Answer = Result<Result<String, Failure>, NestedError>;

impl InstanceState {
    /// Calls a function for the guest. Boxed, because a call may hold another.
    pub(crate) fn call_function(
        &mut self,
        function: String,
        args: String,
        kwargs: String,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move {
            if args.len().saturating_add(kwargs.len()) > MAX_JSON {
                return Err(NestedError::Invalid(
                    "`args` and `kwargs` have more than 1 MiB together",
                ));
            }
            if !is_json(&args, '[') {
                return Err(NestedError::Invalid("`args` is not a JSON array"));
            }
            if !is_json(&kwargs, '{') {
                return Err(NestedError::Invalid("`kwargs` is not a JSON object"));
            }
            let depth = self.call.depth.saturating_add(1);
            if depth > MAX_DEPTH {
                return Err(NestedError::TooDeep);
            }
            let found = self.shared.directory.find(&function);
            let Some(plugin) = found else {
                return Err(NestedError::NotFound);
            };
            let _place = self.nested_place()?;
            self.run_nested(&plugin, depth, function, args, kwargs)
                .await
        })
    }

    fn nested_place(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), CallError> {
        let overloaded = || CallError::Overloaded {
            retry_after: Duration::from_secs(1),
        };
        let own = Arc::clone(&self.shared.nested).try_acquire_owned();
        let instance = self.shared.admission.instances().nested();
        match (own, instance) {
            (Ok(own), Some(instance)) => Ok((own, instance)),
            _ => Err(overloaded()),
        }
    }

    async fn run_nested(
        &mut self,
        plugin: &Plugin,
        depth: u8,
        function: String,
        args: String,
        kwargs: String,
    ) -> Answer {
        let Some((shared, pre, door, info)) = plugin.function_door(&function) else {
            return Err(NestedError::NotFound);
        };
        let (args, kwargs) = function::check(info, args, kwargs).await?;
        let budget = self.budget_left(&shared.budget);
        let context = CallContext {
            request_id: self.call.request_id.to_string(),
            credentials: self.call.credentials.clone(),
            users: self.call.users.clone(),
            invocation: None,
            hook_depth: self.call.hook_depth,
        };
        let call = Call {
            name: function,
            args,
            kwargs,
            invocation_id: function::invocation_id()?,
        };
        let (mut store, watch) = store(pre.engine(), shared, Phase::Serve, &budget, context);
        let state = store.data_mut();
        state.call.depth = depth;
        let (requests, bytes) = self.egress.left();
        state.egress.limit(requests, bytes);
        let egress = state.egress.left();

        let answer = doors::run(shared, &watch, budget.wall, async {
            let instance = pre.instantiate_async(&mut store).await?;
            door.load(&mut store, &instance)?
                .call_run(&mut store, &call)
                .await
        })
        .await;

        let state = store.data();
        let (calls, bytes) = state.quota.left();
        self.quota.spend(
            budget.host_calls.saturating_sub(calls),
            budget.host_call_bytes.saturating_sub(bytes),
        );
        let left = state.egress.left();
        self.egress.limit(
            requests.saturating_sub(egress.0.saturating_sub(left.0)),
            self.egress
                .left()
                .1
                .saturating_sub(egress.1.saturating_sub(left.1)),
        );
        self.log
            .take(budget.log_bytes.saturating_sub(state.log.left()));
        drop(store);

        let limit = budget.response_bytes;
        let result = function::conclude(shared, &watch, &call.name, limit, answer?)?;
        match &result {
            Ok(json) if json.len() > MAX_JSON => {
                let why = "its result has more than the 1 MiB that guests pass to each other";
                Err(doors::invalid(shared, &watch, why).into())
            }
            Ok(json) if serde_json::from_str::<IgnoredAny>(json).is_err() => {
                Err(doors::invalid(shared, &watch, "its result is not JSON").into())
            }
            _ => Ok(result),
        }
    }

    /// The budget of a called plugin, within what this call has left.
    fn budget_left(&self, of: &Budget) -> Budget {
        let (host_calls, host_call_bytes) = self.quota.left();
        Budget {
            cpu: of.cpu.min(self.cpu_left()),
            wall: of.wall.min(self.call.time_left()),
            host_calls: of.host_calls.min(host_calls),
            host_call_bytes: of.host_call_bytes.min(host_call_bytes),
            log_bytes: of.log_bytes.min(self.log.left()),
            ..of.clone()
        }
    }
}

impl Plugin {
    /// Calls one of its functions as a hook, for which somebody waits. `args` as
    /// for [`Plugin::run`].
    ///
    /// For a client it waits its turn as any call does. A guest holds places that
    /// others may wait for, so its hook has one of those that only nested calls
    /// use, for which it waits only if the guest has none of them itself. It runs
    /// by itself then, so that what it computes is not the guest's.
    pub async fn run_hook(
        &self,
        function: &str,
        args: String,
        waiter: Waiter,
        context: CallContext,
    ) -> Result<Result<String, Failure>, CallError> {
        let kwargs = "{}".to_owned();
        let wait = match waiter {
            Waiter::Client => return self.run(function, args, kwargs, context).await,
            Waiter::Guest => self.budget().queue_wait,
            Waiter::NestedGuest => Duration::ZERO,
        };
        let (plugin, function) = (self.clone(), function.to_owned());
        // Ends with whoever waits for it.
        let mut task = JoinSet::new();
        task.spawn(async move {
            let Some((shared, pre, door, info)) = plugin.function_door(&function) else {
                return Err(CallError::InvalidRequest(
                    "There is no function of this name.".to_owned(),
                ));
            };
            let (args, kwargs) = function::check(info, args, kwargs).await?;
            let _place = hook_place(shared, wait).await?;
            function::call_in(shared, &pre, &door, &function, args, kwargs, context).await
        });
        match task.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                tracing::error!(%error, "a hook was not called to its end");
                Err(CallError::Unavailable)
            }
            None => Err(CallError::Unavailable),
        }
    }
}

/// A place for a nested call, waited for no longer than `wait`.
async fn hook_place(
    shared: &Shared,
    wait: Duration,
) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), CallError> {
    let own = Arc::clone(&shared.nested);
    let instance = shared.admission.instances().nested_slots();
    let both = async move {
        let own = own.acquire_owned().await.ok()?;
        Some((own, instance.acquire_owned().await.ok()?))
    };
    let place = tokio::time::timeout(wait, both).await;
    place.ok().flatten().ok_or(CallError::Overloaded {
        retry_after: Duration::from_secs(1),
    })
}

/// Slots for nested calls, among the instances of a pool.
pub(crate) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(NESTED as usize))
}

/// Whether it is JSON that begins so.
pub(crate) fn is_json(text: &str, open: char) -> bool {
    text.trim_start().starts_with(open) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}
