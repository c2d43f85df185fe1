//! What is fetched from a provider and kept for a while.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::Error;

/// How long something is gone by.
const FRESH: Duration = Duration::from_secs(3600);
/// How soon it is fetched again when somebody needs more than it has, and after a
/// failure: nobody can have us ask a provider more often.
const AGAIN: Duration = Duration::from_secs(10);

/// One thing of a provider.
pub(crate) struct Cached<T>(Mutex<State<T>>);

struct State<T> {
    value: Option<Arc<T>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            value: None,
            fetched: None,
            tried: None,
        }))
    }
}

impl<T> Cached<T> {
    /// What there is, fetched if it is old, or if it is not `enough` and was not
    /// fetched a moment ago. Who asks at once shares one request. An old value is better
    /// than none.
    pub(crate) async fn get<F>(
        &self,
        enough: impl Fn(&T) -> bool,
        fetch: impl FnOnce() -> F,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut state = self.0.lock().await;
        let within = |at: Option<Instant>, time| at.is_some_and(|at| at.elapsed() < time);
        if let Some(value) = &state.value {
            let fresh = within(state.fetched, FRESH) && enough(value);
            if fresh || within(state.tried, AGAIN) {
                return Ok(Arc::clone(value));
            }
        } else if within(state.tried, AGAIN / 5) {
            return Err(Error::Local("the provider has failed a moment ago"));
        }
        state.tried = Some(Instant::now());
        match (fetch().await, &state.value) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                state.value = Some(Arc::clone(&value));
                state.fetched = Some(Instant::now());
                Ok(value)
            }
            (Err(error), Some(old)) => {
                tracing::warn!("what is known of a provider stays as it was: {error}");
                Ok(Arc::clone(old))
            }
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_fetched_once_and_again_no_sooner_than_it_may() {
        let cached = Cached::default();
        let get = async |number: i32, wanted: i32| {
            let got = cached.get(|known| *known >= wanted, async || Ok(number));
            *got.await.unwrap()
        };
        assert_eq!(get(1, 0).await, 1);
        assert_eq!(get(2, 0).await, 1);
        // Not enough, but it was fetched just now.
        assert_eq!(get(2, 2).await, 1);
        {
            let mut state = cached.0.lock().await;
            state.tried = Instant::now().checked_sub(AGAIN);
        }
        assert_eq!(get(2, 2).await, 2);
    }

    #[tokio::test]
    async fn a_failure_leaves_what_there_was_and_is_not_repeated_at_once() {
        let cached: Cached<i32> = Cached::default();
        let fails = async || Err(Error::Local("no"));
        assert!(cached.get(|_| true, fails).await.is_err());
        assert!(cached.get(|_| true, async || Ok(1)).await.is_err());
        cached.0.lock().await.tried = None;
        assert_eq!(*cached.get(|_| true, async || Ok(1)).await.unwrap(), 1);
        cached.0.lock().await.tried = None;
        assert_eq!(*cached.get(|_| false, fails).await.unwrap(), 1);
    }
}
