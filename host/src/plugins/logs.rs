//! The last lines of each plugin's log, for `…/logs/` of the admin API: what its
//! code wrote, and what the server has to say about it (loads, traps).
//!
//! A layer of the log collects them: every event with a field `plugin.name` that
//! passes the log's filter. Rings are bounded in lines, bytes and number, so
//! that no plugin can fill the memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that are kept of each plugin.
pub const LINES: usize = 1000;
/// Bytes that they may have together.
const BYTES: usize = 128 * 1024;
/// Plugins whose lines are kept; past it, those go that were silent longest.
const PLUGINS: usize = 512;
/// Lines that a follower may lag behind before it misses some.
const LAG: usize = 256;

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When, in RFC 3339.
    pub time: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// The text.
    pub message: String,
    /// The request during which it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What else was said, by name.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Line {
    fn weight(&self) -> usize {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| name.len() + value.as_str().map_or(8, str::len));
        64 + self.message.len() + fields.sum::<usize>()
    }
}

/// The lines of all plugins, cheap to clone.
#[derive(Clone, Default)]
pub struct PluginLogs(Arc<Mutex<Rings>>);

#[derive(Default)]
struct Rings {
    by_name: HashMap<String, Ring>,
    /// Counts lines, to find the ring that was silent longest.
    clock: u64,
}

struct Ring {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    last: u64,
    followers: broadcast::Sender<Arc<Line>>,
}

impl Ring {
    fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            last: 0,
            followers: broadcast::Sender::new(LAG),
        }
    }

    fn push(&mut self, line: Arc<Line>) {
        self.bytes += line.weight();
        self.lines.push_back(Arc::clone(&line));
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
        }
        // Nobody follows: that is fine.
        let _ = self.followers.send(line);
    }
}

impl PluginLogs {
    /// The last `count` lines of a plugin, the newest last.
    pub fn last(&self, plugin: &str, count: usize) -> Vec<Arc<Line>> {
        self.with(|rings| match rings.by_name.get(plugin) {
            Some(ring) => {
                let skip = ring.lines.len().saturating_sub(count);
                ring.lines.iter().skip(skip).cloned().collect()
            }
            None => Vec::new(),
        })
    }

    /// The last lines and, without a gap, those that come.
    pub fn follow(
        &self,
        plugin: &str,
        count: usize,
    ) -> (Vec<Arc<Line>>, broadcast::Receiver<Arc<Line>>) {
        self.with(|rings| {
            let ring = rings.ring(plugin);
            let skip = ring.lines.len().saturating_sub(count);
            let last = ring.lines.iter().skip(skip).cloned().collect();
            (last, ring.followers.subscribe())
        })
    }

    /// Forgets the lines of a plugin.
    pub(crate) fn clear(&self, plugin: &str) {
        self.with(|rings| {
            if let Some(ring) = rings.by_name.get_mut(plugin) {
                ring.lines.clear();
                ring.bytes = 0;
            }
        });
    }

    fn push(&self, plugin: &str, line: Line) {
        self.with(|rings| {
            rings.clock += 1;
            let now = rings.clock;
            let ring = rings.ring(plugin);
            ring.last = now;
            ring.push(Arc::new(line));
        });
    }

    fn with<T>(&self, use_them: impl FnOnce(&mut Rings) -> T) -> T {
        // Nothing in here can be left half-done by a panic.
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        use_them(&mut rings)
    }
}

impl Rings {
    fn ring(&mut self, plugin: &str) -> &mut Ring {
        if !self.by_name.contains_key(plugin) && self.by_name.len() >= PLUGINS {
            let silent = self.by_name.iter().min_by_key(|(_, ring)| ring.last);
            if let Some(name) = silent.map(|(name, _)| name.clone()) {
                self.by_name.remove(&name);
            }
        }
        self.by_name
            .entry(plugin.to_owned())
            .or_insert_with(Ring::new)
    }
}

