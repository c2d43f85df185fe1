//! Pipelines and expressions, through the store. The expectations are those of
//! MongoDB's manual.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, RawDocumentBuf, bson, doc};
use coglex_docstore::model::{Change, Find, IndexSpec, Update};
use coglex_docstore::{Error, Options, Store};

fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

struct Fixture {
    store: Store,
    _folder: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        readers: 1,
        max_result_bytes: 1 << 20,
        ..Options::default()
    };
    let store = Store::open(&folder.path().join("data.db"), options).unwrap();
    let sales = [
        doc! { "_id": 1, "item": "pen", "price": 2, "quantity": 10, "tags": ["blue", "small"], "at": DateTime::from_millis(1_395_619_200_123), "customer": "ann" },
        doc! { "_id": 2, "item": "book", "price": 10.5, "quantity": 1, "tags": ["paper"], "customer": "bob" },
        doc! { "_id": 3, "item": "pen", "price": 3, "quantity": 5, "tags": [], "customer": "ann" },
        doc! { "_id": 4, "item": "cup", "price": 7_i64, "quantity": null, "size": { "h": 3, "w": [1, 2] }, "customer": "eve" },
    ];
    store
        .insert("sales", sales.map(raw).to_vec())
        .await
        .unwrap();
    let customers = [
        doc! { "_id": "ann", "city": "Rome" },
        doc! { "_id": "bob", "city": "Oslo" },
        doc! { "_id": "zoe" },
    ];
    store
        .insert("customers", customers.map(raw).to_vec())
        .await
        .unwrap();
    Fixture {
        store,
        _folder: folder,
    }
}

impl Fixture {
    async fn run(&self, pipeline: &[Document]) -> Result<Vec<Document>, Error> {
        let documents = self
            .store
            .aggregate("sales", pipeline.to_vec(), None)
            .await?;
        Ok(documents
            .iter()
            .map(|document| Document::try_from(document).unwrap())
            .collect())
    }

    async fn check(&self, pipeline: &[Document], expected: &[Document]) {
        let answer = self.run(pipeline).await.unwrap();
        let text = |documents: &[Document]| {
            documents
                .iter()
                .map(Document::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(text(&answer), text(expected), "{pipeline:?}");
    }

    async fn refuse(&self, pipeline: &[Document], why: &str) {
        let error = self.run(pipeline).await.unwrap_err();
        assert!(error.to_string().contains(why), "{pipeline:?}: {error}");
    }

    /// The value of an expression over the sale with this id.
    async fn value(&self, id: i32, expression: &Bson) -> Result<Option<Bson>, Error> {
        let pipeline = [
            doc! { "$match": { "_id": id } },
            doc! { "$project": { "_id": 0, "v": { "$let": { "vars": {}, "in": expression.clone() } } } },
        ];
        Ok(self.run(&pipeline).await?[0].remove("v"))
    }
}

#[tokio::test]
async fn stages_reshape_and_select() {
    let f = fixture().await;
    f.check(
        &[
            doc! { "$match": { "item": "pen" } },
            doc! { "$project": { "price": 1 } },
        ],
        &[doc! { "_id": 1, "price": 2 }, doc! { "_id": 3, "price": 3 }],
    )
    .await;
    f.check(
        &[
            doc! { "$sort": { "price": -1 } },
            doc! { "$limit": 1 },
            doc! { "$project": { "_id": 0, "item": 1, "double": { "$multiply": ["$price", 2] } } },
        ],
        &[doc! { "item": "book", "double": 21.0 }],
    )
    .await;
    f.check(
        &[
            doc! { "$limit": 2 },
            doc! { "$sort": { "_id": -1 } },
            doc! { "$skip": 1 },
            doc! { "$project": { "item": 1 } },
        ],
        &[doc! { "_id": 1, "item": "pen" }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 4 } },
            doc! { "$project": { "size.h": 1 } },
        ],
        &[doc! { "_id": 4, "size": { "h": 3 } }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 4 } },
            doc! { "$project": { "size.w": 0, "price": 0, "customer": 0 } },
        ],
        &[doc! { "_id": 4, "item": "cup", "quantity": null, "size": { "h": 3 } }],
    )
    .await;
    f.check(&[doc! { "$match": { "_id": 4 } }, doc! { "$addFields": { "size.d": 9, "item": "$customer", "new": { "$literal": "$x" } } }, doc! { "$unset": ["price", "size.w", "quantity"] }], &[doc! { "_id": 4, "item": "eve", "size": { "h": 3, "d": 9 }, "customer": "eve", "new": "$x" }]).await;
    f.check(
        &[
            doc! { "$match": { "_id": 3 } },
            doc! { "$set": { "a.b": "$price" } },
            doc! { "$project": { "_id": 0, "a": 1, "c": "$$REMOVE", "d": "$nothing" } },
        ],
        &[doc! { "a": { "b": 3 } }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 4 } },
            doc! { "$replaceRoot": { "newRoot": "$size" } },
        ],
        &[doc! { "h": 3, "w": [1, 2] }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 2 } },
            doc! { "$replaceWith": { "$mergeObjects": [{ "a": 1 }, { "b": "$item" }] } },
        ],
        &[doc! { "a": 1, "b": "book" }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "price": { "$gt": 2 } } },
            doc! { "$count": "n" },
        ],
        &[doc! { "n": 3 }],
    )
    .await;
    f.check(
        &[doc! { "$match": { "price": 99 } }, doc! { "$count": "n" }],
        &[],
    )
    .await;
    f.check(
        &[
            doc! { "$project": { "n": { "$add": ["$price", 1] } } },
            doc! { "$match": { "n": { "$gt": 8 } } },
            doc! { "$project": { "n": 0 } },
        ],
        &[doc! { "_id": 2 }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "$expr": { "$gt": ["$quantity", "$price"] } } },
            doc! { "$project": { "_id": 1 } },
        ],
        &[doc! { "_id": 1 }, doc! { "_id": 3 }],
    )
    .await;
    assert_eq!(f.run(&[]).await.unwrap().len(), 4);
    assert_eq!(
        f.run(&[doc! { "$sample": { "size": 2 } }])
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        f.run(&[doc! { "$sample": { "size": 9 } }])
            .await
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        f.store
            .aggregate("nothing", vec![doc! { "$limit": 1 }], None)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn arrays_are_unwound() {
    let f = fixture().await;
    f.check(
        &[
            doc! { "$unwind": "$tags" },
            doc! { "$project": { "tags": 1 } },
        ],
        &[
            doc! { "_id": 1, "tags": "blue" },
            doc! { "_id": 1, "tags": "small" },
            doc! { "_id": 2, "tags": "paper" },
        ],
    )
    .await;
    f.check(
        &[doc! { "$unwind": { "path": "$tags", "includeArrayIndex": "i", "preserveNullAndEmptyArrays": true } }, doc! { "$match": { "_id": { "$gt": 1 } } }, doc! { "$project": { "tags": 1, "i": 1 } }],
        &[doc! { "_id": 2, "tags": "paper", "i": 0_i64 }, doc! { "_id": 3, "i": null }, doc! { "_id": 4, "i": null }],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 4 } },
            doc! { "$unwind": "$size.w" },
            doc! { "$project": { "w": "$size.w" } },
        ],
        &[doc! { "_id": 4, "w": 1 }, doc! { "_id": 4, "w": 2 }],
    )
    .await;
    f.check(
        &[doc! { "$unwind": "$item" }, doc! { "$count": "n" }],
        &[doc! { "n": 4 }],
    )
    .await;
    f.check(
        &[
            doc! { "$unwind": "$tags" },
            doc! { "$limit": 2 },
            doc! { "$count": "n" },
        ],
        &[doc! { "n": 2 }],
    )
    .await;
}

