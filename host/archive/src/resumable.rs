//! Uploads in parts, which go on after a connection broke or a server was killed:
//! what tus 1.0 asks for (<https://tus.io/protocols/resumable-upload>), without its
//! HTTP.
//!
//! Each request's bytes become a blob, durable before the upload's record names
//! it, and the record moves on only from the offset that the request began at: of
//! two that race one loses, on any host. With the last byte the parts are read
//! once more, as an ordinary upload, so that nothing about a file depends on how
//! it came. That costs writing it twice, and works on every store of blobs.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bson::{Bson, DateTime, Document, doc};
use bytes::Bytes;
use coglex_services::Error as ServiceError;
use coglex_services::caller::Caller;
use coglex_services::documents::files::OwnCollection;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use crate::archive::Archive;
use crate::blob::{BlobKey, is_reference, new_reference};
use crate::error::{Error, Result};
use crate::upload::NewFile;

const UPLOADS: OwnCollection = OwnCollection::UPLOADS;

/// Requests that one upload may be made of: they are listed in one document.
const MOST_PARTS: usize = 10_000;

/// Uploads that become files beside each other, at most.
const TURNS: usize = 256;

/// Expired uploads that one sweep looks at.
const SWEPT: u64 = 1000;

/// An upload in parts before its first byte.
#[derive(Debug, Clone)]
pub struct NewResumable {
    /// The file's name, as [`crate::file_name`] has let it through.
    pub name: String,
    /// The media type that the sender declares.
    pub media_type: Option<String>,
    /// Who it belongs to, where the collection has owners.
    pub owner: Option<Bson>,
    /// All of its bytes.
    pub length: u64,
}

/// What one request appends.
pub struct Part {
    /// Where its sender takes the upload to stand.
    pub offset: u64,
    /// The bytes.
    pub bytes: BoxStream<'static, Result<Bytes>>,
    /// Their checksum, if there is one: then all of them count or none.
    pub checksum: Option<Checksum>,
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are durable.
    pub offset: u64,
    /// Bytes that there will be.
    pub length: u64,
    /// When it is given up.
    pub expires: DateTime,
}

/// The checksum of one request's bytes.
#[derive(Debug, Clone)]
pub enum Checksum {
    /// SHA-1, which tus asks every server to know.
    Sha1(Vec<u8>),
    /// SHA-256.
    Sha256(Vec<u8>),
}

impl Checksum {
    /// The names of what [`Checksum::parse`] knows.
    pub const ALGORITHMS: &'static str = "sha1,sha256";

    /// Reads `sha1 <base64>`; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, encoded) = text.split_once(' ')?;
        let digest = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        match (algorithm, digest.len()) {
            ("sha1", 20) => Some(Self::Sha1(digest)),
            ("sha256", 32) => Some(Self::Sha256(digest)),
            _ => None,
        }
    }
}

/// A checksum that is being computed.
enum Hashing {
    None,
    Sha1(Sha1, Vec<u8>),
    Sha256(Sha256, Vec<u8>),
}

impl Hashing {
    fn new(expected: Option<Checksum>) -> Self {
        match expected {
            None => Self::None,
            Some(Checksum::Sha1(digest)) => Self::Sha1(Sha1::new(), digest),
            Some(Checksum::Sha256(digest)) => Self::Sha256(Sha256::new(), digest),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha1(hash, _) => hash.update(bytes),
            Self::Sha256(hash, _) => hash.update(bytes),
        }
    }

    fn ends_right(self) -> bool {
        match self {
            Self::None => true,
            Self::Sha1(hash, expected) => hash.finalize()[..] == expected[..],
            Self::Sha256(hash, expected) => hash.finalize()[..] == expected[..],
        }
    }
}

/// Turns for making files of uploads, by the upload's id: ids are random, so that two
/// uploads seldom wait for each other.
pub(crate) struct Completing(Vec<Mutex<()>>);

impl Default for Completing {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }
}

impl Completing {
    async fn turn(&self, id: &str) -> Option<MutexGuard<'_, ()>> {
        let digits = id.get(..4)?;
        let number = usize::from_str_radix(digits, 16).ok()?;
        Some(self.0.get(number % TURNS)?.lock().await)
    }
}

