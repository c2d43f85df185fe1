//! The operators that a client may use: those of the embedded engine, from its
//! own tables. The other engine has more, among them some that run code, that
//! write elsewhere, that reach fields by a computed name or pattern, past what is
//! hidden, and that its servers use among themselves. A list of those would never
//! be complete. What the embedded engine learns, clients may use: who teaches it
//! an operator that could reach a hidden field has to refuse it here.

use std::collections::HashSet;
use std::sync::LazyLock;

use coglex_docstore::language;

use super::walk::shorten;
use crate::error::Error;

static EXPRESSION: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    language::expressions()
        .chain(language::accumulators())
        .collect()
});

/// Whether a filter can have it.
pub(super) fn is_query(name: &str) -> bool {
    language::QUERY.contains(&name)
}

/// Whether `$expr` or a stage of a pipeline can have it.
pub(super) fn is_expression(name: &str) -> bool {
    EXPRESSION.contains(name)
}

/// Whether an update can have it.
pub(super) fn is_update(name: &str) -> bool {
    language::UPDATE.contains(&name)
}

/// Whether it can stand beside conditions, in what the operators of updates take.
pub(super) fn is_modifier(name: &str) -> bool {
    language::MODIFIER.contains(&name)
}

/// Whether it is a stage.
pub(super) fn is_stage(name: &str) -> bool {
    language::STAGE.contains(&name)
}

/// What an operator gets that is in no list. It is worded as by the embedded
/// engine, so that an answer does not depend on the store.
pub(super) fn unknown(name: &str) -> Error {
    Error::Invalid(format!("unknown operator {}", shorten(name)))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};
    use coglex_docstore::Filter;

    use super::*;

    #[test]
    fn the_embedded_engine_knows_them_all() {
        let says = |filter| match Filter::compile(&filter) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let unknown =
            |sentence: &str, name: &str| sentence.contains(&format!("unknown operator {name}"));
        for name in language::QUERY {
            let beside = says(doc! { "a": { *name: Bson::Null } });
            let above = says(doc! { *name: Bson::Null });
            assert!(!unknown(&beside, name) || !unknown(&above, name), "{name}");
        }
        for name in language::expressions() {
            let sentence = says(doc! { "$expr": { name: Bson::Null } });
            assert!(!sentence.contains("unsupported operator"), "{sentence}");
        }
        assert!(unknown(&says(doc! { "a": { "$foo": 1 } }), "$foo"));
        assert!(says(doc! { "$expr": { "$foo": 1 } }).contains("unsupported operator"));
    }

    #[test]
    fn none_runs_code_writes_elsewhere_or_reaches_a_field_by_a_computed_name() {
        for name in [
            "$where",
            "$function",
            "$accumulator",
            "$getField",
            "$setField",
            "$unsetField",
            "$out",
            "$merge",
            "$unionWith",
            "$graphLookup",
            "$redact",
            "$meta",
            "$text",
            "$jsonSchema",
            "$currentOp",
            "$listSessions",
            "$indexStats",
            "$collStats",
            "$documents",
        ] {
            let known = is_query(name) || is_expression(name) || is_update(name) || is_stage(name);
            assert!(!known, "{name}");
        }
    }
}
