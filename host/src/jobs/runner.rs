//! Claims jobs that are due and has them called, so many at once. What is enqueued
//! on this host wakes it at once; for the rest it looks about every second.
//!
//! While a job runs, `Running` has its lease. One task looks at all of them every
//! second, with one question for all: whether they are still ours, and whether
//! somebody wants them ended. A job whose lease could not be renewed in time is
//! ended here, since another host may have begun it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use coglex_services::Jobs;
use coglex_services::jobs::{Claim, Outcome, Standing, State};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::attempt;
use crate::app::AppState;

/// How often it is looked for what other hosts enqueued and what is due by now.
const POLL: Duration = Duration::from_secs(1);
/// How often it is looked at the jobs that run.
const LOOK: Duration = Duration::from_secs(1);
/// How long a result that the store does not take is offered again.
const OFFER: Duration = Duration::from_millis(500);
/// How long jobs take, at most, to be given back at the end.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Why a job is ended before its function is.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Somebody has cancelled it.
    Cancelled,
    /// It is another host's now.
    Lost,
    /// This host ends.
    Shutdown,
}

/// The jobs that run here.
#[derive(Default)]
struct Running(Mutex<HashMap<String, Slot>>);

struct Slot {
    lease: ObjectId,
    /// Until when the job is ours if nothing is heard.
    until: Instant,
    /// Taken when the attempt was told to end.
    end: Option<oneshot::Sender<End>>,
}

/// Takes a job out of `Running` when its attempt is over, however that ends.
struct Place {
    running: Arc<Running>,
    id: String,
    lease: ObjectId,
}

pub(super) async fn run<F: Future<Output = ()>>(state: &AppState, shutdown: impl Fn() -> F) {
    let jobs = &state.services.jobs;
    let concurrency = state.config.jobs.concurrency;
    let running = Arc::new(Running::default());
    let keeper = tokio::spawn(keep(jobs.clone(), Arc::clone(&running)));
    let mut attempts = JoinSet::new();
    let mut is_away = false;
    let stop = shutdown();
    tokio::pin!(stop);
    loop {
        match jobs.claim(concurrency.saturating_sub(attempts.len())).await {
            Ok(claims) => {
                is_away = false;
                for claim in claims {
                    let (place, end) = running.enter(&claim);
                    attempts.spawn(work(state.clone(), claim, end, place));
                }
            }
            Err(error) if !is_away => {
                is_away = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "jobs cannot be claimed now"
                );
            }
            Err(_) => {}
        }
        let has_room = attempts.len() < concurrency;
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = attempts.join_next() => while attempts.try_join_next().is_some() {},
            // Not at once when the store is away: it would be asked without end.
            () = jobs.due(), if has_room && !is_away => {}
            () = tokio::time::sleep(jittered(POLL)), if has_room => {}
            // With no room for any, and none that could end.
            () = std::future::pending(), if concurrency == 0 => {}
        }
    }
    if !attempts.is_empty() {
        tracing::info!(jobs = attempts.len(), "waiting for jobs to end");
    }
    tokio::select! {
        () = all(&mut attempts) => {}
        () = tokio::time::sleep(state.config.server.shutdown_grace) => {}
        () = shutdown() => {}
    }
    running.end_all(End::Shutdown);
    if tokio::time::timeout(GIVE_BACK, all(&mut attempts))
        .await
        .is_err()
    {
        tracing::warn!("jobs were not given back: they are run again when their lease has run out");
    }
    keeper.abort();
}

async fn all(attempts: &mut JoinSet<()>) {
    while attempts.join_next().await.is_some() {}
}

/// One attempt, from the claim to its settlement.
async fn work(state: AppState, claim: Claim, end: oneshot::Receiver<End>, place: Place) {
    let jobs = &state.services.jobs;
    let outcome = tokio::select! {
        biased;
        ended = end => match ended {
            Ok(End::Cancelled) => Outcome::Cancelled,
            Ok(End::Shutdown) => Outcome::Released,
            // Nothing that is said of it counts.
            Ok(End::Lost) | Err(_) => return,
        },
        outcome = attempt::run(&state, &claim.job) => outcome,
    };
    settle(jobs, &claim, outcome).await;
    drop(place);
}

