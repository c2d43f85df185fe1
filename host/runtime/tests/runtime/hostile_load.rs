//! Components that misbehave before anybody calls them: too much of everything,
//! a `describe()` that does not end, names that are none. What cannot be served
//! is refused, and the runtime goes on.

use std::time::{Duration, Instant};

use coglex_runtime::{Budget, BudgetOverrides, LoadError, Runtime};

use crate::support::{budget, chain, load, loaded, run, runtime};
use crate::wat::{Guest, Host, function, runs};

fn seven() -> String {
    runs("(call $digit (i32.const 7))")
}

/// A guest with these instructions at the start of its `describe`.
fn describing(describe: &'static str) -> String {
    function(Guest {
        describe,
        pages: 32,
        run: "(call $digit (i32.const 7))".to_owned(),
        ..Guest::default()
    })
}

/// It is refused with these words, at once, and others can be loaded.
#[track_caller]
fn refused(result: Result<coglex_runtime::Plugin, LoadError>, words: &str) -> LoadError {
    let error = result.map(drop).expect_err(words);
    let text = chain(&error);
    assert!(text.contains(words), "no {words:?} in {text:?}");
    error
}

async fn goes_on(runtime: &Runtime) {
    let plugin = loaded(runtime, &seven()).await;
    assert_eq!(run(&plugin).await.unwrap(), "7");
}

/// The good guest with so many of this beside what it needs.
fn with_more(count: usize, module: &str) -> String {
    let instances = "(core instance (instantiate $more)) ".repeat(count);
    seven().replacen(
        "(component",
        &format!("(component (core module $more {module}) {instances}"),
        1,
    )
}

#[tokio::test]
async fn a_component_of_too_many_parts_is_refused() {
    let runtime = runtime(Budget::default());
    for (count, module, words) in [
        // Beside the memory and the two instances of a good one.
        (2, "(memory 1)", "memories"),
        (5, "(table 1 funcref)", "tables"),
        (1, "(table 50001 funcref)", "table"),
        (63, "", "instances"),
        (1_000, "", "instances"),
        (1, "(memory 65536)", "memory"),
        (1, "(memory i64 0x1_0000_0001)", "memory"),
    ] {
        refused(load(&runtime, &with_more(count, module)).await, words);
    }
    // Just what is allowed.
    for (count, module) in [
        (1, "(memory 1)"),
        (4, "(table 1 funcref)"),
        (1, "(table 50000 funcref)"),
        (60, ""),
    ] {
        let plugin = loaded(&runtime, &with_more(count, module)).await;
        assert_eq!(run(&plugin).await.unwrap(), "7", "{count} of {module}");
    }
    goes_on(&runtime).await;
}

#[tokio::test]
async fn a_describe_that_takes_more_than_its_budget_is_cut() {
    let runtime = runtime(budget(BudgetOverrides {
        cpu_ms: Some(200),
        wall_ms: Some(400),
        memory_mib: Some(4),
        ..BudgetOverrides::default()
    }));
    let start = Instant::now();
    let waits = function(Guest {
        host: Host::Timer,
        describe: "(call $block (call $timer (i64.const 3600000000000)))",
        run: "(unreachable)".to_owned(),
        ..Guest::default()
    });
    for (wat, words) in [
        (describing("(loop $l (br $l))"), "CPU budget of 200ms"),
        (waits, "longer than 400ms"),
        (describing("(unreachable)"), "unreachable"),
        (
            describing("(drop (memory.grow (i32.const 1000))) (unreachable)"),
            "refused more memory",
        ),
        // A list that ends beyond the memory.
        (
            describing("(i32.store (i32.const 36) (i32.const 0x7ffffff))"),
            "",
        ),
        // A text in it that begins beyond the memory.
        (describing("(i32.store (i32.const 64) (i32.const -8))"), ""),
    ] {
        let error = refused(load(&runtime, &wat).await, words);
        assert!(matches!(error, LoadError::Describe(_)), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    goes_on(&runtime).await;
}

#[tokio::test]
async fn a_describe_that_says_too_much_is_refused_in_few_words() {
    let runtime = runtime(Budget::default());
    for describe in [
        // The one function's name is a megabyte, of zeros behind "probe".
        "(i32.store (i32.const 68) (i32.const 1048576))",
        // So is its summary.
        "(i32.store8 (i32.const 72) (i32.const 1)) (i32.store (i32.const 76) (i32.const 4096)) (i32.store (i32.const 80) (i32.const 1048576))",
        // There are a hundred thousand functions.
        "(i32.store (i32.const 32) (i32.const 4096)) (i32.store (i32.const 36) (i32.const 100000))",
        // The same one twice.
        "(memory.copy (i32.const 84) (i32.const 64) (i32.const 20)) (i32.store (i32.const 36) (i32.const 2))",
        // None at all.
        "(i32.store (i32.const 36) (i32.const 0))",
    ] {
        let error = refused(load(&runtime, &describing(describe)).await, "");
        assert!(matches!(error, LoadError::Declares(_)), "{error}");
        let text = chain(&error);
        assert!(text.len() < 500, "{} bytes of error", text.len());
    }
    goes_on(&runtime).await;
}

#[tokio::test]
async fn names_that_lie_are_refused_and_shown_harmless() {
    let runtime = runtime(Budget::default());
    // Five bytes each, as "probe" has.
    for name in [
        "../pr",
        "a/b/c",
        "pr\\00be",
        "\\0aprob",
        "\\1b[2Jx",
        "\\e2\\80\\aexx",
        "prob\\7f",
        "     ",
        "<b>x<",
        "a\\22,\\22b",
    ] {
        let wat = seven().replacen("\"probe\"", &format!("\"{name}\""), 1);
        let error = refused(load(&runtime, &wat).await, "");
        assert!(matches!(error, LoadError::Declares(_)), "{name}: {error}");
        let text = chain(&error);
        let harmless = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(text.chars().all(harmless), "{name}: {text:?}");
    }
    // A name that is no text at all is not even a name.
    let wat = seven().replacen("\"probe\"", "\"prob\\ff\"", 1);
    let error = refused(load(&runtime, &wat).await, "utf-8");
    assert!(matches!(error, LoadError::Describe(_)), "{error}");
    goes_on(&runtime).await;
}

#[tokio::test]
async fn bad_components_in_great_number_leave_no_places_taken() {
    let runtime = runtime(budget(BudgetOverrides {
        cpu_ms: Some(20),
        ..BudgetOverrides::default()
    }));
    // More than may describe at once.
    for _ in 0..40 {
        refused(load(&runtime, &describing("(unreachable)")).await, "");
        refused(
            load(&runtime, &describing("(loop $l (br $l))")).await,
            "CPU",
        );
    }
    goes_on(&runtime).await;
}
