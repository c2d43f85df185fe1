//! The port's contract: what every store answers alike.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, doc};
use coglex_services::storage::{Change, Find, IndexSpec, StoreError, Update, UpdateOutcome};

use crate::support::*;

crate::on_both_stores!(
    what_is_inserted_is_read,
    absent_things_are_empty_not_errors,
    a_taken_id_is_a_duplicate_of_the_id_index,
    a_batch_is_all_or_nothing,
    a_document_without_an_id_is_refused,
    filters_select,
    malformed_questions_are_invalid,
    natural_order_is_the_order_of_insertion,
    sort_skip_and_limit,
    projections_shape,
    long_results_stream_whole,
    updates_tell_matched_from_modified,
    one_or_many,
    update_operators,
    paths_of_a_map_are_set_and_unset_together,
    a_replacement_keeps_the_id,
    upserts_insert_once,
    the_id_cannot_be_changed,
    deletes_count,
    a_unique_index_refuses_the_second,
    a_sparse_unique_index_lets_many_have_none,
    an_index_that_the_data_breaks_is_refused,
    making_an_index_twice_is_fine,
    concurrent_inserts_of_one_key_make_one,
    concurrent_increments_all_count,
    collections_are_listed,
    large_documents_survive,
);

async fn what_is_inserted_is_read(store: Store) {
    let id = ObjectId::new();
    let document = doc! {
        "_id": id, "s": "é😀", "n": 1, "l": 5_000_000_000_i64, "d": 1.5, "b": true, "z": null,
        "t": bson::DateTime::from_millis(1_700_000_000_123), "o": { "y": 1, "a": [1, "x", { "k": [] }] },
    };
    insert(&store, "c", std::slice::from_ref(&document))
        .await
        .unwrap();
    assert_eq!(one(&store, "c", id).await, document);
    assert_eq!(all(&store, "c", doc! {}).await, [document]);
    store.ping().await.unwrap();
}

async fn absent_things_are_empty_not_errors(store: Store) {
    assert!(store.get("none", Bson::from("x")).await.unwrap().is_none());
    assert!(all(&store, "none", doc! {}).await.is_empty());
    assert_eq!(store.count("none", doc! {}, None).await.unwrap(), 0);
    assert_eq!(store.delete("none", doc! {}, true).await.unwrap(), 0);
    let outcome = store
        .update("none", set(doc! {}, doc! { "$set": { "a": 1 } }))
        .await
        .unwrap();
    assert_eq!(outcome, UpdateOutcome::default());
    insert(&store, "c", &[]).await.unwrap();
}

async fn a_taken_id_is_a_duplicate_of_the_id_index(store: Store) {
    insert(&store, "c", &[doc! { "_id": "a", "n": 1 }])
        .await
        .unwrap();
    let error = insert(&store, "c", &[doc! { "_id": "a", "n": 2 }])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::DuplicateKey { index } if index == "_id_"),
        "{error:?}"
    );
    assert_eq!(one(&store, "c", "a").await, doc! { "_id": "a", "n": 1 });
}

async fn a_batch_is_all_or_nothing(store: Store) {
    insert(&store, "c", &[doc! { "_id": 3 }]).await.unwrap();
    let batch = [
        doc! { "_id": 1 },
        doc! { "_id": 2 },
        doc! { "_id": 3 },
        doc! { "_id": 4 },
    ];
    let error = insert(&store, "c", &batch).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::DuplicateKey { index } if index == "_id_"),
        "{error:?}"
    );
    assert_eq!(all(&store, "c", doc! {}).await, [doc! { "_id": 3 }]);
    insert(&store, "c", &[doc! { "_id": 1 }, doc! { "_id": 2 }])
        .await
        .unwrap();
    assert_eq!(store.count("c", doc! {}, None).await.unwrap(), 3);
}

async fn a_document_without_an_id_is_refused(store: Store) {
    let error = insert(&store, "c", &[doc! { "a": 1 }]).await.unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
}

