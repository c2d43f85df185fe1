//! Which collections and indexes there are.
//!
//! The catalogue lives in two tables and, as an immutable copy, in memory. The
//! writer makes a new copy for each change and publishes it after the commit.
//! What an index has learnt about its documents (whether arrays occur) is shared
//! by all copies and published *before* the commit: a reader that plans inside
//! its snapshot then never takes an index for simpler than it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bson::{Document, doc};
use rusqlite::{Connection, params};

use crate::engine::sqlite::unavailable;
use crate::error::{Error, Result};
use crate::keys::KeyPattern;
use crate::model::{IndexSpec, ValidationLevel, Validator};
use crate::schema::Schema;

/// All collections, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    collections: HashMap<String, Arc<Collection>>,
}

/// A collection and its indexes.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    pub(crate) id: i64,
    pub(crate) indexes: Vec<Arc<Index>>,
    /// What its documents must look like, if anything was said.
    pub(crate) validation: Option<Arc<Validation>>,
}

/// A collection's schema, ready to run.
#[derive(Debug)]
pub(crate) struct Validation {
    pub(crate) validator: Validator,
    pub(crate) schema: Schema,
}

impl Validation {
    pub(crate) fn compile(validator: Validator) -> Result<Self> {
        let schema = Schema::compile(&validator.schema)?;
        Ok(Validation { validator, schema })
    }
}

/// A secondary index.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) spec: IndexSpec,
    pub(crate) pattern: KeyPattern,
    multikey: AtomicU64,
    positional: AtomicBool,
}

impl Index {
    /// A bit for each field in which some document has an array.
    pub(crate) fn multikey(&self) -> u64 {
        self.multikey.load(Ordering::Acquire)
    }

    /// Whether some document's array was indexed by position.
    pub(crate) fn positional(&self) -> bool {
        self.positional.load(Ordering::Acquire)
    }

    /// Notes what a document's keys showed; answers whether it was news.
    pub(crate) fn learn(&self, multikey: u64, positional: bool) -> bool {
        let known = self.multikey.fetch_or(multikey, Ordering::AcqRel);
        let known_positional = self.positional.fetch_or(positional, Ordering::AcqRel);
        known | multikey != known || positional && !known_positional
    }
}

/// The current catalogue, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Shared(RwLock<Arc<Catalog>>);

impl Shared {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Shared(RwLock::new(Arc::new(catalog)))
    }

    pub(crate) fn get(&self) -> Arc<Catalog> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn publish(&self, catalog: Arc<Catalog>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }
}

impl Catalog {
    /// Reads the catalogue from the file.
    pub(crate) fn load(connection: &Connection) -> Result<Self> {
        let mut by_id: HashMap<i64, Collection> = HashMap::new();
        let mut names: Vec<(i64, String)> = Vec::new();
        let mut statement = connection
            .prepare("SELECT id, name FROM collections")
            .map_err(unavailable)?;
        let mut rows = statement.query([]).map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            let id = row.get(0).map_err(unavailable)?;
            names.push((id, row.get(1).map_err(unavailable)?));
            by_id.insert(
                id,
                Collection {
                    id,
                    indexes: Vec::new(),
                    validation: None,
                },
            );
        }
        let mut statement = connection
            .prepare(
                "SELECT id, collection, name, spec, multikey, positional FROM indexes ORDER BY id",
            )
            .map_err(unavailable)?;
        let mut rows = statement.query([]).map_err(unavailable)?;
        while let Some(row) = rows.next().map_err(unavailable)? {
            let spec: Vec<u8> = row.get(3).map_err(unavailable)?;
            let name: String = row.get(2).map_err(unavailable)?;
            let spec = read_spec(&crate::value::decode(&spec)?, &name)?;
            let multikey: i64 = row.get(4).map_err(unavailable)?;
            let positional: bool = row.get(5).map_err(unavailable)?;
            let index = Index {
                id: row.get(0).map_err(unavailable)?,
                name,
                pattern: KeyPattern::parse(&spec.keys, "index")?,
                spec,
                multikey: AtomicU64::new(multikey.cast_unsigned()),
                positional: AtomicBool::new(positional),
            };
            let collection: i64 = row.get(1).map_err(unavailable)?;
            if let Some(collection) = by_id.get_mut(&collection) {
                collection.indexes.push(Arc::new(index));
            }
        }
        for (collection, validation) in load_schemas(connection)? {
            if let Some(collection) = by_id.get_mut(&collection) {
                collection.validation = Some(Arc::new(validation));
            }
        }
        let collections = names
            .into_iter()
            .filter_map(|(id, name)| Some((name, Arc::new(by_id.remove(&id)?))))
            .collect();
        Ok(Catalog { collections })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Collection>> {
        self.collections.get(name)
    }

