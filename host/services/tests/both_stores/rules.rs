//! Access rules: what a signed-in user may do is what the rules say, whatever is asked.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use coglex_services::accounts::User;
use coglex_services::caller::UserCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::rules::Rules;
use coglex_services::storage::{Change, Find};
use coglex_services::{Caller, Error, Result};

use crate::scopes::{Random, answer};
use crate::support::*;

crate::on_both_stores!(
    without_rules_a_user_is_nobody,
    rules_hold_for_every_way_to_read_and_write,
    a_rule_holds_before_and_after_an_update,
    what_a_user_does_not_have_never_matches,
    roles_let_in_and_are_not_ones_own_to_change,
    masks_hide_and_protect_fields,
    what_is_joined_is_under_its_own_rules,
    rules_change_on_every_host_at_once,
    rules_that_cannot_be_are_refused,
    what_rules_leave_out_cannot_be_learned_or_changed,
    a_further_condition_never_shows_more,
);

fn documents(store: &Store) -> Documents {
    Documents::new(store.clone(), DocumentLimits::default())
}

/// A user of a realm, as the guard makes one.
async fn user(rules: &Rules, realm: &str, mut document: Document) -> Caller {
    let id: Bson = document.get("_id").cloned().unwrap();
    document.insert("_key", "key");
    Caller::User(Arc::new(UserCaller {
        user: User {
            realm: realm.into(),
            id,
            key: "key".into(),
            document,
        },
        rules: rules.current().await.unwrap(),
    }))
}

async fn ann(rules: &Rules) -> Caller {
    user(rules, "users", doc! { "_id": "ann" }).await
}

#[track_caller]
fn forbidden<T>(result: Result<T>) {
    match result {
        Err(Error::Forbidden(_)) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was allowed"),
    }
}

async fn ids(
    service: &Documents,
    caller: &Caller,
    collection: &str,
    filter: Document,
) -> Vec<String> {
    let find = Find {
        filter,
        sort: Some(doc! { "_id": 1 }),
        ..Find::default()
    };
    let found = collect(service.find(caller, collection, find).await.unwrap()).await;
    let id = |document: &Document| document.get_str("_id").unwrap().to_owned();
    found.iter().map(id).collect()
}

async fn change(
    service: &Documents,
    caller: &Caller,
    filter: Document,
    operators: Document,
) -> Result<u64> {
    let change = Change::Operators(operators);
    let done = service.update(caller, "notes", filter, change, true, false);
    done.await.map(|outcome| outcome.matched)
}

/// Ann's a, Bob's b, and one that is nobody's.
async fn notes(store: &Store) {
    let notes = [
        doc! { "_id": "a", "owner": "ann", "state": "draft", "n": 1 },
        doc! { "_id": "b", "owner": "bob", "state": "draft", "n": 2, "public": true },
        doc! { "_id": "c", "owner": null, "n": 3 },
        doc! { "_id": "d", "n": 4 },
    ];
    insert(store, "notes", &notes).await.unwrap();
}

fn own() -> Document {
    let own = doc! { "owner": "$caller._id" };
    doc! { "users": { "read": own.clone(), "create": own.clone(), "update": own.clone(), "delete": own } }
}

async fn without_rules_a_user_is_nobody(store: Store) {
    notes(&store).await;
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let caller = ann(&rules).await;
    forbidden(service.count(&caller, "notes", doc! {}).await);
    // Rules for others are none for users.
    rules
        .set("notes", &doc! { "admins": { "read": true } })
        .await
        .unwrap();
    let caller = ann(&rules).await;
    forbidden(service.count(&caller, "notes", doc! {}).await);
    forbidden(service.insert(&caller, "notes", vec![doc! {}]).await);
    // One verb does not bring another.
    rules
        .set("notes", &doc! { "users": { "read": true } })
        .await
        .unwrap();
    let caller = ann(&rules).await;
    assert_eq!(service.count(&caller, "notes", doc! {}).await.unwrap(), 4);
    forbidden(service.insert(&caller, "notes", vec![doc! {}]).await);
    forbidden(change(&service, &caller, doc! {}, doc! { "$set": { "n": 1 } }).await);
    forbidden(service.delete(&caller, "notes", doc! {}, true).await);
    forbidden(service.indexes(&caller, "notes").await);
    forbidden(service.schema(&caller, "notes").await);
    assert!(rules.remove("notes").await.unwrap());
    assert!(!rules.remove("notes").await.unwrap());
    forbidden(service.count(&ann(&rules).await, "notes", doc! {}).await);
}

