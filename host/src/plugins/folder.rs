//! The plugin folder: which files are in it, and how one gets in or out.
//!
//! Only the registry uses it. It compares what it finds with what the last scan
//! found, so a stamp has to change whenever a file's content does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::task::spawn_blocking;

/// What identifies the content of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    pub(super) modified: Option<SystemTime>,
    /// Tells a file that was renamed over from the one that it replaced.
    inode: u64,
}

/// A plugin's files as a scan found them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) wasm: Stamp,
    beside: Option<Stamp>,
}

/// Whether a plugin can have this name. It is part of paths, of files and of
/// the store's keys, so nothing in it means anything there.
pub fn is_plugin_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

/// The plugins in a folder, by name.
pub(super) async fn list(dir: PathBuf) -> io::Result<BTreeMap<String, Files>> {
    let blocking = spawn_blocking(move || {
        fs::create_dir_all(&dir)?;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            // Editors and builders write under hidden names and rename.
            let Some(name) = name
                .strip_suffix(".wasm")
                .filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            if let Some(files) = files(&path) {
                found.insert(name.to_owned(), files);
            }
        }
        Ok(found)
    });
    blocking.await.map_err(io::Error::other)?
}

/// The bytes of a plugin and the text beside it.
pub(super) async fn read(dir: &Path, name: &str) -> io::Result<(Vec<u8>, Option<String>)> {
    let wasm = tokio::fs::read(path(dir, name)).await?;
    Ok((wasm, read_beside(dir, name).await?))
}

/// The text of `NAME.toml`, where there is one.
pub(super) async fn read_beside(dir: &Path, name: &str) -> io::Result<Option<String>> {
    match tokio::fs::read_to_string(path(dir, name).with_extension("toml")).await {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{name}.toml: {error}"),
        )),
    }
}

/// A component that is on the disk, under a hidden name. Dropped, it is gone.
pub(super) struct Aside {
    aside: PathBuf,
    target: PathBuf,
}

impl Aside {
    /// Writes it, so that a full disk is found out before anything has changed.
    pub(super) async fn write(dir: &Path, name: &str, wasm: Bytes) -> io::Result<Self> {
        let own = Self {
            aside: dir.join(format!(".{name}.deploying")),
            target: path(dir, name),
        };
        let dir = dir.to_owned();
        spawn_blocking(move || {
            fs::create_dir_all(&dir)?;
            let mut file = fs::File::create(&own.aside)?;
            file.write_all(&wasm)?;
            file.sync_all()?;
            Ok(own)
        })
        .await
        .map_err(io::Error::other)?
    }

    /// Puts it in the place of what was there; answers what it is now.
    pub(super) async fn place(self) -> io::Result<Files> {
        spawn_blocking(move || {
            fs::rename(&self.aside, &self.target)?;
            files(&self.target).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
        .await
        .map_err(io::Error::other)?
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Fails after `place`, and when the disk does; then it is only litter.
        let _ = fs::remove_file(&self.aside);
    }
}

/// Takes a component away; answers whether there was one. What an operator wrote
/// beside it stays.
pub(super) async fn remove(dir: &Path, name: &str) -> io::Result<bool> {
    match tokio::fs::remove_file(path(dir, name)).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.wasm"))
}

/// The stamps of a component and of what is beside it.
fn files(wasm: &Path) -> Option<Files> {
    Some(Files {
        wasm: stamp(wasm)?,
        beside: stamp(&wasm.with_extension("toml")),
    })
}

/// The stamp of a file, through symbolic links; none when it is no regular file.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp {
        len: metadata.len(),
        modified: metadata.modified().ok(),
        inode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for name in ["a", "hello-wasi", "my_api2", &"x".repeat(64)] {
            assert!(is_plugin_name(name), "{name}");
        }
        let long = "x".repeat(65);
        for name in [
            "", "A", "a b", "a.b", "..", "a/b", "../a", "a\\b", "a:b", "ä", "a\0", &long,
        ] {
            assert!(!is_plugin_name(name), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_component_is_placed_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(dir.path()).unwrap();
            entries
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let write = |bytes: &'static [u8]| Aside::write(dir.path(), "a", Bytes::from_static(bytes));
        drop(write(b"given up").await.unwrap());
        assert!(names().is_empty());
        let first = write(b"one").await.unwrap().place().await.unwrap();
        let found = list(dir.path().to_owned()).await.unwrap();
        assert_eq!(found["a"], first);
        let second = write(b"two").await.unwrap().place().await.unwrap();
        assert_ne!(
            first, second,
            "the same length, perhaps in the same instant"
        );
        assert_eq!(names(), ["a.wasm"]);
        assert_eq!(read(dir.path(), "a").await.unwrap().0, b"two");
        assert!(remove(dir.path(), "a").await.unwrap());
        assert!(!remove(dir.path(), "a").await.unwrap());
    }
}
