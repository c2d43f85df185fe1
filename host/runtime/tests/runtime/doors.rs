//! Requests and calls through the doors of hand-made components.

use bytes::Bytes;
use coglex_runtime::{Budget, CallError, RouteMatch, Runtime, RuntimeSettings};
use futures_util::{StreamExt, stream};
use http::{Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};

use crate::support::{body, context, load, loaded, run, runtime, services, text};
use crate::wat::{echo, runs};

fn matched() -> RouteMatch {
    RouteMatch {
        pattern: "/echo".to_owned(),
        params: Vec::new(),
        body: None,
    }
}

#[tokio::test]
async fn a_function_gets_its_arguments_and_answers() {
    let runtime = runtime(Budget::default());
    let plugin = load(
        &runtime,
        &runs("(call $ok (local.get $args) (local.get $args_len))"),
    )
    .await
    .unwrap();
    assert_eq!(run(&plugin).await.unwrap(), "[\"args\"]");
    let unknown = plugin
        .run("other", "[]".to_owned(), "{}".to_owned(), context())
        .await;
    assert!(matches!(unknown, Err(CallError::InvalidRequest(_))));
}

#[tokio::test]
async fn a_functions_own_failure_is_not_ours() {
    let runtime = runtime(Budget::default());
    // A failure with `probe` as code and `01` as message.
    let wat = runs(
        "(i32.store8 (i32.const 1024) (i32.const 1))
         (i32.store8 (i32.const 1028) (i32.const 0))
         (i32.store (i32.const 1032) (i32.const 16)) (i32.store (i32.const 1036) (i32.const 5))
         (i32.store (i32.const 1040) (i32.const 112)) (i32.store (i32.const 1044) (i32.const 2))
         (i32.const 1024)",
    );
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(run(&plugin).await.unwrap(), "failure probe 01");
}

#[tokio::test]
async fn a_function_can_tell_that_the_fault_is_not_its_callers() {
    let runtime = runtime(Budget::default());
    for (case, expected) in [(1, CallError::Unavailable), (2, CallError::Trapped)] {
        let wat = runs(&format!(
            "(i32.store8 (i32.const 1024) (i32.const 1))
             (i32.store8 (i32.const 1028) (i32.const {case}))
             (i32.store (i32.const 1032) (i32.const 16)) (i32.store (i32.const 1036) (i32.const 5))
             (i32.const 1024)"
        ));
        let plugin = loaded(&runtime, &wat).await;
        assert_eq!(run(&plugin).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_call_for_the_next() {
    let runtime = runtime(Budget::default());
    // Counts its calls in memory, where a kept instance would remember them.
    let wat = runs(
        "(i32.store (i32.const 3000) (i32.add (i32.load (i32.const 3000)) (i32.const 1)))
         (call $digit (i32.load (i32.const 3000)))",
    );
    let plugin = loaded(&runtime, &wat).await;
    for _ in 0..3 {
        assert_eq!(run(&plugin).await.unwrap(), "1");
    }
}

#[tokio::test]
async fn a_request_reaches_the_app_without_the_servers_credentials() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &echo(201)).await;
    let request = Request::post("/echo/?a=b")
        .header("x-api-key", "secret")
        .header(header::COOKIE, "theme=dark; coglex_users=token")
        .header(header::AUTHORIZATION, "Bearer of-another-service")
        .header(header::CONNECTION, "close")
        .header("x-own", "kept")
        .body(body("hello"))
        .unwrap();
    let response = plugin.handle(request, matched(), context()).await.unwrap();
    assert_eq!(response.status(), 201);
    let headers = response.headers();
    assert_eq!(headers.get("x-own").unwrap(), "kept");
    assert_eq!(headers.get(header::COOKIE).unwrap(), "theme=dark");
    assert_eq!(
        headers.get(header::AUTHORIZATION).unwrap(),
        "Bearer of-another-service"
    );
    assert!(!headers.contains_key("x-api-key"));
    assert!(!headers.contains_key(header::CONNECTION));
    assert_eq!(text(response.into_body()).await.unwrap(), "hello");
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_is_the_apps_fault() {
    let runtime = runtime(Budget::default());
    for status in [0, 100, 199, 600] {
        let plugin = loaded(&runtime, &echo(status)).await;
        let request = Request::get("/echo").body(body("")).unwrap();
        let error = plugin
            .handle(request, matched(), context())
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::InvalidResponse(_)), "{error}");
    }
}

#[tokio::test]
async fn a_body_over_the_callers_limit_is_too_large() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &echo(200)).await;
    let limited = Limited::new(body(Bytes::from(vec![0; 11])), 10).boxed_unsync();
    let request = Request::post("/echo").body(limited).unwrap();
    let error = plugin
        .handle(request, matched(), context())
        .await
        .unwrap_err();
    assert_eq!(error, CallError::PayloadTooLarge);
}

#[tokio::test]
async fn half_sent_bodies_cannot_fill_the_memory() {
    let settings = RuntimeSettings {
        max_instances: 16,
        body_memory: 64 * 1024,
        ..RuntimeSettings::default()
    };
    let runtime = Runtime::new(settings, services()).unwrap();
    let plugin = loaded(&runtime, &echo(200)).await;
    let post = |body| Request::post("/echo").body(body).unwrap();
    let half = {
        let sent = Frame::data(Bytes::from(vec![0; 60 * 1024]));
        let sent = stream::once(async { Ok(sent) }).chain(stream::pending());
        let request = post(StreamBody::new(sent).boxed_unsync());
        let plugin = plugin.clone();
        tokio::spawn(async move { plugin.handle(request, matched(), context()).await })
    };
    tokio::task::yield_now().await;
    let large = plugin.handle(post(body(vec![0; 8 * 1024])), matched(), context());
    assert!(matches!(
        large.await.unwrap_err(),
        CallError::Overloaded { .. }
    ));
    let small = plugin.handle(post(body("hello")), matched(), context());
    assert_eq!(small.await.unwrap().status(), 200);
    half.abort();
    assert!(half.await.unwrap_err().is_cancelled());
    let large = plugin.handle(post(body(vec![0; 8 * 1024])), matched(), context());
    assert_eq!(large.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_megabyte_goes_through_and_comes_back() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &echo(200)).await;
    let sent = "x".repeat(1 << 20);
    let request = Request::post("/echo").body(body(sent.clone())).unwrap();
    let response = plugin.handle(request, matched(), context()).await.unwrap();
    assert_eq!(text(response.into_body()).await.unwrap(), sent);
}

#[tokio::test]
async fn a_plugin_without_a_door_takes_no_request() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &runs("(unreachable)")).await;
    let request = Request::get("/").body(body("")).unwrap();
    let error = plugin
        .handle(request, matched(), context())
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::InvalidRequest(_)));
}

#[tokio::test]
async fn calls_can_move_between_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &echo(200)).await;
    let request = Request::get("/echo").body(body("")).unwrap();
    let response = sendable(plugin.handle(request, matched(), context())).await;
    assert!(response.is_ok());
    let call = plugin.run("probe", "[]".to_owned(), "{}".to_owned(), context());
    assert!(sendable(call).await.is_err(), "an app has no function");
    let load = runtime.load("other", Vec::new(), None, coglex_runtime::Policy::default());
    assert!(sendable(load).await.is_err());
}
