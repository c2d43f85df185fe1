//! Random documents, filters, sorts, projections and updates.
//!
//! `a`, `b` and `c` can hold anything; `i` is an integer, `l` an array of integers
//! and `m` an array of documents `{n, t}`, which only operators that keep them so
//! change.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use coglex_services::storage::{Change, Find, Update};
use proptest::prelude::*;

use crate::conformance::case::Question;
use crate::support::*;

/// Few values, so that they meet.
pub(super) fn scalar() -> impl Strategy<Value = Bson> {
    prop_oneof![
        2 => Just(Bson::Null),
        1 => any::<bool>().prop_map(Bson::from),
        6 => (-2..4_i32).prop_map(Bson::from),
        1 => (0..3_i64).prop_map(Bson::from),
        2 => prop::sample::select(vec![-1.5, 0.0, 1.0, 2.5]).prop_map(Bson::from),
        4 => prop::sample::select(vec!["", "a", "ab", "b", "B"]).prop_map(Bson::from),
        1 => (0..3_i64).prop_map(|millis| Bson::from(DateTime::from_millis(millis))),
        1 => (0..2_u8).prop_map(|byte| Bson::from(ObjectId::from_bytes([byte; 12]))),
    ]
}

pub(super) fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(String::from)
}

pub(super) fn value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Bson::from),
            prop::collection::btree_map(name(), inner, 0..3)
                .prop_map(|fields| Bson::from(fields.into_iter().collect::<Document>())),
        ]
    })
}

pub(super) fn documents() -> impl Strategy<Value = Vec<Document>> {
    let fields = prop::collection::btree_map(name(), value(), 0..4);
    let numbers = prop::collection::vec(-2..4_i32, 0..4);
    let rows = prop::collection::vec((-2..4_i32, prop::collection::vec(0..3_i32, 0..3)), 0..3);
    let steady = (-2..9_i32, numbers, rows).prop_map(|(whole, numbers, rows)| {
        let rows: Vec<Document> = rows
            .into_iter()
            .map(|(n, t)| doc! { "n": n, "t": t })
            .collect();
        doc! { "i": whole, "l": numbers, "m": rows }
    });
    let document = (fields, steady).prop_map(|(mut fields, steady)| {
        // Fields of a known shape, for the operators that need one.
        fields.extend(steady);
        fields
    });
    prop::collection::vec(document, 1..8).prop_map(|documents| {
        let with_id = |(id, fields): (usize, std::collections::BTreeMap<String, Bson>)| {
            let mut document = doc! { "_id": id as i32 };
            document.extend(fields);
            document
        };
        documents.into_iter().enumerate().map(with_id).collect()
    })
}

fn dotted() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => name(),
        3 => (name(), name()).prop_map(|(outer, inner)| format!("{outer}.{inner}")),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => dotted(),
        1 => (name(), 0..2_u8).prop_map(|(outer, index)| format!("{outer}.{index}")),
        1 => (name(), 0..2_u8, name()).prop_map(|(outer, index, inner)| format!("{outer}.{index}.{inner}")),
    ]
}

