//! For tests that need a server: `coglex plugin test` runs them, each in an
//! instance of its own with a whole server of its own, which has an empty store in
//! memory and a clock that stands still.
//!
//! ```text
//! #[cfg(test)]
//! mod tests {
//!     use super::*;
//!     use coglex_sdk::testing;
//!
//!     #[test]
//!     #[cfg_attr(not(target_family = "wasm"), ignore = "run by `coglex plugin test`")]
//!     fn items_belong_to_who_made_them() {
//!         testing::as_user("users", "ann", &json!({}));
//!         let request = Request::new("POST", "/api/items").with_json(&json!({"title": "Milk"})).unwrap();
//!         assert_eq!(testing::request(request).status_code(), 201);
//!         let stored: Vec<Value> = storage::find("items").all().unwrap();
//!         assert_eq!(stored.len(), 1);
//!
//!         testing::as_anonymous();
//!         assert_eq!(testing::request(Request::new("GET", "/api/items")).status_code(), 401);
//!     }
//! }
//! ```
//!
//! They are ordinary tests, so `cargo test` finds them, too; it has no server, and
//! the attribute has it leave them out.
//!
//! - [`request`] and [`call`] ask the server as a client would: routes with their
//!   guards, schemas and limits, functions, and the whole HTTP API of the server.
//! - [`storage`](crate::storage), [`kv`](crate::kv), [`auth`](crate::auth),
//!   [`config`](crate::config) … called by the test act on the same server, as the
//!   plugin and with what its `coglex.toml` asks for.
//! - What the plugin sends to other servers is not sent: [`answer`] says what it
//!   gets.
//! - Time ([`std::time`], keys with a time to live, sessions) moves when
//!   [`advance`] says so, or somebody sleeps, which is over at once. What the
//!   database itself does by time does not follow.
//!
//! A test that computes or waits for longer than its plugin's budget allows a call
//! is ended, and has failed. No server has what these functions call: a plugin that
//! calls them outside of tests is refused when it is loaded.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bindings::testing::coglex::testing::host as wit;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::request::Request;
use crate::response::Response;

/// Sets the clock, to the millisecond. What was measured with
/// [`Instant`](std::time::Instant) goes on: that clock never steps back.
pub fn set_time(time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    wit::set_time(millis(since.unwrap_or_default()));
}

/// Moves the clock on, by whole milliseconds.
pub fn advance(time: Duration) {
    wit::advance(millis(time));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// From here on the test is the holder of the API key, with nobody signed in. So
/// every test begins.
pub fn as_client() {
    wit::as_client();
}

/// From here on the test is nobody: without the API key, without a session.
pub fn as_anonymous() {
    wit::as_anonymous();
}

/// From here on a user of this collection is signed in, and the API key is there
/// as well. They are made if there is none with this key, with `document` as what
/// else is known of them (`{"roles": ["admin"]}`). Answers with their `_id`.
///
/// # Panics
///
/// When there can be no such user, such as for a key that is empty.
pub fn as_user<T: Serialize + ?Sized>(collection: &str, key: &str, document: &T) -> Id {
    let id = serde_json::to_string(document)
        .map_err(Error::from)
        .and_then(|document| {
            let id = wit::as_user(collection, key, &document);
            Ok(serde_json::from_str(&id)?)
        });
    sound(id)
}

/// Asks the server under test as a client would. Who asks is what [`as_user`] and
/// its like have said; a credential among the headers takes its place.
#[must_use]
pub fn request(request: Request) -> Response {
    let target = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path,
    };
    let answer = wit::send(&wit::Request {
        method: request.method,
        target,
        headers: request.headers,
        body: request.body,
    });
    Response {
        status: answer.status,
        headers: answer.headers,
        body: answer.body,
    }
}

/// Calls a function as a client would: `args` is a list, `kwargs` an object. Any
/// other answer than 200 is an error: its status, `code` and `detail`.
///
/// ```no_run
/// # use coglex_sdk::{prelude::*, testing};
/// let greeting: String = testing::call("greet", &json!(["Ann"]), &json!({"greeting": "Hi"}))?;
/// assert_eq!(greeting, "Hi, Ann!");
/// # Ok::<(), Error>(())
/// ```
pub fn call<T: DeserializeOwned>(function: &str, args: &Value, kwargs: &Value) -> Result<T> {
    let path = format!("/service/execution/v1/execute/{function}/");
    let body = json!({"args": args, "kwargs": kwargs});
    let answer = request(Request::new("POST", &path).with_json(&body)?);
    if answer.status_code() == 200 {
        return read_json(&answer);
    }
    let problem: Value = read_json(&answer)?;
    let text = |name: &str| {
        problem
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let problem = crate::Problem::new(answer.status_code(), text("detail"));
    Err(problem.code(text("code").to_owned()).into())
}

/// The body of an answer as JSON.
pub fn read_json<T: DeserializeOwned>(response: &Response) -> Result<T> {
    Ok(serde_json::from_slice(response.body())?)
}

/// Prepares the answer to a request that the plugin sends to another server. It
/// is given once, in the order of preparation; the last one for a method and URL
/// is given again and again. The grant for the origin is needed all the same. What
/// no answer was prepared for is not sent, and fails as
/// [`Error::Unavailable`].
///
/// ```no_run
/// # use coglex_sdk::{prelude::*, testing};
/// let rates = Response::json(&json!({"EUR": 1.0}))?;
/// testing::answer("GET", "https://api.example.com/rates", rates);
/// # Ok::<(), Error>(())
/// ```
pub fn answer(method: &str, url: &str, response: Response) {
    let response = wit::Response {
        status: response.status,
        headers: response.headers,
        body: response.body,
    };
    wit::answer(method, url, &response);
}

/// The requests to other servers that were made so far, oldest first, those
/// without an answer included. Their [`path`](Request::path) is the whole URL
/// without the query.
#[must_use]
pub fn sent() -> Vec<Request> {
    let sent = wit::sent().into_iter().map(|request| {
        let made = Request::new(request.method, &request.target).with_body(request.body);
        let headers = request.headers.into_iter();
        headers.fold(made, |made, (name, value)| made.with_header(&name, value))
    });
    sent.collect()
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// `error`, `warn`, `info`, `debug` or `trace`. What the plugin prints is
    /// `info`, on standard error `warn`.
    pub level: String,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// The lines that plugin and test have logged so far, oldest first, and what the
/// plugin has printed.
#[must_use]
pub fn logs() -> Vec<LogLine> {
    let lines = wit::logs().into_iter().map(|line| LogLine {
        level: line.level,
        message: line.message,
        fields: line.fields,
    });
    lines.collect()
}

/// Sets what [`config`](crate::config) has as the setting of this name: a text as
/// it is, anything else as JSON.
///
/// # Panics
///
/// When the value cannot be JSON.
pub fn set_setting<T: Serialize + ?Sized>(name: &str, value: &T) {
    let text = match sound(serde_json::to_value(value).map_err(Error::from)) {
        Value::String(text) => text,
        value => value.to_string(),
    };
    wit::set_setting(name, &text);
}

/// Sets what [`config`](crate::config) has as the secret of this name. The grant is
/// needed all the same.
pub fn set_secret(name: &str, value: &str) {
    wit::set_secret(name, value);
}

/// A mistake in a test ends it.
#[track_caller]
fn sound<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
