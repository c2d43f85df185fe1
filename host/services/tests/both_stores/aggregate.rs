//! Pipelines, different values and indexes on a store: what comes out, and that
//! nothing hidden does.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::{Grants, StorageGrant, Verb};
use coglex_services::storage::IndexSpec;
use coglex_services::{Caller, Error, Result};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::*;

crate::on_both_stores!(
    every_stage_gives_what_it_should,
    mistakes_are_the_clients,
    nothing_hidden_comes_out,
    no_mixture_of_stages_shows_the_hidden,
    comparisons_see_nothing_hidden,
    results_are_bounded,
    plugins_read_what_was_granted,
    reserved_collections_are_not_joined,
    different_values,
    indexes_are_made_listed_and_dropped,
    indexes_of_the_server_stay,
    plugins_have_no_say_in_indexes,
);

fn documents(store: &Store) -> Documents {
    Documents::new(store.clone(), DocumentLimits::default())
}

async fn run(store: &Store, collection: &str, pipeline: Vec<Document>) -> Result<Vec<Document>> {
    let made = documents(store)
        .aggregate(
            &Caller::ApiKey,
            collection,
            pipeline,
            None,
            Some(Duration::from_secs(30)),
        )
        .await?;
    Ok(collect(made).await)
}

async fn sales(store: &Store) {
    let sales = [
        doc! { "_id": 1, "item": "pen", "price": 2, "tags": ["blue", "small"], "who": "ann" },
        doc! { "_id": 2, "item": "book", "price": 10, "tags": ["paper"], "who": "bob" },
        doc! { "_id": 3, "item": "pen", "price": 3, "tags": [], "who": "ann" },
    ];
    insert(store, "sales", &sales).await.unwrap();
    let people = [
        doc! { "_id": "ann", "city": "Rome" },
        doc! { "_id": "zoe", "city": "Oslo" },
    ];
    insert(store, "people", &people).await.unwrap();
}

