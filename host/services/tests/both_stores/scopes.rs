//! Grants with conditions: a plugin that may see and change some documents and
//! some of their fields learns and changes nothing of the others, whatever it
//! asks.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::{Fields, Grants, StorageGrant, Verb};
use coglex_services::storage::{Change, Find, Update, ValidationLevel, Validator};
use coglex_services::{Caller, Error, Result};
use serde_json::json;

use crate::support::*;

crate::on_both_stores!(
    a_condition_holds_for_every_way_to_read,
    fields_that_were_not_granted_cannot_be_named,
    a_condition_holds_for_every_way_to_write,
    an_upsert_stays_within_its_condition,
    an_upsert_keeps_every_part_of_its_condition,
    what_a_condition_fills_in_is_under_the_rules,
    a_position_is_never_that_of_the_condition,
    a_schema_does_not_tell_of_other_fields,
    what_is_joined_is_narrowed_as_well,
    array_filters_reach_the_elements_that_they_name,
    what_is_out_of_reach_cannot_be_learned_or_changed,
);

fn documents(store: &Store) -> Documents {
    Documents::new(store.clone(), DocumentLimits::default())
}

fn grant(
    collection: &str,
    filter: Option<serde_json::Value>,
    fields: Option<&[&str]>,
) -> StorageGrant {
    StorageGrant {
        filter: filter.map(|filter| serde_json::from_value(filter).unwrap()),
        fields: fields.map(|names| Fields::new(names.iter().copied()).unwrap()),
        ..StorageGrant::new(collection, Verb::ALL)
    }
}

fn plugin(storage: Vec<StorageGrant>, users: &[(&str, &str)]) -> Caller {
    let grants = Grants {
        storage,
        ..Grants::default()
    };
    let users = users
        .iter()
        .map(|(realm, id)| ((*realm).to_owned(), Bson::from(*id)))
        .collect();
    Caller::Plugin(Arc::new(PluginCaller {
        users,
        ..PluginCaller::new("notes", grants)
    }))
}

/// Owners see their own.
fn owned() -> Vec<StorageGrant> {
    vec![grant("c", Some(json!({"owner": "$caller.users"})), None)]
}

fn filtered(filter: Document) -> Find {
    Find {
        filter,
        ..Find::default()
    }
}

#[track_caller]
fn forbidden<T>(result: Result<T>) {
    match result {
        Err(Error::Forbidden(_)) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was allowed"),
    }
}

async fn two_owners(store: &Store) {
    let notes = [
        doc! { "_id": "a1", "owner": "ann", "title": "one", "secret": 1, "n": 1 },
        doc! { "_id": "b1", "owner": "bob", "title": "two", "secret": 2, "n": 2 },
        doc! { "_id": "a2", "owner": "ann", "title": "three", "secret": 3, "n": 3 },
    ];
    insert(store, "c", &notes).await.unwrap();
}

