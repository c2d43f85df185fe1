//! Requests to providers: https alone but to this very machine, limited in time and
//! size, and no redirect followed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer. Keys and metadata have a few thousand.
const MAX_ANSWER: usize = 1 << 20;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// What sends requests to providers.
#[async_trait]
pub trait Http: Send + Sync {
    /// Sends a request to an absolute URL; a sentence if there is no answer.
    async fn send(&self, request: Request<Bytes>) -> Result<Answer, String>;
}

/// Whether something may be asked of, or sent to, this URL: https, or http on this very
/// machine, for development.
pub fn is_safe_url(url: &str) -> bool {
    url.parse().is_ok_and(|uri| is_safe(&uri))
}

fn is_safe(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else {
        return false;
    };
    // Names in front of an @ only serve to mislead.
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return false;
    }
    let scheme = uri.scheme();
    scheme == Some(&Scheme::HTTPS)
        || (scheme == Some(&Scheme::HTTP) && is_loopback(authority.host()))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Speaks HTTP/1.1, over TLS with the authorities that browsers believe (Mozilla's
/// list). One connection for each request: there are few.
pub struct HttpsClient {
    tls: TlsConnector,
}

impl HttpsClient {
    /// A client.
    pub fn new() -> Result<Self, String> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        };
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, String> {
        let uri = request.uri().clone();
        if !is_safe(&uri) {
            return Err(format!("{uri} is neither https nor on this machine"));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port));
        let tcp = tcp.await.map_err(|error| error.to_string())?;
        if !is_https {
            return send_over(tcp, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, tcp).await;
        send_over(stream.map_err(|error| error.to_string())?, request).await
    }
}

#[async_trait]
impl Http for HttpsClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Answer, String> {
        match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

async fn send_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
) -> Result<Answer, String> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string);
    let host = HeaderValue::try_from(authority.unwrap_or_default());
    parts
        .headers
        .insert(header::HOST, host.map_err(|error| error.to_string())?);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| "the URL has no path".to_owned())?;
    let request = Request::from_parts(parts, Full::new(body));

    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // Its errors come out of the request or the body, too; it ends with the body.
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await;
        let (parts, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(Answer {
            status: parts.status,
            body: body.map_err(|error| error.to_string())?.to_bytes(),
        })
    };
    let answer = answer.await;
    connection.abort();
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        for (url, safe) in [
            ("https://accounts.example/x?y", true),
            ("https://accounts.example:8443", true),
            ("http://127.0.0.1:9000/a", true),
            ("http://localhost", true),
            ("http://[::1]:80/", true),
            ("http://accounts.example/", false),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.1@evil.example/", false),
            ("https://accounts.example@evil.example/", false),
            ("ftp://localhost/", false),
            ("file:///etc/passwd", false),
            ("/path", false),
            ("", false),
        ] {
            assert_eq!(is_safe_url(url), safe, "{url}");
        }
    }

    async fn serve(answer: impl Into<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x?y=1", listener.local_addr().unwrap());
        let answer = answer.into();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = vec![0; 4096];
            let length = stream.read(&mut read).await.unwrap();
            let head = String::from_utf8_lossy(&read[..length]).into_owned();
            assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
            let _ = stream.write_all(&answer).await;
        });
        url
    }

    async fn get(url: &str) -> Result<Answer, String> {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        HttpsClient::new().unwrap().send(request).await
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_answers_have_an_end() {
        let url = serve(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        assert_eq!(get(&url).await.unwrap().status, 302);
        let mut long = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n".to_vec();
        long.resize(2_000_000, b'x');
        let url = serve(long).await;
        assert!(get(&url).await.is_err());
        assert!(
            get("http://192.0.2.1/")
                .await
                .unwrap_err()
                .contains("https")
        );
    }
}
