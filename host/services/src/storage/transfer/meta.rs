//! What an export says of a collection beside its documents.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};

use crate::json;
use crate::storage::{IndexSpec, ValidationLevel, Validator};

/// A collection's entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectionMeta {
    /// The collection.
    pub name: String,
    /// The file with its documents, beside the one with this entry.
    pub file: Option<String>,
    /// How many there are.
    pub documents: Option<u64>,
    /// The indexes beside that on `_id`.
    pub indexes: Vec<IndexSpec>,
    /// What the documents must look like.
    pub validator: Option<Validator>,
}

impl CollectionMeta {
    /// The entry as a line of canonical Extended JSON, under `key` its name.
    pub fn to_line(&self, key: &str) -> String {
        let mut entry = doc! { key: &self.name };
        if let Some(file) = &self.file {
            entry.insert("file", file);
        }
        if let Some(documents) = self.documents {
            entry.insert("documents", i64::try_from(documents).unwrap_or(i64::MAX));
        }
        let indexes: Vec<Bson> = self.indexes.iter().map(to_bson).collect();
        entry.insert("indexes", indexes);
        if let Some(validator) = &self.validator {
            let level = match validator.level {
                ValidationLevel::Strict => "strict",
                ValidationLevel::Moderate => "moderate",
            };
            entry.insert(
                "validator",
                doc! { "$jsonSchema": validator.schema.clone() },
            );
            entry.insert("validationLevel", level);
        }
        let mut text = Vec::new();
        // Names are checked by the stores, so that they hold no NUL.
        if let Ok(raw) = RawDocumentBuf::try_from(&entry) {
            let _ = json::write_canonical(&raw, &mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads an entry whose name is under `key`.
    pub fn from_document(entry: &Document, key: &str) -> Result<Self, String> {
        let name = entry
            .get_str(key)
            .map_err(|_| format!("an entry has no `{key}`"))?;
        let wrong = |field: &str| format!("`{field}` of the collection {name} is malformed");
        let file = match entry.get("file") {
            None => None,
            Some(Bson::String(file)) => Some(file.clone()),
            Some(_) => return Err(wrong("file")),
        };
        let documents = match entry.get("documents") {
            None => None,
            Some(count) => Some(whole(count).ok_or_else(|| wrong("documents"))?),
        };
        let indexes = match entry.get("indexes") {
            None => Vec::new(),
            Some(Bson::Array(indexes)) => indexes
                .iter()
                .map(|index| from_bson(index).ok_or_else(|| wrong("indexes")))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(wrong("indexes")),
        };
        let level = match entry.get("validationLevel").map(Bson::as_str) {
            None | Some(Some("strict")) => ValidationLevel::Strict,
            Some(Some("moderate")) => ValidationLevel::Moderate,
            Some(_) => return Err(wrong("validationLevel")),
        };
        let validator = match entry.get("validator") {
            None => None,
            Some(Bson::Document(validator)) => {
                let schema = validator.get_document("$jsonSchema");
                let schema = schema.map_err(|_| wrong("validator"))?.clone();
                Some(Validator { schema, level })
            }
            Some(_) => return Err(wrong("validator")),
        };
        Ok(Self {
            name: name.to_owned(),
            file,
            documents,
            indexes,
            validator,
        })
    }
}

/// The words are those of MongoDB's `createIndexes`; above, of its `create`.
fn to_bson(index: &IndexSpec) -> Bson {
    let mut document = doc! { "name": index.name(), "key": index.keys.clone() };
    if index.unique {
        document.insert("unique", true);
    }
    if index.sparse {
        document.insert("sparse", true);
    }
    if let Some(after) = index.expire_after {
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        document.insert("expireAfterSeconds", seconds);
    }
    document.into()
}

fn from_bson(index: &Bson) -> Option<IndexSpec> {
    let index = index.as_document()?;
    let flag = |name| match index.get(name) {
        None => Some(false),
        Some(value) => value.as_bool(),
    };
    let expire_after = match index.get("expireAfterSeconds") {
        None => None,
        Some(seconds) => Some(Duration::from_secs(whole(seconds)?)),
    };
    Some(IndexSpec {
        name: Some(index.get_str("name").ok()?.to_owned()),
        keys: index.get_document("key").ok()?.clone(),
        unique: flag("unique")?,
        sparse: flag("sparse")?,
        expire_after,
    })
}

fn whole(number: &Bson) -> Option<u64> {
    match number {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back() {
        let meta = CollectionMeta {
            name: "a \"b\" c".into(),
            file: Some("a.jsonl".into()),
            documents: Some(3),
            indexes: vec![
                IndexSpec {
                    name: Some("x".into()),
                    keys: doc! { "a": 1, "b.c": -1.0, "d": 1_i64 },
                    unique: true,
                    sparse: true,
                    expire_after: None,
                },
                IndexSpec {
                    name: Some("t".into()),
                    keys: doc! { "t": 1 },
                    unique: false,
                    sparse: false,
                    expire_after: Some(Duration::from_secs(60)),
                },
            ],
            validator: Some(Validator {
                schema: doc! { "required": ["a"], "properties": { "a": { "minimum": 1.0 } } },
                level: ValidationLevel::Moderate,
            }),
        };
        let text = meta.to_line("name");
        let Bson::Document(entry) = json::parse_exported(text.as_bytes()).unwrap() else {
            panic!("{text}");
        };
        assert_eq!(CollectionMeta::from_document(&entry, "name").unwrap(), meta);
        assert_eq!(
            CollectionMeta::from_document(&entry, "name")
                .unwrap()
                .to_line("name"),
            text
        );
        for bad in [
            doc! { "file": "x" },
            doc! { "name": "c", "file": 1 },
            doc! { "name": "c", "documents": -1 },
            doc! { "name": "c", "indexes": [{ "name": "x" }] },
            doc! { "name": "c", "validator": {} },
            doc! { "name": "c", "validationLevel": "off" },
            doc! { "name": "c", "indexes": [{ "name": "x", "key": {}, "unique": 1 }] },
        ] {
            assert!(
                CollectionMeta::from_document(&bad, "name").is_err(),
                "{bad}"
            );
        }
    }
}
