//! Scoped API keys: what they open, where, and until when.

use std::sync::Arc;
use std::time::Duration;

use bson::{DateTime, doc};
use coglex_services::caller::KeyCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::{AuthVerb, Grants, StorageGrant, Verb};
use coglex_services::keys::{ApiKeys, KeyScope, NewKey, Refusal, address_range};
use coglex_services::{Caller, Clock, Error};
use serde_json::json;

use crate::support::*;

crate::on_both_stores!(
    a_key_is_shown_once_and_stored_as_a_hash,
    a_key_ends_when_it_expires_or_is_revoked_on_every_host,
    a_key_counts_where_it_may_be_used_from,
    the_use_of_a_key_is_noted_now_and_then,
    a_key_opens_what_it_covers,
    keys_that_cannot_be_are_refused,
);

fn new(scope: serde_json::Value) -> NewKey {
    NewKey {
        name: "shop".into(),
        scope: serde_json::from_value(scope).unwrap(),
        expires: None,
        addresses: Vec::new(),
        by: "test".into(),
    }
}

fn reads() -> NewKey {
    new(json!({"grants": {"storage": [{"collection": "notes", "verbs": ["read"]}]}}))
}

async fn opened(keys: &ApiKeys, key: &str) -> Result<KeyCaller, Refusal> {
    keys.check(key, Some("192.0.2.7".parse().unwrap()))
        .await
        .unwrap()
}

async fn a_key_is_shown_once_and_stored_as_a_hash(store: Store) {
    let keys = ApiKeys::new(store.clone(), Clock::default());
    let (made, key) = keys.create(reads()).await.unwrap();
    assert!(key.starts_with("cgx_") && key.len() == 53);
    let stored = all(&store, "_coglex_api_keys", doc! {}).await;
    assert!(!format!("{stored:?}").contains(&key[4..20]));
    let listed = keys.list().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&made));
    assert!(!format!("{listed:?}").contains(&key[4..20]));
    let caller = opened(&keys, &key).await.unwrap();
    assert_eq!(
        (caller.id.as_str(), caller.name.as_str()),
        (made.id.as_str(), "shop")
    );
    // Other keys, and texts that are none.
    let (_, other) = keys.create(reads()).await.unwrap();
    assert_ne!(key, other);
    let mut tampered = key.clone();
    tampered.replace_range(10..11, if &key[10..11] == "x" { "y" } else { "x" });
    for none in ["", "cgx_", &tampered, &made.id] {
        assert_eq!(
            opened(&keys, none).await.unwrap_err(),
            Refusal::Malformed,
            "{none}"
        );
    }
}

async fn a_key_ends_when_it_expires_or_is_revoked_on_every_host(store: Store) {
    let clock = Clock::manual(DateTime::now());
    let (here, there) = (
        ApiKeys::new(store.clone(), clock.clone()),
        ApiKeys::new(store.clone(), clock.clone()),
    );
    let in_a_minute = DateTime::from_millis(clock.now().timestamp_millis() + 60_000);
    let new = NewKey {
        expires: Some(in_a_minute),
        ..reads()
    };
    let (made, key) = here.create(new).await.unwrap();
    assert!(opened(&there, &key).await.is_ok());
    clock.advance(Duration::from_millis(59_999));
    assert!(opened(&there, &key).await.is_ok());
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        opened(&there, &key).await.unwrap_err(),
        Refusal::Expired(made.id)
    );
    let (made, key) = here.create(reads()).await.unwrap();
    assert!(opened(&here, &key).await.is_ok() && opened(&there, &key).await.is_ok());
    assert!(there.revoke(&made.id).await.unwrap());
    assert!(!there.revoke(&made.id).await.unwrap());
    assert_eq!(opened(&here, &key).await.unwrap_err(), Refusal::Unknown);
    assert_eq!(here.get(&made.id).await.unwrap(), None);
}

