//! What is kept and known, on a real store: events that were left undone, a queue that is
//! full, and the same objects written in any order and at once.

use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, doc};
use coglex_services::jobs::{JobQuery, JobSettings, Jobs, NewJob, Source};
use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use coglex_services::storage::{Change, DocumentStore, Update};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use crate::entitlements::Entitlements;
use crate::event::Event;
use crate::inbox::{EventQuery, Inbox, Subscriber, Subscribers};
use crate::mirror::Mirror;

struct Shop {
    store: Arc<dyn DocumentStore>,
    mirror: Mirror,
    _dir: TempDir,
}

/// Two functions that want everything.
struct Two;

impl Subscribers for Two {
    fn of(&self, _: &str) -> Vec<Subscriber> {
        let of = |function: &str| Subscriber {
            plugin: "shop".to_owned(),
            function: function.to_owned(),
        };
        vec![of("one"), of("two")]
    }
}

fn shop() -> Shop {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("documents.db");
    let store = EmbeddedStore::open(&path, EmbeddedOptions::default()).unwrap();
    let store: Arc<dyn DocumentStore> = Arc::new(store);
    Shop {
        mirror: Mirror::new(Arc::clone(&store)),
        store,
        _dir: dir,
    }
}

impl Shop {
    fn jobs(&self, queue: u64) -> Jobs {
        let settings = JobSettings {
            queue,
            ..JobSettings::default()
        };
        Jobs::new(Arc::clone(&self.store), settings)
    }

    fn inbox(&self, jobs: &Jobs) -> Inbox {
        let retention = Duration::from_secs(3600);
        let inbox = Inbox::new(Arc::clone(&self.store), jobs.clone(), retention);
        inbox.tell(Arc::new(Two));
        inbox
    }

    /// Has all events that were not done be due.
    async fn all_due(&self) {
        let update = Update {
            filter: doc! { "state": "new" },
            change: Change::Operators(doc! { "$set": { "at": DateTime::from_millis(0) } }),
            many: true,
            upsert: false,
            array_filters: Vec::new(),
        };
        self.store
            .update("_coglex_payment_events", update)
            .await
            .unwrap();
    }
}

fn event(id: &str, last: &str, created: i64, status: &str) -> Event {
    let object =
        json!({"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": status});
    let body = json!({
        "id": id, "type": format!("customer.subscription.{last}"), "created": created,
        "livemode": false, "data": {"object": object},
    });
    Event::parse(body.to_string().as_bytes(), 0).unwrap()
}

/// What an event of this kind and time says of an object.
fn told(kind: &str, created: i64, object: serde_json::Value) -> Event {
    let body = json!({
        "id": format!("evt_{kind}_{created}"), "type": kind, "created": created,
        "livemode": false, "data": {"object": object},
    });
    Event::parse(body.to_string().as_bytes(), 0).unwrap()
}

fn paid_intent() -> Event {
    let intent = json!({
        "id": "pi_1", "object": "payment_intent", "customer": "cus_1", "status": "succeeded",
        "amount": 500, "receipt_email": "ann@x", "metadata": {"entitlement": "gold"},
    });
    told("payment_intent.succeeded", 10, intent)
}

async fn has_gold(shop: &Shop) -> bool {
    let known = Entitlements::of(&shop.mirror, "ann@x").await.unwrap();
    known.covers("gold")
}

#[tokio::test]
async fn what_was_begun_and_left_hides_nothing_that_was_paid() {
    let shop = shop();
    for n in 0..120 {
        let session = json!({
            "id": format!("cs_{n}"), "object": "checkout.session", "status": "expired",
            "payment_status": "unpaid", "mode": "payment", "customer_email": "ann@x",
        });
        let event = told("checkout.session.expired", n, session);
        shop.mirror.apply(&event).await.unwrap();
        let subscription = json!({
            "id": format!("sub_0{n}"), "object": "subscription", "customer": "cus_1",
            "status": "incomplete_expired",
        });
        let event = told("customer.subscription.updated", n, subscription);
        shop.mirror.apply(&event).await.unwrap();
    }
    shop.mirror.apply(&paid_intent()).await.unwrap();
    let active = event("evt_1", "created", 1, "active");
    shop.mirror.apply(&active).await.unwrap();
    let known = Entitlements::of(&shop.mirror, "ann@x").await.unwrap();
    assert!(known.covers("gold"));
    assert!(known.active);
    // Those are shown as well, and are not without number.
    assert_eq!(
        (known.payments.len(), known.subscriptions.len()),
        (101, 101)
    );
}

