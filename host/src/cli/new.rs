//! `coglex new`: writes a plugin to start from.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgMatches, Command};

use crate::project::{embedded, sdk};

/// What stands in a template for the plugin's name.
const NAME: &str = "{{name}}";

/// Words that cargo takes for no package: Rust's keywords, and names of its own.
/// (<https://doc.rust-lang.org/reference/keywords.html>)
const NO_CRATES: [&str; 42] = [
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue",
    "core", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen",
    "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "static", "std", "struct", "test", "trait", "type", "use",
];

pub(super) fn command() -> Command {
    Command::new("new")
        .about("Writes a small plugin to start from")
        .arg(
            Arg::new("path")
                .value_name("NAME")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("The plugin's name, and the folder that is made; the last part of a path is the name"),
        )
        .arg(
            Arg::new("lang")
                .long("lang")
                .value_name("LANGUAGE")
                .default_value("rust")
                .value_parser(["rust", "js", "python"])
                .help("What it is written in"),
        )
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .default_value("app")
                .value_parser(["app", "function"])
                .help("An app answers HTTP requests, a function is called by its name"),
        )
}

pub(super) fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let path = given.get_one::<PathBuf>("path").context("no name")?;
    let language = given.get_one::<String>("lang").context("no language")?;
    let kind = given.get_one::<String>("kind").context("no kind")?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name at its end", path.display()))?;
    check_name(name)?;
    if path.exists() {
        bail!("{} is there already; nothing was written", path.display());
    }
    write(path, name, language, kind)
        .with_context(|| format!("cannot write the plugin into {}", path.display()))?;
    let dir = path.display();
    writeln!(
        std::io::stdout(),
        "{dir} is a new {kind} in {}. Next:\n\
         \n  cd {dir}\
         \n  coglex dev --source .    # build, serve, and build again when a file is saved\
         \n  coglex build             # the component alone: dist/{name}.wasm\
         \n\nREADME.md tells the rest.",
        shown(language)
    )
    .context("cannot print what to do next")
}

fn shown(language: &str) -> &str {
    match language {
        "js" => "JavaScript",
        "python" => "Python",
        _ => "Rust",
    }
}

fn write(dir: &Path, name: &str, language: &str, kind: &str) -> std::io::Result<()> {
    for folder in ["common", kind] {
        for (inside, text) in embedded::files(&format!("templates/{language}/{folder}")) {
            embedded::write(&dir.join(file_name(inside)), &text.replace(NAME, name))?;
        }
    }
    match language {
        "rust" => sdk::write_rust(dir),
        "js" => sdk::write_javascript(dir),
        _ => sdk::write_python(dir),
    }
}

/// Templates carry names under which nobody takes them for what they become.
fn file_name(inside: &str) -> &str {
    match inside {
        "gitignore" => ".gitignore",
        "Cargo.template.toml" => "Cargo.toml",
        other => other,
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let well_formed = name.starts_with(|char: char| char.is_ascii_lowercase())
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !well_formed {
        bail!(
            "{name:?} cannot be the name; it is lower-case letters, digits and '-', \
             a letter first, at most 64 of them"
        );
    }
    // The SDK's own names would meet themselves.
    if NO_CRATES.contains(&name) || ["coglex", "coglex-sdk"].contains(&name) {
        bail!("{name:?} cannot be the name; it means something else to the tools");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_every_language_and_the_server() {
        for name in ["a", "notes", "my-app-2"] {
            check_name(name).unwrap();
            assert!(crate::plugins::is_plugin_name(name));
        }
        let long = "a".repeat(65);
        for name in [
            "",
            "Notes",
            "2fast",
            "-a",
            "a_b",
            "a.b",
            "näme",
            "match",
            "coglex-sdk",
            &long,
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_template_is_whole() {
        for language in ["rust", "js", "python"] {
            for kind in ["app", "function"] {
                let dir = tempfile::tempdir().unwrap();
                write(dir.path(), "notes", language, kind).unwrap();
                for file in ["README.md", ".gitignore", "coglex.toml"] {
                    assert!(dir.path().join(file).is_file(), "{language} {kind}: {file}");
                }
                let project = crate::project::Project::open(dir.path()).unwrap();
                assert_eq!(project.name(), "notes");
                for entry in std::fs::read_dir(dir.path()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_file() {
                        let text = std::fs::read_to_string(&path).unwrap();
                        assert!(!text.contains("{{"), "{}", path.display());
                    }
                }
            }
        }
    }
}
