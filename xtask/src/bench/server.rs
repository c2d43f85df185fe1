//! A server under measurement, and what the operating system knows about it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Linux reports CPU time in hundredths of a second on every platform that we
/// measure on (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

/// A server that has not come up by then never will.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Stopped when dropped.
pub(crate) struct Server {
    child: Child,
    /// Held, so that the server can go on printing.
    _stdout: Option<BufReader<ChildStdout>>,
    address: String,
    started_in: Duration,
}

impl Server {
    /// Starts a program that says `listening on http://ADDRESS` when it is ready.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a server could not be started")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                bail!("a server ended before it listened");
            }
            if let Some((_, address)) = line.split_once("listening on http://") {
                break address.trim().to_owned();
            }
        };
        Ok(Self {
            child,
            _stdout: Some(stdout),
            address,
            started_in: begin.elapsed(),
        })
    }

    /// Starts a program that says nothing on its standard output, and waits until it
    /// takes connections at `address`.
    pub(crate) fn start_at(mut command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("a server could not be started")?;
        let mut server = Self {
            child,
            _stdout: None,
            address: address.to_string(),
            started_in: Duration::ZERO,
        };
        while TcpStream::connect(address).is_err() {
            if server.child.try_wait()?.is_some() || begin.elapsed() > START_LIMIT {
                bail!("a server did not come up at {address}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        server.started_in = begin.elapsed();
        Ok(server)
    }

    /// From the start of the process until it listened.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// CPU time of the process so far, in user and kernel.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The program's name is in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("unreadable /proc/PID/stat")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>);
        let ticks: Vec<u32> = ticks.collect::<Result<_, _>>()?;
        Ok(TICK * ticks.iter().sum())
    }

    /// Resident memory.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("unreadable /proc/PID/status")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Posts JSON; the body of the answer, which has to be a 200.
    pub(crate) fn post(&self, path: &str, key: &str, body: &str) -> anyhow::Result<String> {
        self.send("POST", path, ("X-API-Key", key), body)
    }

    /// Sends JSON with one header more; the body of the answer, which has to be a
    /// 200.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        (header, value): (&str, &str),
        body: &str,
    ) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{header}: {value}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => bail!("{path} answered {}", answer.get(..400).unwrap_or(&answer)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
