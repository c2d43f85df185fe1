//! Reloads under load: how many requests failed (none may), how long new code took
//! to serve, and what memory did.

mod report;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Options;
use crate::bench::fleet::{self, Fleet, Ship};
use crate::bench::http::Connection;
use crate::bench::server::Server;
use crate::bench::wrk::Load;
use crate::{bench, process};
use report::Report;

/// Small plugins that are under load; every other reload is one of theirs.
const BUSY: usize = 8;
/// One run of the load generator, of many.
const SLICE: Duration = Duration::from_secs(5);
/// One reload starts so long after the one before, unless their number is asked for.
const PACE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What the load generator has seen so far.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
    /// The highest 99th percentile of a slice, in microseconds.
    p99: AtomicU64,
}

impl Tally {
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

pub(super) fn run(
    options: &Options,
    programs: &Path,
    components: &Path,
    scratch: &Path,
) -> anyhow::Result<()> {
    let fleet = Fleet::new(components, scratch.join("plugins"))?;
    let small = options.plugins;
    let all: Vec<Ship> = (0..small)
        .map(Ship::Numbered)
        .chain([Ship::Large])
        .collect();
    for ship in &all {
        fleet.put(*ship, 0)?;
    }
    let server = process::step(&format!("starting with {} plugins", all.len()), || {
        let data = scratch.join("data");
        Server::start(bench::coglex(programs, &data, fleet.folder()))
    })?;
    let mut client = Connection::open(server.address())?;
    for ship in &all {
        let answer = client.get(&ship.path(), ("", ""))?;
        if answer.body != fleet::answer(0) {
            bail!(
                "{} answered {}: {}",
                ship.path(),
                answer.status,
                answer.body
            );
        }
    }
    let busy = (0..small.min(BUSY))
        .map(Ship::Numbered)
        .chain([Ship::Large]);
    let load = Load::new("/", options.connections).paths(busy.map(Ship::path).collect());

    let tally = Tally::default();
    let mut report = Report::new(&server)?;
    let ended = thread::scope(|scope| {
        let generator = scope.spawn(|| keep_busy(&server, &load, &tally));
        let reloaded = reload(options, &fleet, &server, &mut client, &tally, &mut report);
        tally.stop.store(true, Ordering::Relaxed);
        let generated = generator.join();
        reloaded.and(generated.unwrap_or_else(|_| bail!("the load generator's thread panicked")))
    });
    report.line(&server, &tally)?;
    report.write(options, &fleet, &server, &tally)?;
    ended?;
    report.verdict(options, &tally)
}

fn keep_busy(server: &Server, load: &Load, tally: &Tally) -> anyhow::Result<()> {
    while !tally.stop.load(Ordering::Relaxed) {
        let sample = load.try_run(server, SLICE)?;
        tally.requests.fetch_add(sample.requests, Ordering::Relaxed);
        tally.failed.fetch_add(sample.failed, Ordering::Relaxed);
        let p99 = u64::try_from(sample.p99.as_micros()).unwrap_or(u64::MAX);
        tally.p99.fetch_max(p99, Ordering::Relaxed);
    }
    Ok(())
}

/// What a plugin serves, and what it served before.
#[derive(Clone, Copy, Default)]
struct Versions {
    now: u32,
    before: u32,
    newest: u32,
    back: bool,
}

impl Versions {
    /// One that nobody has compiled yet, then the one before, which is in the
    /// server's cache, and so on.
    fn next(&mut self) -> u32 {
        if self.back {
            std::mem::swap(&mut self.now, &mut self.before);
        } else {
            self.newest += 1;
            self.before = self.now;
            self.now = self.newest;
        }
        self.back = !self.back;
        self.now
    }
}

/// Replaces one plugin after the other until the run is over.
fn reload(
    options: &Options,
    fleet: &Fleet,
    server: &Server,
    client: &mut Connection,
    tally: &Tally,
    report: &mut Report,
) -> anyhow::Result<()> {
    let paced = options.reloads.is_none() && options.requests.is_none();
    let small = options.plugins;
    // The last is the large one's.
    let mut versions = vec![Versions::default(); small + 1];
    let mut next = Instant::now();
    for round in 0usize.. {
        let done = done(options, tally, report);
        report.progress(done, server, tally)?;
        if done >= 1.0 {
            break;
        }
        // Two small ones under load, the large one, one of all.
        let number = match round % 4 {
            0 | 2 => round / 2 % small.min(BUSY),
            1 => small,
            // By a prime, so that all have their turn, not in their order.
            _ => (round / 4).wrapping_mul(7_919) % small,
        };
        let ship = if number == small {
            Ship::Large
        } else {
            Ship::Numbered(number)
        };
        let version = versions.get_mut(number).context("no such plugin")?.next();
        let took = fleet.reload(client, ship, version)?;
        report.reloaded(ship, took);
        if paced {
            next += PACE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

/// How much of the run is over; 1 at its end.
fn done(options: &Options, tally: &Tally, report: &Report) -> f64 {
    let share = |have: u64, wanted: Option<u64>| match wanted {
        Some(wanted) => have as f64 / wanted.max(1) as f64,
        None => 1.0,
    };
    match (options.reloads, options.requests) {
        (None, None) => {
            let minutes = options.minutes.max(1) as f64;
            report.elapsed().as_secs_f64() / (minutes * MINUTE.as_secs_f64())
        }
        (reloads, requests) => {
            share(report.reloads(), reloads).min(share(tally.requests(), requests))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_version_has_been_there_before() {
        let mut versions = Versions::default();
        let seen: Vec<u32> = (0..6).map(|_| versions.next()).collect();
        assert_eq!(seen, [1, 0, 2, 0, 3, 0]);
    }
}
