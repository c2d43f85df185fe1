//! `/service/payment/v1` and a stand-in for Stripe, both real processes of HTTP: orders,
//! what goes wrong with them, and what is known when events have come.

use serde_json::{Value, json};

use crate::support::shop::{Shop, order};
use crate::support::{ADMIN_KEY, API_KEY, PATIENCE, TestServer, coglex};

const CHECKOUT: &str = "/service/payment/v1/checkout/";

/// Stores that a walk is made on: the embedded one, and MongoDB where there is one.
fn each_store(walk: impl Fn(Shop)) {
    walk(Shop::start());
    let Some(address) = crate::mongodb::database_address() else {
        return;
    };
    let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "_");
    let database = format!("coglex_pay_{}_{thread}", std::process::id());
    walk(Shop::start_in(tempfile::tempdir().unwrap(), |command| {
        let uri = format!("mongodb://{address}/?directConnection=true");
        command
            .env("MONGODB_URI", uri)
            .env("MONGODB_DATABASE", &database);
    }));
}

#[test]
fn a_payment_is_known_when_its_events_have_come_and_gone_when_it_is_given_back() {
    each_store(|shop| {
        let price = shop.fake.offer("Tea", 450, "eur", None);
        let session = shop.checkout("Ann@Example.com", &price, "payment");
        assert_eq!(session["object"], "checkout.session");
        assert_eq!(session["amount_total"], 450);
        assert_eq!(shop.entitlements("ann@example.com")["payments"], json!([]));

        // A card that is declined, and then one that pays.
        assert_eq!(shop.decide(&session, "decline").0, 200);
        let (status, _) = shop.decide(&session, "pay");
        assert_eq!(status, 303);
        // The last of its events is the session's.
        let known = shop.until("ann@example.com", |known| {
            known["payments"][0]["paid"] == true && known["payments"][0]["session"].is_string()
        });
        let payment = &known["payments"][0];
        assert_eq!(payment["amount"], 450);
        assert_eq!(payment["session"], session["id"]);
        let api = shop.server.api();
        let gold = "/service/payment/v1/entitlements/ann@example.com/gold/";
        assert_eq!(api.get(gold).json()["entitled"], true);
        let silver = "/service/payment/v1/entitlements/ann@example.com/silver/";
        assert_eq!(api.get(silver).json()["entitled"], false);

        let path = format!(
            "/service/payment/v1/session/{}/",
            session["id"].as_str().unwrap()
        );
        assert_eq!(api.get(&path).json()["payment_status"], "paid");

        let refund = json!({"payment_intent": payment["id"], "amount": 50});
        let refunded = api.post("/service/payment/v1/refund/", &refund).json();
        assert_eq!(refunded["object"], "refund");
        shop.until("ann@example.com", |known| {
            known["payments"][0]["refunded"] == 50
        });
        // A part given back is still a payment; all of it is none.
        assert_eq!(api.get(gold).json()["entitled"], true);
        let rest = json!({"payment_intent": payment["id"]});
        api.post("/service/payment/v1/refund/", &rest).json();
        shop.until("ann@example.com", |known| {
            known["payments"][0]["paid"] == false
        });
        assert_eq!(api.get(gold).json()["entitled"], false);
        api.post("/service/payment/v1/refund/", &rest)
            .problem(400, "charge_already_refunded");
    });
}

#[test]
fn a_subscription_is_active_until_it_is_cancelled() {
    each_store(|shop| {
        let api = shop.server.api();
        let price = shop.fake.offer("Tea each month", 900, "eur", Some("month"));
        let body = json!({"email": "bob@example.com", "items": [{"price": price}], "due": 14});
        let made = api.post("/service/payment/v1/subscription/", &body).json();
        assert_eq!(made["object"], "subscription");
        assert_eq!(made["collection_method"], "send_invoice");
        assert_eq!(made["days_until_due"], 14);
        let known = shop.until("bob@example.com", |known| known["active"] == true);
        assert_eq!(known["subscriptions"][0]["id"], made["id"]);
        assert_eq!(known["customers"], json!([made["customer"]]));
        // By the customer's id, and by the price.
        let customer = made["customer"].as_str().unwrap();
        assert_eq!(shop.entitlements(customer)["active"], true);
        let path = format!("/service/payment/v1/entitlements/{customer}/{price}/");
        assert_eq!(api.get(&path).json()["entitled"], true);

        let portal = json!({"email": "bob@example.com", "return_url": "https://shop.example/"});
        let portal = api.post("/service/payment/v1/portal/", &portal).json();
        assert_eq!(portal["object"], "billing_portal.session");
        assert_eq!(portal["customer"], made["customer"]);
        api.post(
            "/service/payment/v1/portal/",
            &json!({"email": "nobody@example.com", "return_url": "https://shop.example/"}),
        )
        .problem(404, "not_found");

        let path = format!(
            "/service/payment/v1/subscription/{}/",
            made["id"].as_str().unwrap()
        );
        let later = api.delete(&format!("{path}?at_period_end=true")).json();
        assert_eq!(later["cancel_at_period_end"], true);
        let known = shop.until("bob@example.com", |known| {
            known["subscriptions"][0]["cancel_at_period_end"] == true
        });
        assert_eq!(known["active"], true);
        assert_eq!(api.delete(&path).json()["status"], "canceled");
        shop.until("bob@example.com", |known| known["active"] == false);
        api.delete(&path).problem(404, "resource_missing");
    });
}

