//! Indexes: what they answer, what they refuse, and when they are used.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod support;

use std::time::Duration;

use bson::{Bson, Document, doc};
use coglex_docstore::Error;
use coglex_docstore::model::{Find, IndexSpec};
use support::{ids, index, insert, ints, open, operators, raw, regex};

/// The same questions with and without indexes, over values of many types.
#[tokio::test]
async fn indexes_change_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let values = [
        Bson::Int32(1),
        Bson::Int32(2),
        Bson::Double(2.5),
        Bson::Int64(3),
        Bson::Null,
        "a".into(),
        "ab".into(),
        "b".into(),
        Bson::Boolean(true),
        bson::bson!([1, 5]),
        bson::bson!([]),
        bson::bson!({ "x": 1 }),
        bson::bson!([{ "x": 2 }, { "x": [3, 4] }]),
        bson::bson!([[1]]),
        Bson::Undefined,
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Double(f64::NAN),
        regex("^a", ""),
    ];
    let mut documents = vec![doc! { "_id": -1 }];
    for (n, a) in values.iter().enumerate() {
        for (m, b) in values.iter().enumerate() {
            let mut document =
                doc! { "_id": i32::try_from(n * values.len() + m).unwrap(), "a": a.clone() };
            // Two arrays of one document cannot share an index.
            if !matches!((a, b), (Bson::Array(_), Bson::Array(_))) {
                document.insert("b", b.clone());
            }
            documents.push(document);
        }
    }
    for set in ["plain", "indexed", "descending", "sparse", "compound"] {
        store
            .insert(set, documents.iter().cloned().map(raw).collect())
            .await
            .unwrap();
    }
    for path in ["a", "b", "a.x"] {
        store
            .create_index("indexed", index(doc! { path: 1 }))
            .await
            .unwrap();
        store
            .create_index("descending", index(doc! { path: -1 }))
            .await
            .unwrap();
        store
            .create_index(
                "sparse",
                IndexSpec {
                    sparse: true,
                    ..index(doc! { path: 1 })
                },
            )
            .await
            .unwrap();
    }
    store
        .create_index("compound", index(doc! { "a": 1, "b": -1 }))
        .await
        .unwrap();
    store
        .create_index("compound", index(doc! { "b": 1, "a": 1, "_id": 1 }))
        .await
        .unwrap();

    let mut filters = Vec::new();
    for operand in &values {
        for operator in ["$eq", "$gt", "$gte", "$lt", "$lte"] {
            let usable = match operand {
                Bson::Undefined => false,
                Bson::RegularExpression(_) => operator == "$eq",
                _ => true,
            };
            if usable {
                for path in ["a", "b", "a.x", "a.0"] {
                    filters.push(doc! { path: { operator: operand.clone() } });
                }
                filters.push(doc! { "a": { operator: operand.clone() }, "b": { "$gte": 2 } });
                filters.push(
                    doc! { "a": { "$in": [operand.clone(), 2] }, "b": { "$lt": "b", "$gte": "a" } },
                );
            }
        }
    }
    filters.extend([
        doc! { "a": { "$gt": 1, "$lt": 3 } },
        doc! { "a": { "$gt": 4, "$lt": 3 } },
        doc! { "a": { "$gte": 1, "$gt": 1, "$lte": 2 } },
        doc! { "a": { "$regex": "^a" } },
        doc! { "a": { "$regex": "^ab*" } },
        doc! { "a": { "$in": [] } },
        doc! { "a": { "$in": ["a", null] } },
        doc! { "a": { "$exists": false } },
        doc! { "a": { "$ne": 1 } },
        doc! { "$or": [{ "a": 1 }, { "b": "a" }] },
        doc! { "$and": [{ "a": { "$gte": 1 } }, { "a": { "$lte": 1 } }] },
        doc! { "_id": { "$in": [3, 1, 77] } },
        doc! { "_id": 5, "a": 1 },
        doc! { "_id": { "$gt": 300 } },
        doc! { "a.x": { "$gt": 1, "$lt": 3 } },
    ]);
    for filter in filters {
        let mut answers = Vec::new();
        for set in ["plain", "indexed", "descending", "sparse", "compound"] {
            let find = Find {
                filter: filter.clone(),
                ..Find::default()
            };
            answers.push((
                set,
                store.find(set, find).await.unwrap().all().await.unwrap(),
            ));
        }
        let (_, plain) = &answers[0];
        for (set, answer) in &answers[1..] {
            assert_eq!(answer.len(), plain.len(), "{set}: {filter}");
            assert_eq!(answer, plain, "{set}: {filter}");
        }
    }
}

