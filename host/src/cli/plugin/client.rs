//! Asks a server's admin API. One connection for each question: commands ask
//! one. It knows paths and bytes; what they mean is for the commands.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use coglex_services::caller::ADMIN_KEY_HEADER;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::{Config, Secret, kept_admin_key};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take: an upload and a compilation, and some.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of an answer; a list of very many plugins has some.
const MAX_ANSWER: usize = 64 << 20;

/// A server and the key to it.
pub(in crate::cli) struct Server {
    scheme: Scheme,
    authority: Authority,
    /// What a proxy has put before the server's own paths, without the last `/`.
    base: String,
    key: Secret,
}

/// Whether a URL's host is the machine that this runs on.
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The parts of a problem document (RFC 9457) that are told to people.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    code: String,
}

impl Server {
    /// The server at `url`, else the one that the configuration describes.
    pub(in crate::cli) fn open(url: Option<&String>, config: &Config) -> anyhow::Result<Self> {
        let (url, configured) = match url {
            Some(url) => (url.clone(), false),
            None => (local_url(config)?, true),
        };
        let uri: Uri = url
            .parse()
            .with_context(|| format!("{url:?} is no URL of a server"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            bail!("{url:?} is no URL of a server, such as http://127.0.0.1:5000");
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            bail!("{url:?} is neither http nor https");
        }
        let near = configured || is_this_machine(authority.host());
        if !near && scheme == Scheme::HTTP {
            eprintln!("warning: the admin key goes to {authority} without encryption; use https");
        }
        // The key in the data folder is that of a server here, and nobody else's.
        let kept = || near.then(|| kept_admin_key(&config.data.dir)).flatten();
        let key = config.admin.key.clone().or_else(kept);
        let key = key.with_context(|| match near {
            true => format!(
                "there is no admin key: set COGLEX_ADMIN_KEY, or name the server's data folder with --data-dir ({} has none)",
                config.data.dir.display()
            ),
            false => format!("there is no admin key for {authority}: set COGLEX_ADMIN_KEY"),
        })?;
        let base = parts.path_and_query.map(|path| path.path().to_owned());
        let base = base.unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self {
            scheme,
            authority,
            base,
            key,
        })
    }

    /// The body of a successful answer.
    pub(in crate::cli) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            whole(response.into_body()).await
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        answer.with_context(|| format!("{} does not answer in time", self.authority))?
    }

    /// Server-sent events, as they come.
    pub(super) async fn events(&self, path: &str) -> anyhow::Result<Events> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Events {
            body: response.into_body(),
            read: Vec::new(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut key = HeaderValue::from_str(self.key.expose())
            .ok()
            .context("the admin key has characters that a header cannot carry")?;
        key.set_sensitive(true);
        // A whole path is one of the routes that operators share with the API key.
        let root = if path.starts_with('/') {
            ""
        } else {
            "/admin/v1/"
        };
        let kind = match body.starts_with(b"{") {
            true => "application/json",
            false => "application/wasm",
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{root}{path}", self.base))
            .header(header::HOST, self.authority.as_str())
            .header(header::CONTENT_TYPE, kind)
            .header(ADMIN_KEY_HEADER, key)
            .body(Full::new(body))?;
        let response = match self.connect().await? {
            Stream::Plain(stream) => exchange(stream, request).await,
            Stream::Tls(stream) => exchange(stream, request).await,
        };
        let response = response
            .with_context(|| format!("{} has broken off the connection", self.authority))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = whole(response.into_body()).await?;
        Err(refusal(status, &body))
    }

    async fn connect(&self) -> anyhow::Result<Stream> {
        let tls = self.scheme == Scheme::HTTPS;
        let host = self.authority.host().trim_matches(['[', ']']);
        let port = self
            .authority
            .port_u16()
            .unwrap_or(if tls { 443 } else { 80 });
        let cannot = || format!("cannot connect to {}; does the server run?", self.authority);
        let tcp = tokio::time::timeout(CONNECT, TcpStream::connect((host, port)))
            .await
            .with_context(cannot)?
            .with_context(cannot)?;
        if !tls {
            return Ok(Stream::Plain(tcp));
        }
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = tokio::time::timeout(CONNECT, stream).await;
        let stream = stream.with_context(cannot)?.with_context(cannot)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// Server-sent events (the WHATWG's HTML standard, section 9.2), as far as our
/// own server writes them: `event:` and `data:` on one line each.
pub(super) struct Events {
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    /// The next one's name and data; nothing when the server has ended.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(String, String)>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                let field = |name: &str| {
                    let value = |line: &str| {
                        line.strip_prefix(name)?
                            .strip_prefix(':')
                            .map(str::trim_start)
                            .map(str::to_owned)
                    };
                    event.lines().find_map(value)
                };
                // What has no data is a comment that keeps the line alive.
                if let Some(data) = field("data") {
                    return Ok(Some((field("event").unwrap_or_default(), data)));
                }
                continue;
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.context("the server has broken off the connection")?;
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of the request or the body too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn whole(body: Incoming) -> anyhow::Result<Bytes> {
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("the answer cannot be read: {error}"),
    }
}

/// What the server said, in a sentence.
fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { code, .. }) if code == "admin_key_required" => {
            anyhow::anyhow!("the server has another admin key; set COGLEX_ADMIN_KEY to its own")
        }
        Ok(Problem { detail, .. }) => anyhow::anyhow!("{detail}"),
        Err(_) => anyhow::anyhow!("the server answered {status}; is it a Coglex server?"),
    }
}

/// Where a server with this configuration listens, as seen from this machine.
fn local_url(config: &Config) -> anyhow::Result<String> {
    let host = config.server.host.trim_matches(['[', ']']);
    if config.server.port == 0 {
        bail!("server.port is 0, so the server has picked one: say where with --server");
    }
    let host = match host {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Ok(format!("http://{host}:{}", config.server.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "10.0.0.1",
            "127.0.0.1.test",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
