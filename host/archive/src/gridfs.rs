//! Blobs in MongoDB, as GridFS lays files out
//! (<https://github.com/mongodb/specifications/blob/master/source/gridfs/gridfs-spec.md>),
//! so that `mongofiles` and every driver can read them.
//!
//! Written by the driver. Read by us: the driver reads a file from its start only,
//! and a range has to begin at its own chunk.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{AsyncWriteExt as _, StreamExt as _, TryStreamExt as _};
use mongodb::gridfs::{GridFsBucket, GridFsUploadStream};
use mongodb::options::{ClientOptions, GridFsBucketOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection};
use tokio::sync::OnceCell;

use crate::blob::{BlobEntry, BlobKey, BlobStore, BlobWriter, ByteStream};
use crate::error::{Error, Result};

/// Of the server's own: collections that do not exist for clients and guests.
const BUCKET: &str = "_coglex_files";

/// Bytes of a chunk, GridFS's default.
const CHUNK: u64 = 255 * 1024;

/// How long a request waits for a server to be there.
const SERVER_SELECTION: Duration = Duration::from_secs(5);

/// A GridFS bucket. Connected to when it is needed first.
#[derive(Clone)]
pub struct GridFsBlobs {
    uri: Arc<str>,
    database: Option<Arc<str>>,
    opened: Arc<OnceCell<Opened>>,
}

struct Opened {
    bucket: GridFsBucket,
    files: Collection<Document>,
    chunks: Collection<RawDocumentBuf>,
}

impl std::fmt::Debug for GridFsBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI may hold a password.
        f.debug_struct("GridFsBlobs").finish_non_exhaustive()
    }
}

impl GridFsBlobs {
    /// The bucket in a database; `database` wins over the one in the URI.
    pub fn new(uri: &str, database: Option<&str>) -> Self {
        Self {
            uri: uri.into(),
            database: database.map(Into::into),
            opened: Arc::default(),
        }
    }

