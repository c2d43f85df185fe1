//! Jobs, as clients and operators meet them: taken in over HTTP, run by the server
//! with real guests, on the embedded store and on MongoDB; killed, shut down,
//! shared by two servers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guests::Host;
use crate::support::link::Link;
use crate::support::{ADMIN_KEY, API_KEY, Client, PATIENCE, coglex, with_query};

pub(crate) const ALLOW: &str = r#"
[plugins.allow.fixture-jobs]
storage = [{ collection = "runs", verbs = ["read", "insert"] }]
functions = ["job_record", "job_strict", "no_such_function"]
"#;

const JOBS: &str = "/service/execution/v1/jobs/";
const RUNS: &str = "/service/storage/v1/runs/";

/// Retries that a test need not wait for.
const SWIFT: [&str; 4] = ["--jobs-retry-base", "20ms", "--jobs-retry-max", "100ms"];

/// Where the documents of a case are.
pub(crate) struct Store(Option<(String, String)>);

impl Store {
    pub(crate) fn embedded() -> Self {
        Self(None)
    }

    /// A database of its own; nothing when there is no server.
    pub(crate) fn mongodb() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let uri = std::env::var("COGLEX_TEST_MONGODB_URI").ok();
        if uri.is_none() {
            eprintln!("skipped: COGLEX_TEST_MONGODB_URI is not set; `cargo xtask test` sets it");
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("coglex_jobs_{}_{number}", std::process::id());
        Some(Self(Some((uri?, database))))
    }

    pub(crate) fn flags(&self, more: &[&str]) -> Vec<String> {
        let mut flags: Vec<String> = more.iter().map(|&flag| flag.to_owned()).collect();
        if let Some((uri, database)) = &self.0 {
            let own = ["--mongodb-uri", uri, "--mongodb-database", database];
            flags.extend(own.map(str::to_owned));
        }
        flags
    }

    pub(crate) fn host(&self, more: &[&str]) -> Host {
        let flags = self.flags(more);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Host::flags(&["fixture-jobs"], ALLOW, &flags)
    }

    /// The server that another has left: on the same folder.
    pub(crate) fn again(&self, dir: tempfile::TempDir, more: &[&str]) -> Host {
        let flags = self.flags(more);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Host::start(dir, &flags)
    }
}

/// Makes each case a test per store.
macro_rules! on_both_stores {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $case() {
                super::$case(&super::Store::embedded());
            })*
        }
        mod mongodb {
            $(#[test]
            fn $case() {
                if let Some(store) = super::Store::mongodb() {
                    super::$case(&store);
                }
            })*
        }
    };
}

on_both_stores!(
    a_function_runs_as_a_job_and_its_result_is_kept,
    what_traps_is_tried_again_and_then_dead_and_can_be_replayed,
    a_failure_of_its_own_is_final,
    jobs_that_wait_and_that_run_are_cancelled,
    a_killed_server_leaves_nothing_undone,
    a_server_that_ends_gives_its_jobs_back,
);

fn path(job: &Value) -> String {
    format!("{JOBS}{}/", job["id"].as_str().unwrap())
}

#[track_caller]
fn enqueue(api: &Client, function: &str, body: Value) -> Value {
    api.post(&format!("{JOBS}{function}/"), &body).json()
}

