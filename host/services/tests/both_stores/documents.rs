//! The storage service on a store: what clients and plugins see and may do.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::{Grants, StorageGrant, Verb};
use coglex_services::storage::{Change, Find};
use coglex_services::{Caller, Error};

use crate::support::*;

crate::on_both_stores!(
    ids_are_generated_or_honoured,
    a_taken_id_is_a_conflict,
    hidden_fields_never_leave,
    hidden_fields_are_not_written,
    reserved_collections_do_not_exist_for_clients,
    users_are_not_replaced,
    plugins_do_what_was_granted,
    too_large_documents_are_refused,
    counting_ends_in_time,
    an_operator_in_the_place_of_an_id_is_no_id,
    patches_and_counts,
);

fn documents(store: &Store) -> Documents {
    Documents::new(store.clone(), DocumentLimits::default())
}

fn set_change(fields: Document) -> Change {
    Change::Operators(doc! { "$set": fields })
}

fn filtered(filter: Document) -> Find {
    Find {
        filter,
        ..Find::default()
    }
}

async fn user(store: &Store) {
    let user = doc! { "_id": "u", "_key": "ann", "_password": "$argon2id$…", "_coglex": { "sessions": {} }, "n": 1 };
    insert(store, "users", &[user]).await.unwrap();
}

async fn ids_are_generated_or_honoured(store: Store) {
    let service = documents(&store);
    let own = ObjectId::new();
    let new = vec![
        doc! { "a": 1 },
        doc! { "b": 2, "_id": "mine" },
        doc! { "_id": own },
    ];
    let ids = service.insert(&Caller::ApiKey, "c", new).await.unwrap();
    assert!(ids[0].as_object_id().is_some());
    assert_eq!(ids[1..], [Bson::from("mine"), Bson::from(own)]);
    assert_eq!(
        one(&store, "c", ids[0].clone()).await,
        doc! { "_id": ids[0].clone(), "a": 1 }
    );
    // In front, where MongoDB keeps it.
    assert_eq!(
        one(&store, "c", "mine").await.keys().collect::<Vec<_>>(),
        ["_id", "b"]
    );
    let error = service
        .insert(&Caller::ApiKey, "c", vec![doc! { "_id": 5 }])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    assert!(
        service
            .insert(&Caller::ApiKey, "c", vec![])
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_taken_id_is_a_conflict(store: Store) {
    let service = documents(&store);
    service
        .insert(&Caller::ApiKey, "c", vec![doc! { "_id": "a" }])
        .await
        .unwrap();
    let again = vec![doc! { "_id": "b" }, doc! { "_id": "a" }];
    let error = service
        .insert(&Caller::ApiKey, "c", again)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert_eq!(
        service.count(&Caller::ApiKey, "c", doc! {}).await.unwrap(),
        1
    );
}

async fn hidden_fields_never_leave(store: Store) {
    user(&store).await;
    let service = documents(&store);
    let shown = doc! { "_id": "u", "_key": "ann", "n": 1 };
    let by_key = service
        .find(&Caller::ApiKey, "users", filtered(doc! { "_key": "ann" }))
        .await
        .unwrap();
    assert_eq!(collect(by_key).await, std::slice::from_ref(&shown));
    let got = service
        .get(&Caller::ApiKey, "users", "u".into(), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(Document::try_from(got).unwrap(), shown);
    let got = service
        .get(&Caller::ApiKey, "users", "u".into(), Some(doc! { "n": 0 }))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Document::try_from(got).unwrap(),
        doc! { "_id": "u", "_key": "ann" }
    );
    for question in [
        filtered(doc! { "_password": { "$regex": "^\\$argon" } }),
        Find {
            sort: Some(doc! { "_password": 1 }),
            ..Find::default()
        },
        Find {
            projection: Some(doc! { "_password": 1 }),
            ..Find::default()
        },
    ] {
        let error = service
            .find(&Caller::ApiKey, "users", question.clone())
            .await
            .err();
        assert!(
            matches!(error, Some(Error::Forbidden(_))),
            "{question:?}: {error:?}"
        );
    }
    let count = service
        .count(
            &Caller::ApiKey,
            "users",
            doc! { "_password": { "$exists": true } },
        )
        .await;
    assert!(matches!(count, Err(Error::Forbidden(_))));
    let delete = service
        .delete(
            &Caller::ApiKey,
            "users",
            doc! { "_coglex": { "$exists": true } },
            true,
        )
        .await;
    assert!(matches!(delete, Err(Error::Forbidden(_))));
}

async fn hidden_fields_are_not_written(store: Store) {
    user(&store).await;
    let before = one(&store, "users", "u").await;
    let service = documents(&store);
    for operators in [
        doc! { "$set": { "_password": "x" } },
        doc! { "$unset": { "_coglex": "" } },
        doc! { "$rename": { "n": "_password" } },
        doc! { "$set": { "_key": "bob" } },
        doc! { "$unset": { "_key": "" } },
    ] {
        let change = Change::Operators(operators.clone());
        let result = service
            .update(&Caller::ApiKey, "users", doc! {}, change, true, false)
            .await;
        assert!(
            matches!(result, Err(Error::Forbidden(_))),
            "{operators}: {result:?}"
        );
    }
    let upsert = service.update(
        &Caller::ApiKey,
        "users",
        doc! { "_key": "new" },
        set_change(doc! { "a": 1 }),
        false,
        true,
    );
    assert!(matches!(upsert.await, Err(Error::Forbidden(_))));
    for document in [doc! { "_password": "x" }, doc! { "_key": "bob" }] {
        let result = service
            .insert(&Caller::ApiKey, "users", vec![document])
            .await;
        assert!(matches!(result, Err(Error::Forbidden(_))));
    }
    assert_eq!(all(&store, "users", doc! {}).await, [before]);
}

async fn reserved_collections_do_not_exist_for_clients(store: Store) {
    insert(&store, "_coglex_keys", &[doc! { "_id": "k" }])
        .await
        .unwrap();
    insert(&store, "c", &[doc! { "_id": "k" }]).await.unwrap();
    let service = documents(&store);
    let everything = Grants {
        storage: vec![StorageGrant::new("*", Verb::ALL)],
        ..Grants::default()
    };
    let plugin = Caller::Plugin(Arc::new(PluginCaller::new("p", everything)));
    for caller in [Caller::ApiKey, plugin] {
        assert_eq!(service.collections(&caller).await.unwrap(), ["c"]);
        // The same sentence whether it is there or not.
        let mut sentences = Vec::new();
        for name in ["_coglex_keys", "_coglex_none", "system.users"] {
            let results = [
                service.get(&caller, name, "k".into(), None).await.map(drop),
                service.find(&caller, name, Find::default()).await.map(drop),
                service.count(&caller, name, doc! {}).await.map(drop),
                service.insert(&caller, name, vec![doc! {}]).await.map(drop),
                service
                    .update(
                        &caller,
                        name,
                        doc! {},
                        set_change(doc! { "a": 1 }),
                        true,
                        false,
                    )
                    .await
                    .map(drop),
                service.delete(&caller, name, doc! {}, true).await.map(drop),
            ];
            for result in results {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Forbidden(_)), "{error:?}");
                sentences.push(error.to_string());
            }
        }
        assert!(sentences.iter().all(|sentence| sentence == &sentences[0]));
    }
    assert_eq!(store.count("_coglex_keys", doc! {}, None).await.unwrap(), 1);
}

