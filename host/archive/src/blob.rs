//! The port to where bytes are kept. A blob is written once, whole, under a name
//! that the archive has made, read in ranges, and deleted. Adapters know nothing
//! of documents, callers and file names.

use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::{Error, Result};

/// Bytes of a blob as they come, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Where blobs are kept.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a blob. It is there when [`BlobWriter::finish`] has resolved; a
    /// writer that is dropped may leave bytes behind, for the sweep.
    async fn create(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>>;

    /// A range of a blob's bytes, which lies within its size; `Missing` when it
    /// is not there.
    async fn open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream>;

    /// Deletes a blob; one that is not there is deleted.
    async fn delete(&self, key: &BlobKey) -> Result<()>;

    /// Every blob of a home, half-written ones of writers that are gone among them
    /// as far as the store can tell.
    async fn list(&self, home: &str) -> Result<BoxStream<'static, Result<BlobEntry>>>;
}

/// A blob that is being written.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends bytes. Waits where they come faster than they can be kept.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Resolves once the whole blob is durable.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Takes back what was written.
    async fn abort(self: Box<Self>);
}

/// A blob as a listing shows it.
#[derive(Debug, Clone)]
pub struct BlobEntry {
    /// Its name. What the archive did not put there is not listed.
    pub key: BlobKey,
    /// When it was last written to.
    pub modified: SystemTime,
}

/// The name of a blob: its home, which stands for the database whose documents
/// name it, the space that it belongs to there, and a generated reference. All are made of letters, digits, `-` and `_` alone, whatever a collection is
/// called, so that no path can be made of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    home: String,
    space: String,
    reference: String,
    /// Tells uploads for one reference apart; empty for parts.
    nonce: String,
}

/// The space of parts of uploads; no collection's begins so.
const PARTS: &str = "parts";

/// Bytes of a collection's name that may stand as they are. Upper case is not
/// among them: some file systems do not tell it from lower case.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

impl BlobKey {
    /// The blob of a file. `None` for a reference or a nonce that was never given
    /// out.
    pub fn of_file(home: &str, collection: &str, reference: &str, nonce: &str) -> Option<Self> {
        let space = match collection.bytes().all(is_plain) {
            true => format!("c-{collection}"),
            // Never longer than a file name may be: collections have at most 120 bytes.
            false => format!("x-{}", hex::encode(collection)),
        };
        (is_home(home) && is_reference(reference) && is_nonce(nonce)).then(|| Self {
            home: home.to_owned(),
            space,
            reference: reference.to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// A part of an upload that is not complete.
    pub fn of_part(home: &str, reference: &str) -> Option<Self> {
        (is_home(home) && is_reference(reference)).then(|| Self {
            home: home.to_owned(),
            space: PARTS.to_owned(),
            reference: reference.to_owned(),
            nonce: String::new(),
        })
    }

    /// Reads what [`BlobKey::path`] has written.
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (home, space) = (parts.next()?, parts.next()?);
        let (fan, name) = (parts.next()?, parts.next()?);
        if parts.next().is_some() || name.get(..2) != Some(fan) {
            return None;
        }
        if space == PARTS {
            return Self::of_part(home, name);
        }
        let (reference, nonce) = name.split_once('-')?;
        let key = Self {
            home: home.to_owned(),
            space: space.to_owned(),
            reference: reference.to_owned(),
            nonce: nonce.to_owned(),
        };
        let is_ours = is_home(home) && is_reference(reference) && is_nonce(nonce);
        (is_ours && key.collection().is_some()).then_some(key)
    }

    /// `home/space/first two digits/name`: no folder gets too full.
    pub fn path(&self) -> String {
        let (home, space) = (&self.home, &self.space);
        let (reference, nonce) = (&self.reference, &self.nonce);
        let fan = reference.get(..2).unwrap_or_default();
        match nonce.is_empty() {
            true => format!("{home}/{space}/{fan}/{reference}"),
            false => format!("{home}/{space}/{fan}/{reference}-{nonce}"),
        }
    }

    /// What tells uploads for one reference apart.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The generated part.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The collection whose file this is; `None` for a part of an upload.
    pub fn collection(&self) -> Option<String> {
        if let Some(plain) = self.space.strip_prefix("c-") {
            return plain.bytes().all(is_plain).then(|| plain.to_owned());
        }
        let bytes = hex::decode(self.space.strip_prefix("x-")?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// A fresh reference: 128 random bits, so that nobody guesses one.
pub fn new_reference() -> Result<String> {
    random::<16>()
}

/// A fresh home.
pub(crate) fn new_home() -> Result<String> {
    random::<8>()
}

/// Whether a text could have come from [`new_home`].
pub(crate) fn is_home(text: &str) -> bool {
    is_hex(text, 16)
}

/// A fresh nonce.
pub(crate) fn new_nonce() -> Result<String> {
    random::<4>()
}

fn random<const N: usize>() -> Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::unavailable(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// Whether a text could have come from [`new_reference`].
pub fn is_reference(text: &str) -> bool {
    is_hex(text, 32)
}

fn is_nonce(text: &str) -> bool {
    is_hex(text, 8)
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "0123456789abcdef";

    fn key(collection: &str) -> BlobKey {
        BlobKey::of_file(HOME, collection, &"ab01".repeat(8), "0123abcd").unwrap()
    }

    #[test]
    fn keys_are_paths_that_cannot_leave_their_folder() {
        let longest = "é".repeat(60);
        for collection in [
            "files",
            "my-files_2",
            "Files",
            "../../etc",
            "a/b",
            "ü",
            "con",
            ".",
            "c-x",
            "parts",
            &longest,
        ] {
            let key = key(collection);
            let path = key.path();
            assert_eq!(path.matches('/').count(), 3, "{path}");
            assert!(path.bytes().all(|b| is_plain(b) || b == b'/'), "{path}");
            assert!(path.split('/').all(|part| part.len() <= 255), "{path}");
            assert_eq!(key.collection().as_deref(), Some(collection));
            assert_eq!(BlobKey::from_path(&path), Some(key));
        }
    }

    #[test]
    fn spaces_never_meet() {
        let part = BlobKey::of_part(HOME, &new_reference().unwrap()).unwrap();
        assert_eq!(BlobKey::from_path(&part.path()), Some(part.clone()));
        assert_eq!(part.collection(), None);
        assert_ne!(key("Files").path(), key("files").path());
        // A name that looks like an encoded one.
        assert_ne!(key("x-46").path(), key("F").path());
        assert_ne!(key("parts").path().split('/').nth(1), Some(PARTS));
    }

    #[test]
    fn what_is_no_reference_has_no_key() {
        let nonce = new_nonce().unwrap();
        for bad in [
            "",
            "..",
            "x",
            "../../../../etc/passwd",
            &"A".repeat(32),
            &"a".repeat(33),
        ] {
            assert_eq!(BlobKey::of_file(HOME, "c", bad, &nonce), None, "{bad}");
            assert_eq!(
                BlobKey::of_file(HOME, "c", &"a".repeat(32), bad),
                None,
                "{bad}"
            );
            assert_eq!(BlobKey::of_part(HOME, bad), None, "{bad}");
            assert_eq!(BlobKey::of_part(bad, &"a".repeat(32)), None, "{bad}");
        }
        for bad in [
            "c-a/aa/b",
            "q/aa/aa",
            "c-a/../x",
            "documents.db",
            "c-a/ab/cd/ef",
            "../parts/aa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(BlobKey::from_path(bad), None, "{bad}");
        }
    }
}
