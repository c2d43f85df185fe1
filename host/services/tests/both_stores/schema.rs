//! Schemas of collections: that no way of writing goes past them, and the report
//! of what a document fails. What each keyword means is in `keywords`.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use coglex_services::accounts::{AuthSettings, RealmPolicy, SigningKey};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::Grants;
use coglex_services::storage::{Change, Failure, StoreError, Update, ValidationLevel, Validator};
use coglex_services::{Accounts, Caller, Error};

use crate::support::*;

mod keywords;
mod random;

crate::on_both_stores!(
    reports_name_paths_and_rules,
    every_way_of_writing_is_checked,
    a_batch_with_one_that_fails_is_not_there,
    moderate_spares_what_was_there,
    a_schema_is_set_changed_and_removed,
    what_the_server_keeps_is_always_allowed,
    users_are_documents_too,
    plugins_do_not_see_schemas,
    malformed_schemas_are_refused,
);

fn strict(schema: Document) -> Option<Validator> {
    Some(Validator {
        schema,
        level: ValidationLevel::Strict,
    })
}

fn told(failures: &[Failure]) -> String {
    let told: Vec<String> = failures
        .iter()
        .map(|failure| format!("{} {}", failure.path, failure.rule))
        .collect();
    told.join("; ")
}

/// What a write was refused for, by path and rule.
fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::DocumentInvalid { failures }) => told(&failures),
        other => panic!("{other:?}"),
    }
}

async fn reports_name_paths_and_rules(store: Store) {
    let schema = doc! {
        "required": ["name"],
        "properties": {
            "age": { "bsonType": ["int", "long"], "minimum": 18 },
            "address": { "properties": { "zip": { "pattern": "^[0-9]{5}$", "maxLength": 5 } } },
            "kind": { "enum": ["a", "b"] },
        },
    };
    store.set_validator("c", strict(schema)).await.unwrap();
    let bad = doc! { "_id": 1, "age": 3, "address": { "zip": "secret" }, "kind": "c" };
    let Err(StoreError::DocumentInvalid { failures }) = insert(&store, "c", &[bad]).await else {
        panic!("accepted");
    };
    let failure = |path: &str, rule: &str, detail: &str| Failure {
        path: path.into(),
        rule: rule.into(),
        detail: detail.into(),
    };
    assert_eq!(
        failures,
        [
            failure("/age", "minimum", "must be at least 18"),
            failure(
                "/address/zip",
                "pattern",
                "must match the pattern `^[0-9]{5}$`"
            ),
            failure(
                "/address/zip",
                "maxLength",
                "must have at most 5 characters"
            ),
            failure("/kind", "enum", "must be one of \"a\", \"b\""),
            failure("/name", "required", "is required"),
        ]
    );
    let many: Document = (0..50).map(|n| (format!("f{n}"), Bson::Int32(n))).collect();
    let none = doc! { "properties": { "_id": {} }, "additionalProperties": false };
    store.set_validator("d", strict(none)).await.unwrap();
    let mut bad = doc! { "_id": 1 };
    bad.extend(many);
    assert_eq!(
        refusal(insert(&store, "d", &[bad]).await)
            .split("; ")
            .count(),
        10
    );
}

async fn every_way_of_writing_is_checked(store: Store) {
    let schema = doc! {
        "required": ["n"],
        "properties": { "n": { "bsonType": "int", "maximum": 10 }, "tags": { "maxItems": 2 } },
    };
    store.set_validator("c", strict(schema)).await.unwrap();
    let good = [
        doc! { "_id": 1, "n": 1, "tags": ["a"] },
        doc! { "_id": 2, "n": 9 },
    ];
    insert(&store, "c", &good).await.unwrap();

    let one = || doc! { "_id": 1 };
    let replace = |filter: Document, document: Document| Update {
        change: Change::Replacement(document),
        ..set(filter, doc! {})
    };
    let upsert = |update: Update| Update {
        upsert: true,
        ..update
    };
    let many = |update: Update| Update {
        many: true,
        ..update
    };
    for (update, expected) in [
        (set(one(), doc! { "$set": { "n": 11 } }), "/n maximum"),
        (set(one(), doc! { "$set": { "n": "x" } }), "/n bsonType"),
        (set(one(), doc! { "$unset": { "n": "" } }), "/n required"),
        (set(one(), doc! { "$inc": { "n": 100 } }), "/n maximum"),
        (set(one(), doc! { "$inc": { "n": 0.5 } }), "/n bsonType"),
        (set(one(), doc! { "$mul": { "n": 100 } }), "/n maximum"),
        (set(one(), doc! { "$max": { "n": 50 } }), "/n maximum"),
        (set(one(), doc! { "$rename": { "n": "m" } }), "/n required"),
        (
            set(one(), doc! { "$push": { "tags": { "$each": ["b", "c"] } } }),
            "/tags maxItems",
        ),
        (
            many(set(doc! {}, doc! { "$set": { "n": 12 } })),
            "/n maximum",
        ),
        (replace(one(), doc! { "m": 1 }), "/n required"),
        (
            upsert(replace(doc! { "_id": 3 }, doc! { "n": 20 })),
            "/n maximum",
        ),
        (
            upsert(set(doc! { "_id": 3 }, doc! { "$set": { "m": 1 } })),
            "/n required",
        ),
        (
            upsert(set(
                doc! { "_id": 3, "n": "x" },
                doc! { "$set": { "m": 1 } },
            )),
            "/n bsonType",
        ),
        (
            upsert(set(doc! { "_id": 3 }, doc! { "$setOnInsert": { "n": 11 } })),
            "/n maximum",
        ),
    ] {
        let text = format!("{update:?}");
        assert_eq!(refusal(store.update("c", update).await), expected, "{text}");
    }
    assert_eq!(
        refusal(insert(&store, "c", &[doc! { "_id": 4 }]).await),
        "/n required"
    );
    assert_eq!(all(&store, "c", doc! {}).await, good);

    // What fits goes through on the same ways.
    let fine = [
        set(one(), doc! { "$inc": { "n": 1 } }),
        replace(one(), doc! { "n": 3 }),
        upsert(set(doc! { "_id": 3 }, doc! { "$set": { "n": 4 } })),
        many(set(doc! {}, doc! { "$set": { "n": 5 } })),
    ];
    for update in fine {
        store.update("c", update).await.unwrap();
    }
    assert_eq!(store.count("c", doc! { "n": 5 }, None).await.unwrap(), 3);
}

