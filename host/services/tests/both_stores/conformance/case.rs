//! The tables' reader: from lines of Extended JSON to cases, and from a store's
//! answer to the words of the tables.

use std::path::Path;

use bson::{Bson, DateTime, Document, doc};
use coglex_services::storage::{Change, Find, Update, UpdateOutcome};

/// Documents, and the cases that are about them.
pub(crate) struct Group {
    pub(crate) given: Vec<Document>,
    /// Documents of other collections, for joins.
    pub(crate) others: Vec<(String, Vec<Document>)>,
    pub(crate) cases: Vec<Case>,
}

/// One case.
pub(crate) struct Case {
    /// File, line and the line itself.
    pub(crate) place: String,
    pub(crate) question: Question,
    pub(crate) expected: Document,
    /// What SecantusDB answers where it departs from the manual.
    pub(crate) departure: Option<Document>,
    /// The store itself would do it; the service refuses.
    pub(crate) rules_only: bool,
}

/// What is asked of a store.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Find(Find),
    Count(Document),
    Distinct(String, Document),
    Pipeline {
        stages: Vec<Document>,
        ordered: bool,
    },
    /// A pipeline that makes one document with the field `v`.
    Value(Vec<Document>),
    Update(Update),
    Delete {
        filter: Document,
        many: bool,
    },
}

impl Case {
    pub(crate) fn is_refused(&self) -> bool {
        self.expected.get("refused") == Some(&Bson::Boolean(true))
    }
}

impl Question {
    /// Whether the documents may be others afterwards.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Question::Update(_) | Question::Delete { .. })
    }

    /// As a line of a table asks it.
    pub(crate) fn to_document(&self) -> Document {
        let list = |documents: &[Document]| documents.iter().map(Bson::from).collect::<Vec<_>>();
        match self {
            Question::Find(find) => {
                let mut line = doc! { "find": &find.filter };
                line.extend(
                    find.projection
                        .iter()
                        .map(|value| ("project".into(), value.into())),
                );
                line.extend(find.sort.iter().map(|value| ("sort".into(), value.into())));
                if find.skip > 0 {
                    line.insert("skip", i32::try_from(find.skip).unwrap());
                }
                if let Some(limit) = find.limit {
                    line.insert("limit", i32::try_from(limit).unwrap());
                }
                line
            }
            Question::Count(filter) => doc! { "count": filter },
            Question::Distinct(path, filter) => doc! { "distinct": path, "where": filter },
            Question::Pipeline {
                stages,
                ordered: true,
            } => doc! { "pipeline": list(stages) },
            Question::Pipeline { stages, .. } | Question::Value(stages) => {
                doc! { "pipeline": list(stages), "unordered": true }
            }
            Question::Update(update) => {
                let mut line = match &update.change {
                    Change::Operators(operators) => doc! { "update": operators },
                    Change::Replacement(replacement) => doc! { "replace": replacement },
                };
                line.insert("where", &update.filter);
                line.insert("many", update.many);
                line.insert("upsert", update.upsert);
                line.insert("filters", list(&update.array_filters));
                line
            }
            Question::Delete { filter, many } => doc! { "delete": filter, "many": many },
        }
    }

    /// The paths that an index could help with.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        match self {
            Question::Find(find) => {
                collect(&find.filter, &mut paths);
                paths.extend(find.sort.iter().flat_map(Document::keys).cloned());
            }
            Question::Count(filter) => collect(filter, &mut paths),
            _ => {}
        }
        paths.sort();
        paths.dedup();
        paths.retain(|path| path != "_id");
        paths
    }
}

fn collect(filter: &Document, paths: &mut Vec<String>) {
    for (key, value) in filter {
        match value {
            Bson::Array(clauses) if key.starts_with('$') => {
                for clause in clauses.iter().filter_map(Bson::as_document) {
                    collect(clause, paths);
                }
            }
            _ if key.starts_with('$') => {}
            _ => paths.push(key.clone()),
        }
    }
}

