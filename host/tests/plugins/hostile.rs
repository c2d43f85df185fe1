//! Guests that try to take more than their budget: they are cut, the log says
//! why under the request id, and others are served meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::guests::Host;

const CONFIG: &str = r#"
    [plugins.allow.fixture-hostile]
    storage = [{ collection = "hostile", verbs = ["read"] }]
"#;

/// Budgets that are spent in a moment.
const TIGHT: &[&str] = &[
    "--plugins-budget-cpu",
    "300ms",
    "--plugins-budget-wall",
    "1s",
    "--plugins-budget-memory",
    "32 MiB",
    "--plugins-budget-response",
    "1 MiB",
];

fn hostile() -> Host {
    Host::flags(&["fixture-hostile", "fixture-echo"], CONFIG, TIGHT)
}

/// The misdeed is answered so, and the server goes on.
#[track_caller]
fn check(host: &Host, path: &str, status: u16, code: &str, logged: &str) {
    let reply = host.server.anonymous().get(path);
    reply.problem(status, code);
    host.logged(&[reply.header("x-request-id"), "fixture-hostile", logged]);
    assert_eq!(host.server.anonymous().get("/echo").status, 200);
}

#[test]
fn a_guest_that_misbehaves_is_cut_and_the_log_says_why() {
    let host = hostile();
    check(&host, "/hostile/loop", 504, "app_deadline", "CPU");
    check(&host, "/hostile/sleep", 504, "app_deadline", "wall");
    check(&host, "/hostile/memory", 500, "app_trapped", "memory");
    check(
        &host,
        "/hostile/recurse",
        500,
        "app_trapped",
        "out of bounds memory access",
    );
    check(
        &host,
        "/hostile/panic",
        500,
        "app_trapped",
        "the hostile fixture panics on purpose",
    );
    check(
        &host,
        "/hostile/host-calls",
        500,
        "app_trapped",
        "host calls",
    );
    check(&host, "/hostile/big-response", 500, "app_trapped", "memory");
}

#[test]
fn answers_that_cannot_be_sent_are_not_sent() {
    let host = hostile();
    for path in ["headers", "header-values", "status"] {
        check(
            &host,
            &format!("/hostile/{path}"),
            500,
            "app_invalid_response",
            "",
        );
    }
    // Making that many takes longer than the budget on a slow machine.
    assert!(host.server.anonymous().get("/hostile/many-headers").status >= 500);
    let reply = host.server.anonymous().get("/hostile/hop-by-hop");
    assert_eq!((reply.status, reply.text().as_str()), (200, "x"));
    assert_eq!(reply.header("upgrade"), "");
}

#[test]
fn a_flood_of_log_lines_is_bounded() {
    let host = hostile();
    for path in ["log-flood", "print-flood"] {
        let reply = host.server.anonymous().get(&format!("/hostile/{path}"));
        assert!(reply.status >= 500, "{}", reply.text());
    }
    let size = host.log().len();
    assert!(size < 4 << 20, "the log has {size} bytes");
}

#[test]
fn others_are_served_while_guests_loop_and_hoard() {
    let host = hostile();
    let (done, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let client = host.server.anonymous();
            while !done.load(Ordering::Relaxed) {
                assert_eq!(client.get("/echo").status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let attackers: Vec<_> = (0..4)
            .map(|n| {
                let path = if n % 2 == 0 {
                    "/hostile/loop"
                } else {
                    "/hostile/memory"
                };
                let host = &host;
                scope.spawn(move || {
                    for _ in 0..3 {
                        assert!(host.server.anonymous().get(path).status >= 500);
                    }
                })
            })
            .collect();
        for attacker in attackers {
            attacker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        neighbour.join().unwrap();
    });
    let served = served.load(Ordering::Relaxed);
    assert!(served > 10, "the neighbour was served {served} times");
}

#[test]
fn too_many_calls_at_once_are_turned_away_with_a_time_to_retry() {
    let host = Host::flags(
        &["fixture-hostile", "fixture-echo"],
        CONFIG,
        &[
            "--plugins-budget-wall",
            "1s",
            "--plugins-budget-concurrency",
            "1",
            "--plugins-budget-queue",
            "1",
            "--plugins-budget-queue-wait",
            "100ms",
        ],
    );
    let turned_away: u32 = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| host.server.anonymous().get("/hostile/sleep")))
            .collect();
        let replies = calls.into_iter().map(|call| call.join().unwrap());
        replies
            .filter(|reply| reply.status == 503)
            .map(|reply| {
                assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
                reply.problem(503, "app_overloaded");
                1
            })
            .sum()
    });
    assert_eq!(turned_away, 3);
    assert_eq!(host.server.anonymous().get("/echo").status, 200);
}

#[test]
fn a_function_that_loops_has_its_own_codes() {
    let host = Host::flags(&["fixture-hostile", "fixture-echo"], CONFIG, TIGHT);
    let call = json!({"args": [1]});
    let reply = host
        .server
        .api()
        .post("/service/execution/v1/execute/hostile_loop/", &call);
    reply.problem(504, "function_deadline");
    let reply = host
        .server
        .api()
        .post("/service/execution/v1/execute/hostile_panic/", &call);
    reply.problem(500, "function_trapped");
}

#[test]
fn the_operator_can_give_one_plugin_another_budget() {
    let config = format!("{CONFIG}\n[plugins.budgets.fixture-hostile]\ncpu_ms = 200\n");
    let host = Host::with(&["fixture-hostile"], &config);
    let start = std::time::Instant::now();
    let reply = host.server.anonymous().get("/hostile/loop");
    reply.problem(504, "app_deadline");
    assert!(
        start.elapsed() < std::time::Duration::from_secs(8),
        "the default of 10 s was in force"
    );
}
