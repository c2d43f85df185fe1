//! What fuzzers drive: each function takes any bytes and panics when the crate
//! breaks a promise. The targets of cargo-fuzz (`fuzz/`) call them, and so does
//! the test at the end, with the inputs that were found and with random ones, so
//! that no fuzzer is needed to keep what one has found.
//!
//! Not a part of the crate's interface: it exists for tests and with the feature
//! `fuzzing` only.

mod source;

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
use crate::keys::KeyPattern;
use crate::model::{Change, Find, IndexSpec, Update};
use crate::order;
use crate::projection::Projection;
use crate::query::Filter;
use crate::store::{Options, Store};
use crate::update::Updater;
use crate::validate;
use crate::value::{self, Value, field};
use source::Source;

/// No input here is so large that it should be refused for it.
const ANY_SIZE: usize = usize::MAX;
/// Bytes that a pipeline may hold: enough for the few documents, and no endless
/// product.
const RESULT_BYTES: usize = 1 << 20;

/// The parser of filters: a filter compiles or is refused, in words.
pub fn filter(data: &[u8]) {
    let mut source = Source::new(data);
    let filter = match source.byte() & 1 {
        0 => source.filter(4),
        _ => match value::decode(source.rest()) {
            Ok(filter) => filter,
            Err(_) => return,
        },
    };
    if let Some(filter) = accepted(Filter::compile(&filter)) {
        for document in [doc! {}, doc! { "_id": 1, "a": [{ "b": 1 }, "ab", 2.5] }] {
            let raw = sure(value::encode(&document));
            accepted(filter.matches(raw.as_bytes()));
            sure(filter.position(raw.as_bytes()));
        }
    }
}

/// The matcher, projections and index keys on raw bytes. On bytes that may be
/// stored they work; on others they may fail, and do nothing worse.
pub fn matcher(data: &[u8]) {
    let mut source = Source::new(data);
    let length = usize::from(source.byte());
    let mut program = Source::new(source.take(length));
    let bytes = raw_document(&mut source);
    let stored = validate::document(&bytes, ANY_SIZE).is_ok();
    if stored {
        assert!(value::decode(&bytes).is_ok(), "{bytes:02X?}");
    }
    let wanted = program.filter(2);
    if let Some(filter) = accepted(Filter::compile(&wanted)) {
        // The filter may be as deep as filters get.
        let opposite = accepted(Filter::compile(&doc! { "$nor": [wanted.clone()] }));
        let answer = filter.matches(&bytes);
        let other = opposite.map(|opposite| opposite.matches(&bytes));
        if stored {
            let other = other.and_then(accepted);
            if let (Some(one), Some(other)) = (accepted(answer), other) {
                assert_ne!(one, other, "{wanted} and its opposite agree");
            }
            sure(filter.position(&bytes));
        }
    }
    if let Some(Some(projection)) = accepted(Projection::compile(&program.projection(2))) {
        let shown = projection.apply(&bytes);
        if stored {
            let shown = accepted(shown);
            assert!(shown.is_none_or(|shown| value::decode(shown.as_bytes()).is_ok()));
        }
    }
    if let Some(pattern) = accepted(KeyPattern::parse(&program.sort(), "sort")) {
        let keys = pattern.extract(&bytes);
        if stored && let Some(keys) = accepted(keys) {
            assert!(!keys.keys.is_empty());
        }
    }
}

/// Updates: the result may be stored, is the same each time, and keeps its `_id`.
pub fn update(data: &[u8]) {
    let mut source = Source::new(data);
    let length = usize::from(source.byte());
    let mut program = Source::new(source.take(length));
    let change = match program.below(6) {
        0 => Change::Replacement(program.document()),
        _ => Change::Operators(program.operators()),
    };
    let update = Update {
        filter: program.filter(1),
        change,
        many: program.byte() & 1 == 1,
        upsert: true,
        array_filters: (0..program.below(3))
            .map(|_| program.array_filter())
            .collect(),
    };
    let (Some(filter), Some(updater)) = (
        accepted(Filter::compile(&update.filter)),
        accepted(Updater::compile(&update)),
    ) else {
        return;
    };
    let bytes = raw_document(&mut source);
    let position = filter.position(&bytes).unwrap_or_default();
    let changed = updater.apply(&bytes, position);
    if validate::document(&bytes, ANY_SIZE).is_ok() {
        sure(filter.position(&bytes));
        if let Some(Some(changed)) = accepted(changed) {
            sound(&changed);
            let ids = (
                field(&bytes, b"_id").ok().flatten(),
                field(changed.as_bytes(), b"_id").ok().flatten(),
            );
            let (Some(before), Some(after)) = ids else {
                panic!("{update:?} loses the _id");
            };
            assert_eq!(order::compare(before, after), Ok(Ordering::Equal));
            if let Change::Operators(operators) = &update.change
                && operators.keys().all(|name| {
                    ["$set", "$unset", "$min", "$max", "$setOnInsert"].contains(&name.as_str())
                })
                && update.array_filters.is_empty()
            {
                let again = accepted(updater.apply(changed.as_bytes(), position));
                assert_eq!(again, Some(None), "{update:?} twice");
            }
        }
    }
    if let Some(inserted) = accepted(updater.insertion(&update.filter)) {
        sure(value::decode(inserted.as_bytes()));
    }
}

