//! What a filter is understood to name. What comes of it is tested on the
//! stores, in `tests/both_stores/scopes.rs`.

use super::*;

#[test]
fn the_paths_of_filters_are_found() {
    let check = |filter: Document, expected: &[&str]| {
        let mut found = Vec::new();
        let result = names(&filter, &mut |path| {
            found.push(path.to_owned());
            Ok(())
        });
        result.unwrap();
        assert_eq!(found, expected, "{filter}");
    };
    check(doc! {}, &[]);
    check(doc! { "a": 1, "b.c": { "$gt": "$x" } }, &["a", "b.c"]);
    check(
        doc! { "$nor": [{ "$and": [{ "a": 1 }] }, { "b": 1 }] },
        &["a", "b"],
    );
    check(doc! { "list": { "$elemMatch": { "inner": 1 } } }, &["list"]);
    check(
        doc! { "$expr": { "$and": ["$a", { "$eq": ["$$v", "$b.c"] }] } },
        &["a", "b.c"],
    );
    check(
        doc! { "a": { "$not": { "$elemMatch": { "$expr": "$b" } } } },
        &["a", "b"],
    );
    check(doc! { "$comment": "a" }, &[]);
    assert!(names(&doc! { "$text": { "$search": "x" } }, &mut |_| Ok(())).is_err());
}

#[test]
fn equalities_are_told_from_other_conditions() {
    let check = |filter: Document, expected: Option<&[&str]>| {
        let found = equalities(&filter);
        let paths = found.map(|fixed| fixed.into_iter().map(|(path, _)| path).collect::<Vec<_>>());
        let expected = expected.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(paths, expected, "{filter}");
    };
    check(
        doc! { "a": 1, "$and": [{ "b": { "$eq": 2 } }] },
        Some(&["a", "b"]),
    );
    check(doc! { "a": { "b": 1 } }, Some(&["a"]));
    check(doc! { "a": { "$gt": 1 } }, None);
    check(doc! { "a": { "$eq": 1, "$gt": 0 } }, None);
    check(doc! { "$or": [{ "a": 1 }] }, None);
    let pattern = bson::Regex {
        pattern: "x".try_into().unwrap(),
        options: "".try_into().unwrap(),
    };
    check(doc! { "a": pattern.clone() }, None);
    // As a key of a filter the value alone would test, not equal.
    check(doc! { "a": { "$eq": pattern } }, None);
    check(doc! { "a": { "$eq": { "$gt": 1 } } }, None);
}
