//! Random pipelines, with all stages, and expressions of all families.
//!
//! What is asked of an expression mostly has the type that it needs, or null, or
//! is missing: two stores that refuse the same nonsense prove little.
//!
//! SecantusDB's departures from the manual (each is a case of the tables) that
//! the generator stays clear of: a path through an array of documents, in an
//! expression or to a field that is set; nested documents in `$project` and
//! `$set`; longs that become ints; `$count` of nothing; `$first` of an empty array.

use bson::{Bson, DateTime, Document, bson, doc};
use proptest::prelude::*;

use super::generate;
use crate::conformance::case::Question;

/// Documents with fields of known types, each of which can be null or missing.
pub(super) fn documents() -> impl Strategy<Value = Vec<Document>> {
    let number = prop_oneof![
        3 => (-3..8_i32).prop_map(Bson::from),
        // Sums of these are exact.
        1 => prop::sample::select(vec![-1.5, 0.5, 2.0, 2.5]).prop_map(Bson::from),
    ];
    let text = prop::sample::select(vec!["", "a", "ab", "Ab", "b c", "x,y"]).prop_map(Bson::from);
    let date = (0..5_i64)
        .prop_map(|day| Bson::from(DateTime::from_millis(1_709_164_799_000 + day * 40_000_000)));
    let list = prop::collection::vec(-2..4_i32, 0..4).prop_map(Bson::from);
    let object = (0..3_i32, prop::sample::select(vec!["p", "q"]))
        .prop_map(|(x, y)| Bson::from(doc! { "x": x, "y": y }));
    let fields = (
        holey(number.boxed()),
        holey(text.boxed()),
        holey(date.boxed()),
        holey(list.boxed()),
        holey(object.boxed()),
        holey(any::<bool>().prop_map(Bson::from).boxed()),
    );
    prop::collection::vec(fields, 1..7).prop_map(|documents| {
        let one = |(id, (n, s, d, l, o, b)): (usize, (_, _, _, _, _, _))| {
            let mut document = doc! { "_id": id as i32 };
            for (name, value) in [("n", n), ("s", s), ("d", d), ("l", l), ("o", o), ("b", b)] {
                let value: Option<Bson> = value;
                document.extend(value.map(|value| (name.to_owned(), value)));
            }
            document
        };
        documents.into_iter().enumerate().map(one).collect()
    })
}

fn holey(value: BoxedStrategy<Bson>) -> impl Strategy<Value = Option<Bson>> {
    prop_oneof![
        6 => value.prop_map(Some),
        1 => Just(Some(Bson::Null)),
        1 => Just(None),
    ]
}

fn names(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(list)
}

type Expression = BoxedStrategy<Bson>;

/// The value, or another where it is null or missing: what is missing by
/// `$arrayElemAt`, `$cond`, `$ifNull` or `$switch` is null to SecantusDB, or refused.
fn sure(value: Bson, other: impl Into<Bson>) -> Bson {
    bson!({ "$ifNull": [value, other.into()] })
}

