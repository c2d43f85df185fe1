//! What guests send: `wasi:http/outgoing-handler`, to the origins that they were
//! granted and no others.
//!
//! The name in a request decides whether it may be sent, the address behind the
//! name whether a connection is made. The address is looked up once and that one
//! is connected to, so that a name cannot lead elsewhere between the check and
//! the connection. Redirects are not followed: a guest that follows one makes a
//! new request, which is checked like the first.
//!
//! Standard components import this interface whether they use it or not, so it
//! is always linked; without a grant every request is answered
//! `HTTP-request-denied`.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coglex_services::Caller;
use coglex_services::grants::{Grants, Reach, reach};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::{Error, RequestOptions, WasiHttpHooks};

use crate::budget::Budget;
use crate::error::RuntimeError;
use crate::plugin::Shared;
use crate::state::Phase;
use crate::testing::{self, Asked, Harness};

/// Connections that the calls of one plugin hold at once.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take, unless the guest says less.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of a response's head.
const MAX_HEAD: usize = 64 * 1024;

/// Turns at looking names up, for the whole process. The system's lookup holds a
/// thread until it is done, whoever still waits for it.
static RESOLVING: Semaphore = Semaphore::const_new(32);

type GuestBody = UnsyncBoxBody<Bytes, Error>;
type Ending = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answer = Result<(Response<GuestBody>, Ending), Error>;

/// What all plugins share to speak TLS: whose certificates are believed.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Believes the authorities that browsers believe (Mozilla's list), and
    /// those of a PEM file where there is one.
    pub(crate) fn new(authorities: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        if let Some(path) = authorities {
            let unusable = |why: String| RuntimeError::Authorities {
                path: path.to_owned(),
                why,
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| unusable(error.to_string()))?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(unusable("it holds no certificate".to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| RuntimeError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

/// What one call may send.
pub(crate) struct Egress {
    shared: Arc<Shared>,
    request_id: Arc<str>,
    phase: Phase,
    deadline: Instant,
    /// Requests that the call may still make.
    requests_left: u64,
    /// Bytes that it may still send and receive.
    bytes_left: Arc<AtomicU64>,
}

impl Egress {
    /// Requests and their bytes are counted like host calls and theirs, apart
    /// from them and to the same limits.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        request_id: &Arc<str>,
        phase: Phase,
        budget: &Budget,
        deadline: Instant,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            request_id: Arc::clone(request_id),
            phase,
            deadline,
            requests_left: budget.host_calls,
            bytes_left: Arc::new(AtomicU64::new(budget.host_call_bytes)),
        }
    }

    /// Requests and bytes that are left.
    pub(crate) fn left(&self) -> (u64, u64) {
        (self.requests_left, self.bytes_left.load(Ordering::Relaxed))
    }

    /// Leaves no more than this.
    pub(crate) fn limit(&mut self, requests: u64, bytes: u64) {
        self.requests_left = self.requests_left.min(requests);
        self.bytes_left.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Where a request goes and what may be behind the name, or why it may not
    /// be sent.
    fn allow<B>(&mut self, request: &Request<B>) -> Result<Target, Error> {
        // Refused ones count, too: each leaves a line in the log.
        let left = self.requests_left.checked_sub(1);
        self.requests_left = left.ok_or(Error::HttpRequestDenied)?;
        let target = Target::of(request)?;
        let granted = match &self.shared.caller {
            Caller::Plugin(plugin) if self.phase == Phase::Serve => target.granted(&plugin.grants),
            _ => None,
        };
        let Some(reach) = granted else {
            tracing::warn!(
                plugin.name = &*self.shared.name,
                request.id = &*self.request_id,
                "a request to {target} was not sent: no grant covers it"
            );
            return Err(Error::HttpRequestDenied);
        };
        Ok(Target { reach, ..target })
    }
}

impl WasiHttpHooks for Egress {
    fn send_request(
        &mut self,
        request: Request<GuestBody>,
        options: Option<RequestOptions>,
        _sent: Ending,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let target = match self.allow(&request) {
            Ok(target) => target,
            Err(error) => return Box::new(std::future::ready(Err(error))),
        };
        if let Some(harness) = &self.shared.harness {
            return Box::new(prepared(Arc::clone(harness), request));
        }
        let options = options.unwrap_or_default();
        let wire = Wire {
            tls: target.tls.then(|| self.shared.tls.clone()),
            places: Arc::clone(&self.shared.connections),
            bytes_left: Arc::clone(&self.bytes_left),
            connect: options.connect_timeout.unwrap_or(CONNECT),
            idle: options.between_bytes_timeout,
            target,
        };
        let deadline = self.deadline;
        let first_byte = options.first_byte_timeout.map(|time| Instant::now() + time);
        Box::new(async move {
            let until = first_byte.map_or(deadline, |time| time.min(deadline));
            tokio::time::timeout_at(until.into(), wire.send(request))
                .await
                .unwrap_or(Err(Error::ConnectionReadTimeout))
        })
    }

    // Two chunks of 64 KiB in flight rather than one of 1 MiB: less held for a
    // client that reads slowly.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        64 * 1024
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        2
    }
}

/// The answer that a test has prepared for a request; nothing is sent.
async fn prepared(harness: Arc<Harness>, request: Request<GuestBody>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let asked = Asked {
        head: (head.method.to_string(), head.uri.to_string()),
        headers: testing::pairs(&head.headers),
        body: body.to_vec(),
    };
    let told = harness.ask(asked).ok_or(Error::DestinationNotFound)?;
    let mut response = Response::builder().status(told.head);
    for (name, value) in told.headers {
        response = response.header(name, value);
    }
    let body = http_body_util::Full::new(Bytes::from(told.body));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    let response = response.body(body).map_err(|_| Error::HttpProtocolError)?;
    Ok((response, Box::new(std::future::ready(Ok(())))))
}

/// The server that a request is for.
#[derive(Debug, Clone)]
struct Target {
    tls: bool,
    /// As in the authority: IPv6 in brackets.
    host: String,
    port: u16,
    reach: Reach,
}

impl Target {
    fn of<B>(request: &Request<B>) -> Result<Self, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let authority = request
            .uri()
            .authority()
            .ok_or(Error::HttpRequestUriInvalid)?;
        // A name before an `@` looks like the host to a reader, and is not.
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let tls = match request.uri().scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::HttpProtocolError),
        };
        Ok(Self {
            tls,
            host: authority.host().to_owned(),
            port: port(authority, tls)?,
            reach: Reach::Never,
        })
    }

    fn granted(&self, grants: &Grants) -> Option<Reach> {
        grants.allows_egress(self.tls, &self.host, self.port)
    }

    /// The name or address alone.
    fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// The addresses behind the name that may be connected to.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        let all = match self.bare_host().parse() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => {
                let name = (self.bare_host().to_owned(), self.port);
                let found = in_turn(&RESOLVING, move || {
                    (&*name.0, name.1).to_socket_addrs().map(Iterator::collect)
                });
                found
                    .await
                    .map_err(Error::Connect)?
                    .map_err(Error::Connect)?
            }
        };
        if all.is_empty() {
            return Err(Error::DestinationNotFound);
        }
        let permitted: Vec<_> = all
            .into_iter()
            .filter(|address| self.permits(address.ip()))
            .collect();
        match permitted.is_empty() {
            true => Err(Error::DestinationIpProhibited),
            false => Ok(permitted),
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.reach == Reach::Private,
            Reach::Never => false,
        }
    }
}

