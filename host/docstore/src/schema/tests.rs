//! Refusals of schemas, the words of failures, and what is easier to say here
//! than through a store. What each keyword means is told by the table of cases
//! that runs on every store, in `services/tests/both_stores/schema.rs`.

use bson::{Bson, Document, RawDocumentBuf, doc};

use super::{Failure, MAX_FAILURES, Schema, pointer};

fn failures(schema: Document, document: Document) -> Vec<Failure> {
    let raw = RawDocumentBuf::try_from(&document).unwrap();
    let compiled = Schema::compile(&schema).unwrap();
    let failures = compiled.failures(&raw).unwrap();
    assert_eq!(compiled.matches(&raw).unwrap(), failures.is_empty());
    failures
}

fn says(schema: Document, document: Document) -> String {
    let lines: Vec<String> = failures(schema, document)
        .into_iter()
        .map(|failure| format!("{} {} {}", failure.path, failure.rule, failure.detail))
        .collect();
    lines.join("; ")
}

fn refused(schema: Document, expected: &str) {
    let sentence = Schema::compile(&schema).unwrap_err().to_string();
    assert!(sentence.contains(expected), "{schema}: {sentence}");
}

#[test]
fn malformed_schemas_are_refused_by_keyword_and_place() {
    for (schema, expected) in [
        (
            doc! { "$ref": "#" },
            "`$ref` at the schema's top is a keyword that is not supported",
        ),
        (doc! { "$schema": "x" }, "`$schema`"),
        (doc! { "default": 1 }, "`default`"),
        (doc! { "definitions": {} }, "`definitions`"),
        (doc! { "format": "email" }, "`format`"),
        (doc! { "id": "x" }, "`id`"),
        (doc! { "encrypt": {} }, "`encrypt`"),
        (
            doc! { "const": 1 },
            "`const` at the schema's top is not a keyword",
        ),
        (
            doc! { "properties": { "a": { "format": "x" } } },
            "`format` at /properties/a",
        ),
        (doc! { "items": [{}, { "foo": 1 }] }, "`foo` at /items/1"),
        (
            doc! { "anyOf": [{ "not": { "foo": 1 } }] },
            "at /anyOf/0/not",
        ),
        (doc! { "type": "integer" }, "cannot be `integer`"),
        (doc! { "bsonType": "integer" }, "cannot be `integer`"),
        (doc! { "type": "int" }, "names no known type"),
        (
            doc! { "type": "boolean", "bsonType": "bool" },
            "cannot stand beside",
        ),
        (doc! { "bsonType": "boolean" }, "names no known type"),
        (doc! { "bsonType": [] }, "must name a type"),
        (doc! { "bsonType": ["int", "int"] }, "names a type twice"),
        (doc! { "bsonType": 16 }, "must be a string"),
        (doc! { "title": 1 }, "must be a string"),
        (doc! { "description": {} }, "must be a string"),
        (doc! { "pattern": "(?=a)" }, "is refused: the group"),
        (
            doc! { "pattern": "(" },
            "not a supported regular expression",
        ),
        (
            doc! { "pattern": "(((a{100}){100}){100}){100}" },
            "too costly",
        ),
        (doc! { "maxLength": -1 }, "whole number, 0 or more"),
        (doc! { "minLength": 1.5 }, "whole number, 0 or more"),
        (doc! { "minItems": "1" }, "whole number, 0 or more"),
        (doc! { "multipleOf": 0 }, "above 0"),
        (doc! { "multipleOf": f64::NAN }, "above 0"),
        (doc! { "multipleOf": f64::INFINITY }, "above 0"),
        (doc! { "maximum": "1" }, "must be a number"),
        (doc! { "exclusiveMaximum": true }, "needs `maximum`"),
        (
            doc! { "minimum": 1, "exclusiveMinimum": 2 },
            "true or false",
        ),
        (doc! { "uniqueItems": 1 }, "true or false"),
        (doc! { "items": 1 }, "a schema or a list of schemas"),
        (doc! { "additionalItems": 1 }, "true, false or a schema"),
        (
            doc! { "additionalProperties": "no" },
            "true, false or a schema",
        ),
        (doc! { "properties": [] }, "must be an object"),
        (
            doc! { "properties": { "a": 1 } },
            "must be an object, a schema",
        ),
        (doc! { "properties": { "a.b": {} } }, "empty or has a dot"),
        (doc! { "properties": { "": {} } }, "empty or has a dot"),
        (doc! { "patternProperties": { "(": {} } }, "is refused"),
        (doc! { "required": [] }, "at least one name"),
        (doc! { "required": "a" }, "at least one name"),
        (doc! { "required": ["a", "a"] }, "has a name twice"),
        (doc! { "required": ["a.b"] }, "has a dot"),
        (doc! { "required": [1] }, "must be a string"),
        (doc! { "dependencies": { "a": [] } }, "at least one name"),
        (
            doc! { "dependencies": { "a": 1 } },
            "must be an object, a schema",
        ),
        (doc! { "allOf": [] }, "at least one schema"),
        (doc! { "oneOf": {} }, "at least one schema"),
        (doc! { "not": [] }, "must be an object, a schema"),
        (doc! { "enum": [] }, "at least one value"),
        (doc! { "enum": [1, 1.0] }, "a value twice"),
        (
            doc! { "enum": [{ "a": 1, "b": 2 }, { "b": 2, "a": 1 }] },
            "a value twice",
        ),
    ] {
        refused(schema, expected);
    }
}

