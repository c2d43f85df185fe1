//! The operators that change arrays.

use std::cmp::Ordering;

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::query::Filter;
use crate::update::operator::modifiers;
use crate::update::{compare, element_matches};

/// The name under which an element is shown to a filter.
const ELEMENT: &str = "e";

/// `$push` with its modifiers.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    values: Vec<Bson>,
    position: Option<i64>,
    slice: Option<i64>,
    sort: Option<Sort>,
}

#[derive(Debug, Clone)]
enum Sort {
    /// Whole elements, descending when true.
    Whole(bool),
    Fields(Vec<(Vec<String>, bool)>),
}

impl Push {
    pub(crate) fn compile(path: &str, operand: &Bson) -> Result<Self> {
        let mut push = Push {
            values: Vec::new(),
            position: None,
            slice: None,
            sort: None,
        };
        let bad = |problem: &str| Error::Invalid(format!("$push at '{path}': {problem}"));
        let Some(modifiers) = modifiers(operand) else {
            push.values.push(operand.clone());
            return Ok(push);
        };
        let mut each = None;
        for (name, operand) in modifiers {
            match name.as_str() {
                "$each" => each = Some(list(operand).ok_or_else(|| bad("$each needs a list"))?),
                "$position" => {
                    push.position =
                        Some(whole(operand).ok_or_else(|| bad("$position needs a whole number"))?)
                }
                "$slice" => {
                    push.slice =
                        Some(whole(operand).ok_or_else(|| bad("$slice needs a whole number"))?)
                }
                "$sort" => {
                    push.sort = Some(
                        sort(operand)
                            .ok_or_else(|| bad("$sort needs 1, -1, or a document of them"))?,
                    )
                }
                _ => return Err(bad(&format!("unknown modifier {name}"))),
            }
        }
        push.values = each.ok_or_else(|| bad("modifiers need $each beside them"))?;
        Ok(push)
    }

    pub(crate) fn apply(&self, array: &mut Vec<Bson>) -> Result<()> {
        let length = i64::try_from(array.len()).unwrap_or(i64::MAX);
        let at = match self.position {
            None => length,
            Some(position) if position < 0 => (length + position).max(0),
            Some(position) => position.min(length),
        };
        let at = usize::try_from(at).unwrap_or(array.len());
        array.splice(at..at, self.values.iter().cloned());
        if let Some(sort) = &self.sort {
            sort_array(array, sort)?;
        }
        match self.slice {
            Some(slice) if slice >= 0 => {
                array.truncate(usize::try_from(slice).unwrap_or(usize::MAX))
            }
            Some(slice) => {
                let keep = usize::try_from(slice.unsigned_abs()).unwrap_or(usize::MAX);
                array.drain(..array.len().saturating_sub(keep));
            }
            None => {}
        }
        Ok(())
    }
}

fn list(operand: &Bson) -> Option<Vec<Bson>> {
    match operand {
        Bson::Array(values) => Some(values.clone()),
        _ => None,
    }
}

fn whole(operand: &Bson) -> Option<i64> {
    match operand {
        Bson::Int32(int) => Some(i64::from(*int)),
        Bson::Int64(int) => Some(*int),
        // The range is checked by the round trip.
        Bson::Double(double) if (*double as i64) as f64 == *double => Some(*double as i64),
        _ => None,
    }
}

/// Refuses what cannot be sorted by, as `$push` and `$sortArray` take it.
pub(crate) fn check_sort(name: &str, by: &Bson) -> Result<()> {
    sort(by).map(drop).ok_or_else(|| {
        Error::Invalid(format!(
            "{name} needs 1, -1, or a document of them to sort by"
        ))
    })
}

/// Sorts values by what [`check_sort`] lets through.
pub(crate) fn sort_by(name: &str, array: &mut Vec<Bson>, by: &Bson) -> Result<()> {
    check_sort(name, by)?;
    match sort(by) {
        Some(sort) => sort_array(array, &sort),
        None => Ok(()),
    }
}

fn sort(operand: &Bson) -> Option<Sort> {
    let descending = |operand: &Bson| match whole(operand) {
        Some(1) => Some(false),
        Some(-1) => Some(true),
        _ => None,
    };
    match operand {
        Bson::Document(fields) if !fields.is_empty() => {
            let mut keys = Vec::new();
            for (path, direction) in fields {
                if path.split('.').any(str::is_empty) {
                    return None;
                }
                keys.push((
                    path.split('.').map(str::to_owned).collect(),
                    descending(direction)?,
                ));
            }
            Some(Sort::Fields(keys))
        }
        _ => Some(Sort::Whole(descending(operand)?)),
    }
}

