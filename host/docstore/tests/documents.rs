//! Writing and reading documents, on a real file.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use bson::{Bson, Document, doc};
use coglex_docstore::model::{Change, Find, IndexSpec, Update};
use coglex_docstore::{Error, Options, Store};
use support::{find, ids, index, insert, ints, open, operators, raw};

#[tokio::test]
async fn finds_filter_sort_skip_limit_and_project() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        (0..10).map(|n| doc! { "_id": n, "n": n, "even": n % 2 == 0 }),
    )
    .await;
    assert_eq!(ids(&store, doc! {}).await, ints(0..10));
    assert_eq!(
        ids(&store, doc! { "even": true, "n": { "$gt": 3 } }).await,
        ints([4, 6, 8])
    );
    let sorted = find(
        &store,
        Find {
            filter: doc! { "even": true },
            sort: Some(doc! { "n": -1 }),
            skip: 1,
            limit: Some(2),
            projection: Some(doc! { "n": 1, "_id": 0 }),
            ..Find::default()
        },
    );
    assert_eq!(sorted.await, [doc! { "n": 6 }, doc! { "n": 4 }]);
    let compound = find(
        &store,
        Find {
            sort: Some(doc! { "even": 1, "n": -1 }),
            limit: Some(1),
            ..Find::default()
        },
    );
    assert_eq!(compound.await, [doc! { "_id": 9, "n": 9, "even": false }]);
    let page = find(
        &store,
        Find {
            skip: 3,
            limit: Some(2),
            ..Find::default()
        },
    )
    .await;
    assert_eq!(page.len(), 2);
    assert_eq!(page[0].get_i32("_id").unwrap(), 3);
    assert_eq!(
        find(
            &store,
            Find {
                limit: Some(0),
                ..Find::default()
            }
        )
        .await,
        []
    );
    assert_eq!(
        find(
            &store,
            Find {
                skip: 100,
                ..Find::default()
            }
        )
        .await,
        []
    );
    assert_eq!(store.count("things", doc! {}, None).await.unwrap(), 10);
    assert_eq!(
        store
            .count("things", doc! { "even": true }, None)
            .await
            .unwrap(),
        5
    );
    assert_eq!(store.count("nothing", doc! {}, None).await.unwrap(), 0);
    assert_eq!(
        store
            .find("nothing", Find::default())
            .await
            .unwrap()
            .all()
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_sort_puts_types_and_arrays_in_mongodbs_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [
            doc! { "_id": 1, "v": "text" },
            doc! { "_id": 2, "v": 5 },
            doc! { "_id": 3 },
            doc! { "_id": 4, "v": [9, 1] },
            doc! { "_id": 5, "v": true },
            doc! { "_id": 6, "v": [] },
            doc! { "_id": 7, "v": { "a": 1 } },
        ],
    )
    .await;
    let order = |sort: Document| {
        let store = store.clone();
        async move {
            let found = find(
                &store,
                Find {
                    sort: Some(sort),
                    ..Find::default()
                },
            )
            .await;
            found
                .iter()
                .map(|document| document.get_i32("_id").unwrap())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(order(doc! { "v": 1 }).await, [6, 3, 4, 2, 1, 7, 5]);
    assert_eq!(order(doc! { "v": -1 }).await, [5, 7, 1, 4, 2, 3, 6]);
    let error = store
        .find(
            "things",
            Find {
                sort: Some(doc! { "v": 2 }),
                ..Find::default()
            },
        )
        .await
        .unwrap_err();
    assert!(error.to_string().contains("1 or -1"));
}

#[tokio::test]
async fn large_results_come_in_bounded_batches_and_see_later_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for chunk in 0..10 {
        insert(
            &store,
            (0..500).map(|n| doc! { "_id": chunk * 500 + n, "n": n }),
        )
        .await;
    }
    let mut cursor = store.find("things", Find::default()).await.unwrap();
    let first = cursor.next_batch().await.unwrap().unwrap();
    assert!(first.len() <= 1_000);
    // Nothing is pinned meanwhile: what goes is gone, what comes is seen.
    store
        .delete("things", doc! { "_id": 4_999 }, false)
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 5_000 }]).await;
    let rest = cursor.all().await.unwrap();
    assert_eq!(first.len() + rest.len(), 5_000);
    assert_eq!(rest.last().unwrap().get_i32("_id").unwrap(), 5_000);

    let mut sorted = store
        .find(
            "things",
            Find {
                sort: Some(doc! { "_id": -1 }),
                ..Find::default()
            },
        )
        .await
        .unwrap();
    let mut last = i32::MAX;
    while let Some(batch) = sorted.next_batch().await.unwrap() {
        for document in batch {
            let id = document.get_i32("_id").unwrap();
            assert!(id < last);
            last = id;
        }
    }
    assert_eq!(last, 0);

    insert(
        &store,
        (0..4).map(|n| doc! { "_id": format!("big{n}"), "s": "x".repeat(700_000) }),
    )
    .await;
    let filter = doc! { "_id": { "$type": "string" } };
    let mut big = store
        .find(
            "things",
            Find {
                filter,
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(big.next_batch().await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn a_sort_beyond_its_bound_is_refused_unless_limited() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_result_bytes: 10_000,
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    insert(
        &store,
        (0..1_000).map(|n| doc! { "_id": n, "n": 1_000 - n }),
    )
    .await;
    let sort = |limit| Find {
        sort: Some(doc! { "n": 1 }),
        limit,
        ..Find::default()
    };
    let error = store
        .find("things", sort(None))
        .await
        .unwrap()
        .all()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let found = find(&store, sort(Some(2))).await;
    assert_eq!(found[0].get_i32("_id").unwrap(), 999);
}

#[tokio::test]
async fn an_insert_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 1 }]).await;
    let error = store
        .insert(
            "things",
            vec![raw(doc! { "_id": 2 }), raw(doc! { "_id": 1.0 })],
        )
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::DuplicateKey { ref index } if index == "_id_"),
        "{error}"
    );
    assert_eq!(ids(&store, doc! {}).await, ints([1]));
    let error = store
        .insert("things", vec![raw(doc! { "a": 1 })])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    let error = store
        .insert("new", vec![raw(doc! { "_id": 1 }), raw(doc! { "_id": 1 })])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DuplicateKey { .. }));
    assert_eq!(
        store.collections().await.unwrap(),
        ["things"],
        "the collection went with the insert"
    );
    store
        .insert("new", vec![raw(doc! { "_id": 1 })])
        .await
        .unwrap();
    assert_eq!(store.count("new", doc! {}, None).await.unwrap(), 1);
    assert!(matches!(
        store.insert("a$b", vec![raw(doc! { "_id": 1 })]).await,
        Err(Error::Invalid(_))
    ));
    store.insert("empty", vec![]).await.unwrap();
}