async fn filters_select(store: Store) {
    let people = [
        doc! { "_id": 1, "name": "Ann", "age": 30, "tags": ["a", "b"], "home": { "city": "Oslo" } },
        doc! { "_id": 2, "name": "Bob", "age": 20.5, "tags": [], "home": { "city": "Rome" } },
        doc! { "_id": 3, "name": "Cid", "age": 40_i64, "home": null },
        doc! { "_id": 4, "name": "Dee", "tags": "a", "rows": [{ "n": 1, "m": 5 }, { "n": 2, "m": 1 }] },
    ];
    insert(&store, "c", &people).await.unwrap();
    for (filter, ids) in [
        (doc! {}, vec![1, 2, 3, 4]),
        (doc! { "name": "Ann" }, vec![1]),
        (doc! { "age": { "$gt": 20, "$lte": 30 } }, vec![1, 2]),
        (doc! { "age": { "$in": [30.0, 40] } }, vec![1, 3]),
        (doc! { "age": { "$nin": [30] } }, vec![2, 3, 4]),
        (doc! { "age": { "$ne": 30 } }, vec![2, 3, 4]),
        (doc! { "age": { "$exists": false } }, vec![4]),
        (doc! { "age": null }, vec![4]),
        (doc! { "home": null }, vec![3, 4]),
        (doc! { "tags": "a" }, vec![1, 4]),
        (doc! { "tags.1": "b" }, vec![1]),
        (doc! { "tags": [] }, vec![2]),
        (
            doc! { "home.city": { "$regex": "^o", "$options": "i" } },
            vec![1],
        ),
        (doc! { "home": { "city": "Rome" } }, vec![2]),
        (
            doc! { "$or": [{ "name": "Ann" }, { "name": "Dee" }] },
            vec![1, 4],
        ),
        (
            doc! { "$and": [{ "tags": "a" }, { "age": { "$exists": true } }] },
            vec![1],
        ),
        (doc! { "age": { "$not": { "$gt": 25 } } }, vec![2, 4]),
        (doc! { "rows.n": 2, "rows.m": 5 }, vec![4]),
        (doc! { "name": { "$gt": 5 } }, vec![]),
        (doc! { "_id": { "$gte": 2, "$lt": 4 } }, vec![2, 3]),
    ] {
        let found = all(&store, "c", filter.clone()).await;
        let found: Vec<i32> = found
            .iter()
            .map(|document| document.get_i32("_id").unwrap())
            .collect();
        assert_eq!(found, ids, "{filter}");
        assert_eq!(
            store.count("c", filter.clone(), None).await.unwrap(),
            ids.len() as u64,
            "{filter}"
        );
    }
}

async fn malformed_questions_are_invalid(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1, "a": 1, "s": "x" }])
        .await
        .unwrap();
    for filter in [
        doc! { "a": { "$foo": 1 } },
        doc! { "$or": 1 },
        doc! { "$or": [] },
        doc! { "a": { "$in": 1 } },
    ] {
        let find = Find {
            filter: filter.clone(),
            ..Find::default()
        };
        let error = store.find("c", find).await.err();
        assert!(
            matches!(error, Some(StoreError::Invalid(_))),
            "{filter}: {error:?}"
        );
    }
    for operators in [
        doc! { "$foo": { "a": 1 } },
        doc! { "$inc": { "s": 1 } },
        doc! { "$set": { "a": 1, "a.b": 2 } },
    ] {
        let error = store
            .update("c", set(doc! {}, operators.clone()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Invalid(_)),
            "{operators}: {error:?}"
        );
    }
    let mixed = Find {
        projection: Some(doc! { "a": 1, "s": 0 }),
        ..Find::default()
    };
    let error = store.find("c", mixed).await.err();
    assert!(matches!(error, Some(StoreError::Invalid(_))), "{error:?}");
}

async fn natural_order_is_the_order_of_insertion(store: Store) {
    let documents: Vec<_> = [5, 3, 9, 1].map(|id| doc! { "_id": id }).into();
    for document in &documents {
        insert(&store, "c", std::slice::from_ref(document))
            .await
            .unwrap();
    }
    assert_eq!(all(&store, "c", doc! {}).await, documents);
}

async fn sort_skip_and_limit(store: Store) {
    let documents: Vec<_> = (0..10)
        .map(|n| doc! { "_id": n, "odd": n % 2, "back": 9 - n })
        .collect();
    insert(&store, "c", &documents).await.unwrap();
    for (sort, skip, limit, ids) in [
        (Some(doc! { "back": 1 }), 0, Some(3), vec![9, 8, 7]),
        (
            Some(doc! { "odd": -1, "_id": 1 }),
            0,
            Some(6),
            vec![1, 3, 5, 7, 9, 0],
        ),
        (Some(doc! { "_id": -1 }), 8, None, vec![1, 0]),
        (None, 7, Some(2), vec![7, 8]),
        (None, 20, None, vec![]),
        (None, 0, Some(0), vec![]),
    ] {
        let question = Find {
            sort: sort.clone(),
            skip,
            limit,
            ..Find::default()
        };
        let found = find(&store, "c", question).await;
        let found: Vec<i32> = found
            .iter()
            .map(|document| document.get_i32("_id").unwrap())
            .collect();
        assert_eq!(found, ids, "{sort:?} {skip} {limit:?}");
    }
}

