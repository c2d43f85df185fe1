//! The engine under the store: one SQLite file, one thread that writes, several
//! that read.
//!
//! `sqlite` is the only module that speaks SQL. `catalog` knows which collections
//! and indexes there are, `plan` chooses how to find what a filter wants and
//! `candidates` finds it, `read` and `write` do the work inside a transaction, `readers` and `writer` are the
//! threads that call them. `direct` reads a document where it is asked for.

pub(crate) mod backup;
pub(crate) mod candidates;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod direct;
pub(crate) mod expiry;
pub(crate) mod file;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod readers;
pub(crate) mod sqlite;
pub(crate) mod write;
pub(crate) mod writer;
