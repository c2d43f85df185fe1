//! Indexes: which a client may make and drop. Both engines could do more, each
//! something else; here is what both do.

use std::time::Duration;

use bson::{Bson, Document};

use super::path;
use crate::error::{Error, Result};
use crate::storage::IndexSpec;

/// MongoDB's bound on a compound index.
const MAX_KEYS: usize = 32;
/// Bytes of an index's name, given or made of its keys.
const MAX_NAME_BYTES: usize = 120;
/// MongoDB's bound on the time until a document expires, about 68 years.
const MAX_EXPIRY: Duration = Duration::from_secs(i32::MAX as u64);

/// The index that every collection has.
const ID_INDEX: &str = "_id_";
/// The index by which the auth service keeps a realm's keys unique.
pub(crate) const KEY_INDEX: &str = "_key_1";
/// The one on users' identities, likewise.
pub(crate) const IDENTITY_INDEX: &str = "_coglex_identities";

/// Checks an index that is to be made; answers with the same in the form that
/// both engines name alike.
pub(crate) fn index(index: IndexSpec) -> Result<IndexSpec> {
    if index.keys.is_empty() || index.keys.len() > MAX_KEYS {
        return Err(Error::Invalid(format!(
            "an index has from 1 to {MAX_KEYS} keys"
        )));
    }
    let mut keys = Document::new();
    for (key, direction) in &index.keys {
        path(key)?;
        if key.split('.').any(str::is_empty) {
            return Err(Error::Invalid("a key's path has an empty part".into()));
        }
        let direction = match direction {
            Bson::Int32(1) | Bson::Int64(1) => 1,
            Bson::Int32(-1) | Bson::Int64(-1) => -1,
            Bson::Double(direction) if *direction == 1.0 => 1,
            Bson::Double(direction) if *direction == -1.0 => -1,
            _ => {
                return Err(Error::Invalid(
                    "a key's direction must be 1 or -1; other kinds of index are not supported"
                        .into(),
                ));
            }
        };
        keys.insert(key, direction);
    }
    let index = IndexSpec { keys, ..index };
    let only = |name: &str| index.keys.len() == 1 && index.keys.contains_key(name);
    if only("_id") {
        return Err(Error::Invalid(
            "every collection has an index on `_id` already".into(),
        ));
    }
    let name = index.name();
    if only("_key") || name == KEY_INDEX || name == IDENTITY_INDEX {
        return Err(Error::Forbidden(
            "the index on `_key` is the auth service's".into(),
        ));
    }
    // `*` stands for all indexes, to MongoDB.
    if name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name == ID_INDEX
        || name.contains(|c: char| c == '*' || c == '$' || c.is_control())
    {
        return Err(Error::Invalid(format!(
            "the index's name must have from 1 to {MAX_NAME_BYTES} bytes, without `*` and `$`; give a `name`"
        )));
    }
    match index.expire_after {
        Some(_) if index.keys.len() > 1 => Err(Error::Invalid(
            "an index by which documents expire has one key".into(),
        )),
        Some(time) if time > MAX_EXPIRY => Err(Error::Invalid(format!(
            "documents expire after at most {} seconds",
            MAX_EXPIRY.as_secs()
        ))),
        _ => Ok(index),
    }
}

/// Checks the name of an index that is to be dropped.
pub(crate) fn index_to_drop(name: &str) -> Result<()> {
    match name {
        ID_INDEX => Err(Error::Forbidden(
            "the index on `_id` cannot be dropped".into(),
        )),
        KEY_INDEX | IDENTITY_INDEX => {
            Err(Error::Forbidden("this index is the auth service's".into()))
        }
        "" | "*" => Err(Error::Invalid("the name of one index is needed".into())),
        _ if name.len() > 4 * MAX_NAME_BYTES || name.contains('\0') => {
            Err(Error::Invalid("this is no name of an index".into()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::super::tests::{Answer, answer};
    use super::*;
    use Answer::*;

    fn spec(keys: Document) -> IndexSpec {
        IndexSpec {
            name: None,
            keys,
            unique: false,
            sparse: false,
            expire_after: None,
        }
    }

    #[test]
    fn keys_of_indexes() {
        let long = "x".repeat(118);
        for (keys, expected) in [
            (doc! { "a": 1 }, Fine),
            (doc! { "a.b": -1, "c": 1_i64, "d": 1.0 }, Fine),
            (doc! { "_key": 1, "a": 1 }, Fine),
            (doc! { &long: 1 }, Fine),
            (doc! { format!("{long}x"): 1 }, Invalid),
            (doc! {}, Invalid),
            (doc! { "": 1 }, Invalid),
            (doc! { "a..b": 1 }, Invalid),
            (doc! { "a": 0 }, Invalid),
            (doc! { "a": 2 }, Invalid),
            (doc! { "a": 0.5 }, Invalid),
            (doc! { "a": "text" }, Invalid),
            (doc! { "a": "hashed" }, Invalid),
            (doc! { "a": true }, Invalid),
            (doc! { "$**": 1 }, Invalid),
            (doc! { "a.$**": 1 }, Invalid),
            (doc! { "_id": 1 }, Invalid),
            (doc! { "_password": 1 }, Forbidden),
            (doc! { "a": 1, "_coglex.sessions": 1 }, Forbidden),
            (doc! { "_key": 1 }, Forbidden),
            (doc! { "_key": -1 }, Forbidden),
        ] {
            assert_eq!(answer(index(spec(keys.clone()))), expected, "{keys}");
        }
        let many: Document = (0..33).map(|n| (n.to_string(), Bson::from(1))).collect();
        assert_eq!(answer(index(spec(many))), Invalid);
        let plain = index(spec(doc! { "a": 1.0, "b": -1_i64 })).unwrap();
        assert_eq!(plain.keys, doc! { "a": 1, "b": -1 });
        assert_eq!(plain.name(), "a_1_b_-1");
    }

    #[test]
    fn names_and_expiry() {
        let named = |name: &str| {
            answer(index(IndexSpec {
                name: Some(name.into()),
                ..spec(doc! { "a": 1 })
            }))
        };
        assert_eq!(named("mine"), Fine);
        assert_eq!(named("_key_1"), Forbidden);
        for name in ["", "*", "_id_", "a$b", "a\0b", &"x".repeat(121)] {
            assert_eq!(named(name), Invalid, "{name:?}");
        }
        let expiring = |keys, seconds| {
            answer(index(IndexSpec {
                expire_after: Some(Duration::from_secs(seconds)),
                ..spec(keys)
            }))
        };
        assert_eq!(expiring(doc! { "a": 1 }, 0), Fine);
        assert_eq!(expiring(doc! { "a": 1 }, i32::MAX as u64 + 1), Invalid);
        assert_eq!(expiring(doc! { "a": 1, "b": 1 }, 60), Invalid);
    }

    #[test]
    fn indexes_of_the_server_are_not_dropped() {
        for (name, expected) in [
            ("a_1", Fine),
            ("_id_", Forbidden),
            ("_key_1", Forbidden),
            ("*", Invalid),
            ("", Invalid),
        ] {
            assert_eq!(answer(index_to_drop(name)), expected, "{name:?}");
        }
    }
}