async fn projections_shape(store: Store) {
    insert(
        &store,
        "c",
        &[doc! { "_id": 1, "a": { "b": 1, "c": 2 }, "d": [{ "e": 1, "f": 2 }], "g": 3 }],
    )
    .await
    .unwrap();
    for (projection, shown) in [
        (
            doc! {},
            doc! { "_id": 1, "a": { "b": 1, "c": 2 }, "d": [{ "e": 1, "f": 2 }], "g": 3 },
        ),
        (doc! { "g": 1 }, doc! { "_id": 1, "g": 3 }),
        (doc! { "g": true, "_id": 0 }, doc! { "g": 3 }),
        (doc! { "a": 0, "d": 0 }, doc! { "_id": 1, "g": 3 }),
        (
            doc! { "a.b": 1, "d.f": 1 },
            doc! { "_id": 1, "a": { "b": 1 }, "d": [{ "f": 2 }] },
        ),
        (
            doc! { "a.b": 0, "d.f": 0 },
            doc! { "_id": 1, "a": { "c": 2 }, "d": [{ "e": 1 }], "g": 3 },
        ),
        (doc! { "none": 1 }, doc! { "_id": 1 }),
    ] {
        let question = Find {
            projection: Some(projection.clone()),
            ..Find::default()
        };
        assert_eq!(find(&store, "c", question).await, [shown], "{projection}");
    }
}

async fn long_results_stream_whole(store: Store) {
    let padding = "x".repeat(2_000);
    let documents: Vec<_> = (0..1_500)
        .map(|n| doc! { "_id": n, "p": &padding })
        .collect();
    insert(&store, "c", &documents).await.unwrap();
    let found = all(&store, "c", doc! {}).await;
    assert_eq!(found.len(), documents.len());
    assert!(
        found
            .iter()
            .zip(&documents)
            .all(|(found, expected)| found == expected)
    );
}

async fn updates_tell_matched_from_modified(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1, "a": 1 }])
        .await
        .unwrap();
    let outcome = store
        .update("c", set(doc! { "_id": 1 }, doc! { "$set": { "a": 2 } }))
        .await
        .unwrap();
    assert_eq!(
        outcome,
        UpdateOutcome {
            matched: 1,
            modified: 1,
            upserted_id: None
        }
    );
    let outcome = store
        .update("c", set(doc! { "_id": 1 }, doc! { "$set": { "a": 2 } }))
        .await
        .unwrap();
    assert_eq!(
        outcome,
        UpdateOutcome {
            matched: 1,
            modified: 0,
            upserted_id: None
        }
    );
    let outcome = store
        .update("c", set(doc! { "_id": 2 }, doc! { "$set": { "a": 2 } }))
        .await
        .unwrap();
    assert_eq!(outcome, UpdateOutcome::default());
}

async fn one_or_many(store: Store) {
    insert(
        &store,
        "c",
        &[
            doc! { "_id": 1, "g": 1 },
            doc! { "_id": 2, "g": 1 },
            doc! { "_id": 3, "g": 2 },
        ],
    )
    .await
    .unwrap();
    let first = set(doc! { "g": 1 }, doc! { "$set": { "n": 1 } });
    assert_eq!(store.update("c", first.clone()).await.unwrap().matched, 1);
    assert_eq!(
        all(&store, "c", doc! { "n": 1 }).await,
        [doc! { "_id": 1, "g": 1, "n": 1 }]
    );
    let outcome = store
        .update(
            "c",
            Update {
                many: true,
                ..first
            },
        )
        .await
        .unwrap();
    assert_eq!((outcome.matched, outcome.modified), (2, 1));
}