/// The record of an upload.
struct Record {
    name: String,
    media_type: Option<String>,
    owner: Option<Bson>,
    parts: Vec<(String, u64)>,
    done: bool,
    progress: Progress,
}

impl Record {
    fn read(document: &Document) -> Option<Self> {
        let number = |name| u64::try_from(document.get_i64(name).ok()?).ok();
        let mut parts = Vec::new();
        for part in document.get_array("parts").ok()? {
            let part = part.as_document()?;
            let size = u64::try_from(part.get_i64("size").ok()?).ok()?;
            parts.push((part.get_str("key").ok()?.to_owned(), size));
        }
        Some(Self {
            name: document.get_str("name").ok()?.to_owned(),
            media_type: document.get_str("type").ok().map(str::to_owned),
            owner: document
                .get("owner")
                .cloned()
                .filter(|owner| *owner != Bson::Null),
            parts,
            done: document.get_bool("done").unwrap_or(false),
            progress: Progress {
                offset: number("offset")?,
                length: number("length")?,
                expires: *document.get_datetime("expires").ok()?,
            },
        })
    }

    fn file(&self, id: &str) -> NewFile {
        NewFile {
            name: self.name.clone(),
            media_type: self.media_type.clone(),
            owner: self.owner.clone(),
            reference: Some(id.to_owned()),
            size: Some(self.progress.length),
            limit: None,
        }
    }
}

impl Archive {
    /// Begins an upload in parts; answers with the reference that the file will
    /// have, by which it is spoken of until then.
    pub async fn create_resumable(
        &self,
        caller: &Caller,
        collection: &str,
        new: NewResumable,
    ) -> Result<(String, Progress)> {
        let id = new_reference()?;
        let progress = Progress {
            offset: 0,
            length: new.length,
            expires: self.later(self.inner.settings.resumable_ttl),
        };
        let record = Record {
            name: new.name,
            media_type: new.media_type,
            owner: new.owner,
            parts: Vec::new(),
            done: false,
            progress,
        };
        let begun = Some(self.inner.clock.now());
        let file = record.file(&id);
        let (_, room) = self.check(caller, collection, &file, begun).await?;
        let document = doc! {
            "_id": &id,
            "collection": collection,
            "name": &record.name,
            "type": record.media_type.clone(),
            "owner": record.owner.clone(),
            "length": i64::try_from(new.length).map_err(|_| Error::invalid("the length is too large"))?,
            "offset": 0_i64,
            "parts": [],
            "done": false,
            "expires": progress.expires,
        };
        self.inner.documents.own_insert(&UPLOADS, &document).await?;
        // From here on the record holds it.
        drop(room);
        if new.length == 0 {
            self.complete(caller, collection, &id, &record).await?;
        }
        Ok((id, progress))
    }

    /// How far an upload has come. One that a crash has kept from becoming a file
    /// becomes it now.
    pub async fn resumable(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        owner: Option<&Bson>,
    ) -> Result<Progress> {
        let record = self.record(caller, collection, id, owner).await?;
        if record.progress.offset == record.progress.length && !record.done {
            self.complete(caller, collection, id, &record).await?;
        }
        Ok(record.progress)
    }

    /// Appends the bytes of one request, and makes the file of it when they are
    /// the last. What has come before a connection broke counts, unless it has a
    /// checksum. Goes on if whoever has asked goes away.
    pub async fn append(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        owner: Option<&Bson>,
        part: Part,
    ) -> Result<Progress> {
        let Part {
            offset,
            bytes,
            checksum,
        } = part;
        let record = self.record(caller, collection, id, owner).await?;
        if record.done || record.progress.offset != offset {
            return Err(Error::WrongOffset {
                offset: record.progress.offset,
            });
        }
        if record.parts.len() >= MOST_PARTS {
            return Err(Error::Service(ServiceError::TooLarge(format!(
                "an upload is made of at most {MOST_PARTS} requests"
            ))));
        }
        let (archive, caller) = (self.clone(), caller.clone());
        let (collection, id) = (collection.to_owned(), id.to_owned());
        // Its own task: a handler ends with its connection, and what has come by
        // then is to be kept.
        let appending = tokio::spawn(async move {
            let (size, cut) = archive.part(&id, &record, bytes, checksum).await?;
            if record.progress.offset + size == record.progress.length {
                let record = archive.record(&caller, &collection, &id, record.owner.as_ref());
                let record = record.await?;
                archive.complete(&caller, &collection, &id, &record).await?;
            }
            match cut {
                Some(error) => Err(error),
                None => Ok(Progress {
                    offset: record.progress.offset + size,
                    ..record.progress
                }),
            }
        });
        appending.await.map_err(Error::unavailable)?
    }