async fn rules_hold_for_every_way_to_read_and_write(store: Store) {
    notes(&store).await;
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    rules.set("notes", &own()).await.unwrap();
    let caller = ann(&rules).await;
    assert_eq!(ids(&service, &caller, "notes", doc! {}).await, ["a"]);
    assert_eq!(
        ids(
            &service,
            &caller,
            "notes",
            doc! { "$or": [{ "n": 2 }, { "n": 1 }] }
        )
        .await,
        ["a"]
    );
    assert!(
        service
            .get(&caller, "notes", "b".into(), None)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        service
            .distinct(&caller, "notes", "n", doc! {})
            .await
            .unwrap(),
        [Bson::Int32(1)]
    );
    let counted = service
        .aggregate(&caller, "notes", vec![doc! { "$count": "n" }], None, None)
        .await
        .unwrap();
    assert_eq!(collect(counted).await, [doc! { "n": 1 }]);
    // What the rule fixes is filled in; what is not one's own cannot be made.
    service
        .insert(&caller, "notes", vec![doc! { "_id": "e" }])
        .await
        .unwrap();
    assert_eq!(
        one(&store, "notes", "e").await,
        doc! { "_id": "e", "owner": "ann" }
    );
    for owner in [Bson::from("bob"), Bson::Null, Bson::from(vec!["x"])] {
        let other = doc! { "_id": "f", "owner": owner };
        forbidden(service.insert(&caller, "notes", vec![other]).await);
    }
    assert_eq!(
        change(&service, &caller, doc! {}, doc! { "$inc": { "n": 10 } })
            .await
            .unwrap(),
        2
    );
    assert_eq!(one(&store, "notes", "b").await.get_i32("n").unwrap(), 2);
    let upsert = service.update(
        &caller,
        "notes",
        doc! { "_id": "g" },
        Change::Operators(doc! { "$set": { "n": 1 } }),
        false,
        true,
    );
    forbidden(upsert.await);
    assert_eq!(
        service
            .delete(&caller, "notes", doc! {}, true)
            .await
            .unwrap(),
        2
    );
    assert_eq!(all(&store, "notes", doc! {}).await.len(), 3);
}

