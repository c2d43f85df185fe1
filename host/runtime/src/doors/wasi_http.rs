//! The standard door, `wasi:http/incoming-handler`: bodies stream both ways, and
//! a component that has never heard of us runs unchanged.
//!
//! A guest goes on writing the body after the head is out, so one that is not done
//! at once, as most are whose answers are short, gets a task of its own. It holds
//! the store and the place in the plugin's admission. It ends when the guest ends,
//! when a budget is spent, or when the client goes away, which drops the body and
//! with it the task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler::GuestIndices;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::{
    BoxError, RequestBody, ResponseBody, RouteMatch, check_head, invalid, records, run,
    strip_hop_by_hop,
};
use crate::error::CallError;
use crate::plugin::{CallContext, Shared};
use crate::schema::Schema;
use crate::state::{InstanceState, Phase, Watch, store};

/// Has the guest answer a request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    pre: &InstancePre<InstanceState>,
    door: &GuestIndices,
    request: Request<RequestBody>,
    matched: RouteMatch,
    context: CallContext,
) -> Result<Response<ResponseBody>, CallError> {
    let (request, memory) = match &matched.body {
        Some(schema) => checked(shared, request, schema).await?,
        None => (request, None),
    };
    let request = prepare(request);
    let permit = shared.admission.enter().await?;
    let (mut store, watch) = store(pre.engine(), shared, Phase::Serve, &shared.budget, context);
    let (sender, head) = oneshot::channel();
    let mut view = store.data_mut().http();
    let handles = view
        .new_incoming_request(Scheme::Http, request)
        .and_then(|request| Ok((request, view.new_response_outparam(sender)?)));
    let (incoming, outparam) = handles.map_err(|error| {
        tracing::error!(
            plugin.name = &*shared.name,
            request.id = &*watch.request_id,
            "a request cannot be handed over: {error:#}"
        );
        CallError::Unavailable
    })?;

    let broken = Arc::new(AtomicBool::new(false));
    let guest = {
        let (shared, pre, door, watch) =
            (Arc::clone(shared), pre.clone(), door.clone(), watch.clone());
        let fate = Fate {
            broken: Arc::clone(&broken),
            done: false,
        };
        async move {
            let wall = shared.budget.wall;
            // Pinned here: each layer around it would else hold all of it, and
            // copy it.
            let call = pin!(async move {
                let _held = (permit, memory);
                let mut store = store;
                // Dropped before the store, whose end the body takes for its own
                // end: by then it must know whether that was a good one.
                let mut fate = fate;
                let instance = pre.instantiate_async(&mut store).await?;
                let guest = door.load(&mut store, &instance)?;
                guest.call_handle(&mut store, incoming, outparam).await?;
                fate.done = true;
                Ok(())
            });
            run(&shared, &watch, wall, call).await
        }
    };
    // Begun here, where it often ends, too: a task costs its making, and a wake-up
    // of this one.
    let mut guest = Box::pin(guest.in_current_span());
    let begun = poll_fn(|context| Poll::Ready(guest.as_mut().poll(context))).await;
    let task = match begun {
        Poll::Ready(end) => Task {
            end: Some(end),
            running: None,
        },
        Poll::Pending => Task {
            end: None,
            running: Some(tokio::spawn(guest)),
        },
    };
    match head.await {
        Ok(Ok(response)) => answer(shared, &watch, response, task, broken),
        Ok(Err(code)) => Err(invalid(
            shared,
            &watch,
            format!("the guest answered with the error {code:?}"),
        )),
        // The store is gone without a head: the task says why.
        Err(_) => Err(match task.join().await {
            Some(Err(error)) => error,
            Some(Ok(())) => invalid(shared, &watch, "the guest ended without an answer"),
            None => CallError::Unavailable,
        }),
    }
}

/// The request with its body collected, counted and found to fit the schema.
async fn checked(
    shared: &Shared,
    request: Request<RequestBody>,
    schema: &Schema,
) -> Result<(Request<RequestBody>, Option<OwnedSemaphorePermit>), CallError> {
    let (parts, body) = request.into_parts();
    let (body, memory) = records::collect(shared, body).await?.finish();
    let (body, checked) = schema.check_body(body).await;
    checked?;
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    Ok((Request::from_parts(parts, body.boxed_unsync()), memory))
}

fn prepare(
    request: Request<RequestBody>,
) -> Request<impl Body<Data = Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static> {
    let (mut parts, body) = request.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    // HTTP/1.0 needs no `Host`, and a client can send one that is not text; the
    // guest is told some authority.
    let named = parts
        .headers
        .get(header::HOST)
        .is_some_and(|host| host.to_str().is_ok());
    if parts.uri.authority().is_none() && !named {
        parts
            .headers
            .insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    // A guest learns that the body broke off, or is too large, not why.
    Request::from_parts(
        parts,
        body.map_err(|_| wasmtime_wasi_http::Error::HttpRequestBodySize(None)),
    )
}

fn answer(
    shared: &Arc<Shared>,
    watch: &Watch,
    response: Response<HyperOutgoingBody>,
    task: Task,
    broken: Arc<AtomicBool>,
) -> Result<Response<ResponseBody>, CallError> {
    let (mut parts, body) = response.into_parts();
    parts.status = check_head(parts.status.as_u16(), &mut parts.headers)
        .map_err(|why| invalid(shared, watch, why))?;
    let body = GuestBody {
        inner: body,
        left: shared.budget.response_bytes as u64,
        broken,
        task,
        shared: Arc::clone(shared),
        watch: watch.clone(),
    };
    Ok(Response::from_parts(parts, ResponseBody::streamed(body)))
}

/// Tells the body how the guest ended.
struct Fate {
    broken: Arc<AtomicBool>,
    done: bool,
}

impl Drop for Fate {
    fn drop(&mut self) {
        if !self.done {
            self.broken.store(true, Ordering::Release);
        }
    }
}

/// The guest; dropping it ends it.
struct Task {
    /// How it ended, where that was at once.
    end: Option<Result<(), CallError>>,
    running: Option<JoinHandle<Result<(), CallError>>>,
}

impl Task {
    /// How the guest ended; nothing if the host failed or is going down.
    async fn join(mut self) -> Option<Result<(), CallError>> {
        match &mut self.running {
            Some(handle) => handle.await.ok(),
            None => self.end.take(),
        }
    }

    /// Lets the guest go on to its own end.
    fn detach(&mut self) {
        self.running = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.running {
            handle.abort();
        }
    }
}

/// A response body that a guest is still writing.
struct GuestBody {
    inner: HyperOutgoingBody,
    left: u64,
    broken: Arc<AtomicBool>,
    task: Task,
    shared: Arc<Shared>,
    watch: Watch,
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                match self.left.checked_sub(size) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let limit = self.shared.budget.response_bytes;
                        let error = invalid(
                            &self.shared,
                            &self.watch,
                            format!("its body is larger than the {limit} bytes of the budget"),
                        );
                        Poll::Ready(Some(Err(error.into())))
                    }
                }
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.to_string().into()))),
            // A guest that was cut leaves a body that looks complete. The client
            // has to see the connection break instead.
            None if self.broken.load(Ordering::Acquire) => {
                Poll::Ready(Some(Err("the response broke off".into())))
            }
            None => {
                self.task.detach();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
