//! The document that an upsert starts from: what the filter says must be equal.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::update::operator::Operator;
use crate::update::tree::{Context, UpdatePath, apply};

/// The fields that `filter` fixes by equality.
pub(crate) fn equalities(filter: &Document) -> Result<Document> {
    let mut found = Vec::new();
    collect(filter, &mut found)?;
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for pair in found.windows(2) {
        if let [(first, _), (second, _)] = pair
            && second.starts_with(first)
        {
            return Err(Error::Invalid(format!(
                "the filter fixes '{}' and '{}', which an upsert cannot combine",
                first.as_str(),
                second.as_str()
            )));
        }
    }
    let mut document = Document::new();
    let context = Context {
        position: None,
        array_filters: &[],
        now: bson::DateTime::MIN,
    };
    for (path, value) in found {
        apply(&mut document, &path, &Operator::Set(value), &context)?;
    }
    Ok(document)
}

fn collect(filter: &Document, found: &mut Vec<(UpdatePath, Bson)>) -> Result<()> {
    for (name, operand) in filter {
        match (name.as_str(), operand) {
            ("$and", Bson::Array(clauses)) => {
                for clause in clauses {
                    if let Bson::Document(clause) = clause {
                        collect(clause, found)?;
                    }
                }
            }
            ("$or", Bson::Array(clauses)) => {
                if let [Bson::Document(clause)] = clauses.as_slice() {
                    collect(clause, found)?;
                }
            }
            (name, _) if name.starts_with('$') => {}
            (_, Bson::RegularExpression(_)) => {}
            (name, Bson::Document(inner))
                if inner.keys().next().is_some_and(|key| key.starts_with('$')) =>
            {
                if let Some(value) = inner.get("$eq") {
                    found.push((UpdatePath::parse(name)?, value.clone()));
                } else if let Some(Bson::Array(values)) = inner.get("$all")
                    && let [value] = values.as_slice()
                {
                    found.push((UpdatePath::parse(name)?, value.clone()));
                }
            }
            (name, value) => found.push((UpdatePath::parse(name)?, value.clone())),
        }
    }
    Ok(())
}
