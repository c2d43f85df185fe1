//! What each update operator does to the value at its path.

use std::cmp::Ordering;

use bson::{Bson, Document, Timestamp};

use crate::error::{Error, Result};
use crate::update::array::{AddToSet, Pull, Push};
use crate::update::tree::{Context, UpdatePath};

/// An operator with its checked operand.
#[derive(Debug, Clone)]
pub(crate) enum Operator {
    Set(Bson),
    SetOnInsert(Bson),
    Unset,
    Inc(Bson),
    Mul(Bson),
    Min(Bson),
    Max(Bson),
    CurrentDate { timestamp: bool },
    Rename(UpdatePath),
    Push(Push),
    AddToSet(AddToSet),
    Pop { first: bool },
    Pull(Pull),
    Bit(Vec<(BitRule, Bson)>),
}

/// What `$bit` does to an integer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BitRule {
    And,
    Or,
    Xor,
}

/// What becomes of the value at the path.
pub(crate) enum Effect {
    /// It was changed in place, or stays.
    Done,
    Set(Bson),
    Remove,
}

/// Every operator of an update.
pub(crate) const KNOWN: &[&str] = &[
    "$set",
    "$setOnInsert",
    "$unset",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$currentDate",
    "$rename",
    "$push",
    "$addToSet",
    "$pop",
    "$pull",
    "$pullAll",
    "$bit",
];

pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Checks the operand of `name` at `path`.
pub(crate) fn compile(name: &str, path: &str, operand: &Bson) -> Result<Operator> {
    let bad = |problem: &str| Error::Invalid(format!("{name} at '{path}' {problem}"));
    let number = || match operand {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => Ok(operand.clone()),
        Bson::Decimal128(_) => Err(bad("does not support Decimal128")),
        _ => Err(bad("needs a number")),
    };
    Ok(match name {
        "$set" => Operator::Set(operand.clone()),
        "$setOnInsert" => Operator::SetOnInsert(operand.clone()),
        "$unset" => Operator::Unset,
        "$inc" => Operator::Inc(number()?),
        "$mul" => Operator::Mul(number()?),
        "$min" => Operator::Min(operand.clone()),
        "$max" => Operator::Max(operand.clone()),
        "$currentDate" => Operator::CurrentDate {
            timestamp: current_date(operand)
                .ok_or_else(|| bad("needs true or {$type: 'date' or 'timestamp'}"))?,
        },
        "$rename" => {
            let Bson::String(target) = operand else {
                return Err(bad("needs the new path, a string"));
            };
            let target = UpdatePath::parse(target)?;
            if target.has_wildcards() {
                return Err(bad("cannot use array positions"));
            }
            Operator::Rename(target)
        }
        "$push" => Operator::Push(Push::compile(path, operand)?),
        "$addToSet" => Operator::AddToSet(AddToSet::compile(path, operand)?),
        "$pop" => match operand {
            Bson::Int32(1) | Bson::Int64(1) => Operator::Pop { first: false },
            Bson::Int32(-1) | Bson::Int64(-1) => Operator::Pop { first: true },
            Bson::Double(double) if *double == 1.0 => Operator::Pop { first: false },
            Bson::Double(double) if *double == -1.0 => Operator::Pop { first: true },
            _ => return Err(bad("needs 1 or -1")),
        },
        "$pull" => Operator::Pull(Pull::matching(operand)?),
        "$pullAll" => match operand {
            Bson::Array(values) => Operator::Pull(Pull::Values(values.clone())),
            _ => return Err(bad("needs a list")),
        },
        "$bit" => Operator::Bit(
            bit_rules(operand)
                .ok_or_else(|| bad("needs a document of and, or, xor, each with an integer"))?,
        ),
        _ => return Err(Error::Invalid(format!("unknown operator {name}"))),
    })
}

fn bit_rules(operand: &Bson) -> Option<Vec<(BitRule, Bson)>> {
    let rules = operand.as_document().filter(|rules| !rules.is_empty())?;
    let rule = |(name, operand): (&String, &Bson)| {
        let rule = match name.as_str() {
            "and" => BitRule::And,
            "or" => BitRule::Or,
            "xor" => BitRule::Xor,
            _ => return None,
        };
        matches!(operand, Bson::Int32(_) | Bson::Int64(_)).then(|| (rule, operand.clone()))
    };
    rules.iter().map(rule).collect()
}

fn current_date(operand: &Bson) -> Option<bool> {
    match operand {
        Bson::Boolean(_) => Some(false),
        Bson::Document(document) if document.len() == 1 => match document.get("$type") {
            Some(Bson::String(kind)) if kind == "date" => Some(false),
            Some(Bson::String(kind)) if kind == "timestamp" => Some(true),
            _ => None,
        },
        _ => None,
    }
}

impl Operator {
    /// Whether the operator makes a field that is missing.
    pub(crate) fn creates(&self) -> bool {
        !matches!(
            self,
            Operator::Unset | Operator::Pop { .. } | Operator::Pull(_)
        )
    }

