//! Reading inside a transaction: candidates, filtered, sorted, cut.

use std::collections::{BinaryHeap, HashSet};

use bson::{Bson, RawDocumentBuf};

use crate::engine::candidates::{Limits, Mark, Source, resolve, visit};
use crate::engine::catalog::Collection;
use crate::engine::plan::{self, Order, Plan};
use crate::engine::sqlite::{Session, Sql, integer};
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
                Some(projection) => projection.apply_to_match(document, &query.filter)?,
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
