//! Memory does not grow with the file.

use std::io::{Read, Write as _};
use std::net::TcpStream;

use super::{BOUNDARY, ROOT, list};
use crate::support::{API_KEY, TestServer};

/// Bytes of memory that the server has claimed at most.
#[cfg(target_os = "linux")]
fn peak(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// `COGLEX_UPLOAD_MIB` for another size than 256 MiB.
#[cfg(target_os = "linux")]
#[test]
fn a_large_file_goes_through_in_little_memory() {
    let mib: u64 = std::env::var("COGLEX_UPLOAD_MIB").map_or(256, |mib| mib.parse().unwrap());
    let server = TestServer::start();
    super::upload(&server.api(), "warm", "a", "a/b", &super::bytes(1, 3 << 20));
    let before = peak(&server);
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let length = head.len() as u64 + tail.len() as u64 + (mib << 20);
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(
        socket,
        "POST {ROOT}/upload/files/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n{head}"
    )
    .unwrap();
    let piece = super::bytes(2, 1 << 20);
    for _ in 0..mib {
        socket.write_all(&piece).unwrap();
    }
    socket.write_all(tail.as_bytes()).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let uploaded = peak(&server);
    let file = &list(&server.api(), "files")[0];
    assert_eq!(file["_filesize"], mib << 20);

    let reference = file["_id"].as_str().unwrap();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    write!(
        socket,
        "GET {ROOT}/download/files/{reference}/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut all = 0;
    loop {
        match socket.read(&mut buffer).unwrap() {
            0 => break,
            read => all += read as u64,
        }
    }
    assert!(all > mib << 20, "{all}");
    let downloaded = peak(&server);
    println!(
        "{mib} MiB: the server grew by {} KiB for the upload, by {} KiB with the download",
        (uploaded - before) >> 10,
        (downloaded - before) >> 10
    );
    assert!(
        downloaded - before < 32 << 20,
        "{} bytes",
        downloaded - before
    );
}
