//! What matches what. The expectations are MongoDB's, from its manual and from
//! the tests of its matcher.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, bson, doc};
use proptest::prelude::*;

use super::Filter;
use crate::value::{self, regex};

fn matches(filter: &Document, document: &Document) -> bool {
    let raw = value::encode(document).unwrap();
    Filter::compile(filter)
        .unwrap()
        .matches(raw.as_bytes())
        .unwrap()
}

fn check(filter: Document, document: Document, expected: bool) {
    assert_eq!(
        matches(&filter, &document),
        expected,
        "{filter} on {document}"
    );
}

fn refuse(filter: Document, why: &str) {
    let error = Filter::compile(&filter).unwrap_err().to_string();
    assert!(error.contains(why), "{filter}: {error}");
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

#[test]
fn equality() {
    check(doc! {}, doc! { "a": 1 }, true);
    check(doc! { "a": 1 }, doc! { "a": 1 }, true);
    check(doc! { "a": 1 }, doc! { "a": 2 }, false);
    check(doc! { "a": 1 }, doc! { "b": 1 }, false);
    check(doc! { "a": 1 }, doc! { "a": 1.0 }, true);
    check(doc! { "a": 1 }, doc! { "a": 1_i64 }, true);
    check(doc! { "a": decimal("1.0") }, doc! { "a": 1 }, true);
    check(
        doc! { "a": 9007199254740993_i64 },
        doc! { "a": 9007199254740992.0 },
        false,
    );
    check(doc! { "a": "1" }, doc! { "a": 1 }, false);
    check(doc! { "a": true }, doc! { "a": 1 }, false);
    check(
        doc! { "a": "x" },
        doc! { "a": Bson::Symbol("x".into()) },
        true,
    );
    check(doc! { "a": f64::NAN }, doc! { "a": f64::NAN }, true);
    check(doc! { "a": 0.0 }, doc! { "a": -0.0 }, true);
    check(doc! { "a": { "$eq": 1 } }, doc! { "a": 1 }, true);
    check(doc! { "a": 1, "b": 2 }, doc! { "a": 1, "b": 2 }, true);
    check(doc! { "a": 1, "b": 2 }, doc! { "a": 1, "b": 3 }, false);
    check(doc! { "": 1 }, doc! { "": 1 }, true);
    check(
        doc! { "a": { "$ref": "c", "$id": 1 } },
        doc! { "a": { "$ref": "c", "$id": 1 } },
        true,
    );
}

#[test]
fn embedded_documents_are_equal_field_by_field_in_order() {
    check(doc! { "a": { "b": 1 } }, doc! { "a": { "b": 1 } }, true);
    check(doc! { "a": { "b": 1 } }, doc! { "a": { "b": 1.0 } }, true);
    check(
        doc! { "a": { "b": 1 } },
        doc! { "a": { "b": 1, "c": 2 } },
        false,
    );
    check(
        doc! { "a": { "b": 1, "c": 2 } },
        doc! { "a": { "c": 2, "b": 1 } },
        false,
    );
    check(doc! { "a": {} }, doc! { "a": {} }, true);
    check(doc! { "a": {} }, doc! { "a": { "b": 1 } }, false);
    check(doc! { "a": { "b": 1 } }, doc! { "a": [{ "b": 1 }] }, true);
    check(
        doc! { "a.b": { "c": [1, 2] } },
        doc! { "a": { "b": { "c": [1, 2] } } },
        true,
    );
}

#[test]
fn arrays_match_as_a_whole_or_by_an_element() {
    check(doc! { "a": 1 }, doc! { "a": [1, 2] }, true);
    check(doc! { "a": 3 }, doc! { "a": [1, 2] }, false);
    check(doc! { "a": [1, 2] }, doc! { "a": [1, 2] }, true);
    check(doc! { "a": [1, 2] }, doc! { "a": [2, 1] }, false);
    check(doc! { "a": [1, 2] }, doc! { "a": [[1, 2], 3] }, true);
    check(doc! { "a": 1 }, doc! { "a": [[1]] }, false);
    check(doc! { "a": [] }, doc! { "a": [] }, true);
    check(doc! { "a": [] }, doc! { "a": [[]] }, true);
    check(doc! { "a": [] }, doc! { "a": [1] }, false);
    check(doc! { "a": { "$gt": 2 } }, doc! { "a": [1, 3] }, true);
    check(
        doc! { "a": { "$gt": 2, "$lt": 2 } },
        doc! { "a": [1, 3] },
        true,
    );
    check(doc! { "a": { "$gt": [1] } }, doc! { "a": [2] }, true);
    check(doc! { "a": { "$gt": [3] } }, doc! { "a": [2] }, false);
}

#[test]
fn paths_go_through_arrays() {
    check(doc! { "a.b": 1 }, doc! { "a": { "b": 1 } }, true);
    check(
        doc! { "a.b": 1 },
        doc! { "a": [{ "b": 1 }, { "b": 2 }] },
        true,
    );
    check(
        doc! { "a.b": 3 },
        doc! { "a": [{ "b": 1 }, { "b": 2 }] },
        false,
    );
    check(doc! { "a.b": 1 }, doc! { "a": [{ "b": [1, 2] }] }, true);
    check(doc! { "a.b": 1 }, doc! { "a": [[{ "b": 1 }]] }, false);
    check(doc! { "a.0": 1 }, doc! { "a": [1, 2] }, true);
    check(doc! { "a.0": 2 }, doc! { "a": [1, 2] }, false);
    check(doc! { "a.0": 1 }, doc! { "a": { "0": 1 } }, true);
    check(doc! { "a.0": 1 }, doc! { "a": [{ "0": 1 }] }, true);
    check(doc! { "a.0.b": 1 }, doc! { "a": [{ "b": 1 }] }, true);
    check(doc! { "a.1.b": 1 }, doc! { "a": [{ "b": 1 }] }, false);
    check(doc! { "a.0.0": 1 }, doc! { "a": [[1]] }, true);
    check(doc! { "a.0": 1 }, doc! { "a": [[1]] }, false);
    check(doc! { "a.00": 1 }, doc! { "a": [1] }, false);
    check(
        doc! { "a.b.c": 1 },
        doc! { "a": [{ "b": [{ "c": 1 }] }] },
        true,
    );
}

#[test]
fn null_means_null_or_missing() {
    check(doc! { "a": null }, doc! { "a": null }, true);
    check(doc! { "a": null }, doc! {}, true);
    check(doc! { "a": null }, doc! { "a": Bson::Undefined }, true);
    check(doc! { "a": null }, doc! { "a": 0 }, false);
    check(doc! { "a": null }, doc! { "a": [] }, false);
    check(doc! { "a": null }, doc! { "a": [null] }, true);
    check(doc! { "a.b": null }, doc! { "a": 5 }, true);
    check(doc! { "a.b": null }, doc! { "a": {} }, true);
    check(doc! { "a.b": null }, doc! { "a": [1, 2] }, false);
    check(doc! { "a.b": null }, doc! { "a": [] }, false);
    check(doc! { "a.b": null }, doc! { "a": [{ "b": 1 }, {}] }, true);
    check(doc! { "a.b": null }, doc! { "a": [{ "b": 1 }] }, false);
    check(doc! { "a": { "$ne": null } }, doc! {}, false);
    check(doc! { "a": { "$ne": null } }, doc! { "a": 1 }, true);
    check(doc! { "a": { "$gte": null } }, doc! {}, true);
    check(doc! { "a": { "$lte": null } }, doc! { "a": null }, true);
    check(doc! { "a": { "$gt": null } }, doc! { "a": 1 }, false);
    check(doc! { "a": { "$lt": null } }, doc! {}, false);
    check(doc! { "a": { "$in": [null] } }, doc! {}, true);
    check(doc! { "a": { "$in": [null, 1] } }, doc! { "a": 2 }, false);
    check(doc! { "a": { "$nin": [null] } }, doc! {}, false);
    check(doc! { "a": { "$nin": [1] } }, doc! {}, true);
}

#[test]
fn comparisons_stay_within_a_type() {
    check(doc! { "a": { "$gt": 1 } }, doc! { "a": 2 }, true);
    check(doc! { "a": { "$gt": 1 } }, doc! { "a": 1 }, false);
    check(doc! { "a": { "$gte": 1 } }, doc! { "a": 1.0 }, true);
    check(
        doc! { "a": { "$lt": 1 } },
        doc! { "a": decimal("0.5") },
        true,
    );
    check(doc! { "a": { "$lte": 1 } }, doc! { "a": 1_i64 }, true);
    check(doc! { "a": { "$gt": 1 } }, doc! { "a": "2" }, false);
    check(doc! { "a": { "$lt": 1 } }, doc! { "a": Bson::Null }, false);
    check(doc! { "a": { "$lt": 1 } }, doc! {}, false);
    check(doc! { "a": { "$gt": "a" } }, doc! { "a": "b" }, true);
    check(doc! { "a": { "$gt": "B" } }, doc! { "a": "a" }, true);
    check(doc! { "a": { "$gt": false } }, doc! { "a": true }, true);
    check(
        doc! { "a": { "$gt": DateTime::from_millis(5) } },
        doc! { "a": DateTime::from_millis(6) },
        true,
    );
    check(
        doc! { "a": { "$gt": DateTime::from_millis(5) } },
        doc! { "a": 6 },
        false,
    );
    check(
        doc! { "a": { "$lt": ObjectId::from_bytes([2; 12]) } },
        doc! { "a": ObjectId::from_bytes([1; 12]) },
        true,
    );
    check(
        doc! { "a": { "$gt": { "b": 1 } } },
        doc! { "a": { "b": 2 } },
        true,
    );
    check(doc! { "a": { "$lt": f64::NAN } }, doc! { "a": 1 }, false);
    check(
        doc! { "a": { "$gte": f64::NAN } },
        doc! { "a": f64::NAN },
        true,
    );
    check(doc! { "a": { "$lt": 5 } }, doc! { "a": f64::NAN }, false);
    check(doc! { "a": { "$gt": Bson::MinKey } }, doc! { "a": 1 }, true);
    check(
        doc! { "a": { "$lt": Bson::MaxKey } },
        doc! { "a": "x" },
        true,
    );
    check(
        doc! { "a": { "$lt": Bson::MinKey } },
        doc! { "a": 1 },
        false,
    );
    check(doc! { "a": Bson::MinKey }, doc! { "a": Bson::MinKey }, true);
    check(
        doc! { "a": { "$gt": i64::MAX - 1 } },
        doc! { "a": 9223372036854775807_i64 },
        true,
    );
}

#[test]
fn negations_look_at_all_elements() {
    check(doc! { "a": { "$ne": 1 } }, doc! { "a": 2 }, true);
    check(doc! { "a": { "$ne": 1 } }, doc! { "a": [1, 2] }, false);
    check(doc! { "a": { "$ne": 1 } }, doc! {}, true);
    check(
        doc! { "a": { "$nin": [1, 2] } },
        doc! { "a": [3, 2] },
        false,
    );
    check(doc! { "a": { "$nin": [1, 2] } }, doc! { "a": [3] }, true);
    check(doc! { "a": { "$nin": [] } }, doc! { "a": 1 }, true);
    check(
        doc! { "a": { "$not": { "$gt": 1 } } },
        doc! { "a": 1 },
        true,
    );
    check(doc! { "a": { "$not": { "$gt": 1 } } }, doc! {}, true);
    check(
        doc! { "a": { "$not": { "$gt": 1 } } },
        doc! { "a": "x" },
        true,
    );
    check(
        doc! { "a": { "$not": { "$gt": 1, "$lt": 3 } } },
        doc! { "a": 2 },
        false,
    );
    check(
        doc! { "a": { "$not": { "$gt": 1, "$lt": 3 } } },
        doc! { "a": 5 },
        true,
    );
    check(
        doc! { "a": { "$not": regex("^x", "") } },
        doc! { "a": "xy" },
        false,
    );
    check(
        doc! { "a": { "$not": { "$regex": "^x" } } },
        doc! { "a": "y" },
        true,
    );
    check(
        doc! { "a": { "$not": { "$not": { "$gt": 1 } } } },
        doc! { "a": 2 },
        true,
    );
}

#[test]
fn membership() {
    check(doc! { "a": { "$in": [1, "x"] } }, doc! { "a": "x" }, true);
    check(doc! { "a": { "$in": [1, "x"] } }, doc! { "a": 1.0 }, true);
    check(doc! { "a": { "$in": [1, 2] } }, doc! { "a": 3 }, false);
    check(doc! { "a": { "$in": [] } }, doc! { "a": 3 }, false);
    check(doc! { "a": { "$in": [3, 1] } }, doc! { "a": [0, 1] }, true);
    check(
        doc! { "a": { "$in": [[1, 2]] } },
        doc! { "a": [1, 2] },
        true,
    );
    check(
        doc! { "a": { "$in": [regex("^b", "i"), 1] } },
        doc! { "a": "Bob" },
        true,
    );
    check(
        doc! { "a": { "$nin": [regex("^b", "")] } },
        doc! { "a": "bob" },
        false,
    );
    check(
        doc! { "a": { "$in": [{ "b": 1 }] } },
        doc! { "a": { "b": 1 } },
        true,
    );
    check(
        doc! { "_id": { "$in": ["x", ObjectId::from_bytes([1; 12])] } },
        doc! { "_id": ObjectId::from_bytes([1; 12]) },
        true,
    );
    refuse(doc! { "a": { "$in": 1 } }, "$in at 'a' needs a list");
    refuse(
        doc! { "a": { "$in": [{ "$gt": 1 }] } },
        "cannot hold operators",
    );
    refuse(
        doc! { "a.b": { "$nin": { "c": 1 } } },
        "$nin at 'a.b' needs a list",
    );
}

#[test]
fn logic() {
    check(
        doc! { "$and": [{ "a": 1 }, { "b": 2 }] },
        doc! { "a": 1, "b": 2 },
        true,
    );
    check(
        doc! { "$and": [{ "a": 1 }, { "b": 2 }] },
        doc! { "a": 1 },
        false,
    );
    check(
        doc! { "$or": [{ "a": 1 }, { "b": 2 }] },
        doc! { "b": 2 },
        true,
    );
    check(
        doc! { "$or": [{ "a": 1 }, { "b": 2 }] },
        doc! { "b": 1 },
        false,
    );
    check(
        doc! { "$nor": [{ "a": 1 }, { "b": 2 }] },
        doc! { "b": 1 },
        true,
    );
    check(
        doc! { "$nor": [{ "a": 1 }, { "b": 2 }] },
        doc! { "a": 1 },
        false,
    );
    check(
        doc! { "$or": [{ "$and": [{ "a": 1 }, { "b": 1 }] }, { "c": 1 }], "d": 1 },
        doc! { "c": 1, "d": 1 },
        true,
    );
    check(doc! { "$or": [{}] }, doc! {}, true);
    check(
        doc! { "$and": [{ "a": { "$gt": 1 } }, { "a": { "$lt": 3 } }] },
        doc! { "a": 2 },
        true,
    );
    check(doc! { "$comment": "why", "a": 1 }, doc! { "a": 1 }, true);
    refuse(doc! { "$or": [] }, "$or needs a list of at least one");
    refuse(doc! { "$and": { "a": 1 } }, "$and needs a list");
    refuse(doc! { "$nor": [1] }, "must be a filter document");
}

#[test]
fn existence_and_types() {
    check(
        doc! { "a": { "$exists": true } },
        doc! { "a": Bson::Null },
        true,
    );
    check(doc! { "a": { "$exists": true } }, doc! {}, false);
    check(doc! { "a": { "$exists": false } }, doc! {}, true);
    check(doc! { "a": { "$exists": 0 } }, doc! { "a": 1 }, false);
    check(doc! { "a": { "$exists": 1 } }, doc! { "a": [] }, true);
    check(
        doc! { "a.b": { "$exists": true } },
        doc! { "a": [{ "b": 1 }, {}] },
        true,
    );
    check(
        doc! { "a.b": { "$exists": false } },
        doc! { "a": [{ "b": 1 }, {}] },
        false,
    );
    check(
        doc! { "a.b": { "$exists": false } },
        doc! { "a": [1] },
        true,
    );
    check(
        doc! { "a.1": { "$exists": true } },
        doc! { "a": [1, 2] },
        true,
    );
    check(doc! { "a": { "$type": "string" } }, doc! { "a": "x" }, true);
    check(doc! { "a": { "$type": 2 } }, doc! { "a": "x" }, true);
    check(
        doc! { "a": { "$type": "number" } },
        doc! { "a": decimal("1") },
        true,
    );
    check(
        doc! { "a": { "$type": ["int", "null"] } },
        doc! { "a": Bson::Null },
        true,
    );
    check(doc! { "a": { "$type": "int" } }, doc! { "a": 1_i64 }, false);
    check(
        doc! { "a": { "$type": "int" } },
        doc! { "a": ["x", 1] },
        true,
    );
    check(doc! { "a": { "$type": "array" } }, doc! { "a": [1] }, true);
    check(doc! { "a": { "$type": "null" } }, doc! {}, false);
    check(
        doc! { "a": { "$type": -1 } },
        doc! { "a": Bson::MinKey },
        true,
    );
    refuse(doc! { "a": { "$type": "text" } }, "names no known type");
    refuse(doc! { "a": { "$type": 99 } }, "names no known type");
    refuse(doc! { "a": { "$type": [] } }, "at least one type");
}

#[test]
fn patterns() {
    check(doc! { "a": { "$regex": "b" } }, doc! { "a": "abc" }, true);
    check(
        doc! { "a": { "$regex": "B", "$options": "i" } },
        doc! { "a": "abc" },
        true,
    );
    check(
        doc! { "a": { "$options": "i", "$regex": "B" } },
        doc! { "a": "abc" },
        true,
    );
    check(doc! { "a": regex("^a", "") }, doc! { "a": "abc" }, true);
    check(
        doc! { "a": regex("^b", "") },
        doc! { "a": ["abc", "b"] },
        true,
    );
    check(doc! { "a": regex("1", "") }, doc! { "a": 1 }, false);
    check(doc! { "a": regex("x", "") }, doc! {}, false);
    check(
        doc! { "a": regex("x", "i") },
        doc! { "a": regex("x", "i") },
        true,
    );
    check(
        doc! { "a": { "$eq": regex("x", "i") } },
        doc! { "a": regex("x", "i") },
        true,
    );
    check(
        doc! { "a": { "$eq": regex("x", "i") } },
        doc! { "a": "x" },
        false,
    );
    check(
        doc! { "a": { "$regex": regex("B", "i") } },
        doc! { "a": "b" },
        true,
    );
    check(
        doc! { "a": { "$regex": regex("B", ""), "$options": "i" } },
        doc! { "a": "b" },
        true,
    );
    refuse(doc! { "a": { "$regex": "(" } }, "$regex at 'a'");
    refuse(doc! { "a": { "$regex": 1 } }, "must be a string");
    refuse(doc! { "a": { "$options": "i" } }, "needs a $regex");
    refuse(
        doc! { "a": { "$regex": "a", "$options": "g" } },
        "unknown option",
    );
    refuse(
        doc! { "a": { "$gt": regex("a", "") } },
        "regular expression",
    );
    refuse(doc! { "a": { "$ne": regex("a", "") } }, "use $not");
}

#[test]
fn array_operators() {
    check(doc! { "a": { "$size": 2 } }, doc! { "a": [1, 2] }, true);
    check(doc! { "a": { "$size": 0 } }, doc! { "a": [] }, true);
    check(doc! { "a": { "$size": 1 } }, doc! { "a": [[1, 2]] }, true);
    check(doc! { "a": { "$size": 2 } }, doc! { "a": [[1, 2]] }, false);
    check(doc! { "a": { "$size": 1 } }, doc! { "a": "x" }, false);
    check(doc! { "a": { "$size": 2.0 } }, doc! { "a": [1, 2] }, true);
    check(
        doc! { "a.b": { "$size": 1 } },
        doc! { "a": [{ "b": [1] }] },
        true,
    );
    check(
        doc! { "a": { "$all": [1, 2] } },
        doc! { "a": [2, 3, 1] },
        true,
    );
    check(doc! { "a": { "$all": [1, 2] } }, doc! { "a": [1] }, false);
    check(doc! { "a": { "$all": [1] } }, doc! { "a": 1 }, true);
    check(doc! { "a": { "$all": [] } }, doc! { "a": [1] }, false);
    check(
        doc! { "a": { "$all": [[1, 2]] } },
        doc! { "a": [1, 2] },
        true,
    );
    check(
        doc! { "a": { "$all": [regex("^x", ""), "y"] } },
        doc! { "a": ["xx", "y"] },
        true,
    );
    check(
        doc! { "a": { "$all": [{ "$elemMatch": { "b": 1 } }, { "$elemMatch": { "b": 2 } }] } },
        doc! { "a": [{ "b": 1 }, { "b": 2 }] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "$gt": 1, "$lt": 3 } } },
        doc! { "a": [0, 2] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "$gt": 1, "$lt": 3 } } },
        doc! { "a": [0, 5] },
        false,
    );
    check(
        doc! { "a": { "$elemMatch": { "$gt": 1 } } },
        doc! { "a": 2 },
        false,
    );
    check(
        doc! { "a": { "$elemMatch": { "b": 1, "c": 2 } } },
        doc! { "a": [{ "b": 1, "c": 2 }] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "b": 1, "c": 2 } } },
        doc! { "a": [{ "b": 1 }, { "c": 2 }] },
        false,
    );
    check(
        doc! { "a": { "$elemMatch": { "$or": [{ "b": 1 }, { "c": 2 }] } } },
        doc! { "a": [{ "c": 2 }] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "b": { "$exists": false } } } },
        doc! { "a": [1] },
        false,
    );
    check(
        doc! { "a": { "$elemMatch": {} } },
        doc! { "a": [1, {}] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "$elemMatch": { "$gt": 3 } } } },
        doc! { "a": [[1], [4]] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "0": 1 } } },
        doc! { "a": [[1]] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "$not": { "$gt": 1 } } } },
        doc! { "a": [1, 2] },
        true,
    );
    check(
        doc! { "a": { "$elemMatch": { "$in": [1, 9] } } },
        doc! { "a": [9] },
        true,
    );
    check(
        doc! { "a": { "$not": { "$elemMatch": { "$gt": 5 } } } },
        doc! { "a": [1, 2] },
        true,
    );
    check(
        doc! { "a.b": { "$elemMatch": { "c": 1 } } },
        doc! { "a": [{ "b": [{ "c": 1 }] }] },
        true,
    );
    refuse(doc! { "a": { "$size": -1 } }, "$size at 'a'");
    refuse(doc! { "a": { "$size": 1.5 } }, "$size at 'a'");
    refuse(doc! { "a": { "$all": 1 } }, "needs a list");
    refuse(
        doc! { "a": { "$all": [{ "$gt": 1 }] } },
        "no operator but $elemMatch",
    );
    refuse(doc! { "a": { "$elemMatch": 1 } }, "needs a document");
}

