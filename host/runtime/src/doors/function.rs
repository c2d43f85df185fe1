//! The door for functions: JSON in, JSON or the function's own failure out.

use std::sync::Arc;

use wasmtime::component::InstancePre;

use super::{invalid, run};
use crate::bindings::function::functions::{Call, Error, GuestIndices};
use crate::describe::FunctionInfo;
use crate::error::CallError;
use crate::plugin::{CallContext, Shared};
use crate::schema::Schema;
use crate::state::{InstanceState, Phase, Watch, store};

const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 4 * 1024;

/// A function's own failure, for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable, snake_case.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// Checks what a function is called with against the schemas that it declares.
/// Where something does not fit, the pointers lead into `{"args": …, "kwargs": …}`.
pub(crate) async fn check(
    info: &FunctionInfo,
    args: String,
    kwargs: String,
) -> Result<(String, String), CallError> {
    let args = fits(info.args.as_ref(), "/args", args).await?;
    let kwargs = fits(info.kwargs.as_ref(), "/kwargs", kwargs).await?;
    Ok((args, kwargs))
}

async fn fits(schema: Option<&Schema>, at: &str, text: String) -> Result<String, CallError> {
    let Some(schema) = schema else {
        return Ok(text);
    };
    let (bytes, checked) = schema.check_body(text.into_bytes()).await;
    match checked {
        // It came in as text.
        Ok(()) => String::from_utf8(bytes).map_err(|_| CallError::Unavailable),
        Err(CallError::Mismatch(mut mismatches)) => {
            for mismatch in &mut mismatches {
                mismatch.path.insert_str(0, at);
            }
            Err(CallError::Mismatch(mismatches))
        }
        Err(error) => Err(error),
    }
}

/// Runs a function. The answer is the guest's text, of bounded size; whether it
/// is JSON is for the caller to check as it passes it on.
pub(crate) async fn call(
    shared: &Arc<Shared>,
    pre: &InstancePre<InstanceState>,
    door: &GuestIndices,
    name: &str,
    args: String,
    kwargs: String,
    context: CallContext,
) -> Result<Result<String, Failure>, CallError> {
    let place = shared.admission.enter().await?;
    let answer = call_in(shared, pre, door, name, args, kwargs, context).await;
    drop(place);
    answer
}

/// The same for who has a place.
pub(crate) async fn call_in(
    shared: &Arc<Shared>,
    pre: &InstancePre<InstanceState>,
    door: &GuestIndices,
    name: &str,
    args: String,
    kwargs: String,
    context: CallContext,
) -> Result<Result<String, Failure>, CallError> {
    let call = Call {
        name: name.to_owned(),
        args,
        kwargs,
        invocation_id: match context.invocation.clone() {
            Some(id) => id,
            None => invocation_id()?,
        },
    };
    let budget = &shared.budget;
    let (mut store, watch) = store(pre.engine(), shared, Phase::Serve, budget, context);
    let answer = run(shared, &watch, budget.wall, async {
        let instance = pre.instantiate_async(&mut store).await?;
        door.load(&mut store, &instance)?
            .call_run(&mut store, &call)
            .await
    })
    .await?;
    drop(store);
    conclude(shared, &watch, name, budget.response_bytes, answer)
}

/// What a function's answer means for whoever called it.
pub(crate) fn conclude(
    shared: &Shared,
    watch: &Watch,
    name: &str,
    limit: usize,
    answer: Result<String, Error>,
) -> Result<Result<String, Failure>, CallError> {
    match answer {
        Ok(json) if json.len() > limit => Err(invalid(
            shared,
            watch,
            format!(
                "its result has {} bytes, more than the {limit} of the budget",
                json.len()
            ),
        )),
        Ok(json) => Ok(Ok(json)),
        Err(Error::Failure(failure)) => Ok(Err(presentable(failure.code, failure.message))),
        Err(Error::Unavailable) => Err(CallError::Unavailable),
        Err(Error::Internal(mut why)) => {
            why.truncate(why.floor_char_boundary(MAX_MESSAGE));
            tracing::error!(
                plugin.name = &*shared.name,
                request.id = &*watch.request_id,
                function = name,
                "the function failed: {why}"
            );
            Err(CallError::Trapped)
        }
    }
}

/// The request's id will not do: a client can choose that.
pub(crate) fn invocation_id() -> Result<String, CallError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        CallError::Unavailable
    })?;
    Ok(hex::encode(bytes))
}

/// A failure as a client may see it: a code that is one, a message of some
/// length.
fn presentable(code: String, mut message: String) -> Failure {
    let is_code = !code.is_empty()
        && code.len() <= MAX_CODE
        && code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    Failure {
        code: if is_code { code } else { "failed".to_owned() },
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_code_that_programs_can_match_on() {
        let code = |code: &str| presentable(code.to_owned(), String::new()).code;
        assert_eq!(code("not_found"), "not_found");
        assert_eq!(code("Not Found"), "failed");
        assert_eq!(code(""), "failed");
        assert_eq!(code(&"a".repeat(65)), "failed");
        let long = presentable("a".to_owned(), "ü".repeat(MAX_MESSAGE));
        assert_eq!(long.message.len(), MAX_MESSAGE);
    }
}
