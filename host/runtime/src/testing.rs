//! Runs the tests that guests bring: what `coglex plugin test` needs of the
//! runtime, and no server ever uses.
//!
//! ```text
//! coglex plugin test ─► Suite::run ─► a guest with tests ─► coglex:testing/host ─► Harness
//!                                            │                                      │ asks
//!                                            ▼ storage, kv, accounts …              ▼
//!                                       the services ◄── the plugin under test ◄── the server's router
//! ```
//!
//! - `harness`: what one test has set and seen: clock, caller, prepared answers,
//!   log lines.
//! - `host`: the functions of `coglex:testing/host`.
//! - `clocks`: WASI's clocks by the harness's time; a sleep moves it.
//! - `suite`: a component with tests, how it lists and runs them.
//!
//! A runtime without a harness, which is every server's, links none of it. It
//! does not know HTTP routes: who runs the tests says how requests are answered.

pub(crate) mod clocks;
mod harness;
mod host;
mod suite;

pub use harness::{Answering, Harness};
pub(crate) use harness::{Asked, Spoken};
pub(crate) use host::pairs;
pub(crate) use suite::link_host;
pub use suite::{Outcome, Suite, Tested};

/// The one package that only tests may import.
pub(crate) const PACKAGE: &str = "coglex:testing/";

#[allow(
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "generated code, which also holds the world struct that we leave aside"
)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/deps/coglex-testing",
        world: "coglex:testing/suites",
        imports: {
            "coglex:testing/host.as-user": async | trappable,
            "coglex:testing/host.send": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}