async fn every_stage_gives_what_it_should(store: Store) {
    sales(&store).await;
    let sorted = doc! { "$sort": { "_id": 1 } };
    for (pipeline, expected) in [
        (
            vec![
                doc! { "$match": { "item": "pen" } },
                doc! { "$sort": { "price": -1 } },
                doc! { "$skip": 1 },
                doc! { "$limit": 1 },
                doc! { "$project": { "price": 1 } },
            ],
            vec![doc! { "_id": 1, "price": 2 }],
        ),
        (
            vec![
                doc! { "$group": { "_id": "$item", "sum": { "$sum": "$price" }, "n": { "$sum": 1 } } },
                sorted.clone(),
            ],
            vec![
                doc! { "_id": "book", "sum": 10, "n": 1 },
                doc! { "_id": "pen", "sum": 5, "n": 2 },
            ],
        ),
        (
            vec![
                doc! { "$unwind": "$tags" },
                doc! { "$sortByCount": "$tags" },
                sorted.clone(),
                doc! { "$limit": 1 },
            ],
            vec![doc! { "_id": "blue", "count": 1 }],
        ),
        (
            vec![
                doc! { "$match": { "_id": 2 } },
                doc! { "$addFields": { "twice": { "$multiply": ["$price", 2] } } },
                doc! { "$set": { "one": 1 } },
                doc! { "$unset": ["tags", "item"] },
            ],
            vec![doc! { "_id": 2, "price": 10, "who": "bob", "twice": 20, "one": 1 }],
        ),
        (
            vec![
                doc! { "$match": { "_id": 2 } },
                doc! { "$replaceRoot": { "newRoot": { "a": "$price" } } },
                doc! { "$replaceWith": { "b": "$a" } },
            ],
            vec![doc! { "b": 10 }],
        ),
        (
            vec![
                doc! { "$match": { "price": { "$lt": 5 } } },
                doc! { "$count": "cheap" },
            ],
            vec![doc! { "cheap": 2 }],
        ),
        (
            vec![doc! { "$bucket": { "groupBy": "$price", "boundaries": [0, 5, 20] } }],
            vec![doc! { "_id": 0, "count": 2 }, doc! { "_id": 5, "count": 1 }],
        ),
        (
            vec![doc! { "$sample": { "size": 9 } }, doc! { "$count": "n" }],
            vec![doc! { "n": 3 }],
        ),
        (
            vec![
                doc! { "$match": { "_id": { "$lte": 2 } } },
                sorted.clone(),
                doc! { "$lookup": { "from": "people", "localField": "who", "foreignField": "_id", "as": "who" } },
                doc! { "$project": { "who": 1 } },
            ],
            vec![
                doc! { "_id": 1, "who": [{ "_id": "ann", "city": "Rome" }] },
                doc! { "_id": 2, "who": [] },
            ],
        ),
        (
            vec![
                doc! { "$match": { "_id": 1 } },
                doc! { "$lookup": {
                    "from": "people",
                    "let": { "who": "$who" },
                    "pipeline": [
                        { "$match": { "$expr": { "$eq": ["$_id", "$$who"] } } },
                        { "$project": { "_id": 0, "city": 1 } },
                    ],
                    "as": "found",
                } },
                doc! { "$project": { "found": 1 } },
            ],
            vec![doc! { "_id": 1, "found": [{ "city": "Rome" }] }],
        ),
        (
            vec![doc! { "$facet": {
                "n": [{ "$count": "n" }],
                "first": [{ "$sort": { "_id": 1 } }, { "$limit": 1 }, { "$project": { "item": 1 } }],
            } }],
            vec![doc! { "n": [{ "n": 3 }], "first": [{ "_id": 1, "item": "pen" }] }],
        ),
        (
            vec![
                doc! { "$match": { "$expr": { "$gt": [{ "$size": { "$objectToArray": "$$ROOT" } }, 4] } } },
                doc! { "$match": { "_id": 3 } },
                doc! { "$group": { "_id": null, "all": { "$push": "$$ROOT" } } },
            ],
            vec![
                doc! { "_id": null, "all": [{ "_id": 3, "item": "pen", "price": 3, "tags": [], "who": "ann" }] },
            ],
        ),
    ] {
        let made = run(&store, "sales", pipeline.clone()).await.unwrap();
        assert_eq!(made, expected, "{pipeline:?}");
    }
    assert_eq!(run(&store, "sales", vec![]).await.unwrap().len(), 3);
    assert!(run(&store, "none", vec![]).await.unwrap().is_empty());
}

async fn mistakes_are_the_clients(store: Store) {
    sales(&store).await;
    for stage in [
        doc! { "$limit": 0 },
        doc! { "$limit": "x" },
        doc! { "$skip": -1 },
        doc! { "$match": 1 },
        doc! { "$match": { "$nonsense": 1 } },
        doc! { "$project": {} },
        doc! { "$project": { "a": { "$nonsense": 1 } } },
        doc! { "$project": { "a": "$$nobody" } },
        doc! { "$group": { "n": { "$sum": 1 } } },
        doc! { "$group": { "_id": null, "n": { "$nonsense": 1 } } },
        doc! { "$unwind": "tags" },
        doc! { "$count": "" },
        doc! { "$out": "stolen" },
        doc! { "$merge": "stolen" },
        doc! { "$unionWith": "people" },
        doc! { "$bucketAuto": { "groupBy": "$price", "buckets": 2 } },
    ] {
        let result = run(&store, "sales", vec![stage.clone()]).await;
        assert!(
            matches!(result, Err(Error::Invalid(_))),
            "{stage}: {result:?}"
        );
    }
    let mut names = store.collections().await.unwrap();
    names.sort();
    assert_eq!(names, ["people", "sales"]);
}

/// Fragments of what must stay hidden: of values, and of names.
const SECRETS: [&str; 4] = ["argon", "sessions", "_password", "_coglex"];

async fn users(store: &Store) {
    let user = |id: &str, hash: &str| doc! { "_id": id, "_key": id, "_password": hash, "n": 1, "_coglex": { "sessions": { "argon": 1 } } };
    let users = [user("u", "$argon-b"), user("v", "$argon-c")];
    insert(store, "users", &users).await.unwrap();
    let notes = [
        doc! { "_id": 1, "who": "u", "a": [{ "b": 1 }, { "b": 2 }] },
        doc! { "_id": 2, "who": "v" },
    ];
    insert(store, "notes", &notes).await.unwrap();
}

