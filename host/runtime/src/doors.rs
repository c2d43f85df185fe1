//! How a call enters a guest and comes out again: three doors, one way to run
//! and one way to fail.

mod body;
pub(crate) mod function;
pub(crate) mod records;
pub(crate) mod wasi_http;
mod within;

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use http_body_util::combinators::UnsyncBoxBody;

use crate::credentials;
use crate::error::{CallError, LoadError};
use crate::limits::Spent;
use crate::plugin::Shared;
use crate::schema::Schema;
use crate::state::Watch;

pub use body::ResponseBody;
pub use function::Failure;
use within::within;

/// An error that a body can end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, as it arrives. The caller bounds it; see
/// [`http_body_util::Limited`], whose error becomes [`CallError::PayloadTooLarge`].
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Through which export a plugin answers HTTP requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It does not.
    None,
    /// `coglex:gateway/handler`: whole requests and responses.
    Records,
    /// `wasi:http/incoming-handler`: streams.
    WasiHttp,
}

/// Where a request's path matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The route's pattern.
    pub pattern: String,
    /// Parameters by name, percent-decoded, in the pattern's order.
    pub params: Vec<(String, String)>,
    /// What the body has to look like.
    pub body: Option<Schema>,
}

/// Runs a guest for a client: whatever ends it is logged, here and only here.
pub(crate) async fn run<T>(
    shared: &Shared,
    watch: &Watch,
    wall: Duration,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, CallError> {
    attempt(watch, wall, guest).await.map_err(|ending| {
        ending.log(shared, watch);
        ending.as_call_error()
    })
}

/// Runs a guest by its CPU clock and within its wall-clock budget.
pub(crate) async fn attempt<T>(
    watch: &Watch,
    wall: Duration,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Ending> {
    match within(wall, watch.clock.measure(guest)).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) if error.is::<wasmtime::PoolConcurrencyLimitError>() => {
            Err(Ending::NoInstance(error))
        }
        Some(Err(error)) => Err(Ending::Trap(error)),
        None => Err(Ending::Wall(wall)),
    }
}

/// What ended a guest before its time.
pub(crate) enum Ending {
    /// The wall-clock budget is spent.
    Wall(Duration),
    /// The pool is empty.
    NoInstance(wasmtime::Error),
    /// A trap: the guest's fault, or another spent budget.
    Trap(wasmtime::Error),
}

impl Ending {
    fn as_call_error(&self) -> CallError {
        match self {
            Ending::Wall(_) => CallError::Deadline,
            Ending::NoInstance(_) => CallError::Overloaded {
                retry_after: Duration::from_secs(1),
            },
            Ending::Trap(error) => match error.downcast_ref::<Spent>() {
                Some(Spent::Cpu(_)) => CallError::Deadline,
                _ => CallError::Trapped,
            },
        }
    }

    fn log(&self, shared: &Shared, watch: &Watch) {
        let name = &*shared.name;
        let request_id = &*watch.request_id;
        let stderr = Some(watch.log.last_words()).filter(|words| !words.is_empty());
        match self.as_call_error() {
            CallError::Deadline => shared.counts.deadline(),
            CallError::Trapped => shared.counts.trap(),
            _ => {}
        }
        match self {
            Ending::Wall(wall) => tracing::error!(
                plugin.name = name,
                request.id = request_id,
                stderr,
                "the call was cut after its wall-clock budget of {wall:?}"
            ),
            Ending::NoInstance(error) => tracing::warn!(
                plugin.name = name,
                request.id = request_id,
                "no instance is free: {error:#}"
            ),
            // With `Debug`: the chain of causes and the guest's backtrace.
            Ending::Trap(error) => tracing::error!(
                plugin.name = name,
                request.id = request_id,
                memory_limit_reached = watch.memory_refused().then_some(shared.budget.memory_bytes),
                stderr,
                "the call trapped: {error:?}"
            ),
        }
    }

    /// For whoever loads the plugin, whose `describe()` it was.
    pub(crate) fn as_load_error(&self, watch: &Watch) -> LoadError {
        match self {
            Ending::NoInstance(_) => LoadError::Busy,
            _ => LoadError::Describe(self.explain(watch)),
        }
    }

    fn explain(&self, watch: &Watch) -> String {
        let mut text = match self {
            Ending::Wall(wall) => format!("it took longer than {wall:?}"),
            Ending::NoInstance(_) => "no instance is free".to_owned(),
            Ending::Trap(error) => error.root_cause().to_string(),
        };
        if watch.memory_refused() {
            text.push_str(", after it was refused more memory than its budget");
        }
        let words = watch.log.last_words();
        if !words.is_empty() {
            text = format!("{text}; it wrote: {words}");
        }
        text
    }
}

/// An answer that cannot be sent; logged here and only here.
pub(crate) fn invalid(shared: &Shared, watch: &Watch, why: impl Into<String>) -> CallError {
    let why = why.into();
    tracing::error!(
        plugin.name = &*shared.name,
        request.id = &*watch.request_id,
        "the answer cannot be sent: {why}"
    );
    CallError::InvalidResponse(why)
}

/// Headers that belong to one connection, not to the message (RFC 9110, 7.6.1):
/// the guest's side of it has none.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Takes out what concerns the connection: these, and what `Connection` names.
/// What proxies tell of the client stays: that is not the client's to take out.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, and looking each up would cost more.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|part| HeaderName::from_bytes(part.trim_ascii()).ok())
        .filter(|name| *name != header::FORWARDED && !name.as_str().starts_with("x-forwarded-"))
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What a response's head must be, whichever door it comes from.
pub(crate) fn check_head(status: u16, headers: &mut HeaderMap) -> Result<http::StatusCode, String> {
    let code = http::StatusCode::from_u16(status)
        .ok()
        .filter(|_| (200..600).contains(&status));
    let Some(code) = code else {
        return Err(format!("the status {status} is not between 200 and 599"));
    };
    strip_hop_by_hop(headers);
    credentials::strip_response(headers);
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_know_such_a_header_agree() {
        for name in &HOP_BY_HOP {
            assert!(is_hop_by_hop(name), "{name}");
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static("x"));
            strip_hop_by_hop(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
        assert!(!is_hop_by_hop(&header::CONTENT_TYPE));
    }

    #[test]
    fn what_the_connection_header_names_stays_on_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("connection", "x-forwarded-for, x-other"),
            ("te", "trailers"),
            ("x-own", "1"),
            ("x-other", "2"),
            ("x-forwarded-for", "192.0.2.1"),
            ("accept", "*/*"),
        ] {
            let name = HeaderName::from_static(name);
            headers.append(name, http::HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for"]);
    }
}
