//! Coglex: a whole backend in one binary, extended by sandboxed WebAssembly
//! components. The binary only starts what is here; docs/ARCHITECTURE.md has the
//! map.
//!
//! In reading order: [`cli`] reads the command line, [`config`] the settings,
//! [`app`] wires the long-lived parts, [`http`] answers requests, [`plugins`] holds
//! what is loaded, and `gateway` and `functions` stand between the two.

pub mod app;
mod banner;
pub mod cli;
pub mod config;
mod data;
mod dev;
mod files;
mod functions;
mod gateway;
mod hooks;
pub mod http;
mod jobs;
pub mod mail;
pub mod plugins;
mod project;
mod serve;
pub mod shutdown;
mod static_files;
pub mod telemetry;
mod testing;

pub use dev::{Build, Builds, Source};
pub use serve::{Dev, serve};
