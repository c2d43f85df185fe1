//! Python: a `pyproject.toml` with `[tool.coglex]`, made into a component by
//! `componentize-py`, which puts CPython and a snapshot of the imported modules
//! into it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use coglex_runtime::Ask;
use serde::Deserialize;

use super::run::{BuildError, Show, run};
use super::{Kind, Project, embedded, tools, unchanged, world};

/// The module that `componentize-py` starts from.
const ENTRY: &str = "coglex_entry";

/// What the build needs of a `pyproject.toml`.
#[derive(Debug, Clone)]
pub(super) struct Package {
    kind: Kind,
    /// The module that fills `app` or `functions`.
    module: String,
}

#[derive(Deserialize)]
struct PyProject {
    project: Option<ProjectTable>,
    tool: Option<ToolTable>,
}

#[derive(Deserialize)]
struct ProjectTable {
    name: String,
}

#[derive(Deserialize)]
struct ToolTable {
    coglex: Option<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    kind: Kind,
    #[serde(default = "default_module")]
    module: String,
}

fn default_module() -> String {
    "app".to_owned()
}

/// Reads the package in a folder; answers with its name as well.
pub(super) fn read(dir: &Path) -> anyhow::Result<(String, Package)> {
    let path = dir.join("pyproject.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let parsed: PyProject = toml::from_str(&text)
        .with_context(|| format!("{} is not as it should be", path.display()))?;
    let name = parsed
        .project
        .with_context(|| format!("{} has no [project] with a name", path.display()))?
        .name;
    let Some(section) = parsed.tool.and_then(|tool| tool.coglex) else {
        bail!(
            "{} does not say what it is; add [tool.coglex] with kind = \"app\" for routes, \
             or \"function\" for functions",
            path.display()
        );
    };
    let identifiers = section.module.split('.').all(|part| {
        part.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && part
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '_')
    });
    if !identifiers {
        bail!(
            "{} names {:?} as its module, which is no name of a Python module",
            path.display(),
            section.module
        );
    }
    let package = Package {
        kind: section.kind,
        module: section.module,
    };
    Ok((name, package))
}

/// Builds the component.
pub(super) async fn build(
    project: &Project,
    package: &Package,
    ask: &Ask,
) -> Result<Vec<u8>, BuildError> {
    make(project, package, ask, Making::Plugin).await
}

/// Builds a component with the tests in `tests/`.
pub(super) async fn build_tests(
    project: &Project,
    package: &Package,
    ask: &Ask,
) -> Result<Vec<u8>, BuildError> {
    let files = super::test_files(&project.dir, "py")?;
    make(project, package, ask, Making::Tests(&files)).await
}

/// What is made of a project.
enum Making<'a> {
    Plugin,
    /// Its tests, in these files of the folder `tests`.
    Tests(&'a [String]),
}

async fn make(
    project: &Project,
    package: &Package,
    ask: &Ask,
    making: Making<'_>,
) -> Result<Vec<u8>, BuildError> {
    let (dir, scratch) = (&project.dir, project.scratch());
    let _lock = tools::lock(&scratch).await?;
    let digest = unchanged::digest(dir, &tools::python_version())
        .context("cannot read the project's files")?;
    super::sdk::write_python(dir).context("cannot write the SDK into the project")?;
    let (kept, wit, entries) = match making {
        Making::Plugin => (scratch.clone(), "wit", "entry"),
        Making::Tests(_) => (scratch.join("suite"), "suite-wit", "suite-entry"),
    };
    if let Some(component) = unchanged::find(&kept, &digest) {
        return Ok(component);
    }
    let (wit, entries) = (scratch.join(wit), scratch.join(entries));
    let mut imports = world::imports(ask);
    let (text, written) = match making {
        Making::Plugin => (
            entry(&imports, package),
            world::write(&wit, &imports, package.kind),
        ),
        Making::Tests(files) => {
            imports.push(world::TEST_HOST);
            let written = world::write_tests(&wit, &imports);
            (test_entry(&imports, package, files), written)
        }
    };
    written.context("cannot write the plugin's world")?;
    embedded::write(&entries.join(format!("{ENTRY}.py")), &text)
        .context("cannot write the entry")?;
    let out = scratch.join("new.wasm");
    let (mut tool, tools_venv) = tools::componentize_py().await?;
    let own_venv = dir.join(".venv");
    tool.current_dir(dir)
        // What is installed for the project is found, what is for the system is not.
        .env(
            "VIRTUAL_ENV",
            if own_venv.is_dir() {
                own_venv
            } else {
                tools_venv
            },
        )
        .arg("--wit-path")
        .arg(&wit)
        .args(["--world", world::WORLD, "componentize", ENTRY])
        .arg("--python-path")
        .arg(&entries)
        .arg("--python-path")
        .arg(scratch.join("python"))
        .arg("--python-path")
        .arg(dir);
    if dir.join("src").is_dir() {
        tool.arg("--python-path").arg(dir.join("src"));
    }
    tool.arg("--output").arg(&out);
    run("componentize-py", &mut tool, Show::OnFailure).await?;
    let component = fs::read(&out).context("componentize-py has built nothing")?;
    unchanged::keep(&kept, &digest, &component).context("cannot keep the component")?;
    Ok(component)
}

