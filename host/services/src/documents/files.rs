//! Documents that stand for files of the archive.
//!
//! What the archive knows of a file is in the hidden field `_coglex` of the file's document, beside what
//! clients see of it: no client can forge or change it, the file appears and
//! vanishes with its document in one atomic write, and rules, grants and hooks
//! on the collection hold for files as they do for documents. Called by the
//! archive (`coglex-archive`) alone; knows nothing of bytes and where they are.

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use futures_util::StreamExt as _;

use super::scope::Scope;
use super::{DocumentStream, Documents, rules, shown};
use crate::caller::Caller;
use crate::error::Result;
use crate::grants::Verb;
use crate::storage::{Find, Update};

/// Where in a document the archive keeps what it knows of its file.
const RECORD: &str = "_coglex.file";

/// A file as its document tells it.
#[derive(Debug, Clone)]
pub struct FileDocument {
    /// What the archive noted when it was uploaded. Nobody else can write it.
    pub record: Document,
    /// What the caller may see of the document.
    pub shown: RawDocumentBuf,
}

/// How much a collection holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileUsage {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Documents {
    /// Whether the caller may do this to files of the collection at all: asked
    /// before an upload's bytes are taken.
    pub fn check_files(&self, caller: &Caller, collection: &str, verb: Verb) -> Result<()> {
        Scope::of(caller, collection, verb).map(drop)
    }

    /// Inserts a file's document, with its `_id`, as [`Documents::insert`] would,
    /// and with the record that makes it a file's.
    pub async fn insert_file(
        &self,
        caller: &Caller,
        collection: &str,
        document: Document,
        record: Document,
    ) -> Result<()> {
        let hidden = doc! { "file": record };
        self.insert_with(caller, collection, vec![document], Some(hidden))
            .await
            .map(drop)
    }

    /// The file that this document stands for, if it stands for one and the
    /// caller may do this to it.
    pub async fn file(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        verb: Verb,
    ) -> Result<Option<FileDocument>> {
        let scope = Scope::of(caller, collection, verb)?;
        let document = if scope.is_whole() {
            self.store.get(collection, id.into()).await?
        } else {
            let find = Find {
                filter: scope.narrow(doc! { "_id": { "$eq": id } })?,
                limit: Some(1),
                ..Find::default()
            };
            let mut found = self.store.find(collection, find).await?;
            found.next().await.transpose()?
        };
        let Some(document) = document else {
            return Ok(None);
        };
        let Some(record) = record(&document) else {
            return Ok(None);
        };
        let shown = match scope.fields() {
            None => super::strip(document)?,
            Some(fields) => super::cut(&document, fields)?,
        };
        Ok(Some(FileDocument { record, shown }))
    }

    /// The documents of the collection's files, as the caller may see them.
    /// `find.filter` is the caller's.
    pub async fn files(
        &self,
        caller: &Caller,
        collection: &str,
        mut find: Find,
    ) -> Result<DocumentStream> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::filter(&find.filter, self.limits.depth)?;
        let narrowed = scope.narrow(find.filter)?;
        find.filter = doc! { "$and": [is_file(), narrowed] };
        let found = self.store.find(collection, find).await?;
        Ok(shown(found, scope.fields()))
    }

    /// How many files of the collection there are. `filter` is the caller's.
    pub async fn count_files(
        &self,
        caller: &Caller,
        collection: &str,
        filter: Document,
    ) -> Result<u64> {
        let scope = Scope::of(caller, collection, Verb::Read)?;
        rules::filter(&filter, self.limits.depth)?;
        let filter = doc! { "$and": [is_file(), scope.narrow(filter)?] };
        let time = self.limits.max_time;
        Ok(self.store.count(collection, filter, Some(time)).await?)
    }

    /// What the files of a collection take, of all or of one owner: the server's
    /// own question, for quotas. It reads the whole collection.
    pub async fn file_usage(&self, collection: &str, owner: Option<&Bson>) -> Result<FileUsage> {
        let mut matching = is_file();
        if let Some(owner) = owner {
            matching.insert(format!("{RECORD}.owner"), doc! { "$eq": owner.clone() });
        }
        self.usage(collection, matching, &format!("${RECORD}.size"))
            .await
    }

    /// What uploads in parts will take that are not files yet and do not expire before
    /// `now`; of all or of one owner.
    pub async fn begun_usage(
        &self,
        collection: &str,
        owner: Option<&Bson>,
        now: DateTime,
    ) -> Result<FileUsage> {
        let mut matching = doc! {
            "collection": { "$eq": collection },
            "done": false,
            "expires": { "$gt": now },
        };
        if let Some(owner) = owner {
            matching.insert("owner", doc! { "$eq": owner.clone() });
        }
        self.usage(OwnCollection::UPLOADS.0, matching, "$length")
            .await
    }

    /// Counts documents, and adds up a field of theirs.
    async fn usage(&self, collection: &str, matching: Document, bytes: &str) -> Result<FileUsage> {
        let pipeline = vec![
            doc! { "$match": matching },
            doc! { "$group": {
                "_id": null,
                "files": { "$sum": 1_i64 },
                "bytes": { "$sum": bytes },
            } },
        ];
        let time = self.limits.max_time;
        let mut found = self
            .store
            .aggregate(collection, pipeline, Some(time))
            .await?;
        let Some(usage) = found.next().await.transpose()? else {
            return Ok(FileUsage::default());
        };
        let number = |name: &str| match usage.get(name) {
            Ok(Some(bson::RawBsonRef::Int64(n))) => u64::try_from(n).unwrap_or(0),
            Ok(Some(bson::RawBsonRef::Int32(n))) => u64::try_from(n).unwrap_or(0),
            _ => 0,
        };
        Ok(FileUsage {
            files: number("files"),
            bytes: number("bytes"),
        })
    }

    /// What the archive noted of a file, whoever asks: for looking after bytes
    /// that no document stands for.
    pub async fn file_record(&self, collection: &str, id: &str) -> Result<Option<Document>> {
        let document = self.store.get(collection, id.into()).await?;
        Ok(document.as_deref().and_then(record))
    }
}