#[test]
fn arithmetic_tests() {
    check(doc! { "a": { "$mod": [4, 1] } }, doc! { "a": 5 }, true);
    check(doc! { "a": { "$mod": [4, 1] } }, doc! { "a": 5.9 }, true);
    check(doc! { "a": { "$mod": [4, -1] } }, doc! { "a": -5 }, true);
    check(doc! { "a": { "$mod": [4, 0] } }, doc! { "a": "x" }, false);
    check(
        doc! { "a": { "$mod": [-1, 0] } },
        doc! { "a": i64::MIN },
        true,
    );
    check(doc! { "a": { "$bitsAllSet": 5 } }, doc! { "a": 7 }, true);
    check(
        doc! { "a": { "$bitsAllSet": [0, 1] } },
        doc! { "a": 5 },
        false,
    );
    check(doc! { "a": { "$bitsAnySet": 6 } }, doc! { "a": 4 }, true);
    check(doc! { "a": { "$bitsAllClear": 6 } }, doc! { "a": 1 }, true);
    check(doc! { "a": { "$bitsAnyClear": 5 } }, doc! { "a": 5 }, false);
    check(
        doc! { "a": { "$bitsAllSet": [200] } },
        doc! { "a": -1 },
        true,
    );
    check(
        doc! { "a": { "$bitsAllClear": [0] } },
        doc! { "a": "x" },
        false,
    );
    refuse(doc! { "a": { "$mod": [0, 1] } }, "divide by 0");
    refuse(doc! { "a": { "$mod": [1] } }, "divisor and a remainder");
    refuse(doc! { "a": { "$mod": 4 } }, "divisor and a remainder");
    refuse(doc! { "a": { "$bitsAllSet": -1 } }, "needs a mask");
}