/// A number, null or nothing.
fn number(depth: u32) -> Expression {
    let leaf = prop_oneof![
        3 => Just(bson!("$n")),
        1 => Just(bson!("$o.x")),
        // After `$group` it can be a string, which MongoDB refuses where SecantusDB
        // finds a null behind it first.
        1 => Just(bson!({ "$cond": [{ "$isNumber": "$_id" }, "$_id", 0] })),
        1 => Just(bson!("$nosuch")),
        2 => (-3..6_i32).prop_map(Bson::from),
        1 => prop::sample::select(vec![0.5, -2.5, 4.0]).prop_map(Bson::from),
    ];
    let Some(depth) = depth.checked_sub(1) else {
        return leaf.boxed();
    };
    let two = || (number(depth), number(depth));
    prop_oneof![
        4 => leaf,
        3 => (names(&["$add", "$subtract", "$multiply"]), two())
            .prop_map(|(name, (a, b))| bson!({ name: [a, b] })),
        1 => (names(&["$divide", "$mod"]), number(depth), prop::sample::select(vec![2, 4, -2]))
            .prop_map(|(name, a, b)| bson!({ name: [a, b] })),
        2 => (names(&["$abs", "$ceil", "$floor", "$trunc", "$round"]), number(depth))
            .prop_map(|(name, a)| bson!({ name: a })),
        1 => (names(&["$min", "$max", "$sum", "$avg"]), two(), number(depth))
            .prop_map(|(name, (a, b), c)| bson!({ name: [a, b, c] })),
        1 => (names(&["$min", "$max", "$sum", "$avg"]), list(depth))
            .prop_map(|(name, a)| bson!({ name: a })),
        1 => list(depth).prop_map(|a| bson!({ "$size": { "$ifNull": [a, []] } })),
        1 => text(depth).prop_map(|a| bson!({ "$strLenCP": { "$ifNull": [a, ""] } })),
        1 => (text(depth), names(&["a", "b", "", "x,"]))
            .prop_map(|(a, part)| bson!({ "$indexOfCP": [a, part] })),
        1 => (names(&["$year", "$month", "$dayOfMonth", "$dayOfWeek", "$dayOfYear", "$hour",
                "$minute", "$second", "$millisecond", "$week", "$isoWeek", "$isoDayOfWeek"]), date(depth))
            .prop_map(|(name, a)| bson!({ name: a })),
        1 => (any_value(depth), any_value(depth)).prop_map(|(a, b)| bson!({ "$cmp": [a, b] })),
        1 => (truth(depth), two()).prop_map(|(c, (a, b))| bson!({ "$cond": [c, sure(a, 0), sure(b, 0)] })),
        1 => two().prop_map(|(a, b)| bson!({ "$ifNull": [a, sure(b, 0)] })),
        1 => (list(depth), -3..3_i32).prop_map(|(a, at)| sure(bson!({ "$arrayElemAt": [a, at] }), 0)),
        1 => (list(depth), -2..4_i32).prop_map(|(a, wanted)| bson!({ "$indexOfArray": [a, wanted] })),
        1 => (list(depth), number(depth)).prop_map(|(a, start)| bson!({ "$reduce": {
            "input": a, "initialValue": sure(start, 0), "in": { "$add": ["$$value", "$$this"] } } })),
        1 => (number(depth), number(depth)).prop_map(|(a, b)| bson!({ "$let": {
            "vars": { "v": { "$ifNull": [a, 0] } }, "in": { "$add": ["$$v", b] } } })),
        1 => (truth(depth), number(depth), truth(depth), two()).prop_map(|(c, a, d, (b, e))| bson!({ "$switch": {
            "branches": [{ "case": c, "then": sure(a, 0) }, { "case": d, "then": sure(b, 0) }], "default": sure(e, 0) } })),
        1 => truth(depth).prop_map(|a| bson!({ "$toInt": a })),
        1 => (names(&["$bitAnd", "$bitOr", "$bitXor"]), 0..8_i32)
            .prop_map(|(name, mask)| bson!({ name: ["$_id", mask] })),
    ]
    .boxed()
}

/// A string, null or nothing.
fn text(depth: u32) -> Expression {
    let leaf = prop_oneof![
        3 => Just(bson!("$s")),
        1 => Just(bson!("$o.y")),
        1 => Just(bson!("$nosuch")),
        2 => names(&["", "a", "B", "x,y", "é"]).prop_map(Bson::from),
    ];
    let Some(depth) = depth.checked_sub(1) else {
        return leaf.boxed();
    };
    prop_oneof![
        4 => leaf,
        2 => (text(depth), text(depth)).prop_map(|(a, b)| bson!({ "$concat": [a, b] })),
        2 => (names(&["$toUpper", "$toLower"]), text(depth)).prop_map(|(name, a)| bson!({ name: a })),
        1 => (text(depth), 0..3_i32, 0..3_i32)
            .prop_map(|(a, start, count)| bson!({ "$substrCP": [a, start, count] })),
        1 => (names(&["$trim", "$ltrim", "$rtrim"]), text(depth), names(&["a", " ", "xy"]))
            .prop_map(|(name, a, chars)| bson!({ name: { "input": a, "chars": chars } })),
        1 => (names(&["$replaceOne", "$replaceAll"]), text(depth), names(&["a", "b", ","]), text(depth))
            .prop_map(|(name, a, find, b)| bson!({ name: { "input": a, "find": find, "replacement": b } })),
        1 => (truth(depth), text(depth), text(depth)).prop_map(|(c, a, b)| bson!({ "$cond": [c, sure(a, ""), sure(b, "")] })),
        1 => Just(bson!({ "$toString": "$_id" })),
        1 => date(depth).prop_map(|a| bson!({ "$dateToString": { "date": a, "format": "%Y-%m-%d %H:%M" } })),
        1 => any_value(depth).prop_map(|a| bson!({ "$type": a })),
    ]
    .boxed()
}

