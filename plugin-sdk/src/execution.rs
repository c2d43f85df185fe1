//! Calling functions, of other plugins and of this one, and which call this is.
//!
//! A plugin calls those that it was granted; it asks for them in its
//! `coglex.toml`:
//!
//! ```toml
//! [grants]
//! functions = ["send_invoice"]
//! ```
//!
//! The function runs in an instance of its own, with its own plugin's grants, and
//! what it spends is spent from this call's budget, too.

use std::cell::RefCell;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::capabilities::coglex::execution::calls as wit;
use crate::error::{Error, Problem, Result};

/// Calls a function with positional arguments, a list or tuple, and waits for its
/// result.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let greeting: String = execution::call("greet", ("Ann",))?;
/// # Ok(()) }
/// ```
///
/// A failure of the function's own becomes this one's: a [`Problem`] with its
/// code and message. To answer otherwise, match on it.
pub fn call<T: DeserializeOwned>(function: &str, args: impl Serialize) -> Result<T> {
    call_with(function, args, serde_json::json!({}))
}

/// Calls a function with positional and named arguments.
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn main() -> Result<()> {
/// let greeting: String = execution::call_with("greet", ["Ann"], json!({"greeting": "Hi"}))?;
/// # Ok(()) }
/// ```
pub fn call_with<T: DeserializeOwned>(
    function: &str,
    args: impl Serialize,
    kwargs: impl Serialize,
) -> Result<T> {
    let (args, kwargs) = (args_json(args)?, serde_json::to_string(&kwargs)?);
    let result = wit::call(function, &args, &kwargs)?;
    result_of(function, &result)
}

/// Positional arguments as JSON.
pub(crate) fn args_json(args: impl Serialize) -> Result<String> {
    Ok(match serde_json::to_string(&args)? {
        // `()` stands for no arguments.
        null if null == "null" => "[]".to_owned(),
        args => args,
    })
}

/// What a function has answered.
pub(crate) fn result_of<T: DeserializeOwned>(function: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        Error::Mismatch(format!(
            "the result of `{function}` does not fit the type: {error}"
        ))
    })
}

thread_local! {
    /// The call that this instance runs.
    static INVOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The id of the call that is run, 32 hex digits; nothing outside of functions, and
/// in tests without a server. It needs no grant.
///
/// A function that is run as a job may be run again, when its server has ended
/// before it was through: then the id is the same. Who writes under it does the work
/// once:
///
/// ```no_run
/// # use coglex_sdk::prelude::*;
/// # fn charge() -> Result<()> {
/// let charge = json!({"_id": execution::invocation_id(), "total": 3});
/// match storage::insert("charges", &charge) {
///     Ok(_) => { /* the first time: charge */ }
///     Err(Error::Conflict(_)) => return Ok(()),
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
pub fn invocation_id() -> Option<String> {
    INVOCATION.with_borrow(Clone::clone)
}

/// Notes the call that this instance runs.
pub(crate) fn begin(invocation: String) {
    INVOCATION.set(Some(invocation));
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::AccessDenied(text) => Self::AccessDenied(text),
            wit::Error::NotFound(text) | wit::Error::Invalid(text) => Self::Invalid(text),
            wit::Error::Failure(failure) => {
                Problem::new(422, failure.message).code(failure.code).into()
            }
            wit::Error::Trapped => Self::other("the function that was called failed"),
            wit::Error::Deadline => Self::Timeout,
            wit::Error::Overloaded | wit::Error::Unavailable => Self::Unavailable,
        }
    }
}
