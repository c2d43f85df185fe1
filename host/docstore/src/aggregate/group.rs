//! `$group` and `$bucket`: accumulators, and their state for one group.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::{Expression, Scope, add, as_f64, compare, key, size};

/// An accumulator with its expression.
#[derive(Debug, Clone)]
pub(crate) struct Accumulator {
    kind: Kind,
    expression: Expression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Avg,
    Min,
    Max,
    First,
    Last,
    Push,
    AddToSet,
    MergeObjects,
    StdDevPop,
    StdDevSamp,
}

/// What an accumulator has gathered.
#[derive(Debug)]
pub(crate) enum State {
    Total {
        total: Bson,
        wide: bool,
    },
    Mean {
        total: f64,
        count: u64,
    },
    Best(Option<Bson>),
    One {
        value: Bson,
        seen: bool,
    },
    List(Vec<Bson>),
    Set {
        keys: HashSet<Vec<u8>>,
        values: Vec<Bson>,
    },
    Merged(Document),
    /// Welford's running mean and sum of squares.
    Spread {
        count: u64,
        mean: f64,
        squares: f64,
    },
}

impl Accumulator {
    pub(crate) fn compile(name: &str, operand: &Bson, names: &[String]) -> Result<Self> {
        let kind = match name {
            "$sum" => Kind::Sum,
            "$avg" => Kind::Avg,
            "$min" => Kind::Min,
            "$max" => Kind::Max,
            "$first" => Kind::First,
            "$last" => Kind::Last,
            "$push" => Kind::Push,
            "$addToSet" => Kind::AddToSet,
            "$mergeObjects" => Kind::MergeObjects,
            "$stdDevPop" => Kind::StdDevPop,
            "$stdDevSamp" => Kind::StdDevSamp,
            "$count" => {
                if !matches!(operand, Bson::Document(empty) if empty.is_empty()) {
                    return Err(Error::Invalid(
                        "$count as an accumulator needs an empty document".into(),
                    ));
                }
                return Ok(Accumulator {
                    kind: Kind::Sum,
                    expression: Expression::Literal(Bson::Int32(1)),
                });
            }
            _ => return Err(Error::Invalid(format!("unsupported accumulator {name}"))),
        };
        Ok(Accumulator {
            kind,
            expression: Expression::compile(operand, names)?,
        })
    }

    pub(crate) fn start(&self) -> State {
        match self.kind {
            Kind::Sum => State::Total {
                total: Bson::Int64(0),
                wide: false,
            },
            Kind::Avg => State::Mean {
                total: 0.0,
                count: 0,
            },
            Kind::Min | Kind::Max => State::Best(None),
            Kind::First | Kind::Last => State::One {
                value: Bson::Null,
                seen: false,
            },
            Kind::Push => State::List(Vec::new()),
            Kind::AddToSet => State::Set {
                keys: HashSet::new(),
                values: Vec::new(),
            },
            Kind::MergeObjects => State::Merged(Document::new()),
            Kind::StdDevPop | Kind::StdDevSamp => State::Spread {
                count: 0,
                mean: 0.0,
                squares: 0.0,
            },
        }
    }

