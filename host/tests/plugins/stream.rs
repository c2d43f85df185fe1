//! Server-sent events through the standard door: they arrive as they are made,
//! the budget ends them, and so does a client that goes away.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::guests::Host;
use crate::support::{API_KEY, PATIENCE};

/// A connection that has asked for the events, past the answer's head.
fn events(host: &Host) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(host.server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /fixture-hostile-wasi/events HTTP/1.1\r\nhost: test\r\nx-api-key: {API_KEY}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    reader
}

/// The number of the next event; nothing at the end of the connection.
fn next(reader: &mut BufReader<TcpStream>) -> Option<u32> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(number) = line.strip_prefix("data: ") {
            return Some(number.trim().parse().unwrap());
        }
    }
}

#[test]
fn events_arrive_one_by_one_until_the_budget_is_spent() {
    let budget = ["--plugins-budget-wall", "3s"];
    let host = Host::flags(&["fixture-hostile-wasi"], "", &budget);
    let start = Instant::now();
    let mut reader = events(&host);
    assert_eq!(next(&mut reader), Some(1));
    assert!(
        start.elapsed() < Duration::from_millis(2500),
        "the first event waits for none of the others"
    );
    let mut last = 1;
    while let Some(number) = next(&mut reader) {
        assert_eq!(number, last + 1);
        last = number;
    }
    assert!(last > 5, "{last} events in three seconds");
    assert!(start.elapsed() < PATIENCE, "the budget ends the stream");
    host.logged(&["wall-clock budget"]);
}

#[test]
fn a_client_that_goes_away_ends_its_guest() {
    let budget = [
        "--plugins-budget-concurrency",
        "1",
        "--plugins-budget-queue-wait",
        "10s",
        "--plugins-budget-wall",
        "10m",
    ];
    let host = Host::flags(&["fixture-hostile-wasi"], "", &budget);
    for _ in 0..3 {
        // The only place is free again, or this would be a 503.
        let mut reader = events(&host);
        assert_eq!(next(&mut reader), Some(1));
    }
}
