//! Keys and values of plugins.

use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use coglex_services::caller::PluginCaller;
use coglex_services::grants::Grants;
use coglex_services::kv::KvError;
use coglex_services::{Caller, Clock, Error, Kv};

use crate::support::*;

crate::on_both_stores!(
    what_is_set_is_got,
    time_to_live_is_honoured_at_once,
    counters_count_whatever_comes_at_once,
    comparing_and_setting_is_one_step,
    keys_are_listed_in_order,
    plugins_have_keys_of_their_own,
    what_is_no_key_or_value_is_refused,
    a_plugin_fills_its_room_and_no_more,
    what_is_over_takes_no_room_for_good,
);

fn plugin(name: &str) -> Caller {
    let grants = Grants {
        kv: true,
        ..Grants::default()
    };
    Caller::Plugin(Arc::new(PluginCaller::new(name, grants)))
}

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));
/// Long enough to be read before it is over, on a busy machine.
const SHORT: Duration = Duration::from_millis(1_500);

async fn text(kv: &Kv, caller: &Caller, key: &str) -> Option<String> {
    let value = kv.get(caller, key).await.unwrap();
    value.map(|bytes| String::from_utf8(bytes).unwrap())
}

async fn what_is_set_is_got(store: Store) {
    let (kv, a) = (Kv::new(store), plugin("a"));
    assert_eq!(text(&kv, &a, "x").await, None);
    assert!(!kv.delete(&a, "x").await.unwrap());
    kv.set(&a, "x", b"one".to_vec(), None).await.unwrap();
    assert_eq!(text(&kv, &a, "x").await.as_deref(), Some("one"));
    kv.set(&a, "x", b"two".to_vec(), MINUTE).await.unwrap();
    assert_eq!(text(&kv, &a, "x").await.as_deref(), Some("two"));
    kv.set(&a, "x", vec![0, 255], None).await.unwrap();
    assert_eq!(kv.get(&a, "x").await.unwrap(), Some(vec![0, 255]));
    assert!(kv.delete(&a, "x").await.unwrap());
    assert_eq!(text(&kv, &a, "x").await, None);
}

async fn time_to_live_is_honoured_at_once(store: Store) {
    let (kv, a) = (Kv::new(store), plugin("a"));
    kv.set(&a, "x", b"1".to_vec(), Some(SHORT)).await.unwrap();
    kv.increment(&a, "n", 5, Some(SHORT)).await.unwrap();
    // Later calls leave a counter's time as it is.
    assert_eq!(kv.increment(&a, "n", 1, MINUTE).await.unwrap(), 6);
    assert_eq!(text(&kv, &a, "x").await.as_deref(), Some("1"));
    tokio::time::sleep(SHORT).await;
    assert_eq!(text(&kv, &a, "x").await, None);
    assert!(kv.keys(&a, "", None, 10).await.unwrap().is_empty());
    assert!(!kv.delete(&a, "x").await.unwrap());
    let expected = Some(b"1".to_vec());
    assert!(
        !kv.compare_and_set(&a, "x", expected, b"2".to_vec(), None)
            .await
            .unwrap()
    );
    assert!(
        kv.compare_and_set(&a, "x", None, b"3".to_vec(), None)
            .await
            .unwrap()
    );
    assert_eq!(kv.increment(&a, "n", 1, None).await.unwrap(), 1);
    assert_eq!(text(&kv, &a, "x").await.as_deref(), Some("3"));
}

