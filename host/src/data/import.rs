//! An import: from the files of an export, or from one stream of lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Component, Path};

use anyhow::{Context as _, bail};
use bson::{Bson, Document};
use coglex_services::json;
use coglex_services::storage::transfer::{
    CollectionMeta, Existing, Loaded, Loader, TransferError, TransferStore, line, occupied,
};

use super::progress::{Progress, count, say};
use super::{BEGIN, CONTENTS, END, FORMAT};

/// Bytes of a line. The text of a 16 MiB document is some five times as long.
const MAX_LINE: u64 = 256 << 20;
/// Bytes of the list of collections.
const MAX_CONTENTS: u64 = 64 << 20;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// What is told when the check before a `--drop` finds something.
const UNTOUCHED: &str = "nothing was dropped or imported";

const HINT: &str = "--drop replaces what is there, --upsert adds to it and continues an import that was broken off";

/// Imports the chosen collections, or all that the source has.
pub(super) async fn run(
    store: &dyn TransferStore,
    source: &Path,
    chosen: &[String],
    existing: Existing,
) -> anyhow::Result<()> {
    let mut import = Import {
        store,
        existing,
        chosen,
        only_checks: false,
        collections: 0,
        total: Loaded::default(),
    };
    // A pipe can be read but once.
    let is_pipe = source == Path::new("-");
    if existing == Existing::Drop && !is_pipe && (source.is_dir() || source.is_file()) {
        let mut check = Import {
            only_checks: true,
            ..import
        };
        check.whole(source).await.context(UNTOUCHED)?;
        import = Import {
            only_checks: false,
            collections: 0,
            total: Loaded::default(),
            ..check
        };
    }
    if is_pipe {
        let stdin = BufReader::with_capacity(BUFFER, std::io::stdin().lock());
        import
            .stream(Lines::new(stdin))
            .await
            .context("standard input")?;
    } else {
        import.whole(source).await?;
    }
    let mut text = format!(
        "imported {} in {}",
        count(import.total.documents, "document"),
        count(import.collections, "collection")
    );
    if import.total.unchanged > 0 {
        text += &format!("; {} of them were there already", import.total.unchanged);
    }
    say(&text)
}

struct Import<'a> {
    store: &'a dyn TransferStore,
    existing: Existing,
    chosen: &'a [String],
    /// Reads all, and leaves the store alone.
    only_checks: bool,
    collections: u64,
    total: Loaded,
}

impl<'a> Import<'a> {
    /// A folder, or a file.
    async fn whole(&mut self, source: &Path) -> anyhow::Result<()> {
        if source.is_dir() {
            return self.folder(source).await;
        }
        let file = open(source)?;
        self.stream(Lines::new(file))
            .await
            .with_context(|| source.display().to_string())
    }

