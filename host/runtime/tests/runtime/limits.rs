//! Every limit, met by a guest that tries to exceed it.

use std::time::{Duration, Instant};

use coglex_runtime::{
    Allow, Budget, BudgetOverrides, CallError, LoadError, Plugin, Policy, Runtime, RuntimeSettings,
};
use tokio::task::JoinSet;

use crate::support::{
    Log, budget, bytes, context, load, load_asking, loaded, run, runtime, services,
};
use crate::wat::{Guest, Host, function, runs};

const LOOP: &str = "(loop $l (br $l)) (unreachable)";

fn quick(overrides: BudgetOverrides) -> Budget {
    budget(BudgetOverrides {
        cpu_ms: Some(200),
        wall_ms: Some(5_000),
        ..overrides
    })
}

#[tokio::test]
async fn an_endless_loop_is_cut_while_other_calls_answer() {
    let log = Log::capture();
    let runtime = runtime(quick(BudgetOverrides::default()));
    let endless = loaded(&runtime, &runs(LOOP)).await;
    let quick = loaded(&runtime, &runs("(call $digit (i32.const 7))")).await;

    // One thread: the other calls get their turn only if the loop yields.
    let start = Instant::now();
    let looping = tokio::spawn(async move { run(&endless).await });
    let others = tokio::spawn(async move {
        for _ in 0..10 {
            assert_eq!(run(&quick).await.unwrap(), "7");
        }
        start.elapsed()
    });
    let answered = others.await.unwrap();
    assert!(
        answered < Duration::from_millis(150),
        "the others waited for {answered:?}"
    );
    assert_eq!(looping.await.unwrap(), Err(CallError::Deadline));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(log.text().contains("CPU budget of 200ms"), "{}", log.text());
}

#[tokio::test]
async fn a_start_function_that_loops_is_cut_too() {
    let runtime = runtime(quick(BudgetOverrides::default()));
    let wat = function(Guest {
        module: "(func $start (loop $l (br $l))) (start $start)",
        run: "(unreachable)".to_owned(),
        ..Guest::default()
    });
    let error = load(&runtime, &wat).await.unwrap_err();
    assert!(matches!(error, LoadError::Describe(_)), "{error}");
    assert!(error.to_string().contains("CPU budget of 200ms"), "{error}");
}

#[tokio::test]
async fn a_call_that_waits_for_ever_is_cut_by_the_wall_clock() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        wall_ms: Some(100),
        ..BudgetOverrides::default()
    }));
    // The collection `slow` never answers.
    let wat = function(Guest {
        host: Host::Storage,
        run: "(call $count (i32.const 135) (i32.const 4) (i32.const 133) (i32.const 2) (i32.const 2048)) (unreachable)".to_owned(),
        ..Guest::default()
    });
    let ask = "[grants]\nstorage = [{ collection = \"slow\", verbs = [\"read\"] }]";
    let plugin = load_asking(&runtime, &wat, ask, Allow::Everything)
        .await
        .unwrap();
    let start = Instant::now();
    assert_eq!(run(&plugin).await, Err(CallError::Deadline));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(
        log.text().contains("wall-clock budget of 100ms"),
        "{}",
        log.text()
    );
}

/// Loads with a MiB of memory, in a pool whose places have more: so it is the
/// budget that is met, not the pool's end.
async fn load_with_a_mib(wat: &str) -> Result<Plugin, LoadError> {
    let runtime = runtime(Budget::default());
    load_asking(&runtime, wat, "[budget]\nmemory_mib = 1", Allow::Nothing).await
}

#[tokio::test]
async fn memory_grows_to_the_cap_and_not_beyond() {
    // From 1 page to 16 is a MiB; one more is refused, by -1.
    let wat = runs(
        "(if (i32.ne (memory.grow (i32.const 15)) (i32.const 1)) (then (return (call $digit (i32.const 1)))))
         (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (return (call $digit (i32.const 2)))))
         (call $digit (i32.const 0))",
    );
    let plugin = load_with_a_mib(&wat).await.unwrap();
    assert_eq!(run(&plugin).await.unwrap(), "0");
    // The next call starts afresh.
    assert_eq!(run(&plugin).await.unwrap(), "0");
}

