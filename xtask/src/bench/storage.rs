//! What documents cost: over HTTP beside PocketBase with the same rows, on
//! MongoDB beside the bare driver behind plain axum, and in-process beside a bare
//! log and bare SQLite.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::report::{self, Figures};
use super::server::Server;
use super::wrk::Load;
use super::{Case, KEY, Options, coglex, measure, pocketbase};
use crate::mongodb::MongoDb;
use crate::process::{self, cargo};
use crate::python;

/// Rows that are read.
const ROWS: u32 = 100_000;
/// Rows of the collection on MongoDB's stand-in, which reads all for a page.
const FEW: u32 = 500;
const BATCH: u32 = 100;
const STORAGE: &str = "/service/storage/v1";
const RECORDS: &str = "/api/collections";

pub(super) fn run(options: &Options, release: &Path, scratch: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "\n## Documents\n")?;
    let title = format!(
        "Over HTTP, {ROWS} rows, beside PocketBase {} (request log off, rules open to all)",
        pocketbase::VERSION
    );
    let pairs = beside_pocketbase(options, release, scratch)?;
    report::write_pairs(&mut out, &title, "PocketBase", &pairs)?;
    let title = "On MongoDB's stand-in SecantusDB, beside the bare driver behind plain axum";
    let pairs = beside_the_driver(options, release, scratch)?;
    report::write_pairs(&mut out, title, "driver", &pairs)?;
    writeln!(out, "\n{}", in_process(scratch)?)?;
    Ok(out.flush()?)
}

/// The fields of a row, which are the same for both.
fn fields(n: u32) -> String {
    format!(
        r#""name": "user {n}", "email": "user{n}@example.com", "age": {}, "score": {}.{}, "active": {}, "grp": {}, "city": "Springfield", "tags": ["alpha", "beta", "gamma"], "bio": "{}""#,
        n % 90,
        n % 1_000 / 10,
        n % 10,
        n.is_multiple_of(2),
        n % 1_000,
        "x".repeat(60)
    )
}

