//! The auth service on a store: accounts, passwords, sessions.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use coglex_services::accounts::{Accounts, AuthSettings, RealmPolicy, SignedIn, SigningKey, User};
use coglex_services::caller::Credentials;
use coglex_services::documents::DocumentLimits;
use coglex_services::{Error, Result};

use crate::support::*;

crate::on_both_stores!(
    a_sign_up_makes_a_user_and_keeps_the_password_hashed,
    a_taken_key_is_invalid_and_a_taken_id_a_conflict,
    concurrent_sign_ups_of_one_key_make_one_user,
    keys_and_passwords_have_bounds,
    a_sign_in_opens_a_session,
    failures_of_sign_in_are_alike,
    the_condition_is_a_further_one,
    sessions_are_of_their_realm,
    an_expired_session_is_none,
    signing_out_ends_that_session_alone,
    a_deleted_user_has_no_sessions,
    a_new_password_ends_the_other_sessions,
    refresh_sets_fields,
    refresh_refuses_what_is_not_its_own,
    a_changed_key_signs_in_under_the_new_one,
    hashes_follow_the_parameters,
    hashes_of_bcrypt_are_taken_over,
    sessions_of_one_user_are_bounded,
    many_sign_ins_at_once_all_hold,
    the_bearer_is_tried_before_the_cookie,
);

const KEY: [u8; 32] = [7; 32];

fn settings() -> AuthSettings {
    AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 1_000,
        policy: RealmPolicy {
            password_min: 1,
            password_max: 1024,
            allow_common: true,
            session_ttl: Duration::from_secs(3_600),
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from(KEY)))
    }
}

fn accounts(store: &Store) -> Accounts {
    Accounts::new(store.clone(), settings(), DocumentLimits::default())
}

/// Ann, with the password `secret`.
async fn ann(accounts: &Accounts) -> Bson {
    accounts
        .sign_up("users", "ann", "secret", doc! { "name": "Ann" })
        .await
        .unwrap()
}

async fn sign_in(accounts: &Accounts) -> SignedIn {
    accounts
        .sign_in("users", "ann", "secret", doc! {})
        .await
        .unwrap()
}

async fn session(accounts: &Accounts, token: &str) -> Option<User> {
    accounts.session("users", token).await.unwrap()
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::NotFound(_))), "{result:?}");
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
}

#[track_caller]
fn assert_forbidden<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Forbidden(_))), "{result:?}");
}

async fn a_sign_up_makes_a_user_and_keeps_the_password_hashed(store: Store) {
    let accounts = accounts(&store);
    let document =
        doc! { "_key": "eve", "_password": { "$x": 1 }, "name": "Ann", "deep": { "n": 1 } };
    let id = accounts
        .sign_up("users", "ann", "secret", document)
        .await
        .unwrap();
    assert!(id.as_object_id().is_some());
    let mut stored = one(&store, "users", id.clone()).await;
    let Some(Bson::String(hash)) = stored.remove("_password") else {
        panic!("{stored}")
    };
    assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
    assert_eq!(
        stored,
        doc! { "_id": id, "_key": "ann", "name": "Ann", "deep": { "n": 1 } }
    );

    let id = accounts
        .sign_up("users", "bob", "secret", doc! { "_id": "b" })
        .await
        .unwrap();
    assert_eq!(id, Bson::from("b"));
    assert_forbidden(
        accounts
            .sign_up("users", "c", "secret", doc! { "_coglex": {} })
            .await,
    );
    assert_forbidden(
        accounts
            .sign_up("users", "c", "secret", doc! { "a": { "_password": 1 } })
            .await,
    );
    assert_forbidden(
        accounts
            .sign_up("_coglex_users", "c", "secret", doc! {})
            .await,
    );
    assert_invalid(
        accounts
            .sign_up("users", "c", "secret", doc! { "_id": 5 })
            .await,
    );
}

async fn a_taken_key_is_invalid_and_a_taken_id_a_conflict(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    assert_invalid(accounts.sign_up("users", "ann", "other", doc! {}).await);
    let taken_id = accounts
        .sign_up("users", "bob", "other", doc! { "_id": id })
        .await;
    assert!(matches!(taken_id, Err(Error::Conflict(_))), "{taken_id:?}");
    // Another realm is another matter.
    accounts
        .sign_up("admins", "ann", "other", doc! {})
        .await
        .unwrap();
}

