//! Files: the contract of `/service/archive/v1`, asked of the real binary with each of
//! the places where bytes can be kept.

mod backends;
mod crash;
mod hostile;
mod memory;
mod owners;
mod tus;
mod urls;

use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::Value;

use crate::support::{Client, Reply, Send as _};

/// Where the routes begin.
const ROOT: &str = "/service/archive/v1";

const BOUNDARY: &str = "----boundary-of-the-tests";

/// A file as a form sends it.
fn form(name: &str, media_type: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {media_type}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

fn multipart(request: RequestBuilder, body: Vec<u8>) -> RequestBuilder {
    request
        .header(
            "content-type",
            format!("multipart/form-data; boundary={BOUNDARY}"),
        )
        .body(body)
}

/// Sends a file; the answer, whatever it is.
fn send(client: &Client, collection: &str, name: &str, media_type: &str, bytes: &[u8]) -> Reply {
    let request = client.request(Method::POST, &format!("{ROOT}/upload/{collection}/"));
    multipart(request, form(name, media_type, bytes)).reply()
}

/// Sends a file that is taken; answers with its reference.
#[track_caller]
fn upload(client: &Client, collection: &str, name: &str, media_type: &str, bytes: &[u8]) -> String {
    let sent = send(client, collection, name, media_type, bytes).json();
    sent.as_str().unwrap().to_owned()
}

fn download(client: &Client, collection: &str, reference: &str) -> Reply {
    client.get(&format!("{ROOT}/download/{collection}/{reference}/"))
}

fn delete(client: &Client, collection: &str, reference: &str) -> Reply {
    client.delete(&format!("{ROOT}/delete/{collection}/{reference}/"))
}

/// Bytes that differ everywhere, the same for the same seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// The metadata list.
fn list(client: &Client, collection: &str) -> Vec<Value> {
    let list = client.get(&format!("{ROOT}/{collection}/")).json();
    list.as_array().unwrap().clone()
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}
