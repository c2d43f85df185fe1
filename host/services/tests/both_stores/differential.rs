//! Random documents, questions and changes: both stores must answer alike.
//!
//! A run begins with the cases that once failed, `differential/regressions.jsonl`,
//! and then makes new ones from a seed that it prints. What fails is made smaller
//! while it still fails (fewer documents, steps, clauses) and added to that file.
//!
//! A few seconds with every test; more by `COGLEX_TEST_ROUNDS` or
//! `COGLEX_TEST_SECONDS` (with `cargo test`, as nextest ends what takes minutes),
//! and the same ones again by `COGLEX_TEST_SEED`.
//!
//! Where the server of the tests, SecantusDB, departs from MongoDB's manual, the
//! generators stay clear of it and say why.

mod generate;
mod pipelines;

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use coglex_services::storage::embedded::EmbeddedStore;
use coglex_services::storage::mongo::MongoStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::conformance::case::{self, Question};
use crate::conformance::{ask, difference};
use crate::support::*;

/// Documents, and what is asked of them and done to them.
#[derive(Debug, Clone)]
struct Round {
    collection: String,
    documents: Vec<Document>,
    steps: Vec<Question>,
}

/// Collections of the embedded store and the indexes that they have there, so
/// that its planner must answer what a scan of the other store does.
const COLLECTIONS: [(&str, &[&str]); 4] = [
    ("plain", &[]),
    ("shallow", &["a", "b", "c", "n", "l"]),
    ("deep", &["a.b", "b.a", "c", "m.n", "o.x"]),
    ("backward", &["-a", "-b.c", "c.a", "-n", "s"]),
];

/// Rounds without being asked for more.
const ROUNDS: u32 = 60;
/// Rounds between two looks at the clock.
const PORTION: u32 = 20;

fn round() -> impl Strategy<Value = Round> {
    let collection = prop::sample::select(COLLECTIONS.map(|(name, _)| name.to_owned()).to_vec());
    let documents = (
        generate::documents(),
        prop::collection::vec(generate::question(), 1..12),
    );
    let pipelines = (
        pipelines::documents(),
        prop::collection::vec(pipelines::question(), 1..6),
    );
    (collection, prop_oneof![documents, pipelines]).prop_map(|(collection, (documents, steps))| {
        Round {
            collection,
            documents,
            steps,
        }
    })
}

/// The two stores, the embedded one first.
struct Stores {
    runtime: tokio::runtime::Runtime,
    stores: [Store; 2],
    /// Answers that were compared.
    compared: Cell<u64>,
}

impl Stores {
    /// Where the two differ in this round.
    fn differ(&self, round: &Round) -> Option<String> {
        let collection = &round.collection;
        self.runtime.block_on(async {
            for store in &self.stores {
                store.delete(collection, doc! {}, true).await.unwrap();
                insert(store, collection, &round.documents).await.unwrap();
            }
            for step in &round.steps {
                let ours = ask(&self.stores[0], collection, step).await;
                let theirs = ask(&self.stores[1], collection, step).await;
                self.compared.set(self.compared.get() + 1);
                if let Some(difference) = differ(&ours, &theirs) {
                    return Some(format!("{:?}\n{difference}", step.to_document()));
                }
                // Identifiers may have been made up, and differ.
                if matches!(step, Question::Update(update) if update.upsert) {
                    return None;
                }
            }
            None
        })
    }
}

/// Where two answers differ; of what was found, only the documents count.
fn differ(ours: &Document, theirs: &Document) -> Option<String> {
    let different = difference(theirs, ours).or_else(|| difference(ours, theirs));
    different.map(|_| format!("the embedded store: {ours:?}\nthe MongoDB server: {theirs:?}"))
}

