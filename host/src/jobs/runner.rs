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
use coglex_services::jobs::{Claim, Job, Load, Outcome, Standing, State};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::attempt;
use crate::app::AppState;
use crate::mail;

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
    function: String,
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

/// Which jobs are run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Queue {
    /// Functions.
    Functions,
    /// Mail.
    Letters,
}

impl Queue {
    fn jobs(self, state: &AppState) -> &Jobs {
        match self {
            Queue::Functions => &state.services.jobs,
            Queue::Letters => state.services.outbox.jobs(),
        }
    }

    fn concurrency(self, state: &AppState) -> usize {
        match self {
            Queue::Functions => state.config.jobs.concurrency,
            Queue::Letters => mail::CONCURRENCY,
        }
    }

    /// The plugin that has a function.
    fn plugin_of(self, state: &AppState, function: &str) -> Option<String> {
        match self {
            Queue::Functions => {
                let plugin = state.plugins.function(function)?;
                Some(plugin.name().to_owned())
            }
            Queue::Letters => None,
        }
    }

    async fn attempt(self, state: &AppState, job: &Job) -> Outcome {
        match self {
            Queue::Functions => attempt::run(state, job).await,
            Queue::Letters => mail::attempt(state, job).await,
        }
    }
}

pub(super) async fn run<F: Future<Output = ()>>(
    state: &AppState,
    queue: Queue,
    shutdown: impl Fn() -> F,
) {
    let jobs = queue.jobs(state);
    let concurrency = queue.concurrency(state);
    let running = Arc::new(Running::default());
    let keeper = tokio::spawn({
        let (jobs, running) = (jobs.clone(), Arc::clone(&running));
        async move {
            // Apart from the store, which may be what takes its time.
            tokio::join!(keep(jobs, &running), end_in_time(&running));
        }
    });
    let mut attempts = JoinSet::new();
    let mut is_away = false;
    let stop = shutdown();
    tokio::pin!(stop);
    loop {
        let plugin_of = |function: &str| queue.plugin_of(state, function);
        let load = Load::new(&plugin_of, running.functions());
        let room = concurrency.saturating_sub(attempts.len());
        match jobs.claim_beside(room, load).await {
            Ok(claims) => {
                is_away = false;
                for claim in claims {
                    let (place, end) = running.enter(&claim);
                    attempts.spawn(work(state.clone(), queue, claim, end, place));
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
async fn work(
    state: AppState,
    queue: Queue,
    claim: Claim,
    end: oneshot::Receiver<End>,
    place: Place,
) {
    let jobs = queue.jobs(&state);
    let outcome = tokio::select! {
        biased;
        ended = end => match ended {
            Ok(End::Cancelled) => Outcome::Cancelled,
            Ok(End::Shutdown) => Outcome::Released,
            // Nothing that is said of it counts.
            Ok(End::Lost) | Err(_) => return,
        },
        outcome = queue.attempt(&state, &claim.job) => outcome,
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
        (Some(State::Dead), Outcome::Absent(error)) => tracing::error!(
            job.id = id,
            function,
            code = error.code,
            "the job is dead: {}",
            error.message
        ),
        (Some(State::Waiting), Outcome::Absent(error)) if job.absent.is_none() => tracing::warn!(
            job.id = id,
            function,
            code = error.code,
            "the job waits for its function: {}",
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
async fn keep(jobs: Jobs, running: &Running) {
    let lease = jobs.settings().lease;
    let look = LOOK.min(lease / 8);
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
        // A fifth: two more tries are left before the lease is over.
        match tokio::time::timeout(lease / 5, jobs.keep(&claims, renew)).await {
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
    }
}

/// Ends what is not ours any more when its lease is over, for as long as it is polled:
/// from then on another host may run it.
async fn end_in_time(running: &Running) {
    loop {
        tokio::time::sleep(running.end_overdue().min(LOOK)).await;
    }
}

impl Running {
    fn enter(self: &Arc<Self>, claim: &Claim) -> (Place, oneshot::Receiver<End>) {
        let (id, lease) = claim.key();
        let (end, ended) = oneshot::channel();
        let slot = Slot {
            function: claim.job.function.clone(),
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

    /// The functions of the jobs that run, one for each.
    fn functions(&self) -> Vec<String> {
        let slots = self.slots();
        slots.values().map(|slot| slot.function.clone()).collect()
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

    /// Ends what is overdue; answers how long it is until the next is, at most.
    fn end_overdue(&self) -> Duration {
        let now = Instant::now();
        let mut next = Duration::MAX;
        for slot in self.slots().values_mut().filter(|slot| slot.end.is_some()) {
            match slot.until.checked_duration_since(now) {
                None | Some(Duration::ZERO) => slot.end(End::Lost),
                Some(left) => next = next.min(left),
            }
        }
        next
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
