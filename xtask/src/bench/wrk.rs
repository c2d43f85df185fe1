//! The load generator wrk, told by `bench/wrk.lua` what to send.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use super::server::Server;
use crate::process;
use crate::workspace;

/// What is sent.
pub(crate) struct Load {
    path: String,
    key: Option<&'static str>,
    body: Option<String>,
    body_file: Option<(PathBuf, String)>,
    rows: Option<u32>,
    paths: Vec<String>,
    connections: u32,
}

/// What came back in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) duration: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// Requests that got no answer, or one with a status of 400 or more.
    pub(crate) failed: u64,
}

impl Sample {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.duration.as_secs_f64()
    }

    /// CPU time per request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

impl Load {
    pub(crate) fn new(path: &str, connections: u32) -> Self {
        Self {
            path: path.to_owned(),
            key: None,
            body: None,
            body_file: None,
            rows: None,
            paths: Vec::new(),
            connections,
        }
    }

    /// Sends the API key.
    pub(crate) fn key(self, key: &'static str) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// Posts this JSON rather than getting.
    pub(crate) fn body(self, body: impl Into<String>) -> Self {
        Self {
            body: Some(body.into()),
            ..self
        }
    }

    /// Posts a file as this media type.
    pub(crate) fn body_file(self, file: &Path, media_type: &str) -> Self {
        Self {
            body_file: Some((file.to_owned(), media_type.to_owned())),
            ..self
        }
    }

    /// Puts the id of a random one of so many rows where the path says `ROW`.
    pub(crate) fn rows(self, rows: u32) -> Self {
        Self {
            rows: Some(rows),
            ..self
        }
    }

    /// Gets these paths in turns, rather than one.
    pub(crate) fn paths(self, paths: Vec<String>) -> Self {
        Self { paths, ..self }
    }

    /// Sends as much as the server takes for `duration`. Any failed request makes
    /// the run an error: it would be a fast one.
    pub(crate) fn run(&self, server: &Server, duration: Duration) -> anyhow::Result<Sample> {
        let sample = self.try_run(server, duration)?;
        if sample.failed > 0 {
            bail!("{} requests to {} failed", sample.failed, self.path);
        }
        Ok(sample)
    }

    /// The same, where failed requests are what is looked for.
    pub(crate) fn try_run(&self, server: &Server, duration: Duration) -> anyhow::Result<Sample> {
        let mut wrk = Command::new("wrk");
        wrk.args([
            "--threads",
            "1",
            "--connections",
            &self.connections.to_string(),
        ])
        .args(["--duration", &format!("{}s", duration.as_secs())])
        // What is slow is to be seen, not cut off.
        .args(["--timeout", "30s"])
        .arg("--script")
        .arg(workspace::root().join("bench/wrk.lua"))
        .arg(server.url(&self.path))
        .envs(self.key.map(|key| ("BENCH_KEY", key)))
        .envs(self.body.as_ref().map(|body| ("BENCH_BODY", body)))
        .envs(self.rows.map(|rows| ("BENCH_ROWS", rows.to_string())));
        if let Some((file, media_type)) = &self.body_file {
            wrk.env("BENCH_BODY_FILE", file);
            wrk.env("BENCH_TYPE", media_type);
        }
        if !self.paths.is_empty() {
            wrk.env("BENCH_PATHS", self.paths.join("\n"));
        }
        let before = server.cpu()?;
        let printed = process::output(&mut wrk)?;
        let cpu = server.cpu()?.saturating_sub(before);
        let Some(numbers) = numbers(&printed) else {
            bail!("wrk printed no result:\n{printed}")
        };
        let [requests, micros, p50, p99, failed] = numbers;
        let [duration, p50, p99] = [micros, p50, p99].map(Duration::from_micros);
        Ok(Sample {
            requests,
            duration,
            p50,
            p99,
            cpu,
            failed,
        })
    }
}

/// The line that `bench/wrk.lua` prints.
fn numbers(printed: &str) -> Option<[u64; 5]> {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "))?;
    let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_found_between_what_wrk_prints() {
        let printed = "Running 1s test\n  2 threads\nRESULT 100 1000000 320 900 0\n";
        assert_eq!(numbers(printed), Some([100, 1_000_000, 320, 900, 0]));
        assert_eq!(numbers("Running 1s test\n"), None);
        assert_eq!(numbers("RESULT 1 2\n"), None);
    }
}
