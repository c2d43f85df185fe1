//! What the documents of a collection must look like, set by an administrator.
//!
//! The schema itself is the store's to keep and to enforce, in one step with the
//! write. Here its language is checked before any store sees it, so that both
//! stores refuse the same, and it is squared with the fields that are not the
//! client's: a schema that allows no further fields still allows those.

use bson::{Bson, Document, RawDocumentBuf, doc};

use super::{Documents, HIDDEN, check_collection};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::storage::{Schema, Validator};

/// Fields that documents have without the client's doing.
const KEPT: [&str; 4] = ["_id", "_key", HIDDEN[0], HIDDEN[1]];
/// What a kept field's schema is when we put it there; a schema of the
/// administrator's own is another one and stays.
const MARK: &str = "kept by the server";

impl Documents {
    /// What the collection's documents must look like, as it was set; none when
    /// nothing was.
    pub async fn schema(&self, caller: &Caller, collection: &str) -> Result<Option<Validator>> {
        administer(caller, collection)?;
        let mut found = self.store.validator(collection).await?;
        if let Some(validator) = &mut found {
            each_of_document(&mut validator.schema, &mut without_kept);
        }
        Ok(found)
    }

    /// Says what the collection's documents must look like; makes the collection
    /// if there is none. Documents that are there stay as they are. `Invalid`
    /// names the keyword and its place.
    pub async fn set_schema(
        &self,
        caller: &Caller,
        collection: &str,
        mut validator: Validator,
    ) -> Result<()> {
        administer(caller, collection)?;
        Schema::compile(&validator.schema)?;
        of_documents(&validator.schema)?;
        let mut refusal = Ok(());
        each_of_document(&mut validator.schema, &mut |schema| {
            if refusal.is_ok() {
                refusal = spare_hidden(schema);
            }
            with_kept(schema);
        });
        refusal?;
        Ok(self
            .store
            .set_validator(collection, Some(validator))
            .await?)
    }

    /// Removes the collection's schema; answers whether there was one.
    pub async fn remove_schema(&self, caller: &Caller, collection: &str) -> Result<bool> {
        administer(caller, collection)?;
        if self.store.validator(collection).await?.is_none() {
            return Ok(false);
        }
        self.store.set_validator(collection, None).await?;
        Ok(true)
    }
}

fn administer(caller: &Caller, collection: &str) -> Result<()> {
    check_collection(collection)?;
    match caller {
        Caller::ApiKey => Ok(()),
        Caller::Plugin(plugin) => Err(Error::Forbidden(format!(
            "the plugin `{}` cannot see or change schemas",
            plugin.name
        ))),
        Caller::Key(_) | Caller::User(_) => Err(Error::Forbidden(
            "schemas are seen and changed by operators only".into(),
        )),
    }
}

/// Refuses a schema that no document satisfies because of its type.
fn of_documents(schema: &Document) -> Result<()> {
    let object = |name: &Bson| name.as_str() == Some("object");
    let allowed = match schema.get("bsonType").or_else(|| schema.get("type")) {
        Some(Bson::Array(names)) => names.iter().any(object),
        Some(name) => object(name),
        None => true,
    };
    match allowed {
        true => Ok(()),
        false => Err(Error::Invalid(
            "the schema's type at its top must be `object`".into(),
        )),
    }
}

/// Calls `work` on every schema that is about the document itself: the root, and
/// what stands below it under keywords that do not lead into a field.
fn each_of_document(schema: &mut Document, work: &mut dyn FnMut(&mut Document)) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Bson::Array(schemas)) = schema.get_mut(keyword) {
            for schema in schemas.iter_mut().filter_map(Bson::as_document_mut) {
                each_of_document(schema, work);
            }
        }
    }
    if let Some(Bson::Document(inner)) = schema.get_mut("not") {
        each_of_document(inner, work);
    }
    if let Some(Bson::Document(dependencies)) = schema.get_mut("dependencies") {
        for (_, dependency) in dependencies.iter_mut() {
            if let Bson::Document(schema) = dependency {
                each_of_document(schema, work);
            }
        }
    }
    work(schema);
}

/// Lets the kept fields be where no further fields may.
fn with_kept(schema: &mut Document) {
    if matches!(
        schema.get("additionalProperties"),
        None | Some(Bson::Boolean(true))
    ) {
        return;
    }
    if !schema.contains_key("properties") {
        schema.insert("properties", Document::new());
    }
    let Some(Bson::Document(properties)) = schema.get_mut("properties") else {
        return;
    };
    for name in KEPT {
        if !properties.contains_key(name) {
            properties.insert(name, mark());
        }
    }
}

