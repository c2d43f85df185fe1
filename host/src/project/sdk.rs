//! Writes the SDKs that this binary carries into projects, so that a project
//! builds without a package registry that has them, and always with the SDK that
//! fits the server.
//!
//! - Rust: `.coglex/rust`, named in `Cargo.toml` as a dependency by path.
//! - JavaScript: `node_modules/coglex`, where `import "coglex"` looks, also that of
//!   Node and of editors.
//! - Python: `.coglex/python`, on the path of modules while building.

use std::io;
use std::path::Path;

use toml::{Table, Value};

use super::{SCRATCH, embedded};

/// Writes the Rust SDK, with the `wit/` that it is generated from beside it.
pub(crate) fn write_rust(project: &Path) -> io::Result<()> {
    let to = project.join(SCRATCH).join("rust");
    let manifest = standalone_manifest().map_err(io::Error::other)?;
    let manifest = format!("# Written by `coglex`, and again by each `coglex build`.\n{manifest}");
    let sources =
        embedded::files("rust").filter(|(inside, _)| inside.starts_with("plugin-sdk/src/"));
    embedded::sync(
        &to.join("plugin-sdk"),
        sources
            .filter_map(|(inside, text)| Some((inside.strip_prefix("plugin-sdk/")?, text)))
            .chain([("Cargo.toml", manifest.as_str())]),
    )?;
    embedded::sync(&to.join("wit"), embedded::files("wit"))
}

/// Writes the Rust SDK again where a project uses the one of its scratch folder.
pub(super) fn refresh_rust(project: &Path) -> io::Result<()> {
    let manifest = std::fs::read_to_string(project.join("Cargo.toml"))?;
    if manifest.contains(&format!("{SCRATCH}/rust/plugin-sdk")) {
        write_rust(project)?;
    }
    Ok(())
}

/// Writes the JavaScript SDK.
pub(crate) fn write_javascript(project: &Path) -> io::Result<()> {
    embedded::sync(&project.join("node_modules/coglex"), embedded::files("js"))
}

/// Writes the Python SDK.
pub(crate) fn write_python(project: &Path) -> io::Result<()> {
    let to = project.join(SCRATCH).join("python");
    embedded::sync(&to, embedded::files("python"))
}

/// The SDK's `Cargo.toml` without the workspace that it inherits from here.
fn standalone_manifest() -> Result<String, String> {
    let parse = |path: &str| -> Result<Table, String> {
        let text = embedded::file(path).ok_or_else(|| format!("{path} is not embedded"))?;
        text.parse().map_err(|error| format!("{path}: {error}"))
    };
    let mut manifest = parse("rust/plugin-sdk/Cargo.toml")?;
    let workspace = parse("rust/workspace.toml")?;
    let of_workspace = |section: &str| {
        workspace
            .get("workspace")
            .and_then(|workspace| workspace.get(section))
            .and_then(Value::as_table)
            .cloned()
            .unwrap_or_default()
    };
    for (section, base) in [
        ("package", of_workspace("package")),
        ("dependencies", of_workspace("dependencies")),
    ] {
        if let Some(table) = manifest.get_mut(section).and_then(Value::as_table_mut) {
            for (key, value) in table.iter_mut() {
                inherit(key, value, &base)?;
            }
        }
    }
    // Lints and tests are for this repository.
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    toml::to_string(&manifest).map_err(|error| error.to_string())
}

/// `{ workspace = true, … }` becomes what the workspace says, and the rest.
fn inherit(key: &str, value: &mut Value, base: &Table) -> Result<(), String> {
    let Some(own) = value
        .as_table()
        .filter(|own| own.get("workspace") == Some(&Value::Boolean(true)))
    else {
        return Ok(());
    };
    let found = base
        .get(key)
        .cloned()
        .ok_or_else(|| format!("the workspace has no {key}"))?;
    let additions: Table = own
        .iter()
        .filter(|(name, _)| *name != "workspace")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    *value = if additions.is_empty() {
        found
    } else {
        let mut merged = match found {
            Value::Table(table) => table,
            version => Table::from_iter([("version".to_owned(), version)]),
        };
        for (name, addition) in additions {
            match (merged.get_mut(&name), addition) {
                (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
                (_, addition) => drop(merged.insert(name, addition)),
            }
        }
        Value::Table(merged)
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdks_manifest_stands_alone() {
        let manifest: Table = standalone_manifest().unwrap().parse().unwrap();
        let text = manifest.to_string();
        assert!(!text.contains("workspace"), "{text}");
        assert_eq!(manifest["package"]["name"].as_str(), Some("coglex-sdk"));
        let version = manifest["package"]["version"].as_str();
        assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));
        let features = manifest["dependencies"]["serde_json"]["features"]
            .as_array()
            .unwrap();
        assert!(features.contains(&Value::from("raw_value")), "{text}");
    }

    #[test]
    fn the_sdk_is_written_where_it_is_used_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "[package]\n").unwrap();
        refresh_rust(dir.path()).unwrap();
        assert!(!dir.path().join(SCRATCH).exists());
        let uses = "coglex-sdk = { path = \".coglex/rust/plugin-sdk\" }";
        std::fs::write(dir.path().join("Cargo.toml"), uses).unwrap();
        refresh_rust(dir.path()).unwrap();
        let sdk = dir.path().join(".coglex/rust");
        for file in [
            "plugin-sdk/Cargo.toml",
            "plugin-sdk/src/lib.rs",
            "wit/world.wit",
        ] {
            assert!(sdk.join(file).is_file(), "{file}");
        }
        assert!(!sdk.join("workspace.toml").exists());
    }
}
