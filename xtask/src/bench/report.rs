//! The figures as a Markdown table.

use std::io::{self, Write};
use std::time::Duration;

use super::Options;
use super::accounts::Storm;
use super::reload::Reloads;
use super::wrk::Sample;

/// The medians of one case.
pub(super) struct Figures {
    name: &'static str,
    rate: f64,
    p50: Duration,
    p99: Duration,
    cpu_micros: f64,
}

/// What the start costs.
pub(super) struct Startup {
    pub(super) plugins: usize,
    pub(super) cold: Duration,
    pub(super) warm: Duration,
    pub(super) idle_mib: f64,
    pub(super) binary: u64,
}

impl Figures {
    pub(super) fn of(name: &'static str, samples: &[Sample]) -> Self {
        let median_of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        Self {
            name,
            rate: median_of(Sample::rate),
            p50: Duration::from_secs_f64(median_of(|sample| sample.p50.as_secs_f64())),
            p99: Duration::from_secs_f64(median_of(|sample| sample.p99.as_secs_f64())),
            cpu_micros: median_of(Sample::cpu_micros),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// That a case should reach a share of another's requests per second.
pub(super) struct Aim {
    pub(super) case: &'static str,
    pub(super) yardstick: &'static str,
    pub(super) at_least: f64,
}

/// What so many plugins take.
pub(super) struct Footprint {
    pub(super) plugins: usize,
    pub(super) bytes_each: usize,
    pub(super) cold: Duration,
    pub(super) cold_mib: f64,
    pub(super) warm: Duration,
    pub(super) warm_mib: f64,
}

/// Writes what requests cost. The first case is the yardstick of the ratios.
pub(super) fn write(
    out: &mut impl Write,
    options: &Options,
    figures: &[Figures],
) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    writeln!(
        out,
        "{cores} cores shared with the load generator; {} connections, {} rounds of {} s, medians.\n",
        options.connections, options.rounds, options.seconds
    )?;
    writeln!(
        out,
        "| Case | requests/s | ÷ native | p50 ms | p99 ms | CPU µs per request |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")?;
    let yardstick = figures.first().map_or(f64::NAN, |figure| figure.rate);
    for figure in figures {
        writeln!(
            out,
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} |",
            figure.name,
            figure.rate,
            figure.rate / yardstick,
            figure.p50.as_secs_f64() * 1e3,
            figure.p99.as_secs_f64() * 1e3,
            figure.cpu_micros
        )?;
    }
    Ok(())
}

/// Writes what we aim for, and what came of it.
pub(super) fn write_aims(
    out: &mut impl Write,
    figures: &[Figures],
    aims: &[Aim],
) -> io::Result<()> {
    let of = |name: &str| figures.iter().find(|figure| figure.name == name);
    writeln!(
        out,
        "\n| Requests per second of | ÷ | aim | reached | by CPU per request |\n|---|---|---:|---:|---:|"
    )?;
    for aim in aims {
        let (Some(case), Some(yardstick)) = (of(aim.case), of(aim.yardstick)) else {
            continue;
        };
        writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} | {:.2} |",
            aim.case,
            aim.yardstick,
            aim.at_least,
            case.rate / yardstick.rate,
            yardstick.cpu_micros / case.cpu_micros
        )?;
    }
    Ok(())
}

/// Writes how long new code takes to serve.
pub(super) fn write_reloads(out: &mut impl Write, reloads: &[Reloads]) -> io::Result<()> {
    writeln!(
        out,
        "\n| File → first answer of the new code | times | median ms | slowest ms |\n|---|---:|---:|---:|"
    )?;
    let ms =
        |took: &[Duration], at: usize| took.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1e3;
    for reload in reloads {
        let kib = reload.bytes / 1024;
        for (what, took) in [
            ("compiled first", &reload.compiled),
            ("from the cache", &reload.cached),
        ] {
            let (median, last) = (took.len() / 2, took.len().saturating_sub(1));
            writeln!(
                out,
                "| {kib} KiB, {what} | {} | {:.0} | {:.0} |",
                took.len(),
                ms(took, median),
                ms(took, last)
            )?;
        }
    }
    Ok(())
}

