//! JavaScript: a `package.json` with `"coglex": {"kind": "app"}`, made into a
//! component by `componentize-qjs`, which puts QuickJS and a snapshot of the
//! evaluated modules into it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Component as PathPart, Path, PathBuf};

use anyhow::{Context as _, bail};
use coglex_runtime::Ask;
use serde::Deserialize;

use super::run::{BuildError, Show, run};
use super::{Kind, Project, embedded, tools, unchanged, world};

/// What the build needs of a `package.json`.
#[derive(Debug, Clone)]
pub(super) struct Package {
    kind: Kind,
    /// The module that fills `app` or `functions`, inside of the project.
    main: PathBuf,
    /// Whether npm has to fetch something first.
    has_dependencies: bool,
}

#[derive(Deserialize)]
struct PackageJson {
    name: Option<String>,
    main: Option<PathBuf>,
    coglex: Option<Section>,
    #[serde(default)]
    dependencies: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    kind: Kind,
}

/// Reads the package in a folder; answers with its name as well.
pub(super) fn read(dir: &Path) -> anyhow::Result<(String, Package)> {
    let path = dir.join("package.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let json: PackageJson = serde_json::from_str(&text)
        .with_context(|| format!("{} is not as it should be", path.display()))?;
    let name = json
        .name
        .with_context(|| format!("{} has no \"name\"", path.display()))?;
    let Some(section) = json.coglex else {
        bail!(
            "{} does not say what it is; add \"coglex\": {{\"kind\": \"app\"}} for routes, \
             or \"function\" for functions",
            path.display()
        );
    };
    let main = json.main.unwrap_or_else(|| PathBuf::from("src/app.js"));
    let inside = main
        .components()
        .all(|part| matches!(part, PathPart::Normal(_) | PathPart::CurDir));
    if !inside || !dir.join(&main).is_file() {
        bail!(
            "{} names {} as its \"main\", which is no file in the project",
            path.display(),
            main.display()
        );
    }
    let package = Package {
        kind: section.kind,
        main,
        has_dependencies: !json.dependencies.is_empty(),
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
    let files = super::test_files(&project.dir, "js")?;
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
    if package.has_dependencies && !dir.join("node_modules/.package-lock.json").is_file() {
        let mut npm = tokio::process::Command::new(tools::npm());
        npm.current_dir(dir)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
        run("npm", &mut npm, Show::Live).await?;
    }
    let digest = unchanged::digest(dir, &tools::javascript_version())
        .context("cannot read the project's files")?;
    super::sdk::write_javascript(dir).context("cannot write the SDK into the project")?;
    let (kept, wit, start) = match making {
        Making::Plugin => (scratch.clone(), "wit", "entry.js"),
        Making::Tests(_) => (scratch.join("suite"), "suite-wit", "suite.js"),
    };
    if let Some(component) = unchanged::find(&kept, &digest) {
        return Ok(component);
    }
    let (wit, start) = (scratch.join(wit), scratch.join(start));
    let mut imports = world::imports_with_random(ask);
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
    embedded::write(&start, &text).context("cannot write the entry")?;
    let out = scratch.join("new.wasm");
    let mut tool = tools::componentize_qjs().await?;
    tool.current_dir(dir)
        .arg("--wit")
        .arg(&wit)
        .arg("--js")
        .arg(&start)
        .arg("--module-root")
        .arg(dir)
        .args(["--world", world::WORLD, "--sync"])
        .arg("--output")
        .arg(&out);
    run("componentize-qjs", &mut tool, Show::OnFailure).await?;
    let component = fs::read(&out).context("componentize-qjs has built nothing")?;
    unchanged::keep(&kept, &digest, &component).context("cannot keep the component")?;
    Ok(component)
}

/// The module that the component with the tests is made of.
fn test_entry(imports: &[(&str, &str)], package: &Package, files: &[String]) -> String {
    let mut text = String::from(
        "// Written by `coglex plugin test`.\n\
         import { bind } from \"coglex/host\";\n\
         import { exportedSuite } from \"coglex/testing\";\n",
    );
    for (name, interface) in imports {
        let _ = writeln!(text, "import {name} from {interface:?};");
    }
    let _ = writeln!(text, "import {:?};", format!("../{}", main(package)));
    for file in files {
        let _ = writeln!(text, "import {:?};", format!("../tests/{file}"));
    }
    let names: Vec<_> = imports.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "\nbind({{ {} }});", names.join(", "));
    text.push_str("export const suite = exportedSuite;\n");
    text
}

/// The plugin's module, as imports name it.
fn main(package: &Package) -> String {
    let parts: Vec<_> = package
        .main
        .iter()
        .map(|part| part.to_string_lossy())
        .collect();
    parts.join("/")
}

/// The module that the component is made of: it hands the server's interfaces to
/// the SDK, loads the plugin, and exports what the plugin has filled in.
fn entry(imports: &[(&str, &str)], package: &Package) -> String {
    let mut text = String::from(
        "// Written by `coglex build`.\n\
         import { bind, exportedApp, exportedDeclarations, exportedFunctions, exportedHandler } from \"coglex/host\";\n\
         import \"coglex\";\n",
    );
    for (name, interface) in imports {
        let _ = writeln!(text, "import {name} from {interface:?};");
    }
    let _ = writeln!(text, "import {:?};\n", format!("../{}", main(package)));
    let names: Vec<_> = imports.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(text, "bind({{ {} }});", names.join(", "));
    text.push_str(match package.kind {
        Kind::App => "export const app = exportedApp;\nexport const handler = exportedHandler;\n",
        Kind::Function => {
            "export const functions = exportedFunctions;\nexport const declarations = exportedDeclarations;\n"
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(json: &str) -> anyhow::Result<(String, Package)> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/app.js"), "").unwrap();
        fs::write(dir.path().join("package.json"), json).unwrap();
        read(dir.path())
    }

    #[test]
    fn a_package_says_its_name_and_its_kind() {
        let (name, read) =
            package(r#"{"name": "a", "coglex": {"kind": "function"}, "dependencies": {"x": "1"}}"#)
                .unwrap();
        assert_eq!((name.as_str(), read.kind), ("a", Kind::Function));
        assert!(read.has_dependencies);
        assert_eq!(read.main, Path::new("src/app.js"));
    }

    #[test]
    fn what_is_missing_or_outside_is_said() {
        for (json, part) in [
            (r#"{"name": "a"}"#, "\"kind\": \"app\""),
            (r#"{"coglex": {"kind": "app"}}"#, "has no \"name\""),
            (
                r#"{"name": "a", "coglex": {"kind": "job"}}"#,
                "not as it should be",
            ),
            (
                r#"{"name": "a", "coglex": {"kind": "app"}, "main": "../x.js"}"#,
                "no file in the project",
            ),
            (
                r#"{"name": "a", "coglex": {"kind": "app"}, "main": "absent.js"}"#,
                "no file in the project",
            ),
        ] {
            let error = package(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn the_entry_imports_what_the_world_has() {
        let (_, package) = package(r#"{"name": "a", "coglex": {"kind": "app"}}"#).unwrap();
        let text = entry(&[("logging", "coglex:log/logging@0.1.0")], &package);
        assert!(
            text.contains("import logging from \"coglex:log/logging@0.1.0\";"),
            "{text}"
        );
        assert!(text.contains("import \"../src/app.js\";"), "{text}");
        assert!(text.contains("bind({ logging });"), "{text}");
        assert!(text.contains("export const handler"), "{text}");
        let text = test_entry(&[world::TEST_HOST], &package, &["notes.js".to_owned()]);
        assert!(
            text.contains("import testing from \"coglex:testing/host@0.1.0\";"),
            "{text}"
        );
        assert!(text.contains("import \"../tests/notes.js\";"), "{text}");
    }
}
