//! The runtime, driven as the host crate drives it. Components are a few lines
//! of WAT, so that these tests need no WebAssembly toolchain; those in `guests`
//! use real ones where the test command has built them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod doors;
mod grants;
mod guests;
mod hostile;
mod hostile_calls;
mod hostile_load;
mod limits;
mod limits_reuse;
mod loading;
mod support;
mod wat;