#[test]
fn what_is_unknown_or_dangerous_is_refused_by_name() {
    refuse(
        doc! { "a.b": { "$foo": 1 } },
        "unknown operator $foo at a.b",
    );
    refuse(doc! { "$foo": 1 }, "unknown operator $foo");
    refuse(doc! { "$where": "sleep(1)" }, "unknown operator $where");
    refuse(
        doc! { "$text": { "$search": "x" } },
        "unknown operator $text",
    );
    refuse(
        doc! { "a": { "$gt": 1, "b": 2 } },
        "'b' stands among operators at 'a'",
    );
    refuse(doc! { "a": { "$not": 1 } }, "$not at 'a'");
    refuse(doc! { "a": { "$not": { "b": 1 } } }, "$not at 'a'");
    refuse(doc! { "a": Bson::Undefined }, "undefined");
    let deep = (0..150).fold(doc! { "a": 1 }, |inner, _| doc! { "$and": [inner] });
    refuse(deep, "deeper than 100");
}

#[test]
fn the_matched_element_has_a_position() {
    let check = |filter: Document, document: Document, expected: Option<usize>| {
        let raw = value::encode(&document).unwrap();
        let filter = Filter::compile(&filter).unwrap();
        assert_eq!(filter.position(raw.as_bytes()).unwrap(), expected);
    };
    check(doc! { "a": 2 }, doc! { "a": [1, 2] }, Some(1));
    check(
        doc! { "a.b": { "$gt": 1 } },
        doc! { "a": [{ "b": 1 }, { "b": 5 }] },
        Some(1),
    );
    check(
        doc! { "a": { "$elemMatch": { "b": 5 } } },
        doc! { "a": [{ "b": 1 }, { "b": 5 }] },
        Some(1),
    );
    check(
        doc! { "x": 1, "a.b": [3] },
        doc! { "x": 1, "a": { "b": [[1], [3]] } },
        Some(1),
    );
    check(
        doc! { "$or": [{ "a": 9 }, { "a": 1 }] },
        doc! { "a": [0, 1] },
        Some(1),
    );
    check(doc! { "a": 1 }, doc! { "a": 1 }, None);
}

