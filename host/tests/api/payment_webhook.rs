//! Events from Stripe: which are believed, that each counts once, that none is lost, and
//! that the order of their coming does not matter.

use std::thread;
use std::time::Instant;

use coglex_fake_stripe::sign;
use serde_json::{Value, json};

use crate::support::shop::{SECRET, Shop, event, now, send_signed, send_to, subscription};
use crate::support::{ADMIN_KEY, PATIENCE, coglex};

fn active(id: &str, at: i64) -> Value {
    event(
        id,
        "customer.subscription.updated",
        at,
        subscription("sub_1", "cus_1", "active"),
    )
}

#[test]
fn only_what_stripe_has_signed_lately_is_believed() {
    let rotated = format!("whsec_next,{SECRET}");
    let shop = Shop::start_in(tempfile::tempdir().unwrap(), |command| {
        command.env("STRIPE_WEBHOOK_SECRET", &rotated);
    });
    let client = shop.server.anonymous();
    let payload = active("evt_1", now()).to_string();
    let good = sign(payload.as_bytes(), SECRET, now());

    let tampered = payload.replace("\"active\"", "\"trialing\"");
    send_signed(&client, &tampered, &good).problem(400, "signature_mismatch");
    let foreign = sign(payload.as_bytes(), "whsec_other", now());
    send_signed(&client, &payload, &foreign).problem(400, "signature_mismatch");
    // The publishable key, which the original went by, is no secret.
    let publishable = sign(payload.as_bytes(), "pk_test_1", now());
    send_signed(&client, &payload, &publishable).problem(400, "signature_mismatch");
    let old = sign(payload.as_bytes(), SECRET, now() - 310);
    send_signed(&client, &payload, &old).problem(400, "signature_expired");
    send_signed(&client, &payload, "t=1").problem(400, "signature_malformed");
    let unsigned = client.post("/service/payment/v1/webhook/", &json!({}));
    unsigned.problem(400, "signature_missing");
    // Signed, and still no event.
    for (payload, code) in [
        ("{", "event_malformed"),
        ("{}", "event_malformed"),
        ("", "event_malformed"),
    ] {
        let signature = sign(payload.as_bytes(), SECRET, now());
        send_signed(&client, payload, &signature).problem(400, code);
    }
    let mut live = active("evt_live", now());
    live["livemode"] = true.into();
    shop.send(&live).problem(400, "livemode_mismatch");
    let large = event(
        "evt_large",
        "x",
        now(),
        json!({"text": "x".repeat(600 << 10)}),
    );
    shop.send(&large).problem(413, "too_large");
    assert_eq!(shop.entitlements("cus_1")["subscriptions"], json!([]));

    // Either secret, in whichever place.
    let next = sign(payload.as_bytes(), "whsec_next", now());
    assert_eq!(
        send_signed(&client, &payload, &next).json(),
        json!({"success": true})
    );
    assert_eq!(
        send_signed(&client, &payload, &good).json(),
        json!({"success": true})
    );
    assert_eq!(shop.entitlements("cus_1")["active"], true);
}

#[test]
fn an_event_counts_once_however_often_and_at_once_it_comes() {
    let shop = Shop::start();
    let payload = active("evt_1", now());
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let answer = send_to(&shop.server.anonymous(), &payload);
                assert_eq!(answer.json(), json!({"success": true}));
            });
        }
    });
    let events = shop.server.admin().get("/admin/v1/payment/events/").json();
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events[0]["state"], "done");
    shop.server
        .api()
        .get("/admin/v1/payment/events/")
        .problem(401, "admin_key_required");
}

#[test]
fn whatever_the_order_of_their_coming_the_latest_event_holds() {
    let shop = Shop::start();
    let at = now() - 100;
    let of = |id: &str, last: &str, created: i64, status: &str| {
        let kind = format!("customer.subscription.{last}");
        event(id, &kind, created, subscription("sub_1", "cus_1", status))
    };
    let events = [
        of("evt_1", "created", at, "incomplete"),
        // The same second: a change comes after the making.
        of("evt_2", "updated", at, "active"),
        of("evt_3", "updated", at + 10, "past_due"),
        of("evt_4", "updated", at + 20, "active"),
        of("evt_5", "deleted", at + 20, "canceled"),
    ];
    let status = |shop: &Shop| shop.entitlements("cus_1")["subscriptions"][0]["status"].clone();
    // Backwards: what came last holds from the first.
    for event in events.iter().rev() {
        shop.send(event).json();
        assert_eq!(status(&shop), "canceled");
    }
    // Another subscription, forwards and mixed.
    let shop = Shop::start();
    for (index, expected) in [
        (1, "active"),
        (0, "active"),
        (3, "active"),
        (2, "active"),
        (4, "canceled"),
        (3, "canceled"),
    ] {
        shop.send(&events[index]).json();
        assert_eq!(status(&shop), expected, "{index}");
    }
}

#[test]
fn a_walk_with_duplicates_and_all_events_reversed_ends_in_the_same() {
    let shop = Shop::start();
    let price = shop.fake.offer("Tea", 450, "eur", None);
    shop.control(
        "webhooks",
        &json!({"reverse": true, "duplicate": true, "delay_ms": 50}),
    );
    let session = shop.checkout("ann@example.com", &price, "payment");
    shop.decide(&session, "pay");
    let known = shop.until("ann@example.com", |known| {
        known["payments"][0]["paid"] == true
    });
    let payments = known["payments"].as_array().unwrap();
    assert_eq!(payments.len(), 1, "{known}");
    let intent = json!({"payment_intent": payments[0]["id"]});
    shop.server
        .api()
        .post("/service/payment/v1/refund/", &intent)
        .json();
    shop.until("ann@example.com", |known| {
        known["payments"][0]["refunded"] == 450
    });
}