async fn concurrent_sign_ups_of_one_key_make_one_user(store: Store) {
    let accounts = accounts(&store);
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                accounts
                    .sign_up("users", "ann", &format!("password {n}"), doc! { "n": n })
                    .await
            })
        })
        .collect();
    let mut made = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(id) => made.push(id),
            refused => assert_invalid(refused),
        }
    }
    assert_eq!(made.len(), 1);
    let users = all(&store, "users", doc! {}).await;
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].get("_id"), Some(&made[0]));
}

async fn keys_and_passwords_have_bounds(store: Store) {
    let accounts = accounts(&store);
    let long = |bytes| "x".repeat(bytes);
    for (key, password, fine) in [
        (long(1), long(1), true),
        (long(320), long(1024), true),
        (String::new(), long(1), false),
        (long(321), long(1), false),
        (long(2), String::new(), false),
        (long(2), long(1025), false),
    ] {
        let up = accounts.sign_up("users", &key, &password, doc! {}).await;
        let within = accounts.sign_in("users", &key, &password, doc! {}).await;
        if fine {
            up.unwrap();
            within.unwrap();
        } else {
            assert_invalid(up);
            assert_invalid(within);
        }
    }
}

async fn a_sign_in_opens_a_session(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    let before = bson::DateTime::now().timestamp_millis() / 1000;
    let signed_in = sign_in(&accounts).await;
    let shown = doc! { "_id": id.clone(), "_key": "ann", "name": "Ann" };
    assert_eq!(signed_in.user.document, shown);
    assert_eq!(
        (signed_in.user.realm.as_str(), signed_in.user.key.as_str()),
        ("users", "ann")
    );
    assert!((before + 900..before + 910).contains(&signed_in.expires));
    assert!((before + 3_600..before + 3_610).contains(&signed_in.session_expires));
    let printed = format!("{signed_in:?}");
    for secret in [
        &signed_in.token,
        &signed_in.refresh_token,
        &signed_in.cookie,
    ] {
        assert!(!printed.contains(secret));
    }

    let user = session(&accounts, &signed_in.token).await.unwrap();
    assert_eq!((user.id, user.document), (id.clone(), shown));
    // Read now, not remembered.
    store
        .update("users", set(doc! {}, doc! { "$set": { "name": "Anna" } }))
        .await
        .unwrap();
    assert_eq!(
        session(&accounts, &signed_in.token)
            .await
            .unwrap()
            .document
            .get_str("name")
            .unwrap(),
        "Anna"
    );
    // Another server with the same key and store knows it too.
    assert!(
        session(&self::accounts(&store), &signed_in.token)
            .await
            .is_some()
    );
    // The store holds nothing that a token could be made from.
    let claims: serde_json::Value =
        jsonwebtoken::dangerous::insecure_decode_claims(&signed_in.token).unwrap();
    let stored = one(&store, "users", id).await.to_string();
    let secret = signed_in.refresh_token.rsplit('.').next().unwrap();
    for secret in [claims["sid"].as_str().unwrap(), &signed_in.token, secret] {
        assert!(!stored.contains(secret), "{stored}");
    }
}

async fn failures_of_sign_in_are_alike(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    let mut sentences = Vec::new();
    for (realm, key, password, condition) in [
        ("users", "nobody", "secret", doc! {}),
        ("users", "ann", "wrong", doc! {}),
        ("users", "ann", "secret", doc! { "name": "Bob" }),
        ("none", "ann", "secret", doc! {}),
    ] {
        let error = accounts
            .sign_in(realm, key, password, condition)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error:?}");
        sentences.push(error.to_string());
    }
    assert!(sentences.iter().all(|sentence| sentence == &sentences[0]));
    // A document without a password is nobody's account.
    insert(&store, "users", &[doc! { "_id": "x", "_key": "imported" }])
        .await
        .unwrap();
    assert_not_found(
        accounts
            .sign_in("users", "imported", "secret", doc! {})
            .await,
    );
}

