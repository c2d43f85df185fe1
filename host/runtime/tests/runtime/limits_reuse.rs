//! Instances that serve one call after another: one that ended badly serves
//! nobody any more, and what a plugin took of its places comes back.

use std::time::Duration;

use coglex_runtime::{Budget, BudgetOverrides, CallError, Plugin, RouteMatch, Runtime};
use http::Request;

use crate::support::{body, budget, context, loaded, runtime};
use crate::wat::app;

/// Answers with 200 and the number of calls that its instance has served, which
/// it counts in memory. A body of one byte makes it trap, of two loop, of three
/// answer with a body that lies beyond its memory, of four ask for more memory
/// than there is before it traps.
fn counting() -> String {
    app(
        "(i32.store (i32.const 3000) (i32.add (i32.load (i32.const 3000)) (i32.const 1)))
         (if (i32.eq (local.get $body_len) (i32.const 1)) (then (unreachable)))
         (if (i32.eq (local.get $body_len) (i32.const 2)) (then (loop $l (br $l))))
         (if (i32.eq (local.get $body_len) (i32.const 4)) (then (drop (memory.grow (i32.const 65000))) (unreachable)))
         (i32.store16 (i32.const 1024) (i32.add (i32.const 200) (i32.load (i32.const 3000))))
         (i32.store (i32.const 1028) (i32.const 0))
         (i32.store (i32.const 1032) (i32.const 0))
         (i32.store (i32.const 1036) (select (i32.const -16) (i32.const 0) (i32.eq (local.get $body_len) (i32.const 3))))
         (i32.store (i32.const 1040) (select (i32.const 64) (i32.const 0) (i32.eq (local.get $body_len) (i32.const 3))))
         (i32.const 1024)",
    )
}

fn reusing(overrides: BudgetOverrides) -> Runtime {
    runtime(budget(BudgetOverrides {
        reuse: Some(100),
        cpu_ms: overrides.cpu_ms.or(Some(100)),
        concurrency: Some(1),
        queue: Some(0),
        ..overrides
    }))
}

/// The number of calls that the instance has served which answered.
async fn call(plugin: &Plugin, body_bytes: usize) -> Result<u16, CallError> {
    let request = Request::post("/echo").body(body(vec![b'x'; body_bytes]));
    let matched = RouteMatch {
        pattern: "/echo".to_owned(),
        params: Vec::new(),
        body: None,
    };
    let response = plugin.handle(request.unwrap(), matched, context()).await?;
    Ok(response.status().as_u16() - 200)
}

#[tokio::test]
async fn an_instance_that_trapped_or_spent_its_time_serves_nobody_any_more() {
    let runtime = reusing(BudgetOverrides::default());
    let plugin = loaded(&runtime, &counting()).await;
    for (misdeed, ending) in [
        (1, CallError::Trapped),
        (2, CallError::Deadline),
        (3, CallError::Trapped),
        (4, CallError::Trapped),
    ] {
        assert_eq!(call(&plugin, 0).await, Ok(1), "a fresh one");
        assert_eq!(call(&plugin, 0).await, Ok(2), "the same one");
        assert_eq!(call(&plugin, misdeed).await, Err(ending));
        assert_eq!(plugin.counts().running, 0);
        assert_eq!(call(&plugin, 0).await, Ok(1), "a fresh one again");
        assert_eq!(call(&plugin, 1).await, Err(CallError::Trapped));
    }
}

#[tokio::test]
async fn an_instance_whose_client_went_away_serves_nobody_any_more() {
    let runtime = reusing(BudgetOverrides {
        cpu_ms: Some(10_000),
        ..BudgetOverrides::default()
    });
    let plugin = loaded(&runtime, &counting()).await;
    for _ in 0..3 {
        assert_eq!(call(&plugin, 0).await, Ok(1), "a fresh one");
        assert_eq!(call(&plugin, 0).await, Ok(2), "the same one");
        let left = tokio::time::timeout(Duration::from_millis(30), call(&plugin, 2)).await;
        assert!(left.is_err(), "it loops until nobody waits for it");
        assert_eq!(plugin.counts().running, 0);
        assert_eq!(call(&plugin, 0).await, Ok(1), "a fresh one again");
        assert_eq!(call(&plugin, 1).await, Err(CallError::Trapped));
    }
}

#[tokio::test]
async fn without_reuse_no_instance_is_met_twice_whatever_it_did() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &counting()).await;
    for _ in 0..3 {
        assert_eq!(call(&plugin, 0).await, Ok(1));
        assert_eq!(call(&plugin, 1).await, Err(CallError::Trapped));
    }
}

#[tokio::test]
async fn a_place_comes_back_however_a_call_ends() {
    // One place and no queue: a place that was lost would be missed at once.
    let runtime = reusing(BudgetOverrides::default());
    let plugin = loaded(&runtime, &counting()).await;
    for round in 0..20 {
        for misdeed in [0, 1, 3, 4] {
            let ended = call(&plugin, misdeed).await;
            assert!(
                !matches!(ended, Err(CallError::Overloaded { .. })),
                "round {round}, misdeed {misdeed}"
            );
            assert_eq!(plugin.counts().running, 0);
        }
    }
    let (first, second) = tokio::join!(call(&plugin, 2), call(&plugin, 0));
    assert_eq!(first, Err(CallError::Deadline));
    assert!(matches!(second, Err(CallError::Overloaded { .. })));
    assert_eq!(call(&plugin, 0).await, Ok(1));
}
