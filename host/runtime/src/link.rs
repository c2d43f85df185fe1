//! Which imports a plugin gets: the interfaces that everybody may use, and those
//! that its grants open. The rest is refused at load, by name, with what is
//! missing; a guest never finds out at run time.

use coglex_services::grants::{Grants, PaymentVerb};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use crate::bindings;
use crate::error::LoadError;
use crate::state::InstanceState;
use crate::testing;

/// An interface that is linked with a grant only.
struct Gated {
    import: &'static str,
    /// What opens it, in words.
    grant: &'static str,
    opens: fn(&Grants) -> bool,
    add: fn(&mut Linker<InstanceState>) -> wasmtime::Result<()>,
}

const GATED: [Gated; 8] = [
    Gated {
        import: "coglex:storage/documents@0.1.0",
        grant: "storage",
        opens: Grants::reaches_documents,
        add: |linker| {
            bindings::storage::documents::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:auth/accounts@0.1.0",
        grant: "auth",
        opens: |grants| !grants.auth.is_empty(),
        add: |linker| {
            bindings::auth::accounts::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:execution/calls@0.1.0",
        grant: "functions",
        opens: |grants| !grants.functions.is_empty(),
        add: |linker| {
            bindings::execution::calls::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:execution/jobs@0.1.0",
        grant: "functions",
        opens: |grants| !grants.functions.is_empty(),
        add: |linker| {
            bindings::execution::jobs::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:config/secrets@0.1.0",
        grant: "secrets",
        opens: |grants| !grants.secrets.is_empty(),
        add: |linker| {
            bindings::config::secrets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:payment/payments@0.1.0",
        grant: "payment",
        opens: |grants| {
            grants.allows_payment(PaymentVerb::Checkout)
                || grants.allows_payment(PaymentVerb::Entitlements)
        },
        add: |linker| {
            bindings::payment::payments::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
        },
    },
    Gated {
        import: "coglex:mail/outbox@0.1.0",
        grant: "mail",
        opens: |grants| !grants.mail.is_empty(),
        add: |linker| bindings::mail::outbox::add_to_linker::<_, HasSelf<_>>(linker, |state| state),
    },
    Gated {
        import: "coglex:kv/store@0.1.0",
        grant: "kv",
        opens: |grants| grants.kv,
        add: |linker| bindings::kv::store::add_to_linker::<_, HasSelf<_>>(linker, |state| state),
    },
];
/// Interfaces of ours that every plugin may import. `types` hold no functions.
const OPEN: [&str; 4] = [
    "coglex:auth/caller@0.1.0",
    "coglex:config/settings@0.1.0",
    "coglex:log/logging@0.1.0",
    "coglex:gateway/types@0.1.0",
];
/// WASI packages and interfaces that every plugin may import, any 0.2.
const WASI: [&str; 8] = [
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:cli/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:http/types",
    "wasi:http/outgoing-handler",
];

/// Links a component with what it was granted. `in_test`: time is what a test
/// says.
pub(crate) fn link(
    component: &Component,
    asked: &Grants,
    granted: &Grants,
    in_test: bool,
) -> Result<InstancePre<InstanceState>, LoadError> {
    let engine = component.engine();
    for (import, _) in component.component_type().imports(engine) {
        check_import(import, asked, granted)?;
    }
    let internal = |error: wasmtime::Error| LoadError::Internal(error.into());
    let mut linker = linker(engine, granted).map_err(internal)?;
    if in_test {
        linker.allow_shadowing(true);
        testing::clocks::link(&mut linker).map_err(internal)?;
    }
    linker
        .instantiate_pre(component)
        .map_err(|error| LoadError::Link(error.into()))
}

/// Links a component with tests: with what its plugin was granted, and what only
/// tests may import.
pub(crate) fn link_tests(
    component: &Component,
    asked: &Grants,
    granted: &Grants,
) -> Result<InstancePre<InstanceState>, LoadError> {
    let engine = component.engine();
    for (import, _) in component.component_type().imports(engine) {
        if !import.starts_with(testing::PACKAGE) {
            check_import(import, asked, granted)?;
        }
    }
    let linked = || -> wasmtime::Result<Linker<InstanceState>> {
        let mut linker = linker(engine, granted)?;
        linker.allow_shadowing(true);
        testing::clocks::link(&mut linker)?;
        testing::link_host(&mut linker)?;
        Ok(linker)
    };
    linked()
        .map_err(|error: wasmtime::Error| LoadError::Internal(error.into()))?
        .instantiate_pre(component)
        .map_err(|error| LoadError::Link(error.into()))
}

fn check_import(import: &str, asked: &Grants, granted: &Grants) -> Result<(), LoadError> {
    let unknown = |why: &str| LoadError::UnknownImport {
        import: import.to_owned(),
        why: why.to_owned(),
    };
    if OPEN.contains(&import) {
        return Ok(());
    }
    if let Some(gated) = GATED.iter().find(|gated| gated.import == import) {
        let grant = gated.grant;
        let why = match ((gated.opens)(asked), (gated.opens)(granted)) {
            (_, true) => return Ok(()),
            (false, _) => format!("its coglex.toml asks for no {grant} grant"),
            (true, false) => format!("the operator allows none of the {grant} that it asks for"),
        };
        return Err(LoadError::NotGranted {
            import: import.to_owned(),
            why,
        });
    }
    let is_wasi = import
        .split_once('@')
        .is_some_and(|(_, version)| version.starts_with("0.2."))
        && WASI.iter().any(|prefix| import.starts_with(prefix));
    if is_wasi {
        return Ok(());
    }
    if import.starts_with(testing::PACKAGE) {
        return Err(unknown("only `coglex plugin test` has; it is for tests"));
    }
    if let Some((name, version)) = import.split_once('@')
        && let Some(served) = GATED
            .iter()
            .map(|gated| gated.import)
            .chain(OPEN)
            .find_map(|own| own.strip_prefix(name)?.strip_prefix('@'))
    {
        return Err(unknown(&format!(
            "this server has in version {served}, not {version}"
        )));
    }
    Err(unknown("this server does not have"))
}

/// Every interface is added by name, so that a new wasmtime does not open a new
/// door by itself.
fn linker(engine: &wasmtime::Engine, granted: &Grants) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    add_wasi(&mut linker)?;
    let own = &mut linker;
    bindings::log::logging::add_to_linker::<_, HasSelf<_>>(own, |state| state)?;
    bindings::auth::caller::add_to_linker::<_, HasSelf<_>>(own, |state| state)?;
    bindings::config::settings::add_to_linker::<_, HasSelf<_>>(own, |state| state)?;
    for gated in GATED.iter().filter(|gated| (gated.opens)(granted)) {
        (gated.add)(own)?;
    }
    Ok(linker)
}

/// Clocks, random, streams, standard output; and, because standard libraries
/// import them unasked (Rust's and C's the first, Python's both), a file system
/// with nothing in it and sockets that nobody can make: `state` allows neither
/// TCP nor UDP nor looking names up.
fn add_wasi(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    let l = linker;
    wasi::random::insecure::add_to_linker::<_, WasiRandom>(l, random)?;
    wasi::random::insecure_seed::add_to_linker::<_, WasiRandom>(l, random)?;
    wasi::cli::environment::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::exit::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::terminal_input::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::terminal_output::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, InstanceState::cli)?;
    wasi::filesystem::types::add_to_linker::<_, WasiFilesystem>(l, InstanceState::filesystem)?;
    wasi::filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, InstanceState::filesystem)?;
    let unstable = wasi::sockets::network::LinkOptions::default();
    wasi::sockets::network::add_to_linker::<_, WasiSockets>(l, &unstable, InstanceState::sockets)?;
    wasi::sockets::instance_network::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    wasi::sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    wasi::sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    wasi::sockets::tcp::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    wasi::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    wasi::sockets::udp::add_to_linker::<_, WasiSockets>(l, InstanceState::sockets)?;
    Ok(())
}

fn random(state: &mut InstanceState) -> &mut wasmtime_wasi::random::WasiRandomCtx {
    state.ctx().ctx.random()
}

#[cfg(test)]
mod tests {
    use coglex_services::grants::{StorageGrant, Verb};

    use super::*;

    #[test]
    fn an_import_that_is_missing_says_what_would_help() {
        let asks = Grants {
            storage: vec![StorageGrant::new("notes", [Verb::Read])],
            ..Grants::default()
        };
        let nothing = Grants::default();
        let refused = |import: &str, asked: &Grants, part: &str| {
            let error = check_import(import, asked, &nothing)
                .unwrap_err()
                .to_string();
            assert!(error.contains(import) && error.contains(part), "{error}");
        };
        for gated in &GATED {
            refused(gated.import, &nothing, "asks for no");
        }
        let storage = "coglex:storage/documents@0.1.0";
        refused(storage, &asks, "the operator allows none of the storage");
        refused("coglex:kv/store@0.1.0", &asks, "asks for no kv grant");
        refused(
            "coglex:log/logging@9.0.0",
            &asks,
            "in version 0.1.0, not 9.0.0",
        );
        refused("coglex:kv/store@0.2.0", &asks, "in version 0.1.0");
        refused("acme:gpu/compute@1.0.0", &asks, "does not have");
        refused("coglex:testing/host@0.1.0", &asks, "coglex plugin test");
        refused("wasi:cli/stdout@0.3.0", &asks, "does not have");
        assert!(check_import(storage, &asks, &asks).is_ok());
        assert!(check_import("wasi:http/types@0.2.4", &asks, &nothing).is_ok());
        assert!(check_import("wasi:sockets/tcp@0.2.4", &asks, &nothing).is_ok());
    }
}