/// A second matcher, slow and over decoded documents, for the operators that
/// need no more than equality and order.
mod reference {
    use std::cmp::Ordering;

    use bson::{Bson, Document};

    fn compare(a: &Bson, b: &Bson) -> Ordering {
        let class = |value: &Bson| match value {
            Bson::Null => 1,
            Bson::Int32(_) | Bson::Double(_) => 2,
            Bson::String(_) => 3,
            Bson::Document(_) => 4,
            _ => 5,
        };
        let number = |value: &Bson| match value {
            Bson::Int32(int) => f64::from(*int),
            Bson::Double(double) => *double,
            _ => 0.0,
        };
        class(a).cmp(&class(b)).then_with(|| match (a, b) {
            (Bson::String(a), Bson::String(b)) => a.cmp(b),
            (Bson::Document(a), Bson::Document(b)) => {
                for ((key, value), (other_key, other)) in a.iter().zip(b) {
                    let order = class(value)
                        .cmp(&class(other))
                        .then_with(|| key.cmp(other_key))
                        .then_with(|| compare(value, other));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Bson::Array(a), Bson::Array(b)) => {
                let unequal = a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| compare(a, b))
                    .find(|order| order.is_ne());
                unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal),
        })
    }

    /// All that a path leads to; `None` for a missing field.
    fn reach(value: &Bson, parts: &[&str]) -> Vec<Option<Bson>> {
        match (parts, value) {
            ([], Bson::Array(array)) => array
                .iter()
                .cloned()
                .map(Some)
                .chain([Some(value.clone())])
                .collect(),
            ([], _) => vec![Some(value.clone())],
            ([part, rest @ ..], Bson::Document(document)) => match document.get(part) {
                Some(inner) => reach(inner, rest),
                None => vec![None],
            },
            (_, Bson::Array(array)) => array
                .iter()
                .filter(|element| matches!(element, Bson::Document(_)))
                .flat_map(|element| reach(element, parts))
                .collect(),
            _ => vec![None],
        }
    }