/// Takes out what [`with_kept`] put in.
fn without_kept(schema: &mut Document) {
    let Some(Bson::Document(properties)) = schema.get_mut("properties") else {
        return;
    };
    let mut marked = false;
    for name in KEPT {
        if properties.get(name) == Some(&Bson::Document(mark())) {
            properties.remove(name);
            marked = true;
        }
    }
    if marked && properties.is_empty() {
        schema.remove("properties");
    }
}

fn mark() -> Document {
    doc! { "description": MARK }
}

/// Refuses a schema that speaks of the auth service's fields: those are not the
/// client's to fill, and a schema could tell what is in them.
fn spare_hidden(schema: &Document) -> Result<()> {
    let refuse = |name: &str| Err(Error::Forbidden(format!("`{name}` cannot be used here")));
    let mut names: Vec<&str> = Vec::new();
    for keyword in ["properties", "dependencies"] {
        if let Some(Bson::Document(members)) = schema.get(keyword) {
            names.extend(members.keys().map(String::as_str));
            for needed in members.values().filter_map(Bson::as_array) {
                names.extend(needed.iter().filter_map(Bson::as_str));
            }
        }
    }
    if let Some(Bson::Array(required)) = schema.get("required") {
        names.extend(required.iter().filter_map(Bson::as_str));
    }
    if let Some(name) = names.iter().find(|name| HIDDEN.contains(name)) {
        return refuse(name);
    }
    if let Some(Bson::Document(patterns)) = schema.get("patternProperties") {
        for pattern in patterns.keys() {
            if matches_hidden(pattern)? {
                return Err(Error::Invalid(format!(
                    "the schema's pattern `{}` matches fields that the server keeps in documents of users; one that begins with `^[^_]` does not",
                    super::rules::shorten(pattern)
                )));
            }
        }
    }
    Ok(())
}

/// Whether a pattern of field names matches one of the hidden names; the store's
/// own matcher is asked.
fn matches_hidden(pattern: &str) -> Result<bool> {
    let schema = Schema::compile(&doc! { "patternProperties": { pattern: { "not": {} } } })?;
    for name in HIDDEN {
        let named =
            RawDocumentBuf::try_from(&doc! { name: 1 }).map_err(crate::json::invalid_bson)?;
        if !schema.matches(&named)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(mut schema: Document) -> Document {
        each_of_document(&mut schema, &mut with_kept);
        schema
    }

    #[test]
    fn kept_fields_are_allowed_and_not_shown() {
        for schema in [
            doc! {},
            doc! { "required": ["a"], "properties": { "a": {} } },
            doc! { "additionalProperties": true },
            doc! { "additionalProperties": false },
            doc! { "additionalProperties": { "bsonType": "int" } },
            doc! { "properties": { "a": {} }, "additionalProperties": false },
            doc! { "properties": { "_id": { "bsonType": "string" } }, "additionalProperties": false },
            doc! { "anyOf": [{ "additionalProperties": false }, { "not": { "additionalProperties": false } }] },
            doc! { "dependencies": { "a": { "additionalProperties": false }, "b": ["c"] } },
        ] {
            let kept = stored(schema.clone());
            let raw = RawDocumentBuf::try_from(
                &doc! { "_id": "x", "_key": "k", "_password": "p", "_coglex": {}, "a": 1 },
            )
            .unwrap();
            if schema.get("additionalProperties") == Some(&Bson::Boolean(false)) {
                let mut allowed = kept.clone();
                allowed
                    .get_document_mut("properties")
                    .unwrap()
                    .insert("a", doc! {});
                assert!(Schema::compile(&allowed).unwrap().matches(&raw).unwrap());
            }
            let mut shown = kept;
            each_of_document(&mut shown, &mut without_kept);
            assert_eq!(shown, schema);
        }
    }

    #[test]
    fn hidden_fields_are_no_matter_of_a_schema() {
        for schema in [
            doc! { "properties": { "_password": {} } },
            doc! { "required": ["_coglex"] },
            doc! { "dependencies": { "a": ["_password"] } },
            doc! { "patternProperties": { "^_": {} } },
            doc! { "patternProperties": { ".": { "bsonType": "int" } } },
        ] {
            assert!(spare_hidden(&schema).is_err(), "{schema}");
        }
        let fine = doc! { "properties": { "_key": { "pattern": "@" } }, "patternProperties": { "^[^_]": {} } };
        assert!(spare_hidden(&fine).is_ok());
    }

    #[test]
    fn a_schema_is_of_documents() {
        assert!(of_documents(&doc! { "bsonType": ["object", "null"] }).is_ok());
        assert!(of_documents(&doc! { "type": "object" }).is_ok());
        assert!(of_documents(&doc! { "bsonType": "array" }).is_err());
    }
}
