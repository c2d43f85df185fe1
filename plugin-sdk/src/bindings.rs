//! Generated from `wit/`. Nothing outside this crate names what is in here;
//! the export macros reach it through `coglex_sdk::__private`.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "generated code: the canonical ABI is raw memory by nature"
)]

/// What a plugin imports.
pub mod capabilities {
    wit_bindgen::generate!({
        path: "../wit",
        world: "coglex:plugin/capabilities",
        generate_all,
    });
}

/// What a gateway app exports.
pub mod gateway {
    wit_bindgen::generate!({
        path: "../wit",
        world: "coglex:plugin/gateway-app",
        with: {
            "coglex:storage/documents@0.1.0": crate::bindings::capabilities::coglex::storage::documents,
            "coglex:auth/caller@0.1.0": crate::bindings::capabilities::coglex::auth::caller,
            "coglex:config/settings@0.1.0": crate::bindings::capabilities::coglex::config::settings,
            "coglex:kv/store@0.1.0": crate::bindings::capabilities::coglex::kv::store,
            "coglex:auth/accounts@0.1.0": crate::bindings::capabilities::coglex::auth::accounts,
            "coglex:execution/calls@0.1.0": crate::bindings::capabilities::coglex::execution::calls,
            "coglex:execution/jobs@0.1.0": crate::bindings::capabilities::coglex::execution::jobs,
            "coglex:config/secrets@0.1.0": crate::bindings::capabilities::coglex::config::secrets,
            "coglex:payment/payments@0.1.0": crate::bindings::capabilities::coglex::payment::payments,
            "coglex:mail/outbox@0.1.0": crate::bindings::capabilities::coglex::mail::outbox,
            "coglex:log/logging@0.1.0": crate::bindings::capabilities::coglex::log::logging,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_gateway_app",
        default_bindings_module: "coglex_sdk::__private::gateway",
    });
}

/// What a component with functions exports.
pub mod function {
    wit_bindgen::generate!({
        path: "../wit",
        world: "coglex:plugin/payment-function",
        with: {
            "coglex:storage/documents@0.1.0": crate::bindings::capabilities::coglex::storage::documents,
            "coglex:auth/caller@0.1.0": crate::bindings::capabilities::coglex::auth::caller,
            "coglex:config/settings@0.1.0": crate::bindings::capabilities::coglex::config::settings,
            "coglex:kv/store@0.1.0": crate::bindings::capabilities::coglex::kv::store,
            "coglex:auth/accounts@0.1.0": crate::bindings::capabilities::coglex::auth::accounts,
            "coglex:execution/calls@0.1.0": crate::bindings::capabilities::coglex::execution::calls,
            "coglex:execution/jobs@0.1.0": crate::bindings::capabilities::coglex::execution::jobs,
            "coglex:config/secrets@0.1.0": crate::bindings::capabilities::coglex::config::secrets,
            "coglex:payment/payments@0.1.0": crate::bindings::capabilities::coglex::payment::payments,
            "coglex:mail/outbox@0.1.0": crate::bindings::capabilities::coglex::mail::outbox,
            "coglex:log/logging@0.1.0": crate::bindings::capabilities::coglex::log::logging,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_function",
        default_bindings_module: "coglex_sdk::__private::function",
    });
}

/// What tests import.
pub mod testing {
    wit_bindgen::generate!({
        path: "../wit/deps/coglex-testing",
        world: "coglex:testing/tests",
    });
}