async fn a_rule_holds_before_and_after_an_update(store: Store) {
    notes(&store).await;
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let update = doc! { "owner": "$caller._id", "state": { "$in": ["draft", "review"] } };
    rules
        .set(
            "notes",
            &doc! { "users": { "read": true, "update": update } },
        )
        .await
        .unwrap();
    let caller = ann(&rules).await;
    let set = |fields: Document| change(&service, &caller, doc! {}, doc! { "$set": fields });
    // From one state into another that the rule knows, and no further.
    assert_eq!(set(doc! { "state": "review" }).await.unwrap(), 1);
    assert_eq!(
        one(&store, "notes", "b").await.get_str("state").unwrap(),
        "draft"
    );
    forbidden(set(doc! { "state": "published" }).await);
    // No hand-over, in whatever words.
    forbidden(set(doc! { "owner": "bob" }).await);
    forbidden(set(doc! { "owner.x": "bob" }).await);
    for operators in [
        doc! { "$unset": { "owner": "" } },
        doc! { "$rename": { "owner": "former" } },
        doc! { "$rename": { "state": "owner" } },
        doc! { "$min": { "owner": "a" } },
        doc! { "$push": { "state": 1 } },
        doc! { "$set": { "state": "draft" }, "$currentDate": { "owner": true } },
        doc! { "$setOnInsert": { "owner": "bob" } },
    ] {
        forbidden(change(&service, &caller, doc! {}, operators).await);
    }
    assert_eq!(
        set(doc! { "owner": "ann", "state": "draft", "n": 7 })
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        one(&store, "notes", "a").await,
        doc! { "_id": "a", "owner": "ann", "state": "draft", "n": 7 }
    );
    // A rule that allows more owners allows a hand-over among them.
    let update = doc! { "$or": [{ "owner": "$caller._id" }, { "editors": "$caller._id" }] };
    rules
        .set(
            "notes",
            &doc! { "users": { "read": true, "update": update } },
        )
        .await
        .unwrap();
    let caller = ann(&rules).await;
    let set = |fields: Document| {
        change(
            &service,
            &caller,
            doc! { "_id": "a" },
            doc! { "$set": fields },
        )
    };
    // Ann is no editor yet: nothing is found for which it would hold afterwards.
    assert_eq!(set(doc! { "owner": "bob" }).await.unwrap(), 0);
    assert_eq!(set(doc! { "editors": ["ann"] }).await.unwrap(), 1);
    assert_eq!(set(doc! { "owner": "bob" }).await.unwrap(), 1);
    forbidden(set(doc! { "owner": "bob", "editors": [] }).await);
    // What cannot be seen cannot be found to be changed.
    rules
        .set(
            "notes",
            &doc! { "users": { "read": { "public": true }, "update": true, "delete": true } },
        )
        .await
        .unwrap();
    let caller = ann(&rules).await;
    assert_eq!(
        change(&service, &caller, doc! {}, doc! { "$set": { "m": 1 } })
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        service
            .delete(&caller, "notes", doc! { "n": 3 }, true)
            .await
            .unwrap(),
        0
    );
    forbidden(
        change(
            &service,
            &caller,
            doc! {},
            doc! { "$set": { "public": false } },
        )
        .await,
    );
}

async fn what_a_user_does_not_have_never_matches(store: Store) {
    notes(&store).await;
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let with = async |rule: Bson, user_document: Document| {
        rules
            .set("notes", &doc! { "users": { "read": rule } })
            .await
            .unwrap();
        let caller = user(&rules, "users", user_document).await;
        service.count(&caller, "notes", doc! {}).await
    };
    let ann = |field: Bson| doc! { "_id": "ann", "team": field };
    let team = |test: Bson| Bson::from(doc! { "owner": test });
    // Null and absent owners are not those of a user without a team, nor do patterns,
    // operators or lists with such in them mean what they say.
    for none in [
        doc! { "_id": "ann" },
        ann(Bson::Null),
        ann(doc! { "$ne": 1 }.into()),
        ann(doc! {}.into()),
        ann(Bson::from(Vec::<Bson>::new())),
        ann(Bson::from(vec![Bson::Null])),
        ann(Bson::from(vec![Bson::from("bob"), doc! { "x": 1 }.into()])),
        ann(bson::Regex {
            pattern: ".*".try_into().unwrap(),
            options: "".try_into().unwrap(),
        }
        .into()),
    ] {
        for test in [
            team("$caller.team".into()),
            team(doc! { "$ne": "$caller.team" }.into()),
            team(doc! { "$nin": ["$caller.team"] }.into()),
            team(doc! { "$not": { "$eq": "$caller.team" } }.into()),
            doc! { "$nor": [{ "owner": "$caller.team" }] }.into(),
            doc! { "$nor": [{ "$and": [{ "$or": [{ "owner": "$caller.team" }, { "n": 1 }] }] }] }
                .into(),
            doc! { "$and": [{ "n": 1 }, { "owner": "$caller.team" }] }.into(),
            doc! { "n": 1, "$caller.team": { "$ne": "red" } }.into(),
            doc! { "n": 1, "$caller.team": { "$exists": false } }.into(),
        ] {
            let shown = format!("{none} {test}");
            match with(test, none.clone()).await {
                Err(Error::Forbidden(_)) => {}
                other => panic!("{shown}: {other:?}"),
            }
        }
        // Another clause may hold.
        let either = doc! { "$or": [{ "public": true }, { "owner": "$caller.team" }] };
        assert_eq!(with(either.into(), none).await.unwrap(), 1);
    }
    assert_eq!(
        with(team("$caller.team".into()), ann("bob".into()))
            .await
            .unwrap(),
        1
    );
    let among = team(doc! { "$in": "$caller.team" }.into());
    assert_eq!(
        with(among, ann(vec!["bob", "ann"].into())).await.unwrap(),
        2
    );
    let not_mine = doc! { "$nor": [{ "owner": "$caller._id" }] };
    assert_eq!(with(not_mine.into(), ann(1.into())).await.unwrap(), 3);
    let nested = team("$caller.team.lead".into());
    assert_eq!(
        with(nested, ann(doc! { "lead": "ann" }.into()))
            .await
            .unwrap(),
        1
    );
}

