//! The HTTP contract, asked of the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy's own exception leaves out helpers"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod array_filters;
mod auth;
mod auth_passwords;
mod auth_sessions;
mod auth_tokens;
mod config;
mod durability;
mod errors;
mod mongodb;
mod mongodb_restart;
mod schema;
mod static_files;
mod storage;
