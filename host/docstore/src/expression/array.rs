//! Arrays, sets and objects.

use std::cmp::Ordering;
use std::collections::HashSet;

use bson::{Bson, Document};

use crate::error::Result;
use crate::expression::operator::{any_null, argument, needs};
use crate::expression::{Scope, Total, as_f64, compare, is_nullish, is_true, key, refuse_decimal};

type Arguments<'a> = &'a [Option<Bson>];

fn array<'a>(name: &str, arguments: Arguments<'a>, index: usize) -> Result<&'a [Bson]> {
    match argument(arguments, index) {
        Some(Bson::Array(values)) => Ok(values),
        _ => Err(needs(name, "an array")),
    }
}

fn whole(name: &str, arguments: Arguments<'_>, index: usize) -> Result<i64> {
    match argument(arguments, index) {
        Some(Bson::Int32(int)) => Ok(i64::from(*int)),
        Some(Bson::Int64(int)) => Ok(*int),
        Some(Bson::Double(double)) if double.fract() == 0.0 => Ok(*double as i64),
        _ => Err(needs(name, "a whole number")),
    }
}

fn null() -> Result<Option<Bson>> {
    Ok(Some(Bson::Null))
}

fn int(value: usize) -> Bson {
    Bson::Int32(i32::try_from(value).unwrap_or(i32::MAX))
}

pub(super) fn size_of(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    Ok(Some(int(array(name, arguments, 0)?.len())))
}

pub(super) fn is_array(
    _: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    Ok(Some(Bson::Boolean(matches!(
        argument(arguments, 0),
        Some(Bson::Array(_))
    ))))
}

/// The element at a position; from the end when it is negative.
fn at(values: &[Bson], position: i64) -> Option<Bson> {
    let length = i64::try_from(values.len()).ok()?;
    let position = if position < 0 {
        position.checked_add(length)?
    } else {
        position
    };
    values.get(usize::try_from(position).ok()?).cloned()
}

pub(super) fn element_at(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    Ok(at(array(name, arguments, 0)?, whole(name, arguments, 1)?))
}

pub(super) fn end(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    Ok(at(
        array(name, arguments, 0)?,
        if name == "$first" { 0 } else { -1 },
    ))
}

pub(super) fn contains(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let wanted = argument(arguments, 0);
    for value in array(name, arguments, 1)? {
        if compare(wanted, Some(value))? == Ordering::Equal {
            return Ok(Some(Bson::Boolean(true)));
        }
    }
    Ok(Some(Bson::Boolean(false)))
}

pub(super) fn index_of(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if is_nullish(argument(arguments, 0)) {
        return null();
    }
    let values = array(name, arguments, 0)?;
    let bound = |index: usize, default: usize| match argument(arguments, index) {
        None => Ok(default),
        Some(_) => usize::try_from(whole(name, arguments, index)?)
            .map_err(|_| needs(name, "bounds from 0")),
    };
    let (start, end) = (bound(2, 0)?, bound(3, usize::MAX)?);
    for (position, value) in values.iter().enumerate().take(end).skip(start) {
        if compare(argument(arguments, 1), Some(value))? == Ordering::Equal {
            return Ok(Some(int(position)));
        }
    }
    Ok(Some(Bson::Int32(-1)))
}

pub(super) fn concat(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    if null_first(name, arguments)? {
        return null();
    }
    let mut all = Vec::new();
    for index in 0..arguments.len() {
        all.extend_from_slice(array(name, arguments, index)?);
    }
    scope.made(Bson::Array(all))
}

pub(super) fn slice(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    let values = array(name, arguments, 0)?;
    let length = i64::try_from(values.len()).unwrap_or(i64::MAX);
    let (start, count) = if arguments.len() == 3 {
        let count = whole(name, arguments, 2)?;
        if count <= 0 {
            return Err(needs(name, "a count above 0"));
        }
        let start = whole(name, arguments, 1)?;
        (
            if start < 0 {
                start.saturating_add(length).max(0)
            } else {
                start
            },
            count,
        )
    } else {
        match whole(name, arguments, 1)? {
            last if last < 0 => (last.saturating_add(length).max(0), i64::MAX),
            first => (0, first),
        }
    };
    let (start, count) = (
        usize::try_from(start).unwrap_or(usize::MAX),
        usize::try_from(count).unwrap_or(usize::MAX),
    );
    Ok(Some(Bson::Array(
        values.iter().skip(start).take(count).cloned().collect(),
    )))
}

