//! Reading inside a transaction: candidates of a plan, filtered, sorted, cut.

use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bson::{Bson, RawDocumentBuf};

use crate::engine::catalog::Collection;
use crate::engine::plan::{self, Order, Plan, Ranges, Target};
use crate::engine::sqlite::{Session, Sql, blob, integer};
use crate::error::{Error, Result};
use crate::keys::KeyPattern;
use crate::path::{Leaf, Path};
use crate::projection::Projection;
use crate::query::Filter;
use crate::value::{Kind, Value};

/// Documents of one batch, at most.
const BATCH_DOCUMENTS: usize = 1_000;
/// Bytes of one batch, beyond its first document.
const BATCH_BYTES: usize = 1 << 20;
/// Row numbers that an index may yield before scanning is the better plan.
const MAX_CANDIDATES: usize = 2_000_000;
/// Rows between two looks at the clock.
const CHECK_EVERY: usize = 256;

/// What ends a read early: its deadline, or a caller who no longer waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) deadline: Option<Instant>,
    pub(crate) abandoned: Option<Arc<AtomicBool>>,
}

impl Limits {
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

/// A find, compiled.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    pub(crate) projection: Option<Projection>,
    pub(crate) sort: Option<KeyPattern>,
    pub(crate) skip: u64,
    pub(crate) limit: Option<u64>,
    /// Bytes that a sort may hold.
    pub(crate) max_sort_bytes: usize,
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

/// How far a find has come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// None until the first batch has planned it.
    source: Option<Source>,
    mark: Mark,
    skip: u64,
    left: u64,
}

