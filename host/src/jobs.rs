//! Runs jobs: functions that are called later, and those that are due by a
//! schedule. What a job is, who may run it and what becomes of it is the
//! service's (`coglex_services::jobs`); here is who calls the function.
//!
//! - `runner`: claims what is due, so many at once, and keeps the leases.
//! - `attempt`: one call, and what it means for the job.
//! - `scheduler`: enqueues what plugins want run by the clock.
//!
//! Jobs are called like any function: with the budget of their plugin, through its
//! admission, and few at once (`jobs.concurrency`), so that clients find room.

mod attempt;
mod runner;
pub(crate) mod scheduler;

use std::future::Future;

use crate::app::AppState;

/// Runs jobs and makes those of schedules, until the first `shutdown`; then lets
/// the ones that run end within the grace, or until the second, and gives those
/// back that did not.
pub(crate) async fn run<F: Future<Output = ()>>(state: AppState, shutdown: impl Fn() -> F) {
    let scheduler = tokio::spawn(scheduler::run(state.clone()));
    runner::run(&state, shutdown).await;
    scheduler.abort();
}
