//! How to find the candidates for a filter: by `_id`, through an index, or by
//! looking at everything.
//!
//! A plan may yield too much, never too little: the filter is run on every
//! candidate. The bounds of a path are sets of intervals over encoded keys.

use std::sync::Arc;

use crate::engine::catalog::{Collection, Index};
use crate::order;
use crate::query::{Comparison, Filter, Node, Test};
use crate::value::{Kind, OwnedValue, Value};

/// Ranges that one plan may look up.
const MAX_RANGES: usize = 2_000;

/// How to find candidates.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Look at every document.
    Scan,
    /// Look these encoded identifiers up.
    Ids(Vec<Vec<u8>>),
    /// Read these ranges of an index, each `low <= key < high`.
    Index {
        index: Arc<Index>,
        ranges: Vec<(Vec<u8>, Vec<u8>)>,
        exact: bool,
    },
}

/// The values that one path may have, as intervals of encoded values.
#[derive(Debug, Clone)]
struct Bounds {
    intervals: Vec<Interval>,
    /// All intervals are single values.
    points: bool,
    /// Null, and so a missing field, is among them.
    null: bool,
}

/// From one encoded prefix to another. An inclusive end takes in everything that
/// starts with it.
#[derive(Debug, Clone)]
struct Interval {
    low: (Vec<u8>, bool),
    high: (Vec<u8>, bool),
}

impl Interval {
    fn prefix(prefix: Vec<u8>) -> Self {
        Interval {
            low: (prefix.clone(), true),
            high: (prefix, true),
        }
    }

    /// The interval as bytes, `low <= key < high`, below `before`.
    fn bytes(&self, before: &[u8], descending: bool) -> (Vec<u8>, Vec<u8>) {
        let ((low, low_in), (high, high_in)) = (&self.low, &self.high);
        let join = |end: &[u8]| -> Vec<u8> {
            let turned = end
                .iter()
                .map(|byte| if descending { !byte } else { *byte });
            before.iter().copied().chain(turned).collect()
        };
        let (first, first_in, last, last_in) = if descending {
            (high, *high_in, low, *low_in)
        } else {
            (low, *low_in, high, *high_in)
        };
        let (first, last) = (join(first), join(last));
        (
            if first_in {
                first
            } else {
                order::successor(&first)
            },
            if last_in {
                order::successor(&last)
            } else {
                last
            },
        )
    }
}

/// Chooses the plan for a filter. Call it inside the snapshot that will run it.
pub(crate) fn choose(filter: &Filter, collection: &Collection) -> Plan {
    let conditions: Vec<(&str, Bounds)> = filter
        .conjuncts()
        .iter()
        .filter_map(|node| match node {
            Node::Field { path, test } => Some((path.as_str(), bounds(test)?)),
            _ => None,
        })
        .collect();
    if let Some((_, ids)) = conditions
        .iter()
        .find(|(path, bounds)| *path == "_id" && bounds.points)
    {
        return Plan::Ids(
            ids.intervals
                .iter()
                .map(|interval| interval.low.0.clone())
                .collect(),
        );
    }
    collection
        .indexes
        .iter()
        .filter_map(|index| through(index, &conditions))
        .max_by_key(|(score, _)| *score)
        .map_or(Plan::Scan, |(_, plan)| plan)
}

/// The plan that uses `index`, with a score, if the conditions allow one.
fn through(index: &Arc<Index>, conditions: &[(&str, Bounds)]) -> Option<(u32, Plan)> {
    if index.positional() {
        return None;
    }
    let multikey = index.multikey();
    let fields = index.pattern.fields();
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let mut ranges = Vec::new();
    let mut score = 0;
    let mut exact = true;
    let mut array_used = false;
    for (position, (path, descending)) in fields.iter().enumerate() {
        let is_array = multikey >> position & 1 == 1;
        // Two conditions on one array may hold for different elements, which
        // have different keys.
        let found = if is_array && array_used {
            None
        } else {
            combine(path.as_str(), conditions, !is_array)
        };
        let found = found.filter(|bounds| {
            // A sparse index does not know the documents without the field.
            !(index.spec.sparse && position == 0 && bounds.null)
                && prefixes.len().saturating_mul(bounds.intervals.len()) <= MAX_RANGES
        });
        let Some(bounds) = found else {
            exact = false;
            break;
        };
        array_used |= is_array;
        let pairs = prefixes.iter().flat_map(|before| {
            bounds
                .intervals
                .iter()
                .map(move |interval| (before, interval))
        });
        if !bounds.points {
            ranges = pairs
                .map(|(before, interval)| interval.bytes(before, *descending))
                .collect();
            exact = false;
            score += if bounds
                .intervals
                .iter()
                .all(|interval| interval.low.0.len() > 1 && interval.high.0.len() > 1)
            {
                3
            } else {
                2
            };
            break;
        }
        prefixes = pairs
            .map(|(before, interval)| interval.bytes(before, *descending).0)
            .collect();
        score += 10;
    }
    if score == 0 {
        return None;
    }
    if ranges.is_empty() {
        ranges = prefixes
            .into_iter()
            .map(|prefix| (prefix.clone(), order::successor(&prefix)))
            .collect();
    }
    ranges.retain(|(low, high)| low < high);
    ranges.sort_unstable();
    ranges.dedup();
    let exact = exact && ranges.len() == 1;
    if exact && index.spec.unique {
        score += 1_000;
    }
    Some((
        score,
        Plan::Index {
            index: Arc::clone(index),
            ranges,
            exact,
        },
    ))
}