#[tokio::test]
async fn groups_accumulate() {
    let f = fixture().await;
    f.check(
        &[doc! { "$group": { "_id": "$item", "n": { "$sum": 1 }, "q": { "$sum": "$quantity" }, "avg": { "$avg": "$price" }, "min": { "$min": "$price" }, "max": { "$max": "$price" }, "first": { "$first": "$_id" }, "last": { "$last": "$_id" }, "all": { "$push": "$price" } } }, doc! { "$sort": { "_id": -1 } }],
        &[
            doc! { "_id": "pen", "n": 2, "q": 15, "avg": 2.5, "min": 2, "max": 3, "first": 1, "last": 3, "all": [2, 3] },
            doc! { "_id": "cup", "n": 1, "q": 0, "avg": 7.0, "min": 7_i64, "max": 7_i64, "first": 4, "last": 4, "all": [7_i64] },
            doc! { "_id": "book", "n": 1, "q": 1, "avg": 10.5, "min": 10.5, "max": 10.5, "first": 2, "last": 2, "all": [10.5] },
        ],
    )
    .await;
    f.check(&[doc! { "$group": { "_id": null, "total": { "$sum": { "$multiply": ["$price", "$quantity"] } }, "items": { "$addToSet": "$item" }, "n": { "$count": {} } } }], &[doc! { "_id": null, "total": 45.5, "items": ["pen", "book", "cup"], "n": 4 }]).await;
    f.check(&[doc! { "$group": { "_id": { "i": "$item", "c": "$customer" }, "d": { "$stdDevPop": "$price" }, "s": { "$stdDevSamp": "$price" } } }, doc! { "$match": { "_id.i": "pen" } }], &[doc! { "_id": { "i": "pen", "c": "ann" }, "d": 0.5, "s": 0.5_f64.sqrt() }]).await;
    f.check(&[doc! { "$group": { "_id": "$missing", "m": { "$mergeObjects": "$size" }, "none": { "$avg": "$item" } } }], &[doc! { "_id": null, "m": { "h": 3, "w": [1, 2] }, "none": null }]).await;
    f.check(
        &[doc! { "$sortByCount": "$item" }, doc! { "$limit": 1 }],
        &[doc! { "_id": "pen", "count": 2 }],
    )
    .await;
    f.check(&[doc! { "$bucket": { "groupBy": "$price", "boundaries": [0, 3, 10], "default": "more", "output": { "n": { "$sum": 1 }, "ids": { "$push": "$_id" } } } }], &[doc! { "_id": 0, "n": 1, "ids": [1] }, doc! { "_id": 3, "n": 2, "ids": [3, 4] }, doc! { "_id": "more", "n": 1, "ids": [2] }]).await;
    f.check(
        &[doc! { "$bucket": { "groupBy": "$price", "boundaries": [0, 100] } }],
        &[doc! { "_id": 0, "count": 4 }],
    )
    .await;
    f.refuse(
        &[doc! { "$bucket": { "groupBy": "$price", "boundaries": [0, 3] } }],
        "outside its boundaries",
    )
    .await;
    // 1 and 1.0 are one key.
    f.check(&[doc! { "$group": { "_id": { "$cond": [{ "$eq": ["$item", "pen"] }, 1, 1.0] }, "n": { "$sum": 1 } } }], &[doc! { "_id": 1, "n": 4 }]).await;
}

