//! A collection's schema on MongoDB: its validator, and what the server reports
//! of a document that fails it.
//!
//! The schema lives in the server alone, so that every host of a cluster obeys
//! the same one from the moment when it is set.

use bson::{Bson, Document, doc};
use coglex_docstore::schema::{Failure, MAX_FAILURES, detail, needed_by, pointer};
use futures_util::TryStreamExt as _;
use mongodb::Database;
use mongodb::error::{Error as DriverError, ErrorKind};
use mongodb::options::ValidationLevel as DriverLevel;

use super::super::{Result, StoreError, ValidationLevel, Validator};
use super::error::{is_absent, store_error};

const OPERATOR: &str = "$jsonSchema";
/// The collection was made by somebody else meanwhile.
const NAMESPACE_EXISTS: i32 = 48;

/// What the collection's documents must look like, if that is a schema and
/// nothing else: a validator with conditions of other kinds is not ours.
pub(super) async fn validator(database: &Database, collection: &str) -> Result<Option<Validator>> {
    let Some((mut validator, level)) = stored(database, collection).await? else {
        return Ok(None);
    };
    let level = match level {
        Some(DriverLevel::Off) => return Ok(None),
        Some(DriverLevel::Moderate) => ValidationLevel::Moderate,
        _ => ValidationLevel::Strict,
    };
    match (validator.remove(OPERATOR), validator.is_empty()) {
        (Some(Bson::Document(schema)), true) => Ok(Some(Validator { schema, level })),
        _ => Ok(None),
    }
}

/// Sets the collection's schema, or removes it. The collection is made if there
/// is none.
pub(super) async fn set_validator(
    database: &Database,
    collection: &str,
    validator: Option<Validator>,
) -> Result<()> {
    let there = stored(database, collection).await?;
    if let Some((old, _)) = &there
        && old.keys().any(|key| key != OPERATOR)
    {
        return Err(StoreError::Invalid(
            "the collection has a validator that was not made here; remove it in MongoDB first"
                .into(),
        ));
    }
    let options = match validator {
        None if there.is_none() => return Ok(()),
        None => doc! { "validator": {}, "validationLevel": "strict" },
        Some(Validator { schema, level }) => doc! {
            "validator": { OPERATOR: schema },
            "validationLevel": match level {
                ValidationLevel::Strict => "strict",
                ValidationLevel::Moderate => "moderate",
            },
            "validationAction": "error",
        },
    };
    let run = |command: &str| {
        let mut document = doc! { command: collection };
        document.extend(options.clone());
        if let Some(concern) = database
            .write_concern()
            .and_then(|concern| bson::serialize_to_bson(concern).ok())
        {
            document.insert("writeConcern", concern);
        }
        async move { database.run_command(document).await.map(drop) }
    };
    let changed = match run("collMod").await {
        Err(error) if is_absent(&error) => match run("create").await {
            Err(error) if exists(&error) => run("collMod").await,
            made => made,
        },
        changed => changed,
    };
    changed.map_err(store_error)
}

/// The collection's validator as it is, with its level.
async fn stored(
    database: &Database,
    collection: &str,
) -> Result<Option<(Document, Option<DriverLevel>)>> {
    let found = database
        .list_collections()
        .filter(doc! { "name": collection })
        .await
        .map_err(store_error)?
        .try_next()
        .await
        .map_err(store_error)?;
    Ok(found.and_then(|found| {
        let options = found.options;
        let validator = options.validator.filter(|document| !document.is_empty())?;
        Some((validator, options.validation_level))
    }))
}

fn exists(error: &DriverError) -> bool {
    matches!(&*error.kind, ErrorKind::Command(error) if error.code == NAMESPACE_EXISTS)
}

/// What a server's `errInfo` says of a document that failed validation
/// (MongoDB's manual: `core/schema-validation/handle-invalid-documents`). Nothing
/// of the document's values is taken over.
pub(super) fn failures(info: &Document) -> Vec<Failure> {
    let mut failures = Failures(Vec::new());
    let Ok(details) = info.get_document("details") else {
        return failures.0;
    };
    match (
        details.get_str("operatorName"),
        details.get_array("schemaRulesNotSatisfied"),
    ) {
        (Ok(OPERATOR), Ok(rules)) => failures.rules("", rules),
        // The whole schema excludes documents.
        (Ok(OPERATOR), Err(_)) => failures.push("", "type", &Document::new()),
        // A validator that was not made here.
        _ => failures.push("", "validator", &Document::new()),
    }
    if failures.0.is_empty() {
        // A report in words that are not known here still is one.
        failures.push("", "schema", &Document::new());
    }
    failures.0
}

struct Failures(Vec<Failure>);

impl Failures {
    fn push(&mut self, path: &str, rule: &str, specified: &Document) {
        self.add(path, rule, detail(rule, specified));
    }

    fn add(&mut self, path: &str, rule: &str, detail: String) {
        if self.0.len() < MAX_FAILURES {
            self.0.push(Failure {
                path: path.to_owned(),
                rule: rule.to_owned(),
                detail,
            });
        }
    }

    /// The rules that one value fails. Of a value of the wrong type that alone
    /// is told.
    fn rules(&mut self, path: &str, rules: &[Bson]) {
        let mut rules: Vec<&Document> = rules.iter().filter_map(Bson::as_document).collect();
        let of_type = |rule: &&Document| matches!(name(rule), "bsonType" | "type");
        if rules.iter().any(of_type) {
            rules.retain(of_type);
        }
        for rule in rules {
            self.rule(path, rule);
        }
    }

