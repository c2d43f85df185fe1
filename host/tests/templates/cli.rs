//! `coglex build` where something is missing or wrong: what it says.

use std::fs;

use crate::tools::{bad, coglex, good, without};

#[test]
fn a_folder_without_a_plugin_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let said = bad(coglex().arg("build").arg(dir.path()));
    assert!(
        said.contains("has no Cargo.toml, package.json or pyproject.toml"),
        "{said}"
    );
    let said = bad(coglex().arg("build").arg(dir.path().join("absent")));
    assert!(said.contains("is not a folder"), "{said}");
}

#[test]
fn a_missing_tool_is_named_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let build = |language: &str| {
        let name = format!("a-{language}");
        good(
            coglex()
                .current_dir(dir.path())
                .args(["new", &name, "--lang", language]),
        );
        bad(coglex()
            .current_dir(dir.path().join(name))
            .arg("build")
            .env("PATH", empty.path())
            .env("COGLEX_TOOLS_DIR", empty.path().join("tools"))
            .env_remove("RUSTC"))
    };
    let said = build("rust");
    assert!(said.contains("https://rustup.rs"), "{said}");
    let said = build("js");
    assert!(
        said.contains("node was not found") && said.contains("apt-get install nodejs npm"),
        "{said}"
    );
    let said = build("python");
    assert!(
        said.contains("python3 was not found") && said.contains("apt-get install"),
        "{said}"
    );
}

#[test]
#[cfg(unix)]
fn a_rust_without_the_target_is_told_what_to_type() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    good(coglex().current_dir(dir.path()).args(["new", "a"]));
    let rustc = dir.path().join("rustc");
    fs::write(&rustc, "#!/bin/sh\necho /nowhere/lib\n").unwrap();
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
    let said = bad(coglex()
        .current_dir(dir.path().join("a"))
        .arg("build")
        .env("RUSTC", &rustc));
    assert!(said.contains("rustup target add wasm32-wasip2"), "{said}");
}

#[test]
fn a_manifest_that_is_none_is_said_before_anything_is_built() {
    let dir = tempfile::tempdir().unwrap();
    good(
        coglex()
            .current_dir(dir.path())
            .args(["new", "a", "--lang", "js"]),
    );
    fs::write(dir.path().join("a/coglex.toml"), "[grant]\n").unwrap();
    let said = bad(coglex().arg("build").arg(dir.path().join("a")));
    assert!(
        said.contains("coglex.toml") && said.contains("grant"),
        "{said}"
    );
}

#[test]
fn the_tools_own_errors_are_shown() {
    if without("node") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    good(
        coglex()
            .current_dir(dir.path())
            .args(["new", "a", "--lang", "js"]),
    );
    fs::write(
        dir.path().join("a/src/app.js"),
        "import \"coglex\";\nnotDefined();\n",
    )
    .unwrap();
    let said = bad(coglex().arg("build").arg(dir.path().join("a")));
    assert!(said.contains("notDefined is not defined"), "{said}");
    assert!(said.contains("/src/app.js:2"), "{said}");
    assert!(said.contains("a does not build"), "{said}");
    assert!(!dir.path().join("a/dist/a.wasm").exists());
}

#[test]
fn the_component_goes_where_it_is_wanted_and_carries_its_manifest() {
    if without("node") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    good(
        coglex()
            .current_dir(dir.path())
            .args(["new", "a", "--lang", "js"]),
    );
    let project = dir.path().join("a");
    let said = good(coglex().current_dir(&project).arg("build"));
    assert!(said.contains("dist/a.wasm"), "{said}");
    let component = fs::read(project.join("dist/a.wasm")).unwrap();
    let manifest = fs::read(project.join("coglex.toml")).unwrap();
    assert!(component.ends_with(&manifest));
    good(
        coglex()
            .current_dir(&project)
            .args(["build", "--out", "elsewhere"]),
    );
    assert_eq!(
        fs::read(project.join("elsewhere/a.wasm")).unwrap(),
        component
    );
}
