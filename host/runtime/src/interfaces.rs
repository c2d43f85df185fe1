//! Host functions: what a guest imports from `coglex:`. Each file turns WIT
//! values into a service call and its result back, with the plugin as caller,
//! and decides nothing itself.

pub(crate) mod accounts;
pub(crate) mod auth;
pub(crate) mod config;
pub(crate) mod execution;
pub(crate) mod jobs;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod mail;
pub(crate) mod payment;
pub(crate) mod storage;