async fn a_batch_with_one_that_fails_is_not_there(store: Store) {
    store
        .set_validator("c", strict(doc! { "required": ["n"] }))
        .await
        .unwrap();
    let batch = [
        doc! { "_id": 1, "n": 1 },
        doc! { "_id": 2 },
        doc! { "_id": 3, "n": 1 },
    ];
    assert_eq!(refusal(insert(&store, "c", &batch).await), "/n required");
    assert_eq!(store.count("c", doc! {}, None).await.unwrap(), 0);
}

async fn moderate_spares_what_was_there(store: Store) {
    insert(
        &store,
        "c",
        &[doc! { "_id": "old" }, doc! { "_id": "new", "n": 1 }],
    )
    .await
    .unwrap();
    let schema = doc! { "required": ["n"] };
    let moderate = Validator {
        schema: schema.clone(),
        level: ValidationLevel::Moderate,
    };
    store
        .set_validator("c", Some(moderate.clone()))
        .await
        .unwrap();
    assert_eq!(store.validator("c").await.unwrap(), Some(moderate));
    let touch = |id: &str| {
        set(
            doc! { "_id": id },
            doc! { "$set": { "m": 1 }, "$unset": { "n": "" } },
        )
    };
    store.update("c", touch("old")).await.unwrap();
    assert_eq!(
        refusal(store.update("c", touch("new")).await),
        "/n required"
    );
    assert_eq!(
        refusal(insert(&store, "c", &[doc! { "_id": 3 }]).await),
        "/n required"
    );

    store.set_validator("c", strict(schema)).await.unwrap();
    let touch = set(doc! { "_id": "old" }, doc! { "$set": { "m": 2 } });
    assert_eq!(refusal(store.update("c", touch).await), "/n required");
}

fn service(store: &Store) -> Documents {
    Documents::new(Arc::clone(store), DocumentLimits::default())
}

fn validator(schema: Document) -> Validator {
    Validator {
        schema,
        level: ValidationLevel::Strict,
    }
}

async fn a_schema_is_set_changed_and_removed(store: Store) {
    let service = service(&store);
    let caller = &Caller::ApiKey;
    assert_eq!(service.schema(caller, "c").await.unwrap(), None);
    assert!(!service.remove_schema(caller, "c").await.unwrap());
    let first = validator(doc! { "required": ["a"], "properties": { "a": { "pattern": "é" } } });
    service
        .set_schema(caller, "c", first.clone())
        .await
        .unwrap();
    assert_eq!(service.schema(caller, "c").await.unwrap(), Some(first));
    assert_eq!(service.collections(caller).await.unwrap(), ["c"]);
    let second = validator(doc! { "required": ["b"] });
    service
        .set_schema(caller, "c", second.clone())
        .await
        .unwrap();
    assert_eq!(service.schema(caller, "c").await.unwrap(), Some(second));
    let error = service
        .insert(caller, "c", vec![doc! { "a": "é" }])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the document does not satisfy the collection's schema: `/b` is required"
    );
    assert!(service.remove_schema(caller, "c").await.unwrap());
    assert_eq!(service.schema(caller, "c").await.unwrap(), None);
    service.insert(caller, "c", vec![doc! {}]).await.unwrap();
    // Another collection was never touched.
    service.insert(caller, "d", vec![doc! {}]).await.unwrap();
}

