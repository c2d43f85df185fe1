use bson::{Bson, DateTime, Document, bson, doc};

use crate::error::Result;
use crate::model::{Change, Update};
use crate::update::Updater;
use crate::value::{self, regex};

fn update(operators: Document, array_filters: Vec<Document>) -> Update {
    Update {
        filter: doc! {},
        change: Change::Operators(operators),
        many: false,
        upsert: false,
        array_filters,
    }
}

fn apply(before: &Document, update: &Update, position: Option<usize>) -> Result<Document> {
    let raw = value::encode(before)?;
    let updater = Updater::compile(update)?;
    Ok(match updater.apply(raw.as_bytes(), position)? {
        Some(after) => value::decode(after.as_bytes())?,
        None => before.clone(),
    })
}

fn with_id(mut document: Document) -> Document {
    let rest = std::mem::take(&mut document);
    document.insert("_id", 1);
    document.extend(rest);
    document
}

fn check(before: Document, operators: Document, expected: Document) {
    let after = apply(
        &with_id(before.clone()),
        &update(operators.clone(), vec![]),
        None,
    )
    .unwrap();
    // The text shows types and field order, which equality of documents hides.
    assert_eq!(
        after.to_string(),
        with_id(expected).to_string(),
        "{before} with {operators}"
    );
}

fn refuse(before: Document, operators: Document, why: &str) {
    let error = apply(
        &with_id(before.clone()),
        &update(operators.clone(), vec![]),
        None,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains(why), "{before} with {operators}: {error}");
}

#[test]
fn fields_are_set_and_unset() {
    check(
        doc! { "a": 1 },
        doc! { "$set": { "a": 2 } },
        doc! { "a": 2 },
    );
    check(
        doc! {},
        doc! { "$set": { "a.b.c": 1 } },
        doc! { "a": { "b": { "c": 1 } } },
    );
    check(
        doc! { "a": { "x": 1 } },
        doc! { "$set": { "a.b": 1 } },
        doc! { "a": { "x": 1, "b": 1 } },
    );
    check(
        doc! { "a": [1, 2] },
        doc! { "$set": { "a.1": 9 } },
        doc! { "a": [1, 9] },
    );
    check(
        doc! { "a": [1] },
        doc! { "$set": { "a.3": 9 } },
        doc! { "a": [1, Bson::Null, Bson::Null, 9] },
    );
    check(
        doc! { "a": [{ "b": 1 }] },
        doc! { "$set": { "a.0.b": 2 } },
        doc! { "a": [{ "b": 2 }] },
    );
    check(
        doc! { "a": [] },
        doc! { "$set": { "a.0.b": 2 } },
        doc! { "a": [{ "b": 2 }] },
    );
    check(
        doc! {},
        doc! { "$set": { "a.0": 1 } },
        doc! { "a": { "0": 1 } },
    );
    check(doc! {}, doc! { "$set": {} }, doc! {});
    check(
        doc! { "a": 1, "b": 2, "c": 3 },
        doc! { "$unset": { "b": "" } },
        doc! { "a": 1, "c": 3 },
    );
    check(
        doc! { "a": { "b": 1 } },
        doc! { "$unset": { "a.b": "", "x.y": "" } },
        doc! { "a": {} },
    );
    check(
        doc! { "a": [1, 2] },
        doc! { "$unset": { "a.0": "" } },
        doc! { "a": [Bson::Null, 2] },
    );
    check(
        doc! { "a": 5 },
        doc! { "$unset": { "a.b": "" } },
        doc! { "a": 5 },
    );
    refuse(
        doc! { "a": 5 },
        doc! { "$set": { "a.b": 1 } },
        "cannot create the field 'b'",
    );
    refuse(
        doc! { "a": [1] },
        doc! { "$set": { "a.b": 1 } },
        "cannot create the field 'b' in an array",
    );
    refuse(
        doc! { "a": [] },
        doc! { "$set": { "a.2000000": 1 } },
        "too far",
    );
    refuse(
        doc! {},
        doc! { "$set": { "_id": 2 } },
        "immutable field '_id'",
    );
    refuse(
        doc! {},
        doc! { "$unset": { "_id": "" } },
        "immutable field '_id'",
    );
    refuse(doc! {}, doc! { "$set": { "a..b": 1 } }, "empty field name");
    refuse(doc! {}, doc! { "$set": { "a.$b": 1 } }, "starts with '$'");
    refuse(doc! {}, doc! { "$set": 5 }, "$set needs a document");
    refuse(
        doc! {},
        doc! { "$foo": { "a": 1 } },
        "unknown operator $foo",
    );
    refuse(
        doc! {},
        doc! { "$set": { "a": 1 }, "b": 1 },
        "'b' stands among",
    );
}

