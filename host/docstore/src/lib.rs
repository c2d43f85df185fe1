//! An embedded document store: MongoDB's query language over raw BSON, kept in
//! one SQLite file.
//!
//! It is used through [`Store`] by whoever wants documents without a database
//! server. It knows nothing of HTTP, of users or of plugins: whoever may call it
//! may do everything.

mod aggregate;
mod cursor;
mod engine;
mod expression;
mod keys;
mod number;
mod order;
mod path;
mod projection;
mod store;
mod update;
mod validate;
mod value;

pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod language;
pub mod model;
pub mod offline;
pub mod query;
pub mod schema;

pub use cursor::Cursor;
pub use error::{Error, Result};
pub use query::Filter;
pub use schema::Schema;
pub use store::{Options, Store};
