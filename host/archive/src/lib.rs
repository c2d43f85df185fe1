//! Coglex's archive: files under documents.
//!
//! A file is a document of a collection and a blob. The document tells clients
//! its name, size, type and hash, and can be queried as any other; beside that it
//! carries, hidden, what the archive itself goes by, so that nothing a client
//! writes decides where bytes are read from or deleted. The blob is bytes under a
//! generated name in a folder, in GridFS or in an S3 bucket.
//!
//! ```text
//! HTTP ──┐              ┌─ coglex_services::Documents   rules, grants, hooks
//!        ├─► Archive ───┤
//! guest ─┘   Upload     └─ BlobStore ── folder · gridfs · s3
//! ```
//!
//! An upload writes its blob, makes it durable, and then inserts the document: the
//! one atomic step by which the file comes into being. A deletion deletes the
//! document, then the blob. Whatever a crash leaves is a blob without a document,
//! which [`Archive::sweep`] removes.
//!
//! In here is neither HTTP nor WebAssembly.

mod archive;
mod blob;
mod error;
mod folder;
mod gridfs;
mod media;
mod name;
mod resumable;
mod s3;
mod settings;
mod sign;
mod sweep;
mod thumbnail;
mod upload;
mod usage;

pub use archive::{Archive, StoredFile};
pub use blob::{
    BlobEntry, BlobKey, BlobStore, BlobWriter, ByteStream, is_reference, new_reference,
};
pub use error::{Error, Result};
pub use folder::FolderBlobs;
pub use gridfs::GridFsBlobs;
pub use media::essence;
pub use name::{content_disposition, file_name};
pub use resumable::{Checksum, NewResumable, Part, Progress};
pub use s3::{S3Blobs, S3Settings};
pub use settings::{ArchiveSettings, CollectionSettings};
pub use sign::{ReadUrl, UrlKey, WriteUrl};
pub use sweep::SweepReport;
pub use thumbnail::{Thumbnail, ThumbnailSize};
pub use upload::{NewFile, Upload};
