//! Documents, with MongoDB's query language.
//!
//! A plugin sees the collections that it asks for in its `coglex.toml` and that
//! the operator allows. Filters, updates, sorts and projections are anything
//! that serde can write, [`json!`](serde_json::json) above all:
//!
//! ```no_run
//! use coglex_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Item {
//!     title: String,
//!     done: bool,
//! }
//!
//! # fn main() -> Result<()> {
//! let id = storage::insert("items", &Item { title: "Milk".into(), done: false })?;
//!
//! let open: Vec<Item> = storage::find("items")
//!     .filter(json!({"done": false}))
//!     .sort(json!({"title": 1}))
//!     .limit(20)
//!     .all()?;
//!
//! storage::update_by_id("items", &id, json!({"$set": {"done": true}}))?;
//! storage::delete_by_id("items", id)?;
//! # Ok(()) }
//! ```
//!
//! Documents are Extended JSON: an ObjectId is `{"$oid": "…"}` (see [`Id`]), a
//! date is `{"$date": "…"}` (see [`DateTime`](crate::DateTime)). `_password` and
//! the server's own fields are invisible here.
//!
//! A document that is only passed on need not be taken apart: read it as
//! `Box<`[`RawValue`](serde_json::value::RawValue)`>`, which is its text.

mod find;
mod write;

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use find::{Aggregate, Documents, Find, aggregate, find};
pub use write::{
    Delete, Replace, Update, Updated, delete, delete_by_id, insert, insert_many, replace,
    replace_by_id, update, update_by_id,
};

use crate::bindings::capabilities::coglex::storage::documents as wit;
use crate::error::{Error, Result};
use crate::id::Id;

/// The document with this `_id`, or none.
pub fn get<T: DeserializeOwned>(collection: &str, id: impl Into<Id>) -> Result<Option<T>> {
    let found = wit::get(collection, &to_json("id", &id.into())?)?;
    found.map(|text| from_json(collection, &text)).transpose()
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::AccessDenied(text) => Self::AccessDenied(text),
            wit::Error::Invalid(text) => Self::Invalid(text),
            wit::Error::Conflict(text) => Self::Conflict(text),
            wit::Error::TooLarge(text) => Self::TooLarge(text),
            wit::Error::Timeout => Self::Timeout,
            wit::Error::Unavailable => Self::Unavailable,
        }
    }
}

fn to_json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::Invalid(format!("the {what} cannot be written as JSON: {error}")))
}

fn from_json<T: DeserializeOwned>(collection: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| mismatch(collection, error))
}

fn mismatch(collection: &str, error: impl Display) -> Error {
    Error::Mismatch(format!(
        "a document of `{collection}` does not fit the type: {error}"
    ))
}

/// The filter that only the document with this id meets.
fn by_id(id: impl Into<Id>) -> serde_json::Value {
    serde_json::json!({ "_id": id.into() })
}