#[tokio::test]
async fn collections_are_joined() {
    let f = fixture().await;
    let join = doc! { "$lookup": { "from": "customers", "localField": "customer", "foreignField": "_id", "as": "who" } };
    f.check(
        &[join.clone(), doc! { "$project": { "city": "$who.city" } }],
        &[
            doc! { "_id": 1, "city": ["Rome"] },
            doc! { "_id": 2, "city": ["Oslo"] },
            doc! { "_id": 3, "city": ["Rome"] },
            doc! { "_id": 4, "city": [] },
        ],
    )
    .await;
    f.check(
        &[
            join,
            doc! { "$unwind": "$who" },
            doc! { "$group": { "_id": "$who.city", "n": { "$sum": "$quantity" } } },
            doc! { "$sort": { "_id": 1 } },
        ],
        &[
            doc! { "_id": "Oslo", "n": 1 },
            doc! { "_id": "Rome", "n": 15 },
        ],
    )
    .await;
    f.check(
        &[
            doc! { "$match": { "_id": 2 } },
            doc! { "$lookup": { "from": "sales", "let": { "limit": "$price" }, "pipeline": [{ "$match": { "$expr": { "$lt": ["$price", "$$limit"] } } }, { "$project": { "item": 1 } }, { "$sort": { "_id": -1 } }, { "$limit": 2 }], "as": "cheaper" } },
            doc! { "$project": { "cheaper": 1 } },
        ],
        &[doc! { "_id": 2, "cheaper": [{ "_id": 4, "item": "cup" }, { "_id": 3, "item": "pen" }] }],
    )
    .await;
    f.check(
        &[doc! { "$match": { "_id": 1 } }, doc! { "$lookup": { "from": "sales", "localField": "customer", "foreignField": "customer", "pipeline": [{ "$count": "n" }], "as": "same" } }, doc! { "$project": { "same": 1 } }],
        &[doc! { "_id": 1, "same": [{ "n": 2 }] }],
    )
    .await;
    f.check(&[doc! { "$match": { "_id": 1 } }, doc! { "$lookup": { "from": "nothing", "localField": "a", "foreignField": "b", "as": "x.y" } }, doc! { "$project": { "x": 1 } }], &[doc! { "_id": 1, "x": { "y": [] } }]).await;
    f.check(&[doc! { "$facet": { "cheap": [{ "$match": { "price": { "$lt": 3 } } }, { "$project": { "item": 1 } }], "count": [{ "$count": "n" }], "none": [{ "$match": { "x": 1 } }] } }], &[doc! { "cheap": [{ "_id": 1, "item": "pen" }], "count": [{ "n": 4 }], "none": [] }]).await;
}