fn row(id: &str, n: u32) -> String {
    format!(r#"{{"{id}": "d{n:014}", {}}}"#, fields(n))
}

fn documents(rows: &[String]) -> String {
    format!(r#"{{"documents": [{}]}}"#, rows.join(", "))
}

/// Fills both with the same rows.
fn fill(ours: &Server, theirs: Option<&pocketbase::PocketBase>, rows: u32) -> anyhow::Result<()> {
    for start in (0..rows).step_by(500) {
        let part = start..(start + 500).min(rows);
        let mine: Vec<String> = part.clone().map(|n| row("_id", n)).collect();
        ours.post(&format!("{STORAGE}/rows/"), KEY, &documents(&mine))?;
        if let Some(theirs) = theirs {
            let records: Vec<String> = part.map(|n| row("id", n)).collect();
            theirs.insert("rows", &records)?;
        }
    }
    Ok(())
}

fn beside_pocketbase(
    options: &Options,
    release: &Path,
    scratch: &Path,
) -> anyhow::Result<Vec<[Figures; 2]>> {
    let plugins = scratch.join("no-plugins");
    fs::create_dir_all(&plugins)?;
    let ours = Server::start(coglex(release, &scratch.join("storage-data"), &plugins))?;
    let theirs = pocketbase::start(scratch)?;
    theirs.create("rows", r#""CREATE INDEX by_grp ON rows (grp)""#)?;
    theirs.create("made", "")?;
    process::step(&format!("filling both with {ROWS} rows"), || {
        fill(&ours, Some(&theirs), ROWS)
    })?;
    let index = r#"{"keys": {"grp": 1}}"#;
    ours.post(&format!("{STORAGE}/rows/indexes/"), KEY, index)?;

    let one = format!("{{{}}}", fields(7));
    let many: Vec<String> = (0..BATCH).map(|_| one.clone()).collect();
    let ours_load = |path: &str, clients| Load::new(&format!("{STORAGE}{path}"), clients).key(KEY);
    let load = |path: &str, clients| Load::new(&format!("{RECORDS}{path}"), clients);
    let all = options.connections;
    let pairs: Vec<(&'static str, Load, Load)> = vec![
        (
            "get by id",
            ours_load("/rows/ROW/", all).rows(ROWS),
            load("/rows/records/ROW", all).rows(ROWS),
        ),
        (
            "list 20",
            ours_load("/rows/?many=true&limit=20", all),
            load("/rows/records?perPage=20&skipTotal=1", all),
        ),
        (
            "list 20, with the total",
            ours_load("/rows/?many=true&limit=20&count=true", all),
            load("/rows/records?perPage=20", all),
        ),
        (
            "indexed find, 20 of 100",
            ours_load("/rows/?many=true&limit=20&query=%7B%22grp%22%3A77%7D", all),
            load(
                "/rows/records?perPage=20&skipTotal=1&filter=(grp%3D77)",
                all,
            ),
        ),
        (
            "full scan, two predicates, no match, 2 clients",
            ours_load(
                "/rows/?many=true&query=%7B%22score%22%3A%7B%22%24gt%22%3A1000%7D%2C%22active%22%3Atrue%7D",
                2,
            ),
            load(
                "/rows/records?perPage=20&skipTotal=1&filter=(score%3E1000%26%26active%3Dtrue)",
                2,
            ),
        ),
        (
            "insert, 1 client",
            ours_load("/made/", 1).body(format!(r#"{{"document": {one}}}"#)),
            load("/made/records", 1).body(&one),
        ),
        (
            "insert, 32 clients",
            ours_load("/made/", 32).body(format!(r#"{{"document": {one}}}"#)),
            load("/made/records", 32).body(&one),
        ),
        (
            "batch insert of 100, 4 clients",
            ours_load("/made/", 4).body(documents(&many)),
            Load::new("/api/batch", 4).body(pocketbase::batch("made", &many)),
        ),
    ];
    measure_pairs(options, &ours, &theirs.server, pairs)
}

fn beside_the_driver(
    options: &Options,
    release: &Path,
    scratch: &Path,
) -> anyhow::Result<Vec<[Figures; 2]>> {
    let mongodb = MongoDb::start(&python::ensure()?)?;
    let plugins = scratch.join("no-plugins");
    fs::create_dir_all(&plugins)?;
    let mut command = coglex(release, &scratch.join("mongodb-data"), &plugins);
    command
        .env("MONGODB_URI", mongodb.uri())
        .env("MONGODB_DATABASE", "bench");
    let ours = Server::start(command)?;
    let mut command = Command::new(release.join("bench-native"));
    let theirs = Server::start({
        command.env("MONGODB_URI", mongodb.uri());
        command
    })?;
    process::step("filling the database", || fill(&ours, None, FEW))?;
    let one = format!("{{{}}}", fields(7));
    let ours_load = |path: &str, clients| Load::new(&format!("{STORAGE}{path}"), clients).key(KEY);
    let pairs: Vec<(&'static str, Load, Load)> = [1, options.connections]
        .into_iter()
        .flat_map(|clients| {
            let name = |one, all| if clients == 1 { one } else { all };
            [
                (
                    name("get by id, 1 client", "get by id"),
                    ours_load("/rows/ROW/", clients).rows(FEW),
                    Load::new("/mongodb/rows/ROW", clients).rows(FEW),
                ),
                (
                    name("list 20 of 500, 1 client", "list 20 of 500"),
                    ours_load("/rows/?many=true&limit=20", clients),
                    Load::new("/mongodb/rows", clients),
                ),
                (
                    name("insert, 1 client", "insert"),
                    ours_load("/made/", clients).body(format!(r#"{{"document": {one}}}"#)),
                    Load::new("/mongodb/made", clients).body(&one),
                ),
            ]
        })
        .collect();
    measure_pairs(options, &ours, &theirs, pairs)
}

/// Measures each load of ours and the other's right after it.
fn measure_pairs(
    options: &Options,
    ours: &Server,
    theirs: &Server,
    pairs: Vec<(&'static str, Load, Load)>,
) -> anyhow::Result<Vec<[Figures; 2]>> {
    let mut cases: Vec<Case<'_>> = pairs
        .into_iter()
        .flat_map(|(name, mine, other)| {
            [Case::new(name, ours, mine), Case::new(name, theirs, other)]
        })
        .collect();
    measure(options, &mut cases)?;
    Ok(cases
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [mine, other] => Some([mine, other].map(|case| Figures::of(case.name, &case.samples))),
            _ => None,
        })
        .collect())
}

/// The table that the store's own program prints.
fn in_process(scratch: &Path) -> anyhow::Result<String> {
    let mut command = cargo();
    command.args([
        "run",
        "--release",
        "--quiet",
        "-p",
        "coglex-docstore",
        "--example",
        "bench",
        "--",
    ]);
    process::step("measuring the store in-process", || {
        process::output(command.arg(scratch))
    })
}
