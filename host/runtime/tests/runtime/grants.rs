//! What is not granted is not there.

use coglex_runtime::{Allow, Budget, LoadError};
use coglex_services::grants::{Grants, StorageGrant, Verb};

use crate::support::{load, load_asking, run, runtime};
use crate::wat::{Guest, Host, function, runs};

const ASK: &str = "[grants]\nstorage = [{ collection = \"notes\", verbs = [\"read\"] }]";

/// Counts `notes` (at 128) and answers with the first byte of the result, or
/// with 5 more than the error's number.
fn counts() -> String {
    function(Guest {
        host: Host::Storage,
        run: "(call $count (i32.const 128) (i32.const 5) (i32.const 133) (i32.const 2) (i32.const 2048))
              (if (i32.load8_u (i32.const 2048)) (then (return (call $digit (i32.add (i32.const 6) (i32.load8_u (i32.const 2056)))))))
              (call $digit (i32.load8_u (i32.const 2056)))"
            .to_owned(),
        ..Guest::default()
    })
}

fn reads(collection: &str) -> Grants {
    Grants {
        storage: vec![StorageGrant::new(collection, [Verb::Read])],
        ..Grants::default()
    }
}

#[tokio::test]
async fn storage_without_a_grant_is_refused_at_load() {
    let runtime = runtime(Budget::default());
    let refused = |result: Result<_, LoadError>, part: &str| {
        let error = result.map(|_: coglex_runtime::Plugin| ()).unwrap_err();
        assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(load(&runtime, &counts()).await, "asks for no storage");
    refused(
        load_asking(&runtime, &counts(), ASK, Allow::Nothing).await,
        "the operator allows none",
    );
    let other = Allow::Grants(reads("other"));
    refused(
        load_asking(&runtime, &counts(), ASK, other).await,
        "the operator allows none",
    );
}

#[tokio::test]
async fn a_granted_collection_can_be_read() {
    let runtime = runtime(Budget::default());
    for allow in [Allow::Everything, Allow::Grants(reads("notes"))] {
        let plugin = load_asking(&runtime, &counts(), ASK, allow).await.unwrap();
        assert_eq!(plugin.granted(), &reads("notes"));
        assert_eq!(run(&plugin).await.unwrap(), "5");
    }
}

#[tokio::test]
async fn another_collection_is_denied_by_value() {
    let runtime = runtime(Budget::default());
    let ask = "[grants]\nstorage = [{ collection = \"other\", verbs = [\"read\"] }]";
    let plugin = load_asking(&runtime, &counts(), ask, Allow::Everything)
        .await
        .unwrap();
    // 6 is `access-denied`, the first case.
    assert_eq!(run(&plugin).await.unwrap(), "6");
}

#[tokio::test]
async fn describe_may_not_call_services() {
    let runtime = runtime(Budget::default());
    let wat = function(Guest {
        host: Host::Config,
        describe: "(call $get (i32.const 16) (i32.const 5) (i32.const 2048))",
        run: "(call $digit (i32.const 0))".to_owned(),
        ..Guest::default()
    });
    let error = load(&runtime, &wat).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "its describe() failed: describe() may use nothing but the log"
    );
}

#[tokio::test]
async fn unknown_interfaces_are_refused_by_name() {
    let runtime = runtime(Budget::default());
    let with_import = |import: &str| {
        runs("(unreachable)").replacen(
            "(component",
            &format!("(component (import \"{import}\" (instance (export \"f\" (func))))"),
            1,
        )
    };
    for (import, part) in [
        ("acme:gpu/compute@1.0.0", "does not have"),
        ("coglex:storage/documents@9.0.0", "in version 0.1.0"),
    ] {
        let error = load(&runtime, &with_import(import))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(import) && error.contains(part), "{error}");
    }
    // The right name with the wrong shape.
    let error = load(&runtime, &with_import("coglex:log/logging@0.1.0"))
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::Link(_)), "{error}");
}

#[tokio::test]
async fn settings_reach_the_plugin_that_they_are_for() {
    let runtime = runtime(Budget::default());
    // Answers with the setting `probe`.
    let wat = function(Guest {
        host: Host::Config,
        run: "(call $get (i32.const 16) (i32.const 5) (i32.const 2048))
              (if (i32.eqz (i32.load8_u (i32.const 2048))) (then (return (call $digit (i32.const 0)))))
              (call $ok (i32.load (i32.const 2052)) (i32.load (i32.const 2056)))"
            .to_owned(),
        ..Guest::default()
    });
    let with = |settings: &[(&str, &str)]| coglex_runtime::Policy {
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..coglex_runtime::Policy::default()
    };
    let wasm = crate::support::bytes(&wat);
    let plugin = runtime
        .load("a", wasm.clone(), None, with(&[("probe", "value")]))
        .await
        .unwrap();
    assert_eq!(run(&plugin).await.unwrap(), "value");
    let plugin = runtime.load("b", wasm, None, with(&[])).await.unwrap();
    assert_eq!(run(&plugin).await.unwrap(), "0");
}
