//! `coglex dev`: a plugin's source is saved, and the next request runs it.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::guests::Host;

/// A plugin as somebody outside of this repository would write it.
fn source(dir: &Path, greeting: &str) {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk");
    let manifest = format!(
        "[package]\nname = \"greeter\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n[workspace]\n\n\
         [dependencies]\ncoglex-sdk = {{ path = {:?} }}\n",
        sdk.canonicalize().unwrap()
    );
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    // The versions of this repository, which need no network to be found again.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, dir.join("Cargo.lock")).unwrap();
    save(dir, greeting);
}

fn save(dir: &Path, code: &str) {
    fs::write(dir.join("src/lib.rs"), code).unwrap();
}

fn app(path: &str, answer: &str) -> String {
    format!(
        "use coglex_sdk::prelude::*;\n\
         coglex_sdk::app! {{ |app| {{ app.get({path:?}).to(|_: Request| {answer:?}); }} }}\n"
    )
}

#[test]
fn a_saved_source_is_built_and_serves_and_one_that_does_not_build_is_left_out() {
    let project = TempDir::new().unwrap();
    source(project.path(), &app("/greeter", "hello"));
    let host = Host::dev(project.path());
    assert_eq!(host.server.anonymous().get("/greeter").text(), "hello");

    save(project.path(), &app("/greeter", "good evening"));
    host.answers("/greeter", "good evening");

    save(project.path(), "this is not Rust");
    host.logged(&["greeter", "does not build"]);
    assert_eq!(
        host.server.anonymous().get("/greeter").text(),
        "good evening"
    );

    save(project.path(), &app("/greeter/moved", "here"));
    host.answers("/greeter/moved", "here");
    host.has_status("/greeter", 404);
}
