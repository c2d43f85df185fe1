//! Real components, which the test command builds and names in
//! `COGLEX_TEST_GUESTS`: the standard HTTP door, and what a Rust guest says when
//! it panics.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use coglex_runtime::{
    Allow, BudgetOverrides, CallError, Door, Plugin, Policy, RouteMatch, Runtime,
};
use http::{Request, Response, header};
use http_body_util::BodyExt;

use crate::support::{Log, body, budget, context, runtime, text};

/// A guest's bytes; nothing when guests were not built.
fn guest(name: &str) -> Option<Vec<u8>> {
    let Some(dir) = std::env::var_os("COGLEX_TEST_GUESTS") else {
        eprintln!("skipped: COGLEX_TEST_GUESTS is not set (`cargo xtask test` sets it)");
        return None;
    };
    let path = PathBuf::from(dir).join(format!("{name}.wasm"));
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

async fn load(runtime: &Runtime, name: &str) -> Option<Plugin> {
    let policy = Policy {
        allow: Allow::Everything,
        ..Policy::default()
    };
    Some(
        runtime
            .load(name, guest(name)?, None, policy)
            .await
            .unwrap_or_else(|error| panic!("{error:?}")),
    )
}

async fn get(
    plugin: &Plugin,
    path: &str,
) -> Result<Response<coglex_runtime::ResponseBody>, CallError> {
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(body(""))
        .unwrap();
    let matched = RouteMatch {
        pattern: path.to_owned(),
        params: Vec::new(),
    };
    plugin.handle(request, matched, context()).await
}

fn short() -> Runtime {
    runtime(budget(BudgetOverrides {
        cpu_ms: Some(1_000),
        wall_ms: Some(700),
        response_mib: Some(1),
        concurrency: Some(1),
        queue: Some(0),
        ..BudgetOverrides::default()
    }))
}

#[tokio::test]
async fn a_plain_standard_component_answers() {
    let runtime = short();
    let Some(plugin) = load(&runtime, "hello-wasi").await else {
        return;
    };
    assert_eq!(plugin.door(), Door::WasiHttp);
    assert!(plugin.routes().is_empty());
    // More often than it may run at once: each place is given back.
    for _ in 0..3 {
        let response = get(&plugin, "/").await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            text(response.into_body())
                .await
                .unwrap()
                .contains("standard component")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_streamed_request_arrives_without_the_servers_credentials() {
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let request = Request::post("/echo")
        .header("x-api-key", "secret")
        .header(header::COOKIE, "coglex_users=token")
        .header("x-own", "kept")
        .body(body("the body"))
        .unwrap();
    let matched = RouteMatch {
        pattern: "/echo".to_owned(),
        params: Vec::new(),
    };
    let response = plugin.handle(request, matched, context()).await.unwrap();
    let seen = text(response.into_body()).await.unwrap();
    assert!(
        seen.contains("x-own: kept") && seen.ends_with("the body"),
        "{seen}"
    );
    assert!(
        !seen.contains("secret") && !seen.contains("token"),
        "{seen}"
    );
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_response_budget() {
    let log = Log::capture();
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let mut body = get(&plugin, "/endless").await.unwrap().into_body();
    let mut received = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => received += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(received <= 1 << 20, "{received}");
    assert!(error.to_string().contains("larger than"), "{error}");
    assert!(
        log.text().contains("larger than the 1048576 bytes"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn a_body_that_only_drips_is_cut_by_the_wall_clock() {
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let start = Instant::now();
    let response = get(&plugin, "/drip").await.unwrap();
    assert_eq!(
        text(response.into_body()).await,
        Err("the response broke off".to_owned())
    );
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_guest_that_fails_halfway_breaks_the_response() {
    let log = Log::capture();
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let response = get(&plugin, "/broken").await.unwrap();
    assert_eq!(
        text(response.into_body()).await,
        Err("the response broke off".to_owned())
    );
    assert_eq!(log.lines("ERROR"), 1, "{}", log.text());
    assert!(log.text().contains("panics on purpose"), "{}", log.text());
}

#[tokio::test]
async fn a_guest_without_an_answer_is_told_apart_from_a_slow_one() {
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let silent = get(&plugin, "/silent").await.unwrap_err();
    assert!(matches!(silent, CallError::InvalidResponse(_)), "{silent}");
    assert_eq!(
        get(&plugin, "/deaf").await.unwrap_err(),
        CallError::Deadline
    );
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_guest() {
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let response = get(&plugin, "/endless").await.unwrap();
    let busy = get(&plugin, "/").await.unwrap_err();
    assert!(matches!(busy, CallError::Overloaded { .. }), "{busy}");
    drop(response);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(&plugin, "/").await.unwrap().status(), 200);
}

#[tokio::test]
async fn nobody_hears_an_outgoing_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    let path = format!("/egress?{}", listener.local_addr().unwrap());
    let seen = text(get(&plugin, &path).await.unwrap().into_body())
        .await
        .unwrap();
    assert!(seen.contains("Denied"), "{seen}");
    let heard = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(heard.is_err(), "somebody connected");
}

#[tokio::test]
async fn a_panic_is_in_the_log_with_its_text() {
    let log = Log::capture();
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile").await else {
        return;
    };
    assert_eq!(
        get(&plugin, "/hostile/panic").await.unwrap_err(),
        CallError::Trapped
    );
    let text = log.text();
    let (_, report) = text.split_once(" ERROR ").unwrap();
    assert!(
        report.contains("panicked at") && report.contains("request-1"),
        "{report}"
    );
}
