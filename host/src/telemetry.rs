//! The log: structured lines on standard error, pretty on a terminal and JSON
//! elsewhere. Panics are lines like any other, inside the request they belong to.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogConfig, LogFormat};

/// Starts the log of this process. Called once.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .with_context(|| format!("the setting log.filter is not valid: {:?}", config.filter))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let pretty = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    if pretty {
        lines.with_ansi(terminal).with_target(false).init();
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panic.location = place, panic.backtrace = %backtrace, "panic: {text}");
    }));
    Ok(())
}
