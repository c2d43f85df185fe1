//! Remembers what a component was built from, so that building again without a
//! change costs nothing. For tools that, unlike cargo, do not do it themselves.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

use super::{embedded, is_source};

/// A digest of everything that goes into a component: its sources, what is
/// installed beside them, the SDK of this binary, and the tool.
pub(super) fn digest(dir: &Path, tool: &str) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        // With lengths, so that no two lists of files read the same.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add("tool", tool.as_bytes());
    for (path, text) in embedded::all() {
        if !path.starts_with("rust/") && !path.starts_with("templates/") {
            add(path, text.as_bytes());
        }
    }
    let mut files = Vec::new();
    list(dir, dir, &mut files)?;
    files.sort();
    for file in files {
        add(&file.to_string_lossy(), &fs::read(dir.join(&file))?);
    }
    // npm writes down in it what it has installed.
    if let Ok(installed) = fs::read(dir.join("node_modules/.package-lock.json")) {
        add("installed", &installed);
    }
    Ok(hex::encode(hash.finalize()))
}

fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let inside = path.strip_prefix(root).unwrap_or(&path);
        if !is_source(inside) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else if path.is_file() {
            files.push(inside.to_owned());
        }
    }
    Ok(())
}

/// The component that was built from this, if it is still there.
pub(super) fn find(scratch: &Path, digest: &str) -> Option<Vec<u8>> {
    let built_from = fs::read_to_string(scratch.join("built-from")).ok()?;
    if built_from != digest {
        return None;
    }
    fs::read(scratch.join("component.wasm")).ok()
}

/// Remembers a component.
pub(super) fn keep(scratch: &Path, digest: &str, component: &[u8]) -> io::Result<()> {
    fs::create_dir_all(scratch)?;
    let stamp = scratch.join("built-from");
    // First, so that a stamp never vouches for half a component.
    let _ = fs::remove_file(&stamp);
    fs::write(scratch.join("component.wasm"), component)?;
    fs::write(stamp, digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_source_changes_the_digest_and_of_anything_else_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let now = || digest(dir.path(), "tool 1").unwrap();
        write("src/app.js", "1");
        let first = now();
        write(".coglex/entry.js", "x");
        write("dist/a.wasm", "x");
        assert_eq!(now(), first);
        assert_ne!(digest(dir.path(), "tool 2").unwrap(), first);
        write("src/app.js", "2");
        let second = now();
        assert_ne!(second, first);
        write("src/more.js", "");
        assert_ne!(now(), second);

        let scratch = dir.path().join(".coglex");
        assert_eq!(find(&scratch, &first), None);
        keep(&scratch, &first, b"component").unwrap();
        assert_eq!(find(&scratch, &first).as_deref(), Some(&b"component"[..]));
        assert_eq!(find(&scratch, &second), None);
    }
}