async fn update_operators(store: Store) {
    for (number, (before, operators, after)) in [
        (
            doc! { "a": 1 },
            doc! { "$set": { "b.c": 2 } },
            doc! { "a": 1, "b": { "c": 2 } },
        ),
        (
            doc! { "a": [1, 2] },
            doc! { "$set": { "a.1": 9, "a.3": 5 } },
            doc! { "a": [1, 9, null, 5] },
        ),
        (
            doc! { "a": 1, "b": { "c": 1, "d": 2 } },
            doc! { "$unset": { "a": "", "b.c": "" } },
            doc! { "b": { "d": 2 } },
        ),
        (
            doc! { "n": 1 },
            doc! { "$inc": { "n": 2, "m": -1 } },
            doc! { "n": 3, "m": -1 },
        ),
        (
            doc! { "n": i32::MAX },
            doc! { "$inc": { "n": 1 } },
            doc! { "n": 2_147_483_648_i64 },
        ),
        (
            doc! { "n": 1 },
            doc! { "$inc": { "n": 0.5 } },
            doc! { "n": 1.5 },
        ),
        (
            doc! { "l": [1] },
            doc! { "$push": { "l": 2, "k": "x" } },
            doc! { "l": [1, 2], "k": ["x"] },
        ),
        (
            doc! { "a": 1 },
            doc! { "$set": { "b": 1 }, "$inc": { "a": 1 } },
            doc! { "a": 2, "b": 1 },
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let id = number as i32;
        let with_id = |document: &bson::Document| {
            let mut whole = doc! { "_id": id };
            whole.extend(document.clone());
            whole
        };
        insert(&store, "c", &[with_id(&before)]).await.unwrap();
        store
            .update("c", set(doc! { "_id": id }, operators.clone()))
            .await
            .unwrap();
        assert_eq!(
            one(&store, "c", id).await,
            with_id(&after),
            "{before} {operators}"
        );
    }
}

async fn paths_of_a_map_are_set_and_unset_together(store: Store) {
    insert(
        &store,
        "c",
        &[doc! { "_id": 1, "m": { "a": { "n": 1 }, "b": { "n": 2 } } }],
    )
    .await
    .unwrap();
    let operators = doc! { "$set": { "m.c": { "n": 3 } }, "$unset": { "m.a": "", "m.gone": "" } };
    store
        .update("c", set(doc! { "_id": 1 }, operators))
        .await
        .unwrap();
    assert_eq!(
        one(&store, "c", 1).await,
        doc! { "_id": 1, "m": { "b": { "n": 2 }, "c": { "n": 3 } } }
    );
}

async fn a_replacement_keeps_the_id(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1, "a": 1 }])
        .await
        .unwrap();
    let replace = |filter, document| Update {
        change: Change::Replacement(document),
        ..set(filter, doc! {})
    };
    let outcome = store
        .update("c", replace(doc! { "a": 1 }, doc! { "b": 2 }))
        .await
        .unwrap();
    assert_eq!((outcome.matched, outcome.modified), (1, 1));
    assert_eq!(all(&store, "c", doc! {}).await, [doc! { "_id": 1, "b": 2 }]);
}

async fn upserts_insert_once(store: Store) {
    let mut update = set(
        doc! { "_id": "a", "kind": "k" },
        doc! { "$inc": { "n": 1 }, "$setOnInsert": { "first": true } },
    );
    update.upsert = true;
    let outcome = store.update("c", update.clone()).await.unwrap();
    assert_eq!(
        outcome,
        UpdateOutcome {
            matched: 0,
            modified: 0,
            upserted_id: Some("a".into())
        }
    );
    let outcome = store.update("c", update).await.unwrap();
    assert_eq!(
        outcome,
        UpdateOutcome {
            matched: 1,
            modified: 1,
            upserted_id: None
        }
    );
    let mut found = one(&store, "c", "a").await;
    assert_eq!(found.remove("n"), Some(2.into()));
    assert_eq!(found.remove("first"), Some(true.into()));
    assert_eq!(found, doc! { "_id": "a", "kind": "k" });

    let mut update = set(doc! { "x": 1 }, doc! { "$set": { "y": 1 } });
    update.upsert = true;
    let made = store
        .update("c", update)
        .await
        .unwrap()
        .upserted_id
        .unwrap();
    assert!(made.as_object_id().is_some(), "{made}");
}

async fn the_id_cannot_be_changed(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1 }]).await.unwrap();
    let error = store
        .update("c", set(doc! {}, doc! { "$set": { "_id": 2 } }))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
    let same = store
        .update("c", set(doc! {}, doc! { "$set": { "_id": 1 } }))
        .await
        .unwrap();
    assert_eq!((same.matched, same.modified), (1, 0));
}

async fn deletes_count(store: Store) {
    let documents: Vec<_> = (0..5).map(|n| doc! { "_id": n, "g": n % 2 }).collect();
    insert(&store, "c", &documents).await.unwrap();
    assert_eq!(store.delete("c", doc! { "g": 0 }, false).await.unwrap(), 1);
    assert_eq!(store.delete("c", doc! { "g": 0 }, true).await.unwrap(), 2);
    assert_eq!(store.delete("c", doc! { "g": 0 }, true).await.unwrap(), 0);
    assert_eq!(store.delete("c", doc! {}, true).await.unwrap(), 2);
    assert!(all(&store, "c", doc! {}).await.is_empty());
}

#[track_caller]
fn assert_duplicate<T: std::fmt::Debug>(result: Result<T, StoreError>, name: &str) {
    assert!(
        matches!(&result, Err(StoreError::DuplicateKey { index }) if index == name),
        "{result:?}"
    );
}

