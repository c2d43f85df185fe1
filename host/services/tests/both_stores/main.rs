//! One suite, run against every store: the port's contract, and the services
//! on top of it. A case that passes on one store and not on the other is a bug
//! in one of them.
//!
//! The MongoDB half needs `COGLEX_TEST_MONGODB_URI`; `cargo xtask test` starts a
//! server and sets it. Without, each of its cases says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking; clippy's exception covers only the functions marked as tests"
)]

mod accounts;
mod aggregate;
mod conformance;
mod delegated;
mod differential;
mod documents;
mod flows;
mod hooks;
mod jobs;
mod keys;
mod kv;
mod rules;
mod schema;
mod scopes;
mod store;
mod support;
mod tokens;

/// Makes each case a test per store. A case is `async fn(Arc<dyn DocumentStore>)`.
macro_rules! on_both_stores {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                crate::support::on_embedded(super::$case).await;
            })*
        }
        mod mongodb {
            $(#[tokio::test]
            async fn $case() {
                crate::support::on_mongodb(super::$case).await;
            })*
        }
    };
}
use on_both_stores;
