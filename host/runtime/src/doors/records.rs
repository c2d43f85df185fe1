//! The gateway's own door: the request whole, as a record; the response too.
//! The fastest of the two, and the one that our SDKs use.

use std::pin::pin;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::InstancePre;

use super::{
    RequestBody, ResponseBody, RouteMatch, check_head, invalid, run, strip_hop_by_hop, within,
};
use crate::bindings::gateway::handler::{self, Guest, GuestIndices};
use crate::bodies::Buffered;
use crate::error::CallError;
use crate::plugin::{CallContext, Shared};
use crate::reuse::{Reuse, Warm};
use crate::state::{InstanceState, Phase, Watch, store};

/// Headers of one response; far more than any client accepts.
const MAX_HEADERS: usize = 256;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// What servers commonly add to a response's headers; room for them is made at
/// once.
const ADDED_HEADERS: usize = 4;

/// Has the guest answer a request.
pub(crate) async fn handle(
    shared: &std::sync::Arc<Shared>,
    pre: &InstancePre<InstanceState>,
    (door, reuse): (&GuestIndices, &Reuse<Guest>),
    request: Request<RequestBody>,
    matched: RouteMatch,
    context: CallContext,
) -> Result<Response<ResponseBody>, CallError> {
    // The body first: a client that sends slowly must not hold an instance.
    // Its memory stays counted until the call is over, which is how long it lives.
    let (request, _memory) = record(shared, request, matched).await?;
    let permit = shared.admission.enter().await?;
    let budget = &shared.budget;
    let response;
    let watch = match reuse.take(shared, context) {
        Ok((mut warm, watch)) => {
            response = {
                let call = pin!(warm.guest.call_handle(&mut warm.store, &request));
                run(shared, &watch, budget.wall, call).await?
            };
            reuse.keep(shared.admission.instances(), warm);
            watch
        }
        Err(context) => {
            let (mut store, watch) = store(pre.engine(), shared, Phase::Serve, budget, context);
            let guest;
            (guest, response) = {
                // Pinned here: each layer around it would else hold all of it, and
                // copy it.
                let call = pin!(async {
                    let instance = pre.instantiate_async(&mut store).await?;
                    let guest = door.load(&mut store, &instance)?;
                    let response = guest.call_handle(&mut store, &request).await?;
                    Ok((guest, response))
                });
                run(shared, &watch, budget.wall, call).await?
            };
            if budget.reuse > 1 {
                let warm = Warm::new(store, guest, shared);
                reuse.keep(shared.admission.instances(), warm);
            }
            watch
        }
    };
    drop(permit);
    answer(shared, &watch, response)
}

async fn record(
    shared: &Shared,
    request: Request<RequestBody>,
    matched: RouteMatch,
) -> Result<(handler::Request, Option<OwnedSemaphorePermit>), CallError> {
    let (mut parts, body) = request.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    let (mut body, memory) = collect(shared, body).await?.finish();
    if let Some(schema) = &matched.body {
        let (back, checked) = schema.check_body(body).await;
        checked?;
        body = back;
    }
    let path = parts.uri.path();
    let path = path
        .strip_suffix('/')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(path);
    let mut headers = Vec::with_capacity(parts.headers.len());
    headers.extend(parts.headers.iter().filter_map(|(name, value)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    }));
    let request = handler::Request {
        method: parts.method.as_str().to_owned(),
        path: path.to_owned(),
        route: matched.pattern,
        query: parts.uri.query().map(str::to_owned),
        params: matched.params,
        headers,
        body,
    };
    Ok((request, memory))
}

/// The whole body, in the time of one call, and no larger than the guest could
/// hold. The caller has set a tighter limit.
pub(super) async fn collect(shared: &Shared, body: RequestBody) -> Result<Buffered, CallError> {
    if body.is_end_stream() {
        return Ok(shared.bodies.body());
    }
    let read = read(body, shared.budget.memory_bytes, shared.bodies.body());
    match within(shared.budget.wall, read).await {
        Some(result) => result,
        None => Err(CallError::InvalidRequest(
            "The body did not arrive in time.".to_owned(),
        )),
    }
}

async fn read(
    mut body: RequestBody,
    limit: usize,
    mut whole: Buffered,
) -> Result<Buffered, CallError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if is_too_large(&*error) {
                CallError::PayloadTooLarge
            } else {
                CallError::InvalidRequest("The body broke off.".to_owned())
            }
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(CallError::PayloadTooLarge);
        }
        whole.push(data)?;
    }
    Ok(whole)
}

/// Whether a body ended because of a limit, however deep that is wrapped.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn answer(
    shared: &Shared,
    watch: &Watch,
    response: handler::Response,
) -> Result<Response<ResponseBody>, CallError> {
    let limit = shared.budget.response_bytes;
    if response.body.len() > limit {
        let size = response.body.len();
        return Err(invalid(
            shared,
            watch,
            format!("its body has {size} bytes, more than the {limit} of the budget"),
        ));
    }
    let checked = headers(&response.headers).and_then(|mut headers| {
        // Computed from the body that is sent.
        headers.remove(header::CONTENT_LENGTH);
        Ok((check_head(response.status, &mut headers)?, headers))
    });
    let (status, headers) = checked.map_err(|why| invalid(shared, watch, why))?;
    let mut response = Response::new(ResponseBody::whole(response.body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if pairs.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "it has more than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them"
        ));
    }
    // Some more are added on the way out.
    let mut headers = HeaderMap::with_capacity(pairs.len() + ADDED_HEADERS);
    for (name, value) in pairs {
        let Ok(key) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(format!(
                "{:?} is not a header's name",
                name.chars().take(80).collect::<String>()
            ));
        };
        let Ok(value) = HeaderValue::from_str(value) else {
            return Err(format!(
                "the value of its header {key} has characters that no header can hold"
            ));
        };
        headers.append(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_header_cannot_smuggle_another_line() {
        assert!(headers(&pairs(&[("x", "a\r\nset-cookie: b")])).is_err());
        assert!(headers(&pairs(&[("x: y\r\nz", "a")])).is_err());
        assert!(headers(&pairs(&[("", "a")])).is_err());
        assert_eq!(
            headers(&pairs(&[("Set-Cookie", "a"), ("set-cookie", "b")]))
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn too_many_headers_are_refused() {
        let many: Vec<_> = (0..=MAX_HEADERS)
            .map(|n| (format!("x-{n}"), String::new()))
            .collect();
        assert!(headers(&many).is_err());
        assert!(headers(&[("x".to_owned(), "a".repeat(MAX_HEADER_BYTES))]).is_err());
    }

    #[test]
    fn statuses_that_no_client_can_use_are_refused() {
        let check = |status: u16| check_head(status, &mut HeaderMap::new()).is_ok();
        assert!(check(200) && check(404) && check(599));
        assert!(!check(0) && !check(101) && !check(199) && !check(600) && !check(999));
    }
}