/// What the archive itself keeps, in collections of the server's own.
impl Documents {
    /// A document of the server's own.
    pub async fn own(&self, collection: &OwnCollection, id: &str) -> Result<Option<Document>> {
        let document = self.store.get(collection.0, id.into()).await?;
        let read = |raw: RawDocumentBuf| Document::try_from(raw).map_err(crate::json::invalid_bson);
        document.map(read).transpose()
    }

    /// Several of them.
    pub async fn own_many(
        &self,
        collection: &OwnCollection,
        filter: Document,
        limit: u64,
    ) -> Result<Vec<Document>> {
        let find = Find {
            filter,
            limit: Some(limit),
            ..Find::default()
        };
        let mut found = self.store.find(collection.0, find).await?;
        let mut documents = Vec::new();
        while let Some(raw) = found.next().await.transpose()? {
            documents.push(Document::try_from(raw).map_err(crate::json::invalid_bson)?);
        }
        Ok(documents)
    }

    /// Makes one.
    pub async fn own_insert(&self, collection: &OwnCollection, document: &Document) -> Result<()> {
        let raw = super::encoded(document, self.limits.document_bytes)?;
        Ok(self.store.insert(collection.0, vec![raw]).await?)
    }

    /// Changes the first that matches; answers whether one did.
    pub async fn own_update(
        &self,
        collection: &OwnCollection,
        filter: Document,
        change: Document,
    ) -> Result<bool> {
        let update = Update {
            filter,
            change: crate::storage::Change::Operators(change),
            many: false,
            upsert: false,
            array_filters: Vec::new(),
        };
        Ok(self.store.update(collection.0, update).await?.matched > 0)
    }

    /// Deletes one; answers whether it was there.
    pub async fn own_delete(&self, collection: &OwnCollection, id: &str) -> Result<bool> {
        let filter = doc! { "_id": id };
        Ok(self.store.delete(collection.0, filter, false).await? > 0)
    }
}

/// A collection that does not exist for clients and guests.
#[derive(Debug)]
pub struct OwnCollection(&'static str);

impl OwnCollection {
    /// Uploads of the archive that are not complete.
    pub const UPLOADS: Self = Self("_coglex_uploads");
    /// What the archive has to know of itself.
    pub const ARCHIVE: Self = Self("_coglex_archive");
}

fn is_file() -> Document {
    doc! { RECORD: { "$exists": true } }
}

fn record(document: &bson::RawDocument) -> Option<Document> {
    let hidden = document.get_document("_coglex").ok()?;
    let record = hidden.get_document("file").ok()?;
    Document::try_from(record).ok()
}