#[tokio::test]
async fn no_plugin_gets_more_memory_than_a_place_in_the_pool_has() {
    let runtime = runtime(budget(BudgetOverrides {
        memory_mib: Some(1),
        ..BudgetOverrides::default()
    }));
    let operator = BudgetOverrides {
        memory_mib: Some(64),
        ..BudgetOverrides::default()
    };
    let policy = Policy {
        budget: Some(operator),
        ..Policy::default()
    };
    let wasm = bytes(&runs("(call $digit (i32.const 0))"));
    let plugin = runtime.load("probe", wasm, None, policy).await.unwrap();
    assert_eq!(plugin.budget().memory_bytes, 1 << 20);
}

#[tokio::test]
async fn a_trap_after_refused_memory_says_so_in_the_log() {
    let log = Log::capture();
    let wat = runs("(drop (memory.grow (i32.const 999))) (unreachable)");
    let plugin = load_with_a_mib(&wat).await.unwrap();
    assert_eq!(run(&plugin).await, Err(CallError::Trapped));
    assert!(
        log.text().contains("memory_limit_reached=1048576"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_guest_that_starts_with_too_much_memory_is_not_loaded() {
    let wat = function(Guest {
        pages: 17,
        run: "(call $digit (i32.const 0))".to_owned(),
        ..Guest::default()
    });
    let error = load_with_a_mib(&wat).await.unwrap_err();
    assert!(
        error.to_string().contains("more memory than its budget"),
        "{error}"
    );
}

#[tokio::test]
async fn a_table_cannot_grow_without_end() {
    let runtime = runtime(budget(BudgetOverrides::default()));
    let wat = function(Guest {
        module: "(table $t 1 funcref)",
        run: "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then (return (call $digit (i32.const 1)))))
              (if (i32.ne (table.grow $t (ref.null func) (i32.const 1000000)) (i32.const -1)) (then (return (call $digit (i32.const 2)))))
              (call $digit (i32.const 0))".to_owned(),
        ..Guest::default()
    });
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await.unwrap(), "0");
}

#[tokio::test]
async fn endless_recursion_ends_in_a_trap() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides::default()));
    let wat = function(Guest {
        module: "(func $deeper (param i32) (result i32) (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))",
        run: "(call $digit (call $deeper (i32.const 0)))".to_owned(),
        ..Guest::default()
    });
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await, Err(CallError::Trapped));
    assert!(
        log.text().contains("call stack exhausted"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_trap_is_logged_once_with_request_plugin_and_backtrace() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides::default()));
    let wat = function(Guest {
        module: "(func $the_culprit (unreachable))",
        run: "(call $the_culprit) (unreachable)".to_owned(),
        ..Guest::default()
    });
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await, Err(CallError::Trapped));
    assert_eq!(log.lines("ERROR"), 1, "{}", log.text());
    for part in ["request-1", "probe", "the_culprit", "unreachable"] {
        assert!(log.text().contains(part), "no {part} in {}", log.text());
    }
}

#[tokio::test]
async fn host_calls_are_counted() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        host_calls: Some(3),
        ..BudgetOverrides::default()
    }));
    let calls = |number: u32| {
        let run = format!(
            "(local.set $n (i32.const {number}))
             (loop $l
               (call $get (i32.const 16) (i32.const 5) (i32.const 2048))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (call $digit (i32.load8_u (i32.const 2048)))"
        );
        function(Guest {
            host: Host::Config,
            run,
            ..Guest::default()
        })
    };
    let modest = loaded(&runtime, &calls(3)).await;
    assert_eq!(run(&modest).await.unwrap(), "0");
    let greedy = loaded(&runtime, &calls(4)).await;
    assert_eq!(run(&greedy).await, Err(CallError::Trapped));
    assert!(
        log.text().contains("more than its 3 host calls"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn bytes_through_host_calls_are_counted() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        host_call_mib: Some(1),
        ..BudgetOverrides::default()
    }));
    // Two names of 600 KiB are more than a MiB.
    let wat = function(Guest {
        host: Host::Config,
        pages: 16,
        run: "(call $get (i32.const 4096) (i32.const 614400) (i32.const 2048))
              (call $get (i32.const 4096) (i32.const 614400) (i32.const 2048))
              (call $digit (i32.const 0))"
            .to_owned(),
        ..Guest::default()
    });
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await, Err(CallError::Trapped));
    assert!(
        log.text().contains("bytes through host calls"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_said_to_be() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        log_kib: Some(1),
        ..BudgetOverrides::default()
    }));
    let wat = function(Guest {
        host: Host::Log,
        run: "(local.set $n (i32.const 1000))
              (loop $l
                (call $log (i32.const 2) (i32.const 112) (i32.const 10) (i32.const 0) (i32.const 0))
                (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
              (call $digit (i32.const 0))"
            .to_owned(),
        ..Guest::default()
    });
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await.unwrap(), "0");
    // Ten bytes, and what a line costs, go into a KiB thirteen times.
    assert_eq!(log.text().matches("0123456789").count(), 13);
    assert_eq!(log.text().matches("reached its log limit").count(), 1);
}

