//! `$group` and `$bucket`: accumulators, and their state for one group.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet, VecDeque};

use bson::{Bson, Document};

use crate::error::{Error, Result};
use crate::expression::{
    self, Deviation, Expression, Scope, Total, as_f64, compare, key, refuse_decimal, size,
};
use crate::keys::KeyPattern;
use crate::value;

/// An accumulator with its expression.
#[derive(Debug, Clone)]
pub(crate) struct Accumulator {
    name: &'static str,
    kind: Kind,
    expression: Expression,
    /// How many to keep, of those that keep several.
    most: usize,
    /// What `$top` and its like sort by.
    order: Option<KeyPattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Count,
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
    FirstN,
    LastN,
    MinN,
    MaxN,
    Top,
    Bottom,
    TopN,
    BottomN,
}

/// Every accumulator.
const TABLE: &[(&str, Kind)] = &[
    ("$sum", Kind::Sum),
    ("$count", Kind::Count),
    ("$avg", Kind::Avg),
    ("$min", Kind::Min),
    ("$max", Kind::Max),
    ("$first", Kind::First),
    ("$last", Kind::Last),
    ("$push", Kind::Push),
    ("$addToSet", Kind::AddToSet),
    ("$mergeObjects", Kind::MergeObjects),
    ("$stdDevPop", Kind::StdDevPop),
    ("$stdDevSamp", Kind::StdDevSamp),
    ("$firstN", Kind::FirstN),
    ("$lastN", Kind::LastN),
    ("$minN", Kind::MinN),
    ("$maxN", Kind::MaxN),
    ("$top", Kind::Top),
    ("$bottom", Kind::Bottom),
    ("$topN", Kind::TopN),
    ("$bottomN", Kind::BottomN),
];

/// The names of the accumulators.
pub(crate) fn accumulators() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// What an accumulator has gathered.
#[derive(Debug)]
pub(crate) enum State {
    Total(Total),
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
    Spread(Deviation),
    /// In the order of the keys; of equal ones, as they came.
    Ranked(VecDeque<(Vec<u8>, Bson)>),
}

impl Kind {
    /// Whether the last of a full ranking makes room, or the first.
    fn keeps_the_first(self) -> bool {
        matches!(self, Kind::FirstN | Kind::MinN | Kind::Top | Kind::TopN)
    }
}

impl Accumulator {
    pub(crate) fn compile(name: &str, operand: &Bson, names: &[String]) -> Result<Self> {
        let known = TABLE.iter().find(|(known, _)| *known == name);
        let (name, kind) =
            *known.ok_or_else(|| Error::Invalid(format!("unsupported accumulator {name}")))?;
        let mut accumulator = Accumulator {
            name,
            kind,
            expression: Expression::Literal(Bson::Int32(1)),
            most: 1,
            order: None,
        };
        let value = match kind {
            Kind::Count => {
                if !matches!(operand, Bson::Document(empty) if empty.is_empty()) {
                    return Err(Error::Invalid(
                        "$count as an accumulator needs an empty document".into(),
                    ));
                }
                return Ok(accumulator);
            }
            Kind::FirstN | Kind::LastN | Kind::MinN | Kind::MaxN => {
                let options = options(name, operand, &["input", "n"])?;
                accumulator.most = expression::count(name, options.get("n"))?;
                options.get("input")
            }
            Kind::Top | Kind::Bottom | Kind::TopN | Kind::BottomN => {
                let several = matches!(kind, Kind::TopN | Kind::BottomN);
                let known: &[&str] = if several {
                    &["sortBy", "output", "n"]
                } else {
                    &["sortBy", "output"]
                };
                let options = options(name, operand, known)?;
                if several {
                    accumulator.most = expression::count(name, options.get("n"))?;
                }
                let Some(Bson::Document(order)) = options.get("sortBy") else {
                    return Err(Error::Invalid(format!("{name} needs sortBy, a document")));
                };
                accumulator.order = Some(KeyPattern::parse(order, "sort")?);
                options.get("output")
            }
            _ => Some(operand),
        };
        let value = value.ok_or_else(|| {
            Error::Invalid(format!("{name} needs an expression for what it gathers"))
        })?;
        accumulator.expression = Expression::compile(value, names)?;
        Ok(accumulator)
    }

    pub(crate) fn start(&self) -> State {
        match self.kind {
            Kind::Sum | Kind::Count | Kind::Avg => State::Total(Total::default()),
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
            Kind::StdDevPop | Kind::StdDevSamp => State::Spread(Deviation::default()),
            _ => State::Ranked(VecDeque::new()),
        }
    }

