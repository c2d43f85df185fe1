//! What is let through and where the stage of ours goes. That nothing hidden
//! comes out is tested on the stores, in `tests/both_stores/aggregate.rs`.

use bson::{bson, doc};
use proptest::prelude::*;

use super::super::tests::{Answer, answer};
use super::*;
use Answer::*;

const DEPTH: usize = 30;

fn guarded(stages: Vec<Document>) -> Result<Vec<Document>> {
    pipeline(stages, DEPTH, &|_, _| Ok(Vec::new()))
}

fn cut() -> Document {
    doc! { "$unset": ["_password", "_coglex"] }
}

#[test]
fn the_cut_comes_before_the_first_stage_that_could_see() {
    let check = |stages: Vec<Document>, expected: Vec<Document>| {
        assert_eq!(guarded(stages.clone()).unwrap(), expected, "{stages:?}");
    };
    check(vec![], vec![cut()]);
    let plain = [
        doc! { "$match": { "a": 1, "b": "$5" } },
        doc! { "$sort": { "a": 1 } },
        doc! { "$skip": 1 },
        doc! { "$limit": 1 },
        doc! { "$match": { "$expr": { "$eq": ["$a", "$b"] } } },
    ];
    check(
        plain.to_vec(),
        plain.iter().cloned().chain([cut()]).collect(),
    );
    let group = doc! { "$group": { "_id": null, "all": { "$push": "$$ROOT" } } };
    check(
        vec![plain[0].clone(), group.clone(), plain[0].clone()],
        vec![plain[0].clone(), cut(), group.clone(), plain[0].clone()],
    );
    for seeing in [
        doc! { "$match": { "$expr": { "$gt": ["$$ROOT", { "a": 1 }] } } },
        doc! { "$match": { "$and": [{ "a": 1 }, { "$expr": { "$eq": [1, { "$size": { "$objectToArray": "$$CURRENT" } }] } }] } },
        doc! { "$match": { "$expr": { "$let": { "vars": { "all": "$$ROOT" }, "in": { "$gt": ["$$all", "$a"] } } } } },
        doc! { "$project": { "a": 1 } },
        doc! { "$addFields": { "a": 1 } },
        doc! { "$facet": { "a": [group.clone()] } },
        doc! { "$count": "n" },
    ] {
        check(
            vec![plain[0].clone(), seeing.clone()],
            vec![plain[0].clone(), cut(), seeing],
        );
    }
}

#[test]
fn what_is_joined_is_cut_where_it_is_read() {
    let by_fields = doc! { "from": "users", "localField": "a", "foreignField": "b", "as": "d" };
    let with = |stages: Vec<Document>| {
        let mut options = by_fields.clone();
        options.insert("pipeline", stages);
        doc! { "$lookup": options }
    };
    let plain = doc! { "$lookup": by_fields.clone() };
    let first = doc! { "$match": { "a": 1 } };
    let last = doc! { "$project": { "all": "$$ROOT" } };
    for (stages, expected) in [
        (vec![plain.clone()], vec![cut(), with(vec![cut()])]),
        (vec![with(vec![])], vec![cut(), with(vec![cut()])]),
        (
            vec![with(vec![first.clone(), last.clone()])],
            vec![cut(), with(vec![first.clone(), cut(), last.clone()])],
        ),
        // In facets and in joins of joins.
        (
            vec![doc! { "$facet": { "x": [with(vec![plain.clone()])], "y": [plain.clone()] } }],
            vec![
                cut(),
                doc! { "$facet": {
                    "x": [with(vec![cut(), with(vec![cut()])])],
                    "y": [with(vec![cut()])],
                } },
            ],
        ),
    ] {
        assert_eq!(guarded(stages.clone()).unwrap(), expected, "{stages:?}");
    }
}

