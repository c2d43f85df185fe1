//! Signed URLs, public collections, and images shown smaller.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ROOT, download, form, multipart, send, upload};
use crate::support::{Client, Reply, Send as _, TestServer};

fn sign(client: &Client, body: &Value) -> Reply {
    client.post(&format!("{ROOT}/sign/files/"), body)
}

fn url_of(signed: &Reply) -> String {
    signed.json()["url"].as_str().unwrap().to_owned()
}

#[test]
fn a_signed_url_reads_one_file_for_a_while() {
    let server = TestServer::start();
    let (api, nobody) = (server.api(), server.anonymous());
    let one = upload(&api, "files", "one.txt", "text/plain", b"one");
    let other = upload(&api, "files", "other.txt", "text/plain", b"other");
    let url = url_of(&sign(&api, &json!({"reference": one, "expires_in": 60})));
    assert_eq!(nobody.get(&url).text(), "one");
    let ranged = nobody
        .request(Method::GET, &url)
        .header("range", "bytes=1-");
    assert_eq!(ranged.reply().text(), "ne");
    // Every word of it is signed.
    let refused = |url: &str| nobody.get(url).problem(403, "signature_refused");
    refused(&url.replace(&one, &other));
    refused(&url.replace("/files/", "/others/"));
    let at = url.find("expires=").unwrap() + 8;
    let mut later = url.clone();
    later.replace_range(at..at + 1, "2");
    refused(&later);
    refused(&format!("{}00", &url[..url.len() - 2]));
    // It reads, and nothing else.
    let delete = url.replace("/download/", "/delete/");
    nobody.delete(&delete).problem(401, "api_key_required");
    nobody
        .get(&format!("{ROOT}/download/files/{one}/"))
        .problem(401, "api_key_required");

    let short = url_of(&sign(&api, &json!({"reference": one, "expires_in": 1})));
    std::thread::sleep(std::time::Duration::from_millis(2100));
    refused(&short);

    sign(&api, &json!({"reference": "0".repeat(32)})).problem(404, "not_found");
    for bad in [
        json!({}),
        json!({"reference": one, "upload": true}),
        json!({"reference": 1}),
        json!({"reference": one, "expires_in": 0}),
        json!({"reference": one, "expires_in": 1_000_000_000}),
        json!({"reference": one, "expires_in": "60"}),
        json!({"upload": true, "limit": -1}),
    ] {
        sign(&api, &bad).problem(400, "invalid_input");
    }
    sign(&nobody, &json!({"reference": one})).problem(401, "api_key_required");
}

#[test]
fn a_signed_url_uploads_one_file() {
    let server = TestServer::start();
    let (api, nobody) = (server.api(), server.anonymous());
    let signed = sign(&api, &json!({"upload": true, "limit": 5}));
    let url = url_of(&signed);
    let post = |url: &str, bytes: &[u8]| {
        let body = form("a.txt", "text/plain", bytes);
        multipart(nobody.request(Method::POST, url), body).reply()
    };
    post(&url, b"123456").problem(413, "file_too_large");
    post(&url.replace("limit=5", "limit=50"), b"123456").problem(403, "signature_refused");
    let reference = post(&url, b"12345").json();
    assert_eq!(reference, signed.json()["reference"]);
    // Once.
    post(&url, b"54321").problem(409, "conflict");
    assert_eq!(
        download(&api, "files", reference.as_str().unwrap()).text(),
        "12345"
    );
}

#[test]
fn files_of_public_collections_are_read_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[archive.collections.shown]\npublic = true\n";
    std::fs::write(dir.path().join("coglex.toml"), config).unwrap();
    let server = TestServer::start_in(dir, &[], |command| {
        command.env("SERVER_SECRET", crate::support::API_KEY);
    });
    let (api, nobody) = (server.api(), server.anonymous());
    let reference = upload(
        &api,
        "shown",
        "a.html",
        "text/html",
        b"<script>alert(1)</script>",
    );
    let got = nobody.get(&format!(
        "{ROOT}/download/shown/{reference}/?disposition=inline"
    ));
    assert_eq!(got.status, 200);
    assert_eq!(got.header("cache-control"), "public, no-cache");
    assert_eq!(
        got.header("content-disposition"),
        "inline; filename=\"a.html\""
    );
    assert!(got.header("content-security-policy").contains("sandbox"));
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    nobody
        .get(&format!("{ROOT}/shown/"))
        .problem(401, "api_key_required");
    nobody
        .get("/service/storage/v1/shown/")
        .problem(401, "api_key_required");
    send(&nobody, "shown", "a", "a/b", b"x").problem(401, "api_key_required");
    let private = upload(&api, "files", "a.txt", "text/plain", b"x");
    download(&nobody, "files", &private).problem(401, "api_key_required");
}

/// A PNG of 64 × 32 points, all red: as small as one can be written by hand.
fn png() -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)))
            })
        })
    };
    let chunk = |kind: &[u8], data: &[u8]| {
        let mut whole = kind.to_vec();
        whole.extend_from_slice(data);
        let mut chunk = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
        chunk.extend_from_slice(&whole);
        chunk.extend_from_slice(&crc(&whole).to_be_bytes());
        chunk
    };
    let row: Vec<u8> = std::iter::once(0).chain([255, 0, 0].repeat(64)).collect();
    let raw = row.repeat(32);
    // One stored block of deflate, and Adler-32.
    let length = u16::try_from(raw.len()).unwrap();
    let mut zlib = vec![0x78, 0x01, 0x01];
    zlib.extend_from_slice(&length.to_le_bytes());
    zlib.extend_from_slice(&(!length).to_le_bytes());
    zlib.extend_from_slice(&raw);
    let (a, b) = raw.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    zlib.extend_from_slice(&((b << 16) | a).to_be_bytes());
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [0, 0, 0, 64, 0, 0, 0, 32, 8, 2, 0, 0, 0];
    for part in [
        chunk(b"IHDR", &head),
        chunk(b"IDAT", &zlib),
        chunk(b"IEND", b""),
    ] {
        png.extend_from_slice(&part);
    }
    png
}

#[test]
fn images_are_shown_smaller() {
    let server = TestServer::start();
    let api = server.api();
    let image = upload(&api, "files", "red.png", "image/png", &png());
    let path = format!("{ROOT}/download/files/{image}/");
    let got = api.get(&format!("{path}?thumb=16x16&disposition=inline"));
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.header("content-type"), "image/jpeg");
    assert!(got.body.starts_with(&[0xff, 0xd8, 0xff]));
    // Start of frame: its height and width.
    let at = got.body.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    assert_eq!(got.body[at + 5..at + 9], [0, 8, 0, 16]);
    let etag = got.header("etag").to_owned();
    assert_ne!(etag, api.get(&path).header("etag"));
    let again = api
        .request(Method::GET, &format!("{path}?thumb=16x16"))
        .header("if-none-match", &etag)
        .reply();
    assert_eq!(again.status, 304);
    for bad in ["0x1", "9999x1", "x", "16"] {
        api.get(&format!("{path}?thumb={bad}"))
            .problem(400, "invalid_input");
    }
    let text = upload(&api, "files", "a.png", "image/png", b"no image at all");
    api.get(&format!("{ROOT}/download/files/{text}/?thumb=16x16"))
        .problem(422, "no_thumbnail");
    // A few bytes that claim a gigapixel.
    let mut bomb = png();
    bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let bomb = upload(&api, "files", "bomb.png", "image/png", &bomb);
    api.get(&format!("{ROOT}/download/files/{bomb}/?thumb=16x16"))
        .problem(422, "no_thumbnail");
}
