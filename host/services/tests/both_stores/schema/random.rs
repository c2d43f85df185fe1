//! Random schemas and documents: both stores must accept the same, and report
//! the same of what they refuse.
//!
//! Where the server of the tests, SecantusDB, departs from MongoDB's manual, the
//! generators stay clear of it: in `enum` it takes `true` for 1, it divides
//! doubles as doubles, it does not compare decimals, and it leaves a type that is
//! asked of the whole document out of its report.

use bson::{Bson, Document, bson, doc};
use coglex_services::storage::StoreError;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{strict, told};
use crate::support::*;

/// Schemas without being asked for more by `COGLEX_TEST_ROUNDS`.
const ROUNDS: u32 = 80;
const NAMES: [&str; 3] = ["a", "b", "c"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.map(str::to_owned).to_vec())
}

fn scalar() -> impl Strategy<Value = Bson> {
    prop_oneof![
        (-3..8_i32).prop_map(Bson::from),
        (-3..8_i64).prop_map(Bson::from),
        (-6..16_i32).prop_map(|halves| Bson::from(f64::from(halves) / 2.0)),
        prop::sample::select(vec!["", "a", "ab", "abc", "é", "bcd"]).prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        Just(Bson::Null),
        Just(bson::DateTime::from_millis(0).into()),
    ]
}

fn value() -> BoxedStrategy<Bson> {
    scalar()
        .prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::from),
                document(inner).prop_map(Bson::from),
            ]
        })
        .boxed()
}

fn document(inner: impl Strategy<Value = Bson>) -> impl Strategy<Value = Document> {
    prop::collection::btree_map(name(), inner, 0..4).prop_map(|fields| fields.into_iter().collect())
}

/// A schema of a value.
fn schema() -> BoxedStrategy<Document> {
    prop::collection::vec(leaf(), 0..3)
        .prop_map(together)
        .prop_recursive(3, 24, 4, |inner| {
            let keywords = prop_oneof![
                leaf(),
                of_arrays(inner.clone()),
                of_objects(inner.clone()),
                logic(inner)
            ];
            prop::collection::vec(keywords, 0..4).prop_map(together)
        })
        .boxed()
}

/// A schema of a document: the keywords that look into it.
fn root() -> impl Strategy<Value = Document> {
    prop::collection::vec(of_objects(schema()), 1..5).prop_map(together)
}

/// One schema of several parts. Only one of `type` and `bsonType` may be there.
fn together(parts: Vec<Document>) -> Document {
    let mut schema = Document::new();
    for (keyword, operand) in parts.into_iter().flatten() {
        let typed = schema.contains_key("type") || schema.contains_key("bsonType");
        if !(typed && matches!(keyword.as_str(), "type" | "bsonType")) {
            schema.insert(keyword, operand);
        }
    }
    schema
}

fn leaf() -> impl Strategy<Value = Document> {
    let names = [
        "int", "long", "double", "number", "string", "bool", "null", "array", "object", "date",
    ];
    let json = ["number", "string", "boolean", "null", "array", "object"];
    let count = 0..4_i32;
    let halves = (-4..12_i32).prop_map(|halves| f64::from(halves) / 2.0);
    prop_oneof![
        prop::sample::subsequence(names.to_vec(), 1..4)
            .prop_map(|names| doc! { "bsonType": names }),
        prop::sample::select(json.to_vec()).prop_map(|name| doc! { "type": name }),
        count.clone().prop_map(|count| doc! { "minLength": count }),
        count.clone().prop_map(|count| doc! { "maxLength": count }),
        prop::sample::select(vec!["^a", "b", "c$", "."])
            .prop_map(|pattern| doc! { "pattern": pattern }),
        (halves.clone(), any::<bool>()).prop_map(
            |(bound, exclusive)| doc! { "minimum": bound, "exclusiveMinimum": exclusive }
        ),
        (halves, any::<bool>()).prop_map(
            |(bound, exclusive)| doc! { "maximum": bound, "exclusiveMaximum": exclusive }
        ),
        prop::sample::select(vec![1.0, 2.0, 3.0, 0.5, 1.5])
            .prop_map(|divisor| doc! { "multipleOf": divisor }),
        count.clone().prop_map(|count| doc! { "minItems": count }),
        count.prop_map(|count| doc! { "maxItems": count }),
        any::<bool>().prop_map(|unique| doc! { "uniqueItems": unique }),
        prop::sample::subsequence(
            vec![bson!("a"), bson!("ab"), bson!(2), bson!(2.5), Bson::Null],
            1..4
        )
        .prop_map(|values| doc! { "enum": values }),
    ]
}

