//! The walk of a customer: the Checkout page, a card that is declined, one that pays, and
//! what the shop knows and does when the webhook has come.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::browser;
use crate::guests::component;
use crate::support::PATIENCE;
use crate::support::shop::Shop;

const ALLOW: &str = r#"
[plugins.allow.fixture-shop]
storage = [{ collection = "told", verbs = ["read", "insert"] }]
payment = ["checkout", "entitlements", "events"]
"#;

#[test]
fn a_customer_pays_on_the_page_and_the_function_is_told() {
    if browser::is_left_out() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("coglex-data/plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("fixture-shop.wasm"), component("fixture-shop")).unwrap();
    std::fs::write(dir.path().join("coglex.toml"), ALLOW).unwrap();
    let shop = Shop::start_in(dir, |_| {});
    let api = shop.server.api();
    let price = shop.fake.offer("Tea & <biscuits>", 450, "eur", None);
    let order = json!({
        "success_url": format!("{}/healthz?session={{CHECKOUT_SESSION_ID}}", shop.server.url),
        "cancel_url": format!("{}/healthz?cancelled", shop.server.url),
        "email": "ann@example.com",
        "linedata": [{"price": price, "quantity": 2}],
        "metadata": {"entitlement": "gold"},
    });
    let session = api.post("/service/payment/v1/checkout/", &order).json();
    let seen = browser::run("checkout.mjs", &json!({"url": session["url"]}));
    assert!(
        seen["text"]
            .as_str()
            .unwrap()
            .contains("2 × Tea & <biscuits>"),
        "{seen}"
    );
    assert_eq!(seen["total"], "9.00 eur");
    assert_eq!(seen["email"], "ann@example.com");
    assert_eq!(seen["declined"], "Your card was declined.");
    let cancelled = format!("{}/healthz?cancelled", shop.server.url);
    assert_eq!(seen["cancelled"], cancelled.as_str());
    let id = session["id"].as_str().unwrap();
    let thanks = format!("{}/healthz?session={id}", shop.server.url);
    assert_eq!(seen["thanks"], thanks.as_str());
    assert!(
        seen["again"].as_str().unwrap().contains("no longer open"),
        "{seen}"
    );

    shop.until("ann@example.com", |known| {
        known["payments"][0]["paid"] == true
    });
    let gold = "/service/payment/v1/entitlements/ann@example.com/gold/";
    assert_eq!(api.get(gold).json()["entitled"], true);
    let query = json!({"object": id}).to_string();
    let params = [("query", query.as_str()), ("many", "true")];
    let start = Instant::now();
    while api.find("/service/storage/v1/told/", &params).json() == json!([]) {
        assert!(start.elapsed() < PATIENCE, "the function was not told");
        std::thread::sleep(Duration::from_millis(20));
    }
}