impl Progress {
    pub(crate) fn start(query: &Query) -> Self {
        Progress {
            source: None,
            mark: Mark::default(),
            skip: query.skip,
            left: query.limit.unwrap_or(u64::MAX),
        }
    }
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
                    if rows.len().is_multiple_of(CHECK_EVERY) {
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
        if seen.is_multiple_of(CHECK_EVERY) {
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
                let mut page = Vec::with_capacity(CHECK_EVERY);
                session.rows(
                    Sql::IndexKey,
                    *index,
                    (key, last, CHECK_EVERY as i64),
                    |row| {
                        page.push(integer(row, 0)?);
                        Ok(true)
                    },
                )?;
                for rid in &page {
                    if !fetch(session, collection, *rid, |document| {
                        show(*rid, &[], *rid, document)
                    })? {
                        break 'pages;
                    }
                }
                match page.last() {
                    Some(rid) if page.len() == CHECK_EVERY => last = *rid,
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
            let mut page = Vec::with_capacity(CHECK_EVERY);
            session.rows(
                sql,
                table,
                (&last.key, last.at, end, CHECK_EVERY as i64),
                |row| {
                    page.push(Mark {
                        key: blob(row, 0)?.to_vec(),
                        at: integer(row, 1)?,
                    });
                    Ok(true)
                },
            )?;
            for entry in &page {
                if !show(session, &entry.key, entry.at)? {
                    return Ok(());
                }
            }
            match page.pop() {
                Some(entry) if page.len() + 1 == CHECK_EVERY => last = entry,
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

/// The next documents of a find; none at its end.
pub(crate) fn batch(
    session: &mut Session<'_>,
    collection: &Collection,
    query: &Query,
    progress: &mut Progress,
    limits: &Limits,
) -> Result<Option<Vec<RawDocumentBuf>>> {
    let resumed = match &progress.source {
        // Should the index be gone, the rows after the last one go on without.
        Some(Source::Key { .. }) => Some(Source::Scan),
        _ => None,
    };
    let answer = portion(session, collection, query, progress, limits);
    if answer.as_ref().is_err_and(crate::engine::sqlite::is_stale) && resumed.is_some() {
        progress.source = resumed;
    }
    answer
}

/// As [`batch`], inside the caller's snapshot if there is one.
pub(crate) fn portion(
    session: &mut Session<'_>,
    collection: &Collection,
    query: &Query,
    progress: &mut Progress,
    limits: &Limits,
) -> Result<Option<Vec<RawDocumentBuf>>> {
    if progress.left == 0 {
        return Ok(None);
    }
    limits.check()?;
    session.snapshot(|session| {
        let source = match progress.source.take() {
            Some(source) => source,
            None => {
                let plan = plan::choose(&query.filter, query.sort.as_ref(), collection);
                match (plan, &query.sort) {
                    (Plan::Ranges(ranges), Some(_)) if ranges.order.is_some() => {
                        let backward = ranges.order == Some(Order::Backward);
                        Source::Ordered { ranges, backward }
                    }
                    (plan, None) => resolve(session, collection, plan, limits)?,
                    (plan, Some(pattern)) => {
                        let source = resolve(session, collection, plan, limits)?;
                        let rows = sort(session, collection, &source, query, pattern, limits)?;
                        progress.skip = 0;
                        Source::Rows(rows)
                    }
                }
            }
        };
        let mut documents = Vec::new();
        let mut bytes = 0;
        let Progress {
            skip, left, mark, ..
        } = progress;
        let stopped = visit(session, collection, &source, mark, limits, |_, document| {
            // Rows that were chosen in an earlier snapshot may have changed.
            if !query.filter.matches(document)? {
                return Ok(true);
            }
            if *skip > 0 {
                *skip -= 1;
                return Ok(true);
            }
            let shown = match &query.projection {
                Some(projection) => projection.apply(document)?,
                None => RawDocumentBuf::from_bytes(document.to_vec())
                    .map_err(|_| crate::value::Corrupt)?,
            };
            bytes += shown.as_bytes().len();
            documents.push(shown);
            *left -= 1;
            Ok(*left > 0 && documents.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES)
        })?;
        match stopped {
            Some(at) => *mark = at,
            None => *left = 0,
        }
        progress.source = Some(source);
        Ok((!documents.is_empty()).then_some(documents))
    })
}

/// The matching rows in the order of `pattern`, those to skip left out.
fn sort(
    session: &mut Session<'_>,
    collection: &Collection,
    source: &Source,
    query: &Query,
    pattern: &KeyPattern,
    limits: &Limits,
) -> Result<Vec<i64>> {
    let wanted = query.limit.map(|limit| query.skip.saturating_add(limit));
    let wanted = wanted.map_or(usize::MAX, |wanted| {
        usize::try_from(wanted).unwrap_or(usize::MAX)
    });
    // A heap with the highest key on top holds the lowest ones seen so far.
    let mut heap: BinaryHeap<(Vec<u8>, i64)> = BinaryHeap::new();
    let mut bytes = 0;
    visit(
        session,
        collection,
        source,
        &Mark::default(),
        limits,
        |rid, document| {
            if !query.filter.matches(document)? {
                return Ok(true);
            }
            let key = pattern.lowest(document)?;
            if heap.len() >= wanted {
                match heap.peek() {
                    Some((highest, _)) if key < *highest => {}
                    _ => return Ok(true),
                }
                if let Some((dropped, _)) = heap.pop() {
                    bytes -= dropped.len() + SORT_ENTRY;
                }
            }
            bytes += key.len() + SORT_ENTRY;
            if bytes > query.max_sort_bytes {
                return Err(Error::TooLarge(format!(
                    "the sort holds more than {} bytes; use a limit, a filter or an index",
                    query.max_sort_bytes
                )));
            }
            heap.push((key, rid));
            Ok(true)
        },
    )?;
    let skip = usize::try_from(query.skip).unwrap_or(usize::MAX);
    Ok(heap
        .into_sorted_vec()
        .into_iter()
        .skip(skip)
        .map(|(_, rid)| rid)
        .collect())
}

/// What an entry of a sort takes beside its key.
const SORT_ENTRY: usize = 48;

/// The different values at `path` of the documents that match, arrays taken
/// apart.
pub(crate) fn distinct(
    session: &mut Session<'_>,
    collection: &Collection,
    path: &Path,
    filter: &Filter,
    max_bytes: usize,
    limits: &Limits,
) -> Result<Vec<Bson>> {
    let mut seen = HashSet::new();
    let mut values = Vec::new();
    let mut bytes = 0;
    session.snapshot(|session| {
        let plan = plan::choose(filter, None, collection);
        let source = resolve(session, collection, plan, limits)?;
        visit(
            session,
            collection,
            &source,
            &Mark::default(),
            limits,
            |_, document| {
                if !filter.matches(document)? {
                    return Ok(true);
                }
                let mut found = Vec::new();
                path.any(Value::document(document), Leaf::Whole, &mut |value| {
                    match value {
                        Some(array) if array.kind == Kind::Array => {
                            for element in array.values() {
                                found.push(element?);
                            }
                        }
                        other => found.extend(other),
                    }
                    Ok(false)
                })?;
                for value in found {
                    let mut key = Vec::new();
                    crate::order::encode(value, &mut key)?;
                    let size = key.len() + value.bytes.len() + SORT_ENTRY;
                    if seen.insert(key) {
                        values.push(value.to_bson()?);
                        bytes += size;
                    }
                    if bytes > max_bytes {
                        return Err(Error::TooLarge(format!(
                            "the distinct values have more than {max_bytes} bytes"
                        )));
                    }
                }
                Ok(true)
            },
        )
    })?;
    Ok(values)
}

/// How many documents match.
pub(crate) fn count(
    session: &mut Session<'_>,
    collection: &Collection,
    filter: &Filter,
    limits: &Limits,
) -> Result<u64> {
    if filter.is_empty() {
        let count = session.first(Sql::Count, collection.id, [], |row| integer(row, 0))?;
        return Ok(count.unwrap_or_default().unsigned_abs());
    }
    session.snapshot(|session| {
        let plan = plan::choose(filter, None, collection);
        let source = resolve(session, collection, plan, limits)?;
        let mut count = 0;
        visit(
            session,
            collection,
            &source,
            &Mark::default(),
            limits,
            |_, document| {
                count += u64::from(filter.matches(document)?);
                Ok(true)
            },
        )?;
        Ok(count)
    })
}