async fn the_condition_is_a_further_one(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    accounts
        .sign_up("users", "bob", "other", doc! {})
        .await
        .unwrap();
    accounts
        .sign_in("users", "ann", "secret", doc! { "name": "Ann" })
        .await
        .unwrap();
    accounts
        .sign_in(
            "users",
            "ann",
            "secret",
            doc! { "_key": { "$exists": true } },
        )
        .await
        .unwrap();
    assert_not_found(
        accounts
            .sign_in("users", "bob", "secret", doc! { "_key": "ann" })
            .await,
    );
    assert_not_found(
        accounts
            .sign_in(
                "users",
                "nobody",
                "secret",
                doc! { "$or": [{ "_key": "ann" }] },
            )
            .await,
    );
    assert_forbidden(
        accounts
            .sign_in(
                "users",
                "ann",
                "secret",
                doc! { "_password": { "$regex": "^a" } },
            )
            .await,
    );
    assert_invalid(
        accounts
            .sign_in("users", "ann", "secret", doc! { "$where": "1" })
            .await,
    );
    assert_invalid(
        accounts
            .sign_in("users", "ann", "secret", doc! { "name": { "$foo": 1 } })
            .await,
    );
}

async fn sessions_are_of_their_realm(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    let admin = accounts
        .sign_up("admins", "ann", "secret", doc! {})
        .await
        .unwrap();
    insert(&store, "copies", &[doc! { "_id": admin, "_key": "ann" }])
        .await
        .unwrap();
    let token = accounts
        .sign_in("admins", "ann", "secret", doc! {})
        .await
        .unwrap()
        .token;
    assert!(accounts.session("admins", &token).await.unwrap().is_some());
    assert!(accounts.session("users", &token).await.unwrap().is_none());
    assert!(accounts.session("copies", &token).await.unwrap().is_none());
    accounts.sign_out("users", &token).await.unwrap();
    assert!(accounts.session("admins", &token).await.unwrap().is_some());
}

async fn an_expired_session_is_none(store: Store) {
    let mut brief = settings();
    brief.policy.session_ttl = Duration::from_secs(1);
    let brief = Accounts::new(store.clone(), brief, DocumentLimits::default());
    ann(&brief).await;
    let signed_in = sign_in(&brief).await;
    assert!(session(&brief, &signed_in.token).await.is_some());
    let left = signed_in.expires * 1_000 - bson::DateTime::now().timestamp_millis();
    assert!((0..2_000).contains(&left), "{left}");
    tokio::time::sleep(Duration::from_millis(left as u64 + 10)).await;
    assert!(session(&brief, &signed_in.token).await.is_none());
    // The next sign-in sweeps.
    sign_in(&accounts(&store)).await;
    assert_eq!(open_sessions(&store).await, 1);
}

async fn open_sessions(store: &Store) -> usize {
    let users = all(store, "users", doc! { "_key": "ann" }).await;
    users[0]
        .get_document("_coglex")
        .unwrap()
        .get_document("sessions")
        .unwrap()
        .len()
}

async fn signing_out_ends_that_session_alone(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    let (first, second) = (
        sign_in(&accounts).await.token,
        sign_in(&accounts).await.token,
    );
    accounts.sign_out("users", &first).await.unwrap();
    assert!(session(&accounts, &first).await.is_none());
    assert!(session(&accounts, &second).await.is_some());
    accounts.sign_out("users", &first).await.unwrap();
    assert!(session(&accounts, &second).await.is_some());
    assert_eq!(open_sessions(&store).await, 1);
}

async fn a_deleted_user_has_no_sessions(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    let token = sign_in(&accounts).await.token;
    store
        .delete("users", doc! { "_id": id.clone() }, false)
        .await
        .unwrap();
    assert!(session(&accounts, &token).await.is_none());
    // Nor when somebody takes the place.
    accounts
        .sign_up("users", "ann", "secret", doc! { "_id": id })
        .await
        .unwrap();
    assert!(session(&accounts, &token).await.is_none());
}

