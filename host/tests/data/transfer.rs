//! Between the embedded store and MongoDB, and back: not a byte is lost.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp,
    bson, doc,
};
use coglex_services::storage::mongo::MongoStore;
use coglex_services::storage::{IndexSpec, ValidationLevel, Validator};

use crate::support::coglex;
use crate::{contents, raw, run, run_with, with_store};

/// A database on the test command's server, dropped in the end.
struct Database {
    uri: String,
    name: String,
}

impl Database {
    fn new(test: &str) -> Option<Self> {
        let Ok(uri) = std::env::var("COGLEX_TEST_MONGODB_URI") else {
            eprintln!("SKIPPED: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
            return None;
        };
        let name = format!("coglex_data_{test}_{}", std::process::id());
        Some(Self { uri, name })
    }

    fn coglex(&self, dir: &Path) -> Command {
        let mut command = coglex(dir);
        command.env("MONGODB_URI", &self.uri);
        command.env("MONGODB_DATABASE", &self.name);
        command
    }

    fn run(&self, dir: &Path, args: &[&str]) -> crate::Ran {
        self.coglex(dir).args(args).output().unwrap().into()
    }

    fn with<T>(&self, work: impl AsyncFnOnce(&MongoStore) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = MongoStore::connect(&self.uri, Some(&self.name))
                .await
                .unwrap();
            work(&store).await
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.with(async |store| drop(store.drop_database().await));
    }
}

fn regex(pattern: &str, options: &str) -> Bson {
    Bson::RegularExpression(Regex {
        pattern: pattern.try_into().unwrap(),
        options: options.try_into().unwrap(),
    })
}

fn binary(subtype: u8, bytes: &[u8]) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::from(subtype),
        bytes: bytes.to_vec(),
    })
}

/// A value of every type, and the odd ones of each.
fn values() -> Vec<Bson> {
    let code = JavaScriptCodeWithScope {
        code: "f()".into(),
        scope: doc! { "x": 1, "y": { "z": -0.0 } },
    };
    let decimals = [
        "0",
        "-0",
        "0.10",
        "1E+3",
        "NaN",
        "Infinity",
        "-Infinity",
        "9.999999999999999999999999999999999E+6144",
        "1E-6176",
    ];
    let mut values = vec![
        0.into(),
        i32::MIN.into(),
        i32::MAX.into(),
        0_i64.into(),
        5_i64.into(),
        i64::MIN.into(),
        i64::MAX.into(),
        (1_i64 << 53).into(),
        0.0.into(),
        (-0.0).into(),
        1.0.into(),
        0.1.into(),
        1e300.into(),
        5e-324.into(),
        f64::MAX.into(),
        f64::NAN.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        f64::from_bits(f64::NAN.to_bits() | 7).into(),
        "".into(),
        "a\"b\\c\n\t\u{1}\u{0}é😀\u{2028}".into(),
        true.into(),
        false.into(),
        Bson::Null,
        Bson::MinKey,
        Bson::MaxKey,
        ObjectId::parse_str("507f1f77bcf86cd799439011")
            .unwrap()
            .into(),
        DateTime::from_millis(0).into(),
        DateTime::from_millis(-1).into(),
        DateTime::from_millis(1_356_351_330_501).into(),
        Timestamp {
            time: 1,
            increment: 0,
        }
        .into(),
        Timestamp {
            time: u32::MAX,
            increment: u32::MAX,
        }
        .into(),
        regex("^a\"/\\d", "im"),
        regex("", ""),
        regex("x", "imsux"),
        Bson::JavaScriptCode("function() { return \"x\" }".into()),
        Bson::JavaScriptCodeWithScope(code),
        bson!([]),
        bson!({}),
        bson!([[], {}, [[1, 2_i64, 3.0]], null]),
        bson!({ "": 1, "a.b": 2, ".": 3, "..": 4, "a.": 5, " ": 6, "é": 7, "$": 8, "$a": 9, "a$": 10, "0": 11 }),
        // Those that look like a type's wrapper, and are none.
        bson!({ "$date": "yesterday" }),
        bson!({ "$numberInt": "1" }),
        bson!({ "$oid": "507f1f77bcf86cd799439011" }),
        bson!({ "$binary": 1 }),
        bson!({ "$minKey": 1 }),
        bson!({ "$code": "x", "$scope": {} }),
        bson!({ "$ref": "c", "$id": 1, "$db": "d" }),
        bson!({ "$uuid": "x" }),
        (0..90).fold(bson!(1), |inner, n| match n % 2 {
            0 => bson!([inner]),
            _ => bson!({ "a": inner }),
        }),
    ];
    values.extend(decimals.map(|text| Bson::Decimal128(text.parse().unwrap())));
    for subtype in [0, 1, 3, 4, 5, 6, 7, 8, 9, 0x80, 0xFF] {
        values.push(binary(subtype, &[0, 1, 254, 255]));
    }
    values.push(binary(4, &[7; 16]));
    values.push(binary(0, b""));
    values.push(binary(0, &vec![9; 3_000]));
    values
}

