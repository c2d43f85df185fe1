//! Jobs: the queue, the leases, what is remembered of schedules. Each service is a
//! host of its own: they share nothing but the store.

use std::time::Duration;

use bson::{DateTime, doc};
use coglex_services::jobs::schedules::Schedule;
use coglex_services::jobs::{
    Claim, JobError, JobQuery, JobSettings, Load, NewJob, Outcome, Source, Standing, State,
};
use coglex_services::schedule::Cron;
use coglex_services::{Error, Jobs};

use crate::support::*;

crate::on_both_stores!(
    a_job_is_taken_in_run_and_kept,
    a_failure_of_its_own_is_final_and_others_are_tried_again,
    back_off_grows_and_is_bounded,
    of_many_hosts_one_gets_a_job,
    a_lease_that_ran_out_goes_to_another_host_and_the_first_has_no_say,
    a_job_that_takes_its_hosts_along_dies,
    waiting_jobs_are_cancelled_at_once_and_running_ones_by_their_host,
    dead_and_cancelled_jobs_can_be_replayed,
    the_same_words_are_the_same_job,
    jobs_wait_until_they_are_due,
    held_jobs_wait_to_be_confirmed,
    jobs_are_listed_page_by_page,
    limits_are_held,
    what_is_no_job_does_not_stop_the_others,
    plugins_and_functions_take_turns,
    however_many_functions_have_jobs_all_are_run,
    a_job_whose_function_is_gone_keeps_its_attempts,
    the_code_of_one_plugin_fills_a_part_of_the_queue,
    schedules_begin_when_they_are_seen_first,
    a_missed_run_is_made_up_once_by_all_hosts,
    a_run_whose_job_is_forgotten_is_not_made_again,
);

const LEASE: Duration = Duration::from_secs(30);

fn settings() -> JobSettings {
    JobSettings {
        lease: LEASE,
        retry_base: Duration::from_millis(1),
        retry_max: Duration::from_millis(1),
        max_attempts: 2,
        ..JobSettings::default()
    }
}

fn host(store: &Store) -> Jobs {
    Jobs::new(store.clone(), settings())
}

fn new(function: &str) -> NewJob {
    NewJob::new(function, Source::Api)
}

async fn id(jobs: &Jobs, function: &str) -> String {
    jobs.enqueue(new(function)).await.unwrap().id
}

async fn claim(jobs: &Jobs) -> Claim {
    claim_within(jobs, Duration::from_secs(5))
        .await
        .expect("a job is due")
}

