//! `coglex new` and `coglex build`, and guests in other languages than Rust: what
//! the binary writes, builds and serves, for a stranger who has nothing else.
//!
//! Tools that a machine may lack (Node.js) are left out only where
//! `COGLEX_TEST_WITHOUT` names them, as `cargo xtask test` does, aloud.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "in a test a panic is the report, nothing is public, and helpers are shared with other test binaries"
)]

#[path = "../plugins/guests.rs"]
mod guests;
#[path = "../support/mod.rs"]
mod support;

mod c;
mod capabilities;
mod cli;
mod dev;
mod hooks;
mod new;
mod plugin_test;
mod sdks;
mod todo;
mod tools;