#[tokio::test]
async fn updates_count_matches_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        (0..5).map(|n| doc! { "_id": n, "n": n, "tags": ["a", "b"] }),
    )
    .await;
    let one = store
        .update(
            "things",
            operators(doc! { "n": { "$gte": 2 } }, doc! { "$set": { "x": 1 } }),
        )
        .await
        .unwrap();
    assert_eq!((one.matched, one.modified), (1, 1));
    assert_eq!(
        ids(&store, doc! { "x": 1 }).await,
        ints([2]),
        "the first in natural order"
    );
    let many = Update {
        many: true,
        ..operators(doc! { "n": { "$gte": 2 } }, doc! { "$set": { "x": 1 } })
    };
    let many = store.update("things", many).await.unwrap();
    assert_eq!(
        (many.matched, many.modified),
        (3, 2),
        "one had the value already"
    );
    let none = store
        .update(
            "things",
            operators(doc! { "n": 99 }, doc! { "$set": { "x": 1 } }),
        )
        .await
        .unwrap();
    assert_eq!((none.matched, none.modified), (0, 0));
    store
        .update(
            "things",
            operators(
                doc! { "_id": 0, "tags": "b" },
                doc! { "$set": { "tags.$": "c" } },
            ),
        )
        .await
        .unwrap();
    assert_eq!(
        find(
            &store,
            Find {
                filter: doc! { "_id": 0 },
                ..Find::default()
            }
        )
        .await[0]
            .get_array("tags")
            .unwrap()[1],
        "c".into()
    );
    let replacement = Update {
        change: Change::Replacement(doc! { "z": 1 }),
        ..operators(doc! { "_id": 1 }, doc! {})
    };
    assert_eq!(
        store.update("things", replacement).await.unwrap().modified,
        1
    );
    assert_eq!(
        store.get("things", 1.into()).await.unwrap().unwrap(),
        raw(doc! { "_id": 1, "z": 1 })
    );
    let error = store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "_id": 2 } }),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    let growing = doc! { "$set": { "s": "x".repeat(17 << 20) } };
    let error = store
        .update("things", operators(doc! { "_id": 1 }, growing))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
}