#[tokio::test]
async fn money_that_a_bank_took_back_pays_for_nothing() {
    let shop = shop();
    shop.mirror.apply(&paid_intent()).await.unwrap();
    assert!(has_gold(&shop).await);
    for (kind, created, status, expected) in [
        ("charge.dispute.created", 20, "warning_needs_response", true),
        ("charge.dispute.updated", 30, "needs_response", false),
        (
            "charge.dispute.funds_withdrawn",
            30,
            "needs_response",
            false,
        ),
        ("charge.dispute.closed", 40, "won", true),
        // In the same second, and late.
        ("charge.dispute.updated", 40, "under_review", true),
        ("charge.dispute.closed", 50, "lost", false),
    ] {
        let dispute = json!({
            "id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1",
            "status": status,
        });
        let event = told(kind, created, dispute);
        shop.mirror.apply(&event).await.unwrap();
        assert_eq!(has_gold(&shop).await, expected, "{kind} {status}");
    }
}

#[tokio::test]
async fn money_that_is_only_held_pays_for_nothing() {
    let shop = shop();
    let hold = |captured: bool| {
        json!({
            "id": "ch_1", "object": "charge", "payment_intent": "pi_1", "status": "succeeded",
            "captured": captured, "amount": 500, "amount_refunded": 0,
        })
    };
    let mut intent = paid_intent().object().unwrap().clone();
    intent["status"] = "requires_capture".into();
    let event = told("payment_intent.amount_capturable_updated", 10, intent);
    shop.mirror.apply(&event).await.unwrap();
    let event = told("charge.succeeded", 11, hold(false));
    shop.mirror.apply(&event).await.unwrap();
    assert!(!has_gold(&shop).await);
    let event = told("charge.captured", 12, hold(true));
    shop.mirror.apply(&event).await.unwrap();
    assert!(has_gold(&shop).await);
}

#[tokio::test]
async fn a_portal_is_opened_for_a_customer_of_that_address_alone() {
    let shop = shop();
    let customer = |id: &str, email: &str| json!({"id": id, "object": "customer", "email": email});
    let portal = async || {
        Entitlements::customer_of(&shop.mirror, "ann@x")
            .await
            .unwrap()
    };
    assert_eq!(portal().await, None);
    // Somebody else has typed the address of another into a payment.
    let charge = json!({
        "id": "ch_1", "object": "charge", "customer": "cus_z", "status": "succeeded",
        "billing_details": {"email": "ann@x"}, "amount": 5, "amount_refunded": 0,
    });
    let event = told("charge.succeeded", 1, charge);
    shop.mirror.apply(&event).await.unwrap();
    assert_eq!(portal().await.as_deref(), Some("cus_z"));
    let event = told("customer.created", 2, customer("cus_z", "eve@x"));
    shop.mirror.apply(&event).await.unwrap();
    assert_eq!(portal().await, None);
    let event = told("customer.created", 3, customer("cus_a", "ann@x"));
    shop.mirror.apply(&event).await.unwrap();
    assert_eq!(portal().await.as_deref(), Some("cus_a"));
    let event = told("customer.deleted", 4, customer("cus_a", "ann@x"));
    shop.mirror.apply(&event).await.unwrap();
    assert_eq!(portal().await, None);
}

#[tokio::test]
async fn a_subscription_that_was_to_end_has_ended() {
    let shop = shop();
    let now = DateTime::now().timestamp_millis() / 1000;
    for (at_end, ends, expected) in [
        (true, now + 60, true),
        (true, now - 60, false),
        // Renewed; its event is under way.
        (false, now - 60, true),
    ] {
        let subscription = json!({
            "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active",
            "cancel_at_period_end": at_end, "current_period_end": ends,
        });
        let event = told("customer.subscription.updated", 1, subscription);
        shop.mirror.apply(&event).await.unwrap();
        let known = Entitlements::of(&shop.mirror, "cus_1").await.unwrap();
        assert_eq!(known.active, expected, "{at_end} {ends}");
        assert_eq!(known.subscriptions[0].active, expected);
    }
}

async fn status(shop: &Shop) -> Option<String> {
    let known = Entitlements::of(&shop.mirror, "cus_1").await.unwrap();
    known.subscriptions.first().map(|one| one.status.clone())
}

async fn count(jobs: &Jobs) -> usize {
    let query = JobQuery {
        limit: 100,
        ..JobQuery::default()
    };
    jobs.list(query).await.unwrap().0.len()
}