async fn roles_let_in_and_are_not_ones_own_to_change(store: Store) {
    notes(&store).await;
    insert(
        &store,
        "users",
        &[doc! { "_id": "ann", "_key": "ann", "team": "red", "name": "Ann" }],
    )
    .await
    .unwrap();
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let read = doc! { "$or": [{ "owner": "$caller._id" }, { "$caller.roles": "editor" }, { "team": "$caller.team" }] };
    rules
        .set("notes", &doc! { "users": { "read": read } })
        .await
        .unwrap();
    let me = doc! { "_id": "$caller._id" };
    rules
        .set(
            "users",
            &doc! { "users": { "read": me.clone(), "update": me } },
        )
        .await
        .unwrap();
    let count = async |document: Document| {
        let caller = user(&rules, "users", document).await;
        service.count(&caller, "notes", doc! {}).await.unwrap()
    };
    assert_eq!(count(doc! { "_id": "ann" }).await, 1);
    assert_eq!(
        count(doc! { "_id": "ann", "roles": ["author", "editor"] }).await,
        4
    );
    assert_eq!(count(doc! { "_id": "ann", "roles": ["author"] }).await, 1);
    assert_eq!(
        count(doc! { "_id": "ann", "roles": [{ "$ne": 1 }] }).await,
        1
    );
    // What rules know a user by, users do not write; the rest of their document they do.
    let caller = ann(&rules).await;
    let set = async |fields: Document| {
        let change = Change::Operators(doc! { "$set": fields });
        service
            .update(&caller, "users", doc! {}, change, true, false)
            .await
            .map(|outcome| outcome.matched)
    };
    assert_eq!(set(doc! { "name": "Anna" }).await.unwrap(), 1);
    for field in [
        "roles",
        "roles.0",
        "team",
        "team.x",
        "_key",
        "_password",
        "_coglex.x",
    ] {
        forbidden(set(doc! { field: "editor" }).await);
    }
    // The address is theirs to write unless links for new passwords go there.
    assert_eq!(set(doc! { "email": "a@example.org" }).await.unwrap(), 1);
    let mailed = Rules::new(store.clone())
        .with_addresses(|realm| (realm == "users").then(|| "email".to_owned()));
    let caller = ann(&mailed).await;
    for field in ["email", "email.x"] {
        let change = Change::Operators(doc! { "$set": { field: "eve@example.org" } });
        let update = service.update(&caller, "users", doc! {}, change, true, false);
        forbidden(update.await);
    }
}