#[test]
fn stages_and_what_they_say() {
    let lookup = |options: Document| {
        let mut all = doc! { "from": "c", "localField": "a", "foreignField": "b", "as": "d" };
        all.extend(options);
        doc! { "$lookup": all }
    };
    for (stage, expected) in [
        (doc! { "$match": { "a": "_password", "b": "$$USD" } }, Fine),
        (
            doc! { "$project": { "t": "$$NOW", "u": { "$cond": [true, "$a", "$$REMOVE"] } } },
            Fine,
        ),
        (doc! { "$unset": ["a", "b.c"] }, Fine),
        (
            doc! { "$lookup": { "from": "c", "let": { "x": "$$ROOT" }, "pipeline": [{ "$match": { "$expr": { "$eq": ["$a", "$$x.a"] } } }], "as": "d" } },
            Fine,
        ),
        (
            doc! { "$replaceRoot": { "newRoot": { "$arrayToObject": { "$objectToArray": "$$ROOT" } } } },
            Fine,
        ),
        // What writes, runs code, or is not on every store.
        (doc! { "$out": "c" }, Invalid),
        (doc! { "$merge": { "into": "c" } }, Invalid),
        (doc! { "$facet": { "a": [{ "$out": "c" }] } }, Invalid),
        (lookup(doc! { "pipeline": [{ "$merge": "c" }] }), Invalid),
        (doc! { "$match": { "$where": "1" } }, Invalid),
        (
            doc! { "$project": { "a": { "$function": { "body": "", "args": [], "lang": "js" } } } },
            Invalid,
        ),
        (
            doc! { "$group": { "_id": null, "a": { "$accumulator": {} } } },
            Invalid,
        ),
        (doc! { "$unionWith": "c" }, Invalid),
        (
            doc! { "$graphLookup": { "from": "_coglex_keys", "as": "a" } },
            Invalid,
        ),
        (doc! { "$documents": [] }, Invalid),
        (doc! { "$collStats": {} }, Invalid),
        (doc! { "$indexStats": {} }, Invalid),
        (doc! { "$currentOp": {} }, Invalid),
        (doc! { "$redact": "$$KEEP" }, Invalid),
        (doc! { "$setWindowFields": {} }, Invalid),
        (doc! { "$nonsense": {} }, Invalid),
        (doc! { "match": {} }, Invalid),
        (doc! {}, Invalid),
        (doc! { "$match": {}, "$limit": 1 }, Invalid),
        (doc! { "$project": { "a": "$$USER_ROLES" } }, Invalid),
        (
            doc! { "$match": { "$expr": { "$in": ["x", "$$USER_ROLES.role"] } } },
            Invalid,
        ),
        (
            doc! { "$project": { "a": { "$getField": { "$concat": ["_pass", "word"] } } } },
            Invalid,
        ),
        // Hidden fields, by every way of naming them.
        (
            doc! { "$match": { "_password": { "$exists": true } } },
            Forbidden,
        ),
        (
            doc! { "$match": { "$expr": { "$eq": ["$_password", 1] } } },
            Forbidden,
        ),
        (doc! { "$sort": { "_password": 1 } }, Forbidden),
        (doc! { "$project": { "_password": 1 } }, Forbidden),
        (doc! { "$project": { "_password": 0 } }, Forbidden),
        (doc! { "$project": { "a": "$$ROOT._password" } }, Forbidden),
        (
            doc! { "$addFields": { "a": ["$_coglex.sessions"] } },
            Forbidden,
        ),
        (doc! { "$unset": "_password" }, Forbidden),
        (doc! { "$unset": ["a", "b._coglex"] }, Forbidden),
        (doc! { "$unwind": "$_coglex.sessions" }, Forbidden),
        (
            doc! { "$unwind": { "path": "$a", "includeArrayIndex": "_password" } },
            Forbidden,
        ),
        (doc! { "$count": "_password" }, Forbidden),
        (doc! { "$sortByCount": "$_password" }, Forbidden),
        (doc! { "$group": { "_id": "$_password" } }, Forbidden),
        (
            doc! { "$group": { "_id": null, "_password": { "$first": "$a" } } },
            Forbidden,
        ),
        (doc! { "$replaceWith": "$_coglex" }, Forbidden),
        (
            doc! { "$bucket": { "groupBy": "$_password", "boundaries": ["a", "z"] } },
            Forbidden,
        ),
        (doc! { "$facet": { "_password": [] } }, Forbidden),
        (
            doc! { "$facet": { "a": [{ "$sortByCount": "$_password" }] } },
            Forbidden,
        ),
        (lookup(doc! { "localField": "_password" }), Forbidden),
        (
            lookup(doc! { "foreignField": "_coglex.sessions" }),
            Forbidden,
        ),
        (lookup(doc! { "as": "_password" }), Forbidden),
        (lookup(doc! { "as": "a._password" }), Forbidden),
        (lookup(doc! { "let": { "x": "$_password" } }), Forbidden),
        (
            lookup(doc! { "pipeline": [{ "$match": { "_password": 1 } }] }),
            Forbidden,
        ),
        // Collections.
        (lookup(doc! { "from": "_coglex_keys" }), Forbidden),
        (lookup(doc! { "from": "system.users" }), Forbidden),
        (
            doc! { "$facet": { "a": [lookup(doc! { "pipeline": [lookup(doc! { "from": "_coglex" })] })] } },
            Forbidden,
        ),
        (lookup(doc! { "from": "a$b" }), Invalid),
        (
            lookup(doc! { "from": { "db": "config", "coll": "users" } }),
            Invalid,
        ),
        (doc! { "$lookup": { "as": "a", "pipeline": [] } }, Invalid),
        (doc! { "$lookup": { "from": "a", "pipeline": [] } }, Invalid),
        (
            doc! { "$lookup": { "from": "a", "as": "b", "localField": "c" } },
            Invalid,
        ),
        (lookup(doc! { "as": "$a" }), Invalid),
        (lookup(doc! { "as": 1 }), Invalid),
        (lookup(doc! { "as": "" }), Invalid),
        (lookup(doc! { "_internal": 1 }), Invalid),
        (lookup(doc! { "pipeline": {} }), Invalid),
        (lookup(doc! { "pipeline": [1] }), Invalid),
        (doc! { "$facet": { "a": {} } }, Invalid),
        (doc! { "$facet": [] }, Invalid),
        (doc! { "$project": { "a\0": 1 } }, Invalid),
    ] {
        assert_eq!(answer(guarded(vec![stage.clone()])), expected, "{stage}");
    }
}

