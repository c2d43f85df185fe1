//! What `coglex new` writes builds as it is, passes its own tests, and serves.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::guests::{Host, build_env};
use crate::tools::{LOADING, bad, build, coglex, good, root, without};

/// A fresh plugin, named after both (builds share a target folder, and their
/// results must not meet there), and the folder that it lives in.
pub fn new(language: &str, kind: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("{kind}-in-{language}");
    let said = good(
        coglex()
            .current_dir(dir.path())
            .args(["new", &name, "--lang", language, "--kind", kind]),
    );
    assert!(said.contains("coglex dev --source ."), "{said}");
    let project = dir.path().join(name);
    if language == "rust" {
        // The versions of this repository, which need no network to be found again.
        std::fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    }
    (dir, project)
}

#[test]
fn a_rust_app() {
    let (_dir, project) = new("rust", "app");
    serves_notes(&project);
    let mut tests = Command::new(env!("CARGO"));
    build_env(&mut tests);
    // Tests run here, so the compiler is the usual one.
    tests.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    good(tests.current_dir(&project).arg("test"));
    passes_its_tests(&project, 2);
}

#[test]
fn a_rust_function() {
    let (_dir, project) = new("rust", "function");
    greets(&project);
    passes_its_tests(&project, 2);
}

#[test]
fn a_javascript_app() {
    if without("node") {
        return;
    }
    let (_dir, project) = new("js", "app");
    serves_notes(&project);
    good(Command::new("node").current_dir(&project).arg("--test"));
    passes_its_tests(&project, 1);
}

#[test]
fn a_javascript_function() {
    if without("node") {
        return;
    }
    let (_dir, project) = new("js", "function");
    greets(&project);
    good(Command::new("node").current_dir(&project).arg("--test"));
    passes_its_tests(&project, 1);
}

#[test]
fn a_python_app() {
    let (_dir, project) = new("python", "app");
    serves_notes(&project);
    good(&mut python_tests(&project));
}

#[test]
fn a_python_function() {
    let (_dir, project) = new("python", "function");
    greets(&project);
    good(&mut python_tests(&project));
}

/// By `coglex plugin test`, this many.
pub fn passes_its_tests(project: &Path, tests: usize) {
    let said = good(coglex().args(["plugin", "test"]).arg(project));
    let result = format!("{tests} passed; 0 failed; 0 ignored");
    assert!(said.contains(&result), "{said}");
}

fn python_tests(project: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .current_dir(project)
        .env("PYTHONPATH", ".coglex/python")
        .args(["-m", "unittest"]);
    python
}

/// As the README of the app templates says.
fn serves_notes(project: &Path) {
    let (host, name) = serve(
        project,
        r#"storage = [{ collection = "notes", verbs = ["read", "insert"] }]"#,
    );
    let hello = format!("/api/{name}/hello");
    let notes = format!("/api/{name}/notes");
    host.answers_within(&hello, "Hello, world!", LOADING);
    let anonymous = host.server.anonymous();
    let greeting = anonymous.get(&format!("{hello}?name=Ann%20B"));
    assert_eq!(greeting.text(), "Hello, Ann B!");
    anonymous.get(&notes).problem(401, "api_key_required");
    let api = host.server.api();
    let added = api.post(&notes, &json!({"text": "Buy milk"}));
    assert_eq!(added.status, 201, "{}", added.text());
    let list = api.get(&notes).json();
    assert_eq!(list[0]["text"], "Buy milk", "{list}");
    api.post(&notes, &json!({"txt": "x"}))
        .problem(400, "invalid_body");
}

/// As the README of the function templates says.
fn greets(project: &Path) {
    let (host, name) = serve(project, "");
    host.logged_within(&[&name, "plugin loaded"], LOADING);
    let api = host.server.api();
    let call = |body| api.post("/service/execution/v1/execute/greet/", &body);
    let greeting = call(json!({"args": ["Ann"], "kwargs": {"greeting": "Hi"}}));
    assert_eq!(greeting.json(), json!("Hi, Ann!"));
    assert_eq!(
        call(json!({"kwargs": {"name": "Bob"}})).json(),
        json!("Hello, Bob!")
    );
    call(json!({"args": [""]})).problem(422, "no_name");
    for (body, part) in [
        (json!({}), "`name` is missing"),
        (json!({"args": [7]}), "`name`"),
        (
            json!({"args": ["a"], "kwargs": {"x": 1}}),
            "no parameter `x`",
        ),
    ] {
        let detail = call(body).problem(422, "invalid_argument");
        assert!(detail.contains(part), "{detail}");
    }
}

/// Builds it, and starts a server that has it and allows it this; answers with
/// its name as well.
fn serve(project: &Path, allowed: &str) -> (Host, String) {
    let name = project.file_name().unwrap().to_str().unwrap();
    let host = Host::with(&[], &format!("[plugins.allow.{name}]\n{allowed}\n"));
    host.deploy(name, &build(project));
    (host, name.to_owned())
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let new = |args: &[&str]| {
        let mut command = coglex();
        command.current_dir(dir.path()).arg("new").args(args);
        command
    };
    good(&mut new(&["notes", "--lang", "js"]));
    let readme = dir.path().join("notes/README.md");
    std::fs::write(&readme, "mine").unwrap();
    let said = bad(&mut new(&["notes"]));
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(std::fs::read_to_string(&readme).unwrap(), "mine");
    for name in ["Notes", "../x/9", "a_b", "match"] {
        let said = bad(&mut new(&[name]));
        assert!(said.contains("cannot be the name"), "{name}: {said}");
    }
    let said = bad(&mut new(&["x", "--lang", "cobol"]));
    assert!(said.contains("rust, js, python"), "{said}");
    assert!(!dir.path().join("x").exists());
}
