//! The figures as a Markdown table.

use std::io::{self, Write};
use std::time::Duration;

use super::Options;
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

/// Writes everything. The first case is the yardstick of the ratios.
pub(super) fn write(
    out: &mut impl Write,
    options: &Options,
    startup: &Startup,
    figures: &[Figures],
    loaded_mib: f64,
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
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_follow_an_outlier() {
        assert_eq!(median(vec![3.0, 1000.0, 2.0]), 3.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
