//! The code that wasmtime generates from `wit/`: the only `bindgen!` call.
//!
//! One host-side world holds every interface that this server serves. A plugin
//! exports some of them, so nobody uses the generated world struct: exports are
//! looked up one interface at a time (`GuestIndices`), imports linked one
//! interface at a time (`add_to_linker`).

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
mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package coglex:host;

            world plugin {
              include coglex:plugin/capabilities@0.1.0;
              export coglex:gateway/app@0.1.0;
              export coglex:gateway/handler@0.1.0;
              export coglex:function/functions@0.1.0;
              export coglex:function/declarations@0.1.0;
              export coglex:payment/events@0.1.0;
            }
        ",
        imports: {
            "coglex:storage/documents": async | trappable,
            "coglex:auth/caller.signed-in": async | trappable,
            "coglex:auth/caller.require": async | trappable,
            "coglex:auth/accounts": async | trappable,
            "coglex:execution/calls": async | trappable,
            "coglex:execution/jobs": async | trappable,
            "coglex:kv/store": async | trappable,
            "coglex:mail/outbox": async | trappable,
            "coglex:payment/payments": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "coglex:storage/documents.cursor": crate::interfaces::storage::Cursor,
        },
    });
}

pub(crate) use generated::coglex::{auth, config, execution, kv, log, mail, payment, storage};
pub(crate) use generated::exports::coglex::payment::events as payment_events;
pub(crate) use generated::exports::coglex::{function, gateway};