impl<S: Subscriber> Layer<S> for PluginLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Most events say nothing of a plugin and cost this look only.
        if event.metadata().fields().field("plugin.name").is_none() {
            return;
        }
        let mut found = Found::default();
        event.record(&mut found);
        let Some(plugin) = found.plugin else { return };
        let mut time = String::new();
        // A text takes whatever is written into it.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let line = Line {
            time,
            level: match *event.metadata().level() {
                tracing::Level::ERROR => "error",
                tracing::Level::WARN => "warn",
                tracing::Level::INFO => "info",
                tracing::Level::DEBUG => "debug",
                tracing::Level::TRACE => "trace",
            },
            message: found.message,
            request_id: found.request_id,
            fields: found.fields,
        };
        self.push(&plugin, line);
    }
}

/// The fields of an event.
#[derive(Default)]
struct Found {
    plugin: Option<String>,
    request_id: Option<String>,
    message: String,
    fields: serde_json::Map<String, serde_json::Value>,
}

impl Found {
    fn set(&mut self, name: &str, value: serde_json::Value) {
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match name {
            "plugin.name" => self.plugin = Some(text(value)),
            "request.id" => self.request_id = Some(text(value)),
            "message" => self.message = text(value),
            _ => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn collect(write: impl FnOnce()) -> PluginLogs {
        let logs = PluginLogs::default();
        let subscriber = tracing_subscriber::registry().with(logs.clone());
        tracing::subscriber::with_default(subscriber, write);
        logs
    }

    #[test]
    fn lines_are_kept_under_their_plugin() {
        let logs = collect(|| {
            tracing::info!("of the server");
            tracing::warn!(
                plugin.name = "a",
                request.id = "r-1",
                tries = 3,
                "it {}",
                "failed"
            );
            tracing::info!(plugin.name = %"b", fields = None::<&str>, "other");
        });
        let lines = logs.last("a", 10);
        assert_eq!(lines.len(), 1);
        let line = &*lines[0];
        assert_eq!((line.level, line.message.as_str()), ("warn", "it failed"));
        assert_eq!(line.request_id.as_deref(), Some("r-1"));
        assert_eq!(line.fields["tries"], 3);
        assert!(
            line.time.ends_with('Z') && line.time.contains('T'),
            "{}",
            line.time
        );
        assert_eq!(logs.last("b", 10)[0].message, "other");
        assert!(logs.last("c", 10).is_empty());
    }

    #[test]
    fn a_ring_is_bounded_in_lines_and_bytes() {
        let logs = collect(|| {
            for number in 0..LINES + 10 {
                tracing::info!(plugin.name = "short", "{number}");
            }
            for _ in 0..100 {
                tracing::info!(plugin.name = "long", "{}", "x".repeat(10_000));
            }
        });
        let short = logs.last("short", usize::MAX);
        assert_eq!((short.len(), short[0].message.as_str()), (LINES, "10"));
        assert_eq!(logs.last("short", 3).len(), 3);
        assert_eq!(logs.last("long", usize::MAX).len(), BYTES / (10_000 + 64));
    }

    #[test]
    fn the_plugin_that_was_silent_longest_is_forgotten() {
        let logs = collect(|| {
            for number in 0..=PLUGINS {
                tracing::info!(plugin.name = format!("p{number}"), "hello");
                tracing::info!(plugin.name = "p0", "again");
            }
        });
        assert_eq!(logs.with(|rings| rings.by_name.len()), PLUGINS);
        assert!(!logs.last("p0", 1).is_empty() && logs.last("p1", 1).is_empty());
    }

    #[test]
    fn a_follower_misses_nothing_between_the_last_lines_and_the_new_ones() {
        let logs = collect(|| tracing::info!(plugin.name = "a", "one"));
        let (last, mut coming) = logs.follow("a", 10);
        let subscriber = tracing_subscriber::registry().with(logs);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(plugin.name = "a", "two");
        });
        assert_eq!((last.len(), last[0].message.as_str()), (1, "one"));
        assert_eq!(coming.try_recv().unwrap().message, "two");
        assert!(coming.try_recv().is_err());
    }
}