    fn holds(operator: &str, operand: &Bson, value: Option<&Bson>) -> bool {
        let value = value.unwrap_or(&Bson::Null);
        let same_type = std::mem::discriminant(value) == std::mem::discriminant(operand)
            || matches!(
                (value, operand),
                (
                    Bson::Int32(_) | Bson::Double(_),
                    Bson::Int32(_) | Bson::Double(_)
                )
            );
        let order = compare(value, operand);
        match operator {
            "$eq" => same_type && order == Ordering::Equal,
            "$gt" => same_type && order == Ordering::Greater,
            "$gte" => same_type && order != Ordering::Less,
            "$lt" => same_type && order == Ordering::Less,
            "$lte" => same_type && order != Ordering::Greater,
            "$in" => operand
                .as_array()
                .unwrap()
                .iter()
                .any(|operand| holds("$eq", operand, Some(value))),
            _ => unreachable!(),
        }
    }

    pub(super) fn matches(filter: &Document, document: &Document) -> bool {
        filter.iter().all(|(key, operand)| match key.as_str() {
            "$and" => operand
                .as_array()
                .unwrap()
                .iter()
                .all(|clause| matches(clause.as_document().unwrap(), document)),
            "$or" => operand
                .as_array()
                .unwrap()
                .iter()
                .any(|clause| matches(clause.as_document().unwrap(), document)),
            "$nor" => !operand
                .as_array()
                .unwrap()
                .iter()
                .any(|clause| matches(clause.as_document().unwrap(), document)),
            path => {
                let parts: Vec<&str> = path.split('.').collect();
                let reached = reach(&Bson::Document(document.clone()), &parts);
                operand
                    .as_document()
                    .unwrap()
                    .iter()
                    .all(|(operator, operand)| {
                        let any = |operator: &str| {
                            reached
                                .iter()
                                .any(|value| holds(operator, operand, value.as_ref()))
                        };
                        match operator.as_str() {
                            "$ne" => !any("$eq"),
                            "$nin" => !any("$in"),
                            operator => any(operator),
                        }
                    })
            }
        })
    }
}