#[tokio::test]
async fn a_failed_multi_update_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [doc! { "_id": 1, "n": 1 }, doc! { "_id": 2, "n": "text" }],
    )
    .await;
    let update = Update {
        many: true,
        ..operators(doc! {}, doc! { "$inc": { "n": 1 } })
    };
    assert!(matches!(
        store.update("things", update).await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(
        store.count("things", doc! { "n": 1 }, None).await.unwrap(),
        1
    );
}

#[tokio::test]
async fn an_upsert_inserts_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let upsert = || Update {
        upsert: true,
        ..operators(
            doc! { "k": "a", "n": { "$gt": 0 } },
            doc! { "$inc": { "n": 1 }, "$setOnInsert": { "new": true } },
        )
    };
    let first = store.update("things", upsert()).await.unwrap();
    assert!(first.matched == 0 && matches!(first.upserted_id, Some(Bson::ObjectId(_))));
    let second = store.update("things", upsert()).await.unwrap();
    assert_eq!(
        (second.matched, second.modified, second.upserted_id),
        (1, 1, None)
    );
    let found = find(
        &store,
        Find {
            projection: Some(doc! { "_id": 0 }),
            ..Find::default()
        },
    )
    .await;
    assert_eq!(found, [doc! { "k": "a", "n": 2, "new": true }]);
}

#[tokio::test]
async fn deletes_take_one_or_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "n": 1 })
            },
        )
        .await
        .unwrap();
    insert(&store, (0..6).map(|n| doc! { "_id": n, "n": n })).await;
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, false)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, true)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        store
            .delete("things", doc! { "n": { "$gte": 3 } }, true)
            .await
            .unwrap(),
        0
    );
    assert_eq!(store.delete("nothing", doc! {}, true).await.unwrap(), 0);
    assert_eq!(ids(&store, doc! {}).await, ints(0..3));
    insert(&store, [doc! { "_id": 7, "n": 4 }]).await;
    assert_eq!(store.delete("things", doc! {}, true).await.unwrap(), 4);
}

#[tokio::test]
async fn a_find_ends_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, (0..2_000).map(|n| doc! { "_id": n })).await;
    let find = Find {
        filter: doc! { "x": 1 },
        max_time: Some(Duration::ZERO),
        ..Find::default()
    };
    let error = store
        .find("things", find)
        .await
        .unwrap()
        .all()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_are_all_counted_while_readers_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(&store, [doc! { "_id": 1, "n": 0 }]).await;
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for own in 1..=25 {
                    let outcome = store
                        .update(
                            "things",
                            operators(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }),
                        )
                        .await;
                    assert_eq!(outcome.unwrap().modified, 1);
                    for _ in 0..4 {
                        let read = store.get("things", 1.into()).await.unwrap().unwrap();
                        let n = read.get_i32("n").unwrap();
                        assert!(n >= own, "a writer sees its own writes");
                        assert!(n >= last, "what was seen is not unseen");
                        last = n;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = store.get("things", 1.into()).await.unwrap().unwrap();
    assert_eq!(found.get_i32("n").unwrap(), 400);
}

#[tokio::test]
async fn distinct_values_come_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    insert(
        &store,
        [
            doc! { "_id": 1, "a": 1, "b": [{ "c": "x" }, { "c": ["y", "z"] }] },
            doc! { "_id": 2, "a": 1.0 },
            doc! { "_id": 3, "a": ["p", 1, ["q"]] },
            doc! { "_id": 4 },
            doc! { "_id": 5, "a": null },
        ],
    )
    .await;
    let distinct = async |path: &str, filter: Document| {
        store.distinct("things", path, filter, None).await.unwrap()
    };
    assert_eq!(
        distinct("a", doc! {}).await,
        [1.into(), "p".into(), bson::bson!(["q"]), Bson::Null]
    );
    assert_eq!(
        distinct("b.c", doc! {}).await,
        ["x".into(), "y".into(), "z".into()]
    );
    assert_eq!(
        distinct("a", doc! { "_id": { "$gt": 4 } }).await,
        [Bson::Null]
    );
    assert_eq!(
        store.distinct("nothing", "a", doc! {}, None).await.unwrap(),
        []
    );
}