/// True or false.
fn truth(depth: u32) -> Expression {
    let Some(depth) = depth.checked_sub(1) else {
        return any::<bool>().prop_map(Bson::from).boxed();
    };
    prop_oneof![
        4 => (names(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), any_value(depth), any_value(depth))
            .prop_map(|(name, a, b)| bson!({ name: [a, b] })),
        2 => (names(&["$and", "$or"]), any_value(depth), truth(depth))
            .prop_map(|(name, a, b)| bson!({ name: [a, b] })),
        // A list of arguments that is one array is taken apart by some.
        1 => truth(depth).prop_map(|a| bson!({ "$not": [a] })),
        1 => (number(depth), list(depth)).prop_map(|(a, b)| bson!({ "$in": [a, { "$ifNull": [b, []] }] })),
        1 => any_value(depth).prop_map(|a| bson!({ "$isNumber": a })),
        1 => Just(bson!({ "$isArray": "$l" })),
        1 => (text(depth), names(&["^a", "b", "[xy]$"]))
            .prop_map(|(a, pattern)| bson!({ "$regexMatch": { "input": a, "regex": pattern, "options": "i" } })),
        1 => (names(&["$setEquals", "$setIsSubset"]), list(depth), list(depth)).prop_map(|(name, a, b)| {
            bson!({ name: [{ "$ifNull": [a, []] }, { "$ifNull": [b, []] }] })
        }),
        1 => names(&["$b", "$nosuch", "$n"]).prop_map(|path| bson!({ "$toBool": path })),
    ]
    .boxed()
}

/// An array of numbers, null or nothing.
fn list(depth: u32) -> Expression {
    let leaf = prop_oneof![
        3 => Just(bson!("$l")),
        1 => Just(bson!("$nosuch")),
        // Not bare: the one argument of an operator can be given in a list, too.
        1 => prop::collection::vec(-2..4_i32, 0..3).prop_map(|list| bson!({ "$literal": list })),
    ];
    let Some(depth) = depth.checked_sub(1) else {
        return leaf.boxed();
    };
    prop_oneof![
        4 => leaf,
        1 => (list(depth), list(depth)).prop_map(|(a, b)| bson!({ "$concatArrays": [a, b] })),
        1 => (list(depth), prop::sample::select(vec![-2, -1, 1, 2])).prop_map(|(a, n)| bson!({ "$slice": [a, n] })),
        1 => (list(depth), -3..3_i32, 1..3_i32).prop_map(|(a, at, n)| bson!({ "$slice": [a, at, n] })),
        1 => list(depth).prop_map(|a| bson!({ "$reverseArray": a })),
        1 => (list(depth), prop::sample::select(vec![1, -1]))
            .prop_map(|(a, order)| bson!({ "$sortArray": { "input": a, "sortBy": order } })),
        1 => (0..3_i32, 0..6_i32, prop::sample::select(vec![1, 2, -1]))
            .prop_map(|(from, to, step)| bson!({ "$range": [from, to, step] })),
        1 => (list(depth), number(0)).prop_map(|(a, b)| bson!({ "$map": {
            "input": a, "as": "e", "in": { "$add": ["$$e", { "$ifNull": [b, 0] }] } } })),
        1 => (list(depth), -2..3_i32).prop_map(|(a, least)| bson!({ "$filter": {
            "input": a, "cond": { "$gte": ["$$this", least] } } })),
        // The order of a set is nobody's promise.
        1 => (names(&["$setUnion", "$setIntersection", "$setDifference"]), list(depth), list(depth))
            .prop_map(|(name, a, b)| bson!({ "$sortArray": { "input": { name: [a, b] }, "sortBy": 1 } })),
        1 => (names(&["$firstN", "$lastN", "$minN", "$maxN"]), list(depth), 1..4_i32)
            .prop_map(|(name, a, n)| bson!({ name: { "input": { "$ifNull": [a, []] }, "n": n } })),
    ]
    .boxed()
}

