//! The SDKs' own tests, in their own languages.

use std::process::Command;

use crate::tools::{good, root, without};

#[test]
fn of_javascript() {
    if !without("node") {
        good(
            Command::new("node")
                .current_dir(root().join("plugin-sdk/js"))
                .arg("--test"),
        );
    }
}

#[test]
fn of_python() {
    let mut python = Command::new("python3");
    good(
        python
            .current_dir(root().join("plugin-sdk/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["-m", "unittest", "discover", "-s", "tests"]),
    );
}
