//! Compiled components on disk, so that a restart does not compile again.
//!
//! Our own rather than wasmtime's: loading compiled code is only as safe as the
//! file is trusted, so each file carries a checksum of itself (a torn write or
//! a flipped bit is compiled again, not run), and the folder is made private.
//! Who can write there can run native code as the server anyway.
//!
//! A file's name is the hash of the component and of everything in the engine
//! that shapes its code: another wasmtime or another CPU finds nothing.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::RuntimeError;

const CHECKSUM: usize = 32;
/// Files beyond this many are deleted, the longest unused first. A development
/// server makes a new one at each edit.
const MAX_FILES: usize = 256;

/// The cache. All methods block.
pub(crate) struct Cache {
    dir: PathBuf,
    compatibility: u64,
}

impl Cache {
    /// A cache in `dir`, which is made, and made private.
    pub(crate) fn new(dir: PathBuf, engine: &Engine) -> Result<Self, RuntimeError> {
        let failed = |source| RuntimeError::Cache {
            path: dir.clone(),
            source,
        };
        fs::create_dir_all(&dir).map_err(failed)?;
        // Fails on a folder of somebody else's, who could put code there.
        make_private(&dir, 0o700).map_err(failed)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            dir,
            compatibility: hasher.finish(),
        })
    }

    /// The compiled component of this digest, unless there is none that is whole.
    pub(crate) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        let (checksum, code) = bytes.split_at_checked(CHECKSUM)?;
        if Sha256::digest(code).as_slice() != checksum {
            tracing::warn!(path = %path.display(), "a compiled plugin is damaged and is compiled again");
            return None;
        }
        #[allow(
            unsafe_code,
            reason = "the bytes are what `serialize` gave: the folder is private, the checksum holds, and wasmtime checks the version"
        )]
        let component = unsafe { Component::deserialize(engine, code) };
        match component {
            Ok(component) => {
                // Only the order of deletion depends on it.
                let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), "a compiled plugin cannot be used and is compiled again: {error:#}");
                None
            }
        }
    }

    /// Keeps a compiled component. A failure costs time at the next start, no more.
    pub(crate) fn put(&self, digest: &str, component: &Component) {
        let kept = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| {
                self.write(digest, &code)?;
                self.prune()
            });
        if let Err(error) = kept {
            tracing::warn!(path = %self.dir.display(), "a compiled plugin could not be kept: {error}");
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir
            .join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    /// Writes aside and renames, so that nobody reads half a file.
    fn write(&self, digest: &str, code: &[u8]) -> io::Result<()> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let aside = self
            .dir
            .join(format!(".{}-{number}.tmp", std::process::id()));
        let written = create_private(&aside).and_then(|mut file| {
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            fs::rename(&aside, self.path(digest))
        });
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "cwasm")
            {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        for (_, path) in files.into_iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn make_private(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn make_private(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}
