//! Blobs as objects of an S3-compatible bucket, by `object_store`.
//!
//! Its requests go through a client of ours, with the TLS that the rest of the
//! program has: the one that it brings would add a second. What a crash leaves of
//! a large upload is parts that no listing shows; a lifecycle rule of the bucket
//! (`AbortIncompleteMultipartUpload`) removes them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::blob::{BlobEntry, BlobKey, BlobStore, BlobWriter, ByteStream};
use crate::error::{Error, Result};

/// Bytes that are gathered for one request: the least that S3 takes for a part.
const PART: usize = 5 << 20;

/// Parts that are sent at once, for each upload.
const PARTS: usize = 2;

/// How long the bucket may take to answer a request, with all that is sent in it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a bucket is reached.
#[derive(Clone)]
pub struct S3Settings {
    /// `https://s3.eu-central-1.amazonaws.com`, or that of another provider.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What the names of objects begin with; may be empty.
    pub prefix: String,
    /// The key's public half.
    pub access_key: String,
    /// Its secret half.
    pub secret_key: String,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("access_key", &"***")
            .field("secret_key", &"***")
            .finish()
    }
}

/// A bucket.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    store: Arc<AmazonS3>,
    prefix: Path,
}

impl S3Blobs {
    /// A bucket, which need not be reachable yet.
    pub fn new(settings: &S3Settings) -> Result<Self> {
        let store = AmazonS3Builder::new()
            .with_endpoint(settings.endpoint.trim_end_matches('/'))
            .with_region(&settings.region)
            .with_bucket_name(&settings.bucket)
            .with_access_key_id(&settings.access_key)
            .with_secret_access_key(&settings.secret_key)
            .with_allow_http(true)
            .with_http_connector(Connector)
            .build()
            .map_err(failed)?;
        Ok(Self {
            store: Arc::new(store),
            prefix: Path::from(settings.prefix.as_str()),
        })
    }

    fn path(&self, key: &BlobKey) -> Path {
        let mut path = self.prefix.clone();
        for part in key.path().split('/') {
            path = path.join(part);
        }
        path
    }
}

fn failed(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::Missing,
        error => Error::unavailable(error),
    }
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn create(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>> {
        let store: Arc<dyn ObjectStore> = Arc::<AmazonS3>::clone(&self.store);
        let writer = BufWriter::with_capacity(store, self.path(key), PART);
        Ok(Box::new(S3Writer {
            writer: Some(writer.with_max_concurrency(PARTS)),
        }))
    }

    async fn open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.path(key), options).await;
        Ok(found.map_err(failed)?.into_stream().map_err(failed).boxed())
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn list(&self, home: &str) -> Result<BoxStream<'static, Result<BlobEntry>>> {
        let prefix = self.prefix.clone();
        let below = prefix.clone().join(home);
        let objects = self.store.list(Some(&below)).map_err(failed);
        let entries = objects.try_filter_map(move |object| {
            let inside = object.location.as_ref().strip_prefix(prefix.as_ref());
            let key = inside.and_then(|path| BlobKey::from_path(path.trim_start_matches('/')));
            let modified = object.last_modified.into();
            std::future::ready(Ok(key.map(|key| BlobEntry { key, modified })))
        });
        Ok(entries.boxed())
    }
}

/// A blob on its way to the bucket: one request if it is small, else one for
/// each part.
struct S3Writer {
    /// None once it is finished or taken back.
    writer: Option<BufWriter>,
}

#[async_trait]
impl BlobWriter for S3Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.put(bytes).await.map_err(failed),
            None => Err(Error::unavailable("the upload is over")),
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.shutdown().await.map_err(Error::unavailable)?,
            None => return Err(Error::unavailable("the upload is over")),
        }
        self.writer = None;
        Ok(())
    }

    async fn abort(mut self: Box<Self>) {
        if let Some(writer) = self.writer.take() {
            take_back(writer).await;
        }
    }
}

impl Drop for S3Writer {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(writer), Ok(runtime)) = (self.writer.take(), runtime) {
            runtime.spawn(take_back(writer));
        }
    }
}

async fn take_back(mut writer: BufWriter) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(%error, "parts of an upload that was given up are left in the bucket");
    }
}

/// Hands `object_store` our client.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let https = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(https);
        Ok(HttpClient::new(Requests {
            client,
            patience: PATIENCE,
        }))
    }
}

#[derive(Debug)]
struct Requests {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    /// Without an end, one bucket that hangs would hold uploads and sweeps for ever.
    patience: Duration,
}

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(self.patience, self.client.request(request)).await;
        let answered = answered.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
        let response = answered.map_err(|error| {
            let kind = match error.is_connect() {
                true => HttpErrorKind::Connect,
                false => HttpErrorKind::Request,
            };
            HttpError::new(kind, error)
        })?;
        let cut = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(cut))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_that_hangs_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Requests {
            client: Client::builder(TokioExecutor::new()).build(
                HttpsConnectorBuilder::new()
                    .with_webpki_roots()
                    .https_or_http()
                    .enable_http1()
                    .build(),
            ),
            patience: Duration::from_millis(50),
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = format!("http://{address}/").parse().unwrap();
        let refused = requests.call(request).await.unwrap_err();
        assert_eq!(refused.kind(), HttpErrorKind::Timeout);
    }
}