fn of_arrays(inner: BoxedStrategy<Document>) -> impl Strategy<Value = Document> {
    prop_oneof![
        inner.clone().prop_map(|items| doc! { "items": items }),
        (prop::collection::vec(inner.clone(), 0..3), any::<bool>())
            .prop_map(|(items, more)| doc! { "items": items, "additionalItems": more }),
        (prop::collection::vec(inner.clone(), 0..3), inner)
            .prop_map(|(items, more)| doc! { "items": items, "additionalItems": more }),
    ]
}

fn of_objects(inner: BoxedStrategy<Document>) -> impl Strategy<Value = Document> {
    let some = || prop::sample::subsequence(NAMES.to_vec(), 1..3);
    let count = 0..4_i32;
    let properties = prop::collection::btree_map(name(), inner.clone(), 0..4).prop_map(|members| {
        let members = members.into_iter();
        let members = members.map(|(name, schema)| (name, Bson::from(schema)));
        members.collect::<Document>()
    });
    prop_oneof![
        properties.prop_map(|properties| doc! { "properties": properties }),
        (prop::sample::select(vec!["^a", "b", "[bc]"]), inner.clone())
            .prop_map(|(pattern, schema)| doc! { "patternProperties": { pattern: schema } }),
        any::<bool>().prop_map(|allowed| doc! { "additionalProperties": allowed }),
        inner.prop_map(|schema| doc! { "additionalProperties": schema }),
        some().prop_map(|names| doc! { "required": names }),
        count
            .clone()
            .prop_map(|count| doc! { "minProperties": count }),
        count.prop_map(|count| doc! { "maxProperties": count }),
        (name(), some()).prop_map(|(name, names)| doc! { "dependencies": { name: names } }),
        (name(), some())
            .prop_map(|(name, names)| doc! { "dependencies": { name: { "required": names } } }),
    ]
}

fn logic(inner: BoxedStrategy<Document>) -> impl Strategy<Value = Document> {
    let several = prop::collection::vec(inner.clone(), 1..4);
    prop_oneof![
        several
            .clone()
            .prop_map(|schemas| doc! { "allOf": schemas }),
        several
            .clone()
            .prop_map(|schemas| doc! { "anyOf": schemas }),
        several.prop_map(|schemas| doc! { "oneOf": schemas }),
        inner.prop_map(|schema| doc! { "not": schema }),
    ]
}

/// What the store says of each document.
async fn answers(store: &Store, schema: &Document, documents: &[Document]) -> Vec<String> {
    store.delete("c", doc! {}, true).await.unwrap();
    store
        .set_validator("c", strict(schema.clone()))
        .await
        .unwrap();
    let mut answers = Vec::new();
    for (id, document) in documents.iter().enumerate() {
        let mut stored = doc! { "_id": i32::try_from(id).unwrap() };
        stored.extend(document.clone());
        answers.push(match insert(store, "c", &[stored]).await {
            Ok(()) => String::new(),
            Err(StoreError::DocumentInvalid { failures }) => {
                format!("refused: {}", told(&failures))
            }
            Err(error) => error.to_string(),
        });
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_agree() {
    let rounds = std::env::var("COGLEX_TEST_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    on_mongodb(async |theirs: Store| {
        on_embedded(async |ours: Store| {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                let mut runner = TestRunner::new(Config {
                    cases: rounds,
                    failure_persistence: None,
                    ..Config::default()
                });
                let round = (root(), prop::collection::vec(document(value()), 1..8));
                let outcome = runner.run(&round, |(schema, documents)| {
                    runtime.block_on(async {
                        let ours = answers(&ours, &schema, &documents).await;
                        let theirs = answers(&theirs, &schema, &documents).await;
                        for ((ours, theirs), document) in ours.iter().zip(&theirs).zip(&documents) {
                            if ours != theirs {
                                return Err(TestCaseError::fail(format!(
                                    "{schema} on {document}: embedded {ours:?}, MongoDB {theirs:?}"
                                )));
                            }
                        }
                        Ok(())
                    })
                });
                if let Err(error) = outcome {
                    panic!("{error}");
                }
            });
        })
        .await;
    })
    .await;
}