async fn a_new_password_ends_the_other_sessions(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    let (first, second) = (
        sign_in(&accounts).await.token,
        sign_in(&accounts).await.token,
    );
    let change = doc! { "_password": "new secret", "name": "Anna" };
    assert_eq!(
        accounts
            .refresh("users", "ann", change, Some(&second))
            .await
            .unwrap(),
        1
    );
    assert!(session(&accounts, &first).await.is_none());
    assert_eq!(
        session(&accounts, &second)
            .await
            .unwrap()
            .document
            .get_str("name")
            .unwrap(),
        "Anna"
    );
    assert_not_found(accounts.sign_in("users", "ann", "secret", doc! {}).await);
    accounts
        .sign_in("users", "ann", "new secret", doc! {})
        .await
        .unwrap();

    accounts
        .refresh("users", "ann", doc! { "_password": "third" }, None)
        .await
        .unwrap();
    assert!(session(&accounts, &second).await.is_none());
    // A session of somebody else is not carried over.
    accounts
        .sign_up("users", "bob", "secret", doc! {})
        .await
        .unwrap();
    let bob = accounts
        .sign_in("users", "bob", "secret", doc! {})
        .await
        .unwrap()
        .token;
    accounts
        .refresh("users", "ann", doc! { "_password": "fourth" }, Some(&bob))
        .await
        .unwrap();
    assert_eq!(open_sessions(&store).await, 0);
    assert!(session(&accounts, &bob).await.is_some());
}

async fn refresh_sets_fields(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    let token = sign_in(&accounts).await.token;
    let refresh = async |document: Document| accounts.refresh("users", "ann", document, None).await;
    assert_eq!(
        refresh(doc! { "name": "Anna", "home.city": "Oslo", "tags": ["a"] })
            .await
            .unwrap(),
        1
    );
    assert_eq!(refresh(doc! { "name": "Anna" }).await.unwrap(), 0);
    assert_eq!(refresh(doc! {}).await.unwrap(), 0);
    let user = session(&accounts, &token).await.unwrap();
    let expected = doc! { "_id": id, "_key": "ann", "name": "Anna", "home": { "city": "Oslo" }, "tags": ["a"] };
    // MongoDB puts new fields behind; so does the session record stand before.
    assert_eq!(user.document, expected);
    assert_not_found(accounts.refresh("users", "nobody", doc! {}, None).await);
    assert_not_found(
        accounts
            .refresh("users", "nobody", doc! { "_password": "x" }, None)
            .await,
    );
}

async fn refresh_refuses_what_is_not_its_own(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    sign_in(&accounts).await;
    let before = one(&store, "users", id.clone()).await;
    let refresh = async |document: Document| accounts.refresh("users", "ann", document, None).await;
    for document in [
        doc! { "_id": "x" },
        doc! { "_id.a": "x" },
        doc! { "_coglex": {} },
        doc! { "_coglex.sessions": {} },
        doc! { "_password.a": "x" },
        doc! { "_key.a": "x" },
        doc! { "a": { "_password": "x" } },
        doc! { "name": "x", "a._coglex": 1 },
    ] {
        assert_forbidden(refresh(document).await);
    }
    for document in [
        doc! { "_password": 5 },
        doc! { "_password": "" },
        doc! { "_password": "x".repeat(1025) },
        doc! { "_key": { "$ne": null } },
        doc! { "_key": "" },
        doc! { "$set": { "a": 1 } },
        doc! { "$unset": { "_password": "" } },
        doc! { "a": { "$where": "1" } },
    ] {
        assert_invalid(refresh(document).await);
    }
    assert_eq!(one(&store, "users", id).await, before);
}

async fn a_changed_key_signs_in_under_the_new_one(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    accounts
        .sign_up("users", "bob", "other", doc! {})
        .await
        .unwrap();
    let taken = accounts
        .refresh("users", "ann", doc! { "_key": "bob" }, None)
        .await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");
    assert_eq!(
        accounts
            .refresh("users", "ann", doc! { "_key": "ann" }, None)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        accounts
            .refresh("users", "ann", doc! { "_key": "anna" }, None)
            .await
            .unwrap(),
        1
    );
    assert_not_found(accounts.sign_in("users", "ann", "secret", doc! {}).await);
    assert_eq!(
        accounts
            .sign_in("users", "anna", "secret", doc! {})
            .await
            .unwrap()
            .user
            .key,
        "anna"
    );
}

async fn hashes_follow_the_parameters(store: Store) {
    let accounts = accounts(&store);
    let id = ann(&accounts).await;
    let hash = async || {
        one(&store, "users", id.clone())
            .await
            .get_str("_password")
            .unwrap()
            .to_owned()
    };
    let before = hash().await;
    sign_in(&accounts).await;
    assert_eq!(hash().await, before);
    let stronger = Accounts::new(
        store.clone(),
        AuthSettings {
            argon2_memory_kib: 128,
            ..settings()
        },
        DocumentLimits::default(),
    );
    assert_not_found(stronger.sign_in("users", "ann", "wrong", doc! {}).await);
    assert_eq!(hash().await, before);
    let token = sign_in(&stronger).await.token;
    let after = hash().await;
    assert!(after.contains("m=128"), "{after}");
    assert!(session(&accounts, &token).await.is_some());
    sign_in(&stronger).await;
    assert_eq!(hash().await, after);
}

