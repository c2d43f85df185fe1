//! A time limit that costs nothing where the work is done at once, as most calls
//! are: a timer is only made when there is something to wait for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What the future gives, or nothing if that takes longer than `time`, counted
/// from when it first waits. Nothing could be cut before that: a future is only
/// left between its polls.
pub(super) async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = pin!(None::<Sleep>);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if alarm.is_none() {
            // A time that no clock can tell is never reached.
            let Some(end) = Instant::now().checked_add(time) else {
                return Poll::Pending;
            };
            alarm.set(Some(sleep_until(end)));
        }
        match alarm.as_mut().as_pin_mut() {
            // Unconstrained, as in tokio's own `timeout`: a future that has used up
            // its task's turn each time must not keep the alarm from being heard.
            Some(alarm) => pin!(tokio::task::unconstrained(alarm))
                .poll(context)
                .map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_too_long_is_cut() {
        let short = Duration::from_millis(20);
        let start = Instant::now();
        assert_eq!(within(short, std::future::pending::<()>()).await, None);
        assert!(start.elapsed() >= short);
    }

    #[tokio::test]
    async fn what_is_in_time_is_not() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await, Some(1));
        let waits = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            2
        };
        assert_eq!(within(Duration::from_secs(30), waits).await, Some(2));
        assert_eq!(
            within(Duration::MAX, tokio::task::yield_now()).await,
            Some(())
        );
    }

    #[tokio::test]
    async fn one_that_is_always_ready_to_go_on_is_cut_too() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let busy = async {
            loop {
                sender.send(()).ok();
                receiver.recv().await;
            }
        };
        assert_eq!(
            within::<_>(Duration::from_millis(20), busy).await,
            None::<()>
        );
    }
}