    fn rule(&mut self, path: &str, rule: &Document) {
        let operator = name(rule);
        match operator {
            "properties" => self.members(path, list(rule, "propertiesNotSatisfied")),
            "patternProperties" => self.members(path, list(rule, "details")),
            "allOf" => {
                for schema in documents(list(rule, "schemasNotSatisfied")) {
                    self.rules(path, list(schema, "details"));
                }
            }
            "items" | "additionalItems" if rule.contains_key("itemIndex") => {
                self.member(path, rule, "itemIndex");
            }
            "items" => {
                for item in documents(list(rule, "details")) {
                    self.member(path, item, "itemIndex");
                }
            }
            "additionalProperties" if rule.contains_key("failingProperty") => {
                self.member(path, rule, "failingProperty");
            }
            "additionalProperties" => {
                self.named(path, rule, "additionalProperties", operator);
            }
            "required" => self.named(path, rule, "missingProperties", operator),
            "dependencies" => {
                for dependency in documents(list(rule, "failingDependencies")) {
                    self.rules(path, list(dependency, "details"));
                    let name = dependency
                        .get_str("conditionalProperty")
                        .unwrap_or_default();
                    for missing in texts(list(dependency, "missingProperties")) {
                        let path = under(path, missing);
                        self.add(&path, operator, needed_by(name));
                    }
                }
            }
            _ => {
                let none = Document::new();
                let specified = rule.get_document("specifiedAs").unwrap_or(&none);
                self.push(path, operator, specified);
            }
        }
    }

    fn members(&mut self, path: &str, members: &[Bson]) {
        for member in documents(members) {
            self.member(path, member, "propertyName");
        }
    }

    /// What is said of one member, whose name or position is under `key`.
    fn member(&mut self, path: &str, said: &Document, key: &str) {
        let segment = match said.get(key) {
            Some(Bson::String(name)) => name.clone(),
            Some(position) => position.to_string(),
            None => return,
        };
        self.rules(&under(path, &segment), list(said, "details"));
    }

    /// A failure for each of the members that are named under `key`.
    fn named(&mut self, path: &str, rule: &Document, key: &str, operator: &str) {
        for name in texts(list(rule, key)) {
            self.push(&under(path, name), operator, &Document::new());
        }
    }
}

fn name(rule: &Document) -> &str {
    rule.get_str("operatorName").unwrap_or_default()
}

fn list<'d>(document: &'d Document, key: &str) -> &'d [Bson] {
    match document.get(key) {
        Some(Bson::Array(list)) => list,
        _ => &[],
    }
}

fn documents(list: &[Bson]) -> impl Iterator<Item = &Document> {
    list.iter().filter_map(Bson::as_document)
}

fn texts(list: &[Bson]) -> impl Iterator<Item = &str> {
    list.iter().filter_map(Bson::as_str)
}

fn under(path: &str, segment: &str) -> String {
    let mut path = path.to_owned();
    pointer(&mut path, segment);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(info: Document) -> Vec<String> {
        failures(&info)
            .into_iter()
            .map(|failure| format!("{} {}: {}", failure.path, failure.rule, failure.detail))
            .collect()
    }

    #[test]
    fn a_report_becomes_paths_and_rules() {
        // As a server of version 5 and later writes it.
        let rules = bson::bson!([
            { "operatorName": "properties", "propertiesNotSatisfied": [
                { "propertyName": "age", "description": "in years", "details": [
                    { "operatorName": "minimum", "specifiedAs": { "minimum": 18 }, "reason": "comparison failed", "consideredValue": 3 } ] },
                { "propertyName": "tags", "details": [
                    { "operatorName": "items", "itemIndex": 2, "details": [
                        { "operatorName": "maxLength", "specifiedAs": { "maxLength": 5 }, "consideredValue": "secret" },
                        { "operatorName": "bsonType", "specifiedAs": { "bsonType": ["int", "long"] }, "consideredValue": "secret" } ] } ] } ] },
            { "operatorName": "additionalProperties", "specifiedAs": { "additionalProperties": false }, "additionalProperties": ["x/y"] },
            { "operatorName": "required", "specifiedAs": { "required": ["a", "b"] }, "missingProperties": ["b"] },
            { "operatorName": "allOf", "schemasNotSatisfied": [ { "index": 1, "details": [ { "operatorName": "not", "reason": "child expression matched" } ] } ] },
            { "operatorName": "dependencies", "failingDependencies": [ { "conditionalProperty": "card", "missingProperties": ["street"] } ] },
        ]);
        let info = doc! { "failingDocumentId": 1, "details": { "operatorName": "$jsonSchema", "schemaRulesNotSatisfied": rules } };
        assert_eq!(
            told(info),
            [
                "/age minimum: must be at least 18",
                "/tags/2 bsonType: must be of type int or long",
                "/x~1y additionalProperties: is not a field that the schema allows",
                "/b required: is required",
                " not: must not satisfy the schema under `not`",
                "/street dependencies: is required when `card` is there",
            ]
        );
    }

    #[test]
    fn a_report_of_another_form_is_no_trouble() {
        for info in [
            doc! {},
            doc! { "details": 1 },
            doc! { "details": {} },
            doc! { "details": { "operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [1, { "operatorName": "items", "details": 5 }] } },
            doc! { "details": { "operatorName": "$and", "clausesNotSatisfied": [] } },
        ] {
            assert!(failures(&info).len() <= 1, "{info}");
        }
    }
}