async fn a_condition_holds_for_every_way_to_read(store: Store) {
    two_owners(&store).await;
    let service = documents(&store);
    let ann = plugin(owned(), &[("users", "ann")]);
    let ids = |documents: Vec<Document>| -> Vec<String> {
        documents
            .iter()
            .map(|document| document.get_str("_id").unwrap().to_owned())
            .collect()
    };
    let find = |filter| service.find(&ann, "c", filtered(filter));
    assert_eq!(
        ids(collect(find(doc! {}).await.unwrap()).await),
        ["a1", "a2"]
    );
    assert_eq!(
        ids(collect(
            find(doc! { "$or": [{ "owner": "bob" }, { "n": 3 }] })
                .await
                .unwrap()
        )
        .await),
        ["a2"]
    );
    assert!(
        service
            .get(&ann, "c", "b1".into(), None)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        service
            .get(&ann, "c", "a1".into(), None)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(service.count(&ann, "c", doc! {}).await.unwrap(), 2);
    assert_eq!(
        service
            .count(&ann, "c", doc! { "owner": "bob" })
            .await
            .unwrap(),
        0
    );
    let mut titles = service.distinct(&ann, "c", "title", doc! {}).await.unwrap();
    titles.sort_by_key(ToString::to_string);
    assert_eq!(titles, [Bson::from("one"), Bson::from("three")]);
    let total = vec![doc! { "$group": { "_id": null, "n": { "$sum": "$n" } } }];
    let made = service
        .aggregate(&ann, "c", total, None, None)
        .await
        .unwrap();
    assert_eq!(collect(made).await, [doc! { "_id": null, "n": 4 }]);

    // For users of another collection, and for nobody, there is nothing.
    for users in [&[][..], &[("admins", "ann")]] {
        let other = plugin(owned(), users);
        forbidden(service.find(&other, "c", Find::default()).await.map(drop));
        forbidden(service.count(&other, "c", doc! {}).await);
        forbidden(service.delete(&other, "c", doc! {}, true).await);
    }
}

async fn fields_that_were_not_granted_cannot_be_named(store: Store) {
    two_owners(&store).await;
    let service = documents(&store);
    let narrow = plugin(vec![grant("c", None, Some(&["title", "n"]))], &[]);
    let whole = service
        .find(&narrow, "c", filtered(doc! { "n": 1 }))
        .await
        .unwrap();
    assert_eq!(
        collect(whole).await,
        [doc! { "_id": "a1", "title": "one", "n": 1 }]
    );
    let got = service
        .get(&narrow, "c", "a1".into(), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Document::try_from(&got).unwrap(),
        doc! { "_id": "a1", "title": "one", "n": 1 }
    );
    let everything = vec![
        doc! { "$match": { "n": 1 } },
        doc! { "$project": { "all": "$$ROOT", "s": "$secret" } },
    ];
    let made = service
        .aggregate(&narrow, "c", everything, None, None)
        .await
        .unwrap();
    assert_eq!(
        collect(made).await,
        [doc! { "_id": "a1", "all": { "_id": "a1", "title": "one", "n": 1 } }]
    );

    for filter in [
        doc! { "secret": { "$gt": 1 } },
        doc! { "secret.a": 1 },
        doc! { "$or": [{ "n": 1 }, { "$nor": [{ "secret": 1 }] }] },
        doc! { "$expr": { "$gt": ["$secret", 1] } },
        doc! { "$and": [{ "$expr": { "$let": { "vars": { "x": "$secret" }, "in": { "$gt": ["$$x", 1] } } } }] },
    ] {
        forbidden(
            service
                .find(&narrow, "c", filtered(filter.clone()))
                .await
                .map(drop),
        );
        forbidden(service.count(&narrow, "c", filter.clone()).await);
        forbidden(
            service
                .distinct(&narrow, "c", "title", filter.clone())
                .await,
        );
        forbidden(service.delete(&narrow, "c", filter.clone(), true).await);
        let set = Change::Operators(doc! { "$set": { "n": 9 } });
        forbidden(service.update(&narrow, "c", filter, set, true, false).await);
    }
    let find = |find: Find| service.find(&narrow, "c", find);
    forbidden(
        find(Find {
            sort: Some(doc! { "secret": 1 }),
            ..Find::default()
        })
        .await
        .map(drop),
    );
    forbidden(
        find(Find {
            projection: Some(doc! { "secret": 1 }),
            ..Find::default()
        })
        .await
        .map(drop),
    );
    forbidden(service.distinct(&narrow, "c", "secret", doc! {}).await);

    for operators in [
        doc! { "$set": { "secret": 9 } },
        doc! { "$unset": { "owner": "" } },
        doc! { "$rename": { "title": "secret" } },
        doc! { "$rename": { "secret": "title" } },
        doc! { "$push": { "secret.list": 1 } },
    ] {
        let change = Change::Operators(operators);
        forbidden(
            service
                .update(&narrow, "c", doc! {}, change, true, false)
                .await,
        );
    }
    forbidden(
        service
            .insert(&narrow, "c", vec![doc! { "title": "x", "secret": 1 }])
            .await,
    );
    forbidden(
        service
            .replace(&narrow, "c", doc! { "n": 1 }, doc! { "title": "x" }, false)
            .await,
    );
    service
        .insert(&narrow, "c", vec![doc! { "title": "x" }])
        .await
        .unwrap();
    assert_eq!(one(&store, "c", "a1").await.get_i32("secret").ok(), Some(1));
}

async fn a_condition_holds_for_every_way_to_write(store: Store) {
    two_owners(&store).await;
    let service = documents(&store);
    let ann = plugin(owned(), &[("users", "ann")]);
    let set = |fields: Document| Change::Operators(doc! { "$set": fields });

    // What is fixed is filled in, and nothing else can be put there.
    service
        .insert(&ann, "c", vec![doc! { "_id": "a3", "title": "mine" }])
        .await
        .unwrap();
    assert_eq!(
        one(&store, "c", "a3").await.get_str("owner").ok(),
        Some("ann")
    );
    forbidden(
        service
            .insert(
                &ann,
                "c",
                vec![doc! { "title": "x" }, doc! { "owner": "bob" }],
            )
            .await,
    );
    assert_eq!(all(&store, "c", doc! {}).await.len(), 4);

    let outcome = service
        .update(&ann, "c", doc! {}, set(doc! { "done": true }), true, false)
        .await
        .unwrap();
    assert_eq!(outcome.matched, 3);
    assert!(!one(&store, "c", "b1").await.contains_key("done"));
    for operators in [
        doc! { "$set": { "owner": "bob" } },
        doc! { "$set": { "owner.name": "bob" } },
        doc! { "$unset": { "owner": "" } },
        doc! { "$rename": { "owner": "was" } },
        doc! { "$rename": { "title": "owner" } },
        doc! { "$setOnInsert": { "owner": "bob" } },
    ] {
        let change = Change::Operators(operators);
        forbidden(
            service
                .update(&ann, "c", doc! {}, change, true, false)
                .await,
        );
    }

    let replaced = service
        .replace(&ann, "c", doc! { "_id": "b1" }, doc! { "x": 1 }, false)
        .await
        .unwrap();
    assert_eq!(replaced.matched, 0);
    forbidden(
        service
            .replace(
                &ann,
                "c",
                doc! { "_id": "a1" },
                doc! { "owner": "bob" },
                false,
            )
            .await,
    );
    let replaced = service
        .replace(&ann, "c", doc! { "_id": "a1" }, doc! { "x": 1 }, false)
        .await
        .unwrap();
    assert_eq!((replaced.matched, replaced.modified), (1, 1));
    assert_eq!(
        one(&store, "c", "a1").await,
        doc! { "_id": "a1", "x": 1, "owner": "ann" }
    );

    assert_eq!(
        service
            .delete(&ann, "c", doc! { "_id": "b1" }, false)
            .await
            .unwrap(),
        0
    );
    assert_eq!(service.delete(&ann, "c", doc! {}, true).await.unwrap(), 3);
    assert_eq!(all(&store, "c", doc! {}).await.len(), 1);
}

async fn an_upsert_stays_within_its_condition(store: Store) {
    two_owners(&store).await;
    let service = documents(&store);
    let ann = plugin(owned(), &[("users", "ann")]);
    let set = || Change::Operators(doc! { "$set": { "title": "new" } });
    let outcome = service
        .update(&ann, "c", doc! { "_id": "a9" }, set(), false, true)
        .await
        .unwrap();
    assert_eq!(outcome.upserted_id, Some("a9".into()));
    assert_eq!(
        one(&store, "c", "a9").await.get_str("owner").ok(),
        Some("ann")
    );
    forbidden(
        service
            .update(&ann, "c", doc! { "owner": "bob" }, set(), false, true)
            .await,
    );
    forbidden(
        service
            .update(
                &ann,
                "c",
                doc! { "$and": [{ "owner": "bob" }] },
                set(),
                false,
                true,
            )
            .await,
    );
    // The document of another cannot be met, and its `_id` cannot be had twice.
    let taken = service
        .update(&ann, "c", doc! { "_id": "b1" }, set(), false, true)
        .await;
    assert!(matches!(taken, Err(Error::Conflict(_))), "{taken:?}");

    let more_than_equal = vec![grant("c", Some(json!({"n": {"$gt": 1}})), None)];
    let caller = plugin(more_than_equal, &[]);
    forbidden(
        service
            .update(&caller, "c", doc! { "n": 2 }, set(), false, true)
            .await,
    );
    let unlike = vec![
        StorageGrant::new("c", [Verb::Update]),
        StorageGrant {
            verbs: vec![Verb::Insert],
            ..owned().remove(0)
        },
    ];
    let caller = plugin(unlike, &[("users", "ann")]);
    forbidden(
        service
            .update(&caller, "c", doc! { "_id": "x" }, set(), false, true)
            .await,
    );
    assert_eq!(all(&store, "c", doc! {}).await.len(), 4);
}

async fn an_upsert_keeps_every_part_of_its_condition(store: Store) {
    let notes = [
        doc! { "_id": 1, "team": "a", "tags": ["a"] },
        doc! { "_id": 2, "team": "b", "tags": ["b"] },
    ];
    insert(&store, "c", &notes).await.unwrap();
    let service = documents(&store);
    let set = || Change::Operators(doc! { "$set": { "seen": true } });
    for condition in [
        json!({"$and": [{"team": "a"}, {"team": {"$eq": "b"}}]}),
        json!({"$and": [{"tags": "a"}, {"tags": "b"}]}),
        json!({"$and": [{"team.of": "a"}, {"team": "b"}]}),
    ] {
        let caller = plugin(vec![grant("c", Some(condition), None)], &[]);
        for many in [false, true] {
            forbidden(
                service
                    .update(&caller, "c", doc! {}, set(), many, true)
                    .await,
            );
        }
        let updated = service.update(&caller, "c", doc! {}, set(), true, false);
        assert_eq!(updated.await.unwrap().matched, 0);
    }
    assert_eq!(all(&store, "c", doc! { "seen": true }).await, []);

    let same = json!({"$and": [{"team": "a"}, {"team": {"$eq": "a"}}]});
    let caller = plugin(vec![grant("c", Some(same), None)], &[]);
    let filter = doc! { "_id": "new" };
    let updated = service.update(&caller, "c", filter, set(), false, true);
    assert_eq!(updated.await.unwrap().upserted_id, Some("new".into()));
    assert_eq!(
        one(&store, "c", "new").await,
        doc! { "_id": "new", "team": "a", "seen": true }
    );
}

async fn what_a_condition_fills_in_is_under_the_rules(store: Store) {
    let service = documents(&store);
    for condition in [
        json!({"_key": "ann"}),
        json!({"_id": 5}),
        json!({"_id": {"$eq": {"a": 1}}}),
    ] {
        let caller = plugin(vec![grant("c", Some(condition.clone()), None)], &[]);
        let inserted = service.insert(&caller, "c", vec![doc! { "n": 1 }]).await;
        assert!(
            matches!(inserted, Err(Error::Forbidden(_) | Error::Invalid(_))),
            "{condition}: {inserted:?}"
        );
        for change in [
            Change::Operators(doc! { "$set": { "n": 1 } }),
            Change::Replacement(doc! { "n": 1 }),
        ] {
            let made = service.update(&caller, "c", doc! {}, change, false, true);
            let made = made.await;
            assert!(
                matches!(made, Err(Error::Forbidden(_) | Error::Invalid(_))),
                "{condition}: {made:?}"
            );
        }
    }
    assert_eq!(all(&store, "c", doc! {}).await, []);
}

async fn a_position_is_never_that_of_the_condition(store: Store) {
    let team = doc! {
        "_id": 1,
        "members": ["bob", "ann"],
        "items": [{ "sku": "x", "qty": 1 }, { "sku": "y", "qty": 1 }],
    };
    insert(&store, "c", std::slice::from_ref(&team))
        .await
        .unwrap();
    let service = documents(&store);
    let condition = json!({"members": "$caller.users"});
    let ann = plugin(vec![grant("c", Some(condition), None)], &[("users", "ann")]);
    let filter = || doc! { "items.sku": "x" };
    for operators in [
        doc! { "$set": { "items.$.qty": 9 } },
        doc! { "$inc": { "items.$.qty": 8 } },
    ] {
        forbidden(service.apply(&ann, "c", set(filter(), operators)).await);
    }
    for projection in [doc! { "items.$": 1 }, doc! { "members.$": 1 }] {
        let find = Find {
            projection: Some(projection.clone()),
            ..filtered(filter())
        };
        forbidden(service.find(&ann, "c", find).await.map(drop));
        forbidden(service.get(&ann, "c", 1.into(), Some(projection)).await);
    }
    assert_eq!(one(&store, "c", 1).await, team);
    // What the sentences point to.
    let named = Update {
        array_filters: vec![doc! { "x.sku": "x" }],
        ..set(filter(), doc! { "$set": { "items.$[x].qty": 9 } })
    };
    service.apply(&ann, "c", named).await.unwrap();
    let find = Find {
        projection: Some(doc! { "items": { "$elemMatch": { "qty": 9 } } }),
        ..filtered(filter())
    };
    assert_eq!(
        collect(service.find(&ann, "c", find).await.unwrap()).await,
        [doc! { "_id": 1, "items": [{ "sku": "x", "qty": 9 }] }]
    );
}

async fn a_schema_does_not_tell_of_other_fields(store: Store) {
    let stored = doc! { "_id": 1, "title": "t", "secret": "long ago" };
    insert(&store, "c", &[stored]).await.unwrap();
    let schema = doc! {
        "properties": { "title": { "bsonType": "string" }, "secret": { "maxLength": 3 } },
        "dependencies": { "secret": ["n"] },
        "maxProperties": 2,
    };
    let validator = Validator {
        schema,
        level: ValidationLevel::Strict,
    };
    store.set_validator("c", Some(validator)).await.unwrap();
    let service = documents(&store);
    let caller = plugin(vec![grant("c", None, Some(&["title", "n"]))], &[]);
    let change = Change::Operators(doc! { "$set": { "title": 5 } });
    let update = service.update(&caller, "c", doc! {}, change, false, false);
    let error = update.await.unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let Error::DocumentInvalid { failures } = error else {
        panic!("{error:?}");
    };
    // A store may say nothing of what a document fails.
    for failure in failures {
        let told = format!("{failure:?}");
        assert!(["/title", "/n"].contains(&failure.path.as_str()), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
    let inserted = service.insert(&caller, "c", vec![doc! { "title": 5 }]);
    let Err(Error::DocumentInvalid { failures }) = inserted.await else {
        panic!("it was inserted");
    };
    assert!(failures.iter().all(|failure| failure.path == "/title"));
}

async fn what_is_joined_is_narrowed_as_well(store: Store) {
    two_owners(&store).await;
    insert(
        &store,
        "open",
        &[
            doc! { "_id": 1, "of": "ann" },
            doc! { "_id": 2, "of": "bob" },
        ],
    )
    .await
    .unwrap();
    let service = documents(&store);
    let mut grants = vec![grant(
        "c",
        Some(json!({"owner": "$caller.users"})),
        Some(&["owner", "n"]),
    )];
    grants.push(StorageGrant::new("open", [Verb::Read]));
    let ann = plugin(grants, &[("users", "ann")]);
    let join =
        |options: Document| vec![doc! { "$lookup": options }, doc! { "$sort": { "_id": 1 } }];
    let plain = doc! { "from": "c", "localField": "of", "foreignField": "owner", "as": "all" };
    let expected = [
        doc! { "_id": 1, "of": "ann", "all": [{ "_id": "a1", "owner": "ann", "n": 1 }, { "_id": "a2", "owner": "ann", "n": 3 }] },
        doc! { "_id": 2, "of": "bob", "all": [] },
    ];
    let made = service
        .aggregate(&ann, "open", join(plain.clone()), None, None)
        .await
        .unwrap();
    assert_eq!(collect(made).await, expected);
    let mut inside = plain.clone();
    inside.insert(
        "pipeline",
        vec![doc! { "$match": { "secret": { "$exists": false } } }],
    );
    let made = service
        .aggregate(&ann, "open", join(inside), None, None)
        .await
        .unwrap();
    assert_eq!(collect(made).await, expected);
    let mut by_secret = plain.clone();
    by_secret.insert("foreignField", "secret");
    forbidden(
        service
            .aggregate(&ann, "open", join(by_secret), None, None)
            .await
            .map(drop),
    );
    let mut elsewhere = plain;
    elsewhere.insert("from", "others");
    forbidden(
        service
            .aggregate(&ann, "open", join(elsewhere), None, None)
            .await
            .map(drop),
    );
}

async fn array_filters_reach_the_elements_that_they_name(store: Store) {
    insert(
        &store,
        "c",
        &[doc! { "_id": 1, "list": [{ "n": 1, "ok": false }, { "n": 5, "ok": false }] }],
    )
    .await
    .unwrap();
    let service = documents(&store);
    let update = |operators: Document, filters: Vec<Document>| Update {
        array_filters: filters,
        ..set(doc! {}, operators)
    };
    let apply = |update| service.apply(&Caller::ApiKey, "c", update);
    let outcome = apply(update(
        doc! { "$set": { "list.$[x].ok": true } },
        vec![doc! { "x.n": { "$gt": 2 } }],
    ))
    .await
    .unwrap();
    assert_eq!(outcome.modified, 1);
    assert_eq!(
        one(&store, "c", 1).await,
        doc! { "_id": 1, "list": [{ "n": 1, "ok": false }, { "n": 5, "ok": true }] }
    );
    let code = |result: Result<_>| match result {
        Ok(_) => "ok",
        Err(Error::Invalid(_)) => "invalid",
        Err(Error::Forbidden(_)) => "forbidden",
        Err(_) => "other",
    };
    let operators = || doc! { "$set": { "list.$[x].ok": true } };
    for (filters, expected) in [
        (vec![], "invalid"),
        (vec![doc! { "y": 1 }], "invalid"),
        (vec![doc! { "x.n": 1 }, doc! { "y.n": 1 }], "invalid"),
        (vec![doc! { "x._password": 1 }], "forbidden"),
        (vec![doc! { "x.n": { "$where": "1" } }], "invalid"),
        (vec![doc! { "x.n": 1 }; 101], "invalid"),
    ] {
        let shown = format!("{filters:?}");
        assert_eq!(
            code(apply(update(operators(), filters)).await.map(drop)),
            expected,
            "{shown}"
        );
    }
    // They go with conditions and fields like any other update.
    let narrow = plugin(
        vec![grant("c", Some(json!({"_id": 2})), Some(&["list"]))],
        &[],
    );
    let changed = service
        .apply(&narrow, "c", update(operators(), vec![doc! { "x.n": 1 }]))
        .await
        .unwrap();
    assert_eq!(changed.matched, 0);
}

/// Two collections that differ in nothing but what the plugin cannot reach get
/// the same random questions and changes. The answers must not differ, and what
/// is out of reach must stay as it was.
async fn what_is_out_of_reach_cannot_be_learned_or_changed(store: Store) {
    let rounds = match std::env::var("COGLEX_TEST_SCOPE_ROUNDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 12,
    };
    for seed in 0..rounds {
        let mut random = Random(seed * 7_919 + 13);
        let (left, right) = (format!("left{seed}"), format!("righ{seed}"));
        let reachable = |n: i32| doc! { "_id": format!("own{n}"), "owner": "ann", "title": format!("t{}", n % 3), "n": n % 4, "list": [n % 3, 2] };
        for (name, with_others) in [(&left, true), (&right, false)] {
            let mut all = Vec::new();
            for n in 0..8 {
                let mut document = reachable(n);
                document.insert("secret", if with_others { n % 3 } else { 7 });
                all.push(document);
                if with_others {
                    all.push(doc! { "_id": format!("not{n}"), "owner": "bob", "title": format!("t{}", n % 3), "n": n % 4, "secret": n });
                }
            }
            insert(&store, name, &all).await.unwrap();
        }
        let out_of_reach = async |name: &str| {
            let mut all = all(&store, name, doc! {}).await;
            all.retain(|document| document.get_str("owner").ok() != Some("ann"));
            all
        };
        let before = out_of_reach(&left).await;
        let fields: &[&str] = &["title", "n", "list", "owner"];
        // Alone, with the same again, and with what leaves nothing.
        let condition = match seed % 4 {
            2 => json!({"$and": [{"owner": "$caller.users"}, {"owner": {"$eq": "ann"}}]}),
            3 => json!({"$and": [{"owner": "$caller.users"}, {"owner": {"$eq": "bob"}}]}),
            _ => json!({"owner": "$caller.users"}),
        };
        let grants = |name: &str| vec![grant(name, Some(condition.clone()), Some(fields))];
        let service = documents(&store);
        for step in 0..40 {
            let ask = random.ask(step);
            let mut answers = Vec::new();
            for name in [&left, &right] {
                let ann = plugin(grants(name), &[("users", "ann")]);
                let answer = answer(&service, &ann, name, &ask).await;
                answers.push(answer.replace(name.as_str(), "c"));
            }
            assert_eq!(answers[0], answers[1], "seed {seed}, step {step}: {ask:?}");
        }
        assert_eq!(out_of_reach(&left).await, before, "seed {seed}");
        for document in all(&store, &left, doc! { "_id": { "$regex": "^own[0-9]" } }).await {
            assert!(document.contains_key("secret"), "seed {seed}: {document}");
        }
    }
}

#[derive(Debug)]
pub(crate) enum Ask {
    Find(Find),
    Count(Document),
    Distinct(&'static str, Document),
    Aggregate(Vec<Document>),
    Insert(Document),
    Update(Box<Update>),
    Delete(Document),
}

pub(crate) async fn answer(service: &Documents, caller: &Caller, name: &str, ask: &Ask) -> String {
    use futures_util::TryStreamExt as _;
    let listed = |found: Vec<bson::RawDocumentBuf>| format!("{found:?}");
    let result: Result<String> = match ask {
        Ask::Find(find) => match service.find(caller, name, find.clone()).await {
            Ok(found) => found.try_collect().await.map(listed).map_err(Error::from),
            Err(error) => Err(error),
        },
        Ask::Count(filter) => service
            .count(caller, name, filter.clone())
            .await
            .map(|n| n.to_string()),
        Ask::Distinct(path, filter) => service
            .distinct(caller, name, path, filter.clone())
            .await
            .map(|values| {
                let mut values: Vec<String> = values.iter().map(ToString::to_string).collect();
                values.sort();
                values.join(",")
            }),
        Ask::Aggregate(stages) => {
            let stages: Vec<Document> = stages
                .iter()
                .map(|stage| joined_with(stage, name))
                .collect();
            match service.aggregate(caller, name, stages, None, None).await {
                Ok(made) => made.try_collect().await.map(listed).map_err(Error::from),
                Err(error) => Err(error),
            }
        }
        Ask::Insert(document) => service
            .insert(caller, name, vec![document.clone()])
            .await
            .map(|ids| format!("{ids:?}")),
        Ask::Update(update) => service
            .apply(caller, name, (**update).clone())
            .await
            .map(|outcome| format!("{outcome:?}")),
        Ask::Delete(filter) => service
            .delete(caller, name, filter.clone(), true)
            .await
            .map(|n| n.to_string()),
    };
    result.unwrap_or_else(|error| format!("{error}"))
}

/// A join is with the collection itself.
fn joined_with(stage: &Document, name: &str) -> Document {
    let mut stage = stage.clone();
    if let Ok(options) = stage.get_document_mut("$lookup") {
        options.insert("from", name);
    }
    stage
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn path(&mut self) -> &'static str {
        [
            "title", "n", "list", "owner", "secret", "_id", "secret.x", "list.0",
        ][self.below(8)]
    }

    fn value(&mut self) -> Bson {
        match self.below(5) {
            0 => "t1".into(),
            1 => "bob".into(),
            2 => Bson::Null,
            n => Bson::Int32(n as i32 - 2),
        }
    }

    pub(crate) fn filter(&mut self) -> Document {
        let (path, value) = (self.path(), self.value());
        match self.below(7) {
            0 => doc! {},
            1 => doc! { path: { "$gt": value } },
            2 => doc! { path: { "$exists": true } },
            3 => doc! { "$or": [{ path: value }, { "n": 1 }] },
            4 => doc! { "$expr": { "$gte": [format!("${path}"), value] } },
            5 => doc! { path: { "$nin": [value] } },
            _ => doc! { path: value },
        }
    }

    fn stage(&mut self) -> Document {
        let path = format!("${}", self.path());
        match self.below(9) {
            0 => doc! { "$match": self.filter() },
            1 => {
                doc! { "$group": { "_id": path, "n": { "$sum": 1 }, "all": { "$push": "$$ROOT" } } }
            }
            2 => doc! { "$project": { "x": path, "whole": "$$ROOT" } },
            3 => doc! { "$sortByCount": path },
            4 => doc! { "$addFields": { "pairs": { "$objectToArray": "$$CURRENT" } } },
            5 => doc! { "$facet": { "a": [{ "$match": self.filter() }, { "$count": "n" }] } },
            6 => {
                doc! { "$lookup": { "from": "c", "localField": "n", "foreignField": self.path(), "as": "j" } }
            }
            7 => {
                doc! { "$lookup": { "from": "c", "let": { "x": path }, "as": "j", "pipeline": [{ "$match": self.filter() }, { "$project": { "all": "$$ROOT" } }] } }
            }
            _ => doc! { "$unset": "n" },
        }
    }

    pub(crate) fn ask(&mut self, step: usize) -> Ask {
        let path = self.path();
        match self.below(9) {
            0 => Ask::Count(self.filter()),
            1 => Ask::Distinct(path, self.filter()),
            2 | 3 => {
                let mut stages = vec![doc! { "$sort": { "_id": 1 } }, self.stage()];
                if self.below(2) == 0 {
                    stages.push(self.stage());
                }
                // Groups come in no order.
                stages.push(doc! { "$sort": { "_id": 1 } });
                Ask::Aggregate(stages)
            }
            4 => {
                let mut document = doc! { "_id": format!("own-{step}"), "title": "t1", "n": 1 };
                if self.below(2) == 0 {
                    document.insert(["owner", "secret"][self.below(2)], self.value());
                }
                Ask::Insert(document)
            }
            5 | 6 => {
                let operators = match self.below(6) {
                    5 => doc! { "$set": { "list.$": 4 } },
                    0 => doc! { "$set": { path: self.value() } },
                    1 => doc! { "$unset": { path: "" } },
                    2 => doc! { "$rename": { "title": path } },
                    3 => doc! { "$min": { path: 0 }, "$push": { "list": 9 } },
                    _ => doc! { "$set": { "list.$[x]": 4 } },
                };
                let array_filters = match operators.to_string().contains("$[x]") {
                    true => vec![doc! { "x": { "$gt": 1 } }],
                    false => Vec::new(),
                };
                let (mut filter, upsert) = (self.filter(), self.below(3) == 0);
                if upsert {
                    if self.below(3) == 0 {
                        filter = doc! { "$and": [filter, { "n": 1 }] };
                    }
                    // One that is made up would be another in each collection.
                    filter.insert("_id", format!("own-u{}", self.below(5)));
                }
                Ask::Update(Box::new(Update {
                    filter,
                    change: Change::Operators(operators),
                    many: self.below(2) == 0,
                    upsert,
                    array_filters,
                }))
            }
            7 if self.below(4) == 0 => {
                let mut filter = self.filter();
                filter.insert("n", 3);
                Ask::Delete(filter)
            }
            _ => Ask::Find(Find {
                filter: self.filter(),
                sort: (self.below(2) == 0).then(|| doc! { path: 1, "_id": -1 }),
                projection: match self.below(6) {
                    0 | 1 => Some(doc! { self.path(): 1 }),
                    2 => Some(doc! { "list.$": 1 }),
                    _ => None,
                },
                skip: self.below(3) as u64,
                limit: (self.below(2) == 0).then_some(4),
                ..Find::default()
            }),
        }
    }
}