    /// Gives an upload up.
    pub async fn discard_resumable(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        owner: Option<&Bson>,
    ) -> Result<()> {
        let record = self.record(caller, collection, id, owner).await?;
        self.remove(id, &record).await
    }

    /// Writes one part, and moves the record on; answers with its size, and why
    /// it ended early.
    async fn part(
        &self,
        id: &str,
        record: &Record,
        mut bytes: BoxStream<'static, Result<Bytes>>,
        checksum: Option<Checksum>,
    ) -> Result<(u64, Option<Error>)> {
        let part = new_reference()?;
        let key = BlobKey::of_part(self.home().await?, &part).ok_or_else(Error::no_file)?;
        let room = record.progress.length - record.progress.offset;
        let has_checksum = checksum.is_some();
        let mut hash = Hashing::new(checksum);
        let mut writer = self.inner.blobs.create(&key).await?;
        let mut size = 0;
        let mut cut = None;
        let mut refused = None;
        while let Some(piece) = bytes.next().await {
            match piece {
                Ok(piece) if piece.len() as u64 > room - size => {
                    refused = Some(Error::FileTooLarge {
                        limit: record.progress.length,
                    });
                    break;
                }
                Ok(piece) => {
                    size += piece.len() as u64;
                    hash.update(&piece);
                    writer.write(piece).await?;
                }
                Err(error) => {
                    cut = Some(error);
                    break;
                }
            }
        }
        if cut.is_some() && has_checksum {
            refused = cut.take();
        } else if cut.is_none() && !hash.ends_right() {
            refused = Some(refused.unwrap_or(Error::WrongChecksum));
        }
        if let Some(error) = refused {
            writer.abort().await;
            return Err(error);
        }
        if size == 0 {
            writer.abort().await;
            return Ok((0, cut));
        }
        writer.finish().await?;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let filter = doc! { "_id": id, "offset": number(record.progress.offset), "done": false };
        let change = doc! {
            "$set": {
                "offset": number(record.progress.offset + size),
                // Whoever goes on may take as long again.
                "expires": self.later(self.inner.settings.resumable_ttl),
            },
            "$push": { "parts": { "key": &part, "size": number(size) } },
        };
        if !self
            .inner
            .documents
            .own_update(&UPLOADS, filter, change)
            .await?
        {
            self.inner.blobs.delete(&key).await?;
            let now = self.inner.documents.own(&UPLOADS, id).await?;
            let now = now
                .as_ref()
                .and_then(Record::read)
                .ok_or_else(Error::no_file)?;
            return Err(Error::WrongOffset {
                offset: now.progress.offset,
            });
        }
        Ok((size, cut))
    }

    /// Makes the file of its parts; on one host once at a time, since each time writes
    /// the whole file.
    async fn complete(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        record: &Record,
    ) -> Result<()> {
        let _turn = self.inner.completing.turn(id).await;
        let now = self.inner.documents.own(&UPLOADS, id).await?;
        let now = now.as_ref().and_then(Record::read);
        if now.ok_or_else(Error::no_file)?.done {
            // By whoever had the turn before.
            return Ok(());
        }
        match self.assemble(caller, collection, id, record).await {
            Ok(()) => {}
            Err(error) => {
                // Somebody else may have done it a moment ago, or before a crash.
                let there = self.inner.documents.file_record(collection, id).await?;
                if there.is_none() {
                    if is_final(&error) {
                        self.remove(id, record).await?;
                    }
                    return Err(error);
                }
            }
        }
        let change = doc! { "$set": { "done": true, "parts": [] } };
        let documents = &self.inner.documents;
        documents
            .own_update(&UPLOADS, doc! { "_id": id }, change)
            .await?;
        self.delete_parts(record).await
    }