fn sort_array(array: &mut Vec<Bson>, sort: &Sort) -> Result<()> {
    let paths: &[(Vec<String>, bool)] = match sort {
        Sort::Fields(paths) => paths,
        Sort::Whole(_) => &[],
    };
    let key = |value: &Bson| -> Result<Vec<u8>> {
        let mut key = Vec::new();
        let mut append = |value: &Bson, descending: bool| -> Result<()> {
            let value = crate::value::OwnedValue::encode(value)?;
            let encode = if descending {
                crate::order::encode_descending
            } else {
                crate::order::encode
            };
            Ok(encode(value.get(), &mut key)?)
        };
        if let Sort::Whole(descending) = sort {
            append(value, *descending)?;
        }
        for (path, descending) in paths {
            let found = path.iter().try_fold(value, |value, name| match value {
                Bson::Document(document) => document.get(name),
                _ => None,
            });
            append(found.unwrap_or(&Bson::Null), *descending)?;
        }
        Ok(key)
    };
    let mut keyed = Vec::with_capacity(array.len());
    for value in array.drain(..) {
        keyed.push((key(&value)?, value));
    }
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    array.extend(keyed.into_iter().map(|(_, value)| value));
    Ok(())
}

/// `$addToSet`.
#[derive(Debug, Clone)]
pub(crate) struct AddToSet {
    values: Vec<Bson>,
}

impl AddToSet {
    pub(crate) fn compile(path: &str, operand: &Bson) -> Result<Self> {
        let bad = |problem: &str| Error::Invalid(format!("$addToSet at '{path}': {problem}"));
        let values = match modifiers(operand) {
            None => vec![operand.clone()],
            Some(modifiers) => match modifiers.iter().next() {
                Some((name, values)) if name == "$each" && modifiers.len() == 1 => {
                    list(values).ok_or_else(|| bad("$each needs a list"))?
                }
                Some((name, _)) if name != "$each" => {
                    return Err(bad(&format!("unknown modifier {name}")));
                }
                _ => return Err(bad("$each takes no modifier beside it")),
            },
        };
        Ok(AddToSet { values })
    }

    pub(crate) fn apply(&self, array: &mut Vec<Bson>) -> Result<()> {
        let key = |value: &Bson| -> Result<Vec<u8>> {
            let mut key = Vec::new();
            crate::order::encode(crate::value::OwnedValue::encode(value)?.get(), &mut key)?;
            Ok(key)
        };
        // Equal values have equal keys, so a set of keys finds them in one pass.
        let mut present = array
            .iter()
            .map(key)
            .collect::<Result<std::collections::HashSet<_>>>()?;
        for value in &self.values {
            if present.insert(key(value)?) {
                array.push(value.clone());
            }
        }
        Ok(())
    }
}

fn is_logical(operand: &Document) -> bool {
    let first = operand.keys().next().map(String::as_str);
    matches!(first, Some("$and" | "$or" | "$nor"))
}

/// `$pull` and `$pullAll`.
#[derive(Debug, Clone)]
pub(crate) enum Pull {
    /// Elements equal to one of these.
    Values(Vec<Bson>),
    /// Elements that the filter matches under the name [`ELEMENT`].
    Elements(Filter),
    /// Embedded documents that the filter matches.
    Documents(Filter),
}

impl Pull {
    pub(crate) fn matching(operand: &Bson) -> Result<Self> {
        let mut wrapped = Document::new();
        Ok(match operand {
            // `$and` and its like are about the fields of an element.
            Bson::Document(_) if modifiers(operand).is_some_and(|operand| !is_logical(operand)) => {
                wrapped.insert(ELEMENT, operand.clone());
                Pull::Elements(Filter::compile(&wrapped)?)
            }
            Bson::Document(filter) => Pull::Documents(Filter::compile(filter)?),
            Bson::RegularExpression(_) => {
                wrapped.insert(ELEMENT, operand.clone());
                Pull::Elements(Filter::compile(&wrapped)?)
            }
            _ => Pull::Values(vec![operand.clone()]),
        })
    }

    pub(crate) fn apply(&self, array: &mut Vec<Bson>) -> Result<()> {
        let mut kept = Vec::with_capacity(array.len());
        for element in array.drain(..) {
            let pulled = match self {
                Pull::Values(values) => {
                    let mut found = false;
                    for value in values {
                        found |= compare(value, &element)? == Ordering::Equal;
                    }
                    found
                }
                Pull::Elements(filter) => element_matches(filter, ELEMENT, &element)?,
                Pull::Documents(filter) => match &element {
                    Bson::Document(document) => {
                        filter.matches(crate::value::encode(document)?.as_bytes())?
                    }
                    _ => false,
                },
            };
            if !pulled {
                kept.push(element);
            }
        }
        *array = kept;
        Ok(())
    }
}