    /// The collections' names, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.collections.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Makes a collection, in the file and here.
    pub(crate) fn create_collection(
        &mut self,
        connection: &Connection,
        name: &str,
    ) -> Result<Arc<Collection>> {
        connection
            .execute("INSERT INTO collections(name) VALUES (?1)", [name])
            .map_err(unavailable)?;
        let id = connection.last_insert_rowid();
        connection
            .execute_batch(&format!(
                "CREATE TABLE c{id}(rid INTEGER PRIMARY KEY, idk BLOB NOT NULL UNIQUE, doc BLOB NOT NULL) STRICT"
            ))
            .map_err(unavailable)?;
        let collection = Arc::new(Collection {
            id,
            indexes: Vec::new(),
            validation: None,
        });
        self.collections
            .insert(name.to_owned(), Arc::clone(&collection));
        Ok(collection)
    }

    /// Makes an empty index, in the file and here.
    pub(crate) fn create_index(
        &mut self,
        connection: &Connection,
        collection: &str,
        spec: &IndexSpec,
    ) -> Result<Arc<Index>> {
        let Some(owner) = self.collections.get(collection) else {
            return Err(Error::Invalid("there is no such collection".into()));
        };
        let name = spec.name();
        let pattern = KeyPattern::parse(&spec.keys, "index")?;
        let stored = crate::value::encode(&write_spec(spec))?;
        connection
            .execute(
                "INSERT INTO indexes(collection, name, spec, multikey, positional) VALUES (?1, ?2, ?3, 0, 0)",
                params![owner.id, name, stored.as_bytes()],
            )
            .map_err(unavailable)?;
        let id = connection.last_insert_rowid();
        let key = if spec.unique { "key" } else { "key, rid" };
        connection
            .execute_batch(&format!(
                "CREATE TABLE i{id}(key BLOB NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY({key})) STRICT, WITHOUT ROWID"
            ))
            .map_err(unavailable)?;
        let index = Arc::new(Index {
            id,
            name,
            spec: spec.clone(),
            pattern,
            multikey: AtomicU64::new(0),
            positional: AtomicBool::new(false),
        });
        let mut changed = Collection::clone(owner);
        changed.indexes.push(Arc::clone(&index));
        self.collections
            .insert(collection.to_owned(), Arc::new(changed));
        Ok(index)
    }

    /// Removes an index, in the file and here; answers whether it was there.
    pub(crate) fn drop_index(
        &mut self,
        connection: &Connection,
        collection: &str,
        name: &str,
    ) -> Result<bool> {
        let Some(owner) = self.collections.get_mut(collection) else {
            return Ok(false);
        };
        let Some(index) = owner
            .indexes
            .iter()
            .find(|index| index.name == name)
            .cloned()
        else {
            return Ok(false);
        };
        connection
            .execute("DELETE FROM indexes WHERE id = ?1", [index.id])
            .map_err(unavailable)?;
        connection
            .execute_batch(&format!("DROP TABLE i{}", index.id))
            .map_err(unavailable)?;
        Arc::make_mut(owner)
            .indexes
            .retain(|other| other.id != index.id);
        Ok(true)
    }

    /// Removes a collection with all that is in it; answers whether it was
    /// there.
    pub(crate) fn drop_collection(&mut self, connection: &Connection, name: &str) -> Result<bool> {
        let Some(collection) = self.collections.remove(name) else {
            return Ok(false);
        };
        if collection.validation.is_some() {
            forget_schema(connection, collection.id)?;
        }
        connection
            .execute("DELETE FROM indexes WHERE collection = ?1", [collection.id])
            .and_then(|_| {
                connection.execute("DELETE FROM collections WHERE id = ?1", [collection.id])
            })
            .map_err(unavailable)?;
        for index in &collection.indexes {
            connection
                .execute_batch(&format!("DROP TABLE i{}", index.id))
                .map_err(unavailable)?;
        }
        connection
            .execute_batch(&format!("DROP TABLE c{}", collection.id))
            .map_err(unavailable)?;
        Ok(true)
    }

