//! An embedded document store with MongoDB's query language.

pub mod error;
pub mod model;

pub use error::{Error, Result};