#[tokio::test]
async fn indexes_follow_updates_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "tags": 1 }))
        .await
        .unwrap();
    insert(
        &store,
        [
            doc! { "_id": 1, "tags": ["a", "b"] },
            doc! { "_id": 2, "tags": "b" },
        ],
    )
    .await;
    assert_eq!(ids(&store, doc! { "tags": "b" }).await, ints([1, 2]));
    store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "tags": ["a", "c"] } }),
        )
        .await
        .unwrap();
    assert_eq!(ids(&store, doc! { "tags": "b" }).await, ints([2]));
    assert_eq!(ids(&store, doc! { "tags": "c" }).await, ints([1]));
    store
        .delete("things", doc! { "tags": "c" }, true)
        .await
        .unwrap();
    assert_eq!(ids(&store, doc! { "tags": "a" }).await, ints([]));
}

#[tokio::test]
async fn unique_indexes_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let unique = |keys: Document| IndexSpec {
        unique: true,
        ..index(keys)
    };
    store
        .create_index("things", unique(doc! { "k": 1 }))
        .await
        .unwrap();
    insert(
        &store,
        [
            doc! { "_id": 1, "k": "a" },
            doc! { "_id": 2, "k": ["b", "b", "c"] },
        ],
    )
    .await;
    let duplicate = |result: Result<(), Error>| match result {
        Err(Error::DuplicateKey { index }) => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 3, "k": "a" })])
                .await
        ),
        "k_1"
    );
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 3, "k": ["x", "c"] })])
                .await
        ),
        "k_1"
    );
    insert(&store, [doc! { "_id": 3 }]).await;
    assert_eq!(
        duplicate(
            store
                .insert("things", vec![raw(doc! { "_id": 4, "k": null })])
                .await
        ),
        "k_1"
    );
    let update = store
        .update(
            "things",
            operators(doc! { "_id": 3 }, doc! { "$set": { "k": "a" } }),
        )
        .await;
    assert_eq!(duplicate(update.map(drop)), "k_1");
    store
        .update(
            "things",
            operators(doc! { "_id": 2 }, doc! { "$set": { "k": ["c", "d"] } }),
        )
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 4, "k": "b" }]).await;

    let sparse = IndexSpec {
        sparse: true,
        ..unique(doc! { "email": 1 })
    };
    store.create_index("things", sparse).await.unwrap();
    store
        .update(
            "things",
            operators(doc! { "_id": 1 }, doc! { "$set": { "email": "e" } }),
        )
        .await
        .unwrap();
    let update = store
        .update(
            "things",
            operators(doc! { "_id": 2 }, doc! { "$set": { "email": "e" } }),
        )
        .await;
    assert_eq!(duplicate(update.map(drop)), "email_1");
    // On data that breaks it, the index is refused and leaves no trace.
    insert(
        &store,
        [
            doc! { "_id": 10, "k": 10, "v": 1 },
            doc! { "_id": 11, "k": 11, "v": 1 },
        ],
    )
    .await;
    assert_eq!(
        duplicate(store.create_index("things", unique(doc! { "v": 1 })).await),
        "v_1"
    );
    insert(&store, [doc! { "_id": 12, "k": 12, "v": 1 }]).await;
}

#[tokio::test]
async fn index_definitions_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let refuse = async |spec: IndexSpec, why: &str| {
        let error = store.create_index("things", spec).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().contains(why),
            "{error}"
        );
    };
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "_id": 1 }))
        .await
        .unwrap();
    refuse(
        IndexSpec {
            unique: true,
            ..index(doc! { "a": 1 })
        },
        "another index is named",
    )
    .await;
    refuse(
        IndexSpec {
            name: Some("x".into()),
            ..index(doc! { "a": 1 })
        },
        "same keys",
    )
    .await;
    refuse(index(doc! { "a": "text" }), "1 or -1").await;
    refuse(index(doc! {}), "1 to 32 fields").await;
    refuse(
        IndexSpec {
            expire_after: Some(Duration::from_secs(1)),
            ..index(doc! { "a": 1, "b": 1 })
        },
        "one field",
    )
    .await;
    refuse(
        IndexSpec {
            name: Some("_id_".into()),
            ..index(doc! { "b": 1 })
        },
        "taken",
    )
    .await;
    store
        .create_index("things", index(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "b": 1, "a": 1 }))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_32_concurrent_inserts_wins_a_unique_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "k": 1 })
            },
        )
        .await
        .unwrap();
    for round in 0..5 {
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    store
                        .insert(
                            "things",
                            vec![raw(doc! { "_id": format!("{round}/{n}"), "k": round })],
                        )
                        .await
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => won += 1,
                Err(Error::DuplicateKey { index }) => assert_eq!(index, "k_1"),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
    }
    assert_eq!(store.count("things", doc! {}, None).await.unwrap(), 5);
}