    /// Sets or removes what the collection's documents must look like, in the
    /// file and here.
    pub(crate) fn set_validation(
        &mut self,
        connection: &Connection,
        name: &str,
        validation: Option<Arc<Validation>>,
    ) -> Result<()> {
        let Some(collection) = self.collections.get_mut(name) else {
            return Err(Error::Invalid("there is no such collection".into()));
        };
        match &validation {
            Some(validation) => {
                let spec = crate::value::encode(&write_validator(&validation.validator))?;
                connection
                    .execute_batch(SCHEMAS)
                    .and_then(|()| {
                        connection.execute(
                            "INSERT OR REPLACE INTO schemas(collection, spec) VALUES (?1, ?2)",
                            params![collection.id, spec.as_bytes()],
                        )
                    })
                    .map_err(unavailable)?;
            }
            None if collection.validation.is_some() => forget_schema(connection, collection.id)?,
            None => {}
        }
        Arc::make_mut(collection).validation = validation;
        Ok(())
    }

    /// Writes down what an index has learnt.
    pub(crate) fn store_knowledge(connection: &Connection, index: &Index) -> Result<()> {
        connection
            .execute(
                "UPDATE indexes SET multikey = ?2, positional = ?3 WHERE id = ?1",
                params![index.id, index.multikey().cast_signed(), index.positional()],
            )
            .map_err(unavailable)?;
        Ok(())
    }
}

/// The table of schemas. It is made with the first schema, so that stores which
/// have none are as they were before there were any.
const SCHEMAS: &str =
    "CREATE TABLE IF NOT EXISTS schemas(collection INTEGER PRIMARY KEY, spec BLOB NOT NULL) STRICT";

fn load_schemas(connection: &Connection) -> Result<Vec<(i64, Validation)>> {
    let there: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schemas'",
            [],
            |row| row.get(0),
        )
        .map_err(unavailable)?;
    if there == 0 {
        return Ok(Vec::new());
    }
    let mut schemas = Vec::new();
    let mut statement = connection
        .prepare("SELECT collection, spec FROM schemas")
        .map_err(unavailable)?;
    let mut rows = statement.query([]).map_err(unavailable)?;
    while let Some(row) = rows.next().map_err(unavailable)? {
        let spec: Vec<u8> = row.get(1).map_err(unavailable)?;
        let validator = read_validator(&crate::value::decode(&spec)?)?;
        schemas.push((
            row.get(0).map_err(unavailable)?,
            Validation::compile(validator)?,
        ));
    }
    Ok(schemas)
}

fn forget_schema(connection: &Connection, collection: i64) -> Result<()> {
    connection
        .execute("DELETE FROM schemas WHERE collection = ?1", [collection])
        .map_err(unavailable)?;
    Ok(())
}

fn write_validator(validator: &Validator) -> Document {
    let moderate = validator.level == ValidationLevel::Moderate;
    doc! { "schema": validator.schema.clone(), "moderate": moderate }
}

fn read_validator(document: &Document) -> Result<Validator> {
    let damaged = |_| Error::Unavailable("the definition of a schema is damaged".into());
    let level = match document.get_bool("moderate").map_err(damaged)? {
        true => ValidationLevel::Moderate,
        false => ValidationLevel::Strict,
    };
    let schema = document.get_document("schema").map_err(damaged)?.clone();
    Ok(Validator { schema, level })
}

fn write_spec(spec: &IndexSpec) -> Document {
    let mut document =
        doc! { "keys": spec.keys.clone(), "unique": spec.unique, "sparse": spec.sparse };
    if let Some(after) = spec.expire_after {
        document.insert(
            "expire_after",
            i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        );
    }
    document
}

fn read_spec(document: &Document, name: &str) -> Result<IndexSpec> {
    let damaged =
        |_| Error::Unavailable(format!("the definition of index {name} is damaged").into());
    Ok(IndexSpec {
        name: Some(name.to_owned()),
        keys: document.get_document("keys").map_err(damaged)?.clone(),
        unique: document.get_bool("unique").map_err(damaged)?,
        sparse: document.get_bool("sparse").map_err(damaged)?,
        expire_after: document
            .get_i64("expire_after")
            .ok()
            .map(|seconds| std::time::Duration::from_secs(seconds.unsigned_abs())),
    })
}
