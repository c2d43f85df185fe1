//! Gateway apps and functions, as clients and operators meet them: the real
//! binary, real components, over HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "in a test a panic is the report, and nothing is public"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod capabilities;
mod cookies;
mod dev;
mod egress;
mod gateway;
mod golden;
mod guests;
mod hooks;
mod hostile;
mod hostile_load;
mod hostile_suite;
mod jobs;
mod keys;
mod letters;
mod payment;
mod reload;
mod schedules;
mod secrets;
mod stream;
mod terms;
mod walk;