/// Writes what became of an attempt. A store that is away is waited for as long as
/// the job may be ours; the place is held meanwhile, so that the lease is renewed
/// as soon as it is back.
async fn settle(jobs: &Jobs, claim: &Claim, outcome: Outcome) {
    let begun = Instant::now();
    let settled = loop {
        match jobs.settle(claim, &outcome).await {
            Ok(settled) => break settled,
            Err(error) if begun.elapsed() > jobs.settings().lease => {
                tracing::error!(
                    job.id = claim.job.id,
                    error = &error as &dyn std::error::Error,
                    "what became of a job could not be kept: it will be run again"
                );
                return;
            }
            Err(_) => tokio::time::sleep(OFFER).await,
        }
    };
    report(claim, &outcome, settled);
}

fn report(claim: &Claim, outcome: &Outcome, settled: Option<State>) {
    let job = &claim.job;
    let (id, function) = (&job.id, &job.function);
    match (settled, outcome) {
        (None, _) => tracing::warn!(
            job.id = id,
            function,
            "what became of a job does not count: its lease had run out, and another host has it"
        ),
        (Some(State::Dead), Outcome::Retry(error)) => tracing::error!(
            job.id = id,
            function,
            job.attempts,
            code = error.code,
            "the job is dead: {}",
            error.message
        ),
        (Some(State::Waiting), Outcome::Retry(error)) => tracing::warn!(
            job.id = id,
            function,
            job.attempts,
            code = error.code,
            "the job will be tried again: {}",
            error.message
        ),
        (Some(state), _) => {
            tracing::debug!(
                job.id = id,
                function,
                job.state = state.name(),
                "job settled"
            );
        }
    }
}

/// Looks at the leases for as long as it is polled.
async fn keep(jobs: Jobs, running: Arc<Running>) {
    let lease = jobs.settings().lease;
    let look = LOOK.min(lease / 4);
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = jobs.cancelled() => {}
        }
        let claims = running.claims();
        if claims.is_empty() {
            continue;
        }
        let now = Instant::now();
        let renew = now.duration_since(renewed) >= lease / 4;
        // A third: two more tries are left before the lease is over.
        match tokio::time::timeout(lease / 3, jobs.keep(&claims, renew)).await {
            Ok(Ok(standings)) => {
                if renew {
                    renewed = now;
                }
                running.note(&claims, &standings, renew.then_some(now + lease));
            }
            Ok(Err(error)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the leases of jobs cannot be looked at now"
            ),
            Err(_) => tracing::warn!("the leases of jobs cannot be looked at now: no answer"),
        }
        running.end_overdue();
    }
}

impl Running {
    fn enter(self: &Arc<Self>, claim: &Claim) -> (Place, oneshot::Receiver<End>) {
        let (id, lease) = claim.key();
        let (end, ended) = oneshot::channel();
        let slot = Slot {
            lease,
            until: claim.until,
            end: Some(end),
        };
        self.slots().insert(id.clone(), slot);
        let place = Place {
            running: Arc::clone(self),
            id,
            lease,
        };
        (place, ended)
    }

    fn claims(&self) -> Vec<(String, ObjectId)> {
        let slots = self.slots();
        slots
            .iter()
            .map(|(id, slot)| (id.clone(), slot.lease))
            .collect()
    }

    /// Takes over how claims stand, and until when they hold if they were renewed.
    fn note(&self, claims: &[(String, ObjectId)], standings: &[Standing], until: Option<Instant>) {
        let mut slots = self.slots();
        for ((id, lease), standing) in claims.iter().zip(standings) {
            let Some(slot) = slots.get_mut(id).filter(|slot| slot.lease == *lease) else {
                continue;
            };
            if let (Some(until), Standing::Held | Standing::Cancelled) = (until, standing) {
                slot.until = until;
            }
            match standing {
                Standing::Held => {}
                Standing::Cancelled => slot.end(End::Cancelled),
                Standing::Lost => slot.end(End::Lost),
            }
        }
    }

    fn end_overdue(&self) {
        let now = Instant::now();
        for slot in self.slots().values_mut().filter(|slot| slot.until <= now) {
            slot.end(End::Lost);
        }
    }

    fn end_all(&self, why: End) {
        for slot in self.slots().values_mut() {
            slot.end(why);
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn end(&mut self, why: End) {
        // Told once, or over already.
        if let Some(end) = self.end.take() {
            let _ = end.send(why);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.running.slots();
        // The same job may be here again, under a new lease.
        if slots
            .get(&self.id)
            .is_some_and(|slot| slot.lease == self.lease)
        {
            slots.remove(&self.id);
        }
    }
}

/// About this long, so that many hosts do not look at the same moment.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0u8; 1];
    let _ = getrandom::fill(&mut byte);
    time.mul_f64(0.8 + f64::from(byte[0]) / 640.0)
}
