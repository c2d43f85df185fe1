//! Real components, which the test command builds and names in
//! `COGLEX_TEST_GUESTS`: the standard HTTP door, and what a Rust guest says when
//! it panics.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use coglex_runtime::{
    Allow, Budget, BudgetOverrides, CallError, Door, LoadError, Plugin, Policy, RouteMatch, Runtime,
};
use coglex_services::accounts::User;
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
        body: None,
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
        body: None,
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
    let response = get(&plugin, "/drip").await.unwrap();
    let busy = get(&plugin, "/").await.unwrap_err();
    assert!(matches!(busy, CallError::Overloaded { .. }), "{busy}");
    // The guest sleeps between its bytes, so it does not notice by itself.
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
async fn sockets_can_be_imported_but_not_made() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let runtime = short();
    let Some(plugin) = load(&runtime, "fixture-hostile-wasi").await else {
        return;
    };
    for to in [
        listener.local_addr().unwrap().to_string(),
        "localhost:1".to_owned(),
    ] {
        let answer = get(&plugin, &format!("/socket?{to}")).await.unwrap();
        let seen = text(answer.into_body()).await.unwrap();
        assert!(seen.starts_with("refused: "), "{to}: {seen}");
    }
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

/// A user who is signed in, as a route's guard has found them.
fn signed_in() -> coglex_runtime::CallContext {
    let user = User {
        realm: "users".to_owned(),
        id: bson::Bson::String("u1".to_owned()),
        key: "ann@example.org".to_owned(),
        document: bson::doc! { "_key": "ann@example.org", "plan": "free" },
    };
    coglex_runtime::CallContext {
        users: vec![user],
        ..context()
    }
}

#[tokio::test]
async fn an_app_learns_the_caller_from_the_host_alone() {
    let runtime = runtime(Budget::default());
    let Some(plugin) = load(&runtime, "fixture-echo").await else {
        return;
    };
    let seen = async |context: coglex_runtime::CallContext| {
        let request = Request::post("/echo/7/?q=1")
            .header("x-api-key", "secret")
            .header(header::COOKIE, "coglex_users=token; theme=dark")
            .body(body("the body"))
            .unwrap();
        let params = vec![("id".to_owned(), "7".to_owned())];
        let matched = RouteMatch {
            pattern: "/echo/{id}".to_owned(),
            params,
            body: None,
        };
        text(
            plugin
                .handle(request, matched, context)
                .await
                .unwrap()
                .into_body(),
        )
        .await
        .unwrap()
    };
    let answer = seen(signed_in()).await;
    for part in [
        "\"method\":\"POST\"",
        "\"path\":\"/echo/7\"",
        "\"route\":\"/echo/{id}\"",
        "\"query\":\"q=1\"",
        "[\"id\",\"7\"]",
        "[\"cookie\",\"theme=dark\"]",
        "\"body\":\"the body\"",
        "\"api_key\":true",
        "ann@example.org",
        "\"plan\":\"free\"",
        "\"request_id\":\"request-1\"",
    ] {
        assert!(answer.contains(part), "no {part} in {answer}");
    }
    assert!(
        !answer.contains("secret") && !answer.contains("token"),
        "{answer}"
    );
    let answer = seen(context()).await;
    assert!(answer.contains("\"user\":null"), "{answer}");
}

#[tokio::test]
async fn an_app_reads_and_writes_documents() {
    let log = Log::capture();
    let runtime = runtime(Budget::default());
    let Some(plugin) = load(&runtime, "todo").await else {
        return;
    };
    assert_eq!(plugin.granted().to_string(), plugin.asked().to_string());
    let call = async |request: Request<_>, pattern: &str, id: &str| {
        let params = vec![("id".to_owned(), id.to_owned())];
        let matched = RouteMatch {
            pattern: pattern.to_owned(),
            params,
            body: None,
        };
        let response = plugin.handle(request, matched, context()).await.unwrap();
        (
            response.status().as_u16(),
            text(response.into_body()).await.unwrap(),
        )
    };
    let (status, list) = call(
        Request::get("/api/todos").body(body("")).unwrap(),
        "/api/todos",
        "",
    )
    .await;
    assert_eq!(
        (status, list.matches("a document").count()),
        (200, 5),
        "{list} {}",
        log.text()
    );
    let one = |id: &str| {
        Request::get(format!("/api/todos/{id}"))
            .body(body(""))
            .unwrap()
    };
    assert_eq!(call(one("here"), "/api/todos/{id}", "here").await.0, 200);
    assert_eq!(call(one("gone"), "/api/todos/{id}", "gone").await.0, 404);
    let new = Request::post("/api/todos")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body("{\"title\": \"Write it\"}"))
        .unwrap();
    let (status, made) = call(new, "/api/todos", "").await;
    assert_eq!(status, 201, "{made}");
    assert!(made.contains("Write it"));
}