#[tokio::test]
async fn what_is_unsupported_or_malformed_is_refused_by_name() {
    let f = fixture().await;
    f.refuse(&[doc! { "$out": "x" }], "unsupported stage $out")
        .await;
    f.refuse(&[doc! { "$merge": "x" }], "unsupported stage $merge")
        .await;
    f.refuse(
        &[doc! { "$graphLookup": {} }],
        "unsupported stage $graphLookup",
    )
    .await;
    f.refuse(&[doc! { "$match": {}, "$limit": 1 }], "exactly one field")
        .await;
    f.refuse(&[doc! {}], "exactly one field").await;
    f.refuse(&[doc! { "$limit": 0 }], "above 0").await;
    f.refuse(&[doc! { "$skip": -1 }], "whole number from 0")
        .await;
    f.refuse(
        &[doc! { "$match": { "a": { "$foo": 1 } } }],
        "unknown operator $foo at a",
    )
    .await;
    f.refuse(
        &[doc! { "$match": { "a": { "$elemMatch": { "$expr": true } } } }],
        "$expr",
    )
    .await;
    f.refuse(&[doc! { "$project": {} }], "at least one field")
        .await;
    f.refuse(
        &[doc! { "$project": { "a": 1, "b": 0 } }],
        "both include and exclude",
    )
    .await;
    f.refuse(&[doc! { "$project": { "a": 1, "a.b": 1 } }], "named twice")
        .await;
    f.refuse(
        &[doc! { "$project": { "a": { "$function": {} } } }],
        "unsupported operator $function",
    )
    .await;
    f.refuse(&[doc! { "$group": { "n": { "$sum": 1 } } }], "needs an _id")
        .await;
    f.refuse(
        &[doc! { "$group": { "_id": 1, "n": { "$accumulator": 1 } } }],
        "unsupported accumulator $accumulator",
    )
    .await;
    f.refuse(
        &[doc! { "$group": { "_id": 1, "n": 1 } }],
        "needs an accumulator",
    )
    .await;
    f.refuse(&[doc! { "$unwind": "tags" }], "starts with '$'")
        .await;
    f.refuse(
        &[doc! { "$lookup": { "from": "a$b", "localField": "a", "foreignField": "b", "as": "c" } }],
        "collection name",
    )
    .await;
    f.refuse(
        &[doc! { "$lookup": { "from": "a", "as": "c" } }],
        "fields or a pipeline",
    )
    .await;
    f.refuse(
        &[doc! { "$facet": { "a": [{ "$facet": { "b": [] } }] } }],
        "cannot stand inside",
    )
    .await;
    f.refuse(
        &[doc! { "$replaceRoot": { "newRoot": "$item" } }],
        "document as the new root",
    )
    .await;
    f.refuse(
        &[doc! { "$addFields": { "a": "$$nobody" } }],
        "unknown variable $$nobody",
    )
    .await;
    f.refuse(
        &[doc! { "$addFields": { "a": { "$map": { "input": [], "as": "ROOT", "in": 1 } } } }],
        "name of a variable",
    )
    .await;
    let nested = (0..12).fold(
        doc! { "$limit": 1 },
        |inner, _| doc! { "$lookup": { "from": "a", "pipeline": [inner], "as": "x" } },
    );
    f.refuse(&[nested], "nest").await;
}