pub(super) fn reverse(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    Ok(Some(Bson::Array(
        array(name, arguments, 0)?.iter().rev().cloned().collect(),
    )))
}

pub(super) fn range(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let (start, end) = (whole(name, arguments, 0)?, whole(name, arguments, 1)?);
    let step = if arguments.len() == 3 {
        whole(name, arguments, 2)?
    } else {
        1
    };
    if step == 0 {
        return Err(needs(name, "a step that is not 0"));
    }
    let distance = if step > 0 {
        i128::from(end) - i128::from(start)
    } else {
        i128::from(start) - i128::from(end)
    };
    let count = usize::try_from(distance.max(0) / i128::from(step.unsigned_abs()) + 1)
        .unwrap_or(usize::MAX);
    scope.spend(count.saturating_mul(64))?;
    let mut values = Vec::new();
    let mut next = start;
    while if step > 0 { next < end } else { next > end } {
        values.push(
            i32::try_from(next)
                .map(Bson::Int32)
                .map_err(|_| needs(name, "bounds of 32 bits"))?,
        );
        // Beyond the last number lies no bound either.
        let Some(following) = next.checked_add(step) else {
            break;
        };
        next = following;
    }
    Ok(Some(Bson::Array(values)))
}

pub(super) fn to_object(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    let bad = || needs(name, "pairs, or documents with k and v");
    let mut object = Document::new();
    for entry in array(name, arguments, 0)? {
        let (key, value) = match entry {
            Bson::Array(pair) => match pair.as_slice() {
                [Bson::String(key), value] => (key, value),
                _ => return Err(bad()),
            },
            Bson::Document(entry) => match (entry.get("k"), entry.get("v")) {
                (Some(Bson::String(key)), Some(value)) => (key, value),
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        };
        if key.contains('\0') {
            return Err(bad());
        }
        object.insert(key, value.clone());
    }
    Ok(Some(Bson::Document(object)))
}

pub(super) fn from_object(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    match argument(arguments, 0) {
        Some(Bson::Document(object)) => {
            let entries = object.iter().map(|(key, value)| {
                let mut entry = Document::new();
                entry.insert("k", key.clone());
                entry.insert("v", value.clone());
                Bson::Document(entry)
            });
            scope.made(Bson::Array(entries.collect()))
        }
        value if is_nullish(value) => null(),
        _ => Err(needs(name, "a document")),
    }
}

pub(super) fn merge(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    // One array stands for its elements.
    let list: Vec<Option<&Bson>> = match arguments {
        [Some(Bson::Array(values))] => values.iter().map(Some).collect(),
        _ => arguments.iter().map(Option::as_ref).collect(),
    };
    let mut merged = Document::new();
    for value in list {
        match value {
            Some(Bson::Document(document)) => merged.extend(document.clone()),
            value if is_nullish(value) => {}
            _ => return Err(needs(name, "documents")),
        }
    }
    Ok(Some(Bson::Document(merged)))
}

/// Whether a null comes before anything that is no array, which is an error.
fn null_first(name: &str, arguments: Arguments<'_>) -> Result<bool> {
    for (index, value) in arguments.iter().enumerate() {
        if is_nullish(value.as_ref()) {
            return Ok(true);
        }
        array(name, arguments, index)?;
    }
    Ok(false)
}

/// The array's different values, with their keys.
fn set(name: &str, arguments: Arguments<'_>, index: usize) -> Result<Vec<(Vec<u8>, Bson)>> {
    let mut values = Vec::new();
    let mut seen = HashSet::new();
    for value in array(name, arguments, index)? {
        let key = key(Some(value))?;
        if seen.insert(key.clone()) {
            values.push((key, value.clone()));
        }
    }
    Ok(values)
}

fn keys(name: &str, arguments: Arguments<'_>, index: usize) -> Result<HashSet<Vec<u8>>> {
    Ok(set(name, arguments, index)?
        .into_iter()
        .map(|(key, _)| key)
        .collect())
}

fn values(mut set: Vec<(Vec<u8>, Bson)>) -> Result<Option<Bson>> {
    set.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Some(Bson::Array(
        set.into_iter().map(|(_, value)| value).collect(),
    )))
}

