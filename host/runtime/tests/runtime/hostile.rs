//! What guests hand to host functions that the canonical ABI does not allow, or
//! that nobody would by accident.

use std::time::{Duration, Instant};

use coglex_runtime::{Budget, BudgetOverrides, CallError, RouteMatch};
use http::Request;

use crate::support::{Log, body, budget, context, load, load_asking, loaded, run, runtime};
use crate::wat::{Guest, Host, app, function, runs};

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
        runs("(unreachable)").replacen(
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

#[tokio::test]
async fn no_malformed_text_gets_past_the_abi_in_either_direction() {
    let runtime = runtime(Budget::default());
    // A byte without its lead, overlong zero and slash, half of a pair of
    // surrogates, beyond the last character, a lead at the end of the text.
    for malformed in [
        "\\80abcd",
        "\\c0\\80abc",
        "\\c0\\afabc",
        "\\ed\\a0\\80ab",
        "\\f4\\90\\80\\80a",
        "abcd\\e2",
    ] {
        let data = format!("(data (i32.const 4096) \"{malformed}\")");
        let with = |wat: String| wat.replacen("(func $ok ", &format!("{data} (func $ok "), 1);
        let asks = "(call $get (i32.const 4096) (i32.const 5) (i32.const 2048)) (call $digit (i32.const 1))";
        let answers = "(call $ok (i32.const 4096) (i32.const 5))";
        for wat in [calls(Host::Config, asks), runs(answers)] {
            let plugin = loaded(&runtime, &with(wat)).await;
            assert_eq!(run(&plugin).await, Err(CallError::Trapped), "{malformed}");
        }
    }
}

#[tokio::test]
async fn an_allocator_that_misbehaves_hurts_its_own_call_only() {
    let runtime = runtime(budget(BudgetOverrides {
        cpu_ms: Some(100),
        ..BudgetOverrides::default()
    }));
    // The host asks the guest for room for the arguments.
    let allocating = |instructions: &str| {
        runs("(call $digit (i32.const 7))").replacen(
            "(local $at i32)",
            &format!("(local $at i32) {instructions}"),
            1,
        )
    };
    let start = Instant::now();
    for (instructions, ending) in [
        ("(loop $l (br $l))", CallError::Deadline),
        ("(unreachable)", CallError::Trapped),
        ("(return (i32.const -8))", CallError::Trapped),
        ("(return (i32.const 65535))", CallError::Trapped),
        (
            "(drop (memory.grow (i32.const 65000))) (unreachable)",
            CallError::Trapped,
        ),
    ] {
        let plugin = loaded(&runtime, &allocating(instructions)).await;
        assert_eq!(run(&plugin).await, Err(ending), "{instructions}");
        assert_eq!(plugin.counts().running, 0, "{instructions}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let plugin = loaded(&runtime, &runs("(call $digit (i32.const 7))")).await;
    assert_eq!(run(&plugin).await.unwrap(), "7");
}

#[tokio::test]
async fn handles_are_counted_and_cannot_be_made_up() {
    let runtime = runtime(budget(BudgetOverrides {
        wall_ms: Some(300),
        ..BudgetOverrides::default()
    }));
    let many = |number: u32| {
        calls(
            Host::Timer,
            &format!(
                "(local.set $n (i32.const {number}))
                 (loop $l
                   (drop (call $timer (i64.const 3600000000000)))
                   (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                 (call $digit (i32.const 7))"
            ),
        )
    };
    // Each timer is two things in the host's table, which has room for a thousand.
    let modest = loaded(&runtime, &many(450)).await;
    assert_eq!(run(&modest).await.unwrap(), "7");
    for number in [501, 1_000_000] {
        let greedy = loaded(&runtime, &many(number)).await;
        assert_eq!(run(&greedy).await, Err(CallError::Trapped), "{number}");
    }
    for handle in ["(i32.const 1)", "(i32.const 77)", "(i32.const -1)"] {
        let forged = calls(
            Host::Timer,
            &format!("(call $block {handle}) (call $digit (i32.const 7))"),
        );
        let plugin = loaded(&runtime, &forged).await;
        assert_eq!(run(&plugin).await, Err(CallError::Trapped), "{handle}");
    }
    // A real one, waited for longer than the call may take.
    let waits = calls(
        Host::Timer,
        "(call $block (call $timer (i64.const 3600000000000))) (call $digit (i32.const 7))",
    );
    let plugin = loaded(&runtime, &waits).await;
    assert_eq!(run(&plugin).await, Err(CallError::Deadline));
    assert_eq!(plugin.counts().running, 0);
}

#[tokio::test]
async fn random_bytes_come_in_portions() {
    let runtime = runtime(Budget::default());
    for (bytes, expected) in [
        (1 << 20, Ok("7".to_owned())),
        ((1 << 20) + 1, Err(CallError::Trapped)),
        (1u64 << 62, Err(CallError::Trapped)),
    ] {
        let asks = format!(
            "(call $random (i64.const {bytes}) (i32.const 2048)) (call $digit (i32.const 7))"
        );
        let plugin = loaded(&runtime, &calls(Host::Random, &asks)).await;
        assert_eq!(run(&plugin).await, expected, "{bytes}");
    }
}

#[tokio::test]
async fn giant_headers_and_bodies_are_not_sent() {
    let runtime = runtime(budget(BudgetOverrides {
        response_mib: Some(1),
        ..BudgetOverrides::default()
    }));
    // So many headers, each named x with a value of so many of them.
    let answers = |headers: u32, value: u32, body: u32| {
        app(&format!(
            "(drop (memory.grow (i32.const 64)))
             (memory.fill (i32.const 131072) (i32.const 120) (i32.const 2000000))
             (local.set $headers (i32.const 65536))
             (loop $l
               (i32.store (local.get $headers) (i32.const 131072))
               (i32.store offset=4 (local.get $headers) (i32.const 1))
               (i32.store offset=8 (local.get $headers) (i32.const 131072))
               (i32.store offset=12 (local.get $headers) (i32.const {value}))
               (br_if $l (i32.lt_u (local.tee $headers (i32.add (local.get $headers) (i32.const 16))) (i32.const 131072))))
             (i32.store16 (i32.const 1024) (i32.const 200))
             (i32.store (i32.const 1028) (i32.const 65536))
             (i32.store (i32.const 1032) (i32.const {headers}))
             (i32.store (i32.const 1036) (i32.const 131072))
             (i32.store (i32.const 1040) (i32.const {body}))
             (i32.const 1024)"
        ))
    };
    for (headers, value, body_bytes, fits) in [
        (256, 10, 1 << 20, true),
        (1, 60_000, 0, true),
        (257, 1, 0, false),
        (1, 65_536, 0, false),
        (4_000, 400, 0, false),
        (1, 1_500_000, 0, false),
        (0, 0, (1 << 20) + 1, false),
    ] {
        let plugin = loaded(&runtime, &answers(headers, value, body_bytes)).await;
        let request = Request::get("/echo").body(body("")).unwrap();
        let matched = RouteMatch {
            pattern: "/echo".to_owned(),
            params: Vec::new(),
            body: None,
        };
        let answer = plugin.handle(request, matched, context()).await;
        let case = (headers, value, body_bytes);
        match answer {
            Ok(response) => assert!(fits && response.status() == 200, "{case:?}"),
            Err(error) => assert!(
                !fits && matches!(error, CallError::InvalidResponse(_) | CallError::Trapped),
                "{case:?}: {error}"
            ),
        }
        assert_eq!(plugin.counts().running, 0);
    }
}
