//! Where things are in this repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The folders whose folders are guests.
const GUEST_FOLDERS: [&str; 4] = ["plugins", "examples", "host/tests/fixtures", "bench/guests"];

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Relative to where cargo runs, which is the root.
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// A crate that becomes a WebAssembly component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    /// The package's name.
    pub(crate) name: String,
    /// Its folder, relative to the root.
    pub(crate) dir: PathBuf,
}

impl Guest {
    /// Whether it is one that users get, rather than an example or a fixture.
    pub(crate) fn is_shipped(&self) -> bool {
        self.dir.starts_with("plugins")
    }
}

/// Every guest of the workspace, sorted by folder.
pub(crate) fn guests() -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for folder in GUEST_FOLDERS {
        let Ok(entries) = fs::read_dir(root().join(folder)) else {
            continue;
        };
        for entry in entries {
            let dir = entry?.path();
            let manifest = dir.join("Cargo.toml");
            if !manifest.is_file() {
                continue;
            }
            let text = fs::read_to_string(&manifest)?;
            let name = package_name(&text)
                .with_context(|| format!("{} names no package", manifest.display()))?;
            let dir = dir.strip_prefix(root()).unwrap_or(&dir).to_owned();
            guests.push(Guest {
                name: name.to_owned(),
                dir,
            });
        }
    }
    guests.sort_by(|a, b| a.dir.cmp(&b.dir));
    Ok(guests)
}

/// The name in the `[package]` table. Our own manifests are plain enough that a
/// TOML parser would cost more to compile than it is worth.
fn package_name(manifest: &str) -> Option<&str> {
    manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[package]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "name")
        .map(|(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_name_is_read_from_its_own_table() {
        let manifest = "[lib]\nname = \"lib\"\n\n[package]\nversion = \"1\"\nname = \"mine\"\n[[bin]]\nname = \"bin\"\n";
        assert_eq!(package_name(manifest), Some("mine"));
        assert_eq!(package_name("[package]\n[lib]\nname = \"lib\"\n"), None);
    }

    #[test]
    fn the_shipped_plugins_are_found() {
        let guests = guests().unwrap();
        let hello = guests.iter().find(|guest| guest.name == "hello").unwrap();
        assert_eq!(hello.dir, Path::new("plugins/hello"));
        assert!(hello.is_shipped());
    }
}
