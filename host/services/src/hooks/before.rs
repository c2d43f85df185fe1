//! Hooks before a write: called in order, each sees what the one before it made.

use bson::Document;

use super::event::Write;
use super::{Hook, HookCall, HookFailure, HookFault, Moment, Watch};
use crate::error::{Error, Result};

/// Bytes of a write that hooks can be shown.
const MAX_EVENT: usize = 16 * 1024 * 1024;
/// Writes and answers of more bytes are written and read on the blocking pool, as
/// bodies of requests are.
const ASIDE: usize = 64 * 1024;

impl Watch {
    /// Has the hooks look at a write, which they may change; answers whether they
    /// did. `fixed` are the fields of documents that stay as they are; `check`
    /// says of a changed write whether a client could have asked for it.
    pub(crate) async fn before(
        &self,
        write: &mut Write,
        depth: usize,
        fixed: &'static [&'static str],
        check: &(dyn Fn(&Write) -> Result<()> + Send + Sync),
    ) -> Result<bool> {
        let mut changed = false;
        for hook in self.hooks.before(self.operations) {
            let fault = match self.ask(hook, write).await {
                Ok(answer) => {
                    let is_long = answer.len() > ASIDE;
                    let new = with(write, is_long, move |write| {
                        write.changed_by(&answer, depth, fixed)
                    });
                    let new = new.await.and_then(|new| {
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

    async fn ask(&self, hook: &Hook, write: &mut Write) -> Result<String, Stop> {
        let mut args = vec![b'['];
        let head = self.bare_event(Moment::Before, write);
        args.extend(head.map_err(Stop::Refused)?);
        let told = with(write, false, move |write| {
            write.members(&mut args)?;
            args.extend_from_slice(b"}]");
            Ok(args)
        });
        let args = told.await.map_err(Stop::Refused)?;
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

/// Does something with a write: on the blocking pool where that takes long, because
/// the write is large or what is compared with it.
async fn with<T: Send + 'static>(
    write: &mut Write,
    is_long: bool,
    work: impl FnOnce(&Write) -> Result<T> + Send + 'static,
) -> Result<T> {
    if !is_long && !write.is_large(ASIDE) {
        return work(write);
    }
    let nothing = Write::Delete {
        filter: Document::new(),
        many: false,
    };
    let own = std::mem::replace(write, nothing);
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&own);
        (own, done)
    });
    let (own, done) = done
        .await
        .map_err(|error| Error::Unavailable(error.into()))?;
    *write = own;
    done
}

/// Why there is no answer.
enum Stop {
    /// The write is over.
    Refused(Error),
    /// The hook has failed.
    Fault(HookFault),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use bson::doc;
    use futures_util::poll;

    use super::super::{CallHook, CollectionHooks, INSERT, Operation, Waiter};
    use super::*;
    use crate::jobs::{JobSettings, Jobs};
    use crate::storage::embedded::EmbeddedStore;

    /// Answers as it is asked.
    struct Echo;

    #[async_trait]
    impl CallHook for Echo {
        async fn call(&self, call: HookCall) -> Result<String, HookFailure> {
            let write = call.args.trim_start_matches('[').trim_end_matches(']');
            Ok(write.to_owned())
        }
    }

    fn watch(folder: &std::path::Path) -> Watch {
        let store = EmbeddedStore::open(&folder.join("test.db"), Default::default()).unwrap();
        let hook = Hook {
            plugin: "shop".to_owned(),
            function: "echo".to_owned(),
            moment: Moment::Before,
            operation: Operation::Insert,
            order: 0,
            fail_open: false,
            call: Arc::new(Echo),
        };
        Watch {
            hooks: Arc::new(CollectionHooks::new(vec![hook])),
            jobs: Jobs::new(Arc::new(store), JobSettings::default()),
            operations: INSERT,
            collection: "orders".to_owned(),
            caller: "{}".to_owned(),
            depth: 1,
            waiter: Waiter::Client,
            request_id: None,
        }
    }

    #[tokio::test]
    async fn large_writes_are_told_of_on_the_blocking_pool() {
        let folder = tempfile::tempdir().unwrap();
        let watch = watch(folder.path());
        for (length, is_aside) in [(10, false), (4 * 1024 * 1024, true)] {
            let mut write = Write::Insert {
                documents: vec![doc! { "_id": "a", "text": "x".repeat(length) }],
            };
            let expected = write.clone();
            {
                let told = watch.before(&mut write, 10, &["_id"], &|_| Ok(()));
                tokio::pin!(told);
                assert_eq!(poll!(&mut told).is_pending(), is_aside, "{length}");
                if is_aside {
                    assert!(!told.await.unwrap());
                }
            }
            assert_eq!(write, expected);
        }
    }
}