#[tokio::test]
async fn expressions_give_mongodbs_values() {
    let f = fixture().await;
    let date = DateTime::from_millis(1_395_619_200_123);
    for (expression, expected) in [
        (bson!("$item"), bson!("pen")),
        (bson!("$$ROOT.price"), bson!(2)),
        (bson!("$tags"), bson!(["blue", "small"])),
        (bson!({ "$add": ["$price", 1] }), bson!(3)),
        (bson!({ "$add": [2147483647, 1] }), bson!(2147483648_i64)),
        (
            bson!({ "$add": [i64::MAX, 1] }),
            bson!(9223372036854775808.0),
        ),
        (
            bson!({ "$add": ["$at", 1000] }),
            Bson::DateTime(DateTime::from_millis(1_395_619_201_123)),
        ),
        (bson!({ "$add": ["$missing", 1] }), Bson::Null),
        (bson!({ "$subtract": ["$at", date] }), bson!(0_i64)),
        (bson!({ "$subtract": [5, 2.5] }), bson!(2.5)),
        (bson!({ "$multiply": [3, 4, 0.5] }), bson!(6.0)),
        (bson!({ "$divide": [7, 2] }), bson!(3.5)),
        (bson!({ "$mod": [-7, 3] }), bson!(-1)),
        (bson!({ "$mod": [7.5, 2] }), bson!(1.5)),
        (bson!({ "$abs": -3 }), bson!(3)),
        (bson!({ "$ceil": 1.2 }), bson!(2.0)),
        (bson!({ "$floor": -1.2 }), bson!(-2.0)),
        (bson!({ "$round": [2.5] }), bson!(2.0)),
        (bson!({ "$round": [3.456, 1] }), bson!(3.5)),
        (bson!({ "$round": [1234, -2] }), bson!(1200)),
        (bson!({ "$trunc": -2.7 }), bson!(-2.0)),
        (bson!({ "$sqrt": 16 }), bson!(4.0)),
        (bson!({ "$pow": [2, 10] }), bson!(1024)),
        (bson!({ "$pow": [2, -1] }), bson!(0.5)),
        (bson!({ "$log10": 100 }), bson!(2.0)),
        (bson!({ "$eq": ["$price", 2.0] }), bson!(true)),
        (bson!({ "$eq": ["$missing", null] }), bson!(false)),
        (bson!({ "$lt": ["$missing", null] }), bson!(true)),
        (bson!({ "$gt": ["a", 1] }), bson!(true)),
        (bson!({ "$cmp": [1, 2] }), bson!(-1)),
        (bson!({ "$and": [true, 1, "x"] }), bson!(true)),
        (bson!({ "$and": [] }), bson!(true)),
        (bson!({ "$or": [false, 0, null] }), bson!(false)),
        (bson!({ "$not": ["$missing"] }), bson!(true)),
        (
            bson!({ "$cond": [{ "$gt": ["$price", 1] }, "yes", "no"] }),
            bson!("yes"),
        ),
        (
            bson!({ "$cond": { "if": false, "then": 1, "else": 2 } }),
            bson!(2),
        ),
        (bson!({ "$ifNull": ["$missing", "$quantity"] }), bson!(10)),
        (
            bson!({ "$switch": { "branches": [{ "case": false, "then": 1 }, { "case": true, "then": 2 }] } }),
            bson!(2),
        ),
        (bson!({ "$concat": ["$item", "-", "x"] }), bson!("pen-x")),
        (bson!({ "$concat": ["$item", null] }), Bson::Null),
        (bson!({ "$add": [null, "x"] }), Bson::Null),
        (bson!({ "$toUpper": "$item" }), bson!("PEN")),
        (bson!({ "$toLower": null }), bson!("")),
        (bson!({ "$substrCP": ["héllo", 1, 3] }), bson!("éll")),
        (bson!({ "$substr": ["hello", 1, -1] }), bson!("ello")),
        (bson!({ "$strLenCP": "é" }), bson!(1)),
        (bson!({ "$strLenBytes": "é" }), bson!(2)),
        (bson!({ "$indexOfCP": ["éab", "b"] }), bson!(2)),
        (bson!({ "$indexOfBytes": ["abc", "z"] }), bson!(-1)),
        (bson!({ "$split": ["a,b,c", ","] }), bson!(["a", "b", "c"])),
        (bson!({ "$trim": { "input": "  x " } }), bson!("x")),
        (
            bson!({ "$ltrim": { "input": "xxa", "chars": "x" } }),
            bson!("a"),
        ),
        (
            bson!({ "$replaceAll": { "input": "aba", "find": "a", "replacement": "c" } }),
            bson!("cbc"),
        ),
        (
            bson!({ "$replaceOne": { "input": "aba", "find": "a", "replacement": "c" } }),
            bson!("cba"),
        ),
        (bson!({ "$strcasecmp": ["A", "a"] }), bson!(0)),
        (
            bson!({ "$regexMatch": { "input": "$item", "regex": "^P", "options": "i" } }),
            bson!(true),
        ),
        (bson!({ "$size": "$tags" }), bson!(2)),
        (bson!({ "$isArray": "$tags" }), bson!(true)),
        (bson!({ "$arrayElemAt": ["$tags", -1] }), bson!("small")),
        (bson!({ "$first": "$tags" }), bson!("blue")),
        (bson!({ "$in": ["blue", "$tags"] }), bson!(true)),
        (bson!({ "$indexOfArray": ["$tags", "small"] }), bson!(1)),
        (
            bson!({ "$concatArrays": ["$tags", [1]] }),
            bson!(["blue", "small", 1]),
        ),
        (bson!({ "$slice": [[1, 2, 3], -2] }), bson!([2, 3])),
        (bson!({ "$slice": [[1, 2, 3], 1, 1] }), bson!([2])),
        (bson!({ "$reverseArray": [[1, 2]] }), bson!([2, 1])),
        (bson!({ "$range": [0, 5, 2] }), bson!([0, 2, 4])),
        (bson!({ "$range": [3, 0, -1] }), bson!([3, 2, 1])),
        (
            bson!({ "$map": { "input": [1, 2], "as": "n", "in": { "$multiply": ["$$n", "$price"] } } }),
            bson!([2, 4]),
        ),
        (
            bson!({ "$filter": { "input": "$tags", "cond": { "$eq": ["$$this", "blue"] } } }),
            bson!(["blue"]),
        ),
        (
            bson!({ "$reduce": { "input": [1, 2, 3], "initialValue": 0, "in": { "$add": ["$$value", "$$this"] } } }),
            bson!(6),
        ),
        (
            bson!({ "$let": { "vars": { "x": 2 }, "in": { "$add": ["$$x", "$price"] } } }),
            bson!(4),
        ),
        (
            bson!({ "$arrayToObject": [[{ "k": "a", "v": 1 }]] }),
            bson!({ "a": 1 }),
        ),
        (
            bson!({ "$objectToArray": { "a": 1 } }),
            bson!([{ "k": "a", "v": 1 }]),
        ),
        (
            bson!({ "$mergeObjects": [{ "a": 1 }, null, { "a": 2, "b": 3 }] }),
            bson!({ "a": 2, "b": 3 }),
        ),
        (bson!({ "$setUnion": [[2, 1], [3, 1]] }), bson!([1, 2, 3])),
        (bson!({ "$setIntersection": [[1, 2], [2, 3]] }), bson!([2])),
        (bson!({ "$setDifference": [[1, 2], [2]] }), bson!([1])),
        (bson!({ "$setIsSubset": [[1], [1, 2]] }), bson!(true)),
        (bson!({ "$setEquals": [[1, 2, 1], [2, 1]] }), bson!(true)),
        (bson!({ "$allElementsTrue": [[true, 1]] }), bson!(true)),
        (bson!({ "$anyElementTrue": [[false, 0]] }), bson!(false)),
        (bson!({ "$sum": [1, 2.5, "x"] }), bson!(3.5)),
        (bson!({ "$avg": [[1, 3]] }), bson!(2.0)),
        (bson!({ "$max": [1, "x", null] }), bson!("x")),
        (bson!({ "$type": "$price" }), bson!("int")),
        (bson!({ "$type": "$missing" }), bson!("missing")),
        (bson!({ "$isNumber": "$price" }), bson!(true)),
        (bson!({ "$toString": 1.5 }), bson!("1.5")),
        (
            bson!({ "$toString": "$at" }),
            bson!("2014-03-24T00:00:00.123Z"),
        ),
        (bson!({ "$toInt": "42" }), bson!(42)),
        (bson!({ "$toLong": 4.9 }), bson!(4_i64)),
        (bson!({ "$toDouble": "1.5" }), bson!(1.5)),
        (bson!({ "$toBool": "false" }), bson!(true)),
        (
            bson!({ "$toDate": "2014-03-24T00:00:00.123Z" }),
            Bson::DateTime(date),
        ),
        (
            bson!({ "$toObjectId": "0102030405060708090a0b0c" }),
            Bson::ObjectId(ObjectId::from_bytes([
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ])),
        ),
        (bson!({ "$year": "$at" }), bson!(2014)),
        (bson!({ "$month": "$at" }), bson!(3)),
        (bson!({ "$dayOfMonth": "$at" }), bson!(24)),
        (bson!({ "$dayOfWeek": "$at" }), bson!(2)),
        (bson!({ "$dayOfYear": "$at" }), bson!(83)),
        (bson!({ "$millisecond": "$at" }), bson!(123)),
        (
            bson!({ "$dayOfYear": DateTime::from_millis(1_735_603_200_000_i64) }),
            bson!(366),
        ),
        (
            bson!({ "$dayOfYear": DateTime::from_millis(-86_400_000) }),
            bson!(365),
        ),
        (
            bson!({ "$dateToString": { "date": "$at", "format": "%Y/%m/%d %H:%M %j %u" } }),
            bson!("2014/03/24 00:00 083 1"),
        ),
        (
            bson!({ "$dateToString": { "date": null, "onNull": "never" } }),
            bson!("never"),
        ),
        (
            bson!({ "a": "$price", "b": ["$item", "$missing"] }),
            bson!({ "a": 2, "b": ["pen", null] }),
        ),
        (bson!({ "$literal": { "$add": 1 } }), bson!({ "$add": 1 })),
    ] {
        let value = f
            .value(1, &expression)
            .await
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        let value = value.unwrap_or_else(|| panic!("{expression} is missing"));
        assert_eq!(
            format!("{value:?}"),
            format!("{expected:?}"),
            "{expression}"
        );
    }
    for missing in [
        bson!("$missing"),
        bson!("$item.x"),
        bson!({ "$arrayElemAt": ["$tags", 9] }),
        bson!("$$REMOVE"),
    ] {
        assert_eq!(f.value(1, &missing).await.unwrap(), None, "{missing}");
    }
    for (expression, why) in [
        (bson!({ "$divide": [1, 0] }), "divide by zero"),
        (bson!({ "$add": ["x", 1] }), "$add needs numbers"),
        (
            bson!({ "$setUnion": [1, null] }),
            "$setUnion needs an array",
        ),
        (bson!({ "$size": "$item" }), "$size needs an array"),
        (bson!({ "$toInt": "x" }), "$toInt cannot convert"),
        (bson!({ "$toInt": 3e9 }), "$toInt cannot convert"),
        (bson!({ "$subtract": [1] }), "wrong number of arguments"),
        (bson!({ "$add": [1], "x": 1 }), "exactly one operator"),
        (
            bson!({ "$trim": { "inputs": "x" } }),
            "no argument 'inputs'",
        ),
        (bson!({ "$substrBytes": ["é", 0, 1] }), "cuts a character"),
        (
            bson!({ "$switch": { "branches": [] } }),
            "at least one branch",
        ),
        (
            bson!({ "$switch": { "branches": [{ "case": false, "then": 1 }] } }),
            "no branch",
        ),
        (bson!({ "$range": [0, 10, 0] }), "not 0"),
        (
            bson!({ "$dateToString": { "date": "$at", "format": "%q" } }),
            "%q",
        ),
        (
            bson!({ "$add": [{ "$literal": Bson::Decimal128("1".parse().unwrap()) }, 1] }),
            "Decimal128",
        ),
    ] {
        let error = f.value(1, &expression).await.unwrap_err();
        assert!(error.to_string().contains(why), "{expression}: {error}");
    }
}

