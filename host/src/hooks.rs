//! Functions of plugins as hooks on writes. Stands between the services, which
//! know of hooks only that they can be called, and the runtime, which knows only
//! functions, as `functions` does between HTTP and the runtime.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coglex_runtime::{CallContext, CallError, Plugin};
use coglex_services::hooks::{CallHook, CollectionHooks, Hook, HookCall, HookFailure, HookFault};

use crate::http::scope;

/// When a hook that cannot be called now is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The hooks of these plugins, by collection.
pub(crate) fn by_collection<'a>(
    plugins: impl Iterator<Item = &'a Plugin>,
) -> HashMap<String, Arc<CollectionHooks>> {
    let mut hooks: BTreeMap<&str, Vec<Hook>> = BTreeMap::new();
    for plugin in plugins {
        for function in plugin.functions() {
            for hook in &function.hooks {
                let call = Call {
                    plugin: plugin.clone(),
                    function: function.name.clone(),
                };
                hooks.entry(&hook.collection).or_default().push(Hook {
                    plugin: plugin.name().to_owned(),
                    function: function.name.clone(),
                    moment: hook.moment,
                    operation: hook.operation,
                    order: hook.order,
                    fail_open: hook.fail_open,
                    call: Arc::new(call),
                });
            }
        }
    }
    hooks
        .into_iter()
        .map(|(collection, hooks)| (collection.to_owned(), Arc::new(CollectionHooks::new(hooks))))
        .collect()
}

/// A function that is called as a hook. It holds its plugin, so that a write goes
/// on with the hooks that it has begun with.
struct Call {
    plugin: Plugin,
    function: String,
}

#[async_trait]
impl CallHook for Call {
    async fn call(&self, call: HookCall) -> Result<String, HookFailure> {
        let request_id = call.request_id.map(|id| id.to_string());
        let request_id = request_id.or_else(|| Some(scope::current()?.id.to_string()));
        let context = CallContext {
            request_id: request_id.unwrap_or_else(|| "hook".to_owned()),
            hook_depth: call.depth,
            ..CallContext::default()
        };
        let answer = self
            .plugin
            .run_hook(&self.function, call.args, call.waiter, context);
        match answer.await {
            Ok(Ok(json)) => Ok(json),
            Ok(Err(failure)) => Err(HookFailure::Refused {
                code: failure.code,
                message: failure.message,
            }),
            Err(error) => Err(HookFailure::Failed(self.fault(error))),
        }
    }
}

impl Call {
    /// The runtime has logged what went on inside of the guest.
    fn fault(&self, error: CallError) -> HookFault {
        match error {
            CallError::Trapped | CallError::InvalidResponse(_) => HookFault::Broken,
            CallError::Deadline => HookFault::Deadline,
            CallError::Overloaded { retry_after } => HookFault::Unavailable(retry_after),
            CallError::Unavailable => HookFault::Unavailable(RETRY_AFTER),
            CallError::InvalidRequest(_)
            | CallError::PayloadTooLarge
            | CallError::NotJson(_)
            | CallError::Mismatch(_) => {
                tracing::error!(
                    plugin.name = self.plugin.name(),
                    function = self.function,
                    "the function does not take what hooks are called with: {error}"
                );
                HookFault::Broken
            }
        }
    }
}