#[test]
fn a_subscription_through_checkout_is_found_by_the_email_address_of_the_session() {
    let shop = Shop::start();
    let price = shop.fake.offer("Tea each month", 900, "eur", Some("month"));
    let session = shop.checkout("eve@example.com", &price, "subscription");
    shop.decide(&session, "pay");
    let known = shop.until("eve@example.com", |known| known["active"] == true);
    // What starts a subscription is no payment beside it.
    assert_eq!(known["payments"], json!([]), "{known}");
    // On the customer's own page.
    let portal = json!({"customer": known["customers"][0], "return_url": "https://shop.example/"});
    let portal = shop
        .server
        .api()
        .post("/service/payment/v1/portal/", &portal)
        .json();
    let subscription = known["subscriptions"][0]["id"].as_str().unwrap();
    let http = reqwest::blocking::Client::new();
    let ended = http
        .post(portal["url"].as_str().unwrap())
        .body(format!("cancel={subscription}"))
        .send()
        .unwrap();
    assert_eq!(ended.status(), 200);
    shop.until("eve@example.com", |known| known["active"] == false);
}

#[test]
fn prices_are_stripes_list() {
    let shop = Shop::start();
    let api = shop.server.api();
    let once = shop.fake.offer("Tea", 450, "eur", None);
    let monthly = shop.fake.offer("Tea each month", 900, "eur", Some("month"));
    let ids = |path: &str| -> Vec<Value> {
        let list = api.get(path).json();
        let prices = list["data"].as_array().unwrap().iter();
        prices.map(|price| price["id"].clone()).collect()
    };
    assert_eq!(
        ids("/service/payment/v1/prices/"),
        [monthly.clone(), once.clone()]
    );
    assert_eq!(
        ids("/service/payment/v1/prices/?type=one_time"),
        std::slice::from_ref(&once)
    );
    assert_eq!(
        ids("/service/payment/v1/prices/?limit=1"),
        std::slice::from_ref(&monthly)
    );
    let next = format!("/service/payment/v1/prices/?starting_after={monthly}");
    assert_eq!(ids(&next), [once]);
    api.get("/service/payment/v1/prices/?limit=0")
        .problem(400, "invalid_input");
    api.get("/service/payment/v1/prices/?active=maybe")
        .problem(400, "invalid_input");
}

#[test]
fn what_is_missing_or_refused_is_said_with_stripes_code_and_never_with_a_key() {
    let shop = Shop::start();
    let api = shop.server.api();
    let whole = order("ann@example.com", "price_absent", "payment");
    for name in ["success_url", "cancel_url", "email", "linedata"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(name);
        let detail = api.post(CHECKOUT, &body).problem(400, "invalid_input");
        assert!(detail.contains(name), "{detail}");
    }
    let detail = api.post(CHECKOUT, &whole).problem(400, "resource_missing");
    assert!(
        detail.contains("price_absent") && detail.contains("line_items[0][price]"),
        "{detail}"
    );
    api.post(CHECKOUT, &json!([1])).problem(400, "invalid_json");
    api.get("/service/payment/v1/session/cs_absent/")
        .problem(404, "resource_missing");
    api.get("/service/payment/v1/session/..%2Fcharges/")
        .problem(400, "invalid_input");
    let mut reaching = whole.clone();
    reaching["metadata"] = json!({"a][b": "c"});
    api.post(CHECKOUT, &reaching).problem(400, "invalid_input");
    shop.server
        .anonymous()
        .post(CHECKOUT, &whole)
        .problem(401, "api_key_required");

    let price = shop.fake.offer("Tea", 450, "eur", None);
    let good = order("ann@example.com", &price, "payment");
    shop.control("faults", &json!([{"kind": "decline"}]));
    let detail = api.post(CHECKOUT, &good).problem(402, "card_declined");
    assert!(detail.contains("generic_decline"), "{detail}");
    // The server's own key is not its client's matter.
    shop.control("faults", &json!([{"kind": "unauthorized"}]));
    let refused = api.post(CHECKOUT, &good);
    let detail = refused.problem(502, "stripe_key_refused");
    assert!(
        !detail.contains("geheim") && !detail.contains("sk_"),
        "{detail}"
    );
    assert_eq!(api.post(CHECKOUT, &good).status, 200);
}