/// What MongoDB keeps and the server of the tests does not: it makes null of
/// undefined and a string of a symbol, and refuses years beyond 9999.
fn values_beyond_the_test_server() -> Vec<Bson> {
    vec![
        Bson::Undefined,
        Bson::Symbol("sym\"".into()),
        DateTime::from_millis(i64::MIN).into(),
        DateTime::from_millis(i64::MAX).into(),
        Timestamp {
            time: 0,
            increment: 0,
        }
        .into(),
    ]
}

fn documents() -> Vec<RawDocumentBuf> {
    let mut documents: Vec<RawDocumentBuf> = values()
        .into_iter()
        .enumerate()
        .map(|(n, value)| {
            let n = i32::try_from(n).unwrap();
            raw(doc! { "_id": n * 7 % 101, "v": value.clone(), "in": { "list": [value, n] } })
        })
        .collect();
    documents.push(raw(doc! { "_id": "fields", "": 1, "a.b": 2, "x y": 3, "a$b": 4, "_password": "p", "_coglex": { "s": 1 } }));
    for id in [
        Bson::ObjectId(ObjectId::parse_str("507f1f77bcf86cd799439012").unwrap()),
        Bson::Double(0.5),
        Bson::Null,
        bson!({ "a": 1, "b": [1] }),
        Bson::Boolean(true),
        binary(4, &[1; 16]),
        DateTime::from_millis(5).into(),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Int64(1 << 40),
        Bson::String(String::new()),
    ] {
        documents.push(raw(doc! { "_id": id, "a": 1 }));
    }
    documents
}

fn index(name: &str, keys: Document) -> IndexSpec {
    IndexSpec {
        name: Some(name.into()),
        keys,
        unique: false,
        sparse: false,
        expire_after: None,
    }
}

fn fill(dir: &Path) {
    with_store(dir, async |store| {
        store.insert("types", documents()).await.unwrap();
        // More than a batch, in an order that is not the identifiers'.
        let many = (0..2_500)
            .map(|n| raw(doc! { "_id": (n * 1_001) % 2_503, "n": n, "t": format!("{}", n % 10) }));
        store.insert("Many", many.collect()).await.unwrap();
        store
            .insert("many", vec![raw(doc! { "_id": 1 })])
            .await
            .unwrap();
        store
            .insert(
                "_coglex.things",
                vec![raw(doc! { "_id": 1, "secret": "x" })],
            )
            .await
            .unwrap();
        store
            .insert(
                "odd näme/x",
                vec![raw(doc! { "_id": 1, "at": DateTime::now() })],
            )
            .await
            .unwrap();
        for (collection, spec) in [
            (
                "Many",
                IndexSpec {
                    unique: true,
                    ..index("n_1", doc! { "n": 1 })
                },
            ),
            ("Many", index("by t", doc! { "t": 1, "n": -1 })),
            (
                "Many",
                IndexSpec {
                    sparse: true,
                    ..index("a.b_1", doc! { "a.b": 1 })
                },
            ),
            (
                "odd näme/x",
                IndexSpec {
                    expire_after: Some(Duration::from_secs(86_400)),
                    ..index("at_1", doc! { "at": 1 })
                },
            ),
        ] {
            store.create_index(collection, spec).await.unwrap();
        }
        // A document that is older than the schema moves all the same.
        let schema =
            doc! { "required": ["b"], "properties": { "b": { "bsonType": "int", "minimum": 1 } } };
        let validator = Validator {
            schema,
            level: ValidationLevel::Moderate,
        };
        store.set_validator("many", Some(validator)).await.unwrap();
    });
}

#[test]
fn from_embedded_to_mongodb_and_back_every_byte_is_the_same() {
    let Some(database) = Database::new("round") else {
        return;
    };
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (here.path(), there.path());
    fill(here);
    let said = run(here, &["export", "one"]).ok();
    assert!(said.contains("as bytes in $binary"), "{said}");
    let one = contents(&here.join("one"));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "Many.jsonl",
            "_coglex.things.jsonl",
            "collections.json",
            "many~2.jsonl",
            "odd%20n%C3%A4me%2Fx.jsonl",
            "types.jsonl"
        ]
    );
    database.run(here, &["import", "one"]).ok();
    database.run(here, &["export", "two"]).ok();
    same(&one, &contents(&here.join("two")));
    let two = here.join("two");
    run(there, &["import", two.to_str().unwrap()]).ok();
    run(there, &["export", "three"]).ok();
    same(&one, &contents(&there.join("three")));
    run(there, &["check"]).ok();
    let same_bytes = with_store(there, async |store| {
        let found = store.find("types", Default::default()).await.unwrap();
        found.all().await.unwrap()
    });
    assert!(same_bytes == documents(), "bit by bit, below the text, too");

    // The same through a pipe, and once more over what is there.
    let stream = run(here, &["export", "-"]).ok();
    let occupied = run_with(database.coglex(here), &["import", "-"], stream.as_bytes()).refused();
    assert!(occupied.contains("holds documents already"), "{occupied}");
    run_with(
        database.coglex(here),
        &["import", "-", "--drop"],
        stream.as_bytes(),
    )
    .ok();
    let again = run_with(
        database.coglex(here),
        &["import", "-", "--upsert"],
        stream.as_bytes(),
    )
    .ok();
    let all = documents().len() + 2_503;
    assert_eq!(
        again,
        format!("imported {all} documents in 5 collections; {all} of them were there already\n")
    );
    assert_eq!(database.run(here, &["export", "-"]).ok(), stream);
}