/// Keys: bytes order as values compare, and values compare as an order does.
pub fn keys(data: &[u8]) {
    let mut source = Source::new(data);
    let document = match source.byte() & 1 {
        0 => {
            let values: Vec<_> = (0..5).map(|_| source.value(3)).collect();
            sure(value::encode(&doc! { "_id": 0, "values": values })).into_bytes()
        }
        _ => raw_document(&mut source),
    };
    if validate::document(&document, ANY_SIZE).is_err() {
        return;
    }
    let values: Vec<Value<'_>> = match field(&document, b"values") {
        Ok(Some(array)) => array.values().map(sure).take(8).collect(),
        _ => Value::document(&document)
            .elements()
            .map(|element| sure(element).1)
            .take(8)
            .collect(),
    };
    let encoded = |value: Value<'_>, descending: bool| {
        let mut key = Vec::new();
        sure(if descending {
            order::encode_descending(value, &mut key)
        } else {
            order::encode(value, &mut key)
        });
        key
    };
    for &one in &values {
        for &other in &values {
            let expected = sure(order::compare(one, other));
            assert_eq!(sure(order::compare(other, one)), expected.reverse());
            let (key, another) = (encoded(one, false), encoded(other, false));
            assert_eq!(key.cmp(&another), expected, "{one:?} {other:?}");
            let falling = (encoded(one, true), encoded(other, true));
            assert_eq!(falling.1.cmp(&falling.0), expected, "{one:?} {other:?}");
            assert!(
                expected == Ordering::Equal || !another.starts_with(&key),
                "the key of {one:?} begins that of {other:?}"
            );
            for &third in &values {
                if expected.is_le() && sure(order::compare(other, third)).is_le() {
                    assert!(
                        sure(order::compare(one, third)).is_le(),
                        "{one:?} {other:?} {third:?}"
                    );
                }
            }
        }
    }
}

/// A store with a few documents of every shape and some indexes.
#[derive(Debug)]
pub struct Fixture {
    store: Store,
    runtime: Runtime,
}

impl Fixture {
    /// Makes the store in `folder`, which is empty.
    pub fn new(folder: &Path) -> Self {
        let options = Options {
            readers: 1,
            max_result_bytes: RESULT_BYTES,
            ..Options::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs no more than the system has");
        let store = sure(Store::open(&folder.join("data.db"), options));
        runtime.block_on(fill(&store));
        Fixture { store, runtime }
    }

    /// Pipelines: they run or are refused, and what the planner finds by an index
    /// or sorts by one is what reading everything gives.
    pub fn pipeline(&self, data: &[u8]) {
        let pipeline = Source::new(data).pipeline(2);
        // Nothing moves in front of a `$skip`, so this one reads everything.
        let mut slow = vec![doc! { "$skip": 0 }];
        slow.extend(pipeline.iter().cloned());
        let random = format!("{pipeline:?}").contains("$sample");
        let run = |pipeline| {
            let time = Some(Duration::from_secs(5));
            let result = self.store.aggregate("things", pipeline, time);
            accepted(self.runtime.block_on(result))
        };
        if let (Some(by_plan), Some(by_scan)) = (run(pipeline.clone()), run(slow))
            && !random
        {
            assert_eq!(by_plan, by_scan, "{pipeline:?}");
        }
    }

    /// Finds: what a plan gives is what matching each document gives.
    pub fn find(&self, data: &[u8]) {
        let mut source = Source::new(data);
        let filter = source.filter(2);
        let sort = (source.byte() & 1 == 1).then(|| source.sort());
        let find = |filter: Document| {
            let find = Find {
                filter,
                sort: sort.clone(),
                ..Find::default()
            };
            let found = async { self.store.find("things", find).await?.all().await };
            accepted(self.runtime.block_on(found))
        };
        let (Some(found), Some(everything)) = (find(filter.clone()), find(doc! {})) else {
            return;
        };
        let compiled = sure(Filter::compile(&filter));
        let mut expected = Vec::new();
        for document in everything {
            match accepted(compiled.matches(document.as_bytes())) {
                Some(true) => expected.push(document),
                Some(false) => {}
                // A document that fails may be one that the plan did not look at.
                None => return,
            }
        }
        assert_eq!(found, expected, "{filter} by {sort:?}");
    }
}

async fn fill(store: &Store) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for collection in ["things", "others"] {
        for id in 0..40 {
            let bytes: Vec<u8> = (0..120).map(|_| random(&mut state)).collect();
            let mut document = Source::new(&bytes).document();
            document.insert("_id", id);
            let raw = sure(value::encode(&document));
            // One that is nested too deeply is refused, and left out.
            accepted(store.insert(collection, vec![raw]).await);
        }
    }
    for keys in [
        doc! { "a": 1 },
        doc! { "a.b": 1 },
        doc! { "b": -1 },
        doc! { "c": 1, "_id": -1 },
    ] {
        let index = IndexSpec {
            name: None,
            keys,
            unique: false,
            sparse: false,
            expire_after: None,
        };
        sure(store.create_index("things", index).await);
    }
}