async fn a_unique_index_refuses_the_second(store: Store) {
    store
        .create_index("c", index(doc! { "k": 1 }, true, false))
        .await
        .unwrap();
    insert(
        &store,
        "c",
        &[doc! { "_id": 1, "k": "a" }, doc! { "_id": 2, "k": "b" }],
    )
    .await
    .unwrap();
    assert_duplicate(
        insert(&store, "c", &[doc! { "_id": 3, "k": "a" }]).await,
        "k_1",
    );
    assert_duplicate(
        store
            .update("c", set(doc! { "_id": 2 }, doc! { "$set": { "k": "a" } }))
            .await,
        "k_1",
    );
    // None is a value too, without sparse.
    insert(&store, "c", &[doc! { "_id": 4 }]).await.unwrap();
    assert_duplicate(insert(&store, "c", &[doc! { "_id": 5 }]).await, "k_1");
    // What was freed can be taken.
    store.delete("c", doc! { "_id": 1 }, false).await.unwrap();
    insert(&store, "c", &[doc! { "_id": 6, "k": "a" }])
        .await
        .unwrap();
    assert_eq!(
        all(&store, "c", doc! { "k": "a" }).await,
        [doc! { "_id": 6, "k": "a" }]
    );
}

async fn a_sparse_unique_index_lets_many_have_none(store: Store) {
    store
        .create_index("c", index(doc! { "k": 1 }, true, true))
        .await
        .unwrap();
    insert(
        &store,
        "c",
        &[
            doc! { "_id": 1 },
            doc! { "_id": 2 },
            doc! { "_id": 3, "k": "a" },
        ],
    )
    .await
    .unwrap();
    assert_duplicate(
        insert(&store, "c", &[doc! { "_id": 4, "k": "a" }]).await,
        "k_1",
    );
    assert_eq!(all(&store, "c", doc! { "k": null }).await.len(), 2);
}

async fn an_index_that_the_data_breaks_is_refused(store: Store) {
    insert(
        &store,
        "c",
        &[doc! { "_id": 1, "k": 1 }, doc! { "_id": 2, "k": 1 }],
    )
    .await
    .unwrap();
    assert_duplicate(
        store
            .create_index("c", index(doc! { "k": 1 }, true, false))
            .await,
        "k_1",
    );
    insert(&store, "c", &[doc! { "_id": 3, "k": 1 }])
        .await
        .unwrap();
}

async fn making_an_index_twice_is_fine(store: Store) {
    for _ in 0..2 {
        store
            .create_index("c", index(doc! { "k": 1, "l": -1 }, false, false))
            .await
            .unwrap();
        store
            .create_index("c", index(doc! { "u": 1 }, true, true))
            .await
            .unwrap();
        let ttl = IndexSpec {
            expire_after: Some(Duration::from_secs(60)),
            ..index(doc! { "t": 1 }, false, false)
        };
        store.create_index("c", ttl).await.unwrap();
    }
    // The same name with other options is another index.
    let error = store
        .create_index("c", index(doc! { "u": 1 }, false, false))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
}

async fn concurrent_inserts_of_one_key_make_one(store: Store) {
    store
        .create_index("c", index(doc! { "k": 1 }, true, true))
        .await
        .unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(
                async move { insert(&store, "c", &[doc! { "_id": n, "k": "same" }]).await },
            )
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => made += 1,
            duplicate => assert_duplicate(duplicate, "k_1"),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(store.count("c", doc! {}, None).await.unwrap(), 1);
}

async fn concurrent_increments_all_count(store: Store) {
    insert(&store, "c", &[doc! { "_id": 1, "n": 0 }])
        .await
        .unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .update("c", set(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }))
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().modified, 1);
    }
    assert_eq!(one(&store, "c", 1).await, doc! { "_id": 1, "n": 32 });
}

async fn collections_are_listed(store: Store) {
    assert!(store.collections().await.unwrap().is_empty());
    insert(&store, "b", &[doc! { "_id": 1 }]).await.unwrap();
    insert(&store, "a.b", &[doc! { "_id": 1 }]).await.unwrap();
    let mut names = store.collections().await.unwrap();
    names.sort();
    assert_eq!(names, ["a.b", "b"]);
}

async fn large_documents_survive(store: Store) {
    let document =
        doc! { "_id": 1, "text": "é".repeat(2_000_000), "list": (0..10_000).collect::<Vec<i32>>() };
    insert(&store, "c", std::slice::from_ref(&document))
        .await
        .unwrap();
    assert_eq!(one(&store, "c", 1).await, document);
}