#[tokio::test]
async fn functions_answer_and_fail_in_their_own_words() {
    let runtime = runtime(Budget::default());
    let Some(plugin) = load(&runtime, "hello").await else {
        return;
    };
    let args = ("[\"Ann\"]".to_owned(), "{\"greeting\": \"Hi\"}".to_owned());
    let answer = plugin
        .run("example_function", args.0, args.1, context())
        .await
        .unwrap();
    assert!(answer.unwrap().starts_with("\"Hi, Ann!"));
    let Some(plugin) = load(&runtime, "fixture-echo").await else {
        return;
    };
    let failure = plugin
        .run("echo_fails", "[]".to_owned(), "{}".to_owned(), context())
        .await
        .unwrap();
    assert_eq!(failure.unwrap_err().code, "echo_failed");
}

#[tokio::test]
async fn a_component_without_its_grant_is_not_loaded() {
    let runtime = runtime(Budget::default());
    let Some(wasm) = guest("fixture-ungranted") else {
        return;
    };
    let policy = Policy {
        allow: Allow::Everything,
        ..Policy::default()
    };
    let error = runtime
        .load("ungranted", wasm, None, policy)
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::NotGranted { .. }), "{error}");
}

#[tokio::test]
async fn a_hostile_app_gets_away_with_nothing() {
    let runtime = runtime(budget(BudgetOverrides {
        cpu_ms: Some(500),
        wall_ms: Some(2_000),
        memory_mib: Some(32),
        host_calls: Some(50),
        response_mib: Some(1),
        log_kib: Some(64),
        ..BudgetOverrides::default()
    }));
    let Some(plugin) = load(&runtime, "fixture-hostile").await else {
        return;
    };
    for (misdeed, expected) in [
        ("loop", CallError::Deadline),
        ("sleep", CallError::Deadline),
        ("log-flood", CallError::Deadline),
        ("print-flood", CallError::Deadline),
        ("memory", CallError::Trapped),
        ("recurse", CallError::Trapped),
        ("panic", CallError::Trapped),
        ("host-calls", CallError::Trapped),
    ] {
        let error = get(&plugin, &format!("/hostile/{misdeed}"))
            .await
            .unwrap_err();
        assert_eq!(error, expected, "{misdeed}");
    }
    for misdeed in ["headers", "header-values", "many-headers", "status"] {
        let error = get(&plugin, &format!("/hostile/{misdeed}"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, CallError::InvalidResponse(_)),
            "{misdeed}: {error}"
        );
    }
    // What the guest can handle, it is told.
    for (misdeed, status, part) in [
        ("denied", 200, "access-denied"),
        ("denied-verb", 200, "access-denied"),
        ("password", 200, "\"error\""),
        ("cursors", 500, ""),
        ("hop-by-hop", 200, "x"),
    ] {
        let response = get(&plugin, &format!("/hostile/{misdeed}")).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{misdeed}");
        for name in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
        ] {
            assert!(!response.headers().contains_key(name), "{misdeed}");
        }
        let body = text(response.into_body()).await.unwrap();
        assert!(body.contains(part), "{misdeed}: {body}");
    }
}

#[tokio::test]
async fn a_response_over_the_budget_is_not_sent() {
    let runtime = runtime(Budget::default());
    let Some(plugin) = load(&runtime, "fixture-hostile").await else {
        return;
    };
    let error = get(&plugin, "/hostile/big-response").await.unwrap_err();
    assert!(matches!(error, CallError::InvalidResponse(_)), "{error}");
}

#[tokio::test]
async fn what_is_left_of_cpu_goes_down_with_each_level() {
    let runtime = runtime(budget(BudgetOverrides {
        cpu_ms: Some(6_000),
        ..BudgetOverrides::default()
    }));
    let Some(inner) = load(&runtime, "fixture-capabilities").await else {
        return;
    };
    let policy = Policy {
        allow: Allow::Everything,
        budget: Some(BudgetOverrides {
            cpu_ms: Some(300),
            ..BudgetOverrides::default()
        }),
        ..Policy::default()
    };
    let wasm = guest("fixture-capabilities").unwrap();
    let outer = runtime.load("outer", wasm, None, policy).await.unwrap();
    runtime.find_functions_by(std::sync::Arc::new(move |_| Some(inner.clone())));

    // The outer has 300 ms, and so has all that it calls, though the inner's own
    // budget, which its second call would have, is 20 times that.
    let loops = r#"{"do": "call", "function": "loops", "args": [], "kwargs": {}}"#;
    let steps =
        format!(r#"{{"do": "call", "function": "steps", "args": [[{loops}]], "kwargs": {{}}}}"#);
    let start = Instant::now();
    let answer = outer
        .run("steps", format!("[[{steps}]]"), "{}".to_owned(), context())
        .await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?} {answer:?}");
    let cut = match &answer {
        Ok(Ok(text)) => text.contains("timeout"),
        other => matches!(other, Err(CallError::Deadline)),
    };
    assert!(
        cut && took > Duration::from_millis(200),
        "{took:?} {answer:?}"
    );
}
