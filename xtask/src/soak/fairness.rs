//! What another app feels while a plugin tries to take more than its budget: its
//! p50 and p99 when all is quiet, and during each misdeed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Options;
use super::neighbour::{self, Felt};
use crate::bench::http::Connection;
use crate::bench::server::Server;
use crate::{bench, process};

/// The neighbour and the misdoers.
pub(super) const GUESTS: [&str; 4] = [
    "bench-hello",
    "hello-wasi",
    "fixture-hostile",
    "fixture-hostile-wasi",
];

/// How much higher the neighbour's p99 may be during a misdeed.
const AIM: f64 = 3.0;
const ADMIN_KEY: &str = "the-admin-key-of-a-soak";
const NEIGHBOUR: &str = "/bench/hello";
const HONEST: &str = "none: honest requests, as many as go";
const CONFIG: &str = "[plugins.allow.fixture-hostile]\n\
    storage = [{ collection = \"hostile\", verbs = [\"read\"] }]\n";

/// What is done, where, and with which plugin.
///
/// The first is none: as many clients as the others have ask a well-behaved app for
/// all that it can do. What a neighbour feels of that, it feels of load as such.
const MISDEEDS: [(&str, &str, &str); 12] = [
    (HONEST, "/hello-wasi/", "hello-wasi"),
    ("CPU: an endless loop", "/hostile/loop", "fixture-hostile"),
    (
        "memory: as much as there is",
        "/hostile/memory",
        "fixture-hostile",
    ),
    (
        "stack: endless recursion",
        "/hostile/recurse",
        "fixture-hostile",
    ),
    (
        "traps: a panic each call",
        "/hostile/panic",
        "fixture-hostile",
    ),
    (
        "host calls: a flood of reads",
        "/hostile/host-calls",
        "fixture-hostile",
    ),
    (
        "bytes into host calls",
        "/hostile/huge-filter",
        "fixture-hostile",
    ),
    (
        "handles: cursors that stay open",
        "/hostile/cursors",
        "fixture-hostile",
    ),
    (
        "log: a flood of lines",
        "/hostile/log-flood",
        "fixture-hostile",
    ),
    (
        "standard error: a flood",
        "/hostile/print-flood",
        "fixture-hostile",
    ),
    (
        "response: 64 MiB",
        "/hostile/big-response",
        "fixture-hostile",
    ),
    (
        "response: a stream without an end",
        "/fixture-hostile-wasi/endless",
        "fixture-hostile-wasi",
    ),
];

/// What came of one misdeed.
struct Outcome {
    misdeed: &'static str,
    quiet: Felt,
    during: Felt,
    attacks: u64,
}

impl Outcome {
    fn ratio(&self) -> f64 {
        self.during.p99.as_secs_f64() / self.quiet.p99.as_secs_f64()
    }
}

pub(super) fn run(
    options: &Options,
    programs: &Path,
    components: &Path,
    scratch: &Path,
) -> anyhow::Result<()> {
    let plugins = scratch.join("plugins");
    std::fs::create_dir_all(&plugins)?;
    for guest in GUESTS {
        let file = format!("{guest}.wasm");
        std::fs::copy(components.join(&file), plugins.join(&file))?;
    }
    std::fs::write(scratch.join("coglex.toml"), CONFIG)?;
    let mut command = bench::coglex(programs, &scratch.join("data"), &plugins);
    command.env("COGLEX_ADMIN_KEY", ADMIN_KEY);
    let server = Server::start(command)?;
    let length = Duration::from_secs(options.seconds);

    // Unmeasured: pages, pools and branch predictors warm up.
    neighbour_for(&server, Duration::from_secs(2));
    let mut outcomes = Vec::new();
    for (misdeed, path, plugin) in MISDEEDS {
        let outcome = process::step(misdeed, || {
            let quiet = neighbour_for(&server, length);
            let (during, attacks) = under_attack(&server, path, options.attackers, length);
            nobody_is_left(&server, plugin)?;
            Ok(Outcome {
                misdeed,
                quiet,
                during,
                attacks,
            })
        })?;
        eprintln!("    {:.2} times the p99", outcome.ratio());
        outcomes.push(outcome);
    }
    write(options, &outcomes)?;
    verdict(&outcomes)
}

fn neighbour_for(server: &Server, length: Duration) -> Felt {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let felt = scope.spawn(|| neighbour::ask(server.address(), NEIGHBOUR, &stop));
        thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        felt.join().unwrap_or_else(|_| lost())
    })
}

/// The neighbour's thread has panicked, which is no good answer.
fn lost() -> Felt {
    Felt {
        requests: 1,
        failed: 1,
        p50: Duration::MAX,
        p99: Duration::MAX,
    }
}

fn under_attack(server: &Server, path: &str, attackers: usize, length: Duration) -> (Felt, u64) {
    let (stop, attacks) = (AtomicBool::new(false), AtomicU64::new(0));
    let felt = thread::scope(|scope| {
        for _ in 0..attackers {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // How it ends is not the point here; the tests look at that.
                    let _ = attack(server.address(), path, &stop);
                    attacks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let felt = neighbour_for(server, length);
        stop.store(true, Ordering::Relaxed);
        felt
    });
    (felt, attacks.load(Ordering::Relaxed))
}

/// One call, until its end or the attack's.
fn attack(address: &str, path: &str, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let key = bench::KEY;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n"
    )?;
    let mut some = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

/// After the attackers have gone, so have their calls.
fn nobody_is_left(server: &Server, plugin: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut admin = Connection::open(server.address())?;
    loop {
        let path = format!("/admin/v1/plugins/{plugin}/");
        let status = admin.get(&path, ("X-Admin-Key", ADMIN_KEY))?.body;
        let running = status
            .split_once("\"running\":")
            .and_then(|(_, rest)| rest.split([',', '}']).next())
            .context("the plugin's status says nothing of running calls")?;
        if running == "0" {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(10) {
            bail!("{running} calls of {plugin} go on after their clients have gone");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn write(options: &Options, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    writeln!(
        out,
        "\n{cores} cores shared with {} attacking clients and a neighbour of some 400 requests/s; \
         {} s quiet and {} s of each misdeed.\n",
        options.attackers, options.seconds, options.seconds
    )?;
    writeln!(
        out,
        "| Misdeed | quiet p50 ms | quiet p99 ms | p50 ms | p99 ms | ÷ quiet p99 | neighbour's requests | failed | attacks |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    for outcome in outcomes {
        writeln!(
            out,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {} | {} |",
            outcome.misdeed,
            ms(outcome.quiet.p50),
            ms(outcome.quiet.p99),
            ms(outcome.during.p50),
            ms(outcome.during.p99),
            outcome.ratio(),
            outcome.during.requests,
            outcome.during.failed + outcome.quiet.failed,
            outcome.attacks
        )?;
    }
    Ok(out.flush()?)
}

fn verdict(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let failed: usize = outcomes
        .iter()
        .map(|outcome| outcome.quiet.failed + outcome.during.failed)
        .sum();
    if failed > 0 {
        bail!("{failed} requests to the neighbour failed");
    }
    let unfair: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.ratio() > AIM && outcome.misdeed != HONEST)
        .map(|outcome| outcome.misdeed)
        .collect();
    if !unfair.is_empty() {
        bail!(
            "the neighbour's p99 was more than {AIM} times its quiet value during: {}",
            unfair.join("; ")
        );
    }
    Ok(())
}