/// Does what blocks on a thread that has a turn. Giving up waiting gives up a
/// turn only once the thread is done.
async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn: SemaphorePermit<'static> = turn;
        work()
    });
    done.await.map_err(io::Error::other)
}

/// An absent port is the scheme's; one that is there must be a number.
fn port(authority: &Authority, tls: bool) -> Result<u16, Error> {
    let text = authority.as_str().strip_prefix(authority.host());
    match text.and_then(|rest| rest.strip_prefix(':')) {
        Some(port) => port.parse().map_err(|_| Error::HttpRequestUriInvalid),
        None => Ok(if tls { 443 } else { 80 }),
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// One request on its way.
struct Wire {
    target: Target,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    bytes_left: Arc<AtomicU64>,
    connect: Duration,
    idle: Option<Duration>,
}

impl Wire {
    async fn send(self, request: Request<GuestBody>) -> Answer {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| Error::DestinationUnavailable)?;
        let stream = tokio::time::timeout(self.connect, self.open())
            .await
            .map_err(|_| Error::ConnectionTimeout)??;
        match &self.tls {
            None => self.exchange(stream, request, place).await,
            Some(Tls(connector)) => {
                let name = ServerName::try_from(self.target.bare_host().to_owned())
                    .map_err(|_| Error::HttpRequestUriInvalid)?;
                let handshake = connector.connect(name, stream);
                let stream = tokio::time::timeout(self.connect, handshake)
                    .await
                    .map_err(|_| Error::ConnectionTimeout)?
                    .map_err(Error::Tls)?;
                self.exchange(stream, request, place).await
            }
        }
    }

    async fn open(&self) -> Result<TcpStream, Error> {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.target.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(Error::Connect)?;
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(Error::Connect(failure))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<GuestBody>,
        place: OwnedSemaphorePermit,
    ) -> Answer
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        TokioIo<S>: Read + Write,
    {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        // Ends with the guest's handle of the response, as wasmtime-wasi-http
        // drops the ending then.
        let connection = wasmtime_wasi::runtime::spawn(async move {
            let _place = place;
            connection.await
        });
        let response = sender.send_request(self.outgoing(request)?).await?;
        let response = response.map(|body| self.counted(body.map_err(Error::from), self.idle));
        Ok((
            response,
            Box::new(async move { connection.await.map_err(Error::from) }),
        ))
    }

    /// The request in origin form (RFC 9112, section 3.2.1), its body counted.
    fn outgoing(&self, request: Request<GuestBody>) -> Result<Request<GuestBody>, Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::builder()
            .path_and_query(path)
            .build()
            .map_err(|_| Error::HttpRequestUriInvalid)?;
        Ok(Request::from_parts(parts, self.counted(body, None)))
    }

    fn counted<B>(&self, body: B, idle: Option<Duration>) -> GuestBody
    where
        B: Body<Data = Bytes, Error = Error> + Send + Unpin + 'static,
    {
        Counted {
            body,
            bytes_left: Arc::clone(&self.bytes_left),
            idle: idle.map(Idle::new),
        }
        .boxed_unsync()
    }
}