pub(super) fn union(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if null_first(name, arguments)? {
        return null();
    }
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for index in 0..arguments.len() {
        all.extend(
            set(name, arguments, index)?
                .into_iter()
                .filter(|(key, _)| seen.insert(key.clone())),
        );
    }
    values(all)
}

pub(super) fn intersection(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if null_first(name, arguments)? {
        return null();
    }
    let mut common = set(name, arguments, 0)?;
    for index in 1..arguments.len() {
        let other = keys(name, arguments, index)?;
        common.retain(|(key, _)| other.contains(key));
    }
    values(common)
}

pub(super) fn difference(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return null();
    }
    let other = keys(name, arguments, 1)?;
    let mut rest = set(name, arguments, 0)?;
    rest.retain(|(key, _)| !other.contains(key));
    Ok(Some(Bson::Array(
        rest.into_iter().map(|(_, value)| value).collect(),
    )))
}

pub(super) fn is_subset(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let subset = keys(name, arguments, 0)?.is_subset(&keys(name, arguments, 1)?);
    Ok(Some(Bson::Boolean(subset)))
}

pub(super) fn set_equals(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let first = keys(name, arguments, 0)?;
    for index in 1..arguments.len() {
        if keys(name, arguments, index)? != first {
            return Ok(Some(Bson::Boolean(false)));
        }
    }
    Ok(Some(Bson::Boolean(true)))
}

pub(super) fn truths(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    // A list of one array is that array.
    let values = array(name, arguments, 0)?;
    let values = match values {
        [Bson::Array(inner)] => inner,
        _ => values,
    };
    let mut truths = values.iter().map(|value| is_true(Some(value)));
    Ok(Some(Bson::Boolean(if name == "$allElementsTrue" {
        truths.all(|truth| truth)
    } else {
        truths.any(|truth| truth)
    })))
}

/// `$sum`, `$avg`, `$min`, `$max` over the arguments, or over the elements of one
/// array.
pub(super) fn statistic(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let list: Vec<&Bson> = match arguments {
        [Some(Bson::Array(values))] => values.iter().collect(),
        _ => arguments.iter().flatten().collect(),
    };
    match name {
        "$sum" | "$avg" => {
            let mut total = Total::default();
            for value in list {
                total.take(name, Some(value))?;
            }
            Ok(Some(if name == "$sum" {
                total.sum()
            } else {
                total.mean()
            }))
        }
        _ => {
            let wanted = if name == "$min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let mut best: Option<&Bson> = None;
            for value in list.into_iter().filter(|value| !is_nullish(Some(value))) {
                if best.is_none() || compare(Some(value), best)? == wanted {
                    best = Some(value);
                }
            }
            Ok(Some(best.cloned().unwrap_or(Bson::Null)))
        }
    }
}

/// `$stdDevPop` and `$stdDevSamp` over the arguments, or over the elements of
/// one array.
pub(super) fn spread(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let list: Vec<&Bson> = match arguments {
        [Some(Bson::Array(values))] => values.iter().collect(),
        _ => arguments.iter().flatten().collect(),
    };
    let mut deviation = Deviation::default();
    for value in list {
        refuse_decimal(name, Some(value))?;
        if let Some(number) = as_f64(value) {
            deviation.take(number);
        }
    }
    Ok(Some(deviation.finish(name == "$stdDevPop")))
}

/// Welford's running mean and sum of squares.
#[derive(Debug, Default)]
pub(crate) struct Deviation {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Deviation {
    pub(crate) fn take(&mut self, number: f64) {
        self.count += 1;
        let before = number - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (number - self.mean);
    }

    /// The standard deviation of a whole population, or of a sample.
    pub(crate) fn finish(&self, population: bool) -> Bson {
        let degrees = if population {
            self.count
        } else {
            self.count.saturating_sub(1)
        };
        if degrees == 0 {
            Bson::Null
        } else {
            Bson::Double((self.squares / degrees as f64).sqrt())
        }
    }
}