/// What is tried again is due a moment later.
async fn claim_within(jobs: &Jobs, patience: Duration) -> Option<Claim> {
    let start = std::time::Instant::now();
    loop {
        if let Some(claim) = jobs.claim(1).await.unwrap().pop() {
            return Some(claim);
        }
        if start.elapsed() > patience {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn failure(code: &str) -> JobError {
    JobError::new(code, "a sentence")
}

async fn a_job_is_taken_in_run_and_kept(store: Store) {
    let jobs = host(&store);
    let job = jobs
        .enqueue(NewJob {
            args: "[1]".to_owned(),
            kwargs: r#"{"a":2}"#.to_owned(),
            depth: 3,
            ..new("f")
        })
        .await
        .unwrap();
    assert_eq!((job.state, job.attempts), (State::Waiting, 0));
    assert_eq!(jobs.get(&job.id).await.unwrap(), job);
    assert_eq!(job.id.len(), 32);

    let claim = claim(&jobs).await;
    assert_eq!((&claim.job.id, claim.job.attempts), (&job.id, 1));
    assert_eq!(
        (&*claim.job.args, &*claim.job.kwargs),
        ("[1]", r#"{"a":2}"#)
    );
    assert_eq!(claim.job.depth, 3);
    assert_eq!(jobs.get(&job.id).await.unwrap().state, State::Running);
    assert!(jobs.claim(9).await.unwrap().is_empty(), "it is taken");

    let outcome = Outcome::Succeeded("{\"x\":1}".to_owned());
    let settled = jobs.settle(&claim, &outcome).await.unwrap();
    assert_eq!(settled, Some(State::Succeeded));
    let over = jobs.get(&job.id).await.unwrap();
    assert_eq!(over.result.as_deref(), Some("{\"x\":1}"));
    assert_eq!((over.at, over.error), (None, None));
    let kept = over.expires.unwrap().timestamp_millis() - over.finished.unwrap().timestamp_millis();
    assert_eq!(kept, 7 * 24 * 60 * 60 * 1000);
    assert!(jobs.claim(9).await.unwrap().is_empty());
    assert_eq!(jobs.settle(&claim, &outcome).await.unwrap(), None, "once");
    let gone = jobs.get("0123").await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
}

async fn a_failure_of_its_own_is_final_and_others_are_tried_again(store: Store) {
    let jobs = host(&store);
    let own = id(&jobs, "own").await;
    let failed = Outcome::Failed(failure("out_of_stock"));
    jobs.settle(&claim(&jobs).await, &failed).await.unwrap();
    let own = jobs.get(&own).await.unwrap();
    assert_eq!(
        (own.state, own.error),
        (State::Failed, Some(failure("out_of_stock")))
    );

    let traps = id(&jobs, "traps").await;
    let retry = Outcome::Retry(failure("function_trapped"));
    for (attempt, expected) in [(1, State::Waiting), (2, State::Dead)] {
        let claim = claim(&jobs).await;
        assert_eq!(claim.job.attempts, attempt);
        assert_eq!(jobs.settle(&claim, &retry).await.unwrap(), Some(expected));
        let job = jobs.get(&traps).await.unwrap();
        assert_eq!(job.error, Some(failure("function_trapped")));
    }
    let dead = jobs.get(&traps).await.unwrap();
    let kept = dead.expires.unwrap().timestamp_millis() - dead.finished.unwrap().timestamp_millis();
    assert_eq!(kept, 30 * 24 * 60 * 60 * 1000);

    // What had no place was not tried.
    let busy = id(&jobs, "busy").await;
    for outcome in [Outcome::Postponed(failure("busy")), Outcome::Released] {
        let claim = claim(&jobs).await;
        jobs.settle(&claim, &outcome).await.unwrap();
        let job = jobs.get(&busy).await.unwrap();
        assert_eq!((job.state, job.attempts), (State::Waiting, 0));
    }
}

async fn back_off_grows_and_is_bounded(store: Store) {
    let jobs = Jobs::new(
        store.clone(),
        JobSettings {
            retry_base: Duration::from_secs(100),
            retry_max: Duration::from_secs(300),
            ..JobSettings::default()
        },
    );
    let id = id(&jobs, "f").await;
    let retry = Outcome::Retry(failure("x"));
    for bounds in [50..=100, 100..=200, 150..=300, 150..=300] {
        let claim = claim(&jobs).await;
        let before = DateTime::now().timestamp_millis();
        jobs.settle(&claim, &retry).await.unwrap();
        let due = jobs.get(&id).await.unwrap().at.unwrap().timestamp_millis();
        // To the second, because time passes between the two.
        let wait = (due - before) / 1000;
        assert!(bounds.contains(&wait), "{wait} is not in {bounds:?}");
        let now = set(
            doc! { "_id": &id },
            doc! { "$set": { "at": DateTime::now() } },
        );
        store.update("_coglex_jobs", now).await.unwrap();
    }
}

async fn of_many_hosts_one_gets_a_job(store: Store) {
    let hosts = [host(&store), host(&store), host(&store)];
    for n in 0..12 {
        id(&hosts[0], &format!("f{n}")).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..20 {
        let [a, b, c] = &hosts;
        let (a, b, c) = tokio::join!(a.claim(2), b.claim(2), c.claim(2));
        for claims in [a, b, c] {
            claimed.extend(claims.unwrap().into_iter().map(|claim| claim.job.id));
        }
    }
    assert_eq!(claimed.len(), 12, "every job, once");
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 12, "every job, once");
}

/// As if the lease's time had passed.
async fn run_out(store: &Store, claim: &Claim) {
    let past = DateTime::from_millis(DateTime::now().timestamp_millis() - 1);
    let update = set(
        doc! { "_id": &claim.job.id },
        doc! { "$set": { "at": past } },
    );
    assert_eq!(
        store.update("_coglex_jobs", update).await.unwrap().matched,
        1
    );
}

async fn a_lease_that_ran_out_goes_to_another_host_and_the_first_has_no_say(store: Store) {
    let (first, second) = (host(&store), host(&store));
    let id = id(&first, "f").await;
    let lost = claim(&first).await;
    let (_, other) = (self::id(&first, "g").await, claim(&first).await);
    let both = [lost.key(), other.key()];
    assert_eq!(
        first.keep(&both, true).await.unwrap(),
        [Standing::Held, Standing::Held]
    );
    let until = first.get(&id).await.unwrap().at.unwrap().timestamp_millis();
    let left = until - DateTime::now().timestamp_millis();
    assert!(left > 25_000, "it was renewed: {left}");
    assert!(second.claim(9).await.unwrap().is_empty(), "it is held");

    run_out(&store, &lost).await;
    let taken = claim(&second).await;
    assert_eq!((&taken.job.id, taken.job.attempts), (&id, 2));
    assert_eq!(
        first.keep(&both, true).await.unwrap(),
        [Standing::Lost, Standing::Held],
        "renewing does not take it back"
    );
    for outcome in [
        Outcome::Succeeded("1".to_owned()),
        Outcome::Failed(failure("x")),
        Outcome::Retry(failure("x")),
        Outcome::Postponed(failure("x")),
        Outcome::Released,
        Outcome::Cancelled,
    ] {
        assert_eq!(
            first.settle(&lost, &outcome).await.unwrap(),
            None,
            "{outcome:?}"
        );
        assert_eq!(second.get(&id).await.unwrap().state, State::Running);
    }
    let outcome = Outcome::Succeeded("2".to_owned());
    assert!(second.settle(&taken, &outcome).await.unwrap().is_some());
    assert_eq!(first.get(&id).await.unwrap().result.as_deref(), Some("2"));
}

async fn a_job_that_takes_its_hosts_along_dies(store: Store) {
    let jobs = host(&store);
    let id = id(&jobs, "kills").await;
    for _ in 0..2 {
        run_out(&store, &claim(&jobs).await).await;
    }
    assert!(jobs.claim(9).await.unwrap().is_empty());
    let dead = jobs.get(&id).await.unwrap();
    assert_eq!((dead.state, dead.attempts), (State::Dead, 2));
    assert_eq!(dead.error.unwrap().code, "host_lost");
}

async fn waiting_jobs_are_cancelled_at_once_and_running_ones_by_their_host(store: Store) {
    let (here, there) = (host(&store), host(&store));
    let waits = id(&here, "f").await;
    assert_eq!(there.cancel(&waits).await.unwrap().state, State::Cancelled);
    assert_eq!(
        there.cancel(&waits).await.unwrap().state,
        State::Cancelled,
        "again"
    );
    assert!(here.claim(9).await.unwrap().is_empty());

    let ended = [
        (Outcome::Cancelled, State::Cancelled),
        // Too late: it was through.
        (Outcome::Succeeded("1".to_owned()), State::Succeeded),
        (Outcome::Failed(failure("x")), State::Failed),
        // It is not tried again.
        (Outcome::Retry(failure("x")), State::Cancelled),
        (Outcome::Postponed(failure("x")), State::Cancelled),
        (Outcome::Released, State::Cancelled),
    ];
    for (outcome, expected) in ended {
        let id = id(&here, "f").await;
        let claim = claim(&here).await;
        let told = there.cancel(&id).await.unwrap();
        assert_eq!((told.state, told.cancelling), (State::Running, true));
        assert!(there.cancel(&id).await.unwrap().cancelling, "again");
        assert_eq!(
            here.keep(&[claim.key()], false).await.unwrap(),
            [Standing::Cancelled]
        );
        let state = here.settle(&claim, &outcome).await.unwrap();
        assert_eq!(state, Some(expected), "{outcome:?}");
        let over = here.get(&id).await.unwrap();
        assert_eq!((over.state, over.cancelling), (expected, false));
        if expected != State::Cancelled {
            let late = here.cancel(&id).await;
            assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
        }
    }

    // Its host is gone.
    let id = id(&here, "f").await;
    let lost = claim(&here).await;
    there.cancel(&id).await.unwrap();
    run_out(&store, &lost).await;
    assert!(there.claim(9).await.unwrap().is_empty());
    assert_eq!(there.get(&id).await.unwrap().state, State::Cancelled);
    assert!(matches!(here.cancel("0123").await, Err(Error::NotFound(_))));
}

async fn dead_and_cancelled_jobs_can_be_replayed(store: Store) {
    let jobs = host(&store);
    let id = id(&jobs, "f").await;
    assert!(matches!(jobs.retry(&id).await, Err(Error::Conflict(_))));
    jobs.cancel(&id).await.unwrap();
    for outcome in [
        Outcome::Failed(failure("x")),
        Outcome::Retry(failure("x")),
        Outcome::Succeeded("1".to_owned()),
    ] {
        let again = jobs.retry(&id).await.unwrap();
        assert_eq!((again.state, again.attempts), (State::Waiting, 0));
        assert_eq!((again.finished, again.expires), (None, None));
        loop {
            let claim = claim(&jobs).await;
            let settled = jobs.settle(&claim, &outcome).await.unwrap();
            if settled != Some(State::Waiting) {
                break;
            }
        }
    }
    let over = jobs.get(&id).await.unwrap();
    assert_eq!((over.state, over.error), (State::Succeeded, None));
    assert!(matches!(jobs.retry(&id).await, Err(Error::Conflict(_))));
    assert!(matches!(jobs.retry("0123").await, Err(Error::NotFound(_))));
}

async fn the_same_words_are_the_same_job(store: Store) {
    let jobs = host(&store);
    let words = |list: &[&str]| Some(list.iter().map(|&word| word.to_owned()).collect());
    let job = |unique| NewJob { unique, ..new("f") };
    let first = jobs.enqueue(job(words(&["a", "b"]))).await.unwrap();
    jobs.settle(&claim(&jobs).await, &Outcome::Succeeded("1".to_owned()))
        .await
        .unwrap();
    let again = jobs.enqueue(job(words(&["a", "b"]))).await.unwrap();
    assert_eq!((&again.id, again.state), (&first.id, State::Succeeded));
    let other = jobs.enqueue(job(words(&["ab"]))).await.unwrap();
    assert_ne!(other.id, first.id);
    let (a, b) = (job(None), job(None));
    let (a, b) = (
        jobs.enqueue(a).await.unwrap(),
        jobs.enqueue(b).await.unwrap(),
    );
    assert_ne!(a.id, b.id);
}

async fn jobs_wait_until_they_are_due(store: Store) {
    let jobs = host(&store);
    let at = |seconds: i64| {
        Some(DateTime::from_millis(
            DateTime::now().timestamp_millis() + seconds * 1000,
        ))
    };
    let job = |function, run_at| NewJob {
        run_at,
        ..new(function)
    };
    jobs.enqueue(job("later", at(3600))).await.unwrap();
    jobs.enqueue(job("second", at(-1))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    jobs.enqueue(job("third", None)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let claims = jobs.claim(9).await.unwrap();
    let order: Vec<_> = claims.iter().map(|claim| &*claim.job.function).collect();
    assert_eq!(order, ["second", "third"]);
    let too_far = jobs.enqueue(job("f", at(20 * 365 * 86_400))).await;
    assert!(matches!(too_far, Err(Error::Invalid(_))));
}

async fn held_jobs_wait_to_be_confirmed(store: Store) {
    let jobs = host(&store);
    let hold = Duration::from_secs(60);
    let [wanted, unwanted, forgotten] = ["wanted", "unwanted", "forgotten"].map(new);
    let wanted = jobs.enqueue_held(wanted, hold).await.unwrap();
    let unwanted = jobs.enqueue_held(unwanted, hold).await.unwrap();
    jobs.enqueue_held(forgotten, Duration::ZERO).await.unwrap();
    let claims = jobs.claim(9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].job.function, "forgotten", "nobody said anything");

    let args = Some("[\"done\"]".to_owned());
    jobs.confirm(&wanted.id, args).await.unwrap();
    jobs.withdraw(&unwanted.id).await.unwrap();
    let claims = jobs.claim(9).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(
        (&claims[0].job.id, &*claims[0].job.args),
        (&wanted.id, "[\"done\"]")
    );
    assert!(jobs.get(&unwanted.id).await.is_err());
    // Too late for either.
    jobs.withdraw(&wanted.id).await.unwrap();
    jobs.confirm(&wanted.id, None).await.unwrap();
    assert_eq!(jobs.get(&wanted.id).await.unwrap().state, State::Running);
}

async fn jobs_are_listed_page_by_page(store: Store) {
    let jobs = host(&store);
    assert!(jobs.list(JobQuery::default()).await.unwrap().0.is_empty());
    let mut ids = Vec::new();
    for n in 0..7 {
        let function = if n % 2 == 0 { "even" } else { "odd" };
        ids.push(id(&jobs, function).await);
    }
    let mut seen = Vec::new();
    let mut query = JobQuery {
        limit: 3,
        ..JobQuery::default()
    };
    loop {
        let (page, more) = jobs.list(query.clone()).await.unwrap();
        assert!(page.iter().all(|job| job.args.is_empty()));
        seen.extend(page.into_iter().map(|job| job.id));
        if !more {
            break;
        }
        query.before = seen.last().cloned();
    }
    assert_eq!(seen.len(), 7, "each once, also those of one millisecond");
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);

    jobs.cancel(&ids[0]).await.unwrap();
    let list = async |state, function: Option<&str>| {
        let query = JobQuery {
            state,
            function: function.map(str::to_owned),
            limit: 100,
            ..JobQuery::default()
        };
        jobs.list(query).await.unwrap().0.len()
    };
    assert_eq!(list(Some(State::Cancelled), None).await, 1);
    assert_eq!(list(Some(State::Waiting), None).await, 6);
    assert_eq!(list(None, Some("odd")).await, 3);
    assert_eq!(list(Some(State::Dead), Some("odd")).await, 0);
    let unknown = JobQuery {
        before: Some("0123".to_owned()),
        ..JobQuery::default()
    };
    assert!(matches!(jobs.list(unknown).await, Err(Error::NotFound(_))));
}

async fn limits_are_held(store: Store) {
    let jobs = Jobs::new(
        store.clone(),
        JobSettings {
            queue: 2,
            result_bytes: 10,
            ..settings()
        },
    );
    let large = NewJob {
        args: format!("[\"{}\"]", "x".repeat(1024 * 1024)),
        ..new("f")
    };
    assert!(matches!(jobs.enqueue(large).await, Err(Error::TooLarge(_))));
    for max_attempts in [0, 101] {
        let often = NewJob {
            max_attempts: Some(max_attempts),
            ..new("f")
        };
        assert!(matches!(jobs.enqueue(often).await, Err(Error::Invalid(_))));
    }
    let first = id(&jobs, "f").await;
    id(&jobs, "f").await;
    let full = jobs.enqueue(new("f")).await;
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
    // What is over makes room, once that is noticed.
    let large = Outcome::Succeeded("\"0123456789\"".to_owned());
    jobs.settle(&claim(&jobs).await, &large).await.unwrap();
    let over = jobs.get(&first).await.unwrap();
    assert_eq!((over.state, over.result), (State::Succeeded, None));
    assert!(over.result_dropped);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    id(&jobs, "f").await;
}

async fn what_is_no_job_does_not_stop_the_others(store: Store) {
    let jobs = host(&store);
    let past = DateTime::from_millis(1);
    insert(
        &store,
        "_coglex_jobs",
        &[
            doc! { "_id": "x", "at": past, "queue": "f" },
            doc! { "_id": 7, "at": past, "queue": "f" },
        ],
    )
    .await
    .unwrap();
    let id = id(&jobs, "f").await;
    assert_eq!(claim(&jobs).await.job.id, id);
    assert!(matches!(jobs.get("x").await, Err(Error::Unavailable(_))));
}

fn functions(claims: &[Claim]) -> Vec<&str> {
    let functions = claims.iter().map(|claim| &*claim.job.function);
    functions.collect()
}

async fn plugins_and_functions_take_turns(store: Store) {
    let jobs = host(&store);
    for _ in 0..12 {
        id(&jobs, "a1").await;
    }
    for function in ["a2", "b1", "c1", "c1"] {
        id(&jobs, function).await;
    }
    let plugin_of = |function: &str| match function {
        "c1" => None,
        function => Some(function[..1].to_owned()),
    };
    let beside = |limit, running: &[&str]| {
        let running: Vec<String> = running
            .iter()
            .map(|&function| function.to_owned())
            .collect();
        let jobs = &jobs;
        async move {
            let load = Load::new(&plugin_of, running);
            jobs.claim_beside(limit, load).await.unwrap()
        }
    };
    let first = beside(1, &[]).await;
    assert_eq!(functions(&first), ["a1"], "due longest");
    // One of each plugin, and of `a` the function that has none yet.
    let claims = beside(3, &["a1"]).await;
    assert_eq!(functions(&claims), ["b1", "c1", "a2"]);
    let claims = beside(2, &["a1", "b1", "c1", "a2"]).await;
    assert_eq!(functions(&claims), ["c1", "a1"]);
    // With no others there, one has all of the room.
    let claims = beside(100, &["a1", "a1"]).await;
    assert_eq!(functions(&claims), ["a1"; 10]);
    assert!(beside(100, &[]).await.is_empty());
}

async fn however_many_functions_have_jobs_all_are_run(store: Store) {
    const FUNCTIONS: usize = 70;
    let jobs = host(&store);
    for n in 0..FUNCTIONS {
        id(&jobs, &format!("f{n:02}")).await;
    }
    let later = NewJob {
        run_at: Some(DateTime::from_millis(1_900_000_000_000)),
        ..new("a_later_one")
    };
    jobs.enqueue(later).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let claims = jobs.claim(30).await.unwrap();
        seen.extend(functions(&claims).into_iter().map(str::to_owned));
    }
    assert_eq!(seen.len(), FUNCTIONS);
    assert!(jobs.claim(30).await.unwrap().is_empty());
}

async fn a_job_whose_function_is_gone_keeps_its_attempts(store: Store) {
    let jobs = host(&store);
    let waits = id(&jobs, "gone").await;
    let absent = Outcome::Absent(failure("not_found"));
    let mut since = None;
    for _ in 0..4 {
        let claim = claim(&jobs).await;
        assert_eq!((&claim.job.id, claim.job.attempts), (&waits, 1));
        let settled = jobs.settle(&claim, &absent).await.unwrap();
        assert_eq!(settled, Some(State::Waiting));
        let job = jobs.get(&waits).await.unwrap();
        assert_eq!((job.attempts, &job.error), (0, &Some(failure("not_found"))));
        assert_eq!(job.absent, Some(*since.get_or_insert(job.absent.unwrap())));
    }
    // Where it is found, it is as if nothing had been.
    let retry = Outcome::Retry(failure("function_trapped"));
    jobs.settle(&claim(&jobs).await, &retry).await.unwrap();
    let job = jobs.get(&waits).await.unwrap();
    assert_eq!((job.attempts, job.absent), (1, None));
    jobs.settle(&claim(&jobs).await, &retry).await.unwrap();

    let settings = JobSettings {
        function_wait: Duration::ZERO,
        ..settings()
    };
    let jobs = Jobs::new(store.clone(), settings);
    let dies = id(&jobs, "gone").await;
    let settled = jobs.settle(&claim(&jobs).await, &absent).await.unwrap();
    assert_eq!(settled, Some(State::Dead));
    let dead = jobs.get(&dies).await.unwrap();
    assert_eq!((dead.attempts, dead.error), (0, Some(failure("not_found"))));
}

async fn the_code_of_one_plugin_fills_a_part_of_the_queue(store: Store) {
    let settings = JobSettings {
        queue: 12,
        ..settings()
    };
    let jobs = Jobs::new(store.clone(), settings);
    let of = |owner: &str| NewJob {
        owner: Some(owner.to_owned()),
        ..NewJob::new("f", Source::Plugin)
    };
    for _ in 0..3 {
        let job = jobs.enqueue(of("greedy")).await.unwrap();
        assert_eq!(
            (job.source, job.owner.as_deref()),
            (Source::Plugin, Some("greedy"))
        );
        assert_eq!(jobs.get(&job.id).await.unwrap(), job);
    }
    let full = jobs.enqueue(of("greedy")).await;
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
    jobs.enqueue(of("modest")).await.unwrap();
    id(&jobs, "f").await;
    // Another host counts them as well.
    let other = Jobs::new(store.clone(), jobs.settings().clone());
    let full = other.enqueue(of("greedy")).await;
    assert!(matches!(full, Err(Error::Overloaded { .. })), "{full:?}");
}

fn schedule(cron: &str) -> (Schedule, Cron) {
    let schedule = Schedule {
        plugin: "p".to_owned(),
        function: "f".to_owned(),
        cron: cron.to_owned(),
        args: "[1]".to_owned(),
        kwargs: "{}".to_owned(),
    };
    (schedule, Cron::parse(cron).unwrap())
}

async fn schedules_begin_when_they_are_seen_first(store: Store) {
    let (jobs, (schedule, cron)) = (host(&store), schedule("* * * * *"));
    assert_eq!(jobs.known_run(&schedule).await.unwrap(), None);
    let before = DateTime::now();
    let first = jobs.last_run(&schedule, &cron).await.unwrap();
    assert!(first >= before);
    tokio::time::sleep(Duration::from_millis(2)).await;
    // Another host, or the same after a restart.
    assert_eq!(
        host(&store).last_run(&schedule, &cron).await.unwrap(),
        first
    );
    assert_eq!(jobs.known_run(&schedule).await.unwrap(), Some(first));
    let other = Schedule {
        args: "[2]".to_owned(),
        ..schedule
    };
    assert!(jobs.last_run(&other, &cron).await.unwrap() > first);
}

async fn a_missed_run_is_made_up_once_by_all_hosts(store: Store) {
    let (schedule, cron) = schedule("0 * * * *");
    let hosts = [host(&store), host(&store), host(&store)];
    hosts[0].last_run(&schedule, &cron).await.unwrap();
    let hour = |hour: i64| DateTime::from_millis((400_000 + hour) * 3_600_000);
    let back = set(doc! {}, doc! { "$set": { "last": hour(0) } });
    store.update("_coglex_schedules", back).await.unwrap();
    let made = hosts.clone().map(|host| {
        let (schedule, cron) = (&schedule, &cron);
        async move {
            let last = host.last_run(schedule, cron).await.unwrap();
            // Down for some hours.
            let now = DateTime::from_millis(hour(5).timestamp_millis() + 1_800_000);
            if let Some(due) = cron.latest(last, now) {
                assert_eq!(due, hour(5));
                host.make_run(schedule, cron, due).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(made).await;
    let claims = hosts[1].claim(9).await.unwrap();
    assert_eq!(claims.len(), 1, "once");
    let job = &claims[0].job;
    assert_eq!(
        (&*job.function, &*job.args, job.source),
        ("f", "[1]", Source::Schedule)
    );
    assert_eq!(hosts[2].last_run(&schedule, &cron).await.unwrap(), hour(5));
    // A host that is late does not turn the time back.
    hosts[0].make_run(&schedule, &cron, hour(4)).await.unwrap();
    assert_eq!(hosts[2].last_run(&schedule, &cron).await.unwrap(), hour(5));
}

/// Where jobs are kept shortly, or a host was away for long.
async fn a_run_whose_job_is_forgotten_is_not_made_again(store: Store) {
    let (schedule, cron) = schedule("0 * * * *");
    let (first, second) = (host(&store), host(&store));
    first.last_run(&schedule, &cron).await.unwrap();
    let last = DateTime::now().timestamp_millis();
    let due = cron.next(DateTime::from_millis(last)).unwrap();
    first.make_run(&schedule, &cron, due).await.unwrap();
    let run = claim(&first).await;
    let done = Outcome::Succeeded("1".to_owned());
    first.settle(&run, &done).await.unwrap();
    let forgotten = doc! { "_id": &run.job.id };
    store
        .delete("_coglex_jobs", forgotten, false)
        .await
        .unwrap();
    second.make_run(&schedule, &cron, due).await.unwrap();
    assert!(second.claim(9).await.unwrap().is_empty());
}

/// The store may take no larger documents than the job is already.
#[tokio::test]
async fn a_job_without_room_for_more_does_not_stop_the_others() {
    use coglex_services::storage::embedded::{EmbeddedOptions, EmbeddedStore};

    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions {
        max_document_bytes: 4096,
        ..EmbeddedOptions::default()
    };
    let engine = EmbeddedStore::open(&folder.path().join("test.db"), options).unwrap();
    let jobs = host(&(std::sync::Arc::new(engine.clone()) as Store));
    let mut length = 4096;
    let full = loop {
        let job = NewJob {
            args: format!("[\"{}\"]", "x".repeat(length)),
            ..new("full")
        };
        match jobs.enqueue(job).await {
            Ok(job) => break job,
            Err(error) => assert!(matches!(error, Error::TooLarge(_)), "{error:?}"),
        }
        length -= 1;
    };
    let half = NewJob {
        args: format!("[\"{}\"]", "x".repeat(2000)),
        ..new("half")
    };
    let half = jobs.enqueue(half).await.unwrap();
    let claim = claim(&jobs).await;
    assert_eq!(claim.job.id, half.id);
    let full = jobs.get(&full.id).await.unwrap();
    assert_eq!(
        (full.state, full.error.unwrap().code),
        (State::Dead, "too_large".to_owned())
    );

    let large = Outcome::Succeeded(format!("\"{}\"", "y".repeat(3000)));
    let settled = jobs.settle(&claim, &large).await.unwrap();
    assert_eq!(settled, Some(State::Succeeded));
    let half = jobs.get(&half.id).await.unwrap();
    assert!(half.result_dropped && half.result.is_none());
    engine.close().await;
}

/// With very many jobs a claim must not look at more than it takes.
#[tokio::test]
async fn claims_and_listings_go_by_indexes() {
    use coglex_services::storage::Find;
    use coglex_services::storage::embedded::EmbeddedStore;

    let folder = tempfile::tempdir().unwrap();
    let engine = EmbeddedStore::open(&folder.path().join("test.db"), Default::default()).unwrap();
    let jobs = host(&(std::sync::Arc::new(engine.clone()) as Store));
    id(&jobs, "f").await;
    for (filter, sort, index) in [
        (
            doc! { "at": { "$lte": DateTime::now() } },
            doc! { "at": 1 },
            "at_1",
        ),
        (
            doc! {},
            doc! { "created": -1, "_id": -1 },
            "created_-1__id_-1",
        ),
        (
            doc! { "state": "dead" },
            doc! { "created": -1, "_id": -1 },
            "state_1_created_-1__id_-1",
        ),
    ] {
        let find = Find {
            filter,
            sort: Some(sort),
            ..Find::default()
        };
        let plan = engine.explain("_coglex_jobs", find).await.unwrap();
        assert_eq!(plan.get_str("index").ok(), Some(index), "{plan}");
        assert_eq!(plan.get_str("sort").ok(), Some("index"), "{plan}");
    }
    engine.close().await;
}
