//! `coglex plugin test`: what a test can say about its world and see of it, and
//! how it is told that one failed. The tests that it runs are in the folder of the
//! same name.

use std::path::Path;
use std::process::{Command, Output};

use crate::new::{new, passes_its_tests};
use crate::tools::{coglex, good, without};

/// What the tests in `plugin_test` ask for.
const MANIFEST: &str = include_str!("plugin_test/coglex.toml");
const GOOD: &str = include_str!("plugin_test/good.rs");
const BAD: &str = include_str!("plugin_test/bad.rs");

fn plugin_test(project: &Path, filters: &[&str]) -> Command {
    let mut command = coglex();
    command.args(["plugin", "test"]).arg(project).args(filters);
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_test_has_a_server_of_its_own() {
    let (_dir, project) = new("rust", "app");
    std::fs::write(project.join("coglex.toml"), MANIFEST).unwrap();
    std::fs::create_dir(project.join("tests")).unwrap();
    std::fs::write(project.join("tests/good.rs"), GOOD).unwrap();
    let said = good(&mut plugin_test(&project, &[]));
    assert!(said.contains("running 2 tests of src/lib.rs"), "{said}");
    assert!(said.contains("test ignored ... ignored"), "{said}");
    let tests = GOOD.matches("#[test]").count() + 1;
    let result = format!("test result: ok. {tests} passed; 0 failed; 1 ignored; 0 filtered out");
    assert!(said.contains(&result), "{said}");
    assert!(!said.contains('\x1b'), "nobody sees colours here: {said}");

    // The rest would show in what follows: cargo builds only what has changed.
    std::fs::remove_file(project.join("tests/good.rs")).unwrap();
    std::fs::write(project.join("tests/bad.rs"), BAD).unwrap();
    failures_are_told(&project);
}

#[test]
fn in_javascript_too() {
    if without("node") {
        return;
    }
    let (_dir, project) = new("js", "app");
    std::fs::write(project.join("coglex.toml"), MANIFEST).unwrap();
    let tests = include_str!("plugin_test/good.js");
    std::fs::write(project.join("tests/good.js"), tests).unwrap();
    passes_its_tests(&project, 1 + tests.matches("\ntest(").count());

    let bad = "import { equal, test } from \"coglex/testing\";
        test(\"fails\", () => equal({ a: 1 }, { a: 2 }, \"arithmetic is broken\"));
        test(\"loops\", () => { for (;;); });
        test(\"waits\", async () => {});";
    std::fs::write(project.join("tests/bad.js"), bad).unwrap();
    let output = plugin_test(&project, &["fails", "loops", "waits"])
        .output()
        .unwrap();
    let (said, _) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "arithmetic is broken",
        "{\"a\":2}",
        "CPU budget of 2s",
        "not an async one",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

/// What passes and what fails in one component: making and
/// compiling a component with a whole Python in it takes a while.
#[test]
fn in_python_too() {
    let (_dir, project) = new("python", "app");
    std::fs::write(project.join("coglex.toml"), MANIFEST).unwrap();
    let tests = include_str!("plugin_test/good.py");
    std::fs::write(project.join("tests/good.py"), tests).unwrap();
    let bad = "def test_fails():\n    assert 1 + 1 == 3, \"arithmetic is broken\"\n";
    std::fs::write(project.join("tests/bad.py"), bad).unwrap();
    let (said, _) = text(&plugin_test(&project, &[]).output().unwrap());
    let passed = 1 + tests.matches("\ndef test_").count();
    assert!(
        said.contains(&format!("{passed} passed; 1 failed; 0 ignored")),
        "{said}"
    );
    for part in ["bad.py", "AssertionError: arithmetic is broken"] {
        assert!(said.contains(part), "{said}");
    }
}

fn failures_are_told(project: &Path) {
    let output = plugin_test(project, &[]).output().unwrap();
    let (said, aside) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}\n{aside}");
    assert!(said.contains("3 passed; 6 failed; 0 ignored"), "{said}");
    assert!(aside.contains("6 tests of app-in-rust failed"), "{aside}");
    let of = |test: &str| {
        let (_, report) = said.split_once(&format!("---- {test} ----\n")).unwrap();
        let end = report
            .find("\n----")
            .or(report.find("\nfailures:"))
            .unwrap();
        report[..end].to_owned()
    };
    for (test, parts) in [
        (
            "panics",
            &["printed before", "arithmetic is broken", "bad.rs:"][..],
        ),
        ("returns_an_error", &["a teapot"]),
        ("loops", &["more than its CPU budget of 2s"]),
        (
            "asks_for_all_the_memory",
            &["memory budget of 134217728 bytes"],
        ),
        ("asks_another_server", &["begins with a slash"]),
        ("signs_up_whom_nobody_can_be", &["cannot become a user"]),
    ] {
        let report = of(test);
        for part in parts {
            assert!(report.contains(part), "{test}: {report}");
        }
    }

    let said = good(&mut plugin_test(project, &["all_the_same", "greets"]));
    assert!(
        said.contains("2 passed; 0 failed; 0 ignored; 7 filtered out"),
        "{said}"
    );
}
