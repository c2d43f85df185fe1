//! From an update document to checked steps, in MongoDB's order.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::query::Filter;
use crate::update::operator::{self, Operator};
use crate::update::tree::UpdatePath;
use crate::update::{Step, Updater};

/// Compiles `{ $operator: { path: operand } }`.
pub(crate) fn operators(document: &Document, array_filters: &[Document]) -> Result<Updater> {
    let mut steps = Vec::new();
    for (name, fields) in document {
        if !name.starts_with('$') {
            return Err(Error::Invalid(format!(
                "the field '{name}' stands among update operators"
            )));
        }
        if !operator::is_known(name) {
            return Err(Error::Invalid(format!("unknown operator {name}")));
        }
        let Bson::Document(fields) = fields else {
            return Err(Error::Invalid(format!("{name} needs a document of fields")));
        };
        for (path, operand) in fields {
            let path = UpdatePath::parse(path)?;
            let operator = operator::compile(name, path.as_str(), operand)?;
            if matches!(operator, Operator::Rename(_)) && path.has_wildcards() {
                return Err(Error::Invalid(format!(
                    "$rename at '{}' cannot use array positions",
                    path.as_str()
                )));
            }
            steps.push(Step { path, operator });
        }
    }
    // A renamed value has its turn where it goes to.
    steps.sort_by(|a, b| a.target().cmp(b.target()));
    refuse_conflicts(&steps)?;
    let array_filters = array_filters
        .iter()
        .map(named_filter)
        .collect::<Result<Vec<_>>>()?;
    check_array_filters(&steps, &array_filters)?;
    Ok(Updater::Operators {
        steps,
        array_filters,
    })
}

/// No two steps may touch the same path, or one a part of the other's.
fn refuse_conflicts(steps: &[Step]) -> Result<()> {
    let mut paths: Vec<&UpdatePath> = Vec::new();
    for step in steps {
        paths.push(&step.path);
        if let Operator::Rename(target) = &step.operator {
            paths.push(target);
        }
    }
    // Sorted, a path stands right before those that it is a prefix of.
    paths.sort();
    for pair in paths.windows(2) {
        if let [first, second] = pair
            && second.starts_with(first)
        {
            return Err(Error::Invalid(format!(
                "Updating the path '{}' would create a conflict at '{}'",
                second.as_str(),
                first.as_str()
            )));
        }
    }
    Ok(())
}

/// An array filter names its element by the first part of its paths.
fn named_filter(document: &Document) -> Result<(String, Filter)> {
    fn names<'a>(document: &'a Document, found: &mut Vec<&'a str>) {
        for (key, value) in document {
            match value {
                Bson::Array(clauses) if key.starts_with('$') => {
                    for clause in clauses {
                        if let Bson::Document(clause) = clause {
                            names(clause, found);
                        }
                    }
                }
                _ => found.push(key.split('.').next().unwrap_or(key)),
            }
        }
    }
    crate::validate::depth(document)?;
    let mut found = Vec::new();
    names(document, &mut found);
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [name] if !name.is_empty() => Ok(((*name).to_owned(), Filter::compile(document)?)),
        _ => Err(Error::Invalid(
            "an array filter must be about exactly one name".into(),
        )),
    }
}

fn check_array_filters(steps: &[Step], filters: &[(String, Filter)]) -> Result<()> {
    let used: Vec<&str> = steps
        .iter()
        .flat_map(|step| step.path.identifiers())
        .collect();
    for (index, (name, _)) in filters.iter().enumerate() {
        if filters
            .iter()
            .take(index)
            .any(|(earlier, _)| earlier == name)
        {
            return Err(Error::Invalid(format!(
                "two array filters have the name '{name}'"
            )));
        }
        if !used.contains(&name.as_str()) {
            return Err(Error::Invalid(format!(
                "the array filter '{name}' is not used by the update"
            )));
        }
    }
    match used
        .iter()
        .find(|name| !filters.iter().any(|(known, _)| known == *name))
    {
        Some(name) => Err(Error::Invalid(format!("no array filter is named '{name}'"))),
        None => Ok(()),
    }
}
