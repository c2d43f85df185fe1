//! How to find the candidates for a filter: by `_id`, through an index, or by
//! looking at everything.
//!
//! A plan may yield too much, never too little: the filter is run on every
//! candidate. The bounds of a path are sets of intervals over encoded keys.

use std::sync::Arc;

use crate::engine::catalog::{Collection, Index};
use crate::keys::KeyPattern;
use crate::order;
use crate::path::Path;
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
    /// Read ranges of keys.
    Ranges(Ranges),
    /// All that one of these yields.
    Union(Vec<Plan>),
}

/// Ranges of keys to read.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    pub(crate) target: Target,
    /// Each `low <= key < high`; sorted, and apart from each other.
    pub(crate) ranges: Vec<(Vec<u8>, Vec<u8>)>,
    /// It is one key of an index, whose rows stand in natural order.
    pub(crate) exact: bool,
    /// The keys stand in the order that the sort asks for, or in its reverse.
    pub(crate) order: Option<Order>,
}

/// How keys follow the sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Backward,
}

/// What has the keys.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The collection's own index on `_id`.
    Id,
    Index(Arc<Index>),
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

/// A condition that an index may serve: a path and its bounds.
type Condition<'f> = (&'f str, Bounds);

/// Scores: what fixes a field is worth more than what bounds one, and an order
/// that spares a sort is worth more than bounds.
const FIXED: u32 = 10;
const BOUNDED: u32 = 3;
const HALF_BOUNDED: u32 = 2;
const ORDERED: u32 = 5;
const UNIQUE: u32 = 1_000;

/// Chooses the plan for a filter and sort. Call it inside the snapshot that will
/// run it.
pub(crate) fn choose(filter: &Filter, sort: Option<&KeyPattern>, collection: &Collection) -> Plan {
    plan(filter.conjuncts(), sort, collection)
}

fn plan(nodes: &[Node], sort: Option<&KeyPattern>, collection: &Collection) -> Plan {
    let conditions: Vec<Condition<'_>> = nodes
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
    let id = [(Path::this("_id"), false)];
    let by_id = through(&Target::Id, &id, Traits::default(), &conditions, sort);
    let by_index = collection
        .indexes
        .iter()
        .filter(|index| !index.positional())
        .filter_map(|index| {
            let traits = Traits {
                multikey: index.multikey(),
                sparse: index.spec.sparse,
                unique: index.spec.unique,
            };
            through(
                &Target::Index(Arc::clone(index)),
                index.pattern.fields(),
                traits,
                &conditions,
                sort,
            )
        });
    let best = by_id
        .into_iter()
        .chain(by_index)
        .max_by_key(|(score, _)| *score);
    match best {
        Some((score, ranges)) if score >= FIXED => Plan::Ranges(ranges),
        best => union(nodes, collection).unwrap_or_else(|| match best {
            Some((_, ranges)) => Plan::Ranges(ranges),
            None => Plan::Scan,
        }),
    }
}

/// A plan for a disjunction of which every branch has one.
fn union(nodes: &[Node], collection: &Collection) -> Option<Plan> {
    nodes.iter().find_map(|node| {
        let Node::Or(branches) = node else {
            return None;
        };
        let plans = branches.iter().map(|branch| {
            let branch = match branch {
                Node::And(nodes) => nodes.as_slice(),
                node => std::slice::from_ref(node),
            };
            match plan(branch, None, collection) {
                Plan::Scan => None,
                plan => Some(plan),
            }
        });
        plans.collect::<Option<Vec<_>>>().map(Plan::Union)
    })
}

/// What a plan must know of an index.
#[derive(Debug, Clone, Copy, Default)]
struct Traits {
    multikey: u64,
    sparse: bool,
    unique: bool,
}

