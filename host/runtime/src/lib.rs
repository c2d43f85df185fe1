//! Runs plugins: WebAssembly components, each call in a fresh sandbox that has
//! a budget for everything and sees only what it was granted.
//!
//! ```text
//!  registry ── load ──► Runtime ── compile (cached), link by grants, describe ──► Plugin
//!  gateway  ── handle ─► Plugin ── admission ─► fresh Store ─► guest ─► interfaces ─► services
//!  functions ── run ───►    "
//! ```
//!
//! In reading order:
//! - [`Runtime`] and [`Plugin`]: load, call. All that the host crate uses.
//! - [`Budget`], [`Ask`], [`Policy`]: what a call may cost, what a plugin asks
//!   for, what the operator says.
//! - `engine`, `cache`: wasmtime's settings, and compiled code on disk.
//! - `link`, `describe`, `schema`: which imports a plugin gets; what it says of
//!   itself; what it lets in.
//! - `doors`: how a request or a function call enters a guest and comes out.
//! - `state`, `limits`, `output`: what one call owns, and what stops it.
//! - `reuse`: instances that serve several calls, for plugins that ask for it.
//! - `interfaces`: host functions, each a service call with the same caller and
//!   the same checks as over HTTP.
//! - [`testing`]: runs the tests that guests bring; no server uses it.
//! - `bindings`: the code generated from `wit/`.
//!
//! It knows wasmtime, so that nobody else must. It does not know axum, routing,
//! the plugin folder or when to reload.

mod admission;
mod ask;
mod bindings;
mod bodies;
mod budget;
mod cache;
mod credentials;
mod describe;
mod doors;
mod egress;
mod engine;
mod error;
mod inspect;
mod interfaces;
mod limits;
mod link;
mod nested;
mod output;
mod plugin;
mod reuse;
mod runtime;
mod schema;
mod state;
pub mod testing;
mod tiers;

pub use ask::{Allow, Ask, PluginSecret, Policy};
pub use budget::{Budget, BudgetOverrides};
pub use describe::{
    CacheHints, FunctionInfo, Guard, Hook, Rate, RateScope, Route, Schedule, Terms,
};
pub use doors::{BoxError, Door, Failure, RequestBody, ResponseBody, RouteMatch};
pub use error::{CallError, LoadError, RuntimeError};
pub use inspect::imports;
pub use nested::FindFunction;
pub use plugin::{CallContext, CallCounts, Plugin};
pub use runtime::{MAX_WASM, Runtime, RuntimeSettings};
pub use schema::{Mismatch, QuerySchema, Schema};
