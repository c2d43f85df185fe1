//! Puts what `coglex new` and `coglex build` write into the program: templates,
//! the SDKs and `wit/`, as a table of paths and texts. A binary that somebody has
//! copied somewhere can then make a plugin without this repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where things are in the table, and where they come from.
const TREES: [(&str, &str); 8] = [
    ("templates", "templates"),
    ("wit", "../wit"),
    ("js/package.json", "../plugin-sdk/js/package.json"),
    ("js/src", "../plugin-sdk/js/src"),
    ("python/coglex", "../plugin-sdk/python/coglex"),
    ("rust/workspace.toml", "../Cargo.toml"),
    ("rust/plugin-sdk/Cargo.toml", "../plugin-sdk/Cargo.toml"),
    ("rust/plugin-sdk/src", "../plugin-sdk/src"),
];

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut table = String::from("&[\n");
    let mut instructions = String::from("cargo::rerun-if-changed=build.rs\n");
    for (name, tree) in TREES {
        let _ = writeln!(instructions, "cargo::rerun-if-changed={tree}");
        embed(&here, name, tree, &mut table)?;
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("embedded.rs"), table)?;
    io::Write::write_all(&mut io::stdout(), instructions.as_bytes())
}

/// One file, or the files of a folder in the order of their names. Their places
/// are told from this package's folder, so that a target folder which several
/// clones share never leads into another clone.
fn embed(here: &Path, name: &str, tree: &str, table: &mut String) -> io::Result<()> {
    let path = here.join(tree);
    if !path.is_dir() {
        let place = format!("/{tree}");
        let _ = writeln!(
            table,
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {place:?}))),"
        );
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        let Some(file) = entry.to_str() else { continue };
        // What editors and interpreters leave behind is not ours.
        let ours = !file.starts_with(['.', '#']) && !file.ends_with('~') && file != "__pycache__";
        if ours {
            embed(
                here,
                &format!("{name}/{file}"),
                &format!("{tree}/{file}"),
                table,
            )?;
        }
    }
    Ok(())
}
