//! The log: structured lines on standard error, pretty on a terminal and JSON
//! elsewhere. Panics are lines like any other, inside the request they belong to.
//! What concerns a plugin is kept for the admin API as well.

mod lines;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};
use crate::plugins::logs::PluginLogs;
use lines::WithRequest;

/// The running log of this process, cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    /// The last lines of each plugin.
    pub plugins: PluginLogs,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Telemetry {
    /// Starts the log of this process. Called once.
    pub fn start(config: &LogConfig) -> anyhow::Result<Self> {
        let (filter, handle) = reload::Layer::new(filter(config)?);
        let plugins = PluginLogs::default();
        let terminal = std::io::stderr().is_terminal();
        let pretty = match config.format {
            LogFormat::Auto => terminal,
            LogFormat::Pretty => true,
            LogFormat::Json => false,
        };
        let lines = fmt::layer().with_writer(std::io::stderr);
        let lines = if pretty {
            let lines = lines.with_ansi(terminal).with_target(false);
            let lines = lines.map_event_format(|inner| WithRequest {
                inner: inner.with_ansi(terminal),
                json: false,
            });
            lines.boxed()
        } else {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            let lines = lines.map_event_format(|inner| WithRequest { inner, json: true });
            lines.boxed()
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(plugins.clone())
            .with(lines)
            .init();
        log_panics();
        Ok(Self {
            plugins,
            filter: handle,
        })
    }

    /// The log of a command that shows lines of plugins itself, if at all: they
    /// are kept, and nothing is written. Called once.
    pub(crate) fn quiet() -> anyhow::Result<Self> {
        let directives = EnvFilter::try_new("warn,plugin=trace,coglex=info,coglex_runtime=info")
            .context("the filter of this command's log is not valid")?;
        let (filter, handle) = reload::Layer::new(directives);
        let plugins = PluginLogs::default();
        tracing_subscriber::registry()
            .with(filter)
            .with(plugins.clone())
            .init();
        Ok(Self {
            plugins,
            filter: handle,
        })
    }

    /// Logs by another filter from now on. The shape of lines stays.
    pub fn set_filter(&self, config: &LogConfig) -> anyhow::Result<()> {
        let filter = filter(config)?;
        self.filter.reload(filter).context("the log is not running")
    }
}

fn filter(config: &LogConfig) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(&config.filter)
        .with_context(|| format!("the setting log.filter is not valid: {:?}", config.filter))
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no text");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(panic.location = place, panic.backtrace = %backtrace, "panic: {text}");
    }));
}