#[tokio::test]
async fn what_was_kept_and_not_told_is_taken_up_once_it_is_due() {
    let shop = shop();
    let jobs = shop.jobs(100);
    let inbox = shop.inbox(&jobs);
    let event = event("evt_1", "created", 1, "active");
    // As if the process had ended here.
    assert!(inbox.keep(&event, &event.body.to_string()).await.unwrap());
    assert!(!inbox.keep(&event, &event.body.to_string()).await.unwrap());
    // Whoever keeps an event is given the time to tell it.
    assert_eq!(inbox.sweep(&shop.mirror).await.unwrap(), 0);
    assert_eq!((count(&jobs).await, status(&shop).await), (0, None));

    shop.all_due().await;
    assert_eq!(inbox.sweep(&shop.mirror).await.unwrap(), 1);
    assert_eq!(count(&jobs).await, 2);
    assert_eq!(status(&shop).await.as_deref(), Some("active"));
    // And not again; nor when it is told once more, as by another host.
    shop.all_due().await;
    assert_eq!(inbox.sweep(&shop.mirror).await.unwrap(), 0);
    inbox.process(&shop.mirror, "evt_1").await.unwrap();
    assert_eq!(count(&jobs).await, 2);
    // A replay is a round of its own.
    let shown = inbox.replay(&shop.mirror, "evt_1").await.unwrap();
    assert_eq!(
        (shown.state.as_str(), shown.replays, shown.jobs.len()),
        ("done", 1, 2)
    );
    assert_eq!(count(&jobs).await, 4);
}

#[tokio::test]
async fn a_full_queue_loses_no_event() {
    let shop = shop();
    let full = shop.jobs(1);
    full.enqueue(NewJob::new("busy", Source::Api))
        .await
        .unwrap();
    let inbox = shop.inbox(&full);
    let event = event("evt_1", "created", 1, "active");
    inbox.keep(&event, &event.body.to_string()).await.unwrap();
    assert!(inbox.process(&shop.mirror, "evt_1").await.is_err());
    // It is in the mirror all the same, and waits.
    assert_eq!(status(&shop).await.as_deref(), Some("active"));
    shop.all_due().await;
    assert_eq!(inbox.sweep(&shop.mirror).await.unwrap(), 0);
    // It has its back-off: not due at once.
    assert_eq!(inbox.sweep(&shop.mirror).await.unwrap(), 0);
    let (kept, _) = inbox
        .list(EventQuery {
            limit: 10,
            ..EventQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(kept[0].state, "new");

    // Another host has room.
    let roomy = shop.jobs(100);
    shop.all_due().await;
    assert_eq!(shop.inbox(&roomy).sweep(&shop.mirror).await.unwrap(), 1);
    assert_eq!(count(&roomy).await, 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However events come, and however many hosts take them over at once, the latest
    /// holds.
    #[test]
    fn the_latest_event_holds_in_any_order(order in Just((0_i64..12).collect::<Vec<_>>()).prop_shuffle()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shop = shop();
            let other = Mirror::new(Arc::clone(&shop.store));
            let events: Vec<Event> = order
                .iter()
                .map(|n| event(&format!("evt_{n}"), "updated", 100 + n, &format!("s{n}")))
                .collect();
            let each = events.iter().enumerate().map(|(at, event)| {
                let mirror = if at % 2 == 0 { &shop.mirror } else { &other };
                mirror.apply(event)
            });
            futures_util::future::try_join_all(each).await.unwrap();
            assert_eq!(status(&shop).await.as_deref(), Some("s11"));
            // Again changes nothing.
            shop.mirror.apply(&events[0]).await.unwrap();
            assert_eq!(status(&shop).await.as_deref(), Some("s11"));
        });
    }

    /// Whatever a signed event holds, it is read without a panic.
    #[test]
    fn events_of_any_shape_are_taken(
        kind in "[a-z._]{1,30}",
        object in prop_oneof!["subscription", "customer", "checkout.session", "payment_intent", "charge", "x"],
        id in prop_oneof![Just(json!("i")), Just(json!(7)), Just(json!({"id": "j"})), Just(json!(null))],
        strange in prop_oneof![Just(json!(null)), Just(json!([1, {}])), Just(json!("t")), Just(json!(1e300)), Just(json!(-1))],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shop = shop();
            let body = json!({"id": "evt", "type": kind, "created": strange, "data": {"object": {
                "object": object, "id": id, "customer": strange, "status": strange, "metadata": strange,
                "items": {"data": [strange, {"price": strange}]}, "payment_intent": strange,
                "amount": strange, "customer_details": strange, "email": strange,
            }}});
            let event = Event::parse(body.to_string().as_bytes(), 7).unwrap();
            shop.mirror.apply(&event).await.unwrap();
            for who in ["i", "t", "cus_1"] {
                Entitlements::of(&shop.mirror, who).await.unwrap().covers("x");
            }
        });
    }
}