async fn a_key_counts_where_it_may_be_used_from(store: Store) {
    let keys = ApiKeys::new(store.clone(), Clock::default());
    let ranges = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.9"];
    let new = NewKey {
        addresses: ranges
            .iter()
            .map(|text| address_range(text).unwrap())
            .collect(),
        ..reads()
    };
    let (_, key) = keys.create(new).await.unwrap();
    for (address, good) in [
        ("192.0.2.1", true),
        ("192.0.3.1", false),
        ("::ffff:192.0.2.1", true),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
        ("198.51.100.9", true),
        ("198.51.100.8", false),
    ] {
        let found = keys
            .check(&key, Some(address.parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(found.is_ok(), good, "{address}");
    }
    assert!(keys.check(&key, None).await.unwrap().is_err());
    for wrong in ["", "192.0.2.0/33", "localhost", "192.0.2"] {
        assert!(address_range(wrong).is_none(), "{wrong}");
    }
}

async fn the_use_of_a_key_is_noted_now_and_then(store: Store) {
    let clock = Clock::manual(DateTime::now());
    let keys = ApiKeys::new(store.clone(), clock.clone());
    let (made, key) = keys.create(reads()).await.unwrap();
    assert_eq!(made.used, None);
    let used_at = async |expected: DateTime| {
        for _ in 0..200 {
            let listed = keys.get(&made.id).await.unwrap().unwrap();
            if listed.used == Some(expected) {
                assert_eq!(listed.used_from.as_deref(), Some("192.0.2.7"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the use was not noted");
    };
    let first = clock.now();
    opened(&keys, &key).await.unwrap();
    used_at(first).await;
    clock.advance(Duration::from_secs(599));
    opened(&keys, &key).await.unwrap();
    used_at(first).await;
    clock.advance(Duration::from_secs(1));
    opened(&keys, &key).await.unwrap();
    used_at(clock.now()).await;
}

async fn a_key_opens_what_it_covers(store: Store) {
    insert(
        &store,
        "notes",
        &[
            doc! { "_id": 1, "public": true, "n": 1 },
            doc! { "_id": 2, "n": 2 },
        ],
    )
    .await
    .unwrap();
    let keys = ApiKeys::new(store.clone(), Clock::default());
    let scope = json!({
        "grants": {
            "storage": [{"collection": "notes", "verbs": ["read"], "filter": {"public": true}, "fields": ["n"]}],
            "auth": [{"collection": "users", "verbs": ["verify"]}],
            "functions": ["price"],
        },
        "routes": ["/api/notes/*", "/status"],
    });
    let (_, key) = keys.create(new(scope)).await.unwrap();
    let key = opened(&keys, &key).await.unwrap();
    for (route, opens) in [
        ("/api/notes/{id}", true),
        ("/api/notes/", true),
        ("/api/notes", false),
        ("/api/notesx", false),
        ("/status", true),
        ("/status/x", false),
    ] {
        assert_eq!(key.opens(route), opens, "{route}");
    }
    let caller = Caller::Key(Arc::new(key));
    assert!(caller.allows_function("price") && !caller.allows_function("other"));
    assert!(caller.allows_auth("users", AuthVerb::Verify));
    assert!(
        !caller.allows_auth("users", AuthVerb::Manage)
            && !caller.allows_auth("admins", AuthVerb::Verify)
    );
    let service = Documents::new(store.clone(), DocumentLimits::default());
    assert_eq!(service.count(&caller, "notes", doc! {}).await.unwrap(), 1);
    let forbidden = |result: Result<u64, Error>| matches!(result, Err(Error::Forbidden(_)));
    assert!(forbidden(
        service
            .count(&caller, "notes", doc! { "public": true })
            .await
    ));
    assert!(forbidden(service.count(&caller, "other", doc! {}).await));
    assert!(forbidden(
        service.count(&caller, "_coglex_api_keys", doc! {}).await
    ));
    assert!(forbidden(
        service.delete(&caller, "notes", doc! {}, true).await
    ));
    assert_eq!(service.collections(&caller).await.unwrap(), ["notes"]);
    assert!(matches!(
        service.indexes(&caller, "notes").await,
        Err(Error::Forbidden(_))
    ));
}

async fn keys_that_cannot_be_are_refused(store: Store) {
    let keys = ApiKeys::new(store.clone(), Clock::default());
    let of = |scope: serde_json::Value| new(scope);
    let hook = KeyScope {
        grants: Grants {
            storage: vec![StorageGrant::new("notes", [Verb::Hook])],
            ..Grants::default()
        },
        routes: Vec::new(),
    };
    for wrong in [
        of(json!({})),
        of(json!({"grants": {"kv": true}})),
        of(json!({"grants": {"secrets": ["x"]}})),
        NewKey {
            scope: hook,
            ..reads()
        },
        of(json!({"routes": ["api"]})),
        of(json!({"routes": ["/a*"]})),
        of(json!({"routes": ["/*/a"]})),
        of(json!({"routes": vec!["/a"; 101]})),
        NewKey {
            name: " ".into(),
            ..reads()
        },
        NewKey {
            name: "x".repeat(201),
            ..reads()
        },
        NewKey {
            expires: Some(DateTime::from_millis(0)),
            ..reads()
        },
    ] {
        let shown = format!("{wrong:?}");
        assert!(
            matches!(keys.create(wrong).await, Err(Error::Invalid(_))),
            "{shown}"
        );
    }
    assert_eq!(keys.list().await.unwrap(), []);
}
