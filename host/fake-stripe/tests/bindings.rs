//! The fake, asked by the crates that ask Stripe: what it answers is what they read.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::net::Ipv4Addr;

use axum::http::HeaderMap;
use coglex_fake_stripe::{Endpoint, FakeStripe, sign};
use serde_json::{Value, json};
use stripe::{Client, ClientBuilder, IdempotencyKey, RequestStrategy, StripeError, StripeRequest};
use stripe_billing::billing_portal_session::CreateBillingPortalSession;
use stripe_billing::subscription::{
    CancelSubscription, CreateSubscription, CreateSubscriptionItems, RetrieveSubscription,
};
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, RetrieveCheckoutSession,
};
use stripe_core::customer::CreateCustomer;
use stripe_core::refund::CreateRefund;
use stripe_product::price::ListPrice;

async fn fake() -> (FakeStripe, Client) {
    let fake = FakeStripe::start((Ipv4Addr::LOCALHOST, 0).into())
        .await
        .unwrap();
    let client = ClientBuilder::new("sk_test_1")
        .url(fake.url())
        .build()
        .unwrap();
    (fake, client)
}

fn session(price: &str) -> CreateCheckoutSession {
    let line = CreateCheckoutSessionLineItems {
        price: Some(price.to_owned()),
        quantity: Some(2),
        ..CreateCheckoutSessionLineItems::new()
    };
    CreateCheckoutSession::new()
        .mode(stripe_shared_mode("payment"))
        .success_url("https://shop.example/done?s={CHECKOUT_SESSION_ID}")
        .customer_email("ann@example.com")
        .line_items(vec![line])
}

fn stripe_shared_mode(name: &str) -> stripe_checkout::CheckoutSessionMode {
    name.parse().unwrap()
}

async fn pay(url: &str) -> reqwest::Response {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    http.post(url).body("action=pay").send().await.unwrap()
}