/// Each of these would take all memory or time if it were let.
#[tokio::test]
async fn hostile_expressions_are_cut_short() {
    let f = fixture().await;
    let doubling = bson!({ "$reduce": { "input": { "$range": [0, 60] }, "initialValue": "x", "in": { "$concat": ["$$value", "$$value"] } } });
    let array = bson!({ "$reduce": { "input": { "$range": [0, 60] }, "initialValue": [1], "in": { "$concatArrays": ["$$value", "$$value"] } } });
    let object = bson!({ "$reduce": { "input": { "$range": [0, 60] }, "initialValue": { "a": 1 }, "in": { "x": "$$value", "y": "$$value" } } });
    let range = bson!({ "$range": [0, 2_000_000_000] });
    let copies = bson!({ "$map": { "input": { "$range": [0, 10_000] }, "in": "$$ROOT" } });
    let nested = bson!({ "$map": { "input": { "$range": [0, 10_000] }, "in": { "$map": { "input": { "$range": [0, 10_000] }, "in": 1 } } } });
    let replaced = bson!({ "$replaceAll": { "input": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "find": "", "replacement": { "$reduce": { "input": { "$range": [0, 15] }, "initialValue": "xxxx", "in": { "$concat": ["$$value", "$$value"] } } } } });
    for expression in [doubling, array, object, range, copies, nested, replaced] {
        let error = f.value(1, &expression).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(_)), "{expression}: {error}");
    }
    let deep = bson!({ "$reduce": { "input": { "$range": [0, 400] }, "initialValue": 1, "in": { "x": "$$value" } } });
    let error = f.value(1, &deep).await.unwrap_err();
    assert!(error.to_string().contains("deeper than 200"), "{error}");
    let wrapper = (0..90).fold(bson!("$$ROOT"), |inner, _| bson!({ "a": inner }));
    let error = f
        .run(&vec![doc! { "$replaceWith": wrapper }; 150])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("deeper than 200"), "{error}");
    // In a filter too.
    let filter = doc! { "$expr": { "$size": { "$range": [0, 2_000_000_000] } } };
    let error = f
        .store
        .find(
            "sales",
            Find {
                filter,
                ..Find::default()
            },
        )
        .await
        .unwrap()
        .all()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let wide = doc! { "$addFields": { "s": { "$reduce": { "input": { "$range": [0, 16] }, "initialValue": "xxxxx", "in": { "$concat": ["$$value", "$$value"] } } } } };
    let error = f
        .run(&[
            wide.clone(),
            wide,
            doc! { "$group": { "_id": null, "all": { "$push": "$s" } } },
        ])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let many = (0..20_000).map(|n| raw(doc! { "_id": n }));
    f.store.insert("many", many.collect()).await.unwrap();
    let cross =
        doc! { "$lookup": { "from": "many", "pipeline": [{ "$match": { "x": 1 } }], "as": "x" } };
    let slow = f
        .store
        .aggregate("many", vec![cross], Some(Duration::from_millis(200)))
        .await
        .unwrap_err();
    assert!(matches!(slow, Error::Timeout), "{slow}");
}