/// Writes what the start costs, and memory.
pub(super) fn write_start(
    out: &mut impl Write,
    startup: &Startup,
    footprints: &[Footprint],
    loaded_mib: f64,
) -> io::Result<()> {
    writeln!(out, "\n| Start and size | |\n|---|---:|")?;
    let plugins = startup.plugins;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    writeln!(
        out,
        "| cold start, {plugins} plugins to compile | {:.0} ms |",
        ms(startup.cold)
    )?;
    writeln!(
        out,
        "| warm start, {plugins} plugins in the cache | {:.0} ms |",
        ms(startup.warm)
    )?;
    writeln!(
        out,
        "| resident when idle, {plugins} plugins | {:.0} MiB |",
        startup.idle_mib
    )?;
    writeln!(out, "| resident after the load | {loaded_mib:.0} MiB |")?;
    writeln!(
        out,
        "| binary | {:.1} MiB |",
        startup.binary as f64 / f64::from(1 << 20)
    )?;
    let none = footprints.first();
    let size = none.map_or(0, |none| none.bytes_each / 1024);
    writeln!(
        out,
        "\n| Plugins of {size} KiB, no two alike | cold start ms | resident MiB | warm start ms | resident MiB | MiB each |\n\
         |---:|---:|---:|---:|---:|---:|"
    )?;
    for footprint in footprints {
        let empty = none.map_or(f64::NAN, |none| none.warm_mib);
        let each = (footprint.warm_mib - empty) / footprint.plugins as f64;
        let each = if footprint.plugins == 0 {
            "–".to_owned()
        } else {
            format!("{each:.2}")
        };
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {each} |",
            footprint.plugins,
            ms(footprint.cold),
            footprint.cold_mib,
            ms(footprint.warm),
            footprint.warm_mib
        )?;
    }
    Ok(())
}

/// Writes a table of what two servers made of the same work, ours first.
pub(super) fn write_pairs(
    out: &mut impl Write,
    title: &str,
    other: &str,
    pairs: &[[Figures; 2]],
) -> io::Result<()> {
    writeln!(out, "\n{title}:\n")?;
    writeln!(
        out,
        "| Case | requests/s | {other} | ratio | p99 ms | {other} | CPU µs per request | {other} | ratio |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|")?;
    for [ours, theirs] in pairs {
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.2} |",
            ours.name,
            ours.rate,
            theirs.rate,
            ours.rate / theirs.rate,
            ours.p99.as_secs_f64() * 1e3,
            theirs.p99.as_secs_f64() * 1e3,
            ours.cpu_micros,
            theirs.cpu_micros,
            theirs.cpu_micros / ours.cpu_micros,
        )?;
    }
    Ok(())
}

/// Writes what a storm of sign-ins does to those who read.
pub(super) fn write_storms(
    out: &mut impl Write,
    title: &str,
    servers: &[(&str, Vec<Storm>)],
) -> io::Result<()> {
    writeln!(out, "\n{title}:\n")?;
    writeln!(
        out,
        "| | reads/s, quiet | in the storm | p50 ms | in the storm | p99 ms | in the storm | ratio | sign-ins/s | refused |"
    )?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
    for (name, storms) in servers {
        let of = |figure: fn(&Storm) -> f64| median(storms.iter().map(figure).collect());
        let quiet = of(|storm| storm.quiet.p99.as_secs_f64());
        let stormy = of(|storm| storm.stormy.p99.as_secs_f64());
        writeln!(
            out,
            "| {name} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
            of(|storm| storm.quiet.rate()),
            of(|storm| storm.stormy.rate()),
            of(|storm| storm.quiet.p50.as_secs_f64()) * 1e3,
            of(|storm| storm.stormy.p50.as_secs_f64()) * 1e3,
            quiet * 1e3,
            stormy * 1e3,
            stormy / quiet,
            of(|storm| storm.sign_ins.rate()),
            of(|storm| storm.sign_ins.failed as f64),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_follow_an_outlier() {
        assert_eq!(median(vec![3.0, 1000.0, 2.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
