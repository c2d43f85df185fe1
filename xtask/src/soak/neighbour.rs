//! A neighbour: an app that is asked at a steady pace, whatever the server does
//! meanwhile, and how long its answers take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::http::Connection;

/// Connections, each with requests of its own.
const CLIENTS: u32 = 4;
/// From one request of a client to the next: some 400 a second in all, which is
/// little work, so that what is felt is not of the neighbour's own making.
const PACE: Duration = Duration::from_millis(10);

/// What the neighbour felt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Felt {
    pub(super) requests: usize,
    pub(super) failed: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Asks until it is told to stop.
pub(super) fn ask(address: &str, path: &str, stop: &AtomicBool) -> Felt {
    let clients: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(address, path, stop, PACE * number / CLIENTS)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| (Vec::new(), 1)))
            .collect()
    });
    let failed = clients.iter().map(|(_, failed)| failed).sum();
    Felt::of(
        clients.into_iter().flat_map(|(took, _)| took).collect(),
        failed,
    )
}

/// How long each answer took, and how many were none.
fn client(address: &str, path: &str, stop: &AtomicBool, delay: Duration) -> (Vec<Duration>, usize) {
    let (mut took, mut failed) = (Vec::new(), 0);
    let mut connection = Connection::open(address);
    let mut due = Instant::now() + delay;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A client that was held up by the answer before is late through the
        // server's fault; one that the system woke late is not.
        let late = took.last().is_some_and(|last| *last > PACE);
        let start = if late {
            due.min(Instant::now())
        } else {
            Instant::now()
        };
        let answered = match &mut connection {
            Ok(connection) => connection.get(path, ("", "")),
            Err(_) => Err(anyhow::anyhow!("no connection")),
        };
        match answered {
            Ok(answer) if answer.status == 200 => took.push(start.elapsed()),
            Ok(_) => failed += 1,
            Err(_) => {
                failed += 1;
                connection = Connection::open(address);
            }
        }
        due += PACE;
    }
    (took, failed)
}

impl Felt {
    fn of(mut took: Vec<Duration>, failed: usize) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            let index = (took.len() as f64 * share) as usize;
            took.get(index).copied().unwrap_or_default()
        };
        Self {
            requests: took.len() + failed,
            failed,
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_answered() {
        let took: Vec<Duration> = (0..1000).rev().map(Duration::from_millis).collect();
        let felt = Felt::of(took, 2);
        assert_eq!(felt.p50, Duration::from_millis(500));
        assert_eq!(felt.p99, Duration::from_millis(990));
        assert_eq!((felt.requests, felt.failed), (1002, 2));
        assert_eq!(Felt::of(Vec::new(), 0).p99, Duration::ZERO);
    }
}
