//! What only a browser can show: the real server and real pages in Chromium, driven by
//! the scripts beside this through playwright.
//!
//! A script is a module of Node.js that gets its input as JSON and prints one line of
//! JSON as its answer; `scripts/harness.mjs` opens the browser for it. To write another
//! test, write a script and call [`browser::run`].

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "in a test a panic is the report, and nothing is public"
)]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the tests of plugins use more of it")]
#[path = "../plugins/guests.rs"]
mod guests;

mod browser;
mod cookies;
mod payment;
