//! What each keyword of MongoDB's `$jsonSchema` means (manual:
//! `reference/operator/query/jsonSchema`), as tables of a schema, a document and
//! what it fails.

use bson::{Bson, Document, bson, doc};
use coglex_services::storage::StoreError;

use super::{strict, told};
use crate::support::*;

crate::on_both_stores!(
    types_are_checked,
    texts_are_checked,
    numbers_are_checked,
    arrays_are_checked,
    objects_are_checked,
    alternatives_are_checked,
);

/// A schema, a document without its `_id`, and what it fails: `path rule`, joined
/// by `; `, empty when it is accepted.
type Case = (Document, Document, &'static str);

async fn check(store: &Store, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for (at, (schema, document, expected)) in cases.into_iter().enumerate() {
        let collection = format!("c{at}");
        store
            .set_validator(&collection, strict(schema.clone()))
            .await
            .unwrap();
        let mut stored = doc! { "_id": 1 };
        stored.extend(document.clone());
        let answer = match insert(store, &collection, &[stored]).await {
            Ok(()) => String::new(),
            Err(StoreError::DocumentInvalid { failures }) => told(&failures),
            Err(error) => error.to_string(),
        };
        if answer != expected {
            wrong.push(format!(
                "{schema} on {document}: {answer:?}, not {expected:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A schema of the field `a`.
fn a(schema: Document) -> Document {
    doc! { "properties": { "a": schema } }
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

async fn types_are_checked(store: Store) {
    let values: Vec<(&'static str, Bson)> = vec![
        ("double", 1.5.into()),
        ("string", "x".into()),
        ("object", bson!({ "b": 1 })),
        ("array", bson!([1])),
        (
            "binData",
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: vec![1],
            }),
        ),
        ("objectId", bson::oid::ObjectId::new().into()),
        ("bool", true.into()),
        ("date", bson::DateTime::from_millis(0).into()),
        ("null", Bson::Null),
        ("int", 1.into()),
        (
            "timestamp",
            Bson::Timestamp(bson::Timestamp {
                time: 1,
                increment: 1,
            }),
        ),
        ("long", 1_i64.into()),
        ("decimal", decimal("1")),
        ("minKey", Bson::MinKey),
        ("maxKey", Bson::MaxKey),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, value) in &values {
        cases.push((
            a(doc! { "bsonType": *name }),
            doc! { "a": value.clone() },
            "",
        ));
        let other = if *name == "string" { "int" } else { "string" };
        cases.push((
            a(doc! { "bsonType": other }),
            doc! { "a": value.clone() },
            "/a bsonType",
        ));
    }
    for number in [1.into(), 1_i64.into(), 1.5.into(), decimal("1")] {
        let document: Document = doc! { "a": number };
        cases.push((a(doc! { "bsonType": "number" }), document.clone(), ""));
        cases.push((a(doc! { "type": "number" }), document, ""));
    }
    cases.extend([
        (
            a(doc! { "bsonType": "int" }),
            doc! { "a": 1.0 },
            "/a bsonType",
        ),
        (
            a(doc! { "bsonType": "int" }),
            doc! { "a": 1_i64 },
            "/a bsonType",
        ),
        (
            a(doc! { "bsonType": "long" }),
            doc! { "a": 1 },
            "/a bsonType",
        ),
        (
            a(doc! { "bsonType": ["int", "long"] }),
            doc! { "a": 1_i64 },
            "",
        ),
        (
            a(doc! { "bsonType": ["int", "long"] }),
            doc! { "a": "1" },
            "/a bsonType",
        ),
        (
            a(doc! { "bsonType": ["string", "null"] }),
            doc! { "a": Bson::Null },
            "",
        ),
        (a(doc! { "type": "string" }), doc! { "a": "x" }, ""),
        (a(doc! { "type": "string" }), doc! { "a": 1 }, "/a type"),
        (a(doc! { "type": "boolean" }), doc! { "a": false }, ""),
        (a(doc! { "type": "boolean" }), doc! { "a": 0 }, "/a type"),
        (a(doc! { "type": "object" }), doc! { "a": {} }, ""),
        (a(doc! { "type": "object" }), doc! { "a": [] }, "/a type"),
        (a(doc! { "type": "array" }), doc! { "a": [] }, ""),
        (a(doc! { "type": "array" }), doc! { "a": {} }, "/a type"),
        (a(doc! { "type": "null" }), doc! { "a": Bson::Null }, ""),
        (
            a(doc! { "type": ["null", "number"] }),
            doc! { "a": "x" },
            "/a type",
        ),
        // An array is not looked into.
        (
            a(doc! { "bsonType": "int" }),
            doc! { "a": [1] },
            "/a bsonType",
        ),
        // What is not there has no type.
        (a(doc! { "bsonType": "int" }), doc! { "b": "x" }, ""),
        (doc! { "bsonType": "object" }, doc! {}, ""),
        (
            doc! { "type": "object", "title": "t", "description": "d" },
            doc! {},
            "",
        ),
        (doc! {}, doc! { "a": 1 }, ""),
    ]);
    check(&store, cases).await;
}

async fn texts_are_checked(store: Store) {
    check(
        &store,
        vec![
            (a(doc! { "minLength": 3 }), doc! { "a": "abc" }, ""),
            (
                a(doc! { "minLength": 3 }),
                doc! { "a": "ab" },
                "/a minLength",
            ),
            (
                a(doc! { "minLength": 3_i64 }),
                doc! { "a": "ab" },
                "/a minLength",
            ),
            (
                a(doc! { "minLength": 3.0 }),
                doc! { "a": "ab" },
                "/a minLength",
            ),
            (a(doc! { "maxLength": 3 }), doc! { "a": "abc" }, ""),
            (
                a(doc! { "maxLength": 3 }),
                doc! { "a": "abcd" },
                "/a maxLength",
            ),
            (a(doc! { "maxLength": 0 }), doc! { "a": "" }, ""),
            // Characters, not bytes.
            (a(doc! { "maxLength": 3 }), doc! { "a": "äöü" }, ""),
            (
                a(doc! { "minLength": 2 }),
                doc! { "a": "😀" },
                "/a minLength",
            ),
            // Of other types nothing is asked.
            (a(doc! { "minLength": 3 }), doc! { "a": 1 }, ""),
            (a(doc! { "maxLength": 1 }), doc! { "a": [1, 2, 3] }, ""),
            (a(doc! { "pattern": "^[a-z]+$" }), doc! { "a": "abc" }, ""),
            (
                a(doc! { "pattern": "^[a-z]+$" }),
                doc! { "a": "aBc" },
                "/a pattern",
            ),
            (a(doc! { "pattern": "b" }), doc! { "a": "abc" }, ""),
            (a(doc! { "pattern": "b" }), doc! { "a": 5 }, ""),
            (a(doc! { "pattern": "@" }), doc! { "a": ["x"] }, ""),
            (
                a(doc! { "pattern": "x", "minLength": 5 }),
                doc! { "a": "y" },
                "/a pattern; /a minLength",
            ),
        ],
    )
    .await;
}

async fn numbers_are_checked(store: Store) {
    check(
        &store,
        vec![
            (a(doc! { "minimum": 3 }), doc! { "a": 3 }, ""),
            (a(doc! { "minimum": 3 }), doc! { "a": 2 }, "/a minimum"),
            (a(doc! { "minimum": 3 }), doc! { "a": 2.9 }, "/a minimum"),
            (a(doc! { "minimum": 2.5 }), doc! { "a": 3_i64 }, ""),
            (a(doc! { "maximum": 3 }), doc! { "a": 3.0 }, ""),
            (a(doc! { "maximum": 3 }), doc! { "a": 4_i64 }, "/a maximum"),
            (
                a(doc! { "minimum": 3, "exclusiveMinimum": true }),
                doc! { "a": 3 },
                "/a minimum",
            ),
            (
                a(doc! { "minimum": 3, "exclusiveMinimum": true }),
                doc! { "a": 3.1 },
                "",
            ),
            (
                a(doc! { "minimum": 3, "exclusiveMinimum": false }),
                doc! { "a": 3 },
                "",
            ),
            (
                a(doc! { "maximum": 3, "exclusiveMaximum": true }),
                doc! { "a": 3.0 },
                "/a maximum",
            ),
            (
                a(doc! { "maximum": 3, "exclusiveMaximum": true }),
                doc! { "a": 2 },
                "",
            ),
            (a(doc! { "minimum": 3 }), doc! { "a": "1" }, ""),
            (a(doc! { "minimum": 3 }), doc! { "a": [1] }, ""),
            (a(doc! { "minimum": -1, "maximum": 1 }), doc! { "a": 0 }, ""),
            (
                a(doc! { "minimum": 9_007_199_254_740_993_i64 }),
                doc! { "a": 9_007_199_254_740_992_i64 },
                "/a minimum",
            ),
            (a(doc! { "multipleOf": 5 }), doc! { "a": 15 }, ""),
            (a(doc! { "multipleOf": 5 }), doc! { "a": -15 }, ""),
            (a(doc! { "multipleOf": 5 }), doc! { "a": 0 }, ""),
            (
                a(doc! { "multipleOf": 5 }),
                doc! { "a": 16 },
                "/a multipleOf",
            ),
            (a(doc! { "multipleOf": 0.5 }), doc! { "a": 1.5 }, ""),
            (
                a(doc! { "multipleOf": 0.5 }),
                doc! { "a": 1.25 },
                "/a multipleOf",
            ),
            (a(doc! { "multipleOf": 2 }), doc! { "a": "x" }, ""),
        ],
    )
    .await;
}

async fn arrays_are_checked(store: Store) {
    let ints = doc! { "bsonType": "int" };
    let pair = bson!([{ "bsonType": "int" }, { "bsonType": "string" }]);
    check(
        &store,
        vec![
            (a(doc! { "minItems": 2 }), doc! { "a": [1, 2] }, ""),
            (a(doc! { "minItems": 2 }), doc! { "a": [1] }, "/a minItems"),
            (a(doc! { "maxItems": 2 }), doc! { "a": [1, 2] }, ""),
            (
                a(doc! { "maxItems": 2 }),
                doc! { "a": [1, 2, 3] },
                "/a maxItems",
            ),
            (a(doc! { "maxItems": 0 }), doc! { "a": [] }, ""),
            (a(doc! { "minItems": 2 }), doc! { "a": "x" }, ""),
            (
                a(doc! { "uniqueItems": true }),
                doc! { "a": [1, 2, "1"] },
                "",
            ),
            (
                a(doc! { "uniqueItems": true }),
                doc! { "a": [1, 2, 1] },
                "/a uniqueItems",
            ),
            (
                a(doc! { "uniqueItems": true }),
                doc! { "a": [1, 1.0] },
                "/a uniqueItems",
            ),
            (
                a(doc! { "uniqueItems": true }),
                doc! { "a": [{ "b": 1 }, { "b": 1_i64 }] },
                "/a uniqueItems",
            ),
            (
                a(doc! { "uniqueItems": true }),
                doc! { "a": [[1, 2], [2, 1]] },
                "",
            ),
            (a(doc! { "uniqueItems": true }), doc! { "a": [true, 1] }, ""),
            (a(doc! { "uniqueItems": false }), doc! { "a": [1, 1] }, ""),
            (a(doc! { "items": ints.clone() }), doc! { "a": [1, 2] }, ""),
            (a(doc! { "items": ints.clone() }), doc! { "a": [] }, ""),
            (
                a(doc! { "items": ints.clone() }),
                doc! { "a": [1, "x", "y"] },
                "/a/1 bsonType",
            ),
            (a(doc! { "items": ints.clone() }), doc! { "a": "x" }, ""),
            (
                a(doc! { "items": { "items": ints } }),
                doc! { "a": [[1], [1, "x"]] },
                "/a/1/1 bsonType",
            ),
            (
                a(doc! { "items": pair.clone() }),
                doc! { "a": [1, "x", 2.5] },
                "",
            ),
            (a(doc! { "items": pair.clone() }), doc! { "a": [1] }, ""),
            (
                a(doc! { "items": pair.clone() }),
                doc! { "a": ["x", 1] },
                "/a/0 bsonType; /a/1 bsonType",
            ),
            (
                a(doc! { "items": pair.clone(), "additionalItems": true }),
                doc! { "a": [1, "x", 2] },
                "",
            ),
            (
                a(doc! { "items": pair.clone(), "additionalItems": false }),
                doc! { "a": [1, "x"] },
                "",
            ),
            (
                a(doc! { "items": pair.clone(), "additionalItems": false }),
                doc! { "a": [1, "x", 2] },
                "/a additionalItems",
            ),
            (
                a(doc! { "items": pair.clone(), "additionalItems": { "bsonType": "bool" } }),
                doc! { "a": [1, "x", true] },
                "",
            ),
            (
                a(doc! { "items": pair, "additionalItems": { "bsonType": "bool" } }),
                doc! { "a": [1, "x", true, 0] },
                "/a/3 bsonType",
            ),
            // Without a list of items it says nothing.
            (a(doc! { "additionalItems": false }), doc! { "a": [1] }, ""),
            (
                a(doc! { "items": {}, "additionalItems": false }),
                doc! { "a": [1] },
                "",
            ),
        ],
    )
    .await;
}

async fn objects_are_checked(store: Store) {
    let only = doc! { "properties": { "_id": {}, "a": {} }, "additionalProperties": false };
    let int = doc! { "bsonType": "int" };
    check(
        &store,
        vec![
            (doc! { "required": ["a"] }, doc! { "a": Bson::Null }, ""),
            (doc! { "required": ["a"] }, doc! { "b": 1 }, "/a required"),
            (doc! { "required": ["a", "b"] }, doc! {}, "/a required; /b required"),
            (a(doc! { "required": ["b"] }), doc! { "a": {} }, "/a/b required"),
            (a(doc! { "required": ["b"] }), doc! { "a": [] }, ""),
            (a(doc! { "required": ["b"] }), doc! {}, ""),
            (a(a(int.clone())), doc! { "a": { "a": 1 } }, ""),
            (a(a(int.clone())), doc! { "a": { "a": "x" } }, "/a/a bsonType"),
            (a(a(int.clone())), doc! { "a": 5 }, ""),
            (only.clone(), doc! { "a": 1 }, ""),
            (only.clone(), doc! { "a": 1, "b": 1, "c": 1 }, "/b additionalProperties; /c additionalProperties"),
            (a(doc! { "additionalProperties": false }), doc! { "a": { "b": 1 } }, "/a/b additionalProperties"),
            (a(doc! { "additionalProperties": true }), doc! { "a": { "b": 1 } }, ""),
            (a(doc! { "additionalProperties": int.clone() }), doc! { "a": { "b": 1, "c": 2 } }, ""),
            (a(doc! { "additionalProperties": int.clone() }), doc! { "a": { "b": 1, "c": "x" } }, "/a/c bsonType"),
            (a(doc! { "properties": { "b": {} }, "additionalProperties": int.clone() }), doc! { "a": { "b": "x" } }, ""),
            (a(doc! { "patternProperties": { "^n_": int.clone() } }), doc! { "a": { "n_x": 1, "s": "x" } }, ""),
            (a(doc! { "patternProperties": { "^n_": int.clone() } }), doc! { "a": { "n_x": "x" } }, "/a/n_x bsonType"),
            (a(doc! { "patternProperties": { "^n": int.clone() }, "additionalProperties": false }), doc! { "a": { "n": 1 } }, ""),
            (a(doc! { "patternProperties": { "^n": int.clone() }, "additionalProperties": false }), doc! { "a": { "m": 1 } }, "/a/m additionalProperties"),
            (a(doc! { "properties": { "n": { "minimum": 5 } }, "patternProperties": { "^n": int.clone() } }), doc! { "a": { "n": 1.5 } }, "/a/n minimum; /a/n bsonType"),
            (a(doc! { "minProperties": 1 }), doc! { "a": { "b": 1 } }, ""),
            (a(doc! { "minProperties": 1 }), doc! { "a": {} }, "/a minProperties"),
            (a(doc! { "maxProperties": 1 }), doc! { "a": { "b": 1, "c": 1 } }, "/a maxProperties"),
            // `_id` is a field like any other.
            (doc! { "maxProperties": 1 }, doc! { "a": 1 }, " maxProperties"),
            (doc! { "minProperties": 2 }, doc! { "a": 1 }, ""),
            (doc! { "dependencies": { "a": ["b"] } }, doc! { "a": 1, "b": 1 }, ""),
            (doc! { "dependencies": { "a": ["b"] } }, doc! { "b": 1 }, ""),
            (doc! { "dependencies": { "a": ["b", "c"] } }, doc! { "a": 1 }, "/b dependencies; /c dependencies"),
            (doc! { "dependencies": { "a": { "required": ["b"] } } }, doc! { "a": 1 }, "/b required"),
            (doc! { "dependencies": { "a": { "properties": { "b": int.clone() } } } }, doc! { "a": 1, "b": "x" }, "/b bsonType"),
            (doc! { "dependencies": { "a": { "properties": { "b": int } } } }, doc! { "b": "x" }, ""),
            (doc! { "properties": { "_id": { "bsonType": "int" } } }, doc! {}, ""),
            (doc! { "properties": { "_id": { "bsonType": "objectId" } } }, doc! {}, "/_id bsonType"),
            (doc! { "properties": { "a/b~": { "bsonType": "int" } } }, doc! { "a/b~": "x" }, "/a~1b~0 bsonType"),
        ],
    )
    .await;
}

async fn alternatives_are_checked(store: Store) {
    let int = doc! { "bsonType": "int" };
    let text = doc! { "bsonType": "string" };
    let small = doc! { "maximum": 10 };
    check(
        &store,
        vec![
            (a(doc! { "enum": ["x", "y", 1] }), doc! { "a": "x" }, ""),
            (a(doc! { "enum": ["x", "y", 1] }), doc! { "a": 1 }, ""),
            (a(doc! { "enum": ["x", "y", 1] }), doc! { "a": 1.0 }, ""),
            (
                a(doc! { "enum": ["x", "y", 1] }),
                doc! { "a": "z" },
                "/a enum",
            ),
            (a(doc! { "enum": ["x"] }), doc! { "a": ["x"] }, "/a enum"),
            (a(doc! { "enum": [["x"]] }), doc! { "a": ["x"] }, ""),
            (
                a(doc! { "enum": [{ "b": 1 }] }),
                doc! { "a": { "b": 1 } },
                "",
            ),
            (
                a(doc! { "enum": [Bson::Null] }),
                doc! { "a": Bson::Null },
                "",
            ),
            (a(doc! { "enum": [Bson::Null] }), doc! { "b": 1 }, ""),
            (
                a(doc! { "allOf": [int.clone(), small.clone()] }),
                doc! { "a": 5 },
                "",
            ),
            (
                a(doc! { "allOf": [int.clone(), small.clone()] }),
                doc! { "a": 11 },
                "/a maximum",
            ),
            (
                a(doc! { "allOf": [int.clone(), small.clone()] }),
                doc! { "a": 11.5 },
                "/a bsonType; /a maximum",
            ),
            (
                a(doc! { "anyOf": [int.clone(), text.clone()] }),
                doc! { "a": "x" },
                "",
            ),
            (
                a(doc! { "anyOf": [int.clone(), text.clone()] }),
                doc! { "a": true },
                "/a anyOf",
            ),
            (
                a(doc! { "oneOf": [int.clone(), small.clone()] }),
                doc! { "a": 11 },
                "",
            ),
            (
                a(doc! { "oneOf": [int.clone(), small.clone()] }),
                doc! { "a": 5 },
                "/a oneOf",
            ),
            (
                a(doc! { "oneOf": [int.clone(), text.clone()] }),
                doc! { "a": true },
                "/a oneOf",
            ),
            (a(doc! { "not": int.clone() }), doc! { "a": "x" }, ""),
            (a(doc! { "not": int.clone() }), doc! { "a": 1 }, "/a not"),
            (
                a(doc! { "not": { "not": int.clone() } }),
                doc! { "a": 1 },
                "",
            ),
            (
                doc! { "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] },
                doc! { "b": 1 },
                "",
            ),
            (
                doc! { "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] },
                doc! { "c": 1 },
                " anyOf",
            ),
            (
                doc! { "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] },
                doc! { "a": 1, "b": 1 },
                " oneOf",
            ),
            (
                doc! { "not": { "required": ["a"] } },
                doc! { "a": 1 },
                " not",
            ),
            (
                doc! { "allOf": [{ "required": ["a"] }, a(int.clone())] },
                doc! { "a": "x" },
                "/a bsonType",
            ),
            (
                a(doc! { "items": { "anyOf": [int, text] } }),
                doc! { "a": [1, "x", 2.5] },
                "/a/2 anyOf",
            ),
        ],
    )
    .await;
}

/// Where the server of the tests departs from MongoDB: its equality is Python's,
/// in which `true` is 1, and its remainders are those of doubles.
#[tokio::test]
async fn as_the_manual_has_it_on_the_embedded_store() {
    on_embedded(async |store: Store| {
        check(
            &store,
            vec![
                (a(doc! { "enum": [1] }), doc! { "a": true }, "/a enum"),
                (
                    a(doc! { "enum": [{ "b": 1, "c": 2 }] }),
                    doc! { "a": { "c": 2, "b": 1 } },
                    "",
                ),
                (
                    a(doc! { "uniqueItems": true }),
                    doc! { "a": [{ "b": 1, "c": 2 }, { "c": 2, "b": 1 }] },
                    "/a uniqueItems",
                ),
                (a(doc! { "multipleOf": 0.1 }), doc! { "a": 0.3 }, ""),
                (
                    a(doc! { "multipleOf": 2 }),
                    doc! { "a": decimal("3") },
                    "/a multipleOf",
                ),
                (
                    a(doc! { "minimum": 3 }),
                    doc! { "a": decimal("2.9") },
                    "/a minimum",
                ),
                (
                    a(doc! { "maximum": 3 }),
                    doc! { "a": f64::NAN },
                    "/a maximum",
                ),
                (
                    a(doc! { "minimum": 3 }),
                    doc! { "a": f64::NAN },
                    "/a minimum",
                ),
                (
                    a(doc! { "multipleOf": 3 }),
                    doc! { "a": f64::INFINITY },
                    "/a multipleOf",
                ),
            ],
        )
        .await;
    })
    .await;
}
