//! Coglex: a whole backend in one binary, extended by sandboxed WebAssembly
//! components. The binary only starts what is here; docs/ARCHITECTURE.md has the
//! map.
//!
//! In reading order: [`cli`] reads the command line, [`config`] the settings,
//! [`app`] wires the long-lived parts, [`http`] answers requests.

pub mod app;
pub mod cli;
pub mod config;
pub mod http;
mod serve;
pub mod shutdown;
pub mod telemetry;

pub use serve::serve;
