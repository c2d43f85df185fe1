use bson::oid::ObjectId;
use bson::{bson, doc};
use proptest::prelude::*;

use super::*;

const DEPTH: usize = 10;
const BYTES: usize = 64 * 1024;

#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Fine,
    Invalid,
    Forbidden,
    TooLarge,
}
use Answer::*;

pub(super) fn answer<T>(result: Result<T>) -> Answer {
    match result {
        Ok(_) => Fine,
        Err(Error::Invalid(_)) => Invalid,
        Err(Error::Forbidden(_)) => Forbidden,
        Err(Error::TooLarge(_)) => TooLarge,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn names_of_collections() {
    let long = "x".repeat(121);
    for (name, expected) in [
        ("users", Fine),
        ("a", Fine),
        ("a.b", Fine),
        ("_mine", Fine),
        ("systematic", Fine),
        ("ünï cödé", Fine),
        (&long[1..], Fine),
        (&long, Invalid),
        ("", Invalid),
        ("a$b", Invalid),
        ("a/b", Invalid),
        ("a\0b", Invalid),
        ("a\nb", Invalid),
        (".a", Invalid),
        ("a.", Invalid),
        ("_coglex", Forbidden),
        ("_coglex_keys", Forbidden),
        ("system.users", Forbidden),
    ] {
        assert_eq!(answer(collection(name)), expected, "{name:?}");
    }
}

#[test]
fn filters() {
    for (query, expected) in [
        (doc! {}, Fine),
        (
            doc! { "a": 1, "b.c": { "$gt": 1, "$in": [1, "x", null] } },
            Fine,
        ),
        (
            doc! { "$or": [{ "a": { "$regex": "^x", "$options": "i" } }, { "b": { "$exists": false } }] },
            Fine,
        ),
        (doc! { "_key": "ann" }, Fine),
        (doc! { "a": "_password" }, Fine),
        (
            doc! { "passwords": 1, "a_password": 1, "_passwords": 1 },
            Fine,
        ),
        (doc! { "$expr": { "$gt": ["$a", "$b.c"] } }, Fine),
        (doc! { "a": "$5 and more" }, Fine),
        (doc! { "a": "$$ROOT" }, Fine),
        // Hidden fields, by every way of naming them.
        (doc! { "_password": 1 }, Forbidden),
        (doc! { "_password": { "$regex": "^a" } }, Forbidden),
        (doc! { "a._password": 1 }, Forbidden),
        (
            doc! { "_coglex.sessions.x": { "$exists": true } },
            Forbidden,
        ),
        (doc! { "a": { "_password": 1 } }, Forbidden),
        (
            doc! { "$or": [{ "a": 1 }, { "$nor": [{ "_password": 1 }] }] },
            Forbidden,
        ),
        (
            doc! { "a": { "$not": { "$elemMatch": { "_password": 1 } } } },
            Forbidden,
        ),
        (doc! { "$expr": { "$eq": ["$_password", "x"] } }, Forbidden),
        (
            doc! { "$expr": { "$eq": ["$$CURRENT._password", "x"] } },
            Forbidden,
        ),
        (
            doc! { "$expr": { "$let": { "vars": { "u": "$a" }, "in": "$$u._coglex" } } },
            Forbidden,
        ),
        // Ways around naming them.
        (doc! { "$expr": { "$objectToArray": "$$ROOT" } }, Invalid),
        (doc! { "$expr": { "$eq": ["$$CURRENT", 1] } }, Invalid),
        (
            doc! { "$expr": { "$getField": { "$concat": ["_pass", "word"] } } },
            Invalid,
        ),
        (
            doc! { "$jsonSchema": { "patternProperties": { "^_p": { "type": "string" } } } },
            Invalid,
        ),
        // The server's own, and what only one store has.
        (
            doc! { "$expr": { "$_internalFindAllValuesAtPath": "_passwor" } },
            Invalid,
        ),
        (
            doc! { "$_internalSchemaObjectMatch": ["a", { "b": 1 }] },
            Invalid,
        ),
        (doc! { "a": { "$_internalSchemaMinLength": 1 } }, Invalid),
        (doc! { "a": { "$push": 1 } }, Invalid),
        (doc! { "a": { "$each": [1] } }, Invalid),
        (doc! { "$expr": { "$elemMatch": 1 } }, Invalid),
        (doc! { "a": { "$ref": "c", "$id": 1 } }, Fine),
        // Code.
        (doc! { "$where": "1" }, Invalid),
        (doc! { "$and": [{ "a": 1 }, { "$where": "1" }] }, Invalid),
        (
            doc! { "$expr": { "$function": { "body": "f", "args": [], "lang": "js" } } },
            Invalid,
        ),
        (doc! { "a": { "$accumulator": 1 } }, Invalid),
        (doc! { "a\0b": 1 }, Invalid),
    ] {
        assert_eq!(answer(filter(&query, DEPTH)), expected, "{query}");
    }
}

#[test]
fn filters_are_bounded() {
    let nested = |levels| (0..levels).fold(doc! { "a": 1 }, |inner, _| doc! { "$and": [inner] });
    assert_eq!(answer(filter(&nested(4), DEPTH)), Fine);
    assert_eq!(answer(filter(&nested(5), DEPTH)), Invalid);
    let many = |count: i32| doc! { "$or": (0..count).map(|n| bson!({ "a": { "$gt": n } })).collect::<Vec<_>>() };
    assert_eq!(answer(filter(&many(999), DEPTH)), Fine);
    assert_eq!(answer(filter(&many(1000), DEPTH)), Invalid);
    let list = |count: i32| doc! { "a": { "$in": (0..count).map(Bson::from).collect::<Vec<_>>() } };
    assert_eq!(answer(filter(&list(100_000), DEPTH)), Fine);
    assert_eq!(answer(filter(&list(200_000), DEPTH)), TooLarge);
    assert_eq!(
        answer(filter(&doc! { "a": "x".repeat(2_000_000) }, DEPTH)),
        TooLarge
    );
}

#[test]
fn projections() {
    for (shown, expected) in [
        (doc! {}, Fine),
        (doc! { "a": 1, "b.c": true, "_id": 0 }, Fine),
        (doc! { "a": 0.0, "b": 0_i64 }, Fine),
        (
            doc! { "a": { "$slice": [1, 2] }, "b": { "$elemMatch": { "c": { "$gt": 1 } } } },
            Fine,
        ),
        (doc! { "a": { "b": 1 } }, Fine),
        (doc! { "_password": 1 }, Forbidden),
        (doc! { "_password": 0 }, Forbidden),
        (doc! { "a._coglex": 1 }, Forbidden),
        (doc! { "a": { "_password": 1 } }, Forbidden),
        (
            doc! { "a": { "$elemMatch": { "_password": 1 } } },
            Forbidden,
        ),
        // A copy under another name.
        (doc! { "a": "$_password" }, Invalid),
        (doc! { "a": "$$ROOT" }, Invalid),
        (doc! { "a": { "$concat": ["$b"] } }, Invalid),
        (doc! { "a": { "b": "$$ROOT" } }, Invalid),
        (doc! { "a": ["$$ROOT"] }, Invalid),
        (doc! { "a": null }, Invalid),
        (doc! { "a": {} }, Invalid),
        (doc! { "a": { "$slice": -2 } }, Fine),
        (doc! { "b": { "a": { "$slice": [1.0, 2_i64] } } }, Fine),
        // MongoDB evaluates these as expressions.
        (doc! { "a": { "$slice": [["$$ROOT"], 1] } }, Invalid),
        (doc! { "a": { "$slice": [["$$CURRENT"], 0, 1] } }, Invalid),
        (doc! { "a": { "$slice": ["$b", 1] } }, Invalid),
        (doc! { "a": { "$slice": "$$ROOT" } }, Invalid),
        (doc! { "a": { "$slice": [1, 2, 3] } }, Invalid),
        (doc! { "a": { "$slice": [1] } }, Invalid),
        (
            doc! { "a": { "b": { "$slice": [["$$ROOT"], 1] } } },
            Invalid,
        ),
        (doc! { "a": { "$elemMatch": "$$ROOT" } }, Invalid),
        (
            doc! { "a": { "$elemMatch": { "$expr": "$$ROOT" } } },
            Invalid,
        ),
        (
            doc! { "a": { "$slice": 1, "$elemMatch": { "b": 1 } } },
            Invalid,
        ),
    ] {
        assert_eq!(answer(projection(&shown, DEPTH)), expected, "{shown}");
    }
    let deep = (0..20).fold(doc! { "a": 1 }, |inner, _| doc! { "a": inner });
    assert_eq!(answer(projection(&deep, DEPTH)), Invalid);
}

#[test]
fn sorts() {
    assert_eq!(answer(sort(&doc! { "a.b": 1, "_key": -1 })), Fine);
    assert_eq!(answer(sort(&doc! { "a": 1, "_password": 1 })), Forbidden);
    assert_eq!(answer(sort(&doc! { "_coglex.sessions": 1 })), Forbidden);
    assert_eq!(
        answer(sort(
            &(0..33).map(|n| (n.to_string(), Bson::from(1))).collect()
        )),
        Invalid
    );
}

#[test]
fn documents() {
    for (new, expected) in [
        (doc! {}, Fine),
        (
            doc! { "_id": "a", "b": { "_id": 5, "_key": 1 }, "c": [1, { "d": "$_password" }] },
            Fine,
        ),
        (doc! { "_id": ObjectId::new() }, Fine),
        (doc! { "ref": { "$ref": "c", "$id": 1, "$db": "d" } }, Fine),
        (doc! { "a.b": 1, "": 2 }, Fine),
        (doc! { "_id": 5 }, Invalid),
        (doc! { "_id": null }, Invalid),
        (doc! { "_id": { "a": 1 } }, Invalid),
        (doc! { "_key": "ann" }, Forbidden),
        (doc! { "_password": "x" }, Forbidden),
        (doc! { "_coglex": {} }, Forbidden),
        (doc! { "a": [{ "_password": "x" }] }, Forbidden),
        (doc! { "a._password": "x" }, Forbidden),
        (doc! { "$set": { "a": 1 } }, Invalid),
        (doc! { "a": [{ "$where": 1 }] }, Invalid),
        (doc! { "a\0": 1 }, Invalid),
        (doc! { "a": "x".repeat(BYTES) }, TooLarge),
    ] {
        assert_eq!(answer(document(&new, DEPTH, BYTES)), expected, "{new}");
    }
}

#[test]
fn changes() {
    for (operators, expected) in [
        (
            doc! { "$set": { "a": 1, "b.c": { "d": [1] } }, "$unset": { "e": "" }, "$inc": { "n": 1 } },
            Fine,
        ),
        (
            doc! { "$push": { "a": { "$each": [1, 2], "$slice": -5, "$sort": 1 } } },
            Fine,
        ),
        (
            doc! { "$pull": { "a": { "b": { "$gte": 1 } } }, "$currentDate": { "t": { "$type": "date" } } },
            Fine,
        ),
        (doc! { "$rename": { "a": "b" } }, Fine),
        (doc! { "$set": { "a": "$_password" } }, Fine),
        (doc! { "$setOnInsert": { "_id": "a" } }, Fine),
        (doc! { "$set": {} }, Fine),
        (doc! { "$set": { "_id": 5 } }, Invalid),
        (doc! { "$rename": { "a": "_id" } }, Invalid),
        (doc! { "$set": 1 }, Invalid),
        (doc! { "$set": { "a": 1 }, "b": 2 }, Invalid),
        (doc! { "$set": { "a": { "$where": 1 } } }, Invalid),
        (doc! { "$out": { "a": 1 } }, Invalid),
        (doc! { "$_internalApplyOplogUpdate": { "a": 1 } }, Invalid),
        (
            doc! { "$pull": { "a": { "$_internalSchemaMinLength": 1 } } },
            Invalid,
        ),
        (
            doc! { "$push": { "a": { "$each": [1], "$foo": 1 } } },
            Invalid,
        ),
        (doc! { "$pull": { "a": { "$where": "1" } } }, Invalid),
        (doc! { "$set": { "_key": "x" } }, Forbidden),
        (doc! { "$unset": { "_key": "" } }, Forbidden),
        (doc! { "$set": { "_key.a": "x" } }, Forbidden),
        (doc! { "$rename": { "_key": "x" } }, Forbidden),
        (doc! { "$rename": { "x": "_key" } }, Forbidden),
        (doc! { "$set": { "_password": "x" } }, Forbidden),
        (doc! { "$set": { "a.$[]._password": "x" } }, Forbidden),
        (doc! { "$set": { "a": { "_coglex": 1 } } }, Forbidden),
        (doc! { "$set": { "_coglex.sessions.x": 1 } }, Forbidden),
        (doc! { "$rename": { "x": "_password" } }, Forbidden),
        (doc! { "$rename": { "_password": "x" } }, Forbidden),
        (
            doc! { "$push": { "a": { "$each": [{ "_password": 1 }] } } },
            Forbidden,
        ),
    ] {
        let update = Change::Operators(operators.clone());
        assert_eq!(
            answer(change(&update, DEPTH, BYTES)),
            expected,
            "{operators}"
        );
    }
    let replacement = |document| answer(change(&Change::Replacement(document), DEPTH, BYTES));
    assert_eq!(replacement(doc! { "a": 1 }), Fine);
    assert_eq!(replacement(doc! { "_key": 1 }), Forbidden);
    assert_eq!(replacement(doc! { "$set": 1 }), Invalid);
}

#[test]
fn filters_of_upserts() {
    for (query, expected) in [
        (doc! { "a": 1, "_id": "x" }, Fine),
        (doc! { "_id": { "$in": ["x"] } }, Fine),
        (doc! { "a": "_key", "_keys": 1, "a._key": 1 }, Fine),
        (doc! { "_key.a": 1 }, Forbidden),
        (doc! { "$or": [{ "_key": "ann" }] }, Forbidden),
        (
            doc! { "$or": [{ "a": { "$eq": 1 } }, { "$and": [{ "_key.a": 1 }] }] },
            Forbidden,
        ),
        (doc! { "$or": [{ "_id": 5 }] }, Invalid),
        (doc! { "_id.a": "x" }, Invalid),
        (doc! { "_id": 5 }, Invalid),
        (doc! { "_id": { "$eq": 5 } }, Invalid),
        (doc! { "_key": "ann" }, Forbidden),
        (
            doc! { "$and": [{ "a": 1 }, { "$and": [{ "_key": "ann" }] }] },
            Forbidden,
        ),
    ] {
        assert_eq!(answer(upsert_filter(&query)), expected, "{query}");
    }
}

/// A document with the hidden name put somewhere into its keys.
fn naming_the_hidden() -> impl Strategy<Value = Document> {
    let name = prop::sample::select(vec![
        "_password",
        "_coglex",
        "a._password",
        "_coglex.b",
        "a._coglex.0",
    ]);
    let leaf = name.prop_map(|name| doc! { name: 1 });
    leaf.prop_recursive(6, 16, 1, |inner| {
        let key = prop::sample::select(vec![
            "a",
            "b.c",
            "$and",
            "$elemMatch",
            "$not",
            "$expr",
            "$each",
            "x",
        ]);
        (key, inner, any::<bool>()).prop_map(|(key, inner, listed)| {
            let inner = if listed {
                Bson::Array(vec![bson!(1), inner.into()])
            } else {
                inner.into()
            };
            doc! { "first": 1, key: inner }
        })
    })
}

proptest! {
    #[test]
    fn the_hidden_can_be_named_nowhere(document in naming_the_hidden()) {
        let depth = 100;
        prop_assert_ne!(answer(filter(&document, depth)), Fine);
        prop_assert_ne!(answer(projection(&document, depth)), Fine);
        prop_assert_ne!(answer(self::document(&document, depth, BYTES)), Fine);
        for operator in ["$set", "$push", "$pull", "$unset", "$setOnInsert"] {
            let update = Change::Operators(doc! { operator: { "x": document.clone() } });
            prop_assert_ne!(answer(change(&update, depth, BYTES)), Fine);
        }
    }
}
