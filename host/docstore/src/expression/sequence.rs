//! Arrays that are ranked, sorted and interleaved.

use bson::Bson;

use crate::error::Result;
use crate::expression::operator::{argument, needs};
use crate::expression::{Scope, is_nullish, whole_number};

type Arguments<'a> = &'a [Option<Bson>];

fn array<'a>(name: &str, arguments: Arguments<'a>, index: usize) -> Result<&'a [Bson]> {
    match argument(arguments, index) {
        Some(Bson::Array(values)) => Ok(values),
        _ => Err(needs(name, "an array")),
    }
}

/// `$firstN`, `$lastN`, `$minN`, `$maxN`.
pub(super) fn some_of(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let count = count(name, argument(arguments, 1))?;
    let values = array(name, arguments, 0)?;
    let chosen: Vec<Bson> = match name {
        "$firstN" => values.iter().take(count).cloned().collect(),
        "$lastN" => {
            let skipped = values.len().saturating_sub(count);
            values.iter().skip(skipped).cloned().collect()
        }
        _ => {
            let present = values.iter().filter(|value| !is_nullish(Some(value)));
            let mut ranked = ranked(present.cloned())?;
            if name == "$maxN" {
                ranked.reverse();
            }
            ranked.truncate(count);
            ranked
        }
    };
    Ok(Some(Bson::Array(chosen)))
}

/// The `n` of the operators that take the first of something.
pub(crate) fn count(name: &str, value: Option<&Bson>) -> Result<usize> {
    value
        .and_then(whole_number)
        .filter(|count| *count > 0)
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        .ok_or_else(|| needs(name, "an n that is a whole number above 0"))
}

/// Values in MongoDB's order.
fn ranked(values: impl Iterator<Item = Bson>) -> Result<Vec<Bson>> {
    let mut keyed = Vec::new();
    for value in values {
        keyed.push((super::key(Some(&value))?, value));
    }
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(keyed.into_iter().map(|(_, value)| value).collect())
}

/// `$sortArray`; what to sort by was checked when the expression was compiled.
pub(super) fn sort(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if is_nullish(argument(arguments, 0)) {
        return Ok(Some(Bson::Null));
    }
    let mut values = array(name, arguments, 0)?.to_vec();
    let by = argument(arguments, 1).ok_or_else(|| needs(name, "sortBy"))?;
    crate::update::sort_by(name, &mut values, by)?;
    Ok(Some(Bson::Array(values)))
}

/// `$zip`.
pub(super) fn zip(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let inputs = array(name, arguments, 0)?;
    if inputs.is_empty() {
        return Err(needs(name, "at least one input"));
    }
    let longest = match argument(arguments, 1) {
        None => false,
        Some(Bson::Boolean(longest)) => *longest,
        Some(_) => return Err(needs(name, "true or false for useLongestLength")),
    };
    let defaults = match argument(arguments, 2) {
        None => None,
        Some(Bson::Array(defaults)) => Some(defaults),
        Some(_) => return Err(needs(name, "an array of defaults")),
    };
    if let Some(defaults) = defaults {
        if !longest {
            return Err(needs(name, "useLongestLength beside defaults"));
        }
        if defaults.len() != inputs.len() {
            return Err(needs(name, "as many defaults as inputs"));
        }
    }
    let mut lists: Vec<&[Bson]> = Vec::with_capacity(inputs.len());
    for input in inputs {
        match input {
            Bson::Array(values) => lists.push(values),
            other if is_nullish(Some(other)) => return Ok(Some(Bson::Null)),
            _ => return Err(needs(name, "inputs that are arrays")),
        }
    }
    let lengths = lists.iter().map(|list| list.len());
    let length = if longest {
        lengths.max()
    } else {
        lengths.min()
    }
    .unwrap_or(0);
    scope.spend(length.saturating_mul(lists.len()).saturating_mul(16))?;
    let row = |position: usize| {
        let cell = |(column, list): (usize, &&[Bson])| {
            let given = list.get(position);
            let default = || defaults.and_then(|defaults| defaults.get(column));
            given.or_else(default).cloned().unwrap_or(Bson::Null)
        };
        Bson::Array(lists.iter().enumerate().map(cell).collect())
    };
    scope.made(Bson::Array((0..length).map(row).collect()))
}
