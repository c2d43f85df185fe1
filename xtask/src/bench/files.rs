//! What files cost: downloads beside nginx and PocketBase, uploads beside PocketBase,
//! and memory meanwhile.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::report::{self, Figures};
use super::server::Server;
use super::wrk::Load;
use super::{Case, KEY, Options, coglex, measure, pocketbase};
use crate::mongodb::free_address;
use crate::process;

const ARCHIVE: &str = "/service/archive/v1";
const BOUNDARY: &str = "boundary-of-a-benchmark";
/// A small file, and a large one.
const SMALL: usize = 10_000;
const LARGE: usize = 100_000_000;
/// What is uploaded beside the small one.
const MEDIUM: usize = 1_000_000;
/// Those who download the large one.
const FEW: u32 = 4;

pub(super) fn run(options: &Options, release: &Path, scratch: &Path) -> anyhow::Result<()> {
    if !process::succeeds(Command::new("nginx").arg("-v")) {
        bail!("nginx was not found; on Debian or Ubuntu: apt-get install nginx-light");
    }
    let plugins = scratch.join("no-plugins");
    fs::create_dir_all(&plugins)?;
    let ours = Server::start(coglex(release, &scratch.join("files-data"), &plugins))?;
    let theirs = pocketbase::start(scratch)?;
    theirs.create_files("files", "document", 2 * LARGE)?;
    let static_files = scratch.join("static");
    let nginx = nginx(scratch, &static_files)?;

    let mut mine = Vec::new();
    let mut others = Vec::new();
    for (name, size) in [("small", SMALL), ("large", LARGE)] {
        let bytes = bytes(size);
        fs::write(static_files.join(name), &bytes)?;
        let key = format!("X-API-Key: {KEY}\r\n");
        let told = send(
            &ours,
            &format!("{ARCHIVE}/upload/files/"),
            &key,
            &form("file", &bytes),
        )?;
        let reference = told.trim().trim_matches('"').to_owned();
        mine.push(format!("{ARCHIVE}/download/files/{reference}/"));
        let path = "/api/collections/files/records";
        let told = send(&theirs.server, path, "", &form("document", &bytes))?;
        let (id, file) = (text(&told, "id")?, text(&told, "document")?);
        others.push(format!("/api/files/files/{id}/{file}"));
    }
    let bodies = |part: &str| -> anyhow::Result<[PathBuf; 2]> {
        let write = |size: usize| {
            let path = scratch.join(format!("{part}-{size}.form"));
            fs::write(&path, form(part, &bytes(size)))?;
            anyhow::Ok(path)
        };
        Ok([write(SMALL)?, write(MEDIUM)?])
    };
    let (my_bodies, their_bodies) = (bodies("file")?, bodies("document")?);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let all = options.connections;
    let [my_small, my_large] = [first(&mine, 0)?, first(&mine, 1)?];
    let their_small = first(&others, 0)?;
    let my_upload = |body: &PathBuf| {
        let path = format!("{ARCHIVE}/upload/made/");
        Load::new(&path, all).key(KEY).body_file(body, &kind)
    };
    let their_upload = |body: &PathBuf| {
        let path = "/api/collections/files/records";
        Load::new(path, all).body_file(body, &kind)
    };
    let idle = ours.resident_mib()?;
    let mut cases = vec![
        Case::new("download 10 KB", &ours, Load::new(my_small, all).key(KEY)),
        Case::new("download 10 KB", &nginx, Load::new("/small", all)),
        Case::new("download 100 MB", &ours, Load::new(my_large, FEW).key(KEY)),
        Case::new("download 100 MB", &nginx, Load::new("/large", FEW)),
        Case::new("download 10 KB", &ours, Load::new(my_small, all).key(KEY)),
        Case::new(
            "download 10 KB",
            &theirs.server,
            Load::new(their_small, all),
        ),
        Case::new("upload 10 KB", &ours, my_upload(&my_bodies[0])),
        Case::new(
            "upload 10 KB",
            &theirs.server,
            their_upload(&their_bodies[0]),
        ),
        Case::new("upload 1 MB", &ours, my_upload(&my_bodies[1])),
        Case::new(
            "upload 1 MB",
            &theirs.server,
            their_upload(&their_bodies[1]),
        ),
    ];
    measure(options, &mut cases)?;
    let after = ours.resident_mib()?;
    let mut pairs = Vec::new();
    for pair in cases.chunks_exact(2) {
        if let [mine, other] = pair {
            pairs.push([mine, other].map(|case| Figures::of(case.name, &case.samples)));
        }
    }
    let beside_pocketbase = pairs.split_off(2);
    let mut out = std::io::stdout();
    writeln!(out, "\n## Files\n")?;
    let title = "Downloads beside nginx (one process, sendfile, no log), which asks for no key";
    report::write_pairs(&mut out, title, "nginx", &pairs)?;
    let title = format!(
        "Beside PocketBase {} (request log off, rules open to all). Ours has fsynced the file, its folder and its document before it answers",
        pocketbase::VERSION
    );
    report::write_pairs(&mut out, &title, "PocketBase", &beside_pocketbase)?;
    writeln!(
        out,
        "\nResident memory of ours: {idle:.0} MiB before, {after:.0} MiB after."
    )?;
    Ok(out.flush()?)
}

fn first(paths: &[String], at: usize) -> anyhow::Result<&str> {
    paths.get(at).map(String::as_str).context("no path")
}

/// nginx with a folder of files. In one process: its CPU time is read from there.
fn nginx(scratch: &Path, files: &Path) -> anyhow::Result<Server> {
    fs::create_dir_all(files)?;
    let address = free_address()?;
    let folder = scratch.display();
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
         events {{ worker_connections 1024; }}
         http {{
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
           client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
           fastcgi_temp_path {folder}/nginx-fastcgi; uwsgi_temp_path {folder}/nginx-uwsgi;
           scgi_temp_path {folder}/nginx-scgi;
           server {{ listen {address}; root {}; }}
         }}",
        files.display()
    );
    let path = scratch.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(scratch).arg("-c").arg(&path);
    Server::start_at(command, address)
}

/// Letters, so that nothing has to be escaped; no two files are alike.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = size as u64 | 1;
    (0..size)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b'a' + (state >> 40) as u8 % 26
        })
        .collect()
}

fn form(part: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n"
    );
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    [head.as_bytes(), bytes, end.as_bytes()].concat()
}

/// Sends a form; the body of the answer, which has to be a 200.
fn send(server: &Server, path: &str, headers: &str, form: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(server.address())?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        server.address(),
        form.len()
    )?;
    stream.write_all(form)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => bail!("{path} answered {}", answer.get(..400).unwrap_or(&answer)),
    }
}

/// A text of a flat JSON object.
fn text<'a>(json: &'a str, name: &str) -> anyhow::Result<&'a str> {
    json.split_once(&format!("\"{name}\":\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(value, _)| value)
        .with_context(|| format!("no {name} in {json}"))
}