/// Every group of every table.
pub(crate) fn all() -> Vec<Group> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/both_stores/conformance");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            let place = format!("{name}:{}: {line}", number + 1);
            let line = parse(&place, line);
            match line.get_array("given") {
                Ok(given) => groups.push(Group {
                    given: documents(given),
                    others: match line.get_document("others") {
                        Ok(others) => others
                            .iter()
                            .map(|(name, given)| {
                                (name.clone(), documents(given.as_array().unwrap()))
                            })
                            .collect(),
                        Err(_) => Vec::new(),
                    },
                    cases: Vec::new(),
                }),
                Err(_) => groups
                    .last_mut()
                    .expect("documents come first")
                    .cases
                    .push(case(place, line)),
            }
        }
    }
    groups
}

/// One line as a document.
pub(crate) fn parse(place: &str, line: &str) -> Document {
    let json: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
    match Bson::try_from(json) {
        Ok(Bson::Document(line)) => line,
        other => panic!("{place}: {other:?}"),
    }
}

pub(crate) fn documents(values: &[Bson]) -> Vec<Document> {
    values
        .iter()
        .map(|value| value.as_document().unwrap().clone())
        .collect()
}

fn case(place: String, mut line: Document) -> Case {
    let mut expected = Document::new();
    for key in [
        "ids", "gives", "is", "missing", "refused", "matched", "modified",
    ] {
        if let Some(value) = line.remove(key) {
            expected.insert(key, value);
        }
    }
    assert!(!expected.is_empty(), "{place}: nothing is expected");
    let departure = line.remove("departs").map(|departure| {
        let departure = departure.as_document().unwrap().clone();
        // Without the page and a reason it would be a mere exception.
        assert!(
            departure.get_str("page").is_ok() && departure.get_str("why").is_ok(),
            "{place}"
        );
        departure.get_document("secantus").unwrap().clone()
    });
    let rules_only = line
        .remove("by")
        .is_some_and(|by| by == Bson::from("rules"));
    let question = question(&place, &mut line);
    if !matches!(
        &question,
        Question::Pipeline { ordered: true, .. }
            | Question::Find(_)
            | Question::Update(_)
            | Question::Delete { .. }
    ) && let Ok(gives) = expected.get_array("gives")
    {
        let gives = unordered(gives.clone());
        expected.insert("gives", gives);
    }
    assert!(
        line.is_empty(),
        "{place}: what is {:?}?",
        line.keys().collect::<Vec<_>>()
    );
    Case {
        place,
        question,
        expected,
        departure,
        rules_only,
    }
}

/// What a line asks.
pub(crate) fn question(place: &str, line: &mut Document) -> Question {
    let mut take = |key: &str| line.remove(key);
    let into = |value: Option<Bson>| match value {
        Some(Bson::Document(document)) => document,
        None => Document::new(),
        other => panic!("{place}: {other:?} is no document"),
    };
    let whole =
        |value: Option<Bson>| value.map(|value| u64::try_from(value.as_i32().unwrap()).unwrap());
    if let Some(filter) = take("find") {
        return Question::Find(Find {
            filter: into(Some(filter)),
            projection: take("project").map(|value| into(Some(value))),
            sort: take("sort").map(|value| into(Some(value))),
            skip: whole(take("skip")).unwrap_or_default(),
            limit: whole(take("limit")),
            max_time: None,
        });
    }
    if let Some(filter) = take("count") {
        return Question::Count(into(Some(filter)));
    }
    if let Some(path) = take("distinct") {
        return Question::Distinct(path.as_str().unwrap().to_owned(), into(take("where")));
    }
    if let Some(stages) = take("pipeline") {
        let ordered = take("unordered").is_none();
        return Question::Pipeline {
            stages: documents(stages.as_array().unwrap()),
            ordered,
        };
    }
    if let Some(expression) = take("expr") {
        let first = doc! { "$sort": { "_id": 1 } };
        return Question::Value(vec![
            first,
            doc! { "$limit": 1 },
            doc! { "$replaceWith": { "v": expression } },
        ]);
    }
    if let Some(accumulator) = take("group") {
        let order = doc! { "$sort": { "_id": 1 } };
        return Question::Value(vec![
            order,
            doc! { "$group": { "_id": null, "v": accumulator } },
        ]);
    }
    if let Some(filter) = take("delete") {
        let many = take("many") == Some(Bson::from(true));
        return Question::Delete {
            filter: into(Some(filter)),
            many,
        };
    }
    let change = match (take("update"), take("replace")) {
        (Some(operators), None) => Change::Operators(into(Some(operators))),
        (None, Some(replacement)) => Change::Replacement(into(Some(replacement))),
        _ => panic!("{place}: nothing is asked"),
    };
    let filter = into(take("where"));
    let mut options = Document::new();
    for key in ["many", "upsert", "filters"] {
        if let Some(value) = take(key) {
            options.insert(key, value);
        }
    }
    Question::Update(super::update(filter, change, &options))
}