pub(super) fn condition() -> impl Strategy<Value = Bson> {
    let compare = (
        prop::sample::select(vec!["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]),
        value(),
    )
        .prop_map(|(operator, value)| doc! { operator: value });
    let list = (
        prop::sample::select(vec!["$in", "$nin"]),
        prop::collection::vec(value(), 0..3),
    )
        .prop_map(|(operator, values)| doc! { operator: values });
    let leaf = prop_oneof![
        6 => compare,
        3 => list,
        1 => any::<bool>().prop_map(|there| doc! { "$exists": there }),
        1 => prop::sample::select(vec!["number", "string", "null", "array", "object", "bool", "date"])
            .prop_map(|kind| doc! { "$type": kind }),
        1 => (0..3_i32).prop_map(|size| doc! { "$size": size }),
        // Not null: SecantusDB finds no missing field with `{"$all": [null]}`, as
        // `{"$eq": null}` does and the manual says of `$all`.
        1 => prop::collection::vec(1..4_i32, 0..3).prop_map(|values| doc! { "$all": values }),
        1 => (2..4_i32, 0..2_i32).prop_map(|(divisor, rest)| doc! { "$mod": [divisor, rest] }),
        1 => prop::sample::select(vec!["^a", "b$", "^$"]).prop_map(|pattern| doc! { "$regex": pattern, "$options": "i" }),
    ];
    // SecantusDB does not look into an element that is an array as into an
    // object with the fields `0`, `1`, …, as MongoDB does; only a condition that
    // also holds for a missing field shows it.
    let positive = (
        name(),
        prop::sample::select(vec!["$eq", "$gte", "$lt"]),
        0..3_i32,
    )
        .prop_map(|(name, operator, value)| doc! { "$elemMatch": { name: { operator: value } } });
    let nested = prop_oneof![
        6 => leaf.clone(),
        2 => leaf.clone().prop_map(|condition| doc! { "$not": condition }),
        1 => leaf.prop_map(|condition| doc! { "$elemMatch": condition }),
        1 => positive,
    ];
    prop_oneof![2 => value(), 5 => nested.prop_map(Bson::from)]
}

pub(super) fn filter() -> impl Strategy<Value = Document> {
    let leaf = prop_oneof![
        1 => Just(doc! {}),
        7 => (dotted(), condition()).prop_map(|(path, condition)| doc! { path: condition }),
        // SecantusDB takes an index that is not there for null.
        1 => (name(), 0..2_u8, 0..3_i32).prop_map(|(name, index, value)| doc! { format!("{name}.{index}"): value }),
        2 => (0..8_i32).prop_map(|id| doc! { "_id": id }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        let operator = prop::sample::select(vec!["$and", "$or", "$nor"]);
        (operator, prop::collection::vec(inner, 1..3))
            .prop_map(|(operator, parts)| doc! { operator: parts })
    })
}

pub(super) fn sort() -> impl Strategy<Value = Option<Document>> {
    // The identifier last, as the order of equals is nobody's promise. One key
    // beside it: SecantusDB sorts by two arrays at once, which MongoDB refuses.
    // No dots: in `[null, {"b": 1}]` it sees no null at `.b`, where MongoDB's
    // keys have one for an element that is no object.
    let key = (name(), prop::sample::select(vec![1, -1]));
    prop::option::of(key.prop_map(|(path, direction)| doc! { path: direction, "_id": 1 }))
}

pub(super) fn projection() -> impl Strategy<Value = Option<Document>> {
    let fields = (
        prop::collection::btree_set(path(), 1..3),
        any::<bool>(),
        any::<bool>(),
    );
    prop::option::of(fields.prop_map(|(paths, shown, id)| {
        let mut projection: Document = paths
            .into_iter()
            .map(|path| (path, Bson::from(i32::from(shown))))
            .collect();
        if !id {
            projection.insert("_id", 0);
        }
        projection
    }))
}

fn operators() -> impl Strategy<Value = Document> {
    let number = || {
        prop_oneof![
            (-2..4_i32).prop_map(Bson::from),
            Just(Bson::from(0.5)),
            Just(Bson::from(i32::MAX))
        ]
    };
    let each = (
        prop::collection::vec(value(), 0..3),
        prop::option::of(-2..3_i32),
        prop::option::of(0..2_i32),
        any::<bool>(),
    )
        .prop_map(|(values, slice, position, sorted)| {
            let mut each = doc! { "$each": values };
            if let Some(slice) = slice {
                each.insert("$slice", slice);
            }
            if let Some(position) = position {
                each.insert("$position", position);
            }
            if sorted {
                each.insert("$sort", 1);
            }
            Bson::from(each)
        });
    let one = prop_oneof![
        5 => (Just("$set"), value()),
        2 => (Just("$unset"), Just(Bson::from(""))),
        2 => (Just("$inc"), number()),
        // Not below 0: of 0.0 and -0.0 SecantusDB takes one for the other.
        1 => (Just("$mul"), prop_oneof![(0..4_i32).prop_map(Bson::from), Just(Bson::from(0.5))]),
        1 => (Just("$min"), scalar()),
        1 => (Just("$max"), scalar()),
        2 => (Just("$push"), value()),
        2 => (Just("$push"), each),
        2 => (Just("$addToSet"), value()),
        2 => (Just("$pull"), condition()),
        1 => (Just("$pullAll"), prop::collection::vec(scalar(), 0..3).prop_map(Bson::from)),
        1 => (Just("$pop"), prop::sample::select(vec![1, -1]).prop_map(Bson::from)),
        1 => (Just("$setOnInsert"), value()),
    ];
    // Alone, as its place in the order is that of its target.
    let change = (path(), one);
    // The field keeps its type: SecantusDB narrows a long.
    let bit = (prop::sample::select(vec!["and", "or", "xor"]), 0..8_i32)
        .prop_map(|(rule, mask)| ("i".to_owned(), ("$bit", Bson::from(doc! { rule: mask }))));
    let change = prop_oneof![20 => change, 1 => bit];
    prop::collection::vec(change, 1..3).prop_map(|mut changes| {
        // SecantusDB makes new fields in the order of the update, MongoDB in that
        // of their names: here both are one.
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut operators = Document::new();
        for (path, (operator, operand)) in changes {
            let last = operators.keys().last().cloned();
            if operators.contains_key(operator) && last.as_deref() != Some(operator) {
                continue;
            }
            let fields = operators
                .entry(operator.to_owned())
                .or_insert(Bson::from(doc! {}));
            fields.as_document_mut().unwrap().insert(path, operand);
        }
        operators
    })
}

/// Updates of array elements: by the element that the filter matched, all, or those
/// that an array filter matches.
fn positional() -> impl Strategy<Value = Update> {
    let number = || {
        prop_oneof![
            (-2..4_i32).prop_map(Bson::from),
            (-2..4_i32).prop_map(|least| Bson::from(doc! { "$gte": least })),
            (-2..4_i32).prop_map(|other| Bson::from(doc! { "$ne": other })),
        ]
    };
    let change = || {
        (
            prop::sample::select(vec!["$set", "$inc", "$mul", "$min", "$max"]),
            -2..4_i32,
        )
    };
    // `$ne` matches no particular element.
    let least = || (-2..4_i32).prop_map(|least| doc! { "$gte": least });
    let matched = prop_oneof![
        (least(), change()).prop_map(|(least, (operator, operand))| {
            set(doc! { "l": least }, doc! { operator: { "l.$": operand } })
        }),
        (least(), change()).prop_map(|(least, (operator, operand))| {
            set(
                doc! { "m.n": least },
                doc! { operator: { "m.$.n": operand } },
            )
        }),
        (least(), least(), change()).prop_map(|(n, t, (operator, operand))| {
            let filter = doc! { "m": { "$elemMatch": { "n": n, "t": t } } };
            set(filter, doc! { operator: { "m.$.n": operand } })
        }),
    ];
    let every = (
        prop::sample::select(vec!["l.$[]", "m.$[].n", "m.$[].t.$[]"]),
        change(),
    )
        .prop_map(|(path, (operator, operand))| set(doc! {}, doc! { operator: { path: operand } }));
    let filtered = (0..4_u8, number(), number(), change()).prop_map(
        |(kind, outer, inner, (operator, operand))| {
            let (path, filters) = match kind {
                0 => ("l.$[e]", vec![doc! { "e": outer }]),
                1 => ("m.$[e].n", vec![doc! { "e.n": outer }]),
                2 => (
                    "m.$[e].t.$[f]",
                    vec![doc! { "e.n": outer }, doc! { "f": inner }],
                ),
                _ => (
                    "m.$[e].n",
                    vec![doc! { "$or": [{ "e.n": outer }, { "e.t": inner }] }],
                ),
            };
            Update {
                array_filters: filters,
                ..set(doc! {}, doc! { operator: { path: operand } })
            }
        },
    );
    let whole = prop_oneof![
        number().prop_map(|condition| set(doc! {}, doc! { "$pull": { "l": condition } })),
        number().prop_map(|condition| set(doc! {}, doc! { "$pull": { "m": { "n": condition } } })),
        (-2..4_i32).prop_map(|n| {
            let order = doc! { "$each": [{ "n": n, "t": [] }], "$sort": { "n": -1 }, "$slice": 3 };
            set(doc! {}, doc! { "$push": { "m": order } })
        }),
    ];
    prop_oneof![2 => matched, 1 => every, 2 => filtered, 1 => whole]
}

/// Something that is asked of a collection, or done to it.
pub(super) fn question() -> impl Strategy<Value = Question> {
    let find = (
        filter(),
        sort(),
        projection(),
        0..3_u64,
        prop::option::of(1..5_u64),
    )
        .prop_map(|(filter, sort, projection, skip, limit)| {
            Question::Find(Find {
                filter,
                sort,
                projection,
                skip,
                limit,
                ..Find::default()
            })
        });
    // One document at a time: where the third of many fails, MongoDB has changed
    // two, and the embedded store none.
    let update = (filter(), operators())
        .prop_map(|(filter, operators)| Question::Update(set(filter, operators)));
    let rename = (filter(), name(), any::<bool>()).prop_map(|(filter, name, nested)| {
        let target = if nested { "d.e" } else { "d" };
        Question::Update(set(filter, doc! { "$rename": { name: target } }))
    });
    let many = (
        filter(),
        prop::sample::select(vec!["a", "b.c", "d"]),
        value(),
    )
        .prop_map(|(filter, path, value)| {
            Question::Update(Update {
                many: true,
                ..set(filter, doc! { "$unset": { path: value } })
            })
        });
    let replace = (
        0..9_i32,
        prop::collection::btree_map(name(), value(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(id, fields, upsert)| {
            // The fields of a known shape are there afterwards, too.
            let mut replacement = doc! { "i": id, "l": [id, 1], "m": [{ "n": id, "t": [] }] };
            replacement.extend(fields);
            let change = Change::Replacement(replacement);
            let filter = doc! { "_id": id };
            Question::Update(Update {
                change,
                upsert,
                ..set(filter, doc! {})
            })
        });
    // One equality: of two that contradict each other MongoDB makes no document,
    // SecantusDB does.
    let upsert = (dotted(), scalar(), operators()).prop_map(|(path, value, operators)| {
        Question::Update(Update {
            upsert: true,
            ..set(doc! { path: value }, operators)
        })
    });
    // Top-level fields: SecantusDB finds one of several values that a path leads
    // to through an array. Without truths: it takes them for 0 and 1.
    let distinct = (prop::sample::select(vec!["i", "l", "_id"]), filter())
        .prop_map(|(path, filter)| Question::Distinct(path.into(), filter));
    prop_oneof![
        6 => find,
        1 => filter().prop_map(Question::Count),
        1 => distinct,
        5 => update,
        3 => positional().prop_map(Question::Update),
        1 => many,
        1 => rename,
        1 => replace,
        1 => upsert,
        1 => filter().prop_map(|filter| Question::Delete { filter, many: true }),
    ]
}