async fn masks_hide_and_protect_fields(store: Store) {
    notes(&store).await;
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let masked = doc! { "users": {
        "read": true, "create": true, "update": true,
        "hidden": ["n"], "readonly": ["state"],
    } };
    rules.set("notes", &masked).await.unwrap();
    let caller = ann(&rules).await;
    let found = service
        .get(&caller, "notes", "a".into(), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Document::try_from(&found).unwrap(),
        doc! { "_id": "a", "owner": "ann", "state": "draft" }
    );
    let whole = service
        .aggregate(
            &caller,
            "notes",
            vec![
                doc! { "$match": { "_id": "a" } },
                doc! { "$project": { "w": "$$ROOT" } },
            ],
            None,
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        collect(whole).await,
        [doc! { "_id": "a", "w": { "_id": "a", "owner": "ann", "state": "draft" } }]
    );
    forbidden(service.count(&caller, "notes", doc! { "n": 1 }).await);
    forbidden(service.distinct(&caller, "notes", "n", doc! {}).await);
    let sorted = Find {
        sort: Some(doc! { "n.x": 1 }),
        ..Find::default()
    };
    forbidden(service.find(&caller, "notes", sorted).await.map(drop));
    for fields in [
        doc! { "n": 1 },
        doc! { "state": "x" },
        doc! { "state.x": 1 },
    ] {
        forbidden(change(&service, &caller, doc! {}, doc! { "$set": fields }).await);
    }
    forbidden(
        service
            .insert(&caller, "notes", vec![doc! { "state": "x" }])
            .await,
    );
    forbidden(
        service
            .insert(&caller, "notes", vec![doc! { "n": 1 }])
            .await,
    );
    service
        .insert(&caller, "notes", vec![doc! { "_id": "e", "owner": 1 }])
        .await
        .unwrap();
    // What may be read may be asked for.
    assert_eq!(
        service
            .count(&caller, "notes", doc! { "state": "draft" })
            .await
            .unwrap(),
        2
    );
}

async fn what_is_joined_is_under_its_own_rules(store: Store) {
    notes(&store).await;
    insert(&store, "lists", &[doc! { "_id": 1, "n": 1 }])
        .await
        .unwrap();
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    rules
        .set("lists", &doc! { "users": { "read": true } })
        .await
        .unwrap();
    let join = || {
        let all = doc! { "from": "notes", "pipeline": [], "as": "notes" };
        vec![doc! { "$lookup": all }, doc! { "$unwind": "$notes" }]
    };
    let caller = ann(&rules).await;
    forbidden(
        service
            .aggregate(&caller, "lists", join(), None, None)
            .await
            .map(drop),
    );
    rules.set("notes", &own()).await.unwrap();
    let caller = ann(&rules).await;
    let joined = service
        .aggregate(&caller, "lists", join(), None, None)
        .await
        .unwrap();
    let joined = collect(joined).await;
    assert_eq!(joined.len(), 1);
    assert_eq!(
        joined[0]
            .get_document("notes")
            .unwrap()
            .get_str("_id")
            .unwrap(),
        "a"
    );
}

async fn rules_change_on_every_host_at_once(store: Store) {
    notes(&store).await;
    let service = documents(&store);
    let (here, there) = (Rules::new(store.clone()), Rules::new(store.clone()));
    assert_eq!(there.current().await.unwrap().realms("notes").count(), 0);
    here.set("notes", &own()).await.unwrap();
    assert_eq!(
        service
            .count(&ann(&there).await, "notes", doc! {})
            .await
            .unwrap(),
        1
    );
    there
        .set("notes", &doc! { "users": { "read": true } })
        .await
        .unwrap();
    assert_eq!(
        service
            .count(&ann(&here).await, "notes", doc! {})
            .await
            .unwrap(),
        4
    );
    here.remove("notes").await.unwrap();
    forbidden(service.count(&ann(&there).await, "notes", doc! {}).await);
    // Many at once: none is lost.
    let sets = (0..5).map(|n| {
        let rules = Rules::new(store.clone());
        async move {
            let collection = format!("c{n}");
            let set = async || {
                rules
                    .set(&collection, &doc! { "users": { "read": true } })
                    .await
            };
            while matches!(set().await, Err(Error::Conflict(_))) {}
        }
    });
    futures_util::future::join_all(sets).await;
    assert_eq!(here.list().await.unwrap().len(), 5);
}

