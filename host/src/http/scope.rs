//! Which request a line of the log belongs to. While a request is worked on, its
//! thread knows it, and `telemetry` adds it to what is logged there.
//!
//! A span of `tracing` would say the same, but would be made, written out and
//! dropped for each of the many requests that log nothing: that took a tenth of a
//! short request. What runs elsewhere (the store's threads, the tasks of guests
//! that stream) says itself whose it is, where it matters.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use http::{Method, Uri};

/// What the log says of a request.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// Its method.
    pub(crate) method: Method,
    /// Its path; the query may hold secrets.
    pub(crate) uri: Uri,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Subject>>> = const { RefCell::new(None) };
}

/// Runs a future as part of a request.
pub(super) async fn within<F: Future>(subject: Arc<Subject>, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut subject = Some(subject);
    std::future::poll_fn(move |context| {
        let outer = CURRENT.replace(subject.take());
        let restore = Restore {
            subject: &mut subject,
            outer,
        };
        let polled = future.as_mut().poll(context);
        drop(restore);
        polled
    })
    .await
}

/// The request that this thread works on.
pub(crate) fn current() -> Option<Arc<Subject>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Puts the outer request back, also when the poll panics.
struct Restore<'a> {
    subject: &'a mut Option<Arc<Subject>>,
    outer: Option<Arc<Subject>>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        *self.subject = CURRENT.replace(self.outer.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: &str) -> Arc<Subject> {
        Arc::new(Subject {
            id: id.into(),
            method: Method::GET,
            uri: Uri::from_static("/"),
        })
    }

    fn id() -> Option<String> {
        current().map(|subject| subject.id.to_string())
    }

    #[tokio::test]
    async fn a_request_is_known_while_it_is_worked_on_and_no_longer() {
        let work = async {
            assert_eq!(id().as_deref(), Some("a"));
            tokio::task::yield_now().await;
            within(subject("b"), async {
                assert_eq!(id().as_deref(), Some("b"))
            })
            .await;
            assert_eq!(id().as_deref(), Some("a"));
        };
        let others = async {
            for _ in 0..3 {
                assert_eq!(id(), None);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(within(subject("a"), work), others);
        assert_eq!(id(), None);
    }
}
