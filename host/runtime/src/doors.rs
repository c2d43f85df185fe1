//! How a call enters a guest and comes out again: three doors, one way to run
//! and one way to fail.

pub(crate) mod function;
pub(crate) mod records;
pub(crate) mod wasi_http;

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName};
use http_body_util::combinators::UnsyncBoxBody;

use crate::credentials;
use crate::error::CallError;
use crate::limits::Spent;
use crate::plugin::Shared;
use crate::state::Watch;

pub use function::Failure;

/// An error that a body can end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, as it arrives. The caller bounds it; see
/// [`http_body_util::Limited`], whose error becomes [`CallError::PayloadTooLarge`].
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;
/// A response's body.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

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
}

/// Runs a guest by its CPU clock and within its wall-clock budget, and turns
/// whatever ends it into a [`CallError`], which is logged here and only here.
pub(crate) async fn run<T>(
    shared: &Shared,
    watch: &Watch,
    wall: Duration,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, CallError> {
    let error = match tokio::time::timeout(wall, watch.clock.measure(guest)).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => {
            let last_words = watch.log.last_words();
            tracing::error!(
                plugin.name = &*shared.name,
                request.id = &*watch.request_id,
                stderr = (!last_words.is_empty()).then_some(&last_words),
                "the call was cut after its wall-clock budget of {wall:?}"
            );
            return Err(CallError::Deadline);
        }
    };
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        tracing::warn!(
            plugin.name = &*shared.name,
            request.id = &*watch.request_id,
            "no instance is free: {error:#}"
        );
        return Err(CallError::Overloaded {
            retry_after: Duration::from_secs(1),
        });
    }
    let last_words = watch.log.last_words();
    tracing::error!(
        plugin.name = &*shared.name,
        request.id = &*watch.request_id,
        memory_limit_reached = watch.memory_refused().then_some(shared.budget.memory_bytes),
        stderr = (!last_words.is_empty()).then_some(&last_words),
        // With `Debug`: the chain and the guest's backtrace.
        "the call trapped: {error:?}"
    );
    match error.downcast_ref::<Spent>() {
        Some(Spent::Cpu(_)) => Err(CallError::Deadline),
        _ => Err(CallError::Trapped),
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

/// Takes out what concerns the connection.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
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
    credentials::strip_set_cookies(headers);
    Ok(code)
}
