use proptest::prelude::*;
use serde_json::json;

use super::*;

const NAMES: [&str; 6] = ["*", "a", "b", "users", "_coglex_keys", "system.users"];
const FIELDS: [&str; 3] = ["title", "owner", "done"];
const WORDS: [&str; 4] = ["*", "greet", "other", "key"];

fn condition(filter: serde_json::Value) -> Condition {
    serde_json::from_value(filter).unwrap()
}

fn conditions() -> impl Strategy<Value = Option<Condition>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(condition(json!({"owner": "$caller.users"})))),
        1 => Just(Some(condition(json!({"public": true})))),
        1 => Just(Some(condition(json!({"n": {"$gt": 1}, "m": {"$lt": 2}})))),
    ]
}

fn fields() -> impl Strategy<Value = Option<Fields>> {
    prop_oneof![
        2 => Just(None),
        1 => prop::sample::subsequence(FIELDS.to_vec(), 0..=3)
            .prop_map(|names| Some(Fields::new(names).unwrap())),
    ]
}

/// Lists that pass the check: what it refuses never becomes grants.
fn grants() -> impl Strategy<Value = Grants> {
    let storage = (
        prop::sample::select(&NAMES[..]),
        prop::sample::subsequence(Verb::ALL.to_vec(), 0..=5),
        conditions(),
        fields(),
    )
        .prop_map(|(collection, mut verbs, filter, fields)| {
            let conditions = (collection != "*").then_some((filter, fields));
            let (filter, fields) = conditions.unwrap_or_default();
            if filter.is_some() || fields.is_some() {
                verbs.retain(|verb| *verb != Verb::Hook);
            }
            StorageGrant {
                collection: collection.into(),
                verbs,
                filter,
                fields,
            }
        });
    let auth = (
        prop::sample::select(&NAMES[..]),
        prop::sample::subsequence(AuthVerb::ALL.to_vec(), 0..=3),
    )
        .prop_map(|(collection, verbs)| AuthGrant {
            collection: collection.into(),
            verbs,
        });
    let words = || {
        prop::sample::subsequence(WORDS.to_vec(), 0..=3)
            .prop_map(|words| words.into_iter().map(str::to_owned).collect())
    };
    (
        prop::collection::vec(storage, 0..6),
        prop::collection::vec(auth, 0..3),
        words(),
        words(),
        any::<bool>(),
    )
        .prop_map(|(storage, auth, functions, secrets, kv)| Grants {
            storage,
            auth,
            functions,
            secrets,
            kv,
            ..Grants::default()
        })
        .prop_filter("grants that are refused", |grants| {
            storage::check(&grants.storage).is_ok()
        })
}

fn every_question() -> impl Iterator<Item = (&'static str, Verb)> {
    // "other" is named by no grant: only `*` covers it.
    NAMES
        .into_iter()
        .chain(["other"])
        .flat_map(|name| Verb::ALL.map(|verb| (name, verb)))
}

/// Whether the one shows and takes nothing that the other does not: its filter
/// holds all of the other's clauses, its fields are among the other's.
fn within(less: Access<'_>, more: Access<'_>) -> bool {
    let filter = match (less.filter, more.filter) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(less), Some(more)) => less.and(more) == *less,
    };
    let fields = match (less.fields, more.fields) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(less), Some(more)) => less.names().all(|name| more.cover(name)),
    };
    filter && fields
}

/// Whether the one allows nothing that the other does not.
fn allows_no_more(less: &Grants, more: &Grants) -> Result<(), TestCaseError> {
    for (name, verb) in every_question() {
        if let Some(access) = less.access(name, verb) {
            let of_more = more.access(name, verb);
            prop_assert!(
                of_more.is_some_and(|of_more| within(access, of_more)),
                "{verb} on {name}: {less} / {more}"
            );
        }
    }
    for name in NAMES {
        for verb in AuthVerb::ALL {
            prop_assert!(!less.allows_auth(name, verb) || more.allows_auth(name, verb));
        }
    }
    for word in WORDS {
        prop_assert!(!less.allows_function(word) || more.allows_function(word));
        prop_assert!(!less.allows_secret(word) || more.allows_secret(word));
    }
    prop_assert!(!less.kv || more.kv);
    Ok(())
}

