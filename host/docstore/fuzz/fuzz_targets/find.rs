//! Filters and sorts on a store with indexes.
#![no_main]

use std::sync::LazyLock;

use coglex_docstore::fuzzing::Fixture;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FIXTURE: LazyLock<(Fixture, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the store");
    (Fixture::new(folder.path()), folder)
});

fuzz_target!(|data: &[u8]| FIXTURE.0.find(data));
