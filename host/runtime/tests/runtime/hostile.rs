//! What guests hand to host functions that the canonical ABI does not allow, or
//! that nobody would by accident.

use coglex_runtime::{Budget, CallError};

use crate::support::{Log, load, load_asking, loaded, run, runtime};
use crate::wat::{Guest, Host, function};

fn calls(host: Host, run: &str) -> String {
    function(Guest {
        host,
        run: run.to_owned(),
        ..Guest::default()
    })
}

#[tokio::test]
async fn text_that_is_not_utf_8_ends_the_call() {
    let log = Log::capture();
    let runtime = runtime(Budget::default());
    // "probe", which lies at 16, gets a byte that no character begins with.
    let spoil = "(i32.store8 (i32.const 17) (i32.const 255))";
    let name = calls(
        Host::Config,
        &format!(
            "{spoil} (call $get (i32.const 16) (i32.const 5) (i32.const 2048)) (call $digit (i32.const 1))"
        ),
    );
    let line = calls(
        Host::Log,
        &format!(
            "{spoil} (call $log (i32.const 2) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (call $digit (i32.const 1))"
        ),
    );
    for wat in [name, line] {
        let plugin = loaded(&runtime, &wat).await;
        assert_eq!(run(&plugin).await.unwrap_err(), CallError::Trapped);
    }
    assert!(log.text().contains("utf-8"), "{}", log.text());
}

#[tokio::test]
async fn addresses_beyond_the_memory_end_the_call() {
    let runtime = runtime(Budget::default());
    for arguments in [
        "(i32.const -16) (i32.const 32) (i32.const 2048)",
        "(i32.const 16) (i32.const -1) (i32.const 2048)",
        "(i32.const 16) (i32.const 5) (i32.const -4)",
    ] {
        let wat = calls(
            Host::Config,
            &format!("(call $get {arguments}) (call $digit (i32.const 1))"),
        );
        let plugin = loaded(&runtime, &wat).await;
        assert_eq!(
            run(&plugin).await.unwrap_err(),
            CallError::Trapped,
            "{arguments}"
        );
    }
}

#[tokio::test]
async fn an_interface_without_a_grant_is_refused_by_its_name() {
    let runtime = runtime(Budget::default());
    let importing = |import: &str| {
        crate::wat::runs("(unreachable)").replacen(
            "(component",
            &format!("(component (import \"{import}\" (instance))"),
            1,
        )
    };
    for (import, ask) in [
        (
            "coglex:storage/documents@0.1.0",
            "storage = [{ collection = \"a\", verbs = [\"read\"] }]",
        ),
        (
            "coglex:auth/accounts@0.1.0",
            "auth = [{ collection = \"users\", verbs = [\"lookup\"] }]",
        ),
        ("coglex:execution/calls@0.1.0", "functions = [\"f\"]"),
        ("coglex:config/secrets@0.1.0", "secrets = [\"s\"]"),
        ("coglex:kv/store@0.1.0", "kv = true"),
    ] {
        let grant = ask.split(' ').next().unwrap();
        let error = load(&runtime, &importing(import))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(import) && error.contains(&format!("no {grant} grant")),
            "{error}"
        );
        let asked = format!("[grants]\n{ask}");
        let nothing = load_asking(
            &runtime,
            &importing(import),
            &asked,
            coglex_runtime::Allow::Nothing,
        )
        .await;
        let error = nothing.unwrap_err().to_string();
        assert!(error.contains("the operator allows none"), "{error}");
        let all = load_asking(
            &runtime,
            &importing(import),
            &asked,
            coglex_runtime::Allow::Everything,
        )
        .await;
        all.unwrap_or_else(|error| panic!("{import}: {error}"));
    }
}