/// A date, null or nothing.
fn date(depth: u32) -> Expression {
    let leaf = prop_oneof![4 => Just(bson!("$d")), 1 => Just(bson!("$nosuch"))];
    let Some(depth) = depth.checked_sub(1) else {
        return leaf.boxed();
    };
    let units = &[
        "year", "quarter", "month", "week", "day", "hour", "minute", "second",
    ];
    prop_oneof![
        4 => leaf,
        1 => (date(depth), -9..9_i32).prop_map(|(a, hours)| bson!({ "$add": [a, hours * 3_600_000] })),
        1 => (names(&["$dateAdd", "$dateSubtract"]), date(depth), names(units), -3..4_i32)
            .prop_map(|(name, a, unit, amount)| bson!({ name: { "startDate": a, "unit": unit, "amount": amount } })),
        1 => (date(depth), names(units)).prop_map(|(a, unit)| bson!({ "$dateTrunc": { "date": a, "unit": unit } })),
    ]
    .boxed()
}

/// Anything that compares alike in both stores: SecantusDB takes documents with
/// the same fields in another order for equal, so they have one order here.
fn any_value(depth: u32) -> Expression {
    prop_oneof![
        3 => number(depth),
        2 => text(depth),
        1 => date(depth.min(1)),
        1 => list(depth.min(1)),
        1 => truth(depth.min(1)),
        1 => Just(bson!("$o")),
        1 => Just(Bson::Null),
    ]
    .boxed()
}

/// A new document with fields that are computed.
fn made() -> impl Strategy<Value = Document> {
    (number(2), text(2), any_value(1))
        .prop_map(|(n, s, v)| doc! { "n": n, "s": s, "v": v, "k": "$_id" })
}

/// The fields of a `$project`, in which a number would say whether one stays.
fn computed(made: Document) -> Document {
    let literal = |(name, value): (String, Bson)| match value {
        flag @ (Bson::Int32(_) | Bson::Double(_) | Bson::Boolean(_)) => {
            (name, bson!({ "$literal": flag }))
        }
        other => (name, other),
    };
    made.into_iter().map(literal).collect()
}

fn accumulators(count: u32) -> impl Strategy<Value = Document> {
    let one = prop_oneof![
        3 => (names(&["$sum", "$avg", "$min", "$max"]), number(1)).prop_map(|(name, a)| doc! { name: a }),
        1 => (names(&["$first", "$last", "$push"]), names(&["$n", "$_id", "$o.x"]))
            .prop_map(|(name, path)| doc! { name: { "$ifNull": [path, 0] } }),
        1 => (names(&["$min", "$max"]), any_value(1)).prop_map(|(name, a)| doc! { name: a }),
        // No constants: SecantusDB takes the accumulator for the operator on arrays.
        // Integers: of 2 and 2.0 either may be kept.
        1 => (names(&["$firstN", "$lastN", "$maxN", "$minN"]), names(&["$_id", "$o.x"]), 1..3_i32)
            .prop_map(|(name, path, n)| doc! { name: { "input": { "$ifNull": [path, 0] }, "n": n } }),
        count => Just(doc! { "$count": {} }),
        1 => Just(doc! { "$mergeObjects": "$o" }),
        1 => (names(&["$top", "$bottom"]), prop::sample::select(vec![1, -1]))
            .prop_map(|(name, order)| doc! { name: { "sortBy": { "n": order, "_id": 1 }, "output": "$_id" } }),
    ];
    (one.clone(), one).prop_map(|(x, y)| doc! { "x": x, "y": y })
}