fn small_value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        (0..4_i32).prop_map(Bson::Int32),
        (0..8_i32).prop_map(|half| Bson::Double(f64::from(half) / 2.0)),
        Just(Bson::Null),
        "[xy]{0,2}".prop_map(Bson::String),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Bson::Array),
            proptest::collection::vec(("[abc]", inner), 0..3)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

fn small_document() -> impl Strategy<Value = Document> {
    proptest::collection::vec(("[abc]", small_value()), 0..4)
        .prop_map(|fields| fields.into_iter().collect())
}

fn small_filter() -> impl Strategy<Value = Document> {
    let path = prop_oneof!["[abc]", "[abc]\\.[abc]", "[abc]\\.[abc]\\.[abc]"];
    let condition = prop_oneof![
        (
            prop_oneof![
                Just("$eq"),
                Just("$ne"),
                Just("$gt"),
                Just("$gte"),
                Just("$lt"),
                Just("$lte")
            ],
            small_value()
        ),
        (
            prop_oneof![Just("$in"), Just("$nin")],
            proptest::collection::vec(small_value(), 0..3).prop_map(Bson::Array)
        ),
    ];
    let leaf = (path, condition).prop_map(|(path, (operator, operand))| {
        let mut conditions = Document::new();
        conditions.insert(operator, operand);
        let mut filter = Document::new();
        filter.insert(path, conditions);
        filter
    });
    leaf.prop_recursive(2, 8, 3, |inner| {
        (
            prop_oneof![Just("$and"), Just("$or"), Just("$nor")],
            proptest::collection::vec(inner, 1..3),
        )
            .prop_map(|(operator, clauses)| {
                let mut filter = Document::new();
                filter.insert(operator, clauses);
                filter
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn raw_matching_agrees_with_the_reference(filter in small_filter(), document in small_document()) {
        prop_assert_eq!(matches(&filter, &document), reference::matches(&filter, &document));
    }
}

#[test]
fn the_reference_can_tell_right_from_wrong() {
    assert!(reference::matches(
        &doc! { "a.b": { "$eq": 1 } },
        &doc! { "a": [{ "b": 1 }] }
    ));
    assert!(!reference::matches(
        &doc! { "a": { "$ne": 1 } },
        &doc! { "a": [1, bson!(2)] }
    ));
}
