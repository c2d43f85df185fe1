//! Components that misbehave when they are loaded, put into the plugin folder of
//! the real binary: each is refused with a reason, and nothing else changes.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::guests::{Host, component};
use crate::support::PATIENCE;

// The same WebAssembly text as the runtime's own tests use.
#[allow(
    dead_code,
    reason = "the runtime's tests need more of it than these do"
)]
#[path = "../../runtime/tests/runtime/wat.rs"]
mod wat;

use wat::{Guest, echo, function, runs};

fn good() -> String {
    runs("(call $digit (i32.const 7))")
}

fn describing(describe: &'static str) -> String {
    function(Guest {
        describe,
        pages: 32,
        run: "(unreachable)".to_owned(),
        ..Guest::default()
    })
}

/// The good one with these modules and instances beside its own.
fn with_more(count: usize, module: &str) -> String {
    let instances = "(core instance (instantiate $more)) ".repeat(count);
    good().replacen(
        "(component",
        &format!("(component (core module $more {module}) {instances}"),
        1,
    )
}

/// An app at this path instead of `/echo`.
fn app_at(path: &str) -> String {
    echo(200)
        .replacen("\"/echo\"", &format!("\"{path}\""), 1)
        .replacen(
            "\\10\\00\\00\\00\\05\\00",
            &format!("\\10\\00\\00\\00\\{:02x}\\00", path.len()),
            1,
        )
}

#[test]
fn components_that_misbehave_at_load_are_refused_while_others_serve() {
    let host = Host::flags(
        &["fixture-echo"],
        "",
        &[
            "--plugins-budget-cpu",
            "300ms",
            "--plugins-budget-wall",
            "2s",
            "--plugins-budget-memory",
            "4 MiB",
        ],
    );
    let start_loops = function(Guest {
        module: "(func $start (loop $l (br $l))) (start $start)",
        run: "(unreachable)".to_owned(),
        ..Guest::default()
    });
    let named = |name: &str| good().replacen("\"probe\"", &format!("\"{name}\""), 1);
    let table = [
        ("memories", with_more(2, "(memory 1)"), "memories"),
        ("tables", with_more(5, "(table 1 funcref)"), "tables"),
        ("table", with_more(1, "(table 1000000 funcref)"), "table"),
        ("instances", with_more(500, ""), "instances"),
        ("memory", with_more(1, "(memory 1000)"), "memory"),
        ("start-loops", start_loops, "CPU budget"),
        (
            "describe-loops",
            describing("(loop $l (br $l))"),
            "CPU budget",
        ),
        ("describe-traps", describing("(unreachable)"), "unreachable"),
        (
            "describe-megabyte",
            describing("(i32.store (i32.const 68) (i32.const 1048576))"),
            "a name is at most",
        ),
        (
            "describe-many",
            describing(
                "(i32.store (i32.const 32) (i32.const 4096)) (i32.store (i32.const 36) (i32.const 100000))",
            ),
            "are the most",
        ),
        ("name-path", named("../pr"), "a name is at most"),
        ("name-line", named("\\0aprob"), "a name is at most"),
        ("name-bidi", named("\\e2\\80\\aexx"), "a name is at most"),
        ("name-no-text", named("prob\\ff"), "utf-8"),
        ("route-service", app_at("/service/x"), "/service/x"),
        ("route-admin", app_at("/admin/v1"), "/admin/v1"),
        ("route-health", app_at("/healthz"), "/healthz"),
        ("route-taken", app_at("/echo"), "fixture-echo"),
    ];
    let api = host.server.api();
    for (name, wat, why) in &table {
        let wasm = ::wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}"));
        host.deploy(name, &wasm);
        let line = host.logged(&["plugin not loaded", &format!("\"{name}\""), why]);
        assert!(line.len() < 4_000, "{name}: {} bytes", line.len());
        assert_eq!(api.get("/echo").status, 200, "{name}");
        let shown = host
            .server
            .admin()
            .get(&format!("/admin/v1/plugins/{name}/"))
            .json();
        assert!(
            ["failed", "quarantined"].contains(&shown["state"].as_str().unwrap()),
            "{name}: {shown}"
        );
    }
    // Rust's linker can make such a table, too.
    host.deploy("rust-table", &component("fixture-hostile-table"));
    host.logged(&["plugin not loaded", "\"rust-table\"", "table"]);
    assert_eq!(api.get("/hostile-table").status, 404);
    // None of it stands in the way of a good one, under the name of a bad one too.
    for name in ["good", "memories"] {
        host.deploy(name, &::wat::parse_str(good()).unwrap());
        host.logged(&["plugin loaded", &format!("\"{name}\"")]);
        let run = || api.post("/service/execution/v1/execute/probe/", &json!({}));
        // The line is written before the new generation serves.
        let start = Instant::now();
        while run().status == 404 && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(run().json(), json!(7));
        host.remove(name);
        host.logged(&["plugin unloaded", &format!("\"{name}\"")]);
    }
    assert_eq!(api.get("/echo").status, 200);
    assert!(fs::read_dir(host.plugins()).unwrap().count() > 10);
}
