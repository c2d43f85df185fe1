//! The documents that a plan yields, one by one, in an order that can be resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::catalog::Collection;
use crate::engine::plan::{Plan, Ranges, Target};
use crate::engine::sqlite::{Session, Sql, blob, integer};
use crate::error::{Error, Result};

/// Row numbers that an index may yield before scanning is the better plan.
const MAX_CANDIDATES: usize = 2_000_000;
/// Rows of an index that are read ahead of their documents.
const PAGE: usize = 256;
/// Documents between two looks at the clock; an expression may take its time with
/// each.
const LOOK_EVERY: usize = 16;

/// What ends a read early: its deadline, or a caller who no longer waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) deadline: Option<Instant>,
    pub(crate) abandoned: Option<Arc<AtomicBool>>,
}

impl Limits {
    /// A deadline from now; none when no time was given, or more than there is.
    pub(crate) fn within(max_time: Option<Duration>) -> Self {
        Limits {
            deadline: max_time.and_then(|time| Instant::now().checked_add(time)),
            abandoned: None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let late = self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        let abandoned = self
            .abandoned
            .as_ref()
            .is_some_and(|flag| flag.load(Ordering::Relaxed));
        if late || abandoned {
            Err(Error::Timeout)
        } else {
            Ok(())
        }
    }
}

/// Where candidates come from, in the order in which they are read.
#[derive(Debug)]
pub(crate) enum Source {
    /// All rows.
    Scan,
    /// The rows under one key of an index.
    Key { index: i64, key: Vec<u8> },
    /// These rows.
    Rows(Vec<i64>),
    /// The rows of these ranges in the order of their keys.
    Ordered { ranges: Ranges, backward: bool },
}

/// How far a read has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    /// The last row, or how many were taken from a list.
    at: i64,
    /// The last row's key, where keys give the order.
    key: Vec<u8>,
}

/// Turns a plan into rows in natural order.
pub(crate) fn resolve(
    session: &mut Session<'_>,
    collection: &Collection,
    plan: Plan,
    limits: &Limits,
) -> Result<Source> {
    match plan {
        Plan::Scan => return Ok(Source::Scan),
        Plan::Ranges(Ranges {
            target: Target::Index(index),
            ranges,
            exact: true,
            ..
        }) => {
            let key = ranges
                .into_iter()
                .next()
                .map(|(low, _)| low)
                .unwrap_or_default();
            return Ok(Source::Key {
                index: index.id,
                key,
            });
        }
        _ => {}
    }
    let mut rows = Vec::new();
    if !collect(session, collection, &plan, limits, &mut rows)? {
        return Ok(Source::Scan);
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(Source::Rows(rows))
}

/// Gathers a plan's rows; answers false when they are too many.
fn collect(
    session: &mut Session<'_>,
    collection: &Collection,
    plan: &Plan,
    limits: &Limits,
    rows: &mut Vec<i64>,
) -> Result<bool> {
    match plan {
        Plan::Scan => return Ok(false),
        Plan::Ids(keys) => {
            for key in keys {
                rows.extend(
                    session.first(Sql::RidById, collection.id, [key], |row| integer(row, 0))?,
                );
            }
        }
        Plan::Union(plans) => {
            for plan in plans {
                if !collect(session, collection, plan, limits, rows)? {
                    return Ok(false);
                }
            }
        }
        Plan::Ranges(Ranges { target, ranges, .. }) => {
            let (sql, table) = match target {
                Target::Id => (Sql::IdRange, collection.id),
                Target::Index(index) => (Sql::IndexRange, index.id),
            };
            for (low, high) in ranges {
                session.rows(sql, table, (low, high), |row| {
                    rows.push(integer(row, 0)?);
                    if rows.len().is_multiple_of(PAGE) {
                        limits.check()?;
                    }
                    Ok(rows.len() <= MAX_CANDIDATES)
                })?;
            }
        }
    }
    Ok(rows.len() <= MAX_CANDIDATES)
}

/// Shows the documents of `source` after `mark` to `visit`, until it answers
/// false. Answers where it stopped, or nothing at the end.
pub(crate) fn visit(
    session: &mut Session<'_>,
    collection: &Collection,
    source: &Source,
    mark: &Mark,
    limits: &Limits,
    mut visit: impl FnMut(i64, &[u8]) -> Result<bool>,
) -> Result<Option<Mark>> {
    let mut seen = 0_usize;
    let mut stopped = None;
    let mut show = |at: i64, key: &[u8], rid: i64, document: &[u8]| -> Result<bool> {
        seen += 1;
        if seen.is_multiple_of(LOOK_EVERY) {
            limits.check()?;
        }
        let more = visit(rid, document)?;
        if !more {
            stopped = Some(Mark {
                at,
                key: key.to_vec(),
            });
        }
        Ok(more)
    };
    match source {
        Source::Scan => {
            session.rows(Sql::Scan, collection.id, [mark.at], |row| {
                let rid = integer(row, 0)?;
                show(rid, &[], rid, blob(row, 1)?)
            })?;
        }
        Source::Key { index, key } => {
            let mut last = mark.at;
            'pages: loop {
                let mut page = Vec::with_capacity(PAGE);
                session.rows(Sql::IndexKey, *index, (key, last, PAGE as i64), |row| {
                    page.push(integer(row, 0)?);
                    Ok(true)
                })?;
                for rid in &page {
                    if !fetch(session, collection, *rid, |document| {
                        show(*rid, &[], *rid, document)
                    })? {
                        break 'pages;
                    }
                }
                match page.last() {
                    Some(rid) if page.len() == PAGE => last = *rid,
                    _ => break,
                }
            }
        }
        Source::Rows(rows) => {
            let skipped = usize::try_from(mark.at).unwrap_or_default();
            for (at, rid) in (mark.at + 1..).zip(rows.iter().skip(skipped)) {
                if !fetch(session, collection, *rid, |document| {
                    show(at, &[], *rid, document)
                })? {
                    break;
                }
            }
        }
        Source::Ordered { ranges, backward } => {
            ordered(
                session,
                collection,
                ranges,
                *backward,
                mark,
                |session, key, rid| {
                    fetch(session, collection, rid, |document| {
                        show(rid, key, rid, document)
                    })
                },
            )?;
        }
    }
    Ok(stopped)
}