/// Some stages; a run of them leaves documents in an order that is certain.
fn stages(depth: u32) -> BoxedStrategy<Vec<Document>> {
    let sort = |field: &str, order: i32| doc! { "$sort": { field: order, "_id": 1 } };
    let key = prop_oneof![
        Just(bson!("$n")),
        Just(bson!("$s")),
        Just(bson!("$b")),
        Just(bson!("$o")),
        Just(Bson::Null),
        number(1),
        text(1),
    ];
    let field = || names(&["n", "s", "d", "l", "b", "_id"]);
    let order = || prop::sample::select(vec![1, -1]);
    let mut choices: Vec<(u32, BoxedStrategy<Vec<Document>>)> = vec![
        (3, truth(2).prop_map(|condition| vec![doc! { "$match": { "$expr": condition } }]).boxed()),
        (1, generate::filter().prop_map(|filter| vec![doc! { "$match": filter }]).boxed()),
        (2, (field(), generate::condition())
            .prop_map(|(path, condition)| vec![doc! { "$match": { path: condition } }]).boxed()),
        (2, (field(), order()).prop_map(move |(field, order)| vec![sort(field, order)]).boxed()),
        (2, (field(), order(), 0..3_i32, 1..4_i32).prop_map(move |(field, order, skip, limit)| {
            vec![sort(field, order), doc! { "$skip": skip }, doc! { "$limit": limit }]
        }).boxed()),
        (3, (names(&["$set", "$addFields"]), made()).prop_map(|(name, made)| vec![doc! { name: made }]).boxed()),
        (1, made().prop_map(|made| vec![doc! { "$project": computed(made) }]).boxed()),
        (1, (field(), field(), 0..2_i32).prop_map(|(a, b, shown)| {
            let mut shape = doc! { a: shown, b: shown };
            // Alone it would not say whether the others stay.
            shape.insert("zz", shown);
            shape.insert("_id", 1);
            vec![doc! { "$project": shape }]
        }).boxed()),
        (1, prop_oneof![Just(bson!("n")), Just(bson!(["s", "o.x", "nosuch"]))]
            .prop_map(|fields| vec![doc! { "$unset": fields }]).boxed()),
        (2, any::<bool>().prop_map(|keep| {
            vec![doc! { "$unwind": { "path": "$l", "preserveNullAndEmptyArrays": keep } }]
        }).boxed()),
        (1, made().prop_map(|made| {
            // The identifier stays, for the order of what follows, and in front,
                    // where SecantusDB moves it.
            let mut root = doc! { "_id": "$_id" };
            root.extend(made);
            vec![doc! { "$replaceRoot": { "newRoot": root } }]
        }).boxed()),
        (1, Just(vec![doc! { "$sample": { "size": 100 } }, doc! { "$sort": { "_id": 1 } }]).boxed()),
        // Of nothing SecantusDB counts 0, and MongoDB not at all.
        (1, Just(vec![doc! { "$count": "n" }, doc! { "$match": { "n": { "$gt": 0 } } }]).boxed()),
        (3, (key, accumulators(1)).prop_map(|(key, fields)| {
            let mut group = doc! { "_id": key };
            group.extend(fields);
            vec![doc! { "$sort": { "_id": 1 } }, doc! { "$group": group }, doc! { "$sort": { "_id": 1 } }]
        }).boxed()),
        (1, number(1).prop_map(|key| {
            let key = match key {
                literal @ (Bson::Int32(_) | Bson::Double(_)) => bson!({ "$add": [literal, "$n"] }),
                other => other,
            };
            vec![doc! { "$sortByCount": key }, doc! { "$sort": { "count": -1, "_id": 1 } }]
        }).boxed()),
        (1, (number(1), accumulators(0)).prop_map(|(by, output)| {
            vec![doc! { "$sort": { "_id": 1 } }, doc! { "$bucket": {
                "groupBy": by, "boundaries": [-2, 0, 3], "default": "other", "output": output } }]
        }).boxed()),
        (1, (names(&["n", "l", "s", "nosuch"]), names(&["k", "l"])).prop_map(|(local, foreign)| {
            vec![doc! { "$lookup": { "from": "joined", "localField": local, "foreignField": foreign, "as": "j" } },
                // The order of what is joined is nobody's promise.
                doc! { "$set": { "j": { "$sortArray": { "input": "$j", "sortBy": { "_id": 1 } } } } }]
        }).boxed()),
        (1, number(1).prop_map(|value| {
            vec![doc! { "$lookup": { "from": "joined", "let": { "v": value }, "pipeline": [
                { "$match": { "$expr": { "$gte": ["$k", "$$v"] } } }, { "$sort": { "_id": 1 } },
                { "$project": { "k": 1, "v": "$$v" } }], "as": "j" } }]
        }).boxed()),
    ];
    if let Some(depth) = depth.checked_sub(1) {
        let inner = || stages(depth);
        choices.push((
            1,
            (inner(), inner())
                .prop_map(|(x, y)| {
                    vec![
                        doc! { "$sort": { "_id": 1 } },
                        doc! { "$facet": { "x": x, "y": y } },
                    ]
                })
                .boxed(),
        ));
    }
    prop::strategy::Union::new_weighted(choices).boxed()
}

/// A pipeline.
pub(super) fn question() -> impl Strategy<Value = Question> {
    prop::collection::vec(stages(1), 1..4).prop_map(|stages| {
        let stages: Vec<Document> = stages.into_iter().flatten().collect();
        let ordered = stages
            .last()
            .is_some_and(|stage| stage.contains_key("$sort"));
        Question::Pipeline { stages, ordered }
    })
}
