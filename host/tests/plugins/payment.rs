//! Payments with plugins: functions are told of events, at least once and until they are
//! through; they sell, and ask who has paid, within their grants and without a key.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guests::component;
use crate::support::shop::{Shop, event, now, subscription};
use crate::support::{Client, PATIENCE};

const ALLOW: &str = r#"
[plugins.allow.fixture-shop]
storage = [{ collection = "told", verbs = ["read", "insert"] }]
payment = ["checkout", "entitlements", "events"]

[jobs]
lease = "2s"
retry_base = "20ms"
retry_max = "50ms"
max_attempts = 4
"#;

/// A folder with the shop's plugin in it.
fn folder(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("coglex-data/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("fixture-shop.wasm"), component("fixture-shop")).unwrap();
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    dir
}

fn call(api: &Client, function: &str, kwargs: Value) -> crate::support::Reply {
    let path = format!("/service/execution/v1/execute/{function}/");
    api.post(&path, &json!({"kwargs": kwargs}))
}

/// What the functions have written down of an event.
fn told(api: &Client, filter: &Value) -> Vec<Value> {
    let query = filter.to_string();
    let params = [("query", query.as_str()), ("many", "true")];
    let found = api.find("/service/storage/v1/told/", &params).json();
    found.as_array().unwrap().clone()
}

#[track_caller]
fn until<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_shop_sells_is_told_and_lets_in_who_has_paid() {
    let shop = Shop::start_in(folder(ALLOW), |_| {});
    let api = shop.server.api();
    let price = shop.fake.offer("Tea", 450, "eur", None);
    let may_enter = || {
        let asked = json!({"email": "ann@example.com", "what": "gold"});
        call(&api, "shop_may_enter", asked).json()
    };
    assert_eq!(may_enter(), false);
    let order = json!({"email": "ann@example.com", "price": price, "key": "cart-1"});
    let bought = call(&api, "shop_buy", order.clone());
    let session = bought.json();
    assert_eq!(call(&api, "shop_buy", order).json()["id"], session["id"]);
    assert!(!bought.text().contains("sk_test"), "{}", bought.text());

    shop.decide(&session, "pay");
    let noted = until("the function to be told", || {
        told(&api, &json!({"object": session["id"]})).pop()
    });
    assert_eq!(noted["type"], "checkout.session.completed");
    assert_eq!(may_enter(), true);
    let shown = shop
        .server
        .admin()
        .get("/admin/v1/plugins/fixture-shop/")
        .json()
        .to_string();
    assert!(shown.contains("checkout.session.completed"), "{shown}");
    let paid = call(&api, "shop_paid_for", json!({"who": "ann@example.com"})).json();
    assert_eq!(paid["payments"][0]["amount"], 450);
    let seen = call(&api, "shop_session", json!({"id": session["id"]})).json();
    assert_eq!(seen["payment_status"], "paid");

    // Stripe's own words for what it refuses.
    let absent = json!({"email": "ann@example.com", "price": "price_absent"});
    call(&api, "shop_buy", absent).problem(422, "resource_missing");
    call(&api, "shop_buy", json!({"email": "", "price": price})).problem(422, "payment_invalid");
}

#[test]
fn functions_are_told_until_they_are_through_or_dead_and_again_by_a_replay() {
    let shop = Shop::start_in(folder(ALLOW), |_| {});
    let (api, admin) = (shop.server.api(), shop.server.admin());
    let state = |event: &str| -> Option<String> {
        let shown = admin
            .get(&format!("/admin/v1/payment/events/{event}/"))
            .json();
        let job = shown["jobs"].as_array()?.last()?.as_str()?.to_owned();
        let job = admin.get(&format!("/admin/v1/jobs/{job}/")).json();
        Some(job["state"].as_str()?.to_owned())
    };
    let ends = |event: &str, expected: &str| {
        until(&format!("{event} to be {expected}"), || {
            (state(event)? == expected).then_some(())
        });
    };
    shop.send(&event("evt_flaky", "shop.flaky", now(), json!({"id": "a"})))
        .json();
    shop.send(&event(
        "evt_poison",
        "shop.poison",
        now(),
        json!({"id": "b"}),
    ))
    .json();
    ends("evt_flaky", "succeeded");
    assert_eq!(told(&api, &json!({"event": "evt_flaky"})).len(), 3);
    ends("evt_poison", "dead");
    assert_eq!(told(&api, &json!({"event": "evt_poison"})).len(), 4);

    // The same event again is no news; a replay is, with a job of its own.
    for _ in 0..3 {
        shop.send(&event("evt_flaky", "shop.flaky", now(), json!({"id": "a"})))
            .json();
    }
    assert_eq!(told(&api, &json!({"event": "evt_flaky"})).len(), 3);
    admin
        .post("/admin/v1/payment/events/evt_flaky/replay/", &json!({}))
        .json();
    let of_jobs = until("the function to be told again", || {
        let told = told(&api, &json!({"event": "evt_flaky"}));
        (told.len() == 4).then_some(told)
    });
    let jobs: std::collections::BTreeSet<&str> = of_jobs
        .iter()
        .map(|one| one["invocation"].as_str().unwrap())
        .collect();
    assert_eq!(jobs.len(), 2, "one job for each round");

    // A whole kind of events, and none of another.
    for (id, kind) in [
        ("evt_s1", "customer.subscription.updated"),
        ("evt_s2", "customer.subscription.paused"),
    ] {
        shop.send(&event(
            id,
            kind,
            now(),
            subscription("sub_1", "cus_1", "active"),
        ))
        .json();
        ends(id, "succeeded");
    }
    shop.send(&event(
        "evt_c",
        "customer.updated",
        now(),
        json!({"object": "customer", "id": "cus_1"}),
    ))
    .json();
    let shown = admin.get("/admin/v1/payment/events/evt_c/").json();
    assert_eq!(
        (&shown["state"], &shown["jobs"]),
        (&json!("done"), &json!([]))
    );
}

#[test]
fn an_event_that_was_kept_is_told_after_a_kill() {
    let mut shop = Shop::start_in(folder(ALLOW), |_| {});
    let mut taken = Vec::new();
    for round in 0..3 {
        for n in 0..5 {
            let id = format!("evt_{round}_{n}");
            let object = subscription(&format!("sub_{id}"), "cus_1", "active");
            shop.send(&event(&id, "customer.subscription.updated", now(), object))
                .json();
            taken.push(id);
        }
        shop = shop.kill_and_start();
    }
    let api = shop.server.api();
    for id in taken {
        until(&format!("{id} to be told"), || {
            told(&api, &json!({"event": id})).pop()
        });
    }
}

#[test]
fn what_was_not_granted_is_refused_at_load_or_when_it_is_asked() {
    let without_events = ALLOW.replace(", \"events\"]", "]");
    let shop = Shop::start_in(folder(&without_events), |_| {});
    let why = |shop: &Shop| {
        let shown = shop
            .server
            .admin()
            .get("/admin/v1/plugins/fixture-shop/")
            .json();
        shown.to_string()
    };
    let said = why(&shop);
    assert!(said.contains("payment = [\\\"events\\\"]"), "{said}");
    let nothing = ALLOW.replace("payment = [\"checkout\", \"entitlements\", \"events\"]", "");
    let said = why(&Shop::start_in(folder(&nothing), |_| {}));
    assert!(said.contains("coglex:payment/payments"), "{said}");

    let no_sales = ALLOW.replace("\"checkout\", ", "");
    let shop = Shop::start_in(folder(&no_sales), |_| {});
    let api = shop.server.api();
    let order = json!({"email": "ann@example.com", "price": "price_1"});
    let refused = call(&api, "shop_buy", order);
    assert!(
        refused.status == 403 || refused.status == 422 || refused.status == 500,
        "{refused:?}"
    );
    assert!(shop.asked("/v1/checkout/sessions").is_empty());
    let asked = json!({"email": "ann@example.com", "what": "gold"});
    assert_eq!(call(&api, "shop_may_enter", asked).json(), false);
}
