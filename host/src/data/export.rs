//! An export: the files of a folder, or one stream.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use coglex_services::storage::IndexSpec;
use coglex_services::storage::transfer::{self, CollectionMeta, Exported, TransferStore};

use super::progress::{Progress, count, say};
use super::{BEGIN, CONTENTS, END, FORMAT};
use crate::config;

/// Bytes of a file's name, of 255 that most file systems allow.
const NAME_BYTES: usize = 150;

/// Exports the chosen collections, or all.
pub(super) async fn run(
    store: &dyn TransferStore,
    target: &Path,
    chosen: &[String],
) -> anyhow::Result<()> {
    let mut names = store.own_collections().await?;
    if let Some(missing) = chosen.iter().find(|name| !names.contains(name)) {
        bail!("there is no collection {missing}");
    }
    if !chosen.is_empty() {
        names = chosen.to_vec();
    }
    let mut done = Done::default();
    if target == Path::new("-") {
        let mut out = BufWriter::new(std::io::stdout().lock());
        stream(store, &names, &mut out, &mut done)
            .await
            .context("cannot export to standard output")?;
    } else {
        folder(store, &names, target, &mut done).await?;
    }
    done.tell(target)
}

/// What was exported, for the summary.
#[derive(Default)]
struct Done {
    collections: u64,
    exported: Exported,
    notes: Vec<String>,
}

impl Done {
    fn add(&mut self, exported: Exported) {
        self.collections += 1;
        self.exported.documents += exported.documents;
        self.exported.as_bytes += exported.as_bytes;
    }

    fn tell(self, target: &Path) -> anyhow::Result<()> {
        let mut text = format!(
            "exported {} in {}",
            count(self.exported.documents, "document"),
            count(self.collections, "collection"),
        );
        if self.exported.as_bytes > 0 {
            text += &format!(
                "; {} that Extended JSON cannot say, as bytes in $binary",
                count(self.exported.as_bytes, "document")
            );
        }
        for note in self.notes {
            text += "\n";
            text += &note;
        }
        // Standard output may be the export itself.
        match target == Path::new("-") {
            true => writeln!(std::io::stderr(), "{text}").context("cannot print"),
            false => say(&format!("{text}\nto {}", target.display())),
        }
    }
}

async fn folder(
    store: &dyn TransferStore,
    names: &[String],
    dir: &Path,
    done: &mut Done,
) -> anyhow::Result<()> {
    config::private_dir(dir)?;
    let mut entries = std::fs::read_dir(dir).context("cannot read the folder")?;
    if entries.next().is_some() {
        bail!("the folder {} is not empty", dir.display());
    }
    let mut taken = HashSet::new();
    let mut contents = Vec::new();
    for name in names {
        let mut meta = describe(store, name, done).await?;
        let file = file_name(name, &mut taken);
        let path = dir.join(&file);
        let mut out = BufWriter::new(create(&path)?);
        let exported = documents(store, name, &mut out)
            .await
            .with_context(|| format!("cannot export the collection {name}"))?;
        sync(out).with_context(|| format!("cannot write {}", path.display()))?;
        meta.documents = Some(exported.documents);
        meta.file = Some(file);
        contents.push(meta.to_line("name"));
        done.add(exported);
    }
    // Last: a folder without it is no export.
    let path = dir.join(CONTENTS);
    let mut out = BufWriter::new(create(&path)?);
    let text = contents.join(",\n");
    writeln!(
        out,
        "{{\"format\":\"{FORMAT}\",\"version\":1,\"collections\":[\n{text}\n]}}"
    )
    .and_then(|()| sync(out))
    .with_context(|| format!("cannot write {}", path.display()))?;
    if cfg!(unix) {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.with_context(|| format!("cannot write {}", dir.display()))?;
    }
    Ok(())
}

async fn stream(
    store: &dyn TransferStore,
    names: &[String],
    out: &mut dyn Write,
    done: &mut Done,
) -> anyhow::Result<()> {
    for name in names {
        let meta = describe(store, name, done).await?;
        writeln!(out, "{}", meta.to_line(BEGIN))?;
        done.add(documents(store, name, out).await?);
    }
    writeln!(
        out,
        "{{\"{END}\":{{\"collections\":{},\"documents\":{}}}}}",
        done.collections, done.exported.documents
    )?;
    out.flush()?;
    Ok(())
}

async fn describe(
    store: &dyn TransferStore,
    name: &str,
    done: &mut Done,
) -> anyhow::Result<CollectionMeta> {
    let mut indexes = store.own_indexes(name).await?;
    // Stores list them in orders of their own.
    indexes.portable.sort_by_key(IndexSpec::name);
    for (index, why) in indexes.left_out {
        done.notes
            .push(format!("{name}: the index {index} is left out: {why}"));
    }
    Ok(CollectionMeta {
        name: name.to_owned(),
        indexes: indexes.portable,
        validator: store.validator(name).await?,
        ..CollectionMeta::default()
    })
}

async fn documents(
    store: &dyn TransferStore,
    name: &str,
    out: &mut dyn Write,
) -> anyhow::Result<Exported> {
    let mut line = Progress::new();
    let shown = &mut |documents| line.show(|| format!("{name}: {}", count(documents, "document")));
    Ok(transfer::export(store, name, out, shown).await?)
}

/// A name that every file system takes, and that tells what is in it.
fn file_name(collection: &str, taken: &mut HashSet<String>) -> String {
    let mut base = String::new();
    for byte in collection.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-')
            || (byte == b'.' && !base.is_empty());
        if plain {
            base.push(char::from(byte));
        } else {
            base += &format!("%{byte:02X}");
        }
        if base.len() >= NAME_BYTES {
            break;
        }
    }
    let mut name = format!("{base}.jsonl");
    let mut number = 1;
    // On some file systems `A` and `a` are the same.
    while !taken.insert(name.to_ascii_lowercase()) {
        number += 1;
        name = format!("{base}~{number}.jsonl");
    }
    name
}

fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Password hashes are among what is written.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

fn sync(out: BufWriter<File>) -> std::io::Result<()> {
    out.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_of_their_own_that_lead_nowhere() {
        let mut taken = HashSet::new();
        let mut name = |collection| file_name(collection, &mut taken);
        assert_eq!(name("users"), "users.jsonl");
        assert_eq!(name("Users"), "Users~2.jsonl");
        assert_eq!(name("fs.files"), "fs.files.jsonl");
        assert_eq!(name("a/b\\c"), "a%2Fb%5Cc.jsonl");
        assert_eq!(name("..x"), "%2E.x.jsonl");
        assert_eq!(name("ü"), "%C3%BC.jsonl");
        let long = "ü".repeat(100);
        let (first, second) = (name(&long), name(&long));
        assert!(first.len() < 200 && second.len() < 200 && first != second);
    }
}
