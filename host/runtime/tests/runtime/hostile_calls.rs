//! Guests that call functions, themselves too, as deep, as often and with as much
//! as they can.

use std::sync::Arc;

use coglex_runtime::{Allow, Budget, BudgetOverrides, CallError, Plugin, Runtime};

use crate::support::{Log, budget, load_asking, run, runtime};
use crate::wat::{Guest, Host, function};

/// Calls `probe`, which is itself, with `[]` and `{}`; the outcome is at 2048.
const CALL_ITSELF: &str = "(call $call (i32.const 16) (i32.const 5) (i32.const 160) (i32.const 2) (i32.const 133) (i32.const 2) (i32.const 2048))";

/// A guest that may call `probe` and is what it finds by that name.
async fn calling(runtime: &Runtime, run: String) -> Plugin {
    let wat = function(Guest {
        host: Host::Calls,
        module: "(data (i32.const 160) \"[]\")",
        pages: 64,
        run,
        ..Guest::default()
    });
    let ask = "[grants]\nfunctions = [\"probe\"]";
    let plugin = load_asking(runtime, &wat, ask, Allow::Everything)
        .await
        .unwrap();
    let found = plugin.clone();
    runtime.find_functions_by(Arc::new(move |_| Some(found.clone())));
    plugin
}

#[tokio::test]
async fn a_function_that_calls_itself_ends_at_the_depth_that_is_allowed() {
    let runtime = runtime(Budget::default());
    // Its depth: 0 where it may call no deeper, else one more than what it called.
    let deeper = format!(
        "{CALL_ITSELF}
         (if (i32.load8_u (i32.const 2048)) (then (return (call $digit (i32.const 0)))))
         (call $digit (i32.add (i32.const 1) (i32.sub (i32.load8_u (i32.load (i32.const 2052))) (i32.const 48))))"
    );
    let plugin = calling(&runtime, deeper).await;
    // More often than there are slots for nested calls: each is given back.
    for _ in 0..70 {
        assert_eq!(run(&plugin).await.unwrap(), "8");
    }
    assert_eq!(plugin.counts().running, 0);
}

#[tokio::test]
async fn calling_oneself_without_end_spends_the_callers_budget() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        host_calls: Some(100),
        cpu_ms: Some(2_000),
        ..BudgetOverrides::default()
    }));
    let endless = format!("(loop $l {CALL_ITSELF} (br $l)) (unreachable)");
    let plugin = calling(&runtime, endless).await;
    assert_eq!(run(&plugin).await, Err(CallError::Trapped));
    assert!(
        log.text().contains("more than its 100 host calls"),
        "{}",
        log.text()
    );
    // All levels together made no more calls than one may.
    let calls = plugin.counts().calls;
    assert!((8..=102).contains(&calls), "{calls} calls");
    assert_eq!(plugin.counts().running, 0);
}

#[tokio::test]
async fn functions_pass_each_other_no_more_than_a_mib() {
    // With arguments of eight bytes, which is how the test calls it, it calls
    // itself with a list of so many bytes, nearly all of them spaces; with those
    // it answers 7. An error is told by the number of its case.
    let arguments = |bytes: u32| {
        format!(
            "(if (i32.ne (local.get $args_len) (i32.const 8)) (then (return (call $digit (i32.const 7)))))
             (memory.fill (i32.const 65536) (i32.const 32) (i32.const {bytes}))
             (i32.store8 (i32.const 65536) (i32.const 91))
             (i32.store8 (i32.const {last}) (i32.const 93))
             (call $call (i32.const 16) (i32.const 5) (i32.const 65536) (i32.const {bytes}) (i32.const 133) (i32.const 2) (i32.const 2048))
             (if (i32.load8_u (i32.const 2048)) (then (return (call $digit (i32.load8_u (i32.const 2052))))))
             (call $ok (i32.load (i32.const 2052)) (i32.load (i32.const 2056)))",
            last = 65536 + bytes - 1
        )
    };
    const MIB: u32 = 1 << 20;
    const INVALID: &str = "2";
    // `{}` takes two bytes of what both may have.
    for (bytes, expected) in [(MIB - 2, "7"), (MIB - 1, INVALID), (2 * MIB, INVALID)] {
        // Where functions are found can be said once for each runtime.
        let runtime = runtime(Budget::default());
        let plugin = calling(&runtime, arguments(bytes)).await;
        assert_eq!(run(&plugin).await.unwrap(), expected, "{bytes} bytes");
    }
}

#[tokio::test]
async fn functions_answer_each_other_with_no_more_than_a_mib_of_json() {
    let log = Log::capture();
    const MIB: u32 = 1 << 20;
    const TRAPPED: &str = "4";
    // The called one answers with the digit 7 behind so many bytes less one of
    // spaces, or of what `filler` is.
    for (bytes, filler, expected) in [
        (MIB, 32, "7"),
        (MIB + 1, 32, TRAPPED),
        (16, i32::from(b'x'), TRAPPED),
    ] {
        let runtime = runtime(Budget::default());
        let answers = format!(
            "(if (i32.ne (local.get $args_len) (i32.const 8)) (then
               (memory.fill (i32.const 65536) (i32.const {filler}) (i32.const {bytes}))
               (i32.store8 (i32.const {last}) (i32.const 55))
               (return (call $ok (i32.const 65536) (i32.const {bytes})))))
             {CALL_ITSELF}
             (if (i32.load8_u (i32.const 2048)) (then (return (call $digit (i32.load8_u (i32.const 2052))))))
             (if (i32.ne (i32.load (i32.const 2056)) (i32.const {bytes})) (then (unreachable)))
             (call $digit (i32.sub (i32.load8_u (i32.add (i32.load (i32.const 2052)) (i32.const {at}))) (i32.const 48)))",
            last = 65536 + bytes - 1,
            at = bytes - 1
        );
        let plugin = calling(&runtime, answers).await;
        assert_eq!(run(&plugin).await.unwrap(), expected, "{bytes} bytes");
    }
    assert!(log.text().contains("more than the 1 MiB"), "{}", log.text());
    assert!(log.text().contains("is not JSON"), "{}", log.text());
}

#[tokio::test]
async fn arguments_that_are_no_json_are_refused_before_anybody_is_called() {
    let runtime = runtime(Budget::default());
    // "probe" is no list, `notes` no object.
    let plugin = calling(
        &runtime,
        "(call $call (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5) (i32.const 128) (i32.const 5) (i32.const 2048))
         (call $digit (i32.load8_u (i32.const 2052)))"
            .to_owned(),
    )
    .await;
    assert_eq!(run(&plugin).await.unwrap(), "2");
    assert_eq!(plugin.counts().calls, 1);
}