async fn counters_count_whatever_comes_at_once(store: Store) {
    // Two services, as two hosts have them, so that they do not take turns.
    let hosts = [Kv::new(store.clone()), Kv::new(store)];
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let kv = hosts[n % 2].clone();
            tokio::spawn(async move {
                let mut sums = Vec::new();
                for _ in 0..5 {
                    sums.push(kv.increment(&plugin("a"), "n", 2, None).await.unwrap());
                }
                sums
            })
        })
        .collect();
    let mut sums = Vec::new();
    for task in tasks {
        sums.extend(task.await.unwrap());
    }
    sums.sort_unstable();
    let expected: Vec<i64> = (1..=80).map(|n| n * 2).collect();
    assert_eq!(sums, expected, "each sum is seen by one");

    let (kv, a) = (&hosts[0], plugin("a"));
    assert_eq!(text(kv, &a, "n").await.as_deref(), Some("160"));
    assert_eq!(
        kv.increment(&a, "n", i64::MAX, None).await.unwrap(),
        i64::MAX
    );
    kv.set(&a, "text", b"160".to_vec(), None).await.unwrap();
    let error = kv.increment(&a, "text", 1, None).await.unwrap_err();
    assert!(matches!(error, KvError::NotACounter), "{error}");
}

async fn comparing_and_setting_is_one_step(store: Store) {
    let hosts = [Kv::new(store.clone()), Kv::new(store)];
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let kv = hosts[n % 2].clone();
            tokio::spawn(async move {
                let value = n.to_string().into_bytes();
                kv.compare_and_set(&plugin("a"), "lock", None, value, MINUTE)
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut winners = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        if task.await.unwrap() {
            winners.push(n.to_string());
        }
    }
    let (kv, a) = (&hosts[0], plugin("a"));
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(text(kv, &a, "lock").await, Some(winners[0].clone()));
    let held = Some(winners[0].clone().into_bytes());
    assert!(
        !kv.compare_and_set(&a, "lock", Some(b"?".to_vec()), vec![], None)
            .await
            .unwrap()
    );
    assert!(
        kv.compare_and_set(&a, "lock", held, b"mine".to_vec(), None)
            .await
            .unwrap()
    );
    // A counter is its digits.
    kv.increment(&a, "n", 7, None).await.unwrap();
    assert!(
        kv.compare_and_set(&a, "n", Some(b"7".to_vec()), b"x".to_vec(), None)
            .await
            .unwrap()
    );
}

async fn keys_are_listed_in_order(store: Store) {
    let (kv, a) = (Kv::new(store), plugin("a"));
    for key in ["b:2", "a:1", "b:1", "b;", "ü"] {
        kv.set(&a, key, b"x".to_vec(), None).await.unwrap();
    }
    let keys = async |prefix, after, limit| kv.keys(&a, prefix, after, limit).await.unwrap();
    assert_eq!(keys("", None, 10).await, ["a:1", "b:1", "b:2", "b;", "ü"]);
    assert_eq!(keys("b:", None, 10).await, ["b:1", "b:2"]);
    assert_eq!(keys("b:", Some("b:1"), 10).await, ["b:2"]);
    assert_eq!(keys("", Some("b:1"), 2).await, ["b:2", "b;"]);
    assert!(keys("c", None, 10).await.is_empty());
    assert!(keys("", None, 0).await.is_empty());
}

async fn plugins_have_keys_of_their_own(store: Store) {
    let kv = Kv::new(store.clone());
    let (a, b) = (plugin("a"), plugin("a-"));
    kv.set(&a, "x", b"of a".to_vec(), None).await.unwrap();
    kv.set(&b, "x", b"of b".to_vec(), None).await.unwrap();
    kv.set(&b, ":x", b"of b".to_vec(), None).await.unwrap();
    assert_eq!(text(&kv, &a, "x").await.as_deref(), Some("of a"));
    assert_eq!(kv.keys(&a, "", None, 10).await.unwrap(), ["x"]);
    assert_eq!(kv.keys(&b, "", None, 10).await.unwrap(), [":x", "x"]);

    let ungranted = Caller::Plugin(Arc::new(PluginCaller::new("a", Grants::default())));
    for caller in [ungranted, Caller::ApiKey] {
        let error = kv.get(&caller, "x").await.unwrap_err();
        assert!(
            matches!(error, KvError::Service(Error::Forbidden(_))),
            "{error}"
        );
    }
    // What holds them is the server's own.
    let names = store.collections().await.unwrap();
    assert!(
        names.iter().all(|name| name.starts_with("_coglex")),
        "{names:?}"
    );
    assert_eq!(all(&store, "_coglex_kv", doc! {}).await.len(), 3);
}

async fn what_is_no_key_or_value_is_refused(store: Store) {
    let (kv, a) = (Kv::new(store), plugin("a"));
    let long = "k".repeat(513);
    for key in ["", long.as_str()] {
        let error = kv.get(&a, key).await.unwrap_err();
        assert!(matches!(error, KvError::Invalid(_)), "{error}");
    }
    let big = vec![0; 1024 * 1024 + 1];
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    for (value, ttl) in [
        (big, None),
        (vec![], Some(Duration::ZERO)),
        (vec![], Some(year + Duration::from_millis(1))),
    ] {
        let error = kv.set(&a, "x", value, ttl).await.unwrap_err();
        assert!(matches!(error, KvError::Invalid(_)), "{error}");
    }
    kv.set(&a, &long[..512], vec![1; 1024 * 1024], Some(year))
        .await
        .unwrap();
    assert_eq!(
        kv.get(&a, &long[..512])
            .await
            .unwrap()
            .map(|value| value.len()),
        Some(1024 * 1024)
    );
}

async fn a_plugin_fills_its_room_and_no_more(store: Store) {
    let (kv, a) = (Kv::new(store.clone()), plugin("a"));
    let Caller::Plugin(inner) = &a else {
        unreachable!()
    };
    let small = Caller::Plugin(Arc::new(PluginCaller {
        kv_bytes: 10_000,
        ..PluginCaller::clone(inner)
    }));
    let value = vec![7; 3_000];
    for key in ["one", "two", "three"] {
        kv.set(&small, key, value.clone(), None).await.unwrap();
    }
    let set = async |key: &str| kv.set(&small, key, value.clone(), None).await;
    let error = set("four").await.unwrap_err();
    assert!(matches!(error, KvError::Full(10_000)), "{error}");
    let counter = kv.increment(&small, "hits", 1, None).await;
    assert_eq!(counter.unwrap(), 1, "there is room for a small one");
    let swapped = kv.compare_and_set(&small, "new", None, value.clone(), None);
    assert!(matches!(swapped.await, Err(KvError::Full(_))));
    assert!(kv.get(&small, "four").await.unwrap().is_none());

    // What is there can be overwritten, also by more if that fits.
    set("two").await.unwrap();
    let longer = vec![8; 3_100];
    kv.set(&small, "two", longer.clone(), None).await.unwrap();
    let error = kv
        .set(&small, "two", vec![8; 4_000], None)
        .await
        .unwrap_err();
    assert!(matches!(error, KvError::Full(_)), "{error}");
    assert_eq!(kv.get(&small, "two").await.unwrap(), Some(longer));

    // What is deleted makes room at once.
    assert!(kv.delete(&small, "one").await.unwrap());
    set("four").await.unwrap();
    // Others have room of their own, and another host counts the same.
    let other = plugin("b");
    kv.set(&other, "one", value.clone(), None).await.unwrap();
    let host = Kv::new(store);
    let error = host
        .set(&small, "five", value.clone(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, KvError::Full(_)), "{error}");
}

async fn what_is_over_takes_no_room_for_good(store: Store) {
    let clock = Clock::manual(bson::DateTime::now());
    let kv = Kv::new(store.clone()).with_clock(clock.clone());
    let Caller::Plugin(a) = plugin("a") else {
        unreachable!()
    };
    let small = Caller::Plugin(Arc::new(PluginCaller {
        kv_bytes: 10_000,
        ..PluginCaller::clone(&a)
    }));
    // Times over the room, each time as fast as it is over.
    for round in 0..3 {
        for key in ["one", "two", "three"] {
            let key = format!("{key}{round}");
            kv.set(&small, &key, vec![7; 3_000], MINUTE).await.unwrap();
        }
        clock.advance(MINUTE.unwrap());
        // A count counts for a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    kv.set(&small, "last", vec![7; 3_000], None).await.unwrap();
    let stored = all(&store, "_coglex_kv", doc! {}).await;
    assert_eq!(stored.len(), 1, "what is over is not kept beside the rest");
}