#[test]
fn new_fields_come_in_alphabetical_and_numerical_order() {
    check(
        doc! {},
        doc! { "$set": { "c": 1, "a": 1 }, "$inc": { "b": 1 } },
        doc! { "a": 1, "b": 1, "c": 1 },
    );
    check(
        doc! {},
        doc! { "$set": { "a.10": 1, "a.9": 1 } },
        doc! { "a": { "9": 1, "10": 1 } },
    );
}

#[test]
fn conflicting_paths_are_refused() {
    let conflict = "Updating the path 'a.b' would create a conflict at 'a'";
    refuse(doc! {}, doc! { "$set": { "a.b": 1, "a": 1 } }, conflict);
    refuse(
        doc! {},
        doc! { "$set": { "a": 1 }, "$unset": { "a.b": 1 } },
        conflict,
    );
    refuse(
        doc! {},
        doc! { "$set": { "a": 1 }, "$inc": { "a": 1 } },
        "conflict at 'a'",
    );
    refuse(
        doc! {},
        doc! { "$rename": { "a": "b" }, "$set": { "b.c": 1 } },
        "conflict at 'b'",
    );
    refuse(doc! {}, doc! { "$rename": { "a": "a" } }, "conflict at 'a'");
    check(
        doc! {},
        doc! { "$set": { "ab": 1, "a.b": 1 } },
        doc! { "a": { "b": 1 }, "ab": 1 },
    );
}

#[test]
fn arithmetic_keeps_and_widens_types_as_mongodb_does() {
    check(
        doc! { "a": 1 },
        doc! { "$inc": { "a": 2 } },
        doc! { "a": 3 },
    );
    check(
        doc! {},
        doc! { "$inc": { "a.b": 2 } },
        doc! { "a": { "b": 2 } },
    );
    check(
        doc! { "a": i32::MAX },
        doc! { "$inc": { "a": 1 } },
        doc! { "a": i64::from(i32::MAX) + 1 },
    );
    check(
        doc! { "a": 1 },
        doc! { "$inc": { "a": 1_i64 } },
        doc! { "a": 2_i64 },
    );
    check(
        doc! { "a": 1 },
        doc! { "$inc": { "a": 0.5 } },
        doc! { "a": 1.5 },
    );
    check(
        doc! { "a": 3 },
        doc! { "$mul": { "a": 4 } },
        doc! { "a": 12 },
    );
    check(
        doc! { "a": 100_000 },
        doc! { "$mul": { "a": 100_000 } },
        doc! { "a": 10_000_000_000_i64 },
    );
    check(
        doc! {},
        doc! { "$mul": { "a": 4_i64 } },
        doc! { "a": 0_i64 },
    );
    refuse(
        doc! { "a": i64::MAX },
        doc! { "$inc": { "a": 1 } },
        "exceeds 64 bits",
    );
    refuse(
        doc! { "a": "x" },
        doc! { "$inc": { "a": 1 } },
        "needs a number there",
    );
    refuse(
        doc! { "a": Bson::Null },
        doc! { "$inc": { "a": 1 } },
        "needs a number there",
    );
    refuse(doc! {}, doc! { "$inc": { "a": "1" } }, "needs a number");
    refuse(
        doc! { "a": Bson::Decimal128("1".parse().unwrap()) },
        doc! { "$inc": { "a": 1 } },
        "Decimal128",
    );
}

