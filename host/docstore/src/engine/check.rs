//! Whether the file is what it should be: sound pages, sound documents, and
//! indexes that hold exactly the keys of their documents.

use crate::engine::candidates::{self, Limits, Mark, Source};
use crate::engine::catalog::{Catalog, Collection};
use crate::engine::sqlite::{Session, Sql, integer, unavailable};
use crate::engine::write::indexed;
use crate::error::Result;
use crate::model::CheckReport;
use crate::order;
use crate::validate;
use crate::value::{Corrupt, field};

/// Problems that a report lists; one is enough to act on.
const MAX_PROBLEMS: usize = 100;

/// Reads everything, on one snapshot.
pub(crate) fn check(
    session: &mut Session<'_>,
    catalog: &Catalog,
    limits: &Limits,
) -> Result<CheckReport> {
    session.snapshot(|session| {
        let mut report = CheckReport::default();
        for problem in integrity(session)? {
            note(&mut report, problem);
        }
        for name in catalog.names() {
            if let Some(collection) = catalog.get(&name) {
                report.collections += 1;
                documents(session, &name, collection, limits, &mut report)?;
            }
        }
        Ok(report)
    })
}

fn note(report: &mut CheckReport, problem: String) {
    if report.problems.len() < MAX_PROBLEMS {
        report.problems.push(problem);
    }
}

/// SQLite's own check of its pages.
fn integrity(session: &Session<'_>) -> Result<Vec<String>> {
    let mut statement = session
        .connection
        .prepare("PRAGMA integrity_check(10)")
        .map_err(unavailable)?;
    let rows = statement
        .query_map([], |row| row.get::<_, String>(0))
        .map_err(unavailable)?;
    let mut problems = Vec::new();
    for row in rows {
        let row = row.map_err(unavailable)?;
        if row != "ok" {
            problems.push(row);
        }
    }
    Ok(problems)
}

fn documents(
    session: &mut Session<'_>,
    name: &str,
    collection: &Collection,
    limits: &Limits,
    report: &mut CheckReport,
) -> Result<()> {
    let mut expected = vec![0_u64; collection.indexes.len()];
    let mut mark = Mark::default();
    loop {
        // In portions, as the lookups need the session between them.
        let mut portion = Vec::new();
        let mut bytes = 0;
        let stopped = candidates::visit(
            session,
            collection,
            &Source::Scan,
            &mark,
            limits,
            |rid, document| {
                bytes += document.len();
                portion.push((rid, document.to_vec()));
                Ok(bytes < 4 << 20)
            },
        )?;
        for (rid, document) in portion {
            report.documents += 1;
            if let Err(problem) = validate::document(&document, usize::MAX) {
                note(report, format!("{name}: row {rid}: {problem}"));
                continue;
            }
            let id = field(&document, b"_id")?.ok_or(Corrupt)?;
            let mut key = Vec::new();
            order::encode(id, &mut key)?;
            if session.first(Sql::RidById, collection.id, [key], |row| integer(row, 0))?
                != Some(rid)
            {
                note(report, format!("{name}: row {rid} is not found by its _id"));
            }
            for (index, count) in collection.indexes.iter().zip(&mut expected) {
                let keys = indexed(index, index.pattern.extract(&document)?);
                *count += keys.len() as u64;
                for key in keys {
                    let found = session.first(Sql::IndexEntry, index.id, (key, rid), |_| Ok(()))?;
                    if found.is_none() {
                        note(
                            report,
                            format!("{name}: index {} lacks a key of row {rid}", index.name),
                        );
                    }
                }
            }
        }
        match stopped {
            Some(at) => mark = at,
            None => break,
        }
    }
    for (index, expected) in collection.indexes.iter().zip(expected) {
        let entries = session.first(Sql::IndexCount, index.id, [], |row| integer(row, 0))?;
        let entries = entries.unwrap_or_default().unsigned_abs();
        if entries != expected {
            note(
                report,
                format!(
                    "{name}: index {} has {entries} entries; its documents have {expected}",
                    index.name
                ),
            );
        }
    }
    Ok(())
}
