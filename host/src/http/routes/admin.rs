//! `/admin/v1`: what operators do to a running server, by hand or with `coglex
//! plugin`. Every handler takes an `AdminKey` before anything else, so that a
//! request without the key is refused before its body is read. One file for each
//! thing that is administered.

pub(crate) mod audit;
pub(crate) mod keys;
pub(crate) mod mail;
pub(crate) mod plugins;
pub(crate) mod rules;
pub(crate) mod schedules;
pub(crate) mod schema;
