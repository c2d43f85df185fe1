//! Accounts as plugins may use them.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};
use coglex_services::accounts::{AuthSettings, RealmPolicy, SigningKey};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::DocumentLimits;
use coglex_services::grants::{AuthGrant, AuthVerb, Grants};
use coglex_services::{Accounts, Caller, Error, Result};

use crate::support::*;

crate::on_both_stores!(
    a_plugin_signs_up_finds_and_verifies,
    verbs_and_collections_are_granted_one_by_one,
);

fn accounts(store: &Store) -> Accounts {
    let settings = AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 16,
        policy: RealmPolicy {
            password_min: 1,
            allow_common: true,
            session_ttl: Duration::from_secs(60),
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from([7; 32])))
    };
    Accounts::new(store.clone(), settings, DocumentLimits::default())
}

fn plugin(collection: &str, verbs: &[AuthVerb]) -> Caller {
    let grants = Grants {
        auth: vec![AuthGrant {
            collection: collection.to_owned(),
            verbs: verbs.to_vec(),
        }],
        ..Grants::default()
    };
    Caller::Plugin(Arc::new(PluginCaller::new("pages", grants)))
}

async fn a_plugin_signs_up_finds_and_verifies(store: Store) {
    let accounts = accounts(&store);
    let pages = plugin("users", &AuthVerb::ALL);
    let profile = doc! { "name": "Ann", "_password": "ignored", "_key": "ignored" };
    let id = accounts
        .sign_up_for(&pages, "users", "ann", "correct horse", profile.clone())
        .await
        .unwrap();
    let taken = accounts
        .sign_up_for(&pages, "users", "ann", "other", doc! {})
        .await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");

    let found = accounts
        .look_up(&pages, "users", "ann")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&found.id, found.key.as_str()), (&id, "ann"));
    assert_eq!(
        found.document,
        doc! { "_id": id.clone(), "_key": "ann", "name": "Ann" }
    );
    assert!(
        accounts
            .look_up(&pages, "users", "bob")
            .await
            .unwrap()
            .is_none()
    );
    let by_id = accounts
        .look_up_by_id(&pages, "users", id.clone())
        .await
        .unwrap();
    assert_eq!(by_id.unwrap().key, "ann");
    insert(&store, "users", &[doc! { "_id": "no user" }])
        .await
        .unwrap();
    assert!(
        accounts
            .look_up_by_id(&pages, "users", "no user".into())
            .await
            .unwrap()
            .is_none()
    );
    let operator = accounts
        .look_up_by_id(&pages, "users", Bson::Document(doc! { "$ne": 1 }))
        .await;
    assert!(matches!(operator, Err(Error::Invalid(_))), "{operator:?}");

    let verified = accounts
        .verify(&pages, "users", "ann", "correct horse")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(verified.id, id);
    assert!(!verified.document.contains_key("_password"));
    for (key, password) in [
        ("ann", "wrong"),
        ("bob", "correct horse"),
        ("ignored", "ignored"),
    ] {
        assert!(
            accounts
                .verify(&pages, "users", key, password)
                .await
                .unwrap()
                .is_none()
        );
    }
    // It opens no session.
    assert!(!one(&store, "users", id).await.contains_key("_coglex"));
}

async fn verbs_and_collections_are_granted_one_by_one(store: Store) {
    let accounts = accounts(&store);
    accounts
        .sign_up("users", "ann", "correct horse", doc! {})
        .await
        .unwrap();
    let forbidden = |result: Result<bool>| matches!(result, Err(Error::Forbidden(_)));
    for granted in AuthVerb::ALL {
        let caller = plugin("users", &[granted]);
        for realm in ["users", "admins", "_coglex_kv", "system.users"] {
            for verb in AuthVerb::ALL {
                let result = match verb {
                    AuthVerb::Lookup => accounts
                        .look_up(&caller, realm, "ann")
                        .await
                        .map(|user| user.is_some()),
                    AuthVerb::Signup => accounts
                        .sign_up_for(&caller, realm, "new", "password", doc! {})
                        .await
                        .map(|_| true),
                    AuthVerb::Verify => accounts
                        .verify(&caller, realm, "ann", "correct horse")
                        .await
                        .map(|user| user.is_some()),
                    AuthVerb::Manage => accounts
                        .authorize(&caller, realm, AuthVerb::Manage)
                        .map(|()| true),
                };
                let allowed = realm == "users" && verb == granted;
                assert_eq!(forbidden(result), !allowed, "{granted} {realm} {verb}");
            }
        }
    }
}
