//! What an operator does with what is stored, with the real binary: backup,
//! restore, check, export and import, beside a server and without.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy's own exception leaves out helpers"
)]

#[path = "../support/mod.rs"]
mod support;

mod files;
mod lines;
mod transfer;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bson::{Document, RawDocumentBuf};
use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};

/// What a command did.
struct Ran {
    success: bool,
    out: String,
    err: String,
}

impl Ran {
    /// Its standard output, when all went well.
    #[track_caller]
    fn ok(self) -> String {
        assert!(self.success, "{}{}", self.out, self.err);
        self.out
    }

    /// Its error, when it did not.
    #[track_caller]
    fn refused(self) -> String {
        assert!(!self.success, "{}{}", self.out, self.err);
        self.err
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs `coglex ARGS…` in a folder whose `coglex-data` is the embedded store.
fn run(dir: &Path, args: &[&str]) -> Ran {
    support::coglex(dir).args(args).output().unwrap().into()
}

/// The same with a text on standard input.
fn run_with(mut command: Command, args: &[&str], input: &[u8]) -> Ran {
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

/// Does something with the embedded store of a folder.
fn with_store<T>(dir: &Path, work: impl AsyncFnOnce(&EmbeddedStore) -> T) -> T {
    let data = dir.join("coglex-data");
    std::fs::create_dir_all(&data).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store =
            EmbeddedStore::open(&data.join("documents.db"), EmbeddedOptions::default()).unwrap();
        let done = work(&store).await;
        store.close().await;
        done
    })
}

fn raw(document: Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(&document).unwrap()
}

/// The names and bytes of a folder's files.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    files.sort();
    files
}
