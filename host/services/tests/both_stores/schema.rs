//! Schemas of collections: what each keyword of MongoDB's `$jsonSchema` means
//! (manual: `reference/operator/query/jsonSchema`), the report of what a document
//! fails, and that no way of writing goes past them.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, bson, doc};
use coglex_services::accounts::{AuthSettings, SigningKey};
use coglex_services::caller::PluginCaller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::grants::Grants;
use coglex_services::storage::{Change, Failure, StoreError, Update, ValidationLevel, Validator};
use coglex_services::{Accounts, Caller, Error};

use crate::support::*;

crate::on_both_stores!(
    types_are_checked,
    texts_are_checked,
    numbers_are_checked,
    arrays_are_checked,
    objects_are_checked,
    alternatives_are_checked,
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

/// A schema, a document without its `_id`, and what it fails: `path rule`, joined
/// by `; `, empty when it is accepted.
type Case = (Document, Document, &'static str);

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
    assert_eq!(store.count("c", doc! { "n": 5 }).await.unwrap(), 3);
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
    assert_eq!(store.count("c", doc! {}).await.unwrap(), 0);
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
        session_ttl: Duration::from_secs(60),
        signing_key: SigningKey(Arc::from([7; 32])),
        issuer: "coglex".into(),
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