#[track_caller]
fn assert_nothing_hidden(made: &[Document], pipeline: &[Document]) {
    let text = format!("{made:?}");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{pipeline:?}: {text}");
    }
}

async fn nothing_hidden_comes_out(store: Store) {
    users(&store).await;
    let join = |more: Document| {
        let mut options =
            doc! { "from": "users", "localField": "who", "foreignField": "_id", "as": "u" };
        options.extend(more);
        doc! { "$lookup": options }
    };
    let entries = doc! { "$project": { "all": { "$objectToArray": "$$ROOT" } } };
    for (collection, pipeline) in [
        ("users", vec![]),
        ("users", vec![entries.clone()]),
        (
            "users",
            vec![doc! { "$match": { "n": 1 } }, entries.clone()],
        ),
        (
            "users",
            vec![doc! { "$project": { "all": { "$objectToArray": "$$CURRENT" } } }],
        ),
        (
            "users",
            vec![doc! { "$group": { "_id": null, "all": { "$push": "$$ROOT" } } }],
        ),
        ("users", vec![doc! { "$group": { "_id": "$$ROOT" } }]),
        (
            "users",
            vec![
                doc! { "$group": { "_id": null, "all": { "$addToSet": "$$ROOT" }, "max": { "$max": "$$ROOT" } } },
            ],
        ),
        ("users", vec![doc! { "$sortByCount": "$$ROOT" }]),
        ("users", vec![doc! { "$addFields": { "copy": "$$ROOT" } }]),
        ("users", vec![doc! { "$replaceWith": { "copy": "$$ROOT" } }]),
        (
            "users",
            vec![
                doc! { "$replaceRoot": { "newRoot": { "$mergeObjects": ["$$ROOT", { "x": 1 }] } } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$project": { "all": { "$map": { "input": ["$$ROOT"], "as": "one", "in": "$$one" } } } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$project": { "all": { "$let": { "vars": { "one": "$$ROOT" }, "in": ["$$one"] } } } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$facet": { "a": [{ "$limit": 2 }], "b": [entries.clone()], "c": [{ "$group": { "_id": null, "all": { "$push": "$$ROOT" } } }] } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$bucket": { "groupBy": "$n", "boundaries": [0, 5], "output": { "all": { "$push": "$$ROOT" } } } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$sort": { "n": 1 } },
                doc! { "$limit": 1 },
                doc! { "$sample": { "size": 1 } },
                entries.clone(),
            ],
        ),
        ("notes", vec![join(doc! {})]),
        ("notes", vec![join(doc! {}), doc! { "$unwind": "$u" }]),
        ("notes", vec![join(doc! { "as": "deep.er.u" })]),
        ("notes", vec![join(doc! { "as": "a.b" })]),
        ("notes", vec![join(doc! { "as": "a.0" })]),
        ("notes", vec![join(doc! { "as": "a" })]),
        ("notes", vec![join(doc! { "as": "_id" })]),
        ("notes", vec![join(doc! {}), entries.clone()]),
        (
            "notes",
            vec![
                join(doc! {}),
                doc! { "$replaceWith": { "$mergeObjects": "$u" } },
            ],
        ),
        (
            "notes",
            vec![
                join(doc! {}),
                doc! { "$unwind": "$u" },
                doc! { "$replaceWith": "$u" },
                entries.clone(),
            ],
        ),
        (
            "notes",
            vec![join(doc! {}), join(doc! { "as": "v" }), entries.clone()],
        ),
        (
            "notes",
            vec![doc! { "$lookup": { "from": "users", "pipeline": [], "as": "u" } }],
        ),
        (
            "notes",
            vec![doc! { "$lookup": { "from": "users", "pipeline": [entries.clone()], "as": "u" } }],
        ),
        (
            "notes",
            vec![
                doc! { "$lookup": { "from": "users", "pipeline": [{ "$match": { "n": 1 } }, { "$limit": 1 }], "as": "u" } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$lookup": { "from": "notes", "let": { "me": "$$ROOT" }, "pipeline": [{ "$project": { "me": "$$me" } }], "as": "u" } },
            ],
        ),
        (
            "notes",
            vec![
                doc! { "$lookup": { "from": "notes", "pipeline": [join(doc! {}), entries.clone()], "as": "u" } },
            ],
        ),
        (
            "notes",
            vec![
                doc! { "$facet": { "a": [join(doc! {})], "b": [{ "$lookup": { "from": "users", "pipeline": [{ "$group": { "_id": "$$ROOT" } }], "as": "u" } }] } },
            ],
        ),
        (
            "users",
            vec![
                doc! { "$lookup": { "from": "users", "localField": "n", "foreignField": "n", "as": "u" } },
            ],
        ),
    ] {
        let made = run(&store, collection, pipeline.clone()).await.unwrap();
        assert!(!made.is_empty(), "{pipeline:?}");
        assert_nothing_hidden(&made, &pipeline);
    }
}

/// Random mixtures of what could show a whole document.
async fn no_mixture_of_stages_shows_the_hidden(store: Store) {
    users(&store).await;
    let stage = prop::sample::select(vec![
        doc! { "$match": { "n": 1 } },
        doc! { "$match": { "$expr": { "$ne": ["$$ROOT", 1] } } },
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": 2 },
        doc! { "$addFields": { "copy": "$$ROOT" } },
        doc! { "$addFields": { "entries": { "$objectToArray": "$$ROOT" } } },
        doc! { "$group": { "_id": null, "all": { "$push": "$$ROOT" } } },
        doc! { "$unwind": { "path": "$all", "preserveNullAndEmptyArrays": true } },
        doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", "$all"] } },
        doc! { "$lookup": { "from": "users", "localField": "none", "foreignField": "none", "as": "all" } },
        doc! { "$lookup": { "from": "users", "pipeline": [{ "$match": { "n": 1 } }], "as": "joined.here" } },
        doc! { "$facet": { "all": [{ "$lookup": { "from": "users", "localField": "x", "foreignField": "x", "as": "all" } }] } },
    ]);
    let pipelines = prop::collection::vec(stage, 0..5);
    let mut runner = TestRunner::deterministic();
    for _ in 0..60 {
        let pipeline = pipelines.new_tree(&mut runner).unwrap().current();
        // Some mixtures make no sense, or too much; none may show anything.
        if let Ok(made) = run(&store, "users", pipeline.clone()).await {
            assert_nothing_hidden(&made, &pipeline);
        }
    }
}

/// A hidden value must not be learned by comparing with it, either.
async fn comparisons_see_nothing_hidden(store: Store) {
    users(&store).await;
    let fields = |document: &str| doc! { "$expr": { "$eq": [{ "$size": { "$objectToArray": document } }, 3] } };
    let found = run(&store, "users", vec![doc! { "$match": fields("$$ROOT") }])
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
    let joined = doc! { "$lookup": { "from": "users", "pipeline": [{ "$match": fields("$$CURRENT") }], "as": "u" } };
    let found = run(&store, "notes", vec![doc! { "$limit": 1 }, joined])
        .await
        .unwrap();
    assert_eq!(found[0].get_array("u").unwrap().len(), 2);
    // The two users differ in what is hidden alone, but for their ids.
    let alike = vec![
        doc! { "$unset": ["_id", "_key"] },
        doc! { "$group": { "_id": "$$ROOT", "n": { "$sum": 1 } } },
    ];
    assert_eq!(
        run(&store, "users", alike).await.unwrap(),
        [doc! { "_id": { "n": 1 }, "n": 2 }]
    );
}

async fn results_are_bounded(store: Store) {
    let many: Vec<Document> = (0..50).map(|n| doc! { "_id": n }).collect();
    insert(&store, "c", &many).await.unwrap();
    let service = documents(&store);
    for (limit, expected) in [(Some(0), 0), (Some(7), 7), (Some(u64::MAX), 50), (None, 50)] {
        let pipeline = vec![doc! { "$sort": { "_id": 1 } }];
        let made = service
            .aggregate(&Caller::ApiKey, "c", pipeline, limit, None)
            .await
            .unwrap();
        assert_eq!(collect(made).await.len(), expected, "{limit:?}");
    }
}

fn plugin(collection: &str, verbs: &[Verb]) -> Caller {
    let storage = vec![StorageGrant::new(collection, verbs)];
    let grants = Grants {
        storage,
        ..Grants::default()
    };
    Caller::Plugin(Arc::new(PluginCaller::new("shop", grants)))
}

const VERBS: [Verb; 4] = [Verb::Read, Verb::Insert, Verb::Update, Verb::Delete];

fn joining(from: &str) -> Vec<Document> {
    vec![
        doc! { "$facet": { "a": [{ "$lookup": { "from": from, "localField": "x", "foreignField": "x", "as": "a" } }] } },
    ]
}

async fn plugins_read_what_was_granted(store: Store) {
    sales(&store).await;
    let service = documents(&store);
    for granted in VERBS {
        let caller = plugin("sales", &[granted]);
        for (collection, from) in [
            ("sales", "sales"),
            ("sales", "people"),
            ("people", "people"),
            ("people", "sales"),
        ] {
            let result = service
                .aggregate(&caller, collection, joining(from), None, None)
                .await;
            let allowed = granted == Verb::Read && (collection, from) == ("sales", "sales");
            match result {
                Ok(_) if allowed => {}
                Err(Error::Forbidden(sentence)) if !allowed => {
                    assert!(sentence.contains("shop"), "{sentence}");
                }
                other => panic!("{granted} {collection} {from}: {:?}", other.err()),
            }
        }
        let distinct = service.distinct(&caller, "sales", "item", doc! {}).await;
        assert_eq!(distinct.is_ok(), granted == Verb::Read);
        assert!(
            service
                .distinct(&caller, "people", "city", doc! {})
                .await
                .is_err()
        );
    }
}

async fn reserved_collections_are_not_joined(store: Store) {
    sales(&store).await;
    insert(&store, "_coglex_keys", &[doc! { "_id": "k" }])
        .await
        .unwrap();
    let service = documents(&store);
    for caller in [Caller::ApiKey, plugin("*", &VERBS)] {
        for from in ["_coglex_keys", "_coglex_none", "system.users"] {
            let joined = service
                .aggregate(&caller, "sales", joining(from), None, None)
                .await;
            let direct = service.aggregate(&caller, from, vec![], None, None).await;
            let distinct = service.distinct(&caller, from, "a", doc! {}).await;
            for error in [joined.err(), direct.err(), distinct.err()] {
                assert!(matches!(error, Some(Error::Forbidden(_))), "{error:?}");
            }
        }
    }
}

async fn different_values(store: Store) {
    sales(&store).await;
    users(&store).await;
    let service = documents(&store);
    for (path, filter, expected) in [
        ("item", doc! {}, vec!["book", "pen"]),
        ("tags", doc! {}, vec!["blue", "paper", "small"]),
        ("item", doc! { "price": { "$gt": 5 } }, vec!["book"]),
        ("none", doc! {}, vec![]),
    ] {
        let values = service
            .distinct(&Caller::ApiKey, "sales", path, filter)
            .await
            .unwrap();
        let mut values: Vec<&str> = values.iter().map(|value| value.as_str().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, expected, "{path}");
    }
    for path in ["_password", "_coglex.sessions", "a._password"] {
        let result = service
            .distinct(&Caller::ApiKey, "users", path, doc! {})
            .await;
        assert!(matches!(result, Err(Error::Forbidden(_))), "{path}");
    }
    for (path, filter) in [
        ("", doc! {}),
        ("$a", doc! {}),
        ("a.$b", doc! {}),
        ("a\0", doc! {}),
        ("a", doc! { "$where": "1" }),
    ] {
        let result = service
            .distinct(&Caller::ApiKey, "users", path, filter)
            .await;
        assert!(matches!(result, Err(Error::Invalid(_))), "{path:?}");
    }
}

async fn indexes_are_made_listed_and_dropped(store: Store) {
    let service = documents(&store);
    let caller = Caller::ApiKey;
    assert!(service.indexes(&caller, "c").await.unwrap().is_empty());
    assert!(!service.drop_index(&caller, "c", "a_1").await.unwrap());
    let unique = index(doc! { "a": 1, "b.c": -1 }, true, false);
    let expiring = IndexSpec {
        name: Some("soon".into()),
        expire_after: Some(Duration::from_secs(60)),
        ..index(doc! { "t": 1 }, false, true)
    };
    for _ in 0..2 {
        let name = service.create_index(&caller, "c", unique.clone()).await;
        assert_eq!(name.unwrap(), "a_1_b.c_-1");
        let name = service.create_index(&caller, "c", expiring.clone()).await;
        assert_eq!(name.unwrap(), "soon");
    }
    let id = IndexSpec {
        name: Some("_id_".into()),
        ..index(doc! { "_id": 1 }, true, false)
    };
    let named = IndexSpec {
        name: Some("a_1_b.c_-1".into()),
        ..unique.clone()
    };
    let mut there = service.indexes(&caller, "c").await.unwrap();
    there.sort_by_key(IndexSpec::name);
    assert_eq!(there, [id, named, expiring]);

    let twins = vec![doc! { "a": 1 }, doc! { "a": 1 }];
    let error = service
        .insert(&caller, "c", twins.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    assert!(
        service
            .drop_index(&caller, "c", "a_1_b.c_-1")
            .await
            .unwrap()
    );
    assert!(
        !service
            .drop_index(&caller, "c", "a_1_b.c_-1")
            .await
            .unwrap()
    );
    service.insert(&caller, "c", twins).await.unwrap();
    // Now the data is in the way.
    let error = service
        .create_index(&caller, "c", unique)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    let other = index(doc! { "x": 1 }, false, false);
    let other = IndexSpec {
        name: Some("soon".into()),
        ..other
    };
    let error = service.create_index(&caller, "c", other).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
}

async fn indexes_of_the_server_stay(store: Store) {
    let service = documents(&store);
    let caller = Caller::ApiKey;
    let own = IndexSpec {
        name: Some("_key_1".into()),
        ..index(doc! { "_key": 1 }, true, true)
    };
    store.create_index("users", own).await.unwrap();
    for name in ["_id_", "_key_1"] {
        let error = service.drop_index(&caller, "users", name).await;
        assert!(matches!(error, Err(Error::Forbidden(_))), "{name}");
    }
    assert!(service.drop_index(&caller, "users", "*").await.is_err());
    assert_eq!(service.indexes(&caller, "users").await.unwrap().len(), 2);
    for keys in [doc! { "_password": 1 }, doc! { "a": 1, "_coglex.x": 1 }] {
        let made = service
            .create_index(&caller, "users", index(keys, false, false))
            .await;
        assert!(matches!(made, Err(Error::Forbidden(_))), "{made:?}");
    }
    for reserved in ["_coglex_keys", "system.users"] {
        let spec = index(doc! { "a": 1 }, false, false);
        let made = service.create_index(&caller, reserved, spec).await;
        assert!(matches!(made, Err(Error::Forbidden(_))));
        assert!(service.indexes(&caller, reserved).await.is_err());
        assert!(service.drop_index(&caller, reserved, "a_1").await.is_err());
    }
    assert_eq!(store.collections().await.unwrap(), ["users"]);
}

async fn plugins_have_no_say_in_indexes(store: Store) {
    sales(&store).await;
    let service = documents(&store);
    let caller = plugin("*", &VERBS);
    let spec = index(doc! { "a": 1 }, false, false);
    let made = service.create_index(&caller, "sales", spec).await;
    assert!(matches!(made, Err(Error::Forbidden(_))), "{made:?}");
    let listed = service.indexes(&caller, "sales").await;
    assert!(matches!(listed, Err(Error::Forbidden(_))), "{listed:?}");
    let dropped = service.drop_index(&caller, "sales", "a_1").await;
    assert!(matches!(dropped, Err(Error::Forbidden(_))), "{dropped:?}");
    let there: Vec<Option<Bson>> = store
        .indexes("sales")
        .await
        .unwrap()
        .into_iter()
        .map(|index| index.name.map(Bson::from))
        .collect();
    assert_eq!(there, [Some(Bson::from("_id_"))]);
}