#[tokio::test]
async fn a_payment_from_its_session_to_its_refund_is_read_by_the_bindings() {
    let (fake, stripe) = fake().await;
    let price = fake.offer("Tea", 450, "eur", None);
    let open = session(&price).send(&stripe).await.unwrap();
    assert_eq!(open.amount_total, Some(900));
    let url = open.url.unwrap();

    let page = reqwest::get(&url).await.unwrap().text().await.unwrap();
    assert!(
        page.contains("2 × Tea") && page.contains("9.00 eur"),
        "{page}"
    );
    let paid = pay(&url).await;
    assert_eq!(paid.status(), 303);
    let back = paid.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(
        back,
        format!("https://shop.example/done?s={}", open.id.as_str())
    );

    let session = RetrieveCheckoutSession::new(open.id.clone())
        .send(&stripe)
        .await
        .unwrap();
    assert_eq!(session.payment_status.as_str(), "paid");
    let intent = session.payment_intent.unwrap().id().to_string();
    let part = CreateRefund::new()
        .payment_intent(intent.clone())
        .amount(400);
    assert_eq!(part.send(&stripe).await.unwrap().amount, 400);
    // What is left, and then nothing.
    let rest = CreateRefund::new().payment_intent(intent.clone());
    assert_eq!(rest.send(&stripe).await.unwrap().amount, 500);
    match rest.send(&stripe).await.unwrap_err() {
        StripeError::Stripe(error, 400) => {
            assert_eq!(error.code.unwrap().as_str(), "charge_already_refunded");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_subscription_from_its_customer_to_its_end_is_read_by_the_bindings() {
    let (fake, stripe) = fake().await;
    let price = fake.offer("Tea each month", 900, "eur", Some("month"));
    let customer = CreateCustomer::new()
        .email("ann@example.com")
        .send(&stripe)
        .await
        .unwrap();
    let item = CreateSubscriptionItems {
        price: Some(price.clone()),
        ..CreateSubscriptionItems::new()
    };
    let new = CreateSubscription::new()
        .customer(customer.id.as_str())
        .collection_method(
            "send_invoice"
                .parse::<stripe_billing::SubscriptionCollectionMethod>()
                .unwrap(),
        )
        .days_until_due(7_u32)
        .items(vec![item]);
    let subscription = new.send(&stripe).await.unwrap();
    assert_eq!(subscription.status.as_str(), "active");
    assert_eq!(subscription.items.data[0].price.id.as_str(), price);

    let portal = CreateBillingPortalSession::new().customer(customer.id.as_str());
    let portal = portal.send(&stripe).await.unwrap();
    let page = reqwest::get(&portal.url)
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(page.contains(subscription.id.as_str()), "{page}");

    let prices = ListPrice::new().active(true).send(&stripe).await.unwrap();
    assert_eq!(prices.data.len(), 1);
    let ended = CancelSubscription::new(subscription.id.clone())
        .send(&stripe)
        .await
        .unwrap();
    assert_eq!(ended.status.as_str(), "canceled");
    let again = CancelSubscription::new(subscription.id.clone())
        .send(&stripe)
        .await;
    assert!(matches!(again, Err(StripeError::Stripe(_, 404))));
    let read = RetrieveSubscription::new(subscription.id)
        .send(&stripe)
        .await
        .unwrap();
    assert_eq!(read.status.as_str(), "canceled");
}

#[tokio::test]
async fn an_idempotency_key_gets_the_same_answer_for_the_same_request_only() {
    let (_fake, stripe) = fake().await;
    let keyed = async |email: &str| {
        let key = IdempotencyKey::new("order-1").unwrap();
        let request = CreateCustomer::new().email(email);
        let request = request
            .customize()
            .request_strategy(RequestStrategy::Idempotent(key));
        request.send(&stripe).await
    };
    let first = keyed("ann@example.com").await.unwrap();
    assert_eq!(keyed("ann@example.com").await.unwrap().id, first.id);
    match keyed("bob@example.com").await.unwrap_err() {
        StripeError::Stripe(error, 400) => assert_eq!(error.type_.as_str(), "idempotency_error"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn faults_meet_as_many_requests_as_they_say_and_may_come_after_the_work() {
    let (fake, stripe) = fake().await;
    let http = reqwest::Client::new();
    let control = |path: &str, body: Value| {
        let request = http
            .post(format!("{}/_fake/{path}", fake.url()))
            .json(&body);
        async move { request.send().await.unwrap().error_for_status().unwrap() }
    };
    let new = CreateCustomer::new().email("ann@example.com");
    for (kind, status) in [("429", 429), ("500", 500), ("lock", 409), ("decline", 402)] {
        control("faults", json!([{"kind": kind}])).await;
        match new.send(&stripe).await.unwrap_err() {
            StripeError::Stripe(_, found) => assert_eq!(found, status),
            other => panic!("{other}"),
        }
        new.send(&stripe).await.unwrap();
    }
    control("faults", json!([{"kind": "drop", "after": true}])).await;
    let key = || RequestStrategy::Idempotent(IdempotencyKey::new("k").unwrap());
    let lost = new.customize().request_strategy(key()).send(&stripe).await;
    assert!(matches!(lost, Err(StripeError::ClientError(_))), "{lost:?}");
    let known = new
        .customize()
        .request_strategy(key())
        .send(&stripe)
        .await
        .unwrap();
    let all = stripe_core::customer::ListCustomer::new()
        .send(&stripe)
        .await
        .unwrap();
    assert_eq!(all.data.len(), 5);
    assert_eq!(all.data[0].id, known.id);
}

#[tokio::test]
async fn keys_of_live_mode_and_strangers_are_refused() {
    let (fake, _) = fake().await;
    for key in ["sk_live_1", "pk_test_1", "x"] {
        let client = ClientBuilder::new(key).url(fake.url()).build().unwrap();
        let refused = ListPrice::new().send(&client).await;
        assert!(
            matches!(refused, Err(StripeError::Stripe(_, 401))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn events_are_signed_so_that_the_bindings_believe_them() {
    let payload = json!({"id": "evt_1", "object": "event"}).to_string();
    let header = sign(payload.as_bytes(), "whsec_1", 1_492_774_577);
    let theirs =
        stripe_webhook::Webhook::generate_test_header(&payload, "whsec_1", Some(1_492_774_577));
    assert_eq!(header, theirs);

    // And they arrive.
    let (fake, stripe) = fake().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let receive = move |headers: HeaderMap, body: String| {
        let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
        sender.send((signature, body)).unwrap();
        async {}
    };
    let router = axum::Router::new().route("/hook", axum::routing::post(receive));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    fake.deliver_to(Endpoint {
        url,
        secret: "whsec_2".to_owned(),
    });
    CreateCustomer::new()
        .email("ann@example.com")
        .send(&stripe)
        .await
        .unwrap();
    let (signature, body) = events.recv().await.unwrap();
    let event = stripe_webhook::Webhook::construct_event(&body, &signature, "whsec_2").unwrap();
    assert_eq!(event.type_.as_str(), "customer.created");
}