#[test]
fn what_fails_for_a_moment_is_sent_again_with_the_same_key_and_done_once() {
    let shop = Shop::start();
    let api = shop.server.api();
    let price = shop.fake.offer("Tea", 450, "eur", None);
    let good = order("ann@example.com", &price, "payment");
    let mut before = 0;
    for (kind, after) in [
        ("429", false),
        ("500", false),
        ("lock", false),
        ("drop", false),
        // Done, and the answer is lost.
        ("500", true),
        ("drop", true),
    ] {
        shop.control(
            "faults",
            &json!([{"kind": kind, "after": after, "times": 2}]),
        );
        let session = api.post(CHECKOUT, &good).json();
        let path = format!(
            "/service/payment/v1/session/{}/",
            session["id"].as_str().unwrap()
        );
        assert_eq!(api.get(&path).json()["id"], session["id"], "{kind}");
        let asked = shop.asked("/v1/checkout/sessions");
        let now = asked.get(before..).unwrap();
        let keys: std::collections::BTreeSet<&str> = now
            .iter()
            .map(|one| one["idempotency_key"].as_str().unwrap())
            .collect();
        assert_eq!(keys.len(), 1, "{kind}: {now:?}");
        before = asked.len();
    }
    // One each, whatever was lost.
    let url = format!("{}/v1/checkout/sessions?limit=100", shop.fake.url());
    let http = reqwest::blocking::Client::new();
    let all: Value = http
        .get(url)
        .bearer_auth("sk_test_1")
        .send()
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(all["data"].as_array().unwrap().len(), 6);

    // For longer than anybody waits, it is said; a client's fault is not tried again.
    shop.control("faults", &json!([{"kind": "500", "times": 3}]));
    api.post(CHECKOUT, &good).problem(502, "api_error");
    shop.control("faults", &json!([{"kind": "429", "times": 3}]));
    let busy = api.post(CHECKOUT, &good);
    busy.problem(503, "stripe_busy");
    assert!(!busy.header("retry-after").is_empty());
    shop.control(
        "faults",
        &json!([{"kind": "slow", "delay_ms": 5000, "times": 3}]),
    );
    api.post(CHECKOUT, &good).problem(502, "stripe_timeout");
    shop.control("faults", &json!([{"kind": "decline", "times": 2}]));
    api.post(CHECKOUT, &good).problem(402, "card_declined");
    api.post(CHECKOUT, &good).problem(402, "card_declined");
    api.post(CHECKOUT, &good).json();
}

#[test]
fn a_callers_idempotency_key_gets_the_same_answer() {
    let shop = Shop::start();
    let price = shop.fake.offer("Tea each month", 900, "eur", Some("month"));
    let api = shop.server.api();
    let post = |path: &str, key: &str, body: &Value| {
        use crate::support::Send as _;
        let request = api.request(reqwest::Method::POST, path);
        request.header("idempotency-key", key).json(body).reply()
    };
    let body = order("ann@example.com", &price, "subscription");
    let first = post(CHECKOUT, "order-1", &body).json();
    assert_eq!(post(CHECKOUT, "order-1", &body).json()["id"], first["id"]);
    assert_ne!(post(CHECKOUT, "order-2", &body).json()["id"], first["id"]);
    let mut other = body.clone();
    other["email"] = "bob@example.com".into();
    post(CHECKOUT, "order-1", &other).problem(400, "idempotency_error");
    post(CHECKOUT, &"k".repeat(256), &body).problem(400, "invalid_input");

    // Two requests at Stripe, and still one customer and one subscription; also when the
    // second is lost.
    let path = "/service/payment/v1/subscription/";
    let body = json!({"email": "ann@example.com", "items": [{"price": price}]});
    shop.control(
        "faults",
        &json!([{"kind": "drop", "after": true, "times": 3, "path": "/v1/subscriptions"}]),
    );
    post(path, "sub-1", &body).problem(502, "stripe_unreachable");
    let made = post(path, "sub-1", &body).json();
    assert_eq!(post(path, "sub-1", &body).json()["id"], made["id"]);
    let known = shop.until("ann@example.com", |known| known["active"] == true);
    assert_eq!(known["subscriptions"].as_array().unwrap().len(), 1);
    assert_eq!(known["customers"].as_array().unwrap().len(), 1);
}

