//! The source of a plugin: a folder in one of the languages that we know, and the
//! way from there to a component. `coglex build` and `coglex dev` build through
//! this; `coglex new` writes such a folder.
//!
//! Each language's own tool does the work (cargo, `componentize-qjs`,
//! `componentize-py`); what is ours is around it: the SDK that this binary
//! carries, a world with only the imports that the plugin asks for, and the
//! plugin's `coglex.toml` as a section of the component.
//!
//! It does not know the server, its plugin folder or when to build.

pub(crate) mod embedded;
mod javascript;
mod manifest;
mod python;
mod run;
mod rust;
pub(crate) mod sdk;
mod tools;
mod unchanged;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use coglex_runtime::Ask;

pub(crate) use run::BuildError;

use crate::plugins::is_plugin_name;

/// The folder in a project where the SDK and what is built on the way go. It can
/// be thrown away at any time.
pub(crate) const SCRATCH: &str = ".coglex";

/// The file that says what a plugin asks for.
const MANIFEST: &str = "coglex.toml";

/// The folder with tests in JavaScript or Python that need a server. (Rust's are
/// where cargo looks for them.)
const TESTS: &str = "tests";

/// A folder with the source of a plugin.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    dir: PathBuf,
    name: String,
    source: SourceKind,
}

/// What a project is written in, and what its own manifest says.
#[derive(Debug, Clone)]
enum SourceKind {
    Rust,
    JavaScript(javascript::Package),
    Python(python::Package),
}

/// What a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Routes.
    App,
    /// Functions.
    Function,
}

impl Project {
    /// The plugin in a folder: with a `Cargo.toml`, a `package.json` or a
    /// `pyproject.toml`.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir
            .canonicalize()
            .with_context(|| format!("{} is not a folder with a plugin in it", dir.display()))?;
        let (name, source) = if dir.join("Cargo.toml").is_file() {
            (rust::name(&dir)?, SourceKind::Rust)
        } else if dir.join("package.json").is_file() {
            let (name, package) = javascript::read(&dir)?;
            (name, SourceKind::JavaScript(package))
        } else if dir.join("pyproject.toml").is_file() {
            let (name, package) = python::read(&dir)?;
            (name, SourceKind::Python(package))
        } else {
            bail!(
                "{} has no Cargo.toml, package.json or pyproject.toml; \
                 `coglex new` writes a plugin to start from",
                dir.display()
            );
        };
        if !is_plugin_name(&name) {
            bail!(
                "{name:?} cannot be a plugin's name, which is lower-case letters, digits, \
                 '-' and '_', at most 64 of them"
            );
        }
        Ok(Self { dir, name, source })
    }

    /// The plugin's name, from the manifest of its language.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Builds the component, with `coglex.toml` in it. `profile` is cargo's.
    ///
    /// What the tools say goes to standard error, and into the error.
    pub(crate) async fn build(&self, profile: &str) -> Result<Vec<u8>, BuildError> {
        let (manifest, ask) = (self.manifest()?, self.ask()?);
        let component = match &self.source {
            SourceKind::Rust => rust::build(self, profile).await?,
            SourceKind::JavaScript(package) => javascript::build(self, package, &ask).await?,
            SourceKind::Python(package) => python::build(self, package, &ask).await?,
        };
        Ok(match manifest {
            Some(text) => manifest::embed(component, &text)?,
            None => component,
        })
    }

    /// What it asks for, by its `coglex.toml`.
    pub(crate) fn ask(&self) -> anyhow::Result<Ask> {
        match self.manifest()? {
            Some(text) => Ask::parse(&text)
                .with_context(|| format!("{} cannot be used", self.dir.join(MANIFEST).display())),
            None => Ok(Ask::default()),
        }
    }

    /// Builds the components that its tests are in, for `coglex plugin test`; each
    /// with a name for people.
    pub(crate) async fn build_tests(&self) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        match &self.source {
            SourceKind::Rust => rust::build_tests(self).await,
            SourceKind::JavaScript(package) => {
                let suite = javascript::build_tests(self, package, &self.ask()?).await?;
                Ok(vec![(TESTS.to_owned(), suite)])
            }
            SourceKind::Python(package) => {
                let suite = python::build_tests(self, package, &self.ask()?).await?;
                Ok(vec![(TESTS.to_owned(), suite)])
            }
        }
    }

    fn manifest(&self) -> anyhow::Result<Option<String>> {
        let path = self.dir.join(MANIFEST);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }
}

/// The files with tests of a project in JavaScript or Python, in order.
fn test_files(dir: &Path, extension: &str) -> anyhow::Result<Vec<String>> {
    let names = || -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(dir.join(TESTS))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    let mut files = match names() {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("the folder with the tests cannot be read"),
    };
    let is_test = |name: &String| {
        let stem = name
            .strip_suffix(extension)
            .and_then(|rest| rest.strip_suffix('.'));
        let word = |stem: &str| {
            stem.chars()
                .all(|it| it.is_ascii_alphanumeric() || "_-.".contains(it))
        };
        stem.is_some_and(|stem| !stem.is_empty() && !stem.starts_with(['.', '_']) && word(stem))
    };
    files.retain(is_test);
    files.sort();
    if files.is_empty() {
        bail!(
            "there are no tests: no *.{extension} in {}",
            dir.join(TESTS).display()
        );
    }
    Ok(files)
}

/// Whether a file of a project, by its path inside of it, is something that a
/// person writes rather than something that tools made or fetched.
pub(crate) fn is_source(inside: &Path) -> bool {
    let made = |part: &std::ffi::OsStr| {
        // The last is where `coglex dev` keeps its data when it is run in the folder.
        [
            "target",
            "dist",
            "node_modules",
            "__pycache__",
            "coglex-data",
        ]
        .iter()
        .any(|name| part == *name)
            || part.as_encoded_bytes().starts_with(b".")
    };
    inside != Path::new("Cargo.lock") && !inside.components().any(|part| made(part.as_os_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_make_is_no_source() {
        for path in [
            "src/lib.rs",
            "coglex.toml",
            "src/dist.js",
            "package-lock.json",
        ] {
            assert!(is_source(Path::new(path)), "{path}");
        }
        for path in [
            "Cargo.lock",
            "target/x",
            ".coglex/entry.js",
            "a/__pycache__/b.pyc",
            "node_modules/coglex/package.json",
            "dist/a.wasm",
            "coglex-data/documents.db",
        ] {
            assert!(!is_source(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_project() {
        let dir = tempfile::tempdir().unwrap();
        let error = Project::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has no Cargo.toml"), "{error}");
        let error = Project::open(&dir.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("is not a folder"), "{error:#}");
    }

    #[test]
    fn names_that_plugins_cannot_have_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("app.js"), "").unwrap();
        std::fs::write(
            dir.path().join("package.json"),
            r#"{"name": "@acme/App", "main": "app.js", "coglex": {"kind": "app"}}"#,
        )
        .unwrap();
        let error = Project::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("@acme/App"), "{error}");
    }
}