async fn what_the_server_keeps_is_always_allowed(store: Store) {
    let service = service(&store);
    let caller = &Caller::ApiKey;
    let only = validator(doc! { "properties": { "a": {} }, "additionalProperties": false });
    service.set_schema(caller, "c", only.clone()).await.unwrap();
    assert_eq!(service.schema(caller, "c").await.unwrap(), Some(only));
    service
        .insert(caller, "c", vec![doc! { "a": 1 }])
        .await
        .unwrap();
    let error = service
        .insert(caller, "c", vec![doc! { "b": 1 }])
        .await
        .unwrap_err();
    let Error::DocumentInvalid { failures } = error else {
        panic!("{error:?}");
    };
    assert_eq!(told(&failures), "/b additionalProperties");
    for (schema, forbidden) in [
        (doc! { "properties": { "_password": {} } }, true),
        (doc! { "required": ["_coglex"] }, true),
        (
            doc! { "patternProperties": { "_": { "bsonType": "int" } } },
            false,
        ),
        (doc! { "bsonType": "array" }, false),
    ] {
        let error = service
            .set_schema(caller, "c", validator(schema))
            .await
            .unwrap_err();
        assert_eq!(matches!(error, Error::Forbidden(_)), forbidden, "{error}");
    }
    let error = service
        .set_schema(caller, "_coglex_jobs", validator(doc! {}))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Forbidden(_)), "{error}");
}

async fn users_are_documents_too(store: Store) {
    let settings = AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 100,
        policy: RealmPolicy {
            password_min: 1,
            allow_common: true,
            session_ttl: Duration::from_secs(60),
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from([7; 32])))
    };
    let accounts = Accounts::new(Arc::clone(&store), settings, DocumentLimits::default());
    let schema = doc! {
        "required": ["mail"],
        "properties": { "_key": { "pattern": "^[a-z]+$" }, "mail": { "pattern": "@" } },
        "additionalProperties": false,
    };
    service(&store)
        .set_schema(&Caller::ApiKey, "users", validator(schema))
        .await
        .unwrap();
    for (key, document, expected) in [
        ("ann", doc! {}, "/mail required"),
        ("ann", doc! { "mail": "x" }, "/mail pattern"),
        ("Ann", doc! { "mail": "a@b" }, "/_key pattern"),
        (
            "ann",
            doc! { "mail": "a@b", "x": 1 },
            "/x additionalProperties",
        ),
    ] {
        let error = accounts
            .sign_up("users", key, "pw", document)
            .await
            .unwrap_err();
        let Error::DocumentInvalid { failures } = error else {
            panic!("{error:?}");
        };
        assert_eq!(told(&failures), expected);
    }
    accounts
        .sign_up("users", "ann", "pw", doc! { "mail": "a@b" })
        .await
        .unwrap();
    let signed_in = accounts
        .sign_in("users", "ann", "pw", doc! {})
        .await
        .unwrap();
    accounts.sign_out("users", &signed_in.token).await.unwrap();
    let error = accounts
        .refresh("users", "ann", doc! { "mail": 5 }, None)
        .await;
    // A number has no pattern to match, and the schema names no type.
    assert_eq!(error.unwrap(), 1);
    let error = accounts
        .refresh("users", "ann", doc! { "mail": "x" }, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DocumentInvalid { .. }), "{error:?}");
}

async fn plugins_do_not_see_schemas(store: Store) {
    let service = service(&store);
    let plugin = Caller::Plugin(Arc::new(PluginCaller::new("shop", Grants::default())));
    let refused = |error: Error| matches!(error, Error::Forbidden(_));
    assert!(refused(service.schema(&plugin, "c").await.unwrap_err()));
    assert!(refused(
        service.remove_schema(&plugin, "c").await.unwrap_err()
    ));
    let set = service.set_schema(&plugin, "c", validator(doc! {})).await;
    assert!(refused(set.unwrap_err()));
}

async fn malformed_schemas_are_refused(store: Store) {
    let service = service(&store);
    for (schema, expected) in [
        (doc! { "format": "email" }, "`format`"),
        (
            doc! { "properties": { "a": { "type": "integer" } } },
            "/properties/a",
        ),
        (
            doc! { "properties": { "a": { "pattern": "(?<=x)" } } },
            "/properties/a",
        ),
        (
            doc! { "minimum": 1, "exclusiveMinimum": 0 },
            "`exclusiveMinimum`",
        ),
        (doc! { "required": [] }, "`required`"),
    ] {
        let error = service
            .set_schema(&Caller::ApiKey, "c", validator(schema))
            .await
            .unwrap_err();
        let sentence = error.to_string();
        assert!(
            matches!(error, Error::Invalid(_)) && sentence.contains(expected),
            "{sentence}"
        );
    }
    assert!(store.collections().await.unwrap().is_empty());
}