#[test]
fn each_joined_collection_is_asked_about() {
    let refusing = |name: &str, _: Option<&str>| match name {
        "mine" => Ok(Vec::new()),
        _ => Err(Error::Forbidden(name.into())),
    };
    let join = |from: &str, inner: Vec<Document>| doc! { "$lookup": { "from": from, "as": "a", "pipeline": inner } };
    for (stage, fine) in [
        (join("mine", vec![]), true),
        (join("other", vec![]), false),
        (join("mine", vec![join("mine", vec![])]), true),
        (join("mine", vec![join("other", vec![])]), false),
        (
            doc! { "$facet": { "x": [join("mine", vec![])], "y": [{ "$limit": 1 }, join("other", vec![])] } },
            false,
        ),
    ] {
        let result = pipeline(vec![stage.clone()], DEPTH, &refusing);
        assert_eq!(result.is_ok(), fine, "{stage}");
    }
}

#[test]
fn pipelines_are_bounded() {
    let count = |count: usize| answer(guarded(vec![doc! { "$limit": 1 }; count]));
    assert_eq!(count(MAX_STAGES), Fine);
    assert_eq!(count(MAX_STAGES + 1), Invalid);
    let nested = |levels| {
        (0..levels).fold(vec![], |inner, _| {
            vec![doc! { "$lookup": { "from": "c", "as": "a", "pipeline": inner } }]
        })
    };
    assert_eq!(answer(guarded(nested(MAX_NESTING))), Fine);
    assert_eq!(answer(guarded(nested(MAX_NESTING + 1))), Invalid);
    let deep = |levels| {
        let value = (0..levels).fold(bson!(1), |inner, _| bson!([inner]));
        answer(guarded(vec![doc! { "$project": { "a": value } }]))
    };
    assert_eq!(deep(DEPTH - 2), Fine);
    assert_eq!(deep(DEPTH - 1), Invalid);
    let wide = |count: i32| {
        let fields: Document = (0..count)
            .map(|n| (format!("f{n}"), bson!({ "$add": [1, 1] })))
            .collect();
        answer(guarded(vec![doc! { "$project": fields }]))
    };
    assert_eq!(wide(999), Fine);
    assert_eq!(wide(1000), Invalid);
    assert_eq!(
        answer(guarded(vec![
            doc! { "$match": { "a": "x".repeat(2_000_000) } }
        ])),
        TooLarge
    );
}

/// A stage, possibly with pipelines in it.
fn stages() -> impl Strategy<Value = Vec<Document>> {
    let plain = prop::sample::select(vec![
        doc! { "$match": { "a": 1 } },
        doc! { "$match": { "$expr": { "$eq": ["$$ROOT", 1] } } },
        doc! { "$sort": { "a": 1 } },
        doc! { "$limit": 3 },
        doc! { "$project": { "all": "$$ROOT" } },
        doc! { "$group": { "_id": null, "all": { "$push": "$$CURRENT" } } },
        doc! { "$lookup": { "from": "c", "localField": "a", "foreignField": "b", "as": "joined" } },
    ]);
    let list = prop::collection::vec(plain, 0..4);
    list.prop_recursive(3, 12, 3, |inner| {
        (inner.clone(), inner, any::<bool>()).prop_map(|(mut stages, inner, facet)| {
            stages.push(if facet {
                doc! { "$facet": { "f": inner } }
            } else {
                doc! { "$lookup": { "from": "c", "as": "joined", "pipeline": inner } }
            });
            stages
        })
    })
}

/// Walks a guarded pipeline: whether its documents can hold something hidden
/// when they leave, and no stage on the way could see it.
fn leaks(stages: &[Document], mut stored: bool) -> bool {
    for stage in stages {
        let (name, operand) = stage.iter().next().unwrap();
        if *stage == cut() {
            stored = false;
            continue;
        }
        let inner = |value: &Bson| -> Vec<Document> {
            let list = value.as_array().unwrap().iter();
            list.map(|stage| stage.as_document().unwrap().clone())
                .collect()
        };
        let seen = match name.as_str() {
            "$match" => operand.to_string().contains("$$"),
            "$sort" | "$limit" => false,
            "$facet" => {
                let facets = operand.as_document().unwrap();
                stored || facets.values().any(|list| leaks(&inner(list), false))
            }
            "$lookup" => match operand.as_document().unwrap().get("pipeline") {
                Some(list) => stored || leaks(&inner(list), true),
                None => true,
            },
            _ => true,
        };
        let has_pipelines = matches!(name.as_str(), "$facet" | "$lookup");
        if seen && (stored || has_pipelines) {
            return true;
        }
    }
    stored
}

proptest! {
    #[test]
    fn nothing_stored_is_seen_before_the_cut(stages in stages()) {
        prop_assert!(!leaks(&guarded(stages).unwrap(), true));
    }
}