#[test]
fn without_keys_payments_are_off_and_say_so() {
    let server = TestServer::start();
    let api = server.api();
    let body = order("ann@example.com", "price_1", "payment");
    api.post(CHECKOUT, &body)
        .problem(503, "payment_not_configured");
    api.get("/service/payment/v1/prices/")
        .problem(503, "payment_not_configured");
    let webhook = server
        .anonymous()
        .post("/service/payment/v1/webhook/", &json!({}));
    webhook.problem(503, "payment_webhook_not_configured");
    // What the mirror knows needs none.
    let nobody = api
        .get("/service/payment/v1/entitlements/ann@example.com/")
        .json();
    assert_eq!(nobody["active"], false);
}

#[test]
fn a_server_whose_modes_are_mixed_does_not_start() {
    let start = |variables: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = coglex(dir.path());
        command.args(["serve", "--server-port", "0"]);
        command
            .env("SERVER_SECRET", API_KEY)
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = start(&[
        ("STRIPE_SECRET_KEY", "sk_live_geheim"),
        ("COGLEX_PAYMENT_MODE", "test"),
    ]);
    assert!(told.contains("payment.mode is test"), "{told}");
    let told = start(&[("STRIPE_SECRET_KEY", "pk_test_geheim")]);
    assert!(told.contains("payment.secret_key"), "{told}");
    let told = start(&[
        ("STRIPE_SECRET_KEY", "sk_test_1"),
        ("STRIPE_WEBHOOK_SECRET", "pk_test_geheim"),
    ]);
    assert!(told.contains("payment.webhook_secret"), "{told}");
    let told = start(&[
        ("STRIPE_SECRET_KEY", "sk_live_geheim"),
        ("STRIPE_API_BASE", "http://127.0.0.1:9"),
    ]);
    assert!(told.contains("https"), "{told}");
    assert!(!told.contains("geheim"), "{told}");
}

#[test]
fn developers_pay_without_an_account() {
    let server = TestServer::dev_with(&["--fake-stripe"]);
    let api = server.api();
    let told = server.announced.join("\n");
    let stripe = server
        .announced
        .iter()
        .find_map(|line| line.split(" on ").nth(1));
    assert!(
        stripe.is_some_and(|url| url.starts_with("http://127.0.0.1:")),
        "{told}"
    );
    let price = server.announced.iter().find_map(|line| {
        let price = line.trim().split(' ').next()?;
        price.starts_with("price_").then(|| price.to_owned())
    });
    let session = api
        .post(
            CHECKOUT,
            &order("ann@example.com", &price.unwrap(), "payment"),
        )
        .json();
    let http = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let page = session["url"].as_str().unwrap();
    http.post(page).body("action=pay").send().unwrap();
    let gold = "/service/payment/v1/entitlements/ann@example.com/gold/";
    let start = std::time::Instant::now();
    while api.get(gold).json()["entitled"] != true {
        assert!(start.elapsed() < PATIENCE, "the webhook does not arrive");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let dir = tempfile::tempdir().unwrap();
    let mut command = coglex(dir.path());
    command.args(["dev", "--fake-stripe", "--server-port", "0"]);
    command.env("STRIPE_SECRET_KEY", "sk_live_geheim");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("live mode"),
        "{told}"
    );
}

#[test]
fn a_scoped_key_does_what_it_covers_and_has_idempotency_keys_of_its_own() {
    let shop = Shop::start();
    let api = shop.server.api();
    let price = shop.fake.offer("Tea", 450, "eur", None);
    let key = |verbs: &[&str]| {
        let body = json!({"name": "till", "grants": {"payment": verbs}});
        let made = api.post("/service/auth/v1/keys/", &body).json();
        made["key"].as_str().unwrap().to_owned()
    };
    let post = |key: &str, path: &str, body: &Value| {
        use crate::support::Send as _;
        let request = shop.server.anonymous().request(reqwest::Method::POST, path);
        let request = request
            .header("x-api-key", key)
            .header("idempotency-key", "same");
        request.json(body).reply()
    };
    let body = order("ann@example.com", &price, "payment");
    let till = key(&["checkout"]);
    let own = post(&till, CHECKOUT, &body).json();
    assert_eq!(post(&till, CHECKOUT, &body).json()["id"], own["id"]);
    assert_ne!(post(API_KEY, CHECKOUT, &body).json()["id"], own["id"]);
    assert_ne!(
        post(&key(&["checkout"]), CHECKOUT, &body).json()["id"],
        own["id"]
    );
    let refund = json!({"payment_intent": "pi_1"});
    post(&till, "/service/payment/v1/refund/", &refund).problem(403, "forbidden");
    let listener = json!({"name": "ear", "grants": {"payment": ["events"]}});
    api.post("/service/auth/v1/keys/", &listener)
        .problem(400, "invalid_input");
    post(&key(&["entitlements"]), CHECKOUT, &body).problem(403, "forbidden");
}
