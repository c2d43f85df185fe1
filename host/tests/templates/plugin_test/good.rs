//! Everything that a test can say and see; run by `coglex plugin test`.

use std::time::{Duration, Instant, SystemTime};

use coglex_sdk::prelude::*;
use coglex_sdk::testing;

fn add(text: &str) -> Response {
    let note = Request::new("POST", "/api/app-in-rust/notes").with_json(&json!({"text": text}));
    testing::request(note.unwrap())
}

fn count() -> u64 {
    storage::find("notes").count().unwrap()
}

#[test]
fn a_store_is_empty_at_first() {
    assert_eq!(count(), 0);
    assert_eq!(add("a").status_code(), 201);
    assert_eq!(count(), 1);
}

#[test]
fn b_store_is_empty_at_first_again() {
    a_store_is_empty_at_first();
}

#[test]
fn keys_live_by_the_tests_clock() {
    kv::set("key", b"value", Duration::from_secs(60)).unwrap();
    testing::advance(Duration::from_millis(59_999));
    assert!(kv::get("key").unwrap().is_some());
    testing::advance(Duration::from_millis(1));
    assert!(kv::get("key").unwrap().is_none());
}

#[test]
fn time_stands_still_and_sleep_moves_it() {
    let (wall, start) = (SystemTime::now(), Instant::now());
    assert_eq!(SystemTime::now(), wall);
    std::thread::sleep(Duration::from_secs(3600));
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
    assert_eq!(wall.elapsed().unwrap(), Duration::from_secs(3600));
    let birthday = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    testing::set_time(birthday);
    assert_eq!(SystemTime::now(), birthday);
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
}

#[test]
fn users_are_signed_in_until_their_session_is_over() {
    assert!(auth::user("users").unwrap().is_none());
    let id = testing::as_user("users", "ann", &json!({"roles": ["admin"]}));
    let ann = auth::require("users").unwrap();
    assert_eq!((ann.id(), ann.key()), (&id, "ann"));
    assert_eq!(testing::as_user("users", "ann", &json!({})), id);

    let session = || {
        let answer = testing::request(Request::new("GET", "/service/auth/v1/session/users/"));
        testing::read_json::<Value>(&answer).unwrap()
    };
    assert_eq!(session()["_key"], "ann");
    testing::advance(Duration::from_secs(400 * 24 * 60 * 60));
    assert_eq!(session(), Value::Null);
    testing::as_client();
    assert!(auth::user("users").unwrap().is_none() && auth::has_api_key());
}

#[test]
fn guards_and_methods_are_the_servers() {
    testing::as_anonymous();
    assert!(!auth::has_api_key());
    let answer = add("a");
    assert_eq!(answer.status_code(), 401);
    let problem: Value = testing::read_json(&answer).unwrap();
    assert_eq!(problem["code"], "api_key_required");
    let answer = testing::request(Request::new("PUT", "/api/app-in-rust/notes"));
    assert_eq!(answer.status_code(), 405);
    let wrong = Request::new("GET", "/api/app-in-rust/notes").with_header("x-api-key", "wrong");
    testing::as_client();
    assert_eq!(testing::request(wrong).status_code(), 401);
}

#[test]
fn other_servers_answer_what_was_prepared() {
    let url = "https://api.example.com/rates?of=EUR";
    testing::answer("GET", url, Response::json(&json!({"EUR": 1})).unwrap());
    let rates: Value = client::get(url).header("x-own", "1").send().unwrap().json().unwrap();
    assert_eq!(rates, json!({"EUR": 1}));
    assert!(client::post("https://api.example.com/rates").body("x").send().is_err());
    let denied = client::get("https://elsewhere.example/").send().unwrap_err();
    assert!(matches!(denied, Error::AccessDenied(_)), "{denied:?}");

    let sent = testing::sent();
    let seen: Vec<_> = sent.iter().map(|sent| (sent.method(), sent.path())).collect();
    let rates = "https://api.example.com/rates";
    assert_eq!(seen, [("GET", rates), ("POST", rates)]);
    assert_eq!(sent[0].query_string(), Some("of=EUR"));
    assert_eq!(sent[0].header("x-own"), Some("1"));
    assert_eq!(sent[1].body(), b"x");
}

#[test]
fn settings_secrets_and_the_log_are_the_tests() {
    assert_eq!(config::get_as::<u32>("page").unwrap(), None);
    testing::set_setting("page", &20);
    assert_eq!(config::get_as::<u32>("page").unwrap(), Some(20));
    testing::set_secret("token", "t");
    assert_eq!(config::require_secret("token").unwrap().expose(), "t");
    testing::set_secret("other", "o");
    assert!(config::secret("other").is_err(), "it was not granted");

    log::info!("hello"; number = 7);
    let line = testing::logs().pop().unwrap();
    assert_eq!((line.level.as_str(), line.message.as_str()), ("info", "hello"));
    assert_eq!(line.fields, [("number".to_owned(), "7".to_owned())]);
}

#[test]
#[ignore = "on purpose"]
fn ignored() {
    panic!("this is not run");
}
