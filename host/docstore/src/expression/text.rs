//! Strings.

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::Scope;
use crate::expression::operator::{any_null, argument, needs};
use crate::query::Pattern;

type Arguments<'a> = &'a [Option<Bson>];

fn string<'a>(name: &str, arguments: Arguments<'a>, index: usize) -> Result<&'a str> {
    match argument(arguments, index) {
        Some(Bson::String(text) | Bson::Symbol(text)) => Ok(text),
        _ => Err(needs(name, "strings")),
    }
}

fn whole(name: &str, value: Option<&Bson>) -> Result<i64> {
    match value {
        Some(Bson::Int32(int)) => Ok(i64::from(*int)),
        Some(Bson::Int64(int)) => Ok(*int),
        Some(Bson::Double(double)) if double.fract() == 0.0 => Ok(*double as i64),
        _ => Err(needs(name, "a whole number")),
    }
}

pub(super) fn concat(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let mut joined = String::new();
    for (index, value) in arguments.iter().enumerate() {
        if super::is_nullish(value.as_ref()) {
            return Ok(Some(Bson::Null));
        }
        let part = string(name, arguments, index)?;
        scope.spend(part.len())?;
        joined.push_str(part);
    }
    Ok(Some(Bson::String(joined)))
}

/// The argument as text; null is empty, and numbers and dates are written out.
fn lenient(name: &str, arguments: Arguments<'_>, index: usize) -> Result<String> {
    match argument(arguments, index) {
        None | Some(Bson::Null | Bson::Undefined) => Ok(String::new()),
        Some(Bson::String(text) | Bson::Symbol(text)) => Ok(text.clone()),
        Some(value) => super::convert::written(value).ok_or_else(|| needs(name, "a string")),
    }
}

pub(super) fn case(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let text = lenient(name, arguments, 0)?;
    scope.spend(text.len())?;
    // MongoDB turns ASCII letters only.
    Ok(Some(Bson::String(if name == "$toLower" {
        text.to_ascii_lowercase()
    } else {
        text.to_ascii_uppercase()
    })))
}

pub(super) fn length(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let text = string(name, arguments, 0)?;
    let length = if name == "$strLenCP" {
        text.chars().count()
    } else {
        text.len()
    };
    Ok(Some(Bson::Int32(i32::try_from(length).unwrap_or(i32::MAX))))
}

pub(super) fn substring(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let text = lenient(name, arguments, 0)?;
    let (start, count) = (
        whole(name, argument(arguments, 1))?,
        whole(name, argument(arguments, 2))?,
    );
    let code_points = name == "$substrCP";
    if code_points && (start < 0 || count < 0) {
        return Err(needs(name, "a start and a count from 0"));
    }
    let Ok(start) = usize::try_from(start) else {
        return Ok(Some(Bson::String(String::new())));
    };
    // A negative count means the rest.
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    scope.spend(text.len())?;
    if code_points {
        return Ok(Some(Bson::String(
            text.chars().skip(start).take(count).collect(),
        )));
    }
    let end = start.saturating_add(count).min(text.len());
    match text.get(start.min(text.len())..end.max(start.min(text.len()))) {
        Some(part) => Ok(Some(Bson::String(part.to_owned()))),
        None => Err(Error::Invalid(format!("{name} cuts a character in two"))),
    }
}

pub(super) fn index_of(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if argument(arguments, 0).is_none_or(|value| matches!(value, Bson::Null | Bson::Undefined)) {
        return Ok(Some(Bson::Null));
    }
    let (text, wanted) = (string(name, arguments, 0)?, string(name, arguments, 1)?);
    let code_points = name == "$indexOfCP";
    let bound = |index: usize, default: usize| -> Result<usize> {
        match argument(arguments, index) {
            None => Ok(default),
            value => usize::try_from(whole(name, value)?).map_err(|_| needs(name, "bounds from 0")),
        }
    };
    let (start, end) = (bound(2, 0)?, bound(3, usize::MAX)?);
    let byte = |position: usize| -> usize {
        let found = if code_points {
            text.char_indices().nth(position).map(|(at, _)| at)
        } else {
            Some(position)
        };
        found.unwrap_or(text.len()).min(text.len())
    };
    let (first, last) = (byte(start), byte(end));
    let length = if code_points {
        text.chars().count()
    } else {
        text.len()
    };
    let found = (start <= length)
        .then(|| text.get(first..last))
        .flatten()
        .and_then(|part| part.find(wanted))
        .map(|at| at + first);
    let position = match found {
        None => -1,
        Some(at) if code_points => {
            i32::try_from(text.get(..at).unwrap_or_default().chars().count()).unwrap_or(i32::MAX)
        }
        Some(at) => i32::try_from(at).unwrap_or(i32::MAX),
    };
    Ok(Some(Bson::Int32(position)))
}

pub(super) fn split(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return Ok(Some(Bson::Null));
    }
    let (text, separator) = (string(name, arguments, 0)?, string(name, arguments, 1)?);
    if separator.is_empty() {
        return Err(needs(name, "a separator that is not empty"));
    }
    let parts: Vec<Bson> = text
        .split(separator)
        .map(|part| Bson::String(part.to_owned()))
        .collect();
    scope.made(Bson::Array(parts))
}

