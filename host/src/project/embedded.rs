//! The files that the program carries; `build.rs` makes the table.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files of a folder: their paths inside of it, and their texts.
pub(crate) fn files(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| {
        let inside = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((inside, *text))
    })
}

/// One file.
pub(crate) fn file(path: &str) -> Option<&'static str> {
    FILES
        .iter()
        .find(|(name, _)| *name == path)
        .map(|(_, text)| *text)
}

/// Everything, for digests.
pub(crate) fn all() -> &'static [(&'static str, &'static str)] {
    FILES
}

/// Makes a folder hold these files and no others. One that is as it should be is
/// not touched: its time tells builders whether to build again.
pub(crate) fn sync<'a>(
    to: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    let mut wanted = BTreeSet::new();
    for (inside, text) in files {
        let path = to.join(inside);
        write(&path, text)?;
        wanted.insert(path);
    }
    remove_others(to, &wanted)
}

/// Writes a file, with its folders, unless it holds this text already.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

fn remove_others(folder: &Path, wanted: &BTreeSet<std::path::PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_carries_wit_sdks_and_templates() {
        for path in [
            "wit/world.wit",
            "js/package.json",
            "js/src/index.js",
            "python/coglex/__init__.py",
            "rust/workspace.toml",
            "rust/plugin-sdk/Cargo.toml",
            "rust/plugin-sdk/src/lib.rs",
        ] {
            assert!(file(path).is_some_and(|text| !text.is_empty()), "{path}");
        }
        assert!(files("templates").count() > 3);
        assert!(files("js").all(|(inside, _)| !inside.starts_with('/')));
        assert!(all().iter().all(|(path, _)| !path.contains("__pycache__")));
    }

    #[test]
    fn a_folder_is_brought_in_line_without_touching_what_is_right() {
        let dir = tempfile::tempdir().unwrap();
        sync(dir.path(), [("a/b", "1"), ("c", "2")]).unwrap();
        let time = || {
            fs::metadata(dir.path().join("c"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = time();
        sync(dir.path(), [("c", "2"), ("d", "3")]).unwrap();
        assert_eq!(time(), before);
        assert!(!dir.path().join("a/b").exists());
        assert_eq!(fs::read_to_string(dir.path().join("d")).unwrap(), "3");
    }
}
