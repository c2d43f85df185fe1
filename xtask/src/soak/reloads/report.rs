//! What was seen during the run: a line now and then while it goes on, tables and
//! a verdict in the end.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::{MINUTE, SLICE, Tally};
use crate::bench::fleet::{Fleet, Ship};
use crate::bench::server::Server;
use crate::soak::Options;

/// Memory that the server has after so much of the run is what it should keep to:
/// by then every pool and cache has been filled.
const WARM: f64 = 0.2;

pub(super) struct Report {
    start: Instant,
    lines: Vec<Line>,
    reloads: Vec<(Ship, Duration)>,
    /// Resident MiB after [`WARM`] of the run.
    warm: Option<f64>,
    spoke: Instant,
}

/// The state of things at one moment.
struct Line {
    at: Duration,
    requests: u64,
    failed: u64,
    reloads: usize,
    resident: f64,
}

impl Report {
    pub(super) fn new(server: &Server) -> anyhow::Result<Self> {
        let now = Instant::now();
        let mut report = Self {
            start: now,
            lines: Vec::new(),
            reloads: Vec::new(),
            warm: None,
            spoke: now,
        };
        report.line(server, &Tally::default())?;
        Ok(report)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// How many were seen.
    pub(super) fn reloads(&self) -> u64 {
        self.reloads.len() as u64
    }

    pub(super) fn reloaded(&mut self, ship: Ship, took: Duration) {
        self.reloads.push((ship, took));
    }

    /// Notes the state of things.
    pub(super) fn line(&mut self, server: &Server, tally: &Tally) -> anyhow::Result<()> {
        self.lines.push(Line {
            at: self.start.elapsed(),
            requests: tally.requests(),
            failed: tally.failed(),
            reloads: self.reloads.len(),
            resident: server.resident_mib()?,
        });
        Ok(())
    }

    /// Notes what is to be noted at this point of the run, and says where it is.
    pub(super) fn progress(
        &mut self,
        done: f64,
        server: &Server,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        if self.warm.is_none() && done >= WARM {
            self.warm = Some(server.resident_mib()?);
        }
        let last = self.lines.last().map_or(Duration::ZERO, |line| line.at);
        if self.start.elapsed() >= last + MINUTE {
            self.line(server, tally)?;
        }
        if self.spoke.elapsed() >= SLICE * 2 {
            self.spoke = Instant::now();
            eprintln!(
                "    {:>3.0} %  {} requests, {} failed, {} reloads, {:.0} MiB resident",
                done * 100.0,
                tally.requests(),
                tally.failed(),
                self.reloads.len(),
                server.resident_mib()?
            );
        }
        Ok(())
    }

    pub(super) fn write(
        &self,
        options: &Options,
        fleet: &Fleet,
        server: &Server,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        writeln!(
            out,
            "\n{} plugins, {} connections; started in {:.1} s.\n\n\
             | after | requests | failed | reloads seen | resident MiB |\n|---:|---:|---:|---:|---:|",
            options.plugins + 1,
            options.connections,
            server.started_in().as_secs_f64()
        )?;
        for line in &self.lines {
            writeln!(
                out,
                "| {:.0} s | {} | {} | {} | {:.0} |",
                line.at.as_secs_f64(),
                line.requests,
                line.failed,
                line.reloads,
                line.resident
            )?;
        }
        writeln!(
            out,
            "\n| file → new code, under load; half of them compiled before | times | median ms | slowest ms |\n|---|---:|---:|---:|"
        )?;
        self.write_reloads(&mut out, "small", fleet, Ship::Numbered(0))?;
        self.write_reloads(&mut out, "large", fleet, Ship::Large)?;
        let p99 = Duration::from_micros(tally.p99.load(std::sync::atomic::Ordering::Relaxed));
        writeln!(
            out,
            "\nThe highest 99th percentile of a request in any {} s was {:.1} ms.",
            SLICE.as_secs(),
            p99.as_secs_f64() * 1e3
        )?;
        Ok(out.flush()?)
    }

    fn write_reloads(
        &self,
        out: &mut impl std::io::Write,
        what: &str,
        fleet: &Fleet,
        like: Ship,
    ) -> anyhow::Result<()> {
        let large = like == Ship::Large;
        let of =
            |(ship, took): &(Ship, Duration)| ((*ship == Ship::Large) == large).then_some(*took);
        let mut took: Vec<Duration> = self.reloads.iter().filter_map(of).collect();
        took.sort_unstable();
        let ms = |at: usize| took.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1e3;
        writeln!(
            out,
            "| {what}, {} KB | {} | {:.0} | {:.0} |",
            fleet.size(like) / 1000,
            took.len(),
            ms(took.len() / 2),
            ms(took.len().saturating_sub(1))
        )?;
        Ok(())
    }

    /// An error where the server has failed.
    pub(super) fn verdict(&self, options: &Options, tally: &Tally) -> anyhow::Result<()> {
        if tally.failed() > 0 {
            bail!("{} requests failed", tally.failed());
        }
        let (Some(warm), Some(last)) = (self.warm, self.lines.last()) else {
            bail!("the run was too short to say anything");
        };
        let growth = last.resident - warm;
        if growth > f64::from(options.growth_mib) {
            bail!(
                "resident memory went from {warm:.0} MiB after a fifth of the run to {:.0}; {} MiB more are allowed",
                last.resident,
                options.growth_mib
            );
        }
        Ok(writeln!(
            std::io::stdout(),
            "\nNo request failed. Resident memory went from {warm:.0} MiB after a fifth of the run to {:.0} MiB.",
            last.resident
        )?)
    }
}