pub(super) fn case_compare(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let (a, b) = (lenient(name, arguments, 0)?, lenient(name, arguments, 1)?);
    Ok(Some(Bson::Int32(
        a.to_ascii_uppercase().cmp(&b.to_ascii_uppercase()) as i32,
    )))
}

pub(super) fn trim(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    if argument(arguments, 0).is_none_or(|value| matches!(value, Bson::Null | Bson::Undefined)) {
        return Ok(Some(Bson::Null));
    }
    let text = string(name, arguments, 0)?;
    let characters: Option<Vec<char>> = match argument(arguments, 1) {
        None => None,
        Some(Bson::Null) => return Ok(Some(Bson::Null)),
        Some(_) => Some(string(name, arguments, 1)?.chars().collect()),
    };
    let cut = |character: char| match &characters {
        Some(characters) => characters.contains(&character),
        None => character.is_whitespace() || character == '\0',
    };
    Ok(Some(Bson::String(
        match name {
            "$ltrim" => text.trim_start_matches(cut),
            "$rtrim" => text.trim_end_matches(cut),
            _ => text.trim_matches(cut),
        }
        .to_owned(),
    )))
}

pub(super) fn replace(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    if any_null(arguments) {
        return Ok(Some(Bson::Null));
    }
    let (text, find) = (string(name, arguments, 0)?, string(name, arguments, 1)?);
    let replacement = string(name, arguments, 2)?;
    let count = if name == "$replaceOne" { 1 } else { usize::MAX };
    // Known before it is made: it may be the square of the input.
    let times = text.matches(find).count().min(count);
    scope.spend(
        text.len()
            .saturating_add(times.saturating_mul(replacement.len())),
    )?;
    Ok(Some(Bson::String(text.replacen(find, replacement, count))))
}

/// The pattern and the text of `$regexMatch` and its like; none when the text is
/// null or missing.
fn pattern<'a>(name: &str, arguments: Arguments<'a>) -> Result<(Pattern, Option<&'a str>)> {
    let text = match argument(arguments, 0) {
        None | Some(Bson::Null | Bson::Undefined) => None,
        Some(Bson::String(text)) => Some(text.as_str()),
        Some(_) => return Err(needs(name, "a string as its input")),
    };
    let options = match argument(arguments, 2) {
        None | Some(Bson::Null) => "",
        Some(_) => string(name, arguments, 2)?,
    };
    let pattern = match argument(arguments, 1) {
        Some(Bson::String(pattern)) => Pattern::compile(pattern, options, name)?,
        Some(Bson::RegularExpression(regex)) => {
            let own = regex.options.as_str();
            if !options.is_empty() && !own.is_empty() {
                return Err(needs(name, "options in one place only"));
            }
            let options = if options.is_empty() { own } else { options };
            Pattern::compile(regex.pattern.as_str(), options, name)?
        }
        _ => return Err(needs(name, "a pattern")),
    };
    Ok((pattern, text))
}

pub(super) fn regex_match(
    name: &'static str,
    arguments: Arguments<'_>,
    _: &Scope<'_>,
) -> Result<Option<Bson>> {
    let (pattern, text) = pattern(name, arguments)?;
    let matched = text.is_some_and(|text| pattern.regex().is_match(text.as_bytes()));
    Ok(Some(Bson::Boolean(matched)))
}

/// `$regexFind` and `$regexFindAll`: the text that matched, where it begins (in
/// code points), and the groups.
pub(super) fn regex_find(
    name: &'static str,
    arguments: Arguments<'_>,
    scope: &Scope<'_>,
) -> Result<Option<Bson>> {
    let (pattern, text) = pattern(name, arguments)?;
    let mut found = Vec::new();
    // Counted from match to match, not each time from the start.
    let (mut bytes, mut points) = (0, 0);
    for captures in text
        .into_iter()
        .flat_map(|text| pattern.regex().captures_iter(text.as_bytes()))
    {
        let text = text.unwrap_or_default();
        let Some(whole) = captures.get(0) else {
            continue;
        };
        let cut = |range: std::ops::Range<usize>| {
            text.get(range)
                .ok_or_else(|| Error::Invalid(format!("{name} cuts a character in two")))
        };
        points += cut(bytes..whole.start())?.chars().count();
        bytes = whole.start();
        let mut groups = Vec::with_capacity(captures.len());
        for group in captures.iter().skip(1) {
            groups.push(match group {
                Some(group) => Bson::String(cut(group.range())?.to_owned()),
                None => Bson::Null,
            });
        }
        let mut one = Document::new();
        one.insert("match", cut(whole.range())?);
        one.insert("idx", i32::try_from(points).unwrap_or(i32::MAX));
        one.insert("captures", groups);
        scope.spend(super::size(&Bson::Document(one.clone())))?;
        found.push(Bson::Document(one));
        if name == "$regexFind" {
            break;
        }
    }
    Ok(Some(if name == "$regexFind" {
        found.pop().unwrap_or(Bson::Null)
    } else {
        Bson::Array(found)
    }))
}