#[tokio::test]
async fn plans_use_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1, "b": -1 }))
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "c": 1 }))
        .await
        .unwrap();
    store
        .create_index(
            "things",
            IndexSpec {
                unique: true,
                ..index(doc! { "u": 1 })
            },
        )
        .await
        .unwrap();
    store
        .create_index(
            "things",
            IndexSpec {
                sparse: true,
                ..index(doc! { "s": 1 })
            },
        )
        .await
        .unwrap();
    store
        .create_index("things", index(doc! { "tags": 1, "d": 1 }))
        .await
        .unwrap();
    insert(&store, [doc! { "_id": 1, "tags": [1, 2], "u": 1 }]).await;
    let check = async |filter: Document, sort: Option<Document>, expected: &str| {
        let find = Find {
            filter: filter.clone(),
            sort: sort.clone(),
            ..Find::default()
        };
        let plan = store.explain("things", find).await.unwrap();
        let index = plan.get_str("index").unwrap_or_default();
        let sorted = plan.get_str("sort").unwrap_or_default();
        let told = format!("{} {index} {sorted}", plan.get_str("stage").unwrap());
        assert_eq!(told.trim(), expected, "{filter} {sort:?}");
    };
    check(doc! {}, None, "scan").await;
    check(doc! { "x": 1 }, None, "scan").await;
    check(doc! { "_id": 1, "c": 1 }, None, "ids").await;
    check(doc! { "_id": { "$in": [1, 2] } }, None, "ids").await;
    check(doc! { "_id": { "$gt": 1 } }, None, "index _id_").await;
    check(doc! { "a": 1 }, None, "index a_1_b_-1").await;
    check(doc! { "b": 1 }, None, "scan").await;
    check(doc! { "c": { "$gt": 1 } }, None, "index c_1").await;
    check(doc! { "c": { "$in": [1, 2] }, "x": 1 }, None, "index c_1").await;
    check(doc! { "c": { "$regex": "^abc" } }, None, "index c_1").await;
    check(doc! { "c": { "$regex": "abc" } }, None, "scan").await;
    check(doc! { "c": 1, "u": 1 }, None, "index u_1").await;
    check(doc! { "c": { "$gt": 1 }, "a": 1 }, None, "index a_1_b_-1").await;
    check(doc! { "c": [1] }, None, "scan").await;
    check(doc! { "c": null }, None, "index c_1").await;
    check(doc! { "s": null }, None, "scan").await;
    check(doc! { "s": "x" }, None, "index s_1").await;
    check(doc! { "tags": 1 }, None, "index tags_1_d_1").await;
    check(
        doc! { "$or": [{ "a": 1 }, { "c": { "$lt": 3 } }] },
        None,
        "union",
    )
    .await;
    check(doc! { "$or": [{ "a": 1 }, { "x": 1 }] }, None, "scan").await;
    check(
        doc! { "$or": [{ "a": 1 }, { "x": 1 }], "c": 1 },
        None,
        "index c_1",
    )
    .await;
    check(doc! {}, Some(doc! { "_id": -1 }), "index _id_ index").await;
    check(doc! {}, Some(doc! { "c": -1 }), "index c_1 index").await;
    check(
        doc! {},
        Some(doc! { "a": 1, "b": -1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! {},
        Some(doc! { "a": -1, "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(doc! {}, Some(doc! { "a": 1, "b": 1 }), "scan  memory").await;
    check(
        doc! { "a": 5 },
        Some(doc! { "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! { "a": 5 },
        Some(doc! { "a": 1, "b": 1 }),
        "index a_1_b_-1 index",
    )
    .await;
    check(
        doc! { "a": { "$in": [5, 6] } },
        Some(doc! { "b": 1 }),
        "index a_1_b_-1 memory",
    )
    .await;
    check(doc! {}, Some(doc! { "tags": 1 }), "scan  memory").await;
    check(doc! {}, Some(doc! { "s": 1 }), "scan  memory").await;
    check(doc! { "x": 1 }, Some(doc! { "x": 1 }), "scan  memory").await;
}

/// Reading in the order of an index gives what sorting in memory gives.
#[tokio::test]
async fn sorts_by_index_and_in_memory_agree() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for set in ["plain", "indexed"] {
        let documents = (0..1_500_i32).map(|n| doc! { "_id": n, "a": n % 7, "b": n * 7_919 % 1_501, "c": format!("{}", n * 31 % 1_501) });
        store
            .insert(set, documents.map(raw).collect())
            .await
            .unwrap();
    }
    store
        .create_index("indexed", index(doc! { "a": 1, "b": 1 }))
        .await
        .unwrap();
    store
        .create_index("indexed", index(doc! { "c": -1 }))
        .await
        .unwrap();
    for (filter, sort) in [
        (doc! {}, doc! { "_id": -1 }),
        (
            doc! { "_id": { "$gte": 100, "$lt": 1_450 } },
            doc! { "_id": -1 },
        ),
        (doc! { "_id": { "$gt": 100 } }, doc! { "_id": 1 }),
        (doc! {}, doc! { "a": 1, "b": 1 }),
        (doc! {}, doc! { "a": -1, "b": -1 }),
        (doc! { "a": 3 }, doc! { "b": -1 }),
        (
            doc! { "a": 3, "b": { "$gt": 200, "$lte": 1_200 } },
            doc! { "b": 1 },
        ),
        (doc! { "b": { "$gt": 200 } }, doc! { "c": 1 }),
        (doc! { "c": { "$gte": "2", "$lt": "8" } }, doc! { "c": 1 }),
        (doc! { "c": { "$in": ["5", "77", "9"] } }, doc! { "c": -1 }),
    ] {
        for (skip, limit) in [(0, None), (0, Some(10)), (1_100, Some(20)), (3, None)] {
            let find = Find {
                filter: filter.clone(),
                sort: Some(sort.clone()),
                skip,
                limit,
                ..Find::default()
            };
            let mut answers = Vec::new();
            for set in ["plain", "indexed"] {
                answers.push(
                    store
                        .find(set, find.clone())
                        .await
                        .unwrap()
                        .all()
                        .await
                        .unwrap(),
                );
            }
            assert_eq!(answers[0], answers[1], "{filter} {sort} {skip} {limit:?}");
        }
    }
}

#[tokio::test]
async fn indexes_and_collections_are_listed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.indexes("things").await.unwrap(), []);
    insert(&store, (0..600).map(|n| doc! { "_id": n, "a": 1, "b": n })).await;
    let spec = IndexSpec {
        unique: true,
        sparse: true,
        ..index(doc! { "b": -1 })
    };
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    store.create_index("things", spec.clone()).await.unwrap();
    let names = async || {
        let specs = store.indexes("things").await.unwrap();
        specs.iter().map(IndexSpec::name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["_id_", "a_1", "b_-1"]);

    // A find that reads an index goes on when the index is dropped under it.
    let filter = doc! { "a": 1, "b": { "$gte": 0 } };
    let mut cursor = store
        .find(
            "things",
            Find {
                filter,
                ..Find::default()
            },
        )
        .await
        .unwrap();
    assert!(cursor.next_batch().await.unwrap().is_some());
    assert!(store.drop_index("things", "a_1").await.unwrap());
    assert!(!store.drop_index("things", "a_1").await.unwrap());
    assert!(!store.drop_index("nothing", "a_1").await.unwrap());
    assert!(matches!(
        store.drop_index("things", "_id_").await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(names().await, ["_id_", "b_-1"]);
    assert_eq!(
        store.count("things", doc! { "a": 1 }, None).await.unwrap(),
        600
    );

    assert!(store.drop_collection("things").await.unwrap());
    assert!(!store.drop_collection("things").await.unwrap());
    assert_eq!(store.collections().await.unwrap(), Vec::<String>::new());
    assert_eq!(store.count("things", doc! {}, None).await.unwrap(), 0);
    insert(
        &store,
        [doc! { "_id": 1, "b": 1 }, doc! { "_id": 2, "b": 1 }],
    )
    .await;
    store.close().await;
    let store = open(folder.path());
    assert_eq!(
        store.count("things", doc! { "b": 1 }, None).await.unwrap(),
        2
    );
}

#[tokio::test]
async fn a_find_outlives_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .create_index("things", index(doc! { "a": 1 }))
        .await
        .unwrap();
    insert(&store, (0..3_000).map(|n| doc! { "_id": n, "a": n % 2 })).await;
    let find = Find {
        filter: doc! { "a": 1 },
        ..Find::default()
    };
    let mut cursor = store.find("things", find).await.unwrap();
    let first = cursor.next_batch().await.unwrap().unwrap().len();
    store.drop_index("things", "a_1").await.unwrap();
    assert_eq!(first + cursor.all().await.unwrap().len(), 1_500);
}