/// Shows key and row of every entry of the ranges after `mark`, in order, until
/// `show` answers false.
fn ordered<'c>(
    session: &mut Session<'c>,
    collection: &Collection,
    plan: &Ranges,
    backward: bool,
    mark: &Mark,
    mut show: impl FnMut(&mut Session<'c>, &[u8], i64) -> Result<bool>,
) -> Result<()> {
    let (sql, table) = match (&plan.target, backward) {
        (Target::Id, false) => (Sql::IdForward, collection.id),
        (Target::Id, true) => (Sql::IdBackward, collection.id),
        (Target::Index(index), false) => (Sql::IndexForward, index.id),
        (Target::Index(index), true) => (Sql::IndexBackward, index.id),
    };
    let begun = !mark.key.is_empty();
    let mut ranges: Vec<&(Vec<u8>, Vec<u8>)> = plan.ranges.iter().collect();
    if backward {
        ranges.reverse();
    }
    for (low, high) in ranges {
        let (first, end) = if backward { (high, low) } else { (low, high) };
        let mut last = match begun {
            // The range lies behind the mark, or the mark within it.
            true if backward && mark.key < *low || !backward && mark.key >= *high => continue,
            true if backward && mark.key < *high || !backward && mark.key >= *low => mark.clone(),
            _ => Mark {
                at: 0,
                key: first.clone(),
            },
        };
        loop {
            let mut page = Vec::with_capacity(PAGE);
            session.rows(sql, table, (&last.key, last.at, end, PAGE as i64), |row| {
                page.push(Mark {
                    key: blob(row, 0)?.to_vec(),
                    at: integer(row, 1)?,
                });
                Ok(true)
            })?;
            for entry in &page {
                if !show(session, &entry.key, entry.at)? {
                    return Ok(());
                }
            }
            match page.pop() {
                Some(entry) if page.len() + 1 == PAGE => last = entry,
                _ => break,
            }
        }
    }
    Ok(())
}

/// Shows one row, if it is still there; answers whether to go on.
fn fetch(
    session: &mut Session<'_>,
    collection: &Collection,
    rid: i64,
    mut show: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<bool> {
    let more = session.first(Sql::GetByRid, collection.id, [rid], |row| {
        show(blob(row, 0)?)
    })?;
    Ok(more.unwrap_or(true))
}