#[test]
fn events_of_kinds_that_nobody_knows_are_kept_whole_and_can_be_replayed() {
    let shop = Shop::start();
    let strange = event(
        "evt_new",
        "v9.thing.happened",
        now(),
        json!({"id": "x", "object": "thing", "n": 1.5}),
    );
    shop.send(&strange).json();
    let admin = shop.server.admin();
    let shown = admin.get("/admin/v1/payment/events/evt_new/").json();
    assert_eq!(shown["event"], strange);
    assert_eq!(
        (&shown["type"], &shown["replays"]),
        (&json!("v9.thing.happened"), &json!(0))
    );
    let replayed = admin
        .post("/admin/v1/payment/events/evt_new/replay/", &json!({}))
        .json();
    assert_eq!(
        (&replayed["state"], &replayed["replays"]),
        (&json!("done"), &json!(1))
    );
    admin
        .post("/admin/v1/payment/events/evt_absent/replay/", &json!({}))
        .problem(404, "not_found");
    admin
        .get("/admin/v1/payment/events/evt_absent/")
        .problem(404, "not_found");

    for n in 0..3 {
        shop.send(&event(&format!("evt_{n}"), "a.b", now(), json!({})))
            .json();
    }
    let page = admin.get("/admin/v1/payment/events/?limit=2&type=a.b");
    assert_eq!(page.json().as_array().unwrap().len(), 2);
    let link = page.header("link").to_owned();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert_eq!(
        admin.get(next).json().as_array().unwrap().len(),
        1,
        "{link}"
    );
    admin
        .get("/admin/v1/payment/events/?state=dead")
        .problem(400, "invalid_input");

    // The same by the command line.
    let run = |args: &[&str]| {
        let output = coglex(shop.server.dir.path())
            .arg("payment")
            .args(args)
            .args(["--server", &shop.server.url])
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), told)
    };
    let (good, told) = run(&["events", "--type", "v9.thing.happened"]);
    assert!(
        good && told.contains("evt_new") && !told.contains("evt_0"),
        "{told}"
    );
    let (good, told) = run(&["replay", "evt_new"]);
    assert!(good && told.contains("replays    2"), "{told}");
    let (good, told) = run(&["show", "evt_new"]);
    assert!(good && told.contains("\"thing\""), "{told}");
    assert!(!run(&["replay", "evt_absent"]).0);
}

#[test]
fn what_was_answered_with_200_outlives_a_kill() {
    let mut shop = Shop::start();
    let mut sent = 0;
    for round in 0..4 {
        let client = shop.server.anonymous();
        let id = shop.server.id();
        // Killed while events are on their way.
        let killer = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(30 + 20 * round));
            let status = std::process::Command::new("kill")
                .args(["-KILL", &id.to_string()])
                .status();
            assert!(status.unwrap().success());
        });
        let mut taken = Vec::new();
        for n in 0..500 {
            let customer = format!("cus_{round}x{n}");
            let object = subscription(&format!("sub_{round}x{n}"), &customer, "active");
            let payload = event(
                &format!("evt_{round}x{n}"),
                "customer.subscription.created",
                now(),
                object,
            );
            let payload = payload.to_string();
            let signature = sign(payload.as_bytes(), SECRET, now());
            let request = client.request(reqwest::Method::POST, crate::support::shop::WEBHOOK);
            match request
                .header("stripe-signature", signature)
                .body(payload)
                .send()
            {
                Ok(answer) if answer.status() == 200 => taken.push(customer),
                _ => break,
            }
        }
        killer.join().unwrap();
        sent += taken.len();
        shop = shop.kill_and_start();
        // Taken up again by the new one, where the old had not come to it.
        let start = Instant::now();
        for customer in taken {
            while shop.entitlements(&customer)["active"] != true {
                assert!(start.elapsed() < 2 * PATIENCE, "{customer} is not known");
                thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
    assert!(sent > 0, "the kills came too early to mean anything");
}

#[test]
fn two_hosts_of_one_database_count_an_event_once() {
    let Some(address) = crate::mongodb::database_address() else {
        return;
    };
    let database = format!("coglex_pay_hosts_{}", std::process::id());
    let host = || {
        Shop::start_in(tempfile::tempdir().unwrap(), |command| {
            let uri = format!("mongodb://{address}/?directConnection=true");
            command
                .env("MONGODB_URI", uri)
                .env("MONGODB_DATABASE", &database);
        })
    };
    let (one, two) = (host(), host());
    let events: Vec<Value> = (0..10)
        .map(|n| active(&format!("evt_{n}"), now() - 100 + n))
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| events.iter().for_each(|event| drop(one.send(event).json())));
        scope.spawn(|| {
            events
                .iter()
                .rev()
                .for_each(|event| drop(two.send(event).json()))
        });
    });
    for shop in [&one, &two] {
        let kept = shop.server.admin().get("/admin/v1/payment/events/").json();
        let kept = kept.as_array().unwrap();
        assert_eq!(kept.len(), events.len());
        assert!(
            kept.iter().all(|event| event["state"] == "done"),
            "{kept:?}"
        );
        let known = shop.entitlements("cus_1");
        assert_eq!(
            known["subscriptions"].as_array().unwrap().len(),
            1,
            "{known}"
        );
        assert_eq!(known["active"], true);
    }
}