#[test]
fn schemas_are_bounded() {
    let deep = (0..120).fold(doc! {}, |inner, _| doc! { "not": inner });
    refused(deep, "deeper than 100");
    let wide: Document = (0..2_001)
        .map(|n| (format!("p{n}"), doc! {}.into()))
        .collect();
    refused(doc! { "properties": wide }, "more than 2000 schemas");
    let patterns: Document = (0..65).map(|n| (format!("p{n}"), doc! {}.into())).collect();
    refused(
        doc! { "patternProperties": patterns },
        "more than 64 patterns",
    );
    refused(doc! { "enum": ["x".repeat(300_000)] }, "the limit is");
}

#[test]
fn failures_name_the_path_and_what_is_asked() {
    let schema = doc! {
        "required": ["name", "mail"],
        "properties": {
            "name": { "bsonType": "string", "minLength": 2 },
            "address": { "properties": { "zip": { "pattern": "^[0-9]{5}$" } } },
            "tags": { "items": { "enum": ["a", "b"] }, "maxItems": 2 },
            "age": { "bsonType": ["int", "long"], "minimum": 18, "maximum": 99, "exclusiveMaximum": true },
            "a/b~c": { "multipleOf": 5 },
        },
        "additionalProperties": false,
    };
    let document = doc! {
        "name": "x", "address": { "zip": "12" }, "tags": ["a", "b", "c"], "age": 99, "a/b~c": 7, "more": 1,
    };
    assert_eq!(
        failures(schema, document)
            .iter()
            .map(|failure| format!("{} {}: {}", failure.path, failure.rule, failure.detail))
            .collect::<Vec<_>>(),
        [
            "/name minLength: must have at least 2 characters",
            "/address/zip pattern: must match the pattern `^[0-9]{5}$`",
            "/tags maxItems: must have at most 2 items",
            "/tags/2 enum: must be one of \"a\", \"b\"",
            "/age maximum: must be less than 99",
            "/a~1b~0c multipleOf: must be a multiple of 5",
            "/more additionalProperties: is not a field that the schema allows",
            "/mail required: is required",
        ]
    );
    assert_eq!(
        says(doc! { "bsonType": "array" }, doc! {}),
        " bsonType must be of type array"
    );
    assert_eq!(
        says(doc! { "dependencies": { "a": ["b"] } }, doc! { "a": 1 }),
        "/b dependencies is required when `a` is there"
    );
}

#[test]
fn a_value_of_the_wrong_type_fails_that_alone() {
    let schema = doc! { "properties": { "a": { "bsonType": "string", "enum": ["x"] } } };
    assert_eq!(
        says(schema, doc! { "a": 5 }),
        "/a bsonType must be of type string"
    );
}

#[test]
fn failures_are_told_up_to_a_bound() {
    let many: Document = (0..100)
        .map(|n| (format!("f{n}"), Bson::Int32(n)))
        .collect();
    let schema = doc! { "additionalProperties": false };
    assert_eq!(failures(schema, many).len(), MAX_FAILURES);
    let wrong: Vec<Bson> = (0..1_000).map(Bson::Int32).collect();
    let schema = doc! { "properties": { "a": { "items": { "bsonType": "string" } } } };
    assert_eq!(failures(schema, doc! { "a": wrong }).len(), 1);
}

#[test]
fn multiples_are_exact() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    for (value, divisor, expected) in [
        (Bson::from(0.3), Bson::from(0.1), true),
        (1.1.into(), 0.1.into(), true),
        (0.35.into(), 0.1.into(), false),
        ((-6).into(), 3.into(), true),
        (7.into(), 3.into(), false),
        (0.into(), 3.into(), true),
        (9_007_199_254_740_993_i64.into(), 2.into(), false),
        (i64::MIN.into(), 2.into(), true),
        (1e300.into(), 7.into(), false),
        (1e300.into(), 2.into(), true),
        (decimal("1E+6000"), 3.into(), false),
        (decimal("3E+6000"), 3.into(), true),
        (3.into(), decimal("1E-6000"), true),
        (3.into(), decimal("3E+6000"), false),
        (
            decimal("0.0000000000000000000000000000000007"),
            decimal("7E-34"),
            true,
        ),
        (f64::NAN.into(), 1.into(), false),
        (f64::INFINITY.into(), 1.into(), false),
    ] {
        let schema = doc! { "properties": { "a": { "multipleOf": divisor.clone() } } };
        let answer = failures(schema, doc! { "a": value.clone() }).is_empty();
        assert_eq!(answer, expected, "{value} of {divisor}");
    }
}

#[test]
fn pointers_are_escaped() {
    let mut path = String::new();
    pointer(&mut path, "a/b");
    pointer(&mut path, "~1");
    assert_eq!(path, "/a~1b/~01");
}