async fn rules_that_cannot_be_are_refused(store: Store) {
    let rules = Rules::new(store.clone());
    let read = |filter: Document| doc! { "users": { "read": filter } };
    for wrong in [
        doc! {},
        doc! { "users": true },
        doc! { "users": { "see": true } },
        doc! { "users": { "read": 1 } },
        read(doc! {}),
        read(doc! { "$where": "1" }),
        read(doc! { "$expr": { "$eq": ["$a", 1] } }),
        read(doc! { "a": "$b" }),
        read(doc! { "a": "$caller." }),
        read(doc! { "a": "$caller.a..b" }),
        read(doc! { "a": "$caller.a.$b" }),
        read(doc! { "a": { "$regex": "$caller.name" } }),
        read(doc! { "a": { "$frob": 1 } }),
        read(doc! { "$nor": [{ "$caller.roles": "x" }] }),
        read(doc! { "$nor": [{ "$or": [{ "$caller.roles": "x" }] }] }),
        doc! { "users": { "hidden": ["a.b"] } },
        doc! { "users": { "hidden": ["_id"] } },
        doc! { "users": { "readonly": "a" } },
        doc! { "users": { "create": { "a": 1 }, "hidden": ["a"] } },
    ] {
        match rules.set("c", &wrong).await {
            Err(Error::Invalid(_)) => {}
            other => panic!("{wrong}: {other:?}"),
        }
    }
    for wrong in [
        read(doc! { "_password": 1 }),
        read(doc! { "a": "$caller._password" }),
        read(doc! { "$caller._coglex.sessions": 1 }),
        doc! { "_coglex_kv": { "read": true } },
        doc! { "users": { "hidden": ["_password"] } },
    ] {
        forbidden(rules.set("c", &wrong).await);
    }
    forbidden(rules.set("_coglex_rules", &read(doc! { "a": 1 })).await);
    let large = read(doc! { "a": { "$in": vec!["x".repeat(1000); 300] } });
    assert!(matches!(
        rules.set("c", &large).await,
        Err(Error::TooLarge(_))
    ));
    assert_eq!(rules.list().await.unwrap(), doc! {});
}