#[test]
fn min_and_max_follow_the_order_of_values() {
    check(
        doc! { "a": 5 },
        doc! { "$min": { "a": 3 } },
        doc! { "a": 3 },
    );
    check(
        doc! { "a": 5 },
        doc! { "$min": { "a": 7 } },
        doc! { "a": 5 },
    );
    check(
        doc! { "a": 5 },
        doc! { "$max": { "a": "x" } },
        doc! { "a": "x" },
    );
    check(
        doc! { "a": 5 },
        doc! { "$min": { "a": Bson::Null } },
        doc! { "a": Bson::Null },
    );
    check(doc! {}, doc! { "$max": { "a": 1 } }, doc! { "a": 1 });
}

#[test]
fn fields_are_renamed() {
    check(
        doc! { "a": 1, "c": 2 },
        doc! { "$rename": { "a": "b" } },
        doc! { "c": 2, "b": 1 },
    );
    check(
        doc! { "a": { "x": 1 } },
        doc! { "$rename": { "a.x": "b.y" } },
        doc! { "a": {}, "b": { "y": 1 } },
    );
    check(
        doc! { "a": 1, "b": 2 },
        doc! { "$rename": { "a": "b" } },
        doc! { "b": 1 },
    );
    check(
        doc! { "b": 2 },
        doc! { "$rename": { "a": "b" } },
        doc! { "b": 2 },
    );
    refuse(
        doc! { "a": [{ "x": 1 }] },
        doc! { "$rename": { "a.x": "b" } },
        "not a document",
    );
    refuse(doc! {}, doc! { "$rename": { "a": 1 } }, "a string");
    refuse(
        doc! {},
        doc! { "$rename": { "a.$[]": "b" } },
        "array positions",
    );
}

#[test]
fn values_are_pushed() {
    check(doc! {}, doc! { "$push": { "a": 1 } }, doc! { "a": [1] });
    check(
        doc! { "a": [1] },
        doc! { "$push": { "a": [2] } },
        doc! { "a": [1, [2]] },
    );
    check(
        doc! { "a": [1] },
        doc! { "$push": { "a": { "$each": [2, 3] } } },
        doc! { "a": [1, 2, 3] },
    );
    check(
        doc! { "a": [1, 4] },
        doc! { "$push": { "a": { "$each": [2, 3], "$position": 1 } } },
        doc! { "a": [1, 2, 3, 4] },
    );
    check(
        doc! { "a": [1, 4] },
        doc! { "$push": { "a": { "$each": [3], "$position": -1 } } },
        doc! { "a": [1, 3, 4] },
    );
    check(
        doc! { "a": [3, 1] },
        doc! { "$push": { "a": { "$each": [2], "$sort": 1 } } },
        doc! { "a": [1, 2, 3] },
    );
    check(
        doc! { "a": [3, 1] },
        doc! { "$push": { "a": { "$each": [2], "$sort": -1, "$slice": 2 } } },
        doc! { "a": [3, 2] },
    );
    check(
        doc! { "a": [1, 2] },
        doc! { "$push": { "a": { "$each": [3], "$slice": -2 } } },
        doc! { "a": [2, 3] },
    );
    check(
        doc! { "a": [1, 2] },
        doc! { "$push": { "a": { "$each": [], "$slice": 0 } } },
        doc! { "a": [] },
    );
    check(
        doc! { "a": [{ "n": 2, "m": 1 }, { "n": 1 }] },
        doc! { "$push": { "a": { "$each": [{ "n": 2, "m": 0 }], "$sort": { "n": 1, "m": 1 } } } },
        doc! { "a": [{ "n": 1 }, { "n": 2, "m": 0 }, { "n": 2, "m": 1 }] },
    );
    refuse(
        doc! { "a": 1 },
        doc! { "$push": { "a": 1 } },
        "must be an array",
    );
    refuse(
        doc! {},
        doc! { "$push": { "a": { "$slice": 1 } } },
        "need $each",
    );
    refuse(
        doc! {},
        doc! { "$push": { "a": { "$each": [1], "$foo": 1 } } },
        "unknown modifier $foo",
    );
}