    async fn assemble(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        record: &Record,
    ) -> Result<()> {
        let mut upload = self.begin(caller, collection, record.file(id)).await?;
        let home = self.home().await?;
        for (part, size) in &record.parts {
            let key = BlobKey::of_part(home, part).ok_or(Error::Missing)?;
            let mut bytes = self.inner.blobs.open(&key, 0..*size).await?;
            while let Some(piece) = bytes.try_next().await? {
                upload.write(piece).await?;
            }
        }
        if upload.size() != record.progress.length {
            return Err(Error::Missing);
        }
        upload.finish().await.map(drop)
    }

    async fn record(
        &self,
        caller: &Caller,
        collection: &str,
        id: &str,
        owner: Option<&Bson>,
    ) -> Result<Record> {
        self.inner.documents.check_files(
            caller,
            collection,
            coglex_services::grants::Verb::Insert,
        )?;
        if !is_reference(id) {
            return Err(Error::no_file());
        }
        let found = self.inner.documents.own(&UPLOADS, id).await?;
        let document = found
            .filter(|document| document.get_str("collection").ok() == Some(collection))
            .ok_or_else(Error::no_file)?;
        let record = Record::read(&document).ok_or_else(Error::no_file)?;
        if record.owner.as_ref() != owner {
            return Err(Error::no_file());
        }
        if record.progress.expires <= self.inner.clock.now() {
            self.remove(id, &record).await?;
            return Err(Error::Expired);
        }
        Ok(record)
    }

    /// Takes an upload back: its record, and then its parts.
    async fn remove(&self, id: &str, record: &Record) -> Result<()> {
        self.inner.documents.own_delete(&UPLOADS, id).await?;
        self.delete_parts(record).await
    }

    async fn delete_parts(&self, record: &Record) -> Result<()> {
        let home = self.home().await?;
        for (part, _) in &record.parts {
            if let Some(key) = BlobKey::of_part(home, part) {
                self.inner.blobs.delete(&key).await?;
            }
        }
        Ok(())
    }

    /// Removes uploads whose time is over; answers how many there are.
    pub(crate) async fn sweep_resumable(&self, dry: bool) -> Result<u64> {
        let filter = doc! { "expires": { "$lte": self.inner.clock.now() } };
        let expired = self
            .inner
            .documents
            .own_many(&UPLOADS, filter, SWEPT)
            .await?;
        for document in expired.iter().filter(|_| !dry) {
            if let (Ok(id), Some(record)) = (document.get_str("_id"), Record::read(document)) {
                self.remove(id, &record).await?;
            }
        }
        Ok(expired.len() as u64)
    }

    fn later(&self, by: Duration) -> DateTime {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let now = self.inner.clock.now().timestamp_millis();
        DateTime::from_millis(now.saturating_add(by))
    }
}

/// Whether trying again would end in the same.
fn is_final(error: &Error) -> bool {
    match error {
        Error::TypeRefused(_) | Error::FileTooLarge { .. } => true,
        Error::Service(error) => matches!(
            error,
            ServiceError::Invalid(_)
                | ServiceError::Conflict(_)
                | ServiceError::DocumentInvalid { .. }
                | ServiceError::HookRefused { .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_and_compared() {
        let sha1 = format!("sha1 {}", BASE64_STANDARD.encode(Sha1::digest(b"abc")));
        let sha256 = format!("sha256 {}", BASE64_STANDARD.encode(Sha256::digest(b"abc")));
        for text in [sha1, sha256] {
            let checksum = Checksum::parse(&text);
            assert!(checksum.is_some(), "{text}");
            for (bytes, right) in [(b"abc", true), (b"abd", false)] {
                let mut hash = Hashing::new(checksum.clone());
                hash.update(bytes);
                assert_eq!(hash.ends_right(), right, "{text}");
            }
        }
        for bad in ["", "sha1", "sha1 !", "sha1 YWJj", "md5 YWJj", "crc32 AAAA"] {
            assert!(Checksum::parse(bad).is_none(), "{bad}");
        }
    }
}
