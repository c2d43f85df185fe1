//! A document's failure in words: which field, which keyword, and why. Other
//! engines' adapters make the same sentences of what their servers report.

use std::fmt::Write as _;

use bson::{Bson, Document};

/// Values of an `enum` that a sentence lists.
const LISTED: usize = 10;
/// Characters of a schema's text that a sentence repeats.
const QUOTED: usize = 100;

/// One thing that a document fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where in the document: a JSON pointer (RFC 6901), empty for the whole.
    pub path: String,
    /// The schema's keyword.
    pub rule: String,
    /// What the keyword asks for, to be read after the path. Says nothing of the
    /// document's value.
    pub detail: String,
}

/// Appends a name or position to a JSON pointer.
pub fn pointer(path: &mut String, segment: &str) {
    path.push('/');
    path.push_str(&segment.replace('~', "~0").replace('/', "~1"));
}

/// The sentence for a keyword that failed, from the part of the schema that
/// says it (`{"minimum": 3, "exclusiveMinimum": true}`). Without that part it
/// stays general.
pub fn detail(rule: &str, specified: &Document) -> String {
    let operand = specified.get(rule);
    let exclusive = |name: &str| specified.get_bool(name).unwrap_or_default();
    match (rule, operand) {
        ("bsonType" | "type", Some(types)) => format!("must be of type {}", names(types)),
        ("pattern", Some(Bson::String(pattern))) => {
            format!("must match the pattern `{}`", shorten(pattern))
        }
        ("minLength", Some(count)) => format!("must have at least {count} characters"),
        ("maxLength", Some(count)) => format!("must have at most {count} characters"),
        ("multipleOf", Some(number)) => format!("must be a multiple of {number}"),
        ("minimum", Some(number)) if exclusive("exclusiveMinimum") => {
            format!("must be greater than {number}")
        }
        ("minimum", Some(number)) => format!("must be at least {number}"),
        ("maximum", Some(number)) if exclusive("exclusiveMaximum") => {
            format!("must be less than {number}")
        }
        ("maximum", Some(number)) => format!("must be at most {number}"),
        ("minItems", Some(count)) => format!("must have at least {count} items"),
        ("maxItems", Some(count)) => format!("must have at most {count} items"),
        ("uniqueItems", _) => "must not have an item twice".into(),
        ("additionalItems", _) => "must not have more items than the schema lists".into(),
        ("additionalProperties", _) => "is not a field that the schema allows".into(),
        ("required", _) => "is required".into(),
        ("minProperties", Some(count)) => format!("must have at least {count} fields"),
        ("maxProperties", Some(count)) => format!("must have at most {count} fields"),
        ("anyOf", _) => "must satisfy at least one of the schema's alternatives".into(),
        ("oneOf", _) => "must satisfy exactly one of the schema's alternatives".into(),
        ("not", _) => "must not satisfy the schema under `not`".into(),
        ("enum", Some(Bson::Array(values))) => one_of(values),
        _ => format!("does not satisfy `{}`", shorten(rule)),
    }
}

/// The sentence for a field that must be there because of another
/// (`dependencies`).
pub fn needed_by(name: &str) -> String {
    format!("is required when `{}` is there", shorten(name))
}

fn names(types: &Bson) -> String {
    match types {
        Bson::String(name) => name.clone(),
        Bson::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Bson::as_str).collect();
            names.join(" or ")
        }
        _ => "another kind".into(),
    }
}

fn one_of(values: &[Bson]) -> String {
    let mut out = String::from("must be one of ");
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        // Writing to a string cannot fail.
        let _ = match value {
            Bson::String(text) if text.chars().count() <= QUOTED => write!(out, "{text:?}"),
            Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Boolean(_) | Bson::Null => {
                write!(out, "{value}")
            }
            _ => return "must be one of the values that the schema lists".into(),
        };
        if at >= LISTED {
            return "must be one of the values that the schema lists".into();
        }
    }
    out
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
