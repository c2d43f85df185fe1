//! Runs jobs: functions that are called later, and those that are due by a
//! schedule. What a job is, who may run it and what becomes of it is the
//! service's (`coglex_services::jobs`); here is who calls the function.
//!
//! - `runner`: claims what is due, so many at once, and keeps the leases.
//! - `attempt`: one call, and what it means for the job.
//! - `scheduler`: enqueues what plugins want run by the clock.
//!
//! Letters of the outbox are jobs of another kind, which `crate::mail` does.
//!
//! Jobs are called like any function: with the budget of their plugin, through its
//! admission, and few at once (`jobs.concurrency`), so that clients find room.

mod attempt;
mod runner;
pub(crate) mod scheduler;

use std::future::Future;

use self::runner::Queue;
use crate::app::AppState;

/// Runs jobs and makes those of schedules, until the first `shutdown`; then lets
/// the ones that run end within the grace, or until the second, and gives those
/// back that did not.
pub(crate) async fn run<F: Future<Output = ()>>(state: AppState, shutdown: impl Fn() -> F) {
    let scheduler = tokio::spawn(scheduler::run(state.clone()));
    let functions = runner::run(&state, Queue::Functions, &shutdown);
    let letters = async {
        if state.mail.is_some() {
            runner::run(&state, Queue::Letters, &shutdown).await;
        }
    };
    tokio::join!(functions, letters);
    scheduler.abort();
}
