//! Schedules: functions that plugins have run by the clock. The shortest is a
//! minute, so the test of two servers takes one; what was missed is told to the
//! store while no server runs.

use std::time::{Duration, Instant};

use bson::{DateTime, doc};
use coglex_docstore::model::{Change, Update};
use coglex_docstore::{Options, Store as Documents};
use serde_json::{Value, json};

use crate::guests::{Host, component};
use crate::jobs::Store;
use crate::support::{ADMIN_KEY, Client, PATIENCE, coglex};

const ALLOW: &str = r#"
[plugins.allow.fixture-schedules]
storage = [{ collection = "runs", verbs = ["read", "insert"] }]
"#;

const SCHEDULES: &str = "/admin/v1/schedules/";

fn host(store: &Store) -> Host {
    let flags = store.flags(&[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Host::flags(&["fixture-schedules"], ALLOW, &flags)
}

/// The schedules once all of them are followed.
#[track_caller]
fn followed(admin: &Client, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let listed: Vec<Value> = serde_json::from_value(admin.get(SCHEDULES).json()).unwrap();
        let known = listed.iter().filter(|one| one["last"].is_string()).count();
        if known == count && listed.len() == count {
            return listed;
        }
        assert!(start.elapsed() < PATIENCE, "{listed:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn jobs(api: &Client, function: &str) -> Vec<Value> {
    let found = api.find(
        "/service/execution/v1/jobs/",
        &[("function", function), ("limit", "1000")],
    );
    serde_json::from_value(found.json()).unwrap()
}

#[test]
fn schedules_are_shown_and_go_with_their_plugin() {
    let host = host(&Store::embedded());
    let admin = host.server.admin();
    let listed = followed(&admin, 3);
    let shown = |one: &Value| {
        json!([
            one["plugin"],
            one["function"],
            one["cron"],
            one["args"],
            one["kwargs"]
        ])
    };
    assert_eq!(
        listed.iter().map(shown).collect::<Vec<_>>(),
        [
            json!(["fixture-schedules", "schedule_tick", "* * * * *", [], {"label": "tick"}]),
            json!([
                "fixture-schedules",
                "schedule_yearly",
                "0 0 1 1 *",
                ["new year"],
                {}
            ]),
            json!([
                "fixture-schedules",
                "schedule_yearly",
                "0 12 1 7 *",
                ["half a year"],
                {}
            ]),
        ]
    );
    let next = listed[1]["next"].as_str().unwrap();
    assert!(next.ends_with("-01-01T00:00:00Z"), "{next}");
    // Nothing was missed before it was there.
    assert_eq!(
        jobs(&host.server.api(), "schedule_yearly"),
        [] as [Value; 0]
    );
    host.server
        .api()
        .get(SCHEDULES)
        .problem(401, "admin_key_required");

    let inspect = coglex(host.server.dir.path())
        .args(["plugin", "inspect", "fixture-schedules"])
        .args(["--server", &host.server.url])
        .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
        .output()
        .unwrap();
    let told = String::from_utf8(inspect.stdout).unwrap();
    assert!(told.contains("0 12 1 7 *"), "{told}");

    host.remove("fixture-schedules");
    followed(&admin, 0);
    host.deploy("fixture-schedules", &component("fixture-schedules"));
    assert_eq!(followed(&admin, 3)[1]["last"], listed[1]["last"]);
}

#[test]
fn what_was_missed_is_made_up_once() {
    let host = host(&Store::embedded());
    followed(&host.server.admin(), 3);
    let dir = host.server.kill();

    // As if the server had been away since then.
    let last = DateTime::parse_rfc3339_str("2020-03-01T00:00:00Z").unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let path = dir.path().join("coglex-data/documents.db");
        let store = Documents::open(&path, Options::default()).unwrap();
        let update = Update {
            filter: doc! { "name": "fixture-schedules/schedule_yearly 0 0 1 1 *" },
            change: Change::Operators(doc! { "$set": { "last": last } }),
            many: false,
            upsert: false,
            array_filters: Vec::new(),
        };
        let outcome = store.update("_coglex_schedules", update).await.unwrap();
        assert_eq!(outcome.modified, 1);
        store.close().await;
    });

    let mut dir = dir;
    for start in 0..2 {
        let host = Host::start(dir, &[]);
        let api = host.server.api();
        let begun = Instant::now();
        while jobs(&api, "schedule_yearly")
            .first()
            .is_none_or(|job| job["state"] != "succeeded")
        {
            assert!(begun.elapsed() < PATIENCE, "the missed run is not made up");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Several looks of the scheduler.
        std::thread::sleep(Duration::from_millis(2_500));
        let made = jobs(&api, "schedule_yearly");
        assert_eq!(made.len(), 1, "start {start}: one for all the years");
        assert_eq!(made[0]["source"], "schedule");
        let runs = crate::jobs::runs(&api, "new year");
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0]["api_key"], false, "nobody has asked");
        let id = made[0]["id"].as_str().unwrap();
        assert_eq!(runs[0]["request"], format!("job-{id}"));
        dir = host.server.kill();
    }
}

fn every_due_run_is_made_once(hosts: &[Host]) {
    let api = hosts[0].server.api();
    for host in hosts {
        followed(&host.server.admin(), 3);
    }
    let start = Instant::now();
    while crate::jobs::runs(&api, "tick").is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "no minute begins"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(2_500));
    let made = jobs(&api, "schedule_tick");
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(crate::jobs::runs(&api, "tick").len(), 1);
    let created = made[0]["created"]["$date"].as_str().unwrap();
    assert_eq!(&created[16..19], ":00", "within the second: {created}");
}

#[test]
fn one_server_makes_each_due_run_once() {
    every_due_run_is_made_once(&[host(&Store::embedded())]);
}

#[test]
fn two_servers_make_each_due_run_once() {
    let Some(store) = Store::mongodb() else {
        return;
    };
    every_due_run_is_made_once(&[host(&store), host(&store)]);
}
