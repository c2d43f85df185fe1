//! Hooks before a write: called in order, each sees what the one before it made.

use super::event::Write;
use super::{Hook, HookCall, HookFailure, HookFault, Moment, Watch};
use crate::error::{Error, Result};

/// Bytes of a write that hooks can be shown.
const MAX_EVENT: usize = 16 * 1024 * 1024;

impl Watch {
    /// Has the hooks look at a write, which they may change; answers whether they
    /// did. `fixed` are the fields of documents that stay as they are; `check`
    /// says of a changed write whether a client could have asked for it.
    pub(crate) async fn before(
        &self,
        write: &mut Write,
        depth: usize,
        fixed: &[&str],
        check: &(dyn Fn(&Write) -> Result<()> + Send + Sync),
    ) -> Result<bool> {
        let mut changed = false;
        for hook in self.hooks.before(self.operations) {
            let fault = match self.ask(hook, write).await {
                Ok(answer) => {
                    let new = write.changed_by(&answer, depth, fixed);
                    let new = new.and_then(|new| {
                        new.as_ref().map_or(Ok(()), check)?;
                        Ok(new)
                    });
                    match new {
                        Ok(Some(new)) => {
                            *write = new;
                            changed = true;
                            continue;
                        }
                        Ok(None) => continue,
                        Err(why) => {
                            self.log(hook, &format!("its answer cannot be used: {why}"));
                            HookFault::Broken
                        }
                    }
                }
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Fault(fault)) => fault,
            };
            if !hook.fail_open {
                if let HookFault::Unavailable(_) = fault {
                    self.log(hook, "it cannot be called now");
                }
                return Err(Error::HookFailed(fault));
            }
            tracing::warn!(
                plugin.name = hook.plugin,
                function = hook.function,
                collection = self.collection,
                "the hook failed, the write goes on without it"
            );
        }
        Ok(changed)
    }

    async fn ask(&self, hook: &Hook, write: &Write) -> Result<String, Stop> {
        let mut args = vec![b'['];
        args.extend(
            self.open_event(Moment::Before, write)
                .map_err(Stop::Refused)?,
        );
        args.extend_from_slice(b"}]");
        if args.len() > MAX_EVENT {
            if hook.fail_open {
                return Err(Stop::Fault(HookFault::Broken));
            }
            return Err(Stop::Refused(Error::TooLarge(format!(
                "`{}` has hooks, which can be shown writes of at most {MAX_EVENT} bytes",
                self.collection
            ))));
        }
        let call = HookCall {
            args: super::answer::text(args).map_err(Stop::Refused)?,
            depth: self.depth,
            waiter: self.waiter,
            request_id: self.request_id.clone(),
        };
        match hook.call.call(call).await {
            Ok(answer) => Ok(answer),
            Err(HookFailure::Refused { code, message }) => {
                Err(Stop::Refused(Error::HookRefused { code, message }))
            }
            Err(HookFailure::Failed(fault)) => Err(Stop::Fault(fault)),
        }
    }

    fn log(&self, hook: &Hook, what: &str) {
        tracing::error!(
            plugin.name = hook.plugin,
            function = hook.function,
            collection = self.collection,
            request.id = self.request_id.as_deref(),
            "the hook failed: {what}"
        );
    }
}

/// Why there is no answer.
enum Stop {
    /// The write is over.
    Refused(Error),
    /// The hook has failed.
    Fault(HookFault),
}