#[tokio::test]
async fn a_result_over_the_response_budget_is_not_sent() {
    let runtime = runtime(budget(BudgetOverrides {
        response_mib: Some(1),
        ..BudgetOverrides::default()
    }));
    let of = |bytes: u32| {
        function(Guest {
            pages: 32,
            run: format!("(call $ok (i32.const 4096) (i32.const {bytes}))"),
            ..Guest::default()
        })
    };
    let plugin = loaded(&runtime, &of(1 << 20)).await;
    assert_eq!(run(&plugin).await.unwrap().len(), 1 << 20);
    let plugin = loaded(&runtime, &of((1 << 20) + 1)).await;
    assert!(matches!(
        run(&plugin).await,
        Err(CallError::InvalidResponse(_))
    ));
}

#[tokio::test]
async fn a_result_outside_of_memory_or_not_utf8_is_a_trap() {
    let runtime = runtime(budget(BudgetOverrides::default()));
    for run_body in [
        "(call $ok (i32.const 4096) (i32.const 2147483647))",
        "(i32.const 65530)",
        "(i32.store8 (i32.const 4096) (i32.const 255)) (call $ok (i32.const 4096) (i32.const 1))",
    ] {
        let plugin = loaded(&runtime, &runs(run_body)).await;
        assert_eq!(run(&plugin).await, Err(CallError::Trapped), "{run_body}");
    }
}

#[tokio::test]
async fn a_call_beyond_concurrency_and_queue_is_turned_away() {
    let runtime = runtime(quick(BudgetOverrides {
        concurrency: Some(1),
        queue: Some(0),
        ..BudgetOverrides::default()
    }));
    let plugin = loaded(&runtime, &runs(LOOP)).await;
    let (first, second) = tokio::join!(run(&plugin), run(&plugin));
    assert_eq!(first, Err(CallError::Deadline));
    assert!(
        matches!(second, Err(CallError::Overloaded { .. })),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_dropped_call_gives_its_place_back() {
    let runtime = runtime(budget(BudgetOverrides {
        concurrency: Some(1),
        queue: Some(0),
        ..BudgetOverrides::default()
    }));
    let wat = runs(
        "(if (i32.eq (local.get $args_len) (i32.const 2)) (then (loop $l (br $l)))) (call $digit (i32.const 7))",
    );
    let plugin = loaded(&runtime, &wat).await;
    let endless = plugin.run("probe", "[]".to_owned(), "{}".to_owned(), context());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), endless)
            .await
            .is_err()
    );
    assert_eq!(run(&plugin).await.unwrap(), "7");
}

/// Counts in the collection `slow`, which never answers, when its arguments are
/// `[]`, and in `notes` otherwise.
async fn waiting(runtime: &Runtime) -> Plugin {
    let wat = function(Guest {
        host: Host::Storage,
        run: "(if (i32.eq (local.get $args_len) (i32.const 2))
                (then (call $count (i32.const 135) (i32.const 4) (i32.const 133) (i32.const 2) (i32.const 2048)))
                (else (call $count (i32.const 128) (i32.const 5) (i32.const 133) (i32.const 2) (i32.const 2048))))
              (call $digit (i32.load (i32.const 2056)))"
            .to_owned(),
        ..Guest::default()
    });
    let ask = "[grants]\nstorage = [{ collection = \"slow\", verbs = [\"read\"] }, { collection = \"notes\", verbs = [\"read\"] }]";
    load_asking(runtime, &wat, ask, Allow::Everything)
        .await
        .unwrap()
}

