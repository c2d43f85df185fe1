//! What sign-ins cost beside PocketBase's, and what a reader feels of a storm of
//! them.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::report::{self, Figures};
use super::server::Server;
use super::wrk::{Load, Sample};
use super::{Case, KEY, Options, coglex, measure, pocketbase};
use crate::process;

const AUTH: &str = "/service/auth/v1";
const STORAGE: &str = "/service/storage/v1";
const RECORDS: &str = "/api/collections";
const PASSWORD: &str = "a-password-of-a-benchmark";
/// Those who read: few, so that it is the wait that is measured, not the machine's
/// whole throughput.
const READERS: u32 = 4;
/// Those who sign in at the same time.
const STORM: u32 = 64;
/// How much longer than the storm's other end it runs, so that every read falls
/// into it.
const MARGIN: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options, release: &Path, scratch: &Path) -> anyhow::Result<()> {
    let plugins = scratch.join("no-plugins");
    fs::create_dir_all(&plugins)?;
    let ours = Server::start(coglex(release, &scratch.join("accounts-data"), &plugins))?;
    let theirs = pocketbase::start(scratch)?;
    let user = format!(r#"{{"_key": "bench", "_password": "{PASSWORD}"}}"#);
    ours.post(&format!("{AUTH}/signup/users/"), KEY, &user)?;
    ours.post(
        &format!("{STORAGE}/rows/"),
        KEY,
        r#"{"document": {"_id": "one", "text": "hello"}}"#,
    )?;
    let member = theirs.create_members("bench@example.com", PASSWORD)?;
    let ours_reads = Load::new(&format!("{STORAGE}/rows/one/"), READERS).key(KEY);
    let their_reads = Load::new(&format!("{RECORDS}/members/records/{member}"), READERS);
    let ours_sign_in = |clients| {
        Load::new(&format!("{AUTH}/signin/users/"), clients)
            .key(KEY)
            .body(&user)
    };
    let identity = format!(r#"{{"identity": "bench@example.com", "password": "{PASSWORD}"}}"#);
    let their_sign_in = |clients| {
        let path = format!("{RECORDS}/members/auth-with-password");
        Load::new(&path, clients).body(&identity)
    };

    let mut cases = [
        Case::new("sign-in, 1 client", &ours, ours_sign_in(1)),
        Case::new("sign-in, 1 client", &theirs.server, their_sign_in(1)),
        Case::new("sign-in, 32 clients", &ours, ours_sign_in(32)),
        Case::new("sign-in, 32 clients", &theirs.server, their_sign_in(32)),
    ];
    measure(options, &mut cases)?;
    let mut pairs = Vec::new();
    for pair in cases.chunks_exact(2) {
        if let [mine, other] = pair {
            pairs.push([mine, other].map(|case| Figures::of(case.name, &case.samples)));
        }
    }
    let mut storms = Vec::new();
    for round in 1..=options.rounds {
        process::step(&format!("storm {round} of {}", options.rounds), || {
            storms.push((
                storm(options, &ours, &ours_reads, &ours_sign_in(STORM))?,
                storm(options, &theirs.server, &their_reads, &their_sign_in(STORM))?,
            ));
            Ok(())
        })?;
    }

    let mut out = std::io::stdout();
    writeln!(out, "\n## Sign-ins\n")?;
    let title = format!(
        "argon2id with 19 MiB and 2 passes (ours) beside bcrypt of cost 10 (PocketBase {})",
        pocketbase::VERSION
    );
    report::write_pairs(&mut out, &title, "PocketBase", &pairs)?;
    let (mine, others): (Vec<_>, Vec<_>) = storms.into_iter().unzip();
    let title = format!("{READERS} clients read one document, while {STORM} others sign in");
    report::write_storms(&mut out, &title, &[("ours", mine), ("PocketBase", others)])?;
    Ok(out.flush()?)
}

/// What readers saw without and with a storm.
pub(super) struct Storm {
    pub(super) quiet: Sample,
    pub(super) stormy: Sample,
    /// What those who signed in saw; some may be told to come back later.
    pub(super) sign_ins: Sample,
}

fn storm(
    options: &Options,
    server: &Server,
    reads: &Load,
    sign_ins: &Load,
) -> anyhow::Result<Storm> {
    let time = Duration::from_secs(options.seconds);
    let quiet = reads.run(server, time)?;
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| sign_ins.try_run(server, time + MARGIN * 2));
        std::thread::sleep(MARGIN);
        let stormy = reads.run(server, time)?;
        let sign_ins = storm
            .join()
            .map_err(|_| anyhow::anyhow!("the storm's thread panicked"))??;
        Ok(Storm {
            quiet,
            stormy,
            sign_ins,
        })
    })
}
