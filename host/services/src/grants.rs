//! What a plugin may touch: what it asks for ∩ what the operator allows,
//! computed when the plugin is loaded, and asked on every call.
//!
//! Pure: it knows names and verbs, no store and no plugin. A grant is a list of
//! (collection, verbs) rather than a bit set so that conditions on documents
//! and masks on fields can join an entry without changing its meaning.

mod egress;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::egress::{EgressGrant, Origin, Reach, reach};
use crate::documents::is_reserved;

/// Every collection that is not the server's own.
const ANY: &str = "*";

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

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Read => "read",
            Verb::Insert => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
        })
    }
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

impl StorageGrant {
    fn covers(&self, collection: &str, verb: Verb) -> bool {
        (self.collection == ANY || self.collection == collection) && self.verbs.contains(&verb)
    }
}

impl fmt::Display for StorageGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.collection)?;
        for (index, verb) in self.verbs.iter().enumerate() {
            write!(f, "{} {verb}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A set of grants; empty denies everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Collections.
    pub storage: Vec<StorageGrant>,
    /// Servers that requests may be sent to.
    pub egress: Vec<EgressGrant>,
}

impl Grants {
    /// What both sides agree on: for every collection and verb, granted exactly
    /// when both grant it. One entry a collection, in alphabetical order.
    #[must_use]
    pub fn intersect(&self, allowed: &Grants) -> Grants {
        // Inside `*` both sides must say `*`; a named collection is covered by
        // its own entry or by `*`, on either side.
        let allowed_egress = allowed.egress.as_slice();
        let (asked, allowed) = (self.by_collection(), allowed.by_collection());
        let everywhere = &verbs(&asked, ANY) & &verbs(&allowed, ANY);
        let mut storage = Vec::new();
        if !everywhere.is_empty() {
            storage.push(StorageGrant {
                collection: ANY.into(),
                verbs: everywhere.iter().copied().collect(),
            });
        }
        let named: BTreeSet<&str> = asked.keys().chain(allowed.keys()).copied().collect();
        for collection in named {
            if collection == ANY || is_reserved(collection) {
                continue;
            }
            let both = &verbs(&asked, collection) & &verbs(&allowed, collection);
            let beyond: Vec<Verb> = both.difference(&everywhere).copied().collect();
            if !beyond.is_empty() {
                storage.push(StorageGrant {
                    collection: collection.into(),
                    verbs: beyond,
                });
            }
        }
        Grants {
            storage,
            egress: intersect_egress(&self.egress, allowed_egress),
        }
    }

    /// Whether a request may be sent to a server: what must hold of the address
    /// behind it, or nothing if it may not. `host` as in a URL's authority.
    pub fn allows_egress(&self, tls: bool, host: &str, port: u16) -> Option<Reach> {
        let matching = || {
            self.egress
                .iter()
                .filter(|grant| grant.origin.matches(tls, host, port))
        };
        let private = matching().any(|grant| grant.private);
        matching().next().map(|_| match private {
            true => Reach::Private,
            false => Reach::Public,
        })
    }

    /// Whether these grants cover the verb on the collection. Nothing ever
    /// covers the server's own collections.
    pub fn allows(&self, collection: &str, verb: Verb) -> bool {
        !is_reserved(collection)
            && self
                .storage
                .iter()
                .any(|grant| grant.covers(collection, verb))
    }

    /// Whether any verb on the collection is covered: whether its existence may
    /// be known.
    pub fn mentions(&self, collection: &str) -> bool {
        [Verb::Read, Verb::Insert, Verb::Update, Verb::Delete]
            .into_iter()
            .any(|verb| self.allows(collection, verb))
    }

    fn by_collection(&self) -> BTreeMap<&str, BTreeSet<Verb>> {
        let mut map: BTreeMap<&str, BTreeSet<Verb>> = BTreeMap::new();
        for grant in &self.storage {
            map.entry(&grant.collection)
                .or_default()
                .extend(&grant.verbs);
        }
        map
    }
}

/// What both lists grant, without what another entry of it grants as well, in
/// order.
fn intersect_egress(asked: &[EgressGrant], allowed: &[EgressGrant]) -> Vec<EgressGrant> {
    let pairs = asked.iter().flat_map(|asked| {
        allowed
            .iter()
            .filter_map(|allowed| asked.intersect(allowed))
    });
    let all: BTreeSet<EgressGrant> = pairs.collect();
    let covered = |grant: &EgressGrant| {
        all.iter()
            .any(|other| other != grant && other.covers(grant))
    };
    all.iter()
        .filter(|grant| !covered(grant))
        .cloned()
        .collect()
}

/// The verbs that hold for a collection, by its own entry or by `*`.
fn verbs(map: &BTreeMap<&str, BTreeSet<Verb>>, collection: &str) -> BTreeSet<Verb> {
    [collection, ANY]
        .into_iter()
        .filter_map(|name| map.get(name))
        .flatten()
        .copied()
        .collect()
}

/// For people: `my_collection: read, insert; *: read`, or `nothing`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let storage = self.storage.iter().map(ToString::to_string);
        let egress = self.egress.iter().map(ToString::to_string);
        let all: Vec<String> = storage.chain(egress).collect();
        match all.is_empty() {
            true => f.write_str("nothing"),
            false => f.write_str(&all.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VERBS: [Verb; 4] = [Verb::Read, Verb::Insert, Verb::Update, Verb::Delete];
    const NAMES: [&str; 6] = ["*", "a", "b", "users", "_coglex_keys", "system.users"];

    fn grants() -> impl Strategy<Value = Grants> {
        let grant = (
            prop::sample::select(&NAMES[..]),
            prop::sample::subsequence(VERBS.to_vec(), 0..=4),
        )
            .prop_map(|(collection, verbs)| StorageGrant {
                collection: collection.into(),
                verbs,
            });
        prop::collection::vec(grant, 0..6).prop_map(|storage| Grants {
            storage,
            ..Grants::default()
        })
    }

    fn every_question() -> impl Iterator<Item = (&'static str, Verb)> {
        // "other" is named by no grant: only `*` covers it.
        NAMES
            .into_iter()
            .chain(["other"])
            .flat_map(|name| VERBS.map(|verb| (name, verb)))
    }

    proptest! {
        #[test]
        fn the_intersection_allows_exactly_what_both_allow(a in grants(), b in grants()) {
            let both = a.intersect(&b);
            for (name, verb) in every_question().filter(|(name, _)| *name != "*") {
                prop_assert_eq!(both.allows(name, verb), a.allows(name, verb) && b.allows(name, verb));
            }
        }

        #[test]
        fn intersection_is_commutative_and_idempotent(a in grants(), b in grants()) {
            let both = a.intersect(&b);
            prop_assert_eq!(&both, &b.intersect(&a));
            prop_assert_eq!(&both, &both.intersect(&both));
            prop_assert_eq!(&both, &both.intersect(&a));
        }

        #[test]
        fn fewer_grants_never_allow_more(a in grants(), gone in any::<prop::sample::Index>()) {
            prop_assume!(!a.storage.is_empty());
            let mut fewer = a.clone();
            fewer.storage.remove(gone.index(a.storage.len()));
            for (name, verb) in every_question() {
                prop_assert!(!fewer.allows(name, verb) || a.allows(name, verb));
            }
        }

        #[test]
        fn nothing_allows_a_reserved_collection(a in grants(), b in grants()) {
            let both = a.intersect(&b);
            for verb in VERBS {
                for name in ["_coglex_keys", "_coglex", "system.users"] {
                    prop_assert!(!a.allows(name, verb) && !both.allows(name, verb));
                }
            }
            prop_assert!(both.storage.iter().all(|grant| !is_reserved(&grant.collection)));
        }
    }

    #[test]
    fn the_default_denies_everything() {
        for (name, verb) in every_question() {
            assert!(!Grants::default().allows(name, verb));
        }
    }

    #[test]
    fn people_can_read_them() {
        let grants: Grants = serde_json::from_value(serde_json::json!({
            "storage": [
                { "collection": "b", "verbs": ["insert", "read"] },
                { "collection": "*", "verbs": ["read"] },
            ]
        }))
        .unwrap();
        assert_eq!(grants.to_string(), "b: insert, read; *: read");
        assert_eq!(grants.intersect(&grants).to_string(), "*: read; b: insert");
        assert_eq!(Grants::default().to_string(), "nothing");
    }

    #[test]
    fn egress_is_what_both_allow_and_private_only_when_both_say_so() {
        let grants = |value: serde_json::Value| -> Grants {
            serde_json::from_value(serde_json::json!({ "egress": value })).unwrap()
        };
        let asked = grants(serde_json::json!([
            { "origin": "https://api.example.com" },
            { "origin": "https://*.example.com", "private": true },
            { "origin": "http://localhost:8080", "private": true },
            { "origin": "https://other.test" },
        ]));
        let allowed = grants(serde_json::json!([
            { "origin": "https://*.example.com" },
            { "origin": "http://localhost:8080", "private": true },
        ]));
        let both = asked.intersect(&allowed);
        assert_eq!(
            both.to_string(),
            "https://*.example.com; http://localhost:8080 (private)"
        );
        assert_eq!(
            both.allows_egress(true, "x.example.com", 443),
            Some(Reach::Public)
        );
        assert_eq!(
            both.allows_egress(false, "localhost", 8080),
            Some(Reach::Private)
        );
        assert_eq!(both.allows_egress(true, "other.test", 443), None);
        assert_eq!(
            Grants::default().allows_egress(true, "other.test", 443),
            None
        );
    }

    #[test]
    fn unknown_verbs_and_fields_are_refused() {
        for text in [
            r#"{"storage":[{"collection":"a","verbs":["drop"]}]}"#,
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{}}]}"#,
            r#"{"collections":[]}"#,
        ] {
            assert!(serde_json::from_str::<Grants>(text).is_err(), "{text}");
        }
    }
}
