//! MongoDB's semantics as tables: documents, a question or change, and the
//! answer that MongoDB's manual gives, written by hand.
//!
//! The tables are `conformance/*.jsonl`: one case on a line, in Extended JSON;
//! `conformance/README.md` tells how to read and write them. Every case runs on
//! the embedded engine (filters once more with an index on each of their fields,
//! so that the planner must answer what a scan does) and on the MongoDB server
//! of the tests, through the port. What must be refused is also asked of the
//! service on top, as a client would.
//!
//! Where the server of the tests, SecantusDB, departs from MongoDB's manual, the
//! case says so, names the manual's page, and holds the server's own answer: the
//! run fails when that changes, so that a mended departure is noticed.

pub(crate) mod case;
mod names;

use bson::{Bson, Document, doc};
use coglex_services::Caller;
use coglex_services::documents::{DocumentLimits, Documents};
use coglex_services::storage::{Change, Find, StoreError, Update};
use futures_util::TryStreamExt as _;

use crate::support::*;
pub(crate) use case::difference;
use case::{Case, Group, Question};

/// Fewer cases than this are no proof.
const LEAST: usize = 600;

#[test]
fn the_tables_are_large_enough() {
    let groups = case::all();
    let cases: Vec<&Case> = groups.iter().flat_map(|group| &group.cases).collect();
    let departures = cases.iter().filter(|case| case.departure.is_some()).count();
    println!(
        "conformance: {} cases in {} groups, {departures} where SecantusDB departs from the manual",
        cases.len(),
        groups.len()
    );
    assert!(cases.len() >= LEAST, "{} cases", cases.len());
}

#[tokio::test]
async fn the_embedded_engine_conforms() {
    on_embedded(|store| async move {
        let (cases, indexed, failures) = run(&store, false).await;
        println!("conformance: {cases} cases on the embedded engine, {indexed} of them again with indexes");
        assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
        assert!(cases >= LEAST);
    })
    .await;
}

#[tokio::test]
async fn the_mongodb_server_conforms() {
    on_mongodb(|store| async move {
        let (cases, _, failures) = run(&store, true).await;
        println!("conformance: {cases} cases on the MongoDB server");
        assert!(
            failures.is_empty(),
            "{} fail:\n{}",
            failures.len(),
            failures.join("\n")
        );
        assert!(cases >= LEAST);
    })
    .await;
}

/// Runs all cases; answers how many, how many once more with indexes, and a
/// line for each that fails.
async fn run(store: &Store, server: bool) -> (usize, usize, Vec<String>) {
    let documents = Documents::new(store.clone(), DocumentLimits::default());
    let (mut count, mut indexed, mut failures) = (0, 0, Vec::new());
    for (number, group) in case::all().into_iter().enumerate() {
        for (name, others) in &group.others {
            store.delete(name, doc! {}, true).await.unwrap();
            insert(store, name, others).await.unwrap();
        }
        let shared = format!("g{number}");
        insert(store, &shared, &group.given).await.unwrap();
        for (position, case) in group.cases.iter().enumerate() {
            count += 1;
            let mut wrong: Vec<String> = Vec::new();
            let complain =
                |wrong: &mut Vec<String>, how: &str, expected: &Document, answer: &Document| {
                    if let Some(difference) = difference(expected, answer) {
                        wrong.push(format!("{}{how}: {difference}", case.place));
                    }
                };
            let collection = match case.question.changes() {
                true => {
                    let own = format!("g{number}c{position}");
                    insert(store, &own, &group.given).await.unwrap();
                    own
                }
                false => shared.clone(),
            };
            let answer = ask(store, &collection, &case.question).await;
            match case.departure.as_ref().filter(|_| server) {
                None if !case.rules_only => complain(&mut wrong, "", &case.expected, &answer),
                None => {}
                Some(departure) => {
                    complain(&mut wrong, " (SecantusDB's own answer)", departure, &answer);
                    if difference(&case.expected, &answer).is_none() {
                        wrong.push(format!("{}: SecantusDB has been mended", case.place));
                    }
                }
            }
            if case.is_refused() && (!server || case.departure.is_none()) {
                let answer = ask_service(&documents, &collection, case).await;
                complain(
                    &mut wrong,
                    " (through the service)",
                    &doc! { "refused": true },
                    &answer,
                );
            }
            if !server && !case.is_refused() && !case.question.changes() {
                let answer =
                    ask_with_indexes(store, &group, case, &format!("g{number}i{position}")).await;
                if let Some(answer) = answer {
                    indexed += 1;
                    complain(&mut wrong, " (with indexes)", &case.expected, &answer);
                }
            }
            failures.append(&mut wrong);
        }
    }
    (count, indexed, failures)
}

/// Asks a store, and puts the answer in the words of the tables.
pub(crate) async fn ask(store: &Store, collection: &str, question: &Question) -> Document {
    match asked(store, collection, question).await {
        Ok(answer) => answer,
        Err(StoreError::Invalid(_)) => doc! { "refused": true },
        Err(StoreError::DuplicateKey { .. }) => doc! { "refused": "duplicate" },
        Err(StoreError::Unavailable(_)) => doc! { "error": "unavailable" },
        Err(error) => doc! { "error": format!("{error:?}") },
    }
}