/// Waits until the job is in this state.
#[track_caller]
fn becomes(api: &Client, job: &Value, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let now = api.get(&path(job)).json();
        if now["state"] == state {
            return now;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "it does not become {state}: {now}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The attempts that wrote this down.
#[track_caller]
pub(crate) fn runs(api: &Client, label: &str) -> Vec<Value> {
    let query = json!({ "label": label }).to_string();
    let found = api.find(RUNS, &[("query", &query), ("many", "true")]);
    serde_json::from_value(found.json()).unwrap()
}

#[track_caller]
fn begins(api: &Client, label: &str, attempts: usize) {
    let start = Instant::now();
    while runs(api, label).len() < attempts {
        assert!(start.elapsed() < PATIENCE, "{label} does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn a_function_runs_as_a_job_and_its_result_is_kept(store: &Store) {
    let host = store.host(&[]);
    let api = host.server.api();
    let job = enqueue(
        &api,
        "job_record",
        json!({"args": ["first"], "kwargs": {"extra": {"n": [1, 2.5, null]}}}),
    );
    assert_eq!(job["state"], "waiting");
    assert_eq!(job["function"], "job_record");
    assert_eq!(job["id"].as_str().unwrap().len(), 32);
    let over = becomes(&api, &job, "succeeded");
    assert_eq!(
        over["result"],
        json!({"label": "first", "extra": {"n": [1, 2.5, null]}})
    );
    assert_eq!(over["args"], json!(["first"]));
    assert_eq!(
        (&over["attempts"], &over["max_attempts"], &over["source"]),
        (&json!(1), &json!(5), &json!("api"))
    );
    for time in ["created", "started", "finished", "expires"] {
        assert!(over[time]["$date"].is_string(), "{time} of {over}");
    }
    // It was called as by the client that enqueued it, under the job's id.
    let runs = runs(&api, "first");
    assert_eq!(runs.len(), 1);
    assert_eq!(
        runs[0]["request"],
        format!("job-{}", job["id"].as_str().unwrap())
    );
    assert_eq!(runs[0]["invocation"], job["id"]);
    assert_eq!(runs[0]["api_key"], true);

    // Listed, without what may be large.
    let other = enqueue(&api, "job_large", json!({"args": [3]}));
    becomes(&api, &other, "succeeded");
    let list = api.get(JOBS).json();
    let ids = |list: &Value| -> Vec<Value> {
        let jobs = list.as_array().unwrap().iter();
        jobs.map(|job| job["id"].clone()).collect()
    };
    assert_eq!(ids(&list), [other["id"].clone(), job["id"].clone()]);
    assert_eq!(list[0].get("args"), None);
    assert_eq!(list[0].get("result"), None);
    let listed = |params: &[(&str, &str)]| ids(&api.find(JOBS, params).json()).len();
    assert_eq!(listed(&[("function", "job_large")]), 1);
    assert_eq!(listed(&[("state", "succeeded")]), 2);
    assert_eq!(listed(&[("state", "dead")]), 0);
    let first = api.find(JOBS, &[("limit", "1"), ("state", "succeeded")]);
    assert_eq!(ids(&first.json()), [other["id"].clone()]);
    let next = first.header("link").to_owned();
    let next = next.strip_prefix('<').unwrap();
    let next = next.strip_suffix(">; rel=\"next\"").unwrap();
    assert_eq!(ids(&api.get(next).json()), [job["id"].clone()]);
    assert_eq!(api.get(next).header("link"), "");

    // Operators see the same by their key; nobody else sees anything.
    let admin = host.server.admin();
    assert_eq!(admin.get("/admin/v1/jobs/").json(), list);
    let anonymous = host.server.anonymous();
    for place in [JOBS.to_owned(), path(&job)] {
        anonymous.get(&place).problem(401, "api_key_required");
        admin.get(&place).problem(401, "api_key_required");
    }
    anonymous
        .post(&format!("{JOBS}job_record/"), &json!({}))
        .problem(401, "api_key_required");
    api.get("/admin/v1/jobs/")
        .problem(401, "admin_key_required");
}

fn what_traps_is_tried_again_and_then_dead_and_can_be_replayed(store: &Store) {
    let host = store.host(&SWIFT);
    let api = host.server.api();
    let flaky = |label: &str, traps: u32, max_attempts: u32| {
        let body = json!({"args": [label, traps], "max_attempts": max_attempts});
        enqueue(&api, "job_flaky", body)
    };
    let heals = flaky("heals", 2, 3);
    let healed = becomes(&api, &heals, "succeeded");
    assert_eq!(
        (&healed["attempts"], &healed["result"], healed.get("error")),
        (&json!(3), &json!(3), None)
    );

    let job = flaky("stays", 3, 2);
    let dead = becomes(&api, &job, "dead");
    assert_eq!(dead["attempts"], 2);
    assert_eq!(dead["error"]["code"], "function_trapped");
    let told = dead["error"]["message"].as_str().unwrap();
    assert!(
        !told.contains("on purpose"),
        "the text is for the log: {told}"
    );
    host.logged(&["the job is dead", job["id"].as_str().unwrap()]);
    assert_eq!(runs(&api, "stays").len(), 2);

    // The third attempt of all traps, too.
    let again = api
        .post(&format!("{}retry/", path(&job)), &json!({}))
        .json();
    assert_eq!(
        (&again["state"], &again["attempts"]),
        (&json!("waiting"), &json!(0))
    );
    let over = becomes(&api, &job, "succeeded");
    assert_eq!((&over["attempts"], &over["result"]), (&json!(2), &json!(4)));
    // Every attempt was made under the same id.
    let all = runs(&api, "stays");
    assert!(all.iter().all(|run| run["invocation"] == job["id"]));
    api.post(&format!("{}retry/", path(&job)), &json!({}))
        .problem(409, "conflict");
}

fn a_failure_of_its_own_is_final(store: &Store) {
    let host = store.host(&SWIFT);
    let api = host.server.api();
    let job = enqueue(&api, "job_fails", json!({"args": ["x"]}));
    let failed = becomes(&api, &job, "failed");
    assert_eq!(
        failed["error"],
        json!({"code": "out_of_stock", "message": "there are none left"})
    );
    assert_eq!(failed["attempts"], 1);
    let admin = host.server.admin();
    let retry = format!("/admin/v1/jobs/{}/retry/", job["id"].as_str().unwrap());
    admin.post(&retry, &json!({})).json();
    begins(&api, "x", 2);
    becomes(&api, &job, "failed");
}

fn jobs_that_wait_and_that_run_are_cancelled(store: &Store) {
    let host = store.host(&[]);
    let api = host.server.api();
    let body = json!({"args": ["late"], "run_at": "2999-01-01T00:00:00Z"});
    api.post(&format!("{JOBS}job_record/"), &body)
        .problem(400, "invalid_input");
    let body = json!({"args": ["late"], "run_at": {"$date": "2030-01-01T00:00:00Z"}});
    let waits = enqueue(&api, "job_record", body);
    assert_eq!(waits["run_at"]["$date"], "2030-01-01T00:00:00Z");
    let cancelled = api.delete(&path(&waits)).json();
    assert_eq!(cancelled["state"], "cancelled");

    let sleeps = enqueue(&api, "job_sleeps", json!({"args": ["sleeper", 20_000]}));
    begins(&api, "sleeper", 1);
    let told = api
        .post(&format!("{}cancel/", path(&sleeps)), &json!({}))
        .json();
    assert_eq!(
        (&told["state"], &told["cancelling"]),
        (&json!("running"), &json!(true))
    );
    let start = Instant::now();
    let over = becomes(&api, &sleeps, "cancelled");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(over.get("cancelling"), None);
    assert_eq!(runs(&api, "sleeper is through").len(), 0);
    assert_eq!(runs(&api, "late").len(), 0);

    let over = enqueue(&api, "job_record", json!({"args": ["done"]}));
    becomes(&api, &over, "succeeded");
    api.delete(&path(&over)).problem(409, "conflict");
    api.delete(&format!("{JOBS}0123/"))
        .problem(404, "not_found");
}

fn a_killed_server_leaves_nothing_undone(store: &Store) {
    let flags = ["--jobs-lease", "2s", "--jobs-concurrency", "1"];
    let host = store.host(&flags);
    let api = host.server.api();
    let runs_now = enqueue(&api, "job_sleeps", json!({"args": ["first", 1_500]}));
    let waits = enqueue(&api, "job_record", json!({"args": ["second"]}));
    begins(&api, "first", 1);
    let host = store.again(host.server.kill(), &flags);
    let api = host.server.api();
    let over = becomes(&api, &runs_now, "succeeded");
    assert_eq!(over["attempts"], 2, "at least once");
    becomes(&api, &waits, "succeeded");
    let attempts = runs(&api, "first");
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["invocation"], attempts[1]["invocation"]);
    assert_eq!(runs(&api, "first is through").len(), 1);
    assert_eq!(runs(&api, "second").len(), 1);
}

fn a_server_that_ends_gives_its_jobs_back(store: &Store) {
    // A lease that would keep others from the job for longer than the test waits.
    let flags = ["--jobs-lease", "10m", "--server-shutdown-grace", "1s"];
    let mut host = store.host(&flags);
    let api = host.server.api();
    let short = enqueue(&api, "job_sleeps", json!({"args": ["short", 300]}));
    let long = enqueue(&api, "job_sleeps", json!({"args": ["long", 20_000]}));
    begins(&api, "short", 1);
    begins(&api, "long", 1);
    host.server.terminate();
    assert!(host.server.wait().success());
    let host = store.again(host.server.kill(), &flags);
    let api = host.server.api();
    assert_eq!(
        api.get(&path(&short)).json()["state"],
        "succeeded",
        "in the grace"
    );
    begins(&api, "long", 2);
    let again = api.get(&path(&long)).json();
    assert_eq!(again["attempts"], 1, "what was given back was no attempt");
    api.delete(&path(&long)).json();
    becomes(&api, &long, "cancelled");
}

#[test]
fn what_is_no_job_is_refused() {
    let host = Store::embedded().host(&[]);
    let api = host.server.api();
    let check = |function: &str, body: Value, status: u16, code: &str| {
        let refused = api.post(&format!("{JOBS}{function}/"), &body);
        refused.problem(status, code)
    };
    check("no_such_function", json!({}), 404, "not_found");
    for body in [
        json!({"args": {}}),
        json!({"kwargs": []}),
        json!({"args": 1}),
        json!({"run_at": "tomorrow"}),
        json!({"run_at": 5}),
        json!({"run_at": {"$date": "soon"}}),
        json!({"max_attempts": 0}),
        json!({"max_attempts": 101}),
        json!({"max_attempts": "5"}),
        json!({"max_attempts": 1.5}),
        json!({"key": ""}),
        json!({"key": "x".repeat(257)}),
        json!({"key": 7}),
        json!({"runAt": "2030-01-01T00:00:00Z"}),
    ] {
        check("job_record", body, 400, "invalid_input");
    }
    check("job_record", json!([]), 400, "invalid_json");
    let large = json!({"args": ["x".repeat(1 << 20)]});
    check("job_record", large, 413, "too_large");
    check(
        "job_strict",
        json!({"kwargs": {"n": "x"}}),
        422,
        "input_mismatch",
    );
    let ill = api
        .request(reqwest::Method::POST, &format!("{JOBS}job_record/"))
        .header("content-type", "application/json");
    let ill = crate::support::Send::reply(ill.body("{\"args\": [1}"));
    ill.problem(400, "invalid_json");

    for params in [
        [("state", "running fast")],
        [("limit", "0")],
        [("limit", "1001")],
        [("limit", "x")],
    ] {
        api.find(JOBS, &params).problem(400, "invalid_input");
    }
    api.find(JOBS, &[("before", "0123")])
        .problem(404, "not_found");
    for id in ["0123", "a%00b", "..%2f", "%7b%22$ne%22:1%7d"] {
        api.get(&format!("{JOBS}{id}/")).problem(404, "not_found");
    }
    // Nor can jobs be reached as documents.
    api.get("/service/storage/v1/_coglex_jobs/")
        .problem(403, "forbidden");
    assert_eq!(api.get(JOBS).json(), json!([]), "nothing was taken in");
}

#[test]
fn a_key_makes_one_job_of_many_requests() {
    let host = Store::embedded().host(&[]);
    let api = host.server.api();
    let body = json!({"args": ["keyed"], "key": "order-7"});
    let first = enqueue(&api, "job_record", body.clone());
    becomes(&api, &first, "succeeded");
    let again = enqueue(&api, "job_record", body);
    assert_eq!(
        (&again["id"], &again["state"]),
        (&first["id"], &json!("succeeded"))
    );
    assert_eq!(runs(&api, "keyed").len(), 1);
    let other = json!({"args": ["x"], "key": "order-7"});
    let other = enqueue(&api, "job_fails", other);
    assert_ne!(other["id"], first["id"], "of another function");
}

#[test]
fn jobs_wait_for_their_time() {
    let host = Store::embedded().host(&[]);
    let api = host.server.api();
    let due = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() + 2_000);
    let due = due.try_to_rfc3339_string().unwrap();
    let job = enqueue(
        &api,
        "job_record",
        json!({"args": ["timed"], "run_at": due}),
    );
    assert_eq!(job["run_at"]["$date"], due);
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(api.get(&path(&job)).json()["state"], "waiting");
    let over = becomes(&api, &job, "succeeded");
    let started = over["started"]["$date"].as_str().unwrap();
    assert!(started >= due.as_str(), "{started} is before {due}");
}

#[test]
fn a_function_that_is_gone_is_waited_for_and_costs_no_attempts() {
    let mut flags = SWIFT.to_vec();
    flags.extend(["--jobs-function-wait", "2s"]);
    let host = Store::embedded().host(&flags);
    let api = host.server.api();
    let body =
        json!({"args": ["gone"], "max_attempts": 1, "run_at": {"$date": "2030-01-01T00:00:00Z"}});
    let job = enqueue(&api, "job_record", body);
    api.delete(&path(&job)).json();
    host.remove("fixture-jobs");
    let start = Instant::now();
    while api.post(&format!("{JOBS}job_record/"), &json!({})).status != 404 {
        assert!(start.elapsed() < PATIENCE, "the plugin stays");
    }
    let retry = format!("{}retry/", path(&job));
    api.post(&retry, &json!({})).json();
    let start = Instant::now();
    let waits = loop {
        let now = api.get(&path(&job)).json();
        if now["error"].is_object() {
            break now;
        }
        assert!(start.elapsed() < PATIENCE, "{now}");
    };
    assert_ne!(waits["state"], "dead");
    assert_eq!(waits["error"]["code"], "not_found");
    host.logged(&[
        "the job waits for its function",
        job["id"].as_str().unwrap(),
    ]);
    let dead = becomes(&api, &job, "dead");
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "it was waited for"
    );
    assert_eq!(dead["error"]["code"], "not_found");
    assert_eq!(dead["attempts"], 0);
    // It comes back while another job waits for it.
    api.post(&retry, &json!({})).json();

    host.deploy("fixture-jobs", &crate::guests::component("fixture-jobs"));
    let start = Instant::now();
    while api
        .post(&format!("{JOBS}job_record/"), &json!({"args": [0]}))
        .status
        == 404
    {
        assert!(start.elapsed() < PATIENCE, "the plugin does not come back");
    }
    if api.get(&path(&job)).json()["state"] == "dead" {
        api.post(&retry, &json!({})).json();
    }
    let over = becomes(&api, &job, "succeeded");
    assert_eq!(over["attempts"], 1);
}

#[test]
fn many_jobs_of_one_function_do_not_keep_others_waiting() {
    let host = Store::embedded().host(&["--jobs-concurrency", "2"]);
    let api = host.server.api();
    let flood: Vec<Value> = (0..20)
        .map(|n| {
            enqueue(
                &api,
                "job_sleeps",
                json!({"args": [format!("flood{n}"), 500]}),
            )
        })
        .collect();
    let other = enqueue(&api, "job_record", json!({"args": ["other"]}));
    becomes(&api, &other, "succeeded");
    let waiting = api.find(JOBS, &[("state", "waiting")]).json();
    assert!(
        waiting.as_array().unwrap().len() > 10,
        "it was its turn before most of the flood: {waiting}"
    );
    for job in &flood {
        api.delete(&path(job));
    }
}

#[test]
fn guests_enqueue_jobs_within_their_grants_and_see_no_others() {
    let host = Store::embedded().host(&["--jobs-queue", "40"]);
    let api = host.server.api();
    let run = |function: &str, args: Value| {
        let place = format!("/service/execution/v1/execute/{function}/");
        api.post(&place, &json!({ "args": args }))
    };
    let id = run("job_enqueues", json!(["mine"])).json();
    let job = json!({ "id": id });
    let over = becomes(&api, &job, "succeeded");
    assert_eq!(
        (&over["source"], &over["max_attempts"], &over["function"]),
        (&json!("plugin"), &json!(3), &json!("job_record"))
    );
    // For nobody, though the client that it served had the key.
    let ran = runs(&api, "mine");
    assert_eq!(
        (&ran[0]["api_key"], &ran[0]["invocation"]),
        (&json!(false), &id)
    );
    let seen = run("job_looks", json!([id])).json();
    assert_eq!(
        seen,
        json!({"id": id, "function": "job_record", "state": "Succeeded", "attempts": 1,
            "result": {"label": "mine", "extra": 7}, "failure": null})
    );

    // The same key is the same job, and one that is due later can be cancelled.
    let later = run("job_enqueues", json!(["later", "k", 3_600_000])).json();
    assert_eq!(run("job_enqueues", json!(["later", "k", 0])).json(), later);
    assert_ne!(
        run("job_enqueues", json!(["later", "l", 3_600_000])).json(),
        later
    );
    let seen = run("job_looks", json!([later, true])).json();
    assert_eq!(seen["state"], "Cancelled");
    assert_eq!(runs(&api, "later").len(), 0);

    // What a client has enqueued is none of its own.
    let body = json!({"args": ["theirs"], "run_at": {"$date": "2030-01-01T00:00:00Z"}});
    let theirs = enqueue(&api, "job_record", body);
    for id in [&theirs["id"], &json!("0123"), &json!("")] {
        assert_eq!(run("job_looks", json!([id])).json(), Value::Null);
    }
    let refused = run("job_looks", json!([theirs["id"], true]));
    assert_ne!(refused.status, 200);
    assert_eq!(api.get(&path(&theirs)).json()["state"], "waiting");

    // What is not granted, not there, or does not fit.
    for (function, args, told) in [
        (
            "job_large",
            json!([1]),
            "was not granted the function `job_large`",
        ),
        (
            "no_such_function",
            json!([]),
            "there is no function of this name",
        ),
        (
            "job_record",
            json!({"label": "x"}),
            "`args` is not a JSON array",
        ),
        ("job_record", json!(["x".repeat(1 << 20)]), "bytes together"),
        ("job_record", json!("\u{0}"), "`args` is not a JSON array"),
    ] {
        let refused = run("job_enqueues_any", json!([function, args]));
        // What went wrong is for the log, not for the client.
        assert_eq!(refused.status, 500, "{told}: {}", refused.text());
        host.logged(&[told]);
    }

    // A quarter of the queue is the most that its code fills; clients find room.
    let taken = run("job_floods", json!([50])).json().as_u64().unwrap();
    assert!((5..=10).contains(&taken), "{taken}");
    enqueue(&api, "job_record", json!({"args": ["room"]}));
}

#[test]
fn few_run_at_once_and_a_full_queue_refuses() {
    let flags = ["--jobs-concurrency", "2", "--jobs-queue", "6"];
    let host = Store::embedded().host(&flags);
    let api = host.server.api();
    for n in 0..6 {
        enqueue(&api, "job_sleeps", json!({"args": [format!("s{n}"), 500]}));
    }
    let refused = api.post(&format!("{JOBS}job_record/"), &json!({"args": ["no"]}));
    refused.problem(503, "overloaded");
    assert_ne!(refused.header("retry-after"), "");
    let count = |state: &str| {
        let jobs = api.find(JOBS, &[("state", state)]).json();
        jobs.as_array().unwrap().len()
    };
    let start = Instant::now();
    while count("succeeded") < 6 {
        assert!(count("running") <= 2);
        // Clients are answered meanwhile.
        let run = "/service/execution/v1/execute/job_large/";
        assert_eq!(api.post(run, &json!({"args": [1]})).json(), json!("x"));
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        start.elapsed() > Duration::from_millis(1_000),
        "three times two"
    );
    enqueue(&api, "job_record", json!({"args": ["yes"]}));
}

#[test]
fn a_large_result_is_not_kept() {
    let host = Store::embedded().host(&["--jobs-result-limit", "100", "--jobs-retention", "1s"]);
    let api = host.server.api();
    let job = enqueue(&api, "job_large", json!({"args": [99]}));
    let over = becomes(&api, &job, "succeeded");
    assert_eq!(
        (over.get("result"), &over["result_dropped"]),
        (None, &json!(true))
    );
    let job = enqueue(&api, "job_large", json!({"args": [98]}));
    assert_eq!(becomes(&api, &job, "succeeded")["result"], "x".repeat(98));
}

/// `COGLEX_CRASH_ROUNDS` for more than three rounds.
#[test]
fn jobs_that_were_taken_in_are_run_however_often_the_server_is_killed() {
    const WRITERS: usize = 4;
    let rounds = std::env::var("COGLEX_CRASH_ROUNDS").map_or(3, |n| n.parse().unwrap());
    let store = Store::embedded();
    let flags = ["--jobs-lease", "1s", "--jobs-max-attempts", "100"];
    let mut host = store.host(&flags);
    let mut taken_in: Vec<(String, String)> = Vec::new();
    for round in 0..rounds {
        let url = host.server.url.clone();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let url = url.clone();
                std::thread::spawn(move || {
                    let http = reqwest::blocking::Client::new();
                    let mut told = Vec::new();
                    for n in 0.. {
                        let label = format!("{round}-{writer}-{n}");
                        let body = json!({"args": [label, 30]});
                        let sent = http
                            .post(format!("{url}{JOBS}job_sleeps/"))
                            .header("x-api-key", API_KEY)
                            .json(&body)
                            .send();
                        let Ok(job) = sent.and_then(|reply| reply.json::<Value>()) else {
                            break;
                        };
                        told.push((job["id"].as_str().unwrap().to_owned(), label));
                        std::thread::sleep(Duration::from_millis(15));
                    }
                    told
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(600 + 130 * round));
        let dir = host.server.kill();
        for writer in writers {
            taken_in.extend(writer.join().unwrap());
        }
        host = store.again(dir, &flags);
    }
    assert!(taken_in.len() > WRITERS, "{} jobs", taken_in.len());
    let api = host.server.api();
    let index = json!({"keys": {"label": 1}});
    api.post(&format!("{RUNS}indexes/"), &index).json();
    // What was being run when its server was killed queues again behind the others.
    let start = Instant::now();
    for state in ["waiting", "running", "waiting"] {
        while api.find(JOBS, &[("state", state), ("limit", "1")]).json() != json!([]) {
            assert!(
                start.elapsed() < 6 * PATIENCE,
                "there are {state} jobs left"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut again = 0;
    for (id, label) in &taken_in {
        let over = api.get(&format!("{JOBS}{id}/")).json();
        assert_eq!(over["state"], "succeeded", "{over}");
        let attempts = over["attempts"].as_u64().unwrap();
        let through = runs(&api, &format!("{label} is through")).len() as u64;
        assert!((1..=attempts).contains(&through), "{label}: {through}");
        again += u64::from(attempts > 1);
    }
    println!(
        "{rounds} kills, {} jobs, {again} were run again",
        taken_in.len()
    );
}

#[test]
fn a_server_that_is_cut_off_ends_what_is_no_longer_its_own() {
    let Some(Store(Some((uri, database)))) = Store::mongodb() else {
        return;
    };
    let rest = uri.strip_prefix("mongodb://").unwrap();
    let (address, options) = rest.split_once('/').unwrap_or((rest, ""));
    let link = Link::to(address);
    let behind = format!("mongodb://{}/{options}", link.address);
    let flags = ["--jobs-lease", "3s"];
    let near = Store(Some((behind, database.clone()))).host(&flags);
    let job = enqueue(
        &near.server.api(),
        "job_sleeps",
        json!({"args": ["cut off", 6_000]}),
    );
    begins(&near.server.api(), "cut off", 1);
    let far = Store(Some((uri.clone(), database))).host(&flags);
    let api = far.server.api();
    link.cut();
    near.logged(&["the leases of jobs cannot be looked at now"]);
    begins(&api, "cut off", 2);
    let over = becomes(&api, &job, "succeeded");
    assert_eq!(over["attempts"], 2);
    // The first run was ended; back on the network it says nothing.
    link.mend();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(runs(&api, "cut off is through").len(), 1);
    assert_eq!(api.get(&path(&job)).json(), over);
    // And its server goes on with others.
    near.has_status("/readyz", 200);
    let job = enqueue(&near.server.api(), "job_record", json!({"args": ["next"]}));
    becomes(&near.server.api(), &job, "succeeded");
}

#[test]
fn operators_see_and_replay_jobs_on_the_command_line() {
    let host = Store::embedded().host(&SWIFT);
    let api = host.server.api();
    let job = enqueue(
        &api,
        "job_flaky",
        json!({"args": ["cli", 1], "max_attempts": 1}),
    );
    becomes(&api, &job, "dead");
    let id = job["id"].as_str().unwrap();
    let jobs = |args: &[&str]| {
        let done = coglex(host.server.dir.path())
            .arg("jobs")
            .args(args)
            .args(["--server", &host.server.url])
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
            .output()
            .unwrap();
        let told = String::from_utf8(done.stdout).unwrap();
        (
            done.status.success(),
            told + &String::from_utf8_lossy(&done.stderr),
        )
    };
    let (done, told) = jobs(&["list", "--state", "dead"]);
    assert!(
        done && told.contains(id) && told.contains("job_flaky"),
        "{told}"
    );
    let (done, told) = jobs(&["list", "--state", "waiting"]);
    assert!(done && told.contains("no such jobs"), "{told}");
    let (done, told) = jobs(&["list", "--function", "job_fails", "--json"]);
    assert!(done && told.trim() == "[]", "{told}");
    let (done, told) = jobs(&["show", id]);
    assert!(done && told.contains("function_trapped"), "{told}");
    let (done, told) = jobs(&["retry", id]);
    assert!(done && told.contains("waiting"), "{told}");
    becomes(&api, &job, "succeeded");
    for (args, expected) in [
        (["cancel", id], "the job is over"),
        (["show", "0123"], "no job of this id"),
    ] {
        let (done, told) = jobs(&args);
        assert!(!done && told.contains(expected), "{told}");
    }
    let (done, told) = jobs(&["schedules"]);
    assert!(done && told.contains("no plugin has a schedule"), "{told}");
}

#[test]
fn two_servers_share_their_jobs() {
    let Some(store) = Store::mongodb() else {
        return;
    };
    let flags = ["--jobs-lease", "3s", "--jobs-concurrency", "3"];
    let hosts = [store.host(&flags), store.host(&flags)];
    let apis = hosts.each_ref().map(|host| host.server.api());
    let jobs: Vec<Value> = (0..24)
        .map(|n| {
            let body = json!({"args": [format!("shared{n}"), 200]});
            enqueue(&apis[n % 2], "job_sleeps", body)
        })
        .collect();
    for (n, job) in jobs.iter().enumerate() {
        // Whoever is asked.
        let over = becomes(&apis[(n + 1) % 2], job, "succeeded");
        assert_eq!(over["attempts"], 1, "{over}");
        assert_eq!(runs(&apis[0], &format!("shared{n}")).len(), 1);
        assert_eq!(runs(&apis[0], &format!("shared{n} is through")).len(), 1);
    }

    // What runs on one is cancelled on the other, whichever that is.
    let sleeps = enqueue(&apis[0], "job_sleeps", json!({"args": ["asleep", 25_000]}));
    begins(&apis[0], "asleep", 1);
    for api in &apis {
        api.delete(&path(&sleeps)).json();
    }
    becomes(&apis[0], &sleeps, "cancelled");

    // Longer than a lease: it is renewed. Then its host is killed.
    let body = json!({"args": ["moves", 8_000]});
    let moves: Vec<Value> = (0..6)
        .map(|_| enqueue(&apis[0], "job_sleeps", body.clone()))
        .collect();
    begins(&apis[0], "moves", 6);
    std::thread::sleep(Duration::from_millis(4_500));
    assert_eq!(runs(&apis[0], "moves").len(), 6, "nobody took one away");
    let [first, second] = hosts;
    drop(first.server.kill());
    let api = second.server.api();
    let start = Instant::now();
    let mut attempts = Vec::new();
    for job in &moves {
        let over = loop {
            let now = api.get(&path(job)).json();
            if now["state"] == "succeeded" {
                break now;
            }
            assert!(start.elapsed() < 3 * PATIENCE, "{now}");
            std::thread::sleep(Duration::from_millis(50));
        };
        attempts.push(over["attempts"].as_u64().unwrap());
    }
    assert_eq!(runs(&api, "moves is through").len(), 6);
    assert!(attempts.iter().all(|n| (1..=2).contains(n)), "{attempts:?}");
    assert!(
        attempts.contains(&2),
        "the killed host had some: {attempts:?}"
    );
}

#[test]
fn a_server_can_leave_its_jobs_to_others() {
    let Some(store) = Store::mongodb() else {
        return;
    };
    let door = store.host(&["--jobs-concurrency", "0"]);
    let api = door.server.api();
    let job = enqueue(&api, "job_sleeps", json!({"args": ["left", 25_000]}));
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(api.get(&path(&job)).json()["state"], "waiting");
    let worker = store.host(&[]);
    begins(&api, "left", 1);
    // And it is cancelled from where it does not run.
    api.delete(&path(&job)).json();
    becomes(&api, &job, "cancelled");
    drop(worker);
}

#[test]
fn listings_take_what_clients_send_as_text() {
    let host = Store::embedded().host(&[]);
    let api = host.server.api();
    enqueue(&api, "job_record", json!({"args": ["x"]}));
    for function in [r#"{"$ne": null}"#, "$where", "a&b=<c>\r\n"] {
        let listed = api.get(&with_query(JOBS, &[("function", function)]));
        assert_eq!(listed.json(), json!([]), "{function:?}");
    }
}