/// Calls that wait for ever, begun.
async fn waiting_calls(plugin: &Plugin, count: usize) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let plugin = plugin.clone();
        calls.spawn(async move {
            let call = plugin.run("probe", "[]".to_owned(), "{}".to_owned(), context());
            panic!("{:?}", call.await);
        });
    }
    // This runtime has one thread: after this, each has gone as far as it can.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(calls.try_join_next().is_none());
    calls
}

#[tokio::test]
async fn a_full_pool_turns_calls_away_and_still_loads_plugins() {
    let runtime = runtime(budget(BudgetOverrides {
        queue: Some(0),
        ..BudgetOverrides::default()
    }));
    let overloaded = |result: Result<String, CallError>| {
        assert!(
            matches!(result, Err(CallError::Overloaded { .. })),
            "{result:?}"
        );
    };
    // The pool holds 16, and half of it is one plugin's most.
    let (first, second) = (waiting(&runtime).await, waiting(&runtime).await);
    let _first_calls = waiting_calls(&first, 8).await;
    overloaded(run(&first).await);
    assert_eq!(run(&second).await.unwrap(), "5");
    let mut second_calls = waiting_calls(&second, 8).await;
    let third = loaded(&runtime, &runs("(call $digit (i32.const 7))")).await;
    overloaded(run(&third).await);
    second_calls.shutdown().await;
    assert_eq!(run(&third).await.unwrap(), "7");
}

#[tokio::test]
async fn a_plugin_cannot_fill_the_stores_queue() {
    let settings = RuntimeSettings {
        max_instances: 64,
        ..RuntimeSettings::default()
    };
    let runtime = Runtime::new(settings, services()).unwrap();
    let (greedy, other) = (waiting(&runtime).await, waiting(&runtime).await);
    let mut calls = waiting_calls(&greedy, 16).await;
    let next = tokio::time::timeout(Duration::from_millis(100), run(&greedy));
    assert!(next.await.is_err(), "it waits for its turn");
    assert_eq!(run(&other).await.unwrap(), "5");
    calls.shutdown().await;
    assert_eq!(run(&greedy).await.unwrap(), "5");
}

#[tokio::test]
async fn bytes_that_the_host_gives_are_counted_too() {
    let log = Log::capture();
    let runtime = runtime(budget(BudgetOverrides {
        host_call_mib: Some(1),
        ..BudgetOverrides::default()
    }));
    let reads = |times: u32| {
        let run = format!(
            "(local.set $n (i32.const {times}))
             (loop $l
               (call $get (i32.const 16) (i32.const 5) (i32.const 2048))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (call $digit (i32.load8_u (i32.const 2048)))"
        );
        bytes(&function(Guest {
            host: Host::Config,
            run,
            ..Guest::default()
        }))
    };
    let setting = Policy {
        settings: [("probe".to_owned(), "x".repeat(600 << 10))].into(),
        ..Policy::default()
    };
    for (times, expected) in [(1, Ok("1".to_owned())), (2, Err(CallError::Trapped))] {
        let plugin = runtime
            .load("probe", reads(times), None, setting.clone())
            .await
            .unwrap();
        assert_eq!(run(&plugin).await, expected, "{times} times");
    }
    assert!(
        log.text().contains("bytes through host calls"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn the_queue_is_as_long_as_the_budget_says_and_empty_afterwards() {
    let runtime = runtime(quick(BudgetOverrides {
        concurrency: Some(1),
        queue: Some(2),
        queue_wait_ms: Some(5_000),
        ..BudgetOverrides::default()
    }));
    let plugin = loaded(&runtime, &runs(LOOP)).await;
    for _ in 0..2 {
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            let plugin = plugin.clone();
            calls.spawn(async move { run(&plugin).await });
        }
        let ended = calls.join_all().await;
        let of = |wanted: fn(&CallError) -> bool| {
            let errors = ended.iter().filter_map(|end| end.as_ref().err());
            errors.filter(|error| wanted(error)).count()
        };
        // One ran, two waited for it and ran then, three were turned away.
        assert_eq!(of(|error| *error == CallError::Deadline), 3, "{ended:?}");
        assert_eq!(
            of(|error| matches!(error, CallError::Overloaded { .. })),
            3,
            "{ended:?}"
        );
        assert_eq!(plugin.counts().running, 0);
    }
}
