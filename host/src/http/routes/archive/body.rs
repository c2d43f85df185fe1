//! Bodies that are taken as they come: bounded in time from piece to piece, and in
//! how much of them is in memory.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use tokio::time::{Instant, Sleep};

use crate::http::error::ApiError;

/// Bytes that are handed on before the reader has to look at them.
const AT_ONCE: usize = 256 << 10;

/// Bytes that are still read of a request that was refused.
const DRAINED: usize = 16 << 20;

/// How long they may take.
const DRAINING: Duration = Duration::from_secs(2);

/// Why a body did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection broke.
    #[error("the request body ended early")]
    Cut,
    /// Nothing came for too long.
    #[error("the request body did not arrive in time")]
    Stalled,
    /// More came than the reader has room for; see [`Allowance`].
    #[error("a part of the request body is too long")]
    TooLong,
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Cut => Self::bad_request("body_cut", "The request body ended early."),
            BodyError::Stalled => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "The request body did not arrive in time.",
            ),
            BodyError::TooLong => Self::bad_request(
                "invalid_multipart",
                "A head or a field of the multipart body is too long.",
            ),
        }
    }
}

/// How many bytes may still be handed on. For a reader that keeps what it gets
/// until it has found something in it.
#[derive(Clone)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    /// No bound.
    pub(super) fn unlimited() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Sets the bound, from here on.
    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left == u64::MAX {
            return true;
        }
        let rest = left.checked_sub(bytes as u64);
        self.0.store(rest.unwrap_or(0), Ordering::Relaxed);
        rest.is_some()
    }
}

/// A body in pieces.
pub(super) struct Pieces {
    body: BodyDataStream,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    allowance: Allowance,
    /// Bytes since the reader was last made to look.
    handed: usize,
}

impl Pieces {
    /// A body of which each piece comes within `patience`.
    pub(super) fn new(body: Body, patience: Duration, allowance: Allowance) -> Self {
        Self {
            body: body.into_data_stream(),
            patience,
            timer: Box::pin(tokio::time::sleep(patience)),
            waiting: false,
            allowance,
            handed: 0,
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A parser that reads for as long as there is something would gather a whole
        // body from a fast client.
        if self.handed >= AT_ONCE {
            self.handed = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.body.poll_next_unpin(context) {
            Poll::Ready(piece) => {
                self.waiting = false;
                Poll::Ready(piece.map(|piece| {
                    let piece = piece.map_err(|_| BodyError::Cut)?;
                    self.handed += piece.len();
                    match self.allowance.take(piece.len()) {
                        true => Ok(piece),
                        false => Err(BodyError::TooLong),
                    }
                }))
            }
            Poll::Pending => {
                self.handed = 0;
                if !self.waiting {
                    let deadline = Instant::now() + self.patience;
                    self.timer.as_mut().reset(deadline);
                    self.waiting = true;
                }
                match self.timer.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Stalled))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

/// A body that a parser reads, and that can be taken from it again.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Pieces>>);

impl Shared {
    /// Shares a body.
    pub(super) fn new(pieces: Pieces) -> Self {
        Self(Arc::new(Mutex::new(pieces)))
    }

    /// Reads on for a while after the request was refused: an answer to a client
    /// that is still sending is lost when the connection is closed under it.
    pub(super) async fn drain(mut self) {
        let mut left = DRAINED;
        let draining = async {
            while let Some(Ok(piece)) = self.next().await {
                left = left.saturating_sub(piece.len());
                if left == 0 {
                    break;
                }
            }
        };
        // Whoever takes longer does not get to know.
        let _ = tokio::time::timeout(DRAINING, draining).await;
    }
}

impl Stream for Shared {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *pieces).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(pieces: usize, size: usize) -> Body {
        let piece = Bytes::from(vec![1; size]);
        Body::from_stream(stream::iter(
            (0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone())),
        ))
    }

    #[tokio::test]
    async fn a_reader_that_never_stops_is_stopped_now_and_then() {
        let mut pieces = Pieces::new(
            body(64, 64 << 10),
            Duration::from_secs(5),
            Allowance::unlimited(),
        );
        let mut most = 0;
        let mut all = 0;
        std::future::poll_fn(|context| {
            let mut gathered = 0;
            loop {
                match Pin::new(&mut pieces).poll_next(context) {
                    Poll::Ready(Some(piece)) => gathered += piece.unwrap().len(),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            all += gathered;
            most = most.max(gathered);
            Poll::Pending
        })
        .await;
        assert!(most <= AT_ONCE + (64 << 10), "{most}");
        assert!(all >= 63 * (64 << 10), "{all}");
    }

    #[tokio::test]
    async fn more_than_is_allowed_is_an_error() {
        let allowance = Allowance::unlimited();
        allowance.set(100);
        let pieces = Pieces::new(body(3, 50), Duration::from_secs(5), allowance);
        let taken: Vec<_> = pieces.take(3).collect().await;
        assert!(taken[0].is_ok() && taken[1].is_ok());
        assert_eq!(taken[2], Err(BodyError::TooLong));
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_given_up() {
        let never = Body::from_stream(stream::pending::<std::io::Result<Bytes>>());
        let mut pieces = Pieces::new(never, Duration::from_millis(20), Allowance::unlimited());
        assert_eq!(pieces.next().await, Some(Err(BodyError::Stalled)));
    }
}