    /// Takes a document in; answers the bytes that the state grew by.
    pub(crate) fn take(&self, state: &mut State, scope: &mut Scope<'_>) -> Result<usize> {
        let value = self.expression.evaluate(scope)?;
        let number = value.as_ref().and_then(as_f64);
        let mut grown = 0;
        match state {
            State::Total { total, wide } => {
                if let Some(Bson::Decimal128(_)) = value {
                    return Err(Error::Invalid("$sum does not support Decimal128".into()));
                }
                if let Some(value) = value.filter(|_| number.is_some()) {
                    *wide |= matches!(value, Bson::Int64(_));
                    *total = match add("$sum", total, &value)? {
                        Bson::Int32(int) => Bson::Int64(int.into()),
                        sum => sum,
                    };
                }
            }
            State::Mean { total, count } => {
                if let Some(number) = number {
                    *total += number;
                    *count += 1;
                }
            }
            State::Spread {
                count,
                mean,
                squares,
            } => {
                if let Some(number) = number {
                    *count += 1;
                    let before = number - *mean;
                    *mean += before / *count as f64;
                    *squares += before * (number - *mean);
                }
            }
            State::Best(best) => {
                if let Some(value) =
                    value.filter(|value| !matches!(value, Bson::Null | Bson::Undefined))
                {
                    let wanted = if self.kind == Kind::Min {
                        Ordering::Less
                    } else {
                        Ordering::Greater
                    };
                    if best.is_none() || compare(Some(&value), best.as_ref())? == wanted {
                        grown = size(&value);
                        *best = Some(value);
                    }
                }
            }
            State::One { value: kept, seen } => {
                if !*seen || self.kind == Kind::Last {
                    let value = value.unwrap_or(Bson::Null);
                    grown = size(&value).saturating_sub(size(kept));
                    (*kept, *seen) = (value, true);
                }
            }
            State::List(values) => {
                if let Some(value) = value {
                    grown = size(&value);
                    values.push(value);
                }
            }
            State::Set { keys, values } => {
                if let Some(value) = value {
                    let key = key(Some(&value))?;
                    let bytes = size(&value) + key.len();
                    if keys.insert(key) {
                        grown = bytes;
                        values.push(value);
                    }
                }
            }
            State::Merged(merged) => match value {
                Some(Bson::Document(document)) => {
                    grown = document
                        .iter()
                        .map(|(name, value)| name.len() + size(value))
                        .sum();
                    merged.extend(document);
                }
                None | Some(Bson::Null | Bson::Undefined) => {}
                Some(_) => return Err(Error::Invalid("$mergeObjects needs documents".into())),
            },
        }
        Ok(grown)
    }

    /// What the group gathered.
    pub(crate) fn finish(&self, state: State) -> Bson {
        match state {
            State::Total {
                total: Bson::Int64(int),
                wide: false,
            } => i32::try_from(int).map_or(Bson::Int64(int), Bson::Int32),
            State::Total { total, .. } => total,
            State::Mean { count: 0, .. } => Bson::Null,
            State::Mean { total, count } => Bson::Double(total / count as f64),
            State::Best(best) => best.unwrap_or(Bson::Null),
            State::One { value, .. } => value,
            State::List(values) | State::Set { values, .. } => Bson::Array(values),
            State::Merged(document) => Bson::Document(document),
            State::Spread { count, squares, .. } => {
                let degrees = if self.kind == Kind::StdDevPop {
                    count
                } else {
                    count.saturating_sub(1)
                };
                if degrees == 0 {
                    Bson::Null
                } else {
                    Bson::Double((squares / degrees as f64).sqrt())
                }
            }
        }
    }
}

/// Groups in the order in which they were met.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    index: HashMap<Vec<u8>, usize>,
    list: Vec<(Bson, Vec<State>)>,
    bytes: usize,
}

impl Groups {
    pub(crate) fn take(
        &mut self,
        id: Bson,
        fields: &[(String, Accumulator)],
        scope: &mut Scope<'_>,
        max: usize,
    ) -> Result<()> {
        let group = key(Some(&id))?;
        let position = match self.index.get(&group) {
            Some(position) => *position,
            None => {
                self.bytes += 2 * group.len() + 96 * (fields.len() + 1) + size(&id);
                self.index.insert(group, self.list.len());
                self.list.push((
                    id,
                    fields
                        .iter()
                        .map(|(_, accumulator)| accumulator.start())
                        .collect(),
                ));
                self.list.len() - 1
            }
        };
        if let Some((_, states)) = self.list.get_mut(position) {
            for ((_, accumulator), state) in fields.iter().zip(states) {
                self.bytes += accumulator.take(state, scope)?;
            }
        }
        if self.bytes > max {
            return Err(Error::TooLarge(format!(
                "$group holds more than {max} bytes"
            )));
        }
        Ok(())
    }

    pub(crate) fn finish(self, fields: &[(String, Accumulator)]) -> Vec<Document> {
        let finish = |(id, states): (Bson, Vec<State>)| {
            let mut document = Document::new();
            document.insert("_id", id);
            for ((name, accumulator), state) in fields.iter().zip(states) {
                document.insert(name, accumulator.finish(state));
            }
            document
        };
        self.list.into_iter().map(finish).collect()
    }
}