/// The plan that uses an index, with its score, if it helps.
fn through(
    target: &Target,
    fields: &[(Path, bool)],
    traits: Traits,
    conditions: &[Condition<'_>],
    sort: Option<&KeyPattern>,
) -> Option<(u32, Ranges)> {
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let mut fixed = 0;
    let mut score = 0;
    let mut ranges = None;
    let mut array_used = false;
    for (position, (path, descending)) in fields.iter().enumerate() {
        let is_array = traits.multikey >> position & 1 == 1;
        // Two conditions on one array may hold for different elements, which
        // have different keys.
        let found = if is_array && array_used {
            None
        } else {
            combine(path.as_str(), conditions, !is_array)
        };
        let found = found.filter(|bounds| {
            // A sparse index does not know the documents without the field.
            !(traits.sparse && position == 0 && bounds.null)
                && prefixes.len().saturating_mul(bounds.intervals.len()) <= MAX_RANGES
        });
        let Some(bounds) = found else { break };
        array_used |= is_array;
        let pairs = prefixes.iter().flat_map(|before| {
            bounds
                .intervals
                .iter()
                .map(move |interval| (before, interval))
        });
        if !bounds.points {
            ranges = Some(
                pairs
                    .map(|(before, interval)| interval.bytes(before, *descending))
                    .collect(),
            );
            let closed =
                |interval: &Interval| interval.low.0.len() > 1 && interval.high.0.len() > 1;
            score += if bounds.intervals.iter().all(closed) {
                BOUNDED
            } else {
                HALF_BOUNDED
            };
            break;
        }
        prefixes = pairs
            .map(|(before, interval)| interval.bytes(before, *descending).0)
            .collect();
        fixed = position + 1;
        score += FIXED;
    }
    let one_prefix = prefixes.len() == 1;
    let order = match sort {
        // A document without the field is in no sparse index, and one with an
        // array is in the index more than once.
        Some(sort) if one_prefix && !traits.sparse && traits.multikey == 0 => {
            follows(sort, fields, fixed)
        }
        _ => None,
    };
    if order.is_some() {
        score += ORDERED;
    }
    if score == 0 {
        return None;
    }
    let exact = ranges.is_none()
        && one_prefix
        && fixed == fields.len()
        && matches!(target, Target::Index(_));
    if exact && traits.unique {
        score += UNIQUE;
    }
    let mut ranges: Vec<(Vec<u8>, Vec<u8>)> = ranges.unwrap_or_else(|| {
        prefixes
            .into_iter()
            .map(|prefix| (prefix.clone(), order::successor(&prefix)))
            .collect()
    });
    ranges.retain(|(low, high)| low < high);
    ranges.sort_unstable();
    ranges.dedup();
    Some((
        score,
        Ranges {
            target: target.clone(),
            ranges,
            exact,
            order,
        },
    ))
}

/// Whether keys whose first `fixed` fields are the same stand in the order of
/// `sort`.
fn follows(sort: &KeyPattern, fields: &[(Path, bool)], fixed: usize) -> Option<Order> {
    let (same, rest) = fields.split_at_checked(fixed)?;
    let mut rest = rest.iter();
    let mut order = None;
    for (path, descending) in sort.fields() {
        // What is the same everywhere orders nothing.
        if same
            .iter()
            .any(|(fixed, _)| fixed.as_str() == path.as_str())
        {
            continue;
        }
        let (next, turned) = rest.next()?;
        if next.as_str() != path.as_str() {
            return None;
        }
        let here = if turned == descending {
            Order::Forward
        } else {
            Order::Backward
        };
        if *order.get_or_insert(here) != here {
            return None;
        }
    }
    Some(order.unwrap_or(Order::Forward))
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

impl Plan {
    /// The plan in words, for `explain`.
    pub(crate) fn describe(&self) -> bson::Document {
        match self {
            Plan::Scan => bson::doc! { "stage": "scan" },
            Plan::Ids(ids) => bson::doc! { "stage": "ids", "count": ids.len() as i64 },
            Plan::Ranges(ranges) => {
                let index = match &ranges.target {
                    Target::Id => "_id_",
                    Target::Index(index) => &index.name,
                };
                bson::doc! { "stage": "index", "index": index, "ranges": ranges.ranges.len() as i64, "ordered": ranges.order.is_some() }
            }
            Plan::Union(plans) => {
                let plans: Vec<bson::Document> = plans.iter().map(Plan::describe).collect();
                bson::doc! { "stage": "union", "branches": plans }
            }
        }
    }
}
