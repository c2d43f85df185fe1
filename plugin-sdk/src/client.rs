//! Requests to other servers, over the standard `wasi:http/outgoing-handler`.
//!
//! A plugin reaches the origins that it was granted and no others; it asks for
//! them in its `coglex.toml`:
//!
//! ```toml
//! [grants]
//! egress = [{ origin = "https://api.example.com" }]
//! ```
//!
//! `https://*.example.com` asks for every subdomain, `private = true` for a host
//! with an address of the machine or of a private network. The server checks
//! the name, and the address that it leads to.
//!
//! ```no_run
//! use coglex_sdk::prelude::*;
//!
//! fn rate(currency: &str) -> Result<f64> {
//!     let answer = client::get(format!("https://api.example.com/rates/{currency}"))
//!         .header("accept", "application/json")
//!         .timeout(std::time::Duration::from_secs(2))
//!         .send()?
//!         .ok()?;
//!     let rate: Value = answer.json()?;
//!     rate["value"].as_f64().or_status(502, "the rate is missing")
//! }
//! ```
//!
//! Redirects are not followed: the location is in the answer, and may be
//! somewhere that was not granted.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::error::{Error, Result, clip};

/// Bytes that are handed over at once.
const CHUNK: usize = 4096;

/// A request with `GET`.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A request with `POST`.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A request with `PUT`.
pub fn put(url: impl Into<String>) -> Request {
    request("PUT", url)
}

/// A request with `PATCH`.
pub fn patch(url: impl Into<String>) -> Request {
    request("PATCH", url)
}

/// A request with `DELETE`.
pub fn delete(url: impl Into<String>) -> Request {
    request("DELETE", url)
}

/// A request with any method.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout: None,
    }
}

/// A request that is being put together; [`send`](Request::send) sends it.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