    /// Takes a document in; answers the bytes that the state grew by.
    pub(crate) fn take(&self, state: &mut State, scope: &mut Scope<'_>) -> Result<isize> {
        let value = self.expression.evaluate(scope)?;
        let mut grown = 0;
        match state {
            State::Total(total) => total.take(self.name, value.as_ref())?,
            State::Spread(deviation) => {
                refuse_decimal(self.name, value.as_ref())?;
                if let Some(number) = value.as_ref().and_then(as_f64) {
                    deviation.take(number);
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
                        grown = bytes(&value) - best.as_ref().map_or(0, bytes);
                        *best = Some(value);
                    }
                }
            }
            State::One { value: kept, seen } => {
                if !*seen || self.kind == Kind::Last {
                    let value = value.unwrap_or(Bson::Null);
                    grown = bytes(&value) - bytes(kept);
                    (*kept, *seen) = (value, true);
                }
            }
            State::List(values) => {
                if let Some(value) = value {
                    grown = bytes(&value);
                    values.push(value);
                }
            }
            State::Set { keys, values } => {
                if let Some(value) = value {
                    let key = key(Some(&value))?;
                    let size = bytes(&value) + key.len().cast_signed();
                    if keys.insert(key) {
                        grown = size;
                        values.push(value);
                    }
                }
            }
            State::Merged(merged) => match value {
                Some(Bson::Document(document)) => {
                    grown = document
                        .iter()
                        .map(|(name, value)| name.len().cast_signed() + bytes(value))
                        .sum();
                    merged.extend(document);
                }
                None | Some(Bson::Null | Bson::Undefined) => {}
                Some(_) => return Err(Error::Invalid("$mergeObjects needs documents".into())),
            },
            State::Ranked(ranked) => grown = self.rank(ranked, value, scope)?,
        }
        Ok(grown)
    }

    /// Puts a value at its place among those that are kept.
    fn rank(
        &self,
        ranked: &mut VecDeque<(Vec<u8>, Bson)>,
        value: Option<Bson>,
        scope: &Scope<'_>,
    ) -> Result<isize> {
        let key = match (self.kind, &self.order) {
            (Kind::MinN | Kind::MaxN, _)
                if matches!(value, None | Some(Bson::Null | Bson::Undefined)) =>
            {
                return Ok(0);
            }
            (Kind::MinN | Kind::MaxN, _) => key(value.as_ref())?,
            (_, Some(order)) => order.lowest(value::encode(scope.root)?.as_bytes())?,
            // All alike: as they came.
            _ => Vec::new(),
        };
        let full = ranked.len() >= self.most;
        let first = self.kind.keeps_the_first();
        if full && first && ranked.back().is_some_and(|(last, _)| *last <= key) {
            return Ok(0);
        }
        let value = value.unwrap_or(Bson::Null);
        let entry = |(key, value): &(Vec<u8>, Bson)| key.len().cast_signed() + bytes(value) + 32;
        let place = ranked.partition_point(|(known, _)| *known <= key);
        let new = (key, value);
        let mut grown = entry(&new);
        ranked.insert(place, new);
        if full {
            let dropped = if first {
                ranked.pop_back()
            } else {
                ranked.pop_front()
            };
            grown -= dropped.as_ref().map_or(0, entry);
        }
        Ok(grown)
    }

    /// What the group gathered.
    pub(crate) fn finish(&self, state: State) -> Bson {
        match state {
            State::Total(total) if self.kind == Kind::Avg => total.mean(),
            State::Total(total) => total.sum(),
            State::Best(best) => best.unwrap_or(Bson::Null),
            State::One { value, .. } => value,
            State::List(values) | State::Set { values, .. } => Bson::Array(values),
            State::Merged(document) => Bson::Document(document),
            State::Spread(deviation) => deviation.finish(self.kind == Kind::StdDevPop),
            State::Ranked(ranked) => {
                let mut values: Vec<Bson> = ranked.into_iter().map(|(_, value)| value).collect();
                match self.kind {
                    Kind::Top | Kind::Bottom => values.pop().unwrap_or(Bson::Null),
                    Kind::MaxN => {
                        values.reverse();
                        Bson::Array(values)
                    }
                    _ => Bson::Array(values),
                }
            }
        }
    }
}

/// The size of a value, to add to and take from.
fn bytes(value: &Bson) -> isize {
    size(value).cast_signed()
}

fn options<'o>(name: &str, operand: &'o Bson, known: &[&str]) -> Result<&'o Document> {
    let Bson::Document(options) = operand else {
        return Err(Error::Invalid(format!("{name} needs a document")));
    };
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::Invalid(format!("{name} has no option '{key}'"))),
        None => Ok(options),
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
                let grown = accumulator.take(state, scope)?;
                self.bytes = self.bytes.saturating_add_signed(grown);
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