#[test]
fn sets_grow_and_arrays_shrink() {
    check(
        doc! { "a": [1] },
        doc! { "$addToSet": { "a": 1.0 } },
        doc! { "a": [1] },
    );
    check(
        doc! { "a": [1] },
        doc! { "$addToSet": { "a": { "$each": [2, 2, 1] } } },
        doc! { "a": [1, 2] },
    );
    check(
        doc! {},
        doc! { "$addToSet": { "a": { "x": 1 } } },
        doc! { "a": [{ "x": 1 }] },
    );
    check(
        doc! { "a": [1, 2, 3] },
        doc! { "$pop": { "a": 1 } },
        doc! { "a": [1, 2] },
    );
    check(
        doc! { "a": [1, 2, 3] },
        doc! { "$pop": { "a": -1 } },
        doc! { "a": [2, 3] },
    );
    check(doc! {}, doc! { "$pop": { "a": 1 } }, doc! {});
    check(
        doc! { "a": [1, 2, 1] },
        doc! { "$pull": { "a": 1 } },
        doc! { "a": [2] },
    );
    check(
        doc! { "a": [1, 5, 9] },
        doc! { "$pull": { "a": { "$gte": 5 } } },
        doc! { "a": [1] },
    );
    check(
        doc! { "a": [1, 5, 9] },
        doc! { "$pull": { "a": { "$in": [1, 9] } } },
        doc! { "a": [5] },
    );
    check(
        doc! { "a": [[1, 9], [3], 9] },
        doc! { "$pull": { "a": { "$gt": 5 } } },
        doc! { "a": [[3]] },
    );
    check(
        doc! { "a": [[1, 2], [3]] },
        doc! { "$pull": { "a": [1, 2] } },
        doc! { "a": [[3]] },
    );
    check(
        doc! { "a": [{ "n": 1, "m": 1 }, { "n": 2 }, 1] },
        doc! { "$pull": { "a": { "n": 1 } } },
        doc! { "a": [{ "n": 2 }, 1] },
    );
    check(
        doc! { "a": ["x1", "y"] },
        doc! { "$pull": { "a": regex("^x", "") } },
        doc! { "a": ["y"] },
    );
    check(
        doc! { "a": [1, 2, 3, 1] },
        doc! { "$pullAll": { "a": [1, 3] } },
        doc! { "a": [2] },
    );
    refuse(
        doc! { "a": 1 },
        doc! { "$pull": { "a": 1 } },
        "must be an array",
    );
    refuse(doc! {}, doc! { "$pop": { "a": 2 } }, "1 or -1");
    refuse(
        doc! {},
        doc! { "$addToSet": { "a": { "$each": [1], "$slice": 1 } } },
        "no modifier",
    );
}

#[test]
fn array_positions_are_found() {
    let check = |before: Document,
                 operators: Document,
                 filters: Vec<Document>,
                 position,
                 expected: Document| {
        let after = apply(&with_id(before), &update(operators, filters), position).unwrap();
        assert_eq!(after.to_string(), with_id(expected).to_string());
    };
    check(
        doc! { "a": [1, 2] },
        doc! { "$inc": { "a.$[]": 10 } },
        vec![],
        None,
        doc! { "a": [11, 12] },
    );
    check(
        doc! { "a": [1, 2] },
        doc! { "$set": { "a.$": 9 } },
        vec![],
        Some(1),
        doc! { "a": [1, 9] },
    );
    check(
        doc! { "a": [{ "n": 1 }, { "n": 5 }] },
        doc! { "$set": { "a.$[e].big": true } },
        vec![doc! { "e.n": { "$gt": 3 } }],
        None,
        doc! { "a": [{ "n": 1 }, { "n": 5, "big": true }] },
    );
    check(
        doc! { "a": [1, 7] },
        doc! { "$set": { "a.$[e]": 0 } },
        vec![doc! { "$or": [{ "e": { "$gt": 5 } }, { "e": 2 }] }],
        None,
        doc! { "a": [1, 0] },
    );
    let error = |operators: Document, filters: Vec<Document>| {
        apply(
            &doc! { "_id": 1, "a": [1] },
            &update(operators, filters),
            None,
        )
        .unwrap_err()
        .to_string()
    };
    assert!(error(doc! { "$set": { "a.$": 1 } }, vec![]).contains("did not match"));
    assert!(
        error(doc! { "$set": { "a.$[e]": 1 } }, vec![]).contains("no array filter is named 'e'")
    );
    assert!(error(doc! { "$set": { "a.0": 1 } }, vec![doc! { "e": 1 }]).contains("not used"));
    assert!(
        error(
            doc! { "$set": { "a.$[e]": 1 } },
            vec![doc! { "e": 1, "f": 2 }]
        )
        .contains("exactly one name")
    );
}

