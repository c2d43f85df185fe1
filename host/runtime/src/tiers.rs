//! A component's machine code, twice: made quickly, so that a new version serves soon,
//! and a few seconds later made well, which takes its place under way.
//!
//! Both are cranelift's, for the same engine. The quick one is made by an engine that
//! does nothing else, without optimisations and with the register allocator that takes
//! one pass over a function: in two fifths of the time. Its calls cost more. Nobody notices the change but by that: a call goes on
//! with what it began with, and the next one gets the other. Only what was made well is
//! kept on disk.

use std::sync::{Arc, Weak};
use std::time::Duration;

use coglex_services::grants::Grants;
use tokio::sync::{Semaphore, oneshot};
use wasmparser::{Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use crate::bindings::function::functions;
use crate::cache::Cache;
use crate::error::{LoadError, RuntimeError};
use crate::link;
use crate::plugin::{HttpDoor, Loaded};
use crate::runtime::Exports;
use crate::state::InstanceState;

/// A new version serves for so long before it is compiled well: one that is being worked
/// on is often replaced before.
const SETTLE: Duration = Duration::from_secs(2);

/// Components over this size are compiled well at once: they carry interpreters, which
/// take their time either way, and should not take it twice.
const MAX_QUICK: usize = 4 * 1024 * 1024;

/// So are those with a function of more bytes than this. Quick code keeps all that a
/// function has at hand in its stack frame, which of the loop of an interpreter is tens
/// of kilobytes: a guest that runs well would run out of stack.
const MAX_QUICK_FUNCTION: usize = 16 * 1024;

/// One kind of code of a plugin, and its doors.
pub(crate) struct Tier {
    pub(crate) pre: InstancePre<InstanceState>,
    pub(crate) http: HttpDoor,
    pub(crate) function: Option<functions::GuestIndices>,
}

/// Makes the quick kind; cheap to clone.
#[derive(Clone)]
pub(crate) struct Quick {
    engine: Engine,
    /// Turns at compiling well: one at a time, so that most cores are left to others.
    turn: Arc<Semaphore>,
}

/// What it takes to compile a plugin well.
pub(crate) struct Unhurried {
    pub(crate) wasm: Vec<u8>,
    pub(crate) digest: String,
    pub(crate) engine: Engine,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) asked: Grants,
}

impl Quick {
    pub(crate) fn new(max_memory: usize) -> Result<Self, RuntimeError> {
        Ok(Self {
            engine: crate::engine::quick_compiler(max_memory)?,
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// The component, to be run by `engine`; nothing if it is not worth it.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
    ) -> Result<Option<Component>, LoadError> {
        if wasm.len() > MAX_QUICK || largest_function(wasm)? > MAX_QUICK_FUNCTION {
            return Ok(None);
        }
        let code = self
            .engine
            .precompile_component(wasm)
            .map_err(|error| LoadError::Compile(error.into()))?;
        #[allow(
            unsafe_code,
            reason = "the bytes are what an engine of ours has just made, and wasmtime checks that its settings suit this one"
        )]
        let component = unsafe { Component::deserialize(engine, &code) };
        component
            .map(Some)
            .map_err(|error| LoadError::Internal(error.into()))
    }

    /// Has a plugin's quick code replaced by better code, unless the plugin itself is
    /// replaced before.
    pub(crate) fn improve_later(&self, plugin: &Arc<Loaded>, work: Unhurried) {
        let (plugin, turn) = (Arc::downgrade(plugin), Arc::clone(&self.turn));
        tokio::spawn(async move {
            tokio::time::sleep(SETTLE).await;
            let Ok(_turn) = turn.acquire().await else {
                return;
            };
            if plugin.strong_count() > 0 {
                improve(&plugin, work).await;
            }
        });
    }
}

/// The bytes of the largest function of a component's modules.
fn largest_function(wasm: &[u8]) -> Result<usize, LoadError> {
    let mut largest = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| LoadError::Compile(error.into()))?;
        if let Payload::CodeSectionEntry(body) = payload {
            largest = largest.max(body.range().len());
        }
    }
    Ok(largest)
}

async fn improve(plugin: &Weak<Loaded>, work: Unhurried) {
    let Unhurried {
        wasm,
        digest,
        engine,
        cache,
        asked,
    } = work;
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, which does not keep the process from ending.
    let thread = std::thread::Builder::new().name("compile".to_owned());
    let spawned = thread.spawn(move || {
        let made = compile(&engine, cache.as_deref(), &wasm, &digest);
        // Nobody waits for it if the process is about to end.
        let _ = sender.send(made);
    });
    let made = match spawned {
        Ok(_) => receiver.await,
        Err(error) => {
            tracing::warn!(%error, "a plugin's code cannot be compiled well now");
            return;
        }
    };
    let Some(plugin) = plugin.upgrade() else {
        return;
    };
    let tier = match made {
        Ok(Ok(component)) => {
            let in_test = plugin.shared.harness.is_some();
            link::link(&component, &asked, &plugin.granted, in_test)
                .and_then(|pre| Ok((Exports::find(&pre)?, pre)))
        }
        Ok(Err(error)) => Err(error),
        // The thread has panicked, and said so.
        Err(_) => return,
    };
    let name = &*plugin.shared.name;
    match tier {
        Ok((exports, pre)) => {
            plugin.tier.store(Arc::new(exports.tier(pre)));
            tracing::debug!(plugin.name = name, "its code has been compiled well");
        }
        // It was compiled once, so this is a fault of ours; the plugin serves on.
        Err(error) => tracing::error!(
            plugin.name = name,
            error = &error as &dyn std::error::Error,
            "its code cannot be compiled well"
        ),
    }
}

/// Compiles a component as well as it can be, and keeps it on disk.
pub(crate) fn compile(
    engine: &Engine,
    cache: Option<&Cache>,
    wasm: &[u8],
    digest: &str,
) -> Result<Component, LoadError> {
    let component =
        Component::from_binary(engine, wasm).map_err(|error| LoadError::Compile(error.into()))?;
    if let Some(cache) = cache {
        cache.put(digest, &component);
    }
    // Now rather than during the first call.
    component
        .initialize_copy_on_write_image()
        .map_err(|error| LoadError::Internal(error.into()))?;
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_large_function_is_not_compiled_quickly() {
        let quick = Quick::new(1 << 20).unwrap();
        let engine = crate::engine::engine(4, 1 << 20).unwrap();
        let component = |lines: usize| {
            let body = "(drop (i32.const 1000000))".repeat(lines);
            wat::parse_str(format!("(component (core module (func {body})))")).unwrap()
        };
        let compiled = |wasm: &[u8]| quick.compile(&engine, wasm).unwrap().is_some();
        assert!(compiled(&component(10)));
        assert!(!compiled(&component(MAX_QUICK_FUNCTION)));
        assert!(largest_function(&component(10)[..20]).is_err());
    }
}
