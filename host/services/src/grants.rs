//! What a plugin may touch: what it asks for ∩ what the operator allows,
//! computed when the plugin is loaded, and asked on every call.

use serde::{Deserialize, Serialize};

/// What can be done to the documents of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Find, get, count.
    Read,
    /// Insert.
    Insert,
    /// Update.
    Update,
    /// Delete.
    Delete,
}

/// What one plugin wants to touch in storage, or what an operator allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageGrant {
    /// The collection's exact name, or `*` for every collection that is not the
    /// server's own (meant for operators; a plugin may ask for it too).
    pub collection: String,
    /// What may be done there.
    pub verbs: Vec<Verb>,
}

/// A set of grants; empty denies everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Collections.
    pub storage: Vec<StorageGrant>,
}

impl Grants {
    /// What both sides agree on.
    #[must_use]
    pub fn intersect(&self, _allowed: &Grants) -> Grants {
        todo!()
    }

    /// Whether these grants cover the verb on the collection.
    pub fn allows(&self, _collection: &str, _verb: Verb) -> bool {
        todo!()
    }
}