async fn users_are_not_replaced(store: Store) {
    user(&store).await;
    insert(&store, "users", &[doc! { "_id": "note", "text": "x" }])
        .await
        .unwrap();
    let service = documents(&store);
    let replace = async |filter: Document, upsert| {
        let change = Change::Replacement(doc! { "text": "y" });
        service
            .update(&Caller::ApiKey, "users", filter, change, false, upsert)
            .await
    };
    for upsert in [false, true] {
        let result = replace(doc! { "_id": "u" }, upsert).await;
        assert!(matches!(result, Err(Error::Forbidden(_))), "{result:?}");
    }
    assert_eq!(
        one(&store, "users", "u").await.get_str("_key").unwrap(),
        "ann"
    );
    assert_eq!(
        replace(doc! { "_id": "note" }, false)
            .await
            .unwrap()
            .modified,
        1
    );
    assert_eq!(
        one(&store, "users", "note").await,
        doc! { "_id": "note", "text": "y" }
    );
    let made = replace(doc! { "_id": "more" }, true).await.unwrap();
    assert_eq!(made.upserted_id, Some("more".into()));
    assert_eq!(
        one(&store, "users", "more").await,
        doc! { "_id": "more", "text": "y" }
    );
}

async fn plugins_do_what_was_granted(store: Store) {
    insert(&store, "c", &[doc! { "_id": "a" }]).await.unwrap();
    insert(&store, "other", &[doc! { "_id": "a" }])
        .await
        .unwrap();
    let service = documents(&store);
    let verbs = [Verb::Read, Verb::Insert, Verb::Update, Verb::Delete];
    for granted in verbs {
        let grants = Grants {
            storage: vec![StorageGrant::new("c", [granted])],
            ..Grants::default()
        };
        let plugin = Caller::Plugin(Arc::new(PluginCaller::new("shop", grants)));
        assert_eq!(service.collections(&plugin).await.unwrap(), ["c"]);
        for collection in ["c", "other"] {
            let change = || set_change(doc! { "n": 1 });
            let results = [
                (
                    Verb::Read,
                    service
                        .get(&plugin, collection, "a".into(), None)
                        .await
                        .map(drop),
                ),
                (
                    Verb::Read,
                    service
                        .find(&plugin, collection, Find::default())
                        .await
                        .map(drop),
                ),
                (
                    Verb::Read,
                    service.count(&plugin, collection, doc! {}).await.map(drop),
                ),
                (
                    Verb::Insert,
                    service
                        .insert(&plugin, collection, vec![doc! {}])
                        .await
                        .map(drop),
                ),
                (
                    Verb::Update,
                    service
                        .update(&plugin, collection, doc! {}, change(), true, false)
                        .await
                        .map(drop),
                ),
                (
                    Verb::Delete,
                    service
                        .delete(&plugin, collection, doc! { "_id": "none" }, true)
                        .await
                        .map(drop),
                ),
            ];
            for (verb, result) in results {
                if collection == "c" && verb == granted {
                    result.unwrap();
                    continue;
                }
                let Err(Error::Forbidden(sentence)) = result else {
                    panic!("{verb} {collection}: {result:?}")
                };
                for part in ["shop", &verb.to_string(), collection] {
                    assert!(sentence.contains(part), "{sentence}");
                }
            }
            // An upsert may insert.
            let upsert = service
                .update(
                    &plugin,
                    collection,
                    doc! { "_id": "new" },
                    change(),
                    false,
                    true,
                )
                .await;
            assert!(matches!(upsert, Err(Error::Forbidden(_))));
        }
    }
    assert!(store.get("c", "new".into()).await.unwrap().is_none());
}

