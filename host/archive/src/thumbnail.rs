//! Images shown smaller.
//!
//! Decoding is where hostile images do harm: bytes, pixels and memory are bounded
//! before a pixel is decoded, two images are decoded at once, and few may wait.
//! Nothing is kept: clients and proxies do that, by the ETag.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coglex_services::Error as ServiceError;
use futures_util::TryStreamExt as _;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::archive::{Archive, StoredFile};
use crate::error::{Error, Result};
use crate::settings::ArchiveSettings;

/// Pixels of a side that can be asked for.
const LONGEST_SIDE: u32 = 2048;

/// Images that are decoded at once.
const AT_ONCE: usize = 2;

/// How long one waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// Bytes of memory for each pixel of the largest image: decoders of 16-bit RGBA,
/// with a copy.
const BYTES_PER_PIXEL: u64 = 12;

/// The box that a thumbnail fits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThumbnailSize {
    width: u32,
    height: u32,
}

impl ThumbnailSize {
    /// Reads `200x100`.
    pub fn parse(text: &str) -> Result<Self> {
        let side = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let side = text.parse::<u32>().ok().filter(|_| digits)?;
            (1..=LONGEST_SIDE).contains(&side).then_some(side)
        };
        let size = text.split_once('x').and_then(|(width, height)| {
            Some(Self {
                width: side(width)?,
                height: side(height)?,
            })
        });
        size.ok_or_else(|| {
            Error::invalid(format!(
                "`thumb` must be a width and a height from 1 to {LONGEST_SIDE}, such as 200x200"
            ))
        })
    }
}

impl std::fmt::Display for ThumbnailSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// An image that was made smaller.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// Its bytes.
    pub bytes: Bytes,
    /// `image/png`, or `image/jpeg` for what had no transparency.
    pub media_type: &'static str,
}

/// Turns for decoding.
pub(crate) struct Thumbnails {
    turns: Arc<Semaphore>,
    source: u64,
    pixels: u64,
}

impl Thumbnails {
    pub(crate) fn new(settings: &ArchiveSettings) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            source: settings.thumbnail_source,
            pixels: settings.thumbnail_pixels,
        }
    }
}

impl Archive {
    /// The image of a file within a box, with its proportions; never larger than
    /// it is. `NoThumbnail` where the file is no image that can be read, or too
    /// large.
    pub async fn thumbnail(&self, file: &StoredFile, size: ThumbnailSize) -> Result<Thumbnail> {
        let Thumbnails {
            turns,
            source,
            pixels,
        } = &self.inner.thumbnails;
        if file.size > *source {
            return Err(Error::NoThumbnail(format!(
                "The image has more than {source} bytes."
            )));
        }
        let busy = || {
            Error::Service(ServiceError::Overloaded {
                retry_after: Duration::from_secs(1),
            })
        };
        let turn = Arc::clone(turns).acquire_owned();
        let turn = tokio::time::timeout(WAIT, turn).await.map_err(|_| busy())?;
        let turn = turn.map_err(Error::unavailable)?;
        let mut bytes = BytesMut::with_capacity(usize::try_from(file.size).unwrap_or(0));
        let mut stream = self.open(file, 0..file.size).await?;
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        let pixels = *pixels;
        let made = spawn_blocking(move || {
            // Until it is done, whoever has asked may be gone.
            let _turn = turn;
            shrink(&bytes, size, pixels)
        });
        made.await.map_err(Error::unavailable)?
    }
}

/// Pixels beyond the bound, formats that are not known, and what is damaged end
/// in `NoThumbnail`.
fn shrink(bytes: &[u8], size: ThumbnailSize, pixels: u64) -> Result<Thumbnail> {
    let unreadable = |_| Error::NoThumbnail("The file is no image that can be read.".into());
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(Error::unavailable)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(pixels.saturating_mul(BYTES_PER_PIXEL));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > pixels {
        return Err(Error::NoThumbnail(format!(
            "The image has more than {pixels} pixels."
        )));
    }
    // As it was meant to be seen; cameras turn images by a note.
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    if image.width() > size.width || image.height() > size.height {
        image = image.thumbnail(size.width, size.height);
    }
    let (image, format, media_type) = match image.color().has_alpha() {
        true => (image.into_rgba8().into(), ImageFormat::Png, "image/png"),
        false => (image.into_rgb8().into(), ImageFormat::Jpeg, "image/jpeg"),
    };
    let image: DynamicImage = image;
    let mut written = Cursor::new(Vec::new());
    image
        .write_to(&mut written, format)
        .map_err(Error::unavailable)?;
    Ok(Thumbnail {
        bytes: written.into_inner().into(),
        media_type,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgba8(width, height)
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    fn size(text: &str) -> ThumbnailSize {
        ThumbnailSize::parse(text).unwrap()
    }

    #[test]
    fn images_keep_their_proportions_and_never_grow() {
        let check = |image: Vec<u8>, asked: &str, expected: (u32, u32)| {
            let made = shrink(&image, size(asked), 1_000_000).unwrap();
            let image = image::load_from_memory(&made.bytes).unwrap();
            assert_eq!((image.width(), image.height()), expected, "{asked}");
        };
        check(png(400, 200), "100x100", (100, 50));
        check(png(200, 400), "100x100", (50, 100));
        check(png(20, 10), "100x100", (20, 10));
        check(png(1000, 1), "10x10", (10, 1));
    }

    #[test]
    fn large_damaged_and_other_files_are_refused() {
        let check = |bytes: &[u8]| {
            let refused = shrink(bytes, size("10x10"), 1000);
            assert!(matches!(refused, Err(Error::NoThumbnail(_))));
        };
        check(&png(100, 100));
        check(b"");
        check(b"plain text");
        let half = png(20, 20);
        check(&half[..half.len() / 2]);
        // A PNG that claims a gigapixel in a few bytes.
        let mut bomb = png(20, 20);
        bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        check(&bomb);
    }

    #[test]
    fn sizes_are_read_strictly() {
        assert_eq!(size("200x100").to_string(), "200x100");
        for bad in [
            "", "x", "0x1", "1x0", "200", "2049x1", "-1x5", "+1x5", "1x1x1", "1 x1",
        ] {
            assert!(ThumbnailSize::parse(bad).is_err(), "{bad}");
        }
    }
}
