//! The HTTP contract, asked of the real binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy's own exception leaves out helpers"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod archive;
mod array_filters;
mod audit;
mod auth;
mod auth_mail;
mod auth_oauth;
mod auth_passwords;
mod auth_sessions;
mod auth_tokens;
mod auth_totp;
mod both;
mod config;
mod durability;
mod errors;
mod keys;
mod limits;
mod mail;
mod mongodb;
mod mongodb_restart;
mod payment;
mod payment_webhook;
mod rules;
mod schema;
mod static_files;
mod storage;