async fn documents_of(
    stream: coglex_services::storage::DocumentStream,
) -> Result<Vec<Document>, StoreError> {
    let raw: Vec<_> = stream.try_collect().await?;
    Ok(raw
        .iter()
        .map(|raw| Document::try_from(raw).unwrap())
        .collect())
}

async fn asked(
    store: &Store,
    collection: &str,
    question: &Question,
) -> Result<Document, StoreError> {
    let all = async || documents_of(store.find(collection, Find::default()).await?).await;
    Ok(match question {
        Question::Find(find) => {
            let found = documents_of(store.find(collection, find.clone()).await?).await?;
            case::found(found)
        }
        Question::Count(filter) => {
            let count = store.count(collection, filter.clone(), None).await?;
            doc! { "is": i32::try_from(count).unwrap() }
        }
        Question::Distinct(path, filter) => {
            let values = store
                .distinct(collection, path, filter.clone(), None)
                .await?;
            doc! { "gives": case::unordered(values) }
        }
        Question::Pipeline { stages, ordered } => {
            let made = store.aggregate(collection, stages.clone(), None).await?;
            let made = documents_of(made)
                .await?
                .into_iter()
                .map(Bson::from)
                .collect();
            doc! { "gives": if *ordered { made } else { case::unordered(made) } }
        }
        Question::Value(stages) => {
            let made = store.aggregate(collection, stages.clone(), None).await?;
            case::value(documents_of(made).await?)
        }
        Question::Update(update) => {
            let outcome = store.update(collection, update.clone()).await?;
            case::changed(&outcome, all().await?)
        }
        Question::Delete { filter, many } => {
            let count = store.delete(collection, filter.clone(), *many).await?;
            let mut answer = case::found(all().await?);
            answer.insert("is", i32::try_from(count).unwrap());
            answer
        }
    })
}

/// Asks the service, as a client would; only what is refused matters.
async fn ask_service(documents: &Documents, collection: &str, case: &Case) -> Document {
    let caller = &Caller::ApiKey;
    let ended = match case.question.clone() {
        Question::Find(find) => match documents.find(caller, collection, find).await {
            Ok(found) => found
                .try_collect::<Vec<_>>()
                .await
                .map(drop)
                .map_err(Into::into),
            Err(error) => Err(error),
        },
        Question::Count(filter) => documents.count(caller, collection, filter).await.map(drop),
        Question::Distinct(path, filter) => documents
            .distinct(caller, collection, &path, filter)
            .await
            .map(drop),
        Question::Pipeline { stages, .. } | Question::Value(stages) => {
            match documents
                .aggregate(caller, collection, stages, None, None)
                .await
            {
                Ok(made) => made
                    .try_collect::<Vec<_>>()
                    .await
                    .map(drop)
                    .map_err(Into::into),
                Err(error) => Err(error),
            }
        }
        Question::Update(update) => {
            let Update {
                filter,
                change,
                many,
                upsert,
                ..
            } = update;
            documents
                .update(caller, collection, filter, change, many, upsert)
                .await
                .map(drop)
        }
        Question::Delete { filter, many } => documents
            .delete(caller, collection, filter, many)
            .await
            .map(drop),
    };
    match ended {
        Err(coglex_services::Error::Invalid(_)) => doc! { "refused": true },
        Err(error) => doc! { "error": format!("{error:?}") },
        Ok(()) => doc! { "refused": false },
    }
}

/// Asks the same with an index on each field that the filter or sort names.
async fn ask_with_indexes(
    store: &Store,
    group: &Group,
    case: &Case,
    collection: &str,
) -> Option<Document> {
    let paths = case.question.paths();
    if paths.is_empty() {
        return None;
    }
    for path in paths {
        // A path that no index can have is asked without.
        let _ = store
            .create_index(collection, index(doc! { path: 1 }, false, false))
            .await;
    }
    insert(store, collection, &group.given).await.unwrap();
    let mut answer = ask(store, collection, &case.question).await;
    let unsorted = matches!(&case.question, Question::Find(find) if find.sort.is_none());
    if unsorted && let Ok(ids) = answer.get_array("ids") {
        // An index may give another order; nobody asked for one.
        let natural: Vec<Bson> = group
            .given
            .iter()
            .filter_map(|document| document.get("_id"))
            .filter(|id| ids.contains(id))
            .cloned()
            .collect();
        if natural.len() == ids.len() {
            answer.insert("ids", natural);
        }
    }
    Some(answer)
}

/// A change of the first match, or of all.
fn update(filter: Document, change: Change, options: &Document) -> Update {
    Update {
        filter,
        change,
        many: options.get_bool("many").unwrap_or_default(),
        upsert: options.get_bool("upsert").unwrap_or_default(),
        array_filters: options
            .get_array("filters")
            .map(|filters| {
                filters
                    .iter()
                    .map(|filter| filter.as_document().unwrap().clone())
                    .collect()
            })
            .unwrap_or_default(),
    }
}
