//! The order of values, and of their keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| coglex_docstore::fuzzing::keys(data));
