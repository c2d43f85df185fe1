//! The embedded store as a file: backup, restore, check.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coglex_docstore::model::CheckReport;
use coglex_docstore::{Options, Store, offline};
use coglex_services::Documents;
use coglex_services::documents::DocumentLimits;

use super::progress::{Progress, count, say, size};
use super::refuse_in_use;
use crate::config::{self, Config};
use crate::files;

/// Copies the store to a file.
pub(crate) fn backup(config: &Config, target: &Path, force: bool) -> anyhow::Result<()> {
    let path = embedded(config)?;
    if !force && target.try_exists().unwrap_or_default() {
        bail!("{} is there already; --force replaces it", target.display());
    }
    let mut total = 0;
    let mut line = Progress::new();
    offline::backup(&path, target, force, &mut |done, all| {
        total = all;
        line.show(|| format!("{} of {}", size(done), size(all)));
    })?;
    drop(line);
    say(&format!(
        "backed up {} to {}",
        size(total),
        target.display()
    ))
}

/// Puts a backup in the store's place.
pub(crate) fn restore(config: &Config, backup: &Path, force: bool) -> anyhow::Result<()> {
    let path = embedded(config)?;
    config::private_dir(&config.data.dir)?;
    refuse_in_use(&path)?;
    if !force && path.try_exists().unwrap_or_default() {
        bail!(
            "there is a store at {} already; --force replaces it, and keeps it beside",
            path.display()
        );
    }
    let now = bson::DateTime::now().try_to_rfc3339_string();
    // Colons are no part of a file's name everywhere.
    let now = now.context("the clock is wrong")?.replace(':', "-");
    let restored = offline::restore(backup, &path, force, &format!("replaced-{now}"))?;
    say(&format!(
        "restored {} in {} from {}",
        count(restored.report.documents, "document"),
        count(restored.report.collections, "collection"),
        backup.display()
    ))?;
    match restored.kept {
        Some(kept) => say(&format!(
            "the store that was there is kept as {}",
            kept.display()
        )),
        None => Ok(()),
    }
}

/// Reports what is wrong with the store, and repairs what can be.
pub(crate) fn check(config: &Config, repair: bool) -> anyhow::Result<()> {
    let path = embedded(config)?;
    if repair {
        refuse_in_use(&path)?;
    }
    let report = offline::check(&path)?;
    print(&path, &report)?;
    if report.problems.is_empty() {
        return check_files(config, repair);
    }
    if !repair {
        bail!(
            "the store is damaged: `coglex check --repair` makes its indexes anew, a backup brings back the rest"
        );
    }
    rebuild(&path)?;
    say("all indexes were made anew")?;
    let report = offline::check(&path)?;
    print(&path, &report)?;
    if !report.problems.is_empty() {
        bail!("the store is still damaged: restore a backup");
    }
    check_files(config, repair)
}

/// Looks for bytes of files that no document stands for, and removes them with
/// `repair`. A server that is running does that by itself.
fn check_files(config: &Config, repair: bool) -> anyhow::Result<()> {
    let path = config.store_path();
    if !config.files_dir().is_dir() || offline::is_in_use(&path)? {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let store =
        Arc::new(Store::open(&path, Options::default()).context("the store cannot be opened")?);
    let documents = Documents::new(store.clone(), DocumentLimits::default());
    let report = runtime.block_on(async {
        let report = files::check(config, documents, !repair).await;
        store.close().await;
        report.context("the files cannot be checked")
    })?;
    let Some(report) = report else {
        return Ok(());
    };
    let left = match (report.orphans, repair) {
        (0, _) => "no left-overs of uploads".to_owned(),
        (some, true) => format!("{} of uploads removed", count(some, "left-over")),
        (some, false) => format!(
            "{} of uploads, which the next start removes",
            count(some, "left-over")
        ),
    };
    say(&format!(
        "{}: {}, {left}",
        config.files_dir().display(),
        count(report.blobs, "blob")
    ))
}

fn rebuild(path: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start")?;
    let store = Store::open(path, Options::default()).context("the store cannot be opened")?;
    runtime.block_on(async {
        let rebuilt = store.rebuild().await;
        store.close().await;
        rebuilt.context("the indexes cannot be made anew: restore a backup")
    })
}

fn print(path: &Path, report: &CheckReport) -> anyhow::Result<()> {
    let problems = match report.problems.len() {
        0 => "no problems".to_owned(),
        some => count(some as u64, "problem"),
    };
    say(&format!(
        "{}: {}, {}, {problems}",
        path.display(),
        count(report.collections, "collection"),
        count(report.documents, "document"),
    ))?;
    for problem in &report.problems {
        say(&format!("  {problem}"))?;
    }
    Ok(())
}

/// The store's file; an error when documents are not in one.
fn embedded(config: &Config) -> anyhow::Result<PathBuf> {
    if config.mongodb.uri.is_some() {
        bail!(
            "the documents are in MongoDB (the setting mongodb.uri): use mongodump and its like, or `coglex export`"
        );
    }
    Ok(config.store_path())
}