async fn hashes_of_bcrypt_are_taken_over(store: Store) {
    let accounts = accounts(&store);
    let hash = bcrypt::hash("secret", 4).unwrap();
    // As text, and as the bytes that Python's library answers.
    let bytes = bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: hash.clone().into_bytes(),
    };
    for (key, password) in [("ann", Bson::from(hash)), ("bob", Bson::from(bytes))] {
        let user = doc! { "_id": key, "_key": key, "_password": password.clone() };
        insert(&store, "users", &[user]).await.unwrap();
        let wrong = accounts.sign_in("users", key, "Secret", doc! {}).await;
        assert_not_found(wrong);
        let stored = one(&store, "users", Bson::from(key)).await;
        assert_eq!(stored.get("_password"), Some(&password));
        for _ in 0..2 {
            let signed_in = accounts.sign_in("users", key, "secret", doc! {}).await;
            let token = signed_in.unwrap().token;
            assert!(session(&accounts, &token).await.is_some());
            let stored = one(&store, "users", Bson::from(key)).await;
            let hash = stored.get_str("_password").unwrap();
            assert!(hash.starts_with("$argon2id$"), "{hash}");
        }
    }
}

async fn sessions_of_one_user_are_bounded(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    let mut tokens = Vec::new();
    for _ in 0..66 {
        tokens.push(sign_in(&accounts).await.token);
    }
    assert_eq!(open_sessions(&store).await, 64);
    // The newest is always among them. Which of those of one second are the
    // oldest is not told.
    assert!(session(&accounts, tokens.last().unwrap()).await.is_some());
}

async fn many_sign_ins_at_once_all_hold(store: Store) {
    let old = Accounts::new(
        store.clone(),
        AuthSettings {
            argon2_memory_kib: 128,
            ..settings()
        },
        DocumentLimits::default(),
    );
    ann(&old).await;
    // All find the hash outdated and want to replace it; each must come through.
    let accounts = accounts(&store);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let accounts = accounts.clone();
            tokio::spawn(async move { sign_in(&accounts).await.token })
        })
        .collect();
    for task in tasks {
        let token = task.await.unwrap();
        assert!(session(&accounts, &token).await.is_some());
    }
    assert_eq!(open_sessions(&store).await, 8);
}

async fn the_bearer_is_tried_before_the_cookie(store: Store) {
    let accounts = accounts(&store);
    ann(&accounts).await;
    accounts
        .sign_up("users", "bob", "secret", doc! {})
        .await
        .unwrap();
    let ann = sign_in(&accounts).await.token;
    let bob = accounts
        .sign_in("users", "bob", "secret", doc! {})
        .await
        .unwrap()
        .token;
    let cookie = |realm: &str, token: &str| (realm.to_owned(), token.to_owned());
    let who = async |bearer: Option<&str>, cookies: &[(String, String)]| {
        let credentials = Credentials {
            api_key: false,
            bearer: bearer.map(str::to_owned),
            cookies: cookies.to_vec(),
            ..Credentials::default()
        };
        assert!(!format!("{credentials:?}").contains("eyJ"));
        accounts
            .session_of("users", &credentials)
            .await
            .unwrap()
            .map(|user| user.key)
    };
    assert_eq!(who(None, &[]).await, None);
    assert_eq!(who(Some(&ann), &[]).await.as_deref(), Some("ann"));
    assert_eq!(
        who(Some(&ann), &[cookie("users", &bob)]).await.as_deref(),
        Some("ann")
    );
    assert_eq!(
        who(Some("other.service.token"), &[cookie("users", &bob)])
            .await
            .as_deref(),
        Some("bob")
    );
    assert_eq!(
        who(
            None,
            &[
                cookie("admins", &bob),
                cookie("users", "x"),
                cookie("users", &ann)
            ]
        )
        .await
        .as_deref(),
        Some("ann")
    );
    assert_eq!(who(None, &[cookie("admins", &bob)]).await, None);
}