#[tokio::test]
async fn the_front_of_a_pipeline_uses_indexes() {
    let f = fixture().await;
    let many = (0..5_000).map(|n| raw(doc! { "_id": n, "k": n % 100, "n": n }));
    f.store.insert("many", many.collect()).await.unwrap();
    let keys = doc! { "k": 1 };
    f.store
        .create_index(
            "many",
            IndexSpec {
                name: None,
                keys,
                unique: false,
                sparse: false,
                expire_after: None,
            },
        )
        .await
        .unwrap();
    // 100 lookups of 50 documents each in 5,000: without the index, too slow
    // for the deadline in a debug build.
    let join = vec![
        doc! { "$match": { "_id": { "$lt": 100 } } },
        doc! { "$lookup": { "from": "many", "localField": "k", "foreignField": "k", "as": "same" } },
        doc! { "$project": { "n": { "$size": "$same" } } },
        doc! { "$group": { "_id": "$n", "count": { "$sum": 1 } } },
    ];
    let answer = f
        .store
        .aggregate("many", join, Some(Duration::from_secs(5)))
        .await
        .unwrap();
    assert_eq!(answer, [raw(doc! { "_id": 50, "count": 100 })]);
}

#[tokio::test]
async fn arithmetic_that_leaves_its_range_is_an_error() {
    let fixture = fixture().await;
    let first = DateTime::from_millis(i64::MIN);
    let last = DateTime::from_millis(i64::MAX);
    let evaluate = async |expression: Bson| {
        let pipeline = vec![
            doc! { "$match": { "_id": 1 } },
            doc! { "$project": { "_id": 0, "x": expression } },
        ];
        fixture.store.aggregate("sales", pipeline, None).await
    };
    for far in [
        bson!({ "$dateTrunc": { "date": DateTime::from_millis(0), "unit": "year", "binSize": 100_000_000_000_i64 } }),
        bson!({ "$dateTrunc": { "date": first, "unit": "month" } }),
        bson!({ "$dateTrunc": { "date": first, "unit": "week" } }),
        bson!({ "$dateTrunc": { "date": first, "unit": "year", "timezone": "-01:00" } }),
        bson!({ "$dateAdd": { "startDate": last, "unit": "month", "amount": i64::MAX } }),
        bson!({ "$dateSubtract": { "startDate": DateTime::from_millis(0), "unit": "month", "amount": i64::MAX } }),
        bson!({ "$dateSubtract": { "startDate": first, "unit": "month", "amount": i64::MAX } }),
        bson!({ "$dateAdd": { "startDate": first, "unit": "year", "amount": 1 } }),
    ] {
        let answer = evaluate(far.clone()).await;
        let Err(Error::Invalid(why)) = answer else {
            panic!("{far}: {answer:?}")
        };
        assert!(why.contains("out of range"), "{far}: {why}");
    }
    for (near, expected) in [
        (
            bson!({ "$dateDiff": { "startDate": first, "endDate": first, "unit": "month" } }),
            bson!(0_i64),
        ),
        (
            bson!({ "$dateDiff": { "startDate": first, "endDate": last, "unit": "year" } }),
            bson!(584_554_049_i64),
        ),
        (
            bson!({ "$range": [5, i64::from(i32::MAX), i64::MAX] }),
            bson!([5]),
        ),
        (
            bson!({ "$range": [-5, i64::from(i32::MIN), i64::MIN] }),
            bson!([-5]),
        ),
    ] {
        let answer = evaluate(near.clone()).await.unwrap();
        let answer = Document::try_from(answer[0].as_ref()).unwrap();
        assert_eq!(answer.get("x"), Some(&expected), "{near}");
    }
}