impl Request {
    /// Adds a header. A name or value that HTTP does not allow is told by
    /// [`send`](Self::send).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds `Authorization: Bearer …` (RFC 6750).
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value's JSON, and its content type.
    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sets the body to a value's fields as a form would send them, and its
    /// content type.
    pub fn form(self, value: &impl Serialize) -> Result<Self> {
        let body = serde_urlencoded::to_string(value).map_err(Error::other)?;
        Ok(self
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body))
    }

    /// How long the connection, the wait for the answer's head and each pause in
    /// its body may take. Without it the call's own time is the limit.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Sends it, and waits for the whole answer. An answer with an error status
    /// is an answer; [`Answer::ok`] makes it an error.
    ///
    /// Errors: [`Error::AccessDenied`] without a grant, [`Error::Invalid`] for a
    /// malformed request, [`Error::Timeout`] when the answer does not begin in
    /// time, [`Error::Unavailable`] when the server cannot be reached, or its
    /// answer breaks off, pauses for too long or is more than the call may move.
    pub fn send(self) -> Result<Answer> {
        let (request, body) = self.outgoing()?;
        let options = self.timeout.map(options);
        // Before the body is written, which the other side may have to take in.
        let answer = outgoing_handler::handle(request, options).map_err(failed)?;
        write(body, &self.body)?;
        answer.subscribe().block();
        let response = answer.get().and_then(Result::ok);
        let response = response.ok_or(Error::Unavailable)?.map_err(failed)?;
        Answer::read(&response)
    }

    fn outgoing(&self) -> Result<(OutgoingRequest, OutgoingBody)> {
        let (scheme, authority, path) = split(&self.url)?;
        let wrong = |what: &str| Error::Invalid(format!("{what} in a request to {authority}"));
        let fields = Fields::new();
        for (name, value) in &self.headers {
            let added = fields.append(name, value);
            added.map_err(|_| wrong(&format!("the header {name:?} cannot be sent")))?;
        }
        if !self.body.is_empty() {
            let length = self.body.len().to_string();
            let added = fields.set("content-length", &[length.into_bytes()]);
            added.map_err(|_| wrong("the length cannot be set"))?;
        }
        let request = OutgoingRequest::new(fields);
        let set = request
            .set_method(&method(&self.method))
            .and_then(|()| request.set_scheme(Some(&scheme)))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(&path)));
        set.map_err(|()| wrong("method, host or path are malformed"))?;
        let body = request.body().map_err(|()| wrong("the body is taken"))?;
        Ok((request, body))
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Answer {
    /// The status, e.g. 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The answer if its status is one of success (200 to 299), else
    /// [`Error::Other`] with the status and the start of the body.
    pub fn ok(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text = clip(String::from_utf8_lossy(&self.body).into_owned());
        Err(Error::other(format!(
            "the answer was {}: {text}",
            self.status
        )))
    }

    /// The first header of this name, whatever its case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All headers, in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|_| Error::Mismatch("the answer is not UTF-8".to_owned()))
    }

    /// The body, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Mismatch(format!("the answer is not as expected: {error}")))
    }

    fn read(response: &IncomingResponse) -> Result<Self> {
        let status = response.status();
        let headers = response.headers().entries();
        let broken = |()| Error::Unavailable;
        let body = response.consume().map_err(broken)?;
        let stream = body.stream().map_err(broken)?;
        let mut bytes = Vec::new();
        loop {
            match stream.blocking_read(64 * 1024) {
                Ok(chunk) => bytes.extend(chunk),
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return Err(Error::Unavailable),
            }
        }
        drop(stream);
        // A body that broke off ends like one that is whole; the trailers tell.
        let trailers = IncomingBody::finish(body);
        trailers.subscribe().block();
        match trailers.get() {
            Some(Ok(Ok(_))) => Ok(Self {
                status,
                headers,
                body: bytes,
            }),
            Some(Ok(Err(code))) => Err(failed(code)),
            _ => Err(Error::Unavailable),
        }
    }
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<()> {
    let stream = body.write().map_err(|()| Error::Unavailable)?;
    for chunk in bytes.chunks(CHUNK) {
        // A server may answer before it has read everything; its answer tells.
        if stream.blocking_write_and_flush(chunk).is_err() {
            return Ok(());
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(failed)
}

fn options(time: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // Refused only by hosts that do not know the option: then the call's own
    // time is the limit.
    let _ = options.set_connect_timeout(Some(nanos));
    let _ = options.set_first_byte_timeout(Some(nanos));
    let _ = options.set_between_bytes_timeout(Some(nanos));
    options
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    }
}

/// Scheme, authority, and path with query of a URL; a fragment stays here.
fn split(url: &str) -> Result<(Scheme, &str, String)> {
    let wrong = || {
        Error::Invalid(format!(
            "{:?} is not a URL of http or https",
            clip(url.to_owned())
        ))
    };
    let (scheme, rest) = match url.split_once("://").ok_or_else(wrong)? {
        ("https", rest) => (Scheme::Https, rest),
        ("http", rest) => (Scheme::Http, rest),
        _ => return Err(wrong()),
    };
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or_else(wrong)?;
    if authority.is_empty() {
        return Err(wrong());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((scheme, authority, format!("{slash}{path}")))
}

fn failed(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::AccessDenied(
            "no grant covers the server that the request is for; ask for it under egress"
                .to_owned(),
        ),
        ErrorCode::DestinationIpProhibited => Error::AccessDenied(
            "the server has a private address; ask for it under egress with `private`".to_owned(),
        ),
        ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpProtocolError => Error::Invalid(format!("the request: {code:?}")),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => Error::Timeout,
        _ => Error::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let cases = [
            ("https://a.test", "a.test", "/"),
            ("http://a.test:80/x/y?z=1#part", "a.test:80", "/x/y?z=1"),
            ("https://a.test?q=/", "a.test", "/?q=/"),
            ("https://[::1]:9/x", "[::1]:9", "/x"),
        ];
        for (url, authority, path) in cases {
            let (_, found, rest) = split(url).unwrap();
            assert_eq!((found, rest.as_str()), (authority, path), "{url}");
        }
        for url in ["a.test/x", "ftp://a.test/", "https:///x", ""] {
            assert!(split(url).is_err(), "{url}");
        }
    }
}
