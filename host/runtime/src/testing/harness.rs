//! What one test has said about its world, and what it has seen of it. Made for
//! a test, shared by the guest with the test and by those of the plugin.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::DateTime;
use bytes::Bytes;
use coglex_services::Clock;

/// Lines, and requests to other servers, that are kept for a test to look at.
/// What it makes beyond that was not meant to be looked at.
const MAX_KEPT: usize = 10_000;

/// Answers a request as the server under test.
pub type Answering = Arc<
    dyn Fn(http::Request<Bytes>) -> Pin<Box<dyn Future<Output = http::Response<Bytes>> + Send>>
        + Send
        + Sync,
>;

/// The world of one test.
#[derive(Default)]
pub struct Harness {
    clock: Clock,
    /// Nanoseconds since the test began, by its own clock.
    elapsed: AtomicU64,
    state: Mutex<State>,
}

/// The server under test.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) api_key: String,
    pub(super) answer: Answering,
}

/// A message to another server or from it.
#[derive(Debug, Clone)]
pub(crate) struct Message<H> {
    pub(crate) head: H,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The method and the URL.
pub(crate) type Asked = Message<(String, String)>;
/// The status.
pub(crate) type Told = Message<u16>;

/// A line of the log.
#[derive(Debug, Clone)]
pub(crate) struct Spoken {
    pub(crate) level: tracing::Level,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// Who asks the server under test.
#[derive(Clone, Default)]
pub(super) struct Asking {
    pub(super) api_key: bool,
    /// The token of a session.
    pub(super) bearer: Option<String>,
}

struct State {
    server: Option<Server>,
    asking: Asking,
    settings: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    prepared: Vec<((String, String), Told)>,
    sent: Vec<Asked>,
    lines: Vec<Spoken>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            server: None,
            asking: Asking {
                api_key: true,
                bearer: None,
            },
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
            prepared: Vec::new(),
            sent: Vec::new(),
            lines: Vec::new(),
        }
    }
}

impl Harness {
    /// A world whose time is `start`, and stands still.
    pub fn new(start: DateTime) -> Self {
        Self {
            clock: Clock::manual(start),
            ..Self::default()
        }
    }

    /// The clock, for services that are to go by it.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Says how requests to the server under test are answered, and which API key
    /// it has. Once, before the test is run.
    pub fn serve_by(&self, api_key: String, answer: Answering) {
        self.lock().server = Some(Server { api_key, answer });
    }

    /// Lets go of the server, which may well hold this harness.
    pub fn end(&self) {
        let server = self.lock().server.take();
        // After the lock: it may be the last who holds the server.
        drop(server);
    }

    pub(super) fn server(&self) -> Option<Server> {
        self.lock().server.clone()
    }

    /// Sets the clock. Time that was measured goes on: it never steps back.
    pub(super) fn set_time(&self, time: DateTime) {
        self.clock.set(time);
    }

    /// Moves both clocks on, by whole milliseconds.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let nanos = by.saturating_mul(1_000_000);
        let elapsed = self.elapsed().saturating_add(nanos);
        self.elapsed.store(elapsed, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> DateTime {
        self.clock.now()
    }

    /// Nanoseconds since the test began.
    pub(super) fn elapsed(&self) -> u64 {
        self.elapsed.load(Ordering::Relaxed)
    }

    pub(super) fn ask_as(&self, asking: Asking) {
        self.lock().asking = asking;
    }

    pub(super) fn asking(&self) -> Asking {
        self.lock().asking.clone()
    }

    pub(super) fn set_setting(&self, name: String, value: String) {
        self.lock().settings.insert(name, value);
    }

    pub(super) fn set_secret(&self, name: String, value: String) {
        self.lock().secrets.insert(name, value);
    }

    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        self.lock().settings.get(name).cloned()
    }

    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        self.lock().secrets.get(name).cloned()
    }

    pub(super) fn prepare(&self, method: String, url: String, answer: Told) {
        self.lock()
            .prepared
            .push(((method.to_ascii_uppercase(), normal(&url)), answer));
    }

    /// The answer that was prepared for a request to another server; the request
    /// is kept, answered or not.
    pub(crate) fn ask(&self, asked: Asked) -> Option<Told> {
        let mut state = self.lock();
        let (method, url) = &asked.head;
        let wanted = (method.to_ascii_uppercase(), normal(url));
        if state.sent.len() < MAX_KEPT {
            state.sent.push(asked);
        }
        let mut fitting = state.prepared.iter().enumerate();
        let mut fitting = fitting.by_ref().filter(|(_, (of, _))| *of == wanted);
        let (index, (_, answer)) = fitting.next()?;
        let answer = answer.clone();
        // The last one stays.
        if fitting.next().is_some() {
            state.prepared.remove(index);
        }
        Some(answer)
    }

    pub(super) fn sent(&self) -> Vec<Asked> {
        self.lock().sent.clone()
    }

    /// A guest has logged or printed something.
    pub(crate) fn hear(&self, line: impl FnOnce() -> Spoken) {
        let mut state = self.lock();
        if state.lines.len() < MAX_KEPT {
            state.lines.push(line());
        }
    }

    pub(super) fn lines(&self) -> Vec<Spoken> {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can be left half-done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").finish_non_exhaustive()
    }
}

/// A URL as those compare that mean the same: without the port of its scheme,
/// and with a path.
fn normal(url: &str) -> String {
    let Ok(uri) = url.parse::<http::Uri>() else {
        return url.to_owned();
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let usual = if scheme == "https" { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(usual);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{scheme}://{host}:{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16) -> Told {
        Message {
            head: status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn ask(harness: &Harness, method: &str, url: &str) -> Option<u16> {
        let asked = Message {
            head: (method.to_owned(), url.to_owned()),
            headers: Vec::new(),
            body: Vec::new(),
        };
        harness.ask(asked).map(|told| told.head)
    }

    #[test]
    fn answers_are_given_in_order_and_the_last_again() {
        let harness = Harness::default();
        let url = "https://api.example.com/a?b=1";
        for status in [500, 200] {
            harness.prepare("get".into(), url.into(), told(status));
        }
        harness.prepare("GET".into(), "https://other.example".into(), told(201));
        assert_eq!(ask(&harness, "GET", url), Some(500));
        let same = "https://API.example.com:443/a?b=1";
        assert_eq!(ask(&harness, "GET", same), Some(200));
        assert_eq!(ask(&harness, "GET", url), Some(200));
        assert_eq!(ask(&harness, "POST", url), None);
        assert_eq!(ask(&harness, "GET", "https://api.example.com/a"), None);
        assert_eq!(ask(&harness, "GET", "https://other.example/"), Some(201));
        assert_eq!(harness.sent().len(), 6);
    }

    #[test]
    fn measured_time_never_steps_back() {
        let harness = Harness::new(DateTime::from_millis(5_000));
        harness.advance(Duration::from_millis(10));
        harness.set_time(DateTime::from_millis(0));
        assert_eq!(harness.now(), DateTime::from_millis(0));
        assert_eq!(harness.elapsed(), 10_000_000);
        assert_eq!(harness.clock().now(), DateTime::from_millis(0));
    }
}