#[tokio::test]
async fn regular_expressions_are_counted_wherever_they_stand() {
    let fixture = fixture().await;
    let store = &fixture.store;
    let pattern = |number: usize| {
        Bson::RegularExpression(bson::Regex {
            pattern: format!("a{number}").try_into().unwrap(),
            options: String::new().try_into().unwrap(),
        })
    };
    let list = |count: usize| (0..count).map(pattern).collect::<Vec<Bson>>();
    let matching = |operator: &str, count: usize| doc! { "item": { operator: list(count) } };
    let expressions = |count: usize| -> Vec<Bson> {
        (0..count)
            .map(|at| bson!({ "$regexMatch": { "input": "$item", "regex": pattern(at) } }))
            .collect()
    };
    let either = |count: usize| -> Document {
        let clauses = (0..count).map(|at| bson!({ "item": { "$regex": format!("a{at}") } }));
        doc! { "$or": clauses.collect::<Vec<Bson>>() }
    };
    fn too_many<T: std::fmt::Debug>(answer: Result<T, Error>) {
        let Err(Error::TooLarge(why)) = answer else {
            panic!("{answer:?}")
        };
        assert!(why.contains("64 regular expressions"), "{why}");
    }
    for operator in ["$in", "$nin", "$all"] {
        store
            .count("sales", matching(operator, 64), None)
            .await
            .unwrap();
        too_many(store.count("sales", matching(operator, 65), None).await);
    }
    store.count("sales", either(64), None).await.unwrap();
    too_many(store.count("sales", either(65), None).await);
    too_many(store.distinct("sales", "item", either(65), None).await);
    too_many(store.delete("sales", either(65), true).await);
    too_many(
        store
            .count("sales", doc! { "$expr": { "$or": expressions(65) } }, None)
            .await,
    );
    // The stages of a pipeline together, and the parts of a find and an update.
    let stages = |count: usize| {
        vec![
            doc! { "$match": matching("$in", 32) },
            doc! { "$match": { "$expr": { "$or": expressions(count) } } },
        ]
    };
    store.aggregate("sales", stages(32), None).await.unwrap();
    too_many(store.aggregate("sales", stages(33), None).await);
    let find = Find {
        filter: matching("$in", 32),
        projection: Some(doc! { "tags": { "$elemMatch": { "$in": list(33) } } }),
        ..Find::default()
    };
    too_many(store.find("sales", find).await.map(drop));
    let update = Update {
        filter: matching("$in", 32),
        change: Change::Operators(doc! { "$pull": { "tags": { "$in": list(33) } } }),
        many: false,
        upsert: false,
        array_filters: Vec::new(),
    };
    too_many(coglex_docstore::language::check_update(&update));
    too_many(store.update("sales", update).await);
    // And each alone is small.
    let costly = doc! { "item": { "$regex": ".{500}".repeat(2) } };
    let refused = store.count("sales", costly, None).await.unwrap_err();
    assert!(refused.to_string().contains("too costly"), "{refused}");
}