/// A document of arbitrary bytes: just those, or with a sound frame, or one with
/// every kind of value of which a few bytes are then changed.
fn raw_document(source: &mut Source<'_>) -> Vec<u8> {
    match source.below(4) {
        0 => source.rest().to_vec(),
        1 => {
            let mut bytes = Vec::new();
            let start = value::begin_document(&mut bytes);
            bytes.extend_from_slice(b"\x0A_id\0");
            bytes.extend_from_slice(source.rest());
            value::end_document(&mut bytes, start);
            bytes
        }
        changes => {
            let mut bytes = sure(value::encode(&source.document())).into_bytes();
            for _ in 0..2 * (changes - 2) {
                let at = usize::from(source.byte()) % bytes.len();
                let change = source.byte();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= change;
                }
            }
            bytes
        }
    }
}

/// What came out of an operation that may refuse its input, but not fail.
#[track_caller]
fn accepted<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(
            error @ (Error::Invalid(_)
            | Error::TooLarge(_)
            | Error::Timeout
            | Error::DuplicateKey { .. }),
        ) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 4_096, "{text}");
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// What came out of an operation that works.
#[track_caller]
fn sure<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

#[track_caller]
fn sound(document: &RawDocumentBuf) {
    match validate::document(document.as_bytes(), ANY_SIZE) {
        Ok(()) => {}
        // The writer refuses what grew too deep.
        Err(error) => assert!(error.to_string().contains("nesting"), "{error}"),
    }
    sure(value::decode(document.as_bytes()));
}

/// Marsaglia's xorshift: the same bytes each time.
fn random(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.to_le_bytes()[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs per target that are made up, beside those that are kept.
    const RANDOM: u64 = 3_000;

    /// Runs `target` on everything under `fuzz/seeds/NAME`, where found inputs are
    /// kept, and on random bytes.
    fn replay(name: &str, target: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/seeds")
            .join(name);
        let mut kept = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            kept += 1;
        }
        assert!(kept > 0, "nothing is kept under {}", folder.display());
        let mut state = 0x2545_F491_4F6C_DD1D;
        for round in 0..RANDOM {
            let bytes: Vec<u8> = (0..round % 200).map(|_| random(&mut state)).collect();
            target(&bytes);
        }
    }

    #[test]
    fn filters_compile_or_are_refused() {
        replay("filter", filter);
    }

    #[test]
    fn raw_bytes_are_matched_or_refused() {
        replay("matcher", matcher);
    }

    #[test]
    fn updates_keep_documents_sound() {
        replay("update", update);
    }

    #[test]
    fn keys_order_as_values() {
        replay("keys", keys);
    }

    #[test]
    fn pipelines_agree_with_reading_everything() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(folder.path());
        replay("pipeline", |data| fixture.pipeline(data));
    }

    #[test]
    fn finds_agree_with_matching_each_document() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Fixture::new(folder.path());
        replay("find", |data| fixture.find(data));
    }
}