    async fn opened(&self) -> Result<&Opened> {
        self.opened.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Opened> {
        let mut options = ClientOptions::parse(&*self.uri)
            .await
            .map_err(Error::unavailable)?;
        options.app_name.get_or_insert_with(|| "coglex".into());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        let name = self.database.as_deref().map(str::to_owned);
        let name = name
            .or_else(|| options.default_database.clone())
            .unwrap_or_else(|| "coglex".to_owned());
        let client = Client::with_options(options).map_err(Error::unavailable)?;
        let database = client.database(&name);
        // What one host of a cluster was told is what the others find.
        let options = GridFsBucketOptions::builder()
            .bucket_name(BUCKET.to_owned())
            .chunk_size_bytes(u32::try_from(CHUNK).unwrap_or(u32::MAX))
            .write_concern(WriteConcern::majority())
            .read_concern(ReadConcern::majority())
            .build();
        Ok(Opened {
            bucket: database.gridfs_bucket(options),
            files: database.collection(&format!("{BUCKET}.files")),
            chunks: database.collection(&format!("{BUCKET}.chunks")),
        })
    }
}

fn id(key: &BlobKey) -> Bson {
    Bson::String(key.path())
}

#[async_trait]
impl BlobStore for GridFsBlobs {
    async fn create(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>> {
        let opened = self.opened().await?;
        let stream = opened
            .bucket
            .open_upload_stream(key.reference())
            .id(id(key))
            .await
            .map_err(Error::unavailable)?;
        Ok(Box::new(GridFsWriter { stream }))
    }

    async fn open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let (first, last) = (range.start / CHUNK, (range.end - 1) / CHUNK);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let opened = self.opened().await?;
        let found = opened
            .chunks
            .find(
                doc! { "files_id": id(key), "n": { "$gte": number(first), "$lte": number(last) } },
            )
            .sort(doc! { "n": 1 })
            // A few at a time: a batch of the default size would hold 16 MiB.
            .batch_size(4)
            .await
            .map_err(Error::unavailable)?;
        let mut at = first;
        let pieces = found
            .map_err(Error::unavailable)
            .and_then(move |chunk| {
                let piece = piece(&chunk, at, &range);
                at += 1;
                std::future::ready(piece)
            })
            .boxed();
        // What is missing has to be known before anything is sent.
        let mut pieces = pieces.peekable();
        match std::pin::Pin::new(&mut pieces).peek().await {
            None => Err(Error::Missing),
            Some(_) => Ok(whole(pieces.boxed(), last - first + 1)),
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        // Not the driver's, to which a file that is not there is an error and
        // whose chunks then stay.
        let failed = |error: mongodb::error::Error| Error::unavailable(error);
        let opened = self.opened().await?;
        opened
            .files
            .delete_one(doc! { "_id": id(key) })
            .await
            .map_err(failed)?;
        opened
            .chunks
            .delete_many(doc! { "files_id": id(key) })
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn list(&self, home: &str) -> Result<BoxStream<'static, Result<BlobEntry>>> {
        // First chunks stand for files that were never finished, too; those have
        // no date of their own, but their ids hold one.
        let opened = self.opened().await?;
        let found = opened
            .chunks
            // `0` comes after `/`.
            .find(doc! { "n": 0, "files_id": { "$gte": format!("{home}/"), "$lt": format!("{home}0") } })
            .projection(doc! { "_id": 1, "files_id": 1 })
            .await
            .map_err(Error::unavailable)?;
        let entry = |chunk: RawDocumentBuf| {
            let key = chunk
                .get_str("files_id")
                .ok()
                .and_then(BlobKey::from_path)?;
            let written = chunk.get_object_id("_id").ok()?.timestamp();
            Some(BlobEntry {
                key,
                modified: system_time(written),
            })
        };
        let entries = found
            .map_err(Error::unavailable)
            .try_filter_map(move |chunk| std::future::ready(Ok(entry(chunk))));
        Ok(entries.boxed())
    }
}

fn system_time(time: DateTime) -> SystemTime {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// The part of a chunk that lies in the range.
fn piece(chunk: &RawDocumentBuf, expected: u64, range: &Range<u64>) -> Result<Bytes> {
    let damaged = || Error::unavailable("a file in GridFS lacks a chunk");
    let number = match chunk.get("n") {
        Ok(Some(bson::RawBsonRef::Int32(n))) => u64::try_from(n).ok(),
        Ok(Some(bson::RawBsonRef::Int64(n))) => u64::try_from(n).ok(),
        _ => None,
    };
    if number != Some(expected) {
        return Err(damaged());
    }
    let data = chunk.get_binary("data").map_err(|_| damaged())?;
    let begin = expected * CHUNK;
    let from = usize::try_from(range.start.saturating_sub(begin)).map_err(|_| damaged())?;
    let to = usize::try_from((range.end - begin).min(CHUNK)).map_err(|_| damaged())?;
    let bytes = data.bytes.get(from..to).ok_or_else(damaged)?;
    Ok(Bytes::copy_from_slice(bytes))
}

/// The pieces, and an error where the last of them do not come.
fn whole(pieces: ByteStream, expected: u64) -> ByteStream {
    stream::try_unfold((pieces, expected), async |(mut pieces, left)| {
        match (pieces.try_next().await?, left) {
            (Some(piece), 1..) => Ok(Some((piece, (pieces, left - 1)))),
            (_, 0) => Ok(None),
            (None, _) => Err(Error::unavailable("a file in GridFS lacks its last chunks")),
        }
    })
    .boxed()
}

/// A blob on its way to MongoDB. Dropped, it removes its chunks by itself.
struct GridFsWriter {
    stream: GridFsUploadStream,
}

#[async_trait]
impl BlobWriter for GridFsWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        // The driver keeps what it is given until a chunk is full, and would take
        // any number of bytes for one write.
        for part in bytes.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
            self.stream
                .write_all(part)
                .await
                .map_err(Error::unavailable)?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.stream.close().await.map_err(Error::unavailable)
    }

    async fn abort(mut self: Box<Self>) {
        if let Err(error) = self.stream.abort().await {
            tracing::warn!(%error, "an upload that was given up is left for the next sweep");
        }
    }
}