    /// The files of an export.
    async fn folder(&mut self, dir: &Path) -> anyhow::Result<()> {
        let path = dir.join(CONTENTS);
        let mut contents = contents(&path).with_context(|| path.display().to_string())?;
        let known: Vec<&str> = contents.iter().map(|meta| meta.name.as_str()).collect();
        let missing = self
            .chosen
            .iter()
            .find(|name| !known.contains(&name.as_str()));
        if let Some(missing) = missing {
            bail!("the export has no collection {missing}");
        }
        contents.retain(|meta| self.wants(&meta.name));
        if self.existing == Existing::Refuse {
            // All are looked at before the first is filled.
            let names: Vec<&str> = contents.iter().map(|meta| meta.name.as_str()).collect();
            let occupied = occupied(self.store, &names).await?;
            if let Some(name) = occupied.first() {
                let more = match occupied.len() {
                    1 => String::new(),
                    some => format!(", and so do {} others", some - 1),
                };
                bail!("the collection {name} holds documents already{more}: {HINT}");
            }
        }
        for meta in contents {
            let file = meta.file.as_deref().unwrap_or_default();
            let path = dir.join(file);
            let lines = Lines::new(open(&path)?);
            let loaded = self
                .collection(&meta, lines)
                .await
                .with_context(|| path.display().to_string())?;
            if meta.documents.is_some_and(|there| there != loaded) {
                bail!(
                    "{} holds {}, and {CONTENTS} says {}: a part is missing",
                    path.display(),
                    count(loaded, "document"),
                    meta.documents.unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    async fn collection<R: BufRead>(
        &mut self,
        meta: &CollectionMeta,
        mut lines: Lines<R>,
    ) -> anyhow::Result<u64> {
        let mut target = self.begin(&meta.name).await?;
        let mut shown = Progress::new();
        while let Some((number, text)) = lines.next()? {
            target.add(number, text, &meta.name, &mut shown).await?;
        }
        let loaded = target.finish(meta).await?;
        self.count(loaded);
        Ok(loaded.documents)
    }

    /// Lines that say themselves where they belong, or all belong to the one
    /// collection that was named.
    async fn stream<R: BufRead>(&mut self, mut lines: Lines<R>) -> anyhow::Result<()> {
        let mut target: Option<(Target<'a>, CollectionMeta)> = None;
        let mut shown = Progress::new();
        let mut has_marks = false;
        let mut ended = false;
        while let Some((number, text)) = lines.next()? {
            match mark(text).with_context(|| format!("line {number}"))? {
                Some(_) if ended || (!has_marks && target.is_some()) => {
                    bail!("line {number}: a mark is out of place")
                }
                Some(Mark::Begin(meta)) => {
                    has_marks = true;
                    self.end(target.take()).await?;
                    if self.wants(&meta.name) {
                        target = Some((self.begin(&meta.name).await?, meta));
                    }
                }
                Some(Mark::End) => {
                    ended = true;
                    self.end(target.take()).await?;
                }
                None if ended => bail!("line {number}: the text goes on after its end"),
                None => {
                    if !has_marks && target.is_none() {
                        let [name] = self.chosen else {
                            bail!(
                                "line {number}: the text does not say to which collection it belongs; give one --collection"
                            );
                        };
                        let meta = CollectionMeta {
                            name: name.clone(),
                            ..CollectionMeta::default()
                        };
                        target = Some((self.begin(name).await?, meta));
                    }
                    if let Some((target, meta)) = &mut target {
                        target.add(number, text, &meta.name, &mut shown).await?;
                    }
                }
            }
        }
        let cut_off = has_marks && !ended;
        if let Some((Target::Store(loader), meta)) = &target
            && cut_off
            && loader.is_untouched()
        {
            bail!(
                "the text was cut off: its end is missing. The collection {} is as it was",
                meta.name
            );
        }
        self.end(target.take()).await?;
        if cut_off && self.only_checks {
            bail!("the text was cut off: its end is missing");
        }
        if cut_off {
            bail!("the text was cut off: its end is missing. What was there is imported");
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.chosen.is_empty() || self.chosen.iter().any(|chosen| chosen == name)
    }

    async fn begin(&self, name: &str) -> anyhow::Result<Target<'a>> {
        if self.only_checks {
            return Ok(Target::Check(self.store, Loaded::default()));
        }
        Loader::start(self.store, name, self.existing)
            .await
            .map(Target::Store)
            .map_err(|error| match error {
                TransferError::Occupied(_) => anyhow::anyhow!("{error}: {HINT}"),
                other => other.into(),
            })
    }

    async fn end(&mut self, target: Option<(Target<'a>, CollectionMeta)>) -> anyhow::Result<()> {
        if let Some((target, meta)) = target {
            let loaded = target.finish(&meta).await.map_err(|error| match error {
                // The line says where it is.
                TransferError::Line { .. } => anyhow::Error::from(error),
                _ => anyhow::Error::from(error).context(format!("the collection {}", meta.name)),
            });
            self.count(loaded?);
        }
        Ok(())
    }

    fn count(&mut self, loaded: Loaded) {
        self.collections += 1;
        self.total.documents += loaded.documents;
        self.total.unchanged += loaded.unchanged;
    }
}

/// Where the documents of a collection go.
enum Target<'a> {
    Store(Loader<'a>),
    /// Nowhere: they are only read, for a store.
    Check(&'a dyn TransferStore, Loaded),
}

impl Target<'_> {
    async fn add(
        &mut self,
        number: u64,
        text: &[u8],
        name: &str,
        shown: &mut Progress,
    ) -> anyhow::Result<()> {
        let document = match line::read(text) {
            Ok(document) => document,
            Err(reason) => {
                // What came before a bad line is in, whatever is bad about it.
                if let Self::Store(loader) = self {
                    loader.end_early().await?;
                }
                return Err(TransferError::Line { number, reason }.into());
            }
        };
        match self {
            Self::Store(loader) => {
                let documents = loader.push(number, document).await?;
                shown.show(|| format!("{name}: {}", count(documents, "document")));
            }
            Self::Check(store, read) => {
                if let Some(reason) = store.would_change(&document) {
                    return Err(TransferError::Line { number, reason }.into());
                }
                read.documents += 1;
                let documents = read.documents;
                shown.show(|| format!("{name}: {} checked", count(documents, "document")));
            }
        }
        Ok(())
    }

    async fn finish(self, meta: &CollectionMeta) -> Result<Loaded, TransferError> {
        match self {
            Self::Store(loader) => loader.finish(meta).await,
            Self::Check(_, read) => Ok(read),
        }
    }
}

/// A line of a stream that is no document.
enum Mark {
    Begin(CollectionMeta),
    End,
}

fn mark(text: &[u8]) -> anyhow::Result<Option<Mark>> {
    let is = |key: &str| text.starts_with(format!("{{\"{key}\":").as_bytes());
    if is(END) {
        return Ok(Some(Mark::End));
    }
    if !is(BEGIN) {
        return Ok(None);
    }
    let document = json::parse_document(text, 100)?;
    let meta = CollectionMeta::from_document(&document, BEGIN).map_err(anyhow::Error::msg)?;
    Ok(Some(Mark::Begin(meta)))
}

/// The list of an export's collections.
fn contents(path: &Path) -> anyhow::Result<Vec<CollectionMeta>> {
    let file = File::open(path).context("this is no complete export")?;
    let mut text = Vec::new();
    file.take(MAX_CONTENTS).read_to_end(&mut text)?;
    let document = json::parse_document(&text, 100)?;
    if document.get_str("format").ok() != Some(FORMAT) {
        bail!("this is not the list of an export's collections");
    }
    if document.get("version") != Some(&Bson::Int32(1)) {
        bail!("the export was written by a newer version");
    }
    let entries = document
        .get_array("collections")
        .context("`collections` is missing")?;
    let entry = |entry: &Bson| {
        let empty = Document::new();
        let entry = entry.as_document().unwrap_or(&empty);
        let meta = CollectionMeta::from_document(entry, "name").map_err(anyhow::Error::msg)?;
        let file = Path::new(meta.file.as_deref().unwrap_or_default());
        let mut parts = file.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(_)), None) => Ok(meta),
            _ => bail!(
                "the file of the collection {} is not one in this folder",
                meta.name
            ),
        }
    };
    entries.iter().map(entry).collect()
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::with_capacity(BUFFER, file))
}

/// The lines of a text with their numbers, without those that are blank.
struct Lines<R> {
    source: R,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            number: 0,
            text: Vec::new(),
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<(u64, &[u8])>> {
        loop {
            self.text.clear();
            self.number += 1;
            let mut source = (&mut self.source).take(MAX_LINE);
            let read = source.read_until(b'\n', &mut self.text);
            if read.context("cannot read")? == 0 {
                return Ok(None);
            }
            if self.text.len() as u64 == MAX_LINE && self.text.last() != Some(&b'\n') {
                bail!("line {}: longer than 256 MiB", self.number);
            }
            if !self.text.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some((self.number, self.text.trim_ascii())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_with_the_blank_ones_among_them() {
        let mut lines = Lines::new(&b"a\n\n  \r\nb\r\nc"[..]);
        let mut next = || {
            lines
                .next()
                .unwrap()
                .map(|(number, text)| (number, String::from_utf8(text.to_vec()).unwrap()))
        };
        assert_eq!(next(), Some((1, "a".into())));
        assert_eq!(next(), Some((4, "b".into())));
        assert_eq!(next(), Some((5, "c".into())));
        assert_eq!(next(), None);
    }
}