/// The tightest bounds that the conditions give for `path`. Two half-open
/// ranges may only be intersected where no document has an array.
fn combine(path: &str, conditions: &[(&str, Bounds)], intersect: bool) -> Option<Bounds> {
    let mut best: Option<Bounds> = None;
    for (_, bounds) in conditions.iter().filter(|(named, _)| *named == path) {
        best = Some(match best {
            None => bounds.clone(),
            Some(best) if best.points => best,
            Some(_) if bounds.points => bounds.clone(),
            Some(best) if intersect => intersection(best, bounds),
            Some(best) => best,
        });
    }
    best
}

fn intersection(a: Bounds, b: &Bounds) -> Bounds {
    let ([x], [y]) = (a.intervals.as_slice(), b.intervals.as_slice()) else {
        return a;
    };
    // An exclusive low end is above the inclusive one of the same prefix, an
    // exclusive high end below it; a longer prefix is the tighter one.
    let low = if (&y.low.0, !y.low.1) > (&x.low.0, !x.low.1) {
        &y.low
    } else {
        &x.low
    };
    let end = |(prefix, inclusive): &(Vec<u8>, bool)| {
        if *inclusive {
            order::successor(prefix)
        } else {
            prefix.clone()
        }
    };
    let high = if end(&y.high) < end(&x.high) {
        &y.high
    } else {
        &x.high
    };
    Bounds {
        intervals: vec![Interval {
            low: low.clone(),
            high: high.clone(),
        }],
        points: false,
        null: a.null && b.null,
    }
}

/// The bounds that a test puts on its path, if indexes can serve it.
fn bounds(test: &Test) -> Option<Bounds> {
    match test {
        Test::Compare {
            comparison,
            operand,
        } => compared(*comparison, operand.get()),
        Test::In {
            values, patterns, ..
        } if patterns.is_empty() => {
            let mut all = Bounds {
                intervals: Vec::new(),
                points: true,
                null: false,
            };
            for value in values {
                let one = compared(Comparison::Eq, value.get())?;
                all.points &= one.points;
                all.null |= one.null;
                all.intervals.extend(one.intervals);
            }
            Some(all)
        }
        Test::Matches(pattern) => {
            let prefix = encode(
                OwnedValue::encode(&bson::Bson::String(pattern.prefix()?))
                    .ok()?
                    .get(),
            )?;
            // Without its terminator, the key is a prefix of all longer strings.
            let prefix = prefix.strip_suffix(&[0, 0])?.to_vec();
            // A stored pattern matches itself.
            let regexes = vec![order::class(Kind::Regex)];
            Some(Bounds {
                intervals: vec![Interval::prefix(prefix), Interval::prefix(regexes)],
                points: false,
                null: false,
            })
        }
        _ => None,
    }
}

fn compared(comparison: Comparison, operand: Value<'_>) -> Option<Bounds> {
    match operand.kind {
        // An array may match as a whole or as an element of one, and these
        // have other keys. The ends of the order are no type of their own.
        Kind::Array | Kind::MinKey | Kind::MaxKey | Kind::Regex | Kind::Undefined => return None,
        Kind::Null if matches!(comparison, Comparison::Gt | Comparison::Lt) => return None,
        Kind::Null => {
            // A missing field is indexed as null, an empty array as undefined.
            let interval = Interval {
                low: (vec![order::class(Kind::Undefined)], true),
                high: (vec![order::class(Kind::Null)], true),
            };
            return Some(Bounds {
                intervals: vec![interval],
                points: false,
                null: true,
            });
        }
        _ => {}
    }
    let value = encode(operand)?;
    let class = vec![order::class(operand.kind)];
    let interval = match comparison {
        Comparison::Eq => {
            return Some(Bounds {
                intervals: vec![Interval::prefix(value)],
                points: true,
                null: false,
            });
        }
        Comparison::Gt => Interval {
            low: (value, false),
            high: (class, true),
        },
        Comparison::Gte => Interval {
            low: (value, true),
            high: (class, true),
        },
        Comparison::Lt => Interval {
            low: (class, true),
            high: (value, false),
        },
        Comparison::Lte => Interval {
            low: (class, true),
            high: (value, true),
        },
    };
    Some(Bounds {
        intervals: vec![interval],
        points: false,
        null: false,
    })
}

fn encode(value: Value<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    order::encode(value, &mut out).ok()?;
    Some(out)
}
