//! What can be asked of one value.

use std::cmp::Ordering;

use crate::number::{self, Number};
use crate::order;
use crate::query::Pattern;
use crate::value::{Corrupt, Kind, OwnedValue, Value};

/// A test of one value, or of a missing field.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Compare {
        comparison: Comparison,
        operand: OwnedValue,
    },
    /// Equal to one of the values, which are sorted, or matched by a pattern.
    In {
        values: Vec<OwnedValue>,
        patterns: Vec<Pattern>,
        null: bool,
    },
    Matches(Pattern),
    /// The field is there.
    Exists,
    /// The value's type is one of these.
    Type(Vec<Kind>),
    /// The value, cut to an integer, leaves this remainder.
    Modulo {
        divisor: i64,
        remainder: i64,
    },
    /// An integer or binary's bits at these positions.
    Bits {
        rule: BitRule,
        positions: Vec<u32>,
    },
    /// The value is a document (`true`) or array: what the conditions of an
    /// `$elemMatch` on fields may look into.
    Container,
    Never,
}

/// The comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Gt,
    Gte,
    Lt,
    Lte,
}

/// The bit operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BitRule {
    AllSet,
    AnySet,
    AllClear,
    AnyClear,
}

impl Comparison {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Comparison::Eq => order == Ordering::Equal,
            Comparison::Gt => order == Ordering::Greater,
            Comparison::Gte => order != Ordering::Less,
            Comparison::Lt => order == Ordering::Less,
            Comparison::Lte => order != Ordering::Greater,
        }
    }

    fn includes_equal(self) -> bool {
        matches!(self, Comparison::Eq | Comparison::Gte | Comparison::Lte)
    }
}

impl Test {
    /// Equal to one of the values.
    pub(crate) fn any_of(mut values: Vec<OwnedValue>, null: bool) -> Self {
        // The values were encoded by us, so comparing them cannot fail.
        values.sort_by(|a, b| order::compare(a.get(), b.get()).unwrap_or(Ordering::Equal));
        Test::In {
            values,
            patterns: Vec::new(),
            null,
        }
    }

    pub(crate) fn passes(&self, value: Option<Value<'_>>) -> Result<bool, Corrupt> {
        match self {
            Test::Compare {
                comparison,
                operand,
            } => compare(*comparison, value, operand.get()),
            Test::In {
                values,
                patterns,
                null,
            } => {
                let Some(value) = value.filter(|value| value.kind != Kind::Undefined) else {
                    return Ok(*null);
                };
                Ok(search(values, value)? || patterns.iter().any(|pattern| pattern.matches(value)))
            }
            Test::Matches(pattern) => Ok(value.is_some_and(|value| pattern.matches(value))),
            Test::Exists => Ok(value.is_some()),
            Test::Type(kinds) => Ok(value.is_some_and(|value| kinds.contains(&value.kind))),
            Test::Modulo { divisor, remainder } => Ok(value
                .and_then(Number::of)
                .and_then(Number::truncated)
                // The one overflow, i64::MIN % -1, is 0.
                .is_some_and(|int| int.checked_rem(*divisor).unwrap_or(0) == *remainder)),
            Test::Bits { rule, positions } => {
                Ok(value.is_some_and(|value| bits(*rule, positions, value)))
            }
            Test::Container => {
                Ok(value.is_some_and(|value| matches!(value.kind, Kind::Document | Kind::Array)))
            }
            Test::Never => Ok(false),
        }
    }
}

/// Compares within one type, as MongoDB's operators do: a value of another
/// type never matches. Null, undefined and missing are alike, and MinKey and
/// MaxKey are below and above all.
fn compare(
    comparison: Comparison,
    value: Option<Value<'_>>,
    operand: Value<'_>,
) -> Result<bool, Corrupt> {
    let value = value.unwrap_or(Value::UNDEFINED);
    if order::class(value.kind) != order::class(operand.kind) {
        return Ok(match operand.kind {
            Kind::Null => value.kind == Kind::Undefined && comparison.includes_equal(),
            Kind::MaxKey => matches!(comparison, Comparison::Lt | Comparison::Lte),
            Kind::MinKey => matches!(comparison, Comparison::Gt | Comparison::Gte),
            _ => false,
        });
    }
    if operand.kind.is_number() {
        let (Some(value), Some(operand)) = (Number::of(value), Number::of(operand)) else {
            return Err(Corrupt);
        };
        if value.is_nan() || operand.is_nan() {
            return Ok(comparison.includes_equal() && value.is_nan() && operand.is_nan());
        }
        return Ok(comparison.accepts(number::compare(value, operand)));
    }
    Ok(comparison.accepts(order::compare(value, operand)?))
}

/// Binary search that can meet damage.
fn search(sorted: &[OwnedValue], value: Value<'_>) -> Result<bool, Corrupt> {
    let mut damage = None;
    let found = sorted.binary_search_by(|candidate| {
        order::compare(candidate.get(), value).unwrap_or_else(|corrupt| {
            damage = Some(corrupt);
            Ordering::Equal
        })
    });
    match damage {
        Some(corrupt) => Err(corrupt),
        None => Ok(found.is_ok()),
    }
}

fn bits(rule: BitRule, positions: &[u32], value: Value<'_>) -> bool {
    let set = |position: u32| -> Option<bool> {
        if value.kind == Kind::Binary {
            let (_, data) = value.binary();
            let byte = data
                .get(usize::try_from(position / 8).ok()?)
                .copied()
                .unwrap_or_default();
            return Some(byte >> (position % 8) & 1 == 1);
        }
        let int = Number::of(value)?.as_exact_i64()?;
        // Bits beyond the 64th repeat the sign.
        Some(int >> position.min(63) & 1 == 1)
    };
    let mut wanted = positions.iter().map(|position| set(*position));
    match rule {
        BitRule::AllSet => wanted.all(|bit| bit == Some(true)) && set(0).is_some(),
        BitRule::AnySet => wanted.any(|bit| bit == Some(true)),
        BitRule::AllClear => wanted.all(|bit| bit == Some(false)) && set(0).is_some(),
        BitRule::AnyClear => wanted.any(|bit| bit == Some(false)),
    }
}