proptest! {
    #[test]
    fn the_intersection_allows_exactly_what_both_allow(a in grants(), b in grants()) {
        let both = a.intersect(&b);
        for (name, verb) in every_question().filter(|(name, _)| *name != "*") {
            prop_assert_eq!(both.allows(name, verb), a.allows(name, verb) && b.allows(name, verb));
        }
        for name in NAMES.into_iter().filter(|name| *name != "*") {
            for verb in AuthVerb::ALL {
                prop_assert_eq!(
                    both.allows_auth(name, verb),
                    a.allows_auth(name, verb) && b.allows_auth(name, verb)
                );
            }
        }
        allows_no_more(&both, &a)?;
        allows_no_more(&both, &b)?;
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
        allows_no_more(&fewer, &a)?;
    }

    #[test]
    fn a_plugin_gets_no_more_when_the_operator_allows_less_or_it_asks_for_less(
        asked in grants(),
        allowed in grants(),
        gone in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!allowed.storage.is_empty());
        let mut fewer = allowed.clone();
        fewer.storage.remove(gone.index(allowed.storage.len()));
        fewer.functions.clear();
        allows_no_more(&asked.intersect(&fewer), &asked.intersect(&allowed))?;
        allows_no_more(&fewer.intersect(&asked), &allowed.intersect(&asked))?;
    }

    #[test]
    fn a_condition_more_never_allows_more(
        a in grants(),
        at in any::<prop::sample::Index>(),
        filter in conditions(),
        names in fields(),
    ) {
        prop_assume!(!a.storage.is_empty());
        let mut narrowed = a.clone();
        let index = at.index(a.storage.len());
        let grant = &mut narrowed.storage[index];
        if let Some(filter) = filter {
            grant.filter = Some(grant.filter.as_ref().map_or(filter.clone(), |own| own.and(&filter)));
        }
        if let Some(names) = names {
            grant.fields = Some(grant.fields.as_ref().map_or(names.clone(), |own| own.and(&names)));
        }
        prop_assume!(storage::check(&narrowed.storage).is_ok());
        allows_no_more(&narrowed, &a)?;
    }

    #[test]
    fn nothing_allows_a_reserved_collection(a in grants(), b in grants()) {
        let both = a.intersect(&b);
        for name in ["_coglex_keys", "_coglex", "system.users"] {
            for verb in Verb::ALL {
                prop_assert!(!a.allows(name, verb) && !both.allows(name, verb));
            }
            for verb in AuthVerb::ALL {
                prop_assert!(!a.allows_auth(name, verb) && !both.allows_auth(name, verb));
            }
        }
        prop_assert!(both.storage.iter().all(|grant| !is_reserved(&grant.collection)));
        prop_assert!(both.auth.iter().all(|grant| !is_reserved(&grant.collection)));
    }

    #[test]
    fn what_is_written_reads_back(a in grants()) {
        let text = serde_json::to_string(&a).unwrap();
        prop_assert_eq!(serde_json::from_str::<Grants>(&text).unwrap(), a);
    }
}

#[test]
fn the_default_denies_everything() {
    let nothing = Grants::default();
    for (name, verb) in every_question() {
        assert!(!nothing.allows(name, verb));
    }
    assert!(!nothing.allows_auth("users", AuthVerb::Lookup));
    assert!(!nothing.allows_function("f") && !nothing.allows_secret("s") && !nothing.kv);
}

#[test]
fn people_can_read_them() {
    let grants: Grants = serde_json::from_value(json!({
        "storage": [
            { "collection": "b", "verbs": ["insert", "read"] },
            { "collection": "*", "verbs": ["read"] },
            { "collection": "c", "verbs": ["update"], "fields": ["x", "_id"], "filter": { "o": "$caller.users" } },
        ],
        "auth": [{ "collection": "users", "verbs": ["lookup", "verify"] }],
        "functions": ["greet"],
        "secrets": ["key"],
        "kv": true,
    }))
    .unwrap();
    assert_eq!(
        grants.to_string(),
        "b: insert, read; *: read; c: update of fields [x] where {\"o\":\"$caller.users\"}; \
         accounts of users: lookup, verify; function greet; secret key; kv"
    );
    assert_eq!(grants.realms().into_iter().collect::<Vec<_>>(), ["users"]);
    let both = grants.intersect(&grants).to_string();
    assert!(
        both.starts_with("*: read; b: insert; c: update of"),
        "{both}"
    );
    assert_eq!(Grants::default().to_string(), "nothing");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, part) in [
        (
            r#"{"storage":[{"collection":"a","verbs":["drop"]}]}"#,
            "drop",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"where":{}}]}"#,
            "where",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{}}]}"#,
            "empty",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{"$expr":{"$gt":["$a",1]}}}]}"#,
            "$expr",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{"a":{"$foo":1}}}]}"#,
            "$foo",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{"_password":"x"}}]}"#,
            "_password",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"filter":{"o":"$user"}}]}"#,
            "$caller.",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"fields":["a.b"]}]}"#,
            "a.b",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"fields":["_coglex"]}]}"#,
            "_coglex",
        ),
        (
            r#"{"storage":[{"collection":"*","verbs":["read"],"fields":["a"]}]}"#,
            "every collection",
        ),
        (
            r#"{"storage":[{"collection":"a","verbs":["read"],"fields":["a"]},{"collection":"a","verbs":["read"],"filter":{"b":1}}]}"#,
            "twice",
        ),
        (
            r#"{"auth":[{"collection":"users","verbs":["signin"]}]}"#,
            "signin",
        ),
        (r#"{"collections":[]}"#, "collections"),
    ] {
        let error = serde_json::from_str::<Grants>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_condition_stands_for_who_calls() {
    let condition =
        condition(json!({"owner": "$caller.users", "tags": {"$in": ["$caller.users", "x"]}}));
    let refused = condition
        .resolve(Subject::Users(&[]))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("`users`"), "{refused}");
    let users = [
        ("admins".to_owned(), "root".into()),
        ("users".to_owned(), "ann".into()),
    ];
    assert_eq!(
        condition.resolve(Subject::Users(&users)).unwrap(),
        bson::doc! { "owner": "ann", "tags": { "$in": ["ann", "x"] } }
    );
}

#[test]
fn egress_is_what_both_allow_and_private_only_when_both_say_so() {
    let grants = |value: serde_json::Value| -> Grants {
        serde_json::from_value(json!({ "egress": value })).unwrap()
    };
    let asked = grants(json!([
        { "origin": "https://api.example.com" },
        { "origin": "https://*.example.com", "private": true },
        { "origin": "http://localhost:8080", "private": true },
        { "origin": "https://other.test" },
    ]));
    let allowed = grants(json!([
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