/// The answer to a find: the documents, and their identifiers.
pub(crate) fn found(documents: Vec<Document>) -> Document {
    let ids: Vec<Bson> = documents
        .iter()
        .map(|document| document.get("_id").cloned().unwrap_or(Bson::Null))
        .collect();
    doc! { "ids": ids, "gives": documents.into_iter().map(Bson::from).collect::<Vec<_>>() }
}

/// The value that an expression came to.
pub(crate) fn value(documents: Vec<Document>) -> Document {
    match documents.as_slice() {
        [one] => match one.get("v") {
            Some(value) => doc! { "is": value.clone() },
            None => doc! { "missing": true },
        },
        _ => doc! { "documents": documents.len() as i64 },
    }
}

/// What an update did. An identifier that a store made up is shown as `*`, and
/// a date or timestamp of this hour as `*now`.
pub(crate) fn changed(outcome: &UpdateOutcome, documents: Vec<Document>) -> Document {
    let now = DateTime::now().timestamp_millis();
    let recent = |millis: i64| (now - millis).abs() < 3_600_000;
    let mask = |(name, value): (String, Bson)| {
        let value = match value {
            Bson::ObjectId(_) if name == "_id" && outcome.upserted_id.is_some() => "*".into(),
            Bson::DateTime(date) if recent(date.timestamp_millis()) => "*now".into(),
            Bson::Timestamp(timestamp) if recent(i64::from(timestamp.time) * 1000) => "*now".into(),
            other => other,
        };
        (name, value)
    };
    let documents: Vec<Bson> = documents
        .into_iter()
        .map(|document| Bson::from(document.into_iter().map(mask).collect::<Document>()))
        .collect();
    doc! {
        "gives": documents,
        "matched": i32::try_from(outcome.matched).unwrap(),
        "modified": i32::try_from(outcome.modified).unwrap(),
    }
}

/// Values in an order of their own, where the store promises none.
pub(crate) fn unordered(mut values: Vec<Bson>) -> Vec<Bson> {
    values.sort_by_key(|value| format!("{value:?}"));
    values
}

/// Where the answer differs from what is expected; only what a case names counts.
pub(crate) fn difference(expected: &Document, answer: &Document) -> Option<String> {
    let wrong = expected.iter().find(|(key, value)| {
        // The printed form tells types apart, −0 from 0, and the order of
        // fields, and finds NaN equal to itself.
        answer.get(key).map(|value| format!("{value:?}")) != Some(format!("{value:?}"))
    })?;
    let answer = match answer.get(wrong.0) {
        Some(value) => doc! { wrong.0: value.clone() },
        None => answer.clone(),
    };
    Some(format!(
        "\n    -> {}",
        Bson::from(answer).into_relaxed_extjson()
    ))
}