#[test]
fn dates_are_the_servers() {
    let before = DateTime::now();
    let after = apply(
        &doc! { "_id": 1 },
        &update(
            doc! { "$currentDate": { "a": true, "b": { "$type": "timestamp" } } },
            vec![],
        ),
        None,
    )
    .unwrap();
    assert!(after.get_datetime("a").unwrap() >= &before);
    assert!(matches!(after.get("b"), Some(Bson::Timestamp(_))));
    refuse(
        doc! {},
        doc! { "$currentDate": { "a": { "$type": "x" } } },
        "needs true",
    );
}

#[test]
fn what_stays_the_same_is_no_change() {
    let raw = value::encode(&doc! { "_id": 1, "a": 1 }).unwrap();
    for operators in [
        doc! { "$set": { "a": 1 } },
        doc! { "$inc": { "a": 0 } },
        doc! { "$unset": { "b": 1 } },
        doc! { "$setOnInsert": { "a": 9 } },
    ] {
        let updater = Updater::compile(&update(operators.clone(), vec![])).unwrap();
        assert_eq!(
            updater.apply(raw.as_bytes(), None).unwrap(),
            None,
            "{operators}"
        );
    }
}

#[test]
fn a_replacement_keeps_the_id() {
    let replace = |document: Document| -> Result<Document> {
        let raw = value::encode(&doc! { "_id": 1, "a": 1 }).unwrap();
        let update = Update {
            filter: doc! {},
            change: Change::Replacement(document),
            many: false,
            upsert: false,
            array_filters: vec![],
        };
        let after = Updater::compile(&update)?
            .apply(raw.as_bytes(), None)?
            .unwrap();
        Ok(value::decode(after.as_bytes())?)
    };
    assert_eq!(replace(doc! { "b": 2 }).unwrap(), doc! { "_id": 1, "b": 2 });
    assert_eq!(
        replace(doc! { "b": 2, "_id": 1 }).unwrap(),
        doc! { "_id": 1, "b": 2 }
    );
    assert!(
        replace(doc! { "_id": 2 })
            .unwrap_err()
            .to_string()
            .contains("immutable")
    );
    assert!(
        replace(doc! { "$set": 2 })
            .unwrap_err()
            .to_string()
            .contains("$set")
    );
}

#[test]
fn an_upsert_starts_from_the_filters_equalities() {
    let check = |filter: Document, operators: Document, expected: Bson| {
        let updater = Updater::compile(&update(operators, vec![])).unwrap();
        let made = updater
            .insertion(&filter)
            .map(|raw| Bson::Document(value::decode(raw.as_bytes()).unwrap()));
        assert_eq!(made.unwrap().to_string(), expected.to_string());
    };
    check(
        doc! { "_id": 7, "n": { "$gt": 1 } },
        doc! { "$set": { "a": 1 } },
        bson!({ "_id": 7, "a": 1 }),
    );
    check(
        doc! { "_id": 7, "$and": [{ "x.y": 1 }, { "z": { "$eq": 2 } }] },
        doc! { "$setOnInsert": { "a": 1 } },
        bson!({ "_id": 7, "x": { "y": 1 }, "z": 2, "a": 1 }),
    );
    check(
        doc! { "a": 1 },
        doc! { "$set": { "_id": 3 }, "$inc": { "a": 1 } },
        bson!({ "_id": 3, "a": 2 }),
    );
    let updater = Updater::compile(&update(doc! { "$set": { "a": 1 } }, vec![])).unwrap();
    let made = updater.insertion(&doc! { "b": 1 }).unwrap();
    assert!(made.get_object_id("_id").is_ok());
    assert!(updater.insertion(&doc! { "x": 1, "x.y": 2 }).is_err());
    let updater = Updater::compile(&update(doc! { "$set": { "_id": 4 } }, vec![])).unwrap();
    assert!(updater.insertion(&doc! { "_id": 1 }).is_err());
}