#[test]
fn from_embedded_to_embedded_every_byte_is_the_same() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (here.path(), there.path());
    let mut all = documents();
    for (n, value) in values_beyond_the_test_server().into_iter().enumerate() {
        all.push(raw(
            doc! { "_id": format!("beyond {n}"), "v": value.clone(), "in": [value] },
        ));
    }
    // A pointer (type 12) and a name that is there twice: no crate writes them.
    let mut odd =
        b"\x10_id\0\x07\x27\0\0\x0Cp\0\x04\0\0\0d.c\0twelve bytes\x08b\0\x01\x08b\0\0\0".to_vec();
    let length = i32::try_from(odd.len() + 4).unwrap();
    odd.splice(0..0, length.to_le_bytes());
    all.push(RawDocumentBuf::from_bytes(odd).unwrap());
    with_store(here, async |store| {
        store.insert("types", all.clone()).await.unwrap()
    });
    run(here, &["export", "one"]).ok();
    let one = here.join("one");
    run(there, &["import", one.to_str().unwrap()]).ok();
    let moved = with_store(there, async |store| {
        let found = store.find("types", Default::default()).await.unwrap();
        found.all().await.unwrap()
    });
    assert_eq!(moved.len(), all.len());
    for (moved, document) in moved.iter().zip(&all) {
        assert_eq!(moved.as_bytes(), document.as_bytes());
    }
    run(there, &["export", "two"]).ok();
    same(&contents(&one), &contents(&there.join("two")));
}

/// Says where two exports part, rather than show all of both.
#[track_caller]
fn same(one: &[(String, String)], other: &[(String, String)]) {
    for ((name, text), (other_name, other_text)) in one.iter().zip(other) {
        assert_eq!(name, other_name);
        for (number, (line, other_line)) in text.lines().zip(other_text.lines()).enumerate() {
            assert_eq!(line, other_line, "{name}: line {}", number + 1);
        }
    }
    assert!(one == other);
}

#[test]
fn what_mongodb_would_change_is_refused() {
    let Some(database) = Database::new("refused") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let import = |text: &str, more: &[&str]| {
        let args = [&["import", "-", "--collection", "c"], more].concat();
        run_with(database.coglex(dir.path()), &args, text.as_bytes())
    };
    let stamp = r#"{"$timestamp":{"t":0,"i":0}}"#;
    let error = import(
        &format!("{{\"_id\":1,\"in\":{{\"a\":{stamp}}}}}\n{{\"_id\":2,\"a\":{stamp}}}"),
        &[],
    )
    .refused();
    assert!(
        error.contains("line 2: the field `a` is an empty timestamp"),
        "{error}"
    );
    let error = import(
        "{\"_id\":3}\n{\"_id\":4}\n{\"_id\":3}\n{\"_id\":5}",
        &["--drop"],
    )
    .refused();
    assert!(
        error.contains("line 3: duplicate key for index _id_"),
        "{error}"
    );
    let said = import(
        "{\"_id\":3,\"a\":1}\n{\"_id\":4}\n{\"_id\":6}\n{\"_id\":6,\"b\":1}",
        &["--upsert"],
    )
    .ok();
    assert!(said.contains("1 of them were there already"), "{said}");
    let text = database.run(dir.path(), &["export", "-"]).ok();
    let int = |n: i32| format!("{{\"$numberInt\":\"{n}\"}}");
    assert_eq!(
        text.lines().skip(1).take(3).collect::<Vec<_>>(),
        [
            format!("{{\"_id\":{},\"a\":{}}}", int(3), int(1)),
            format!("{{\"_id\":{}}}", int(4)),
            format!("{{\"_id\":{},\"b\":{}}}", int(6), int(1)),
        ]
    );
}

#[test]
fn an_uri_of_a_seed_list_is_looked_up_and_a_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let uri = "mongodb+srv://user:hunter2@cluster.invalid/app";
    let error = run(dir.path(), &["export", "--mongodb-uri", uri]).refused();
    assert!(
        error.contains("the setting mongodb.uri cannot be used") && error.contains("DNS"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    let error = run(
        dir.path(),
        &[
            "export",
            "--mongodb-uri",
            "mongodb+srv://cluster.invalid:27017/",
        ],
    )
    .refused();
    assert!(error.contains("port"), "{error}");
    let error = run(
        dir.path(),
        &[
            "export",
            "--mongodb-uri",
            "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100",
        ],
    )
    .refused();
    assert!(error.contains("MongoDB does not answer"), "{error}");
}