impl Round {
    fn to_document(&self) -> Document {
        doc! {
            "collection": &self.collection,
            "given": self.documents.iter().map(Bson::from).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|step| Bson::from(step.to_document())).collect::<Vec<_>>(),
        }
    }

    fn parse(place: &str, line: &str) -> Self {
        let mut round = case::parse(place, line);
        let documents = |value: Option<Bson>| match value {
            Some(Bson::Array(values)) => case::documents(&values),
            other => panic!("{place}: {other:?}"),
        };
        Round {
            collection: round.get_str("collection").unwrap().to_owned(),
            documents: documents(round.remove("given")),
            steps: documents(round.remove("steps"))
                .into_iter()
                .map(|mut step| case::question(place, &mut step))
                .collect(),
        }
    }
}

fn regressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/both_stores/differential/regressions.jsonl")
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn both_stores_answer_alike() {
    let Ok(uri) = std::env::var("COGLEX_TEST_MONGODB_URI") else {
        eprintln!("SKIPPED: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let embedded = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let name = format!("coglex_test_differential_{}", std::process::id());
    let mongodb = runtime
        .block_on(MongoStore::connect(&uri, Some(&name)))
        .unwrap();
    let stores: [Store; 2] = [Arc::new(embedded), Arc::new(mongodb.clone())];
    let joined: Vec<Document> = (0..5_i32)
        .map(|id| match id {
            0 => doc! { "_id": id },
            3 => doc! { "_id": id, "k": null, "l": [1, 2] },
            _ => doc! { "_id": id, "k": id, "l": [id, 3] },
        })
        .collect();
    for store in &stores {
        runtime.block_on(insert(store, "joined", &joined)).unwrap();
    }
    for (collection, paths) in COLLECTIONS {
        for path in paths {
            let keys = match path.strip_prefix('-') {
                Some(path) => doc! { path: -1 },
                None => doc! { *path: 1 },
            };
            runtime
                .block_on(stores[0].create_index(collection, index(keys, false, false)))
                .unwrap();
        }
    }
    let stores = Stores {
        runtime,
        stores,
        compared: Cell::new(0),
    };
    let result = run(&stores);
    stores.runtime.block_on(mongodb.drop_database()).unwrap();
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Replays what once failed, then goes on with new rounds.
fn run(stores: &Stores) -> Result<(), String> {
    let kept = std::fs::read_to_string(regressions()).unwrap_or_default();
    let mut replayed = 0;
    for (number, line) in kept.lines().enumerate() {
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let place = format!("regressions.jsonl:{}", number + 1);
        if let Some(difference) = stores.differ(&Round::parse(&place, line)) {
            return Err(format!("{place}: {difference}"));
        }
        replayed += 1;
    }

    let seed = setting::<u64>("COGLEX_TEST_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        now.as_nanos() as u64
    });
    // A runner makes its rounds once, so each portion has one of its own.
    let portion = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..12].copy_from_slice(&number.to_le_bytes());
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
    };
    let seconds = setting("COGLEX_TEST_SECONDS").map(Duration::from_secs);
    let rounds = match seconds {
        Some(_) => u32::MAX,
        None => setting("COGLEX_TEST_ROUNDS").unwrap_or(ROUNDS),
    };
    let config = Config {
        cases: PORTION,
        max_shrink_iters: 3_000,
        failure_persistence: None,
        ..Config::default()
    };
    let begun = Instant::now();
    let mut done = 0;
    while done < rounds && seconds.is_none_or(|seconds| begun.elapsed() < seconds) {
        let mut runner = TestRunner::new_with_rng(config.clone(), portion(done / PORTION));
        let result = runner.run(&round(), |round| match stores.differ(&round) {
            Some(difference) => Err(TestCaseError::fail(difference)),
            None => Ok(()),
        });
        done += PORTION;
        if let Err(TestError::Fail(difference, round)) = result {
            let line = Bson::from(round.to_document()).into_canonical_extjson();
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(regressions())
                .unwrap();
            writeln!(file, "{line}").unwrap();
            return Err(format!(
                "seed {seed}: the stores differ; kept as the last of regressions.jsonl\n{:?}\n{difference}",
                round.documents
            ));
        }
    }
    eprintln!(
        "differential: seed {seed}, {replayed} kept rounds and {done} new ones, {} answers compared, in {:.0?}",
        stores.compared.get(),
        begun.elapsed()
    );
    Ok(())
}