/// A body whose bytes are charged to the call, and that may be told not to
/// pause for long.
struct Counted<B> {
    body: B,
    bytes_left: Arc<AtomicU64>,
    idle: Option<Idle>,
}

struct Idle {
    time: Duration,
    over: Pin<Box<tokio::time::Sleep>>,
}

impl Idle {
    fn new(time: Duration) -> Self {
        Self {
            time,
            over: Box::pin(tokio::time::sleep(time)),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(idle) = &mut self.idle {
                    idle.over
                        .as_mut()
                        .reset(tokio::time::Instant::now() + idle.time);
                }
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                let left =
                    self.bytes_left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                            left.checked_sub(size)
                        });
                Poll::Ready(Some(match left {
                    Ok(_) => Ok(frame),
                    Err(left) => Err(Error::HttpResponseBodySize(Some(left))),
                }))
            }
            Poll::Pending => {
                let idle = self.idle.as_mut();
                match idle.map(|idle| idle.over.as_mut().poll(context)) {
                    Some(Poll::Ready(())) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
                    _ => Poll::Pending,
                }
            }
            ended => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str) -> Result<Target, Error> {
        Target::of(&Request::builder().method(method).uri(uri).body(()).unwrap())
    }

    #[test]
    fn a_request_names_its_server() {
        let cases = [
            ("https://api.test/x?y", "https://api.test:443"),
            ("http://api.test/", "http://api.test:80"),
            ("http://api.test:8080/", "http://api.test:8080"),
            ("https://[::1]:9000/", "https://[::1]:9000"),
            ("https://[::1]/", "https://[::1]:443"),
        ];
        for (uri, expected) in cases {
            assert_eq!(target("GET", uri).unwrap().to_string(), expected);
        }
        for (method, uri) in [
            ("GET", "http://good.test@evil.test/"),
            ("CONNECT", "http://api.test/"),
            ("GET", "ftp://api.test/"),
            ("GET", "/no/server"),
            ("GET", "http://api.test:/"),
        ] {
            assert!(target(method, uri).is_err(), "{method} {uri}");
        }
    }

    #[tokio::test]
    async fn who_gives_up_a_lookup_keeps_its_turn_until_the_thread_is_free() {
        static TURNS: Semaphore = Semaphore::const_new(1);
        let wait = Duration::from_millis(20);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let first = in_turn(&TURNS, move || ended.recv().is_ok());
        assert!(tokio::time::timeout(wait, first).await.is_err());
        let second = in_turn(&TURNS, || true);
        assert!(tokio::time::timeout(wait, second).await.is_err());
        end.send(()).unwrap();
        assert!(in_turn(&TURNS, || true).await.unwrap());
    }

    #[tokio::test]
    async fn the_address_behind_a_name_is_checked_too() {
        let mut local = target("GET", "http://localhost:1/").unwrap();
        local.reach = Reach::Public;
        let error = local.addresses().await.unwrap_err();
        assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
        local.reach = Reach::Private;
        assert!(!local.addresses().await.unwrap().is_empty());
        // Where clouds keep credentials: never, whatever was granted.
        let mut metadata = target("GET", "http://169.254.169.254/").unwrap();
        metadata.reach = Reach::Private;
        let error = metadata.addresses().await.unwrap_err();
        assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    }
}