    /// Works on the value at the path, `None` when it is missing.
    pub(crate) fn apply(
        &self,
        current: Option<&mut Bson>,
        path: &str,
        context: &Context<'_>,
    ) -> Result<Effect> {
        Ok(match self {
            Operator::Set(value) | Operator::SetOnInsert(value) => Effect::Set(value.clone()),
            Operator::Unset => Effect::Remove,
            Operator::Inc(amount) => match current {
                Some(current) => Effect::Set(arithmetic("$inc", current, amount, path)?),
                None => Effect::Set(amount.clone()),
            },
            Operator::Mul(factor) => match current {
                Some(current) => Effect::Set(arithmetic("$mul", current, factor, path)?),
                None => Effect::Set(match factor {
                    Bson::Int32(_) => Bson::Int32(0),
                    Bson::Int64(_) => Bson::Int64(0),
                    _ => Bson::Double(0.0),
                }),
            },
            Operator::Min(value) => lower(current, value, Ordering::Less)?,
            Operator::Max(value) => lower(current, value, Ordering::Greater)?,
            Operator::CurrentDate { timestamp: false } => Effect::Set(Bson::DateTime(context.now)),
            Operator::CurrentDate { timestamp: true } => {
                let seconds = context.now.timestamp_millis() / 1000;
                let time = u32::try_from(seconds).unwrap_or(u32::MAX);
                Effect::Set(Bson::Timestamp(Timestamp { time, increment: 1 }))
            }
            // A rename moves a value between two paths, which is not done here.
            Operator::Rename(_) => Effect::Done,
            Operator::Push(push) => match array(current, path)? {
                Some(array) => {
                    push.apply(array)?;
                    Effect::Done
                }
                None => {
                    let mut array = Vec::new();
                    push.apply(&mut array)?;
                    Effect::Set(Bson::Array(array))
                }
            },
            Operator::AddToSet(add) => match array(current, path)? {
                Some(array) => {
                    add.apply(array)?;
                    Effect::Done
                }
                None => {
                    let mut array = Vec::new();
                    add.apply(&mut array)?;
                    Effect::Set(Bson::Array(array))
                }
            },
            Operator::Pop { first } => {
                if let Some(array) = array(current, path)? {
                    if *first && !array.is_empty() {
                        array.remove(0);
                    } else if !*first {
                        array.pop();
                    }
                }
                Effect::Done
            }
            Operator::Bit(rules) => {
                let mut value = current.map_or(Bson::Int32(0), |current| current.clone());
                for (rule, operand) in rules {
                    value = bits(*rule, &value, operand, path)?;
                }
                Effect::Set(value)
            }
            Operator::Pull(pull) => {
                if let Some(array) = array(current, path)? {
                    pull.apply(array)?;
                }
                Effect::Done
            }
        })
    }
}

fn lower(current: Option<&mut Bson>, value: &Bson, wanted: Ordering) -> Result<Effect> {
    Ok(match current {
        Some(current) if super::compare(value, current)? != wanted => Effect::Done,
        _ => Effect::Set(value.clone()),
    })
}

fn array<'a>(current: Option<&'a mut Bson>, path: &str) -> Result<Option<&'a mut Vec<Bson>>> {
    match current {
        None => Ok(None),
        Some(Bson::Array(array)) => Ok(Some(array)),
        Some(_) => Err(Error::Invalid(format!(
            "the field '{path}' must be an array"
        ))),
    }
}

/// Sums and products keep the narrower integer type while the result fits, as
/// MongoDB's do; beyond int64 they are refused.
fn arithmetic(name: &str, current: &Bson, operand: &Bson, path: &str) -> Result<Bson> {
    let int = |value: &Bson| match value {
        Bson::Int32(int) => Some(i64::from(*int)),
        Bson::Int64(int) => Some(*int),
        _ => None,
    };
    let double = |value: &Bson| match value {
        Bson::Double(double) => Some(*double),
        other => int(other).map(|int| int as f64),
    };
    let adds = name == "$inc";
    if let (Some(a), Some(b)) = (int(current), int(operand)) {
        let result = if adds {
            a.checked_add(b)
        } else {
            a.checked_mul(b)
        };
        let result =
            result.ok_or_else(|| Error::Invalid(format!("{name} at '{path}' exceeds 64 bits")))?;
        let narrow = matches!((current, operand), (Bson::Int32(_), Bson::Int32(_)));
        return Ok(match i32::try_from(result) {
            Ok(small) if narrow => Bson::Int32(small),
            _ => Bson::Int64(result),
        });
    }
    match (double(current), double(operand)) {
        (Some(a), Some(b)) => Ok(Bson::Double(if adds { a + b } else { a * b })),
        _ if matches!(current, Bson::Decimal128(_)) => Err(Error::Invalid(format!(
            "{name} at '{path}' does not support Decimal128"
        ))),
        _ => Err(Error::Invalid(format!(
            "{name} at '{path}' needs a number there"
        ))),
    }
}

/// Bits of two integers, in the wider one's width.
fn bits(rule: BitRule, current: &Bson, operand: &Bson, path: &str) -> Result<Bson> {
    let (narrow, a, b) = match (current, operand) {
        (Bson::Int32(a), Bson::Int32(b)) => (true, i64::from(*a), i64::from(*b)),
        (Bson::Int32(a), Bson::Int64(b)) => (false, i64::from(*a), *b),
        (Bson::Int64(a), Bson::Int32(b)) => (false, *a, i64::from(*b)),
        (Bson::Int64(a), Bson::Int64(b)) => (false, *a, *b),
        _ => {
            return Err(Error::Invalid(format!(
                "$bit at '{path}' needs an integer there"
            )));
        }
    };
    let result = match rule {
        BitRule::And => a & b,
        BitRule::Or => a | b,
        BitRule::Xor => a ^ b,
    };
    Ok(match i32::try_from(result) {
        Ok(small) if narrow => Bson::Int32(small),
        _ => Bson::Int64(result),
    })
}

/// The operand as `{ $modifier: … }`, if its first key is one.
pub(crate) fn modifiers(operand: &Bson) -> Option<&Document> {
    match operand {
        Bson::Document(document)
            if document
                .keys()
                .next()
                .is_some_and(|key| key.starts_with('$')) =>
        {
            Some(document)
        }
        _ => None,
    }
}
