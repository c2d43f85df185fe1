//! Runs a test on a server with each store.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::mongodb::database_address;
use crate::support::{ADMIN_KEY, API_KEY, TestServer};

/// A server with its own store, then one with a database of the test's own.
pub(crate) fn on_both_stores(flags: &[&str], test: impl Fn(&TestServer)) {
    test(&TestServer::with(flags));
    if let Some(address) = database_address() {
        test(&on_mongodb(&address, &database(), flags));
    }
}

/// A name that no other test has.
pub(crate) fn database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("coglex_access_{}_{count}", std::process::id())
}

/// A server with this database.
pub(crate) fn on_mongodb(address: &str, database: &str, flags: &[&str]) -> TestServer {
    TestServer::start_in(tempfile::tempdir().unwrap(), flags, |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
            .env(
                "COGLEX_AUTH_SIGNING_KEY",
                "a-signing-key-that-all-hosts-of-the-test-share",
            )
            .env(
                "MONGODB_URI",
                format!("mongodb://{address}/?directConnection=true"),
            )
            .env("MONGODB_DATABASE", database);
    })
}
