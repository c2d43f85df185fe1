//! Released versions of the WIT: components that were built against them keep
//! running. See `wit/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::guests::Host;

/// Each version with the digest of its frozen copy.
const RELEASED: [(&str, &str); 1] = [(
    "0.1.0",
    "4368c96705ce9c705420d91b40f4cab6976fb63f0cd4b888e21683418eaac39e",
)];

const ALLOW: &str = r#"
[plugins.allow.golden]
storage = [{ collection = "golden", verbs = ["read", "insert", "update", "delete"] }]
auth = [{ collection = "users", verbs = ["lookup", "signup", "verify"] }]
functions = ["golden_add"]
secrets = ["token"]
kv = true

[plugins.secrets.golden]
token = "secret"

[plugins.settings.golden]
colour = "blue"
"#;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below a folder with its path, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn frozen_copies_are_never_changed() {
    for (version, digest) in RELEASED {
        let folder = project().join("wit/frozen").join(version);
        let mut hash = Sha256::new();
        for path in files(&folder) {
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
            hash.update(name.as_bytes());
            hash.update(fs::read(&path).unwrap());
        }
        assert_eq!(hex::encode(hash.finalize()), digest, "wit/frozen/{version}");
    }
}

#[test]
fn golden_components_keep_running() {
    for (version, _) in RELEASED {
        let golden = project().join(format!("host/tests/golden/{version}.wasm"));
        let host = Host::with(&[], ALLOW);
        host.deploy("golden", &fs::read(golden).unwrap());
        host.logged(&["plugin loaded", "golden"]);

        // Every import, each with what it answers.
        let api = host.server.api();
        let call = |function: &str| {
            let path = format!("/service/execution/v1/execute/{function}/");
            api.post(&path, &json!({"args": [], "kwargs": {}}))
        };
        let expected = [
            "insert 2",
            "update 1 1",
            "replace 'c'",
            "find {'_id':'a','n':[1,9]}",
            "get true",
            "count 3",
            "distinct 3",
            "aggregate {'n':3}",
            "delete 3",
            "lookup true",
            "lookup by id true",
            "verify true false",
            "api key true",
            "request true",
            "signed in false",
            "signed out true",
            "kv Some(1)",
            "kv 2",
            "kv true",
            "kv k,n",
            "kv true true",
            "secret 6",
            "setting Some('blue')",
            "call '3 2'",
        ];
        let came = call("golden_all").json();
        let came: Vec<&str> = came.as_str().unwrap().split("; ").collect();
        assert_eq!(came, expected, "{version}");
        host.logged(&["golden line", "kind="]);
        call("golden_fail").problem(422, "golden");

        // Every export, and the terms of its routes.
        let client = host.server.anonymous();
        let reply = client.get("/golden/x%20y?a=1");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(
            reply.text(),
            "GET /golden/x%20y /golden/{name} Some(\"a=1\") name=x y 0"
        );
        assert!(!reply.header("ratelimit").is_empty() && !reply.header("etag").is_empty());
        for path in ["/golden-key", "/golden-user", "/golden-admin"] {
            assert_eq!(client.get(path).status, 401, "{path}");
        }
        assert_eq!(api.get("/golden-key").status, 200);
    }
}