async fn counting_ends_in_time(store: Store) {
    // Long enough that no clock is too coarse for it.
    let text = "xy".repeat(500);
    let many: Vec<Document> = (0..4_000)
        .map(|n| doc! { "_id": format!("{n}"), "a": format!("{text}{n}") })
        .collect();
    for batch in many.chunks(1_000) {
        insert(&store, "c", batch).await.unwrap();
    }
    let limits = DocumentLimits {
        max_time: std::time::Duration::from_millis(1),
        ..DocumentLimits::default()
    };
    let service = Documents::new(store.clone(), limits);
    let caller = &Caller::ApiKey;
    let slow = doc! { "a": { "$not": { "$regex": "z" } } };
    let counted = service.count(caller, "c", slow.clone()).await;
    assert!(matches!(counted, Err(Error::Timeout)), "{counted:?}");
    let different = service.distinct(caller, "c", "a", slow.clone()).await;
    assert!(matches!(different, Err(Error::Timeout)));
    let service = documents(&store);
    assert_eq!(service.count(caller, "c", slow).await.unwrap(), 4_000);
}

async fn too_large_documents_are_refused(store: Store) {
    let limits = DocumentLimits {
        document_bytes: 1_000,
        depth: 5,
        ..DocumentLimits::default()
    };
    let service = Documents::new(store.clone(), limits);
    let error = service
        .insert(&Caller::ApiKey, "c", vec![doc! { "a": "x".repeat(1_000) }])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
    let deep = doc! { "a": { "b": { "c": { "d": { "e": 1 } } } } };
    service
        .insert(&Caller::ApiKey, "c", vec![deep.clone()])
        .await
        .unwrap();
    let error = service
        .insert(&Caller::ApiKey, "c", vec![doc! { "z": deep }])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
}

async fn an_operator_in_the_place_of_an_id_is_no_id(store: Store) {
    let service = documents(&store);
    for id in [Bson::from(doc! { "$ne": null }), Bson::Array(vec![])] {
        let result = service.get(&Caller::ApiKey, "a", id, None).await;
        assert!(matches!(result, Err(Error::Invalid(_))));
    }
}

async fn patches_and_counts(store: Store) {
    let service = documents(&store);
    let new = (0..3)
        .map(|n| doc! { "_id": n.to_string(), "n": n })
        .collect();
    service.insert(&Caller::ApiKey, "c", new).await.unwrap();
    let outcome = service
        .update(
            &Caller::ApiKey,
            "c",
            doc! { "n": { "$gte": 1 } },
            set_change(doc! { "a.b": true }),
            true,
            false,
        )
        .await
        .unwrap();
    assert_eq!((outcome.matched, outcome.modified), (2, 2));
    assert_eq!(
        service
            .count(&Caller::ApiKey, "c", doc! { "a.b": true })
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        service
            .delete(&Caller::ApiKey, "c", doc! { "a.b": true }, false)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        service
            .delete(&Caller::ApiKey, "c", doc! {}, true)
            .await
            .unwrap(),
        2
    );
    service.ping().await.unwrap();
}