/// As for grants: two collections that differ in nothing but what the user cannot reach
/// get the same random questions and changes.
async fn what_rules_leave_out_cannot_be_learned_or_changed(store: Store) {
    let rounds = match std::env::var("COGLEX_TEST_SCOPE_ROUNDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 12,
    };
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    for seed in 0..rounds {
        let mut random = Random(seed * 6_271 + 29);
        let (left, right) = (format!("left{seed}"), format!("righ{seed}"));
        for (name, with_others) in [(&left, true), (&right, false)] {
            let mut all = Vec::new();
            for n in 0..8 {
                let own = doc! {
                    "_id": format!("own{n}"), "owner": "ann", "title": format!("t{}", n % 3), "n": n % 4,
                    "list": [n % 3, 2], "secret": if with_others { n % 3 } else { 7 },
                };
                all.push(own);
                if with_others {
                    all.push(doc! { "_id": format!("not{n}"), "owner": "bob", "title": format!("t{}", n % 3), "n": n % 4, "secret": n });
                }
            }
            insert(&store, name, &all).await.unwrap();
            let own = match seed % 3 {
                0 => doc! { "owner": "$caller._id" },
                1 => doc! { "$or": [{ "owner": "$caller._id" }, { "owner": "$caller.team" }] },
                _ => doc! { "owner": { "$in": ["$caller._id", "carl"] }, "n": { "$gte": 0 } },
            };
            let of_users = doc! { "read": own.clone(), "create": own.clone(), "update": own.clone(), "delete": own, "hidden": ["secret"] };
            rules.set(name, &doc! { "users": of_users }).await.unwrap();
        }
        let out_of_reach = async |name: &str| {
            let mut all = all(&store, name, doc! {}).await;
            all.retain(|document| document.get_str("owner").ok() == Some("bob"));
            all
        };
        let before = out_of_reach(&left).await;
        let caller = ann(&rules).await;
        for step in 0..40 {
            let ask = random.ask(step);
            let mut answers = Vec::new();
            for name in [&left, &right] {
                let answer = answer(&service, &caller, name, &ask).await;
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

/// Whatever a rule is, with a further condition it shows no more than without.
async fn a_further_condition_never_shows_more(store: Store) {
    let (service, rules) = (documents(&store), Rules::new(store.clone()));
    let mut random = Random(4_711);
    let notes: Vec<Document> = (0..24)
        .map(|n| {
            let mut note = doc! { "_id": format!("n{n:02}"), "n": n % 4, "list": [n % 3, n] };
            let owners = [
                Bson::from("ann"),
                "bob".into(),
                Bson::Null,
                vec!["ann", "t1"].into(),
            ];
            note.extend(
                owners
                    .get(n as usize % 5)
                    .map(|owner| ("owner".to_owned(), owner.clone())),
            );
            note.insert("title", format!("t{}", n % 3));
            note
        })
        .collect();
    insert(&store, "notes", &notes).await.unwrap();
    let users = [
        doc! { "_id": "ann", "team": "t1", "roles": ["editor"] },
        doc! { "_id": "ann" },
        doc! { "_id": "bob", "team": Bson::Null, "roles": [] },
    ];
    let seen = async |rule: &Document, who: &Document| -> Option<Vec<String>> {
        let read = doc! { "users": { "read": rule.clone() } };
        rules.set("notes", &read).await.ok()?;
        let caller = user(&rules, "users", who.clone()).await;
        match service.find(&caller, "notes", Find::default()).await {
            Ok(found) => {
                let id = |note: &Document| note.get_str("_id").unwrap().to_owned();
                Some(collect(found).await.iter().map(id).collect())
            }
            Err(Error::Forbidden(_)) => Some(Vec::new()),
            Err(_) => None,
        }
    };
    let (mut compared, mut narrower) = (0, 0);
    for _ in 0..120 {
        let (rule, further) = (clause(&mut random), clause(&mut random));
        let both = doc! { "$and": [rule.clone(), further.clone()] };
        let mut merged = rule.clone();
        merged.extend(
            further
                .iter()
                .filter(|(key, _)| !rule.contains_key(*key))
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        for who in &users {
            let Some(without) = seen(&rule, who).await else {
                continue;
            };
            for with in [&both, &merged] {
                let Some(with_it) = seen(with, who).await else {
                    continue;
                };
                assert!(
                    with_it.iter().all(|id| without.contains(id)),
                    "{who}: {with} shows {with_it:?}, {rule} only {without:?}"
                );
                compared += 1;
                narrower += usize::from(with_it.len() < without.len());
            }
        }
    }
    // It has been about something.
    assert!(compared > 200 && narrower > 20, "{compared} {narrower}");
}

/// A random clause of a rule.
fn clause(random: &mut Random) -> Document {
    let field = ["owner", "title", "n", "list"][random.below(4)];
    let value: Bson = match random.below(6) {
        0 => "$caller._id".into(),
        1 => "$caller.team".into(),
        2 => "$caller.roles".into(),
        3 => "t1".into(),
        _ => Bson::Int32(random.below(3) as i32),
    };
    match random.below(10) {
        0 => doc! { field: { "$ne": value } },
        1 => doc! { field: { "$in": [value, "bob"] } },
        2 => doc! { field: { "$nin": [value] } },
        3 => doc! { "$nor": [{ field: value }] },
        4 => doc! { "$or": [{ field: value }, clause(random)] },
        5 => doc! { "$and": [clause(random), { field: value }] },
        6 => doc! { "$caller.roles": "editor", field: value },
        7 => doc! { "$caller.team": { "$ne": "t2" } },
        8 => doc! { field: { "$not": { "$gt": value } } },
        _ => doc! { field: value },
    }
}
