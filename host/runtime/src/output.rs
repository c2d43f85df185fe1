//! What a guest says: its log lines, standard output and standard error, all of
//! it into the server's log, under the plugin's name and the request id, and
//! bounded. Nothing that a guest writes can pass for a line of the server's own.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::testing::{Harness, Spoken};

/// The target of every line that a guest wrote, for log filters.
const TARGET: &str = "plugin";
/// One line is cut here.
const MAX_LINE: usize = 16 * 1024;
/// How much of standard error is kept to explain a trap: a panic message and a
/// few lines before it.
const TAIL_LINES: usize = 12;
const MAX_TAIL_LINE: usize = 1024;
/// What a line costs of the log budget beside its bytes: making it is work, also
/// when it is short.
const LINE_COST: usize = 64;

/// Where the lines of one call go.
pub(crate) struct GuestLog {
    plugin: Arc<str>,
    /// A test that wants to know, in no server.
    harness: Option<Arc<Harness>>,
    state: Mutex<State>,
}

struct State {
    request_id: Arc<str>,
    left: usize,
    cut: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: VecDeque<String>,
}

/// Which of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl GuestLog {
    pub(crate) fn new(plugin: Arc<str>, request_id: Arc<str>, limit: usize) -> Self {
        Self {
            plugin,
            harness: None,
            state: Mutex::new(State {
                request_id,
                left: limit,
                cut: false,
                stdout: Vec::new(),
                stderr: Vec::new(),
                tail: VecDeque::new(),
            }),
        }
    }

    /// The same, of which a test hears as well.
    pub(crate) fn heard_by(mut self, harness: Option<Arc<Harness>>) -> Self {
        self.harness = harness;
        self
    }

    /// Starts over for another call.
    pub(crate) fn begin(&self, request_id: Arc<str>, limit: usize) {
        self.flush();
        let mut state = self.lock();
        state.request_id = request_id;
        state.left = limit;
        state.cut = false;
        state.tail.clear();
    }

    /// Bytes that the call may still log.
    pub(crate) fn left(&self) -> usize {
        self.lock().left
    }

    /// Counts what a call of another plugin has logged for this one.
    pub(crate) fn take(&self, bytes: usize) {
        let mut state = self.lock();
        state.left = state.left.saturating_sub(bytes);
    }

    /// A line through `coglex:log`.
    pub(crate) fn line(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let size = fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>();
        if !self.spend(message.len() + size, 1) {
            return;
        }
        if let Some(harness) = &self.harness {
            harness.hear(|| Spoken {
                level,
                message: message.to_owned(),
                fields: fields.to_vec(),
            });
        }
        let mut shown = String::new();
        for (name, value) in fields {
            let space = if shown.is_empty() { "" } else { " " };
            // Quoted, so that a value cannot look like another field.
            let _ = write!(
                shown,
                "{space}{}={:?}",
                printable(cut(name, MAX_LINE)),
                cut(value, MAX_LINE)
            );
        }
        self.emit(level, &printable(cut(message, MAX_LINE)), &shown);
    }

    /// Bytes on a standard stream: logged line by line.
    fn write(&self, stream: Stream, bytes: &[u8]) {
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        if !self.spend(bytes.len(), lines) {
            return;
        }
        let mut complete = Vec::new();
        {
            let mut state = self.lock();
            let buffer = state.buffer(stream);
            for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                buffer.extend_from_slice(piece);
                if piece.ends_with(b"\n") || buffer.len() > MAX_LINE {
                    complete.push(std::mem::take(buffer));
                }
            }
        }
        for line in complete {
            self.standard_line(stream, &line);
        }
    }

    fn standard_line(&self, stream: Stream, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = printable(cut(line.trim_end(), MAX_LINE));
        if line.is_empty() {
            return;
        }
        if stream == Stream::Err {
            let mut state = self.lock();
            if state.tail.len() == TAIL_LINES {
                state.tail.pop_front();
            }
            state.tail.push_back(cut(&line, MAX_TAIL_LINE).to_owned());
        }
        let level = if stream == Stream::Err {
            Level::WARN
        } else {
            Level::INFO
        };
        if let Some(harness) = &self.harness {
            harness.hear(|| Spoken {
                level,
                message: line.clone().into_owned(),
                fields: Vec::new(),
            });
        }
        self.emit(level, &line, "");
    }

    /// The last lines of standard error; a panic's text is there. Flushes what
    /// had no line end yet.
    pub(crate) fn last_words(&self) -> String {
        self.flush();
        let state = self.lock();
        state
            .tail
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn flush(&self) {
        for stream in [Stream::Out, Stream::Err] {
            let rest = std::mem::take(self.lock().buffer(stream));
            if !rest.is_empty() {
                self.standard_line(stream, &rest);
            }
        }
    }

    /// Whether the call may still log this much. The first time that it may not,
    /// a line says so.
    fn spend(&self, bytes: usize, lines: usize) -> bool {
        let cost = bytes.saturating_add(lines.saturating_mul(LINE_COST));
        let mut state = self.lock();
        if let Some(left) = state.left.checked_sub(cost) {
            state.left = left;
            return true;
        }
        let first = !std::mem::replace(&mut state.cut, true);
        drop(state);
        if first {
            self.emit(
                Level::WARN,
                "the call has reached its log limit; what it writes from here on is dropped",
                "",
            );
        }
        false
    }

    fn emit(&self, level: Level, message: &str, fields: &str) {
        let request_id = Arc::clone(&self.lock().request_id);
        macro_rules! emit {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    plugin.name = &*self.plugin,
                    request.id = &*request_id,
                    fields = (!fields.is_empty()).then_some(fields),
                    "{message}"
                )
            };
        }
        match level {
            Level::ERROR => emit!(Level::ERROR),
            Level::WARN => emit!(Level::WARN),
            Level::INFO => emit!(Level::INFO),
            Level::DEBUG => emit!(Level::DEBUG),
            Level::TRACE => emit!(Level::TRACE),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can be left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn buffer(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Out => &mut self.stdout,
            Stream::Err => &mut self.stderr,
        }
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// At most this many bytes, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Text that cannot start a new log line or move a terminal's cursor.
fn printable(text: &str) -> Cow<'_, str> {
    let harmless = |character: char| !character.is_control() || character == '\t';
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if harmless(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// A standard stream of a guest.
#[derive(Clone)]
pub(crate) struct Output {
    log: Arc<GuestLog>,
    stream: Stream,
}

impl Output {
    pub(crate) fn new(log: Arc<GuestLog>, stream: Stream) -> Self {
        Self { log, stream }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // Without the task and channel that the default puts in between.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.log.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(16 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: usize) -> GuestLog {
        GuestLog::new("test".into(), "r1".into(), limit)
    }

    #[test]
    fn standard_error_is_kept_line_by_line_for_the_report() {
        let log = log(1000);
        log.write(Stream::Err, b"thread 'main' pani");
        log.write(Stream::Err, b"cked at lib.rs\nboom");
        log.write(Stream::Out, b"not this\n");
        assert_eq!(log.last_words(), "thread 'main' panicked at lib.rs\nboom");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let log = log(10_000);
        for number in 0..100 {
            log.write(Stream::Err, format!("line {number}\n").as_bytes());
        }
        let words = log.last_words();
        assert_eq!(words.lines().count(), TAIL_LINES);
        assert!(words.ends_with("line 99"));
    }

    #[test]
    fn output_beyond_the_limit_is_dropped() {
        let log = log(LINE_COST + 10);
        log.write(Stream::Err, b"12345678\n");
        log.write(Stream::Err, b"dropped\n");
        assert_eq!(log.last_words(), "12345678");
    }

    #[test]
    fn a_guest_cannot_forge_lines_or_drive_the_terminal() {
        assert_eq!(printable("a\nb\x1b[2Jc\td"), "a\\nb\\u{1b}[2Jc\td");
        assert!(matches!(printable("plain ünïcode"), Cow::Borrowed(_)));
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(MAX_LINE), MAX_LINE).len(), MAX_LINE);
        assert_eq!(
            cut(&format!("a{}", "ü".repeat(MAX_LINE)), MAX_LINE).len(),
            MAX_LINE - 1
        );
    }
}