/// The module that the component with the tests is made of.
fn test_entry(imports: &[(&str, &str)], package: &Package, files: &[String]) -> String {
    let mut text = preamble("coglex plugin test", imports, package);
    text.push_str("from coglex import testing as tests\n\n");
    for file in files {
        let module = file.strip_suffix(".py").unwrap_or(file);
        let module = format!("tests.{module}");
        let _ = writeln!(text, "tests.collect(importlib.import_module({module:?}))");
    }
    text.push_str(SUITE);
    text
}

const SUITE: &str = r#"

class Suite(exports.Suite):
    def list(self):
        return tests.listed()

    def run(self, name):
        tests.run(Err, name)
"#;

/// The module that the component is made of: it hands the server's interfaces to
/// the SDK, loads the plugin, and exports what the plugin has filled in.
fn entry(imports: &[(&str, &str)], package: &Package) -> String {
    let mut text = preamble("coglex build", imports, package);
    text.push_str(match package.kind {
        Kind::App => APP,
        Kind::Function => FUNCTIONS,
    });
    text
}

fn preamble(writer: &str, imports: &[(&str, &str)], package: &Package) -> String {
    let names: Vec<_> = imports.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    // The name of the interface with what only tests have is `host` there, as that
    // of the module with the entry's helpers is here.
    let names = names.replace("testing", "host as testing");
    let mut text = format!(
        "# Written by `{writer}`.\n\
         import importlib\n\n\
         from componentize_py_types import Err\n\
         from wit_world import exports\n\
         from wit_world.imports import {names}\n\n\
         from coglex import host\n\n\
         host.bind(",
    );
    for (name, _) in imports {
        let _ = write!(text, "{name}={name}, ");
    }
    let _ = write!(text, ")\nimportlib.import_module({:?})\n\n", package.module);
    text
}

const APP: &str = r#"
from wit_world.exports import app as wit_app
from wit_world.imports import types as wit_types


class App(exports.App):
    def describe(self):
        return host.describe_app(wit_app)


class Handler(exports.Handler):
    def handle(self, request):
        return host.handle(wit_types, request)
"#;

const FUNCTIONS: &str = r#"
from wit_world.exports import declarations as wit_declarations
from wit_world.exports import functions as wit_functions


class Functions(exports.Functions):
    def describe(self):
        return host.describe_functions(wit_functions)

    def run(self, call):
        return host.run(wit_functions, Err, call)


class Declarations(exports.Declarations):
    def declare(self):
        return host.declare_functions(wit_declarations)
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn package(toml: &str) -> anyhow::Result<(String, Package)> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pyproject.toml"), toml).unwrap();
        read(dir.path())
    }

    #[test]
    fn a_package_says_its_name_kind_and_module() {
        let (name, read) = package(
            "[project]\nname = \"a\"\n[tool.coglex]\nkind = \"app\"\nmodule = \"b.c\"\n[tool.x]\ny = 1",
        )
        .unwrap();
        assert_eq!(
            (name.as_str(), read.kind, read.module.as_str()),
            ("a", Kind::App, "b.c")
        );
        let (_, read) =
            package("[project]\nname = \"a\"\n[tool.coglex]\nkind = \"function\"").unwrap();
        assert_eq!(read.module, "app");
    }

    #[test]
    fn what_is_missing_or_no_module_is_said() {
        for (toml, part) in [
            ("[tool.coglex]\nkind = \"app\"", "has no [project]"),
            ("[project]\nname = \"a\"", "kind = \"app\""),
            (
                "[project]\nname = \"a\"\n[tool.coglex]\nkind = \"job\"",
                "not as it should be",
            ),
            (
                "[project]\nname = \"a\"\n[tool.coglex]\nkind = \"app\"\nmodule = \"x; import os\"",
                "no name of a Python module",
            ),
        ] {
            let error = package(toml).unwrap_err().to_string();
            assert!(error.contains(part), "{toml}: {error}");
        }
    }

    #[test]
    fn the_entry_imports_what_the_world_has() {
        let (_, package) =
            package("[project]\nname = \"a\"\n[tool.coglex]\nkind = \"app\"").unwrap();
        let text = entry(&[("logging", "x"), ("caller", "y")], &package);
        assert!(
            text.contains("from wit_world.imports import logging, caller\n"),
            "{text}"
        );
        assert!(
            text.contains("host.bind(logging=logging, caller=caller, )"),
            "{text}"
        );
        assert!(text.contains("import_module(\"app\")"), "{text}");
        assert!(text.contains("class Handler(exports.Handler)"), "{text}");
    }
}
