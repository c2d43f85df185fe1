//! One attempt at a job: the call of its function, and what came of it.

use coglex_runtime::{CallContext, CallError, Plugin};
use coglex_services::caller::Credentials;
use coglex_services::jobs::{Job, JobError, Outcome, Source};
use serde::de::IgnoredAny;

use crate::app::AppState;

/// Calls the job's function. The invocation id is the job's, the same in every
/// attempt, so that a function can tell that it has done its work already.
pub(super) async fn run(state: &AppState, job: &Job) -> Outcome {
    let function = &job.function;
    let found = state.plugins.function(function);
    // Where a plugin has said what is to be run, another's function of the same name is
    // not what it meant.
    let meant = |plugin: &Plugin| job.plugin.as_ref().is_none_or(|own| own == plugin.name());
    let Some(plugin) = found.filter(meant) else {
        // Its plugin may come back, or serve on another host: it may be replaced or
        // disabled just now.
        return Outcome::Absent(JobError::new(
            "not_found",
            match &job.plugin {
                Some(plugin) => format!("The plugin `{plugin}` has no function of this name now."),
                None => "There is no function of this name now.".to_owned(),
            },
        ));
    };
    let context = CallContext {
        request_id: format!("job-{}", job.id),
        credentials: Credentials {
            // A client that enqueued it had the key. Nobody is signed in.
            api_key: job.source == Source::Api,
            ..Credentials::default()
        },
        invocation: Some(job.id.clone()),
        hook_depth: job.depth,
        ..CallContext::default()
    };
    let (args, kwargs) = (job.args.clone(), job.kwargs.clone());
    match plugin.run(function, args, kwargs, context).await {
        Ok(Ok(json)) if serde_json::from_str::<IgnoredAny>(&json).is_ok() => {
            Outcome::Succeeded(json)
        }
        Ok(Ok(_)) => Outcome::Retry(JobError::new(
            "function_invalid_result",
            "The function returned something that is not JSON.",
        )),
        Ok(Err(failure)) => Outcome::Failed(JobError::new(failure.code, failure.message)),
        Err(error) => refused(error),
    }
}

/// What a call that did not come to an end means: whether another may, and what
/// people are told. The runtime has logged the cause.
fn refused(error: CallError) -> Outcome {
    let retry = |code, message| Outcome::Retry(JobError::new(code, message));
    let failed = |code: &str, message: String| Outcome::Failed(JobError::new(code, message));
    match error {
        CallError::Trapped => retry(
            "function_trapped",
            "The code failed. The log has the details under the job's id.",
        ),
        CallError::Deadline => retry("function_deadline", "The code used up its time budget."),
        CallError::InvalidResponse(_) => retry(
            "function_invalid_response",
            "The code gave an answer that cannot be kept. The log has the details.",
        ),
        CallError::Unavailable => retry(
            "function_unavailable",
            "Something that the code needs cannot be reached now.",
        ),
        CallError::Overloaded { .. } => Outcome::Postponed(JobError::new(
            "function_overloaded",
            "Too many calls are running.",
        )),
        // The same arguments will not fit any better.
        CallError::Mismatch(mismatches) => {
            let first = mismatches.first();
            let place = first.map_or_else(String::new, |first| {
                format!(": {} {}", first.path, first.detail)
            });
            failed(
                "input_mismatch",
                format!("The arguments do not fit the function's schema{place}"),
            )
        }
        CallError::InvalidRequest(why) | CallError::NotJson(why) => failed("invalid_request", why),
        CallError::PayloadTooLarge => failed(
            "payload_too_large",
            "The arguments are larger than the function takes.".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        for error in [
            CallError::Trapped,
            CallError::Deadline,
            CallError::Unavailable,
            CallError::InvalidResponse(String::new()),
        ] {
            let outcome = refused(error.clone());
            assert!(matches!(outcome, Outcome::Retry(_)), "{error:?}");
        }
        let busy = CallError::Overloaded {
            retry_after: Duration::from_secs(1),
        };
        assert!(matches!(refused(busy), Outcome::Postponed(_)));
        for error in [
            CallError::Mismatch(Vec::new()),
            CallError::InvalidRequest(String::new()),
            CallError::PayloadTooLarge,
        ] {
            let outcome = refused(error.clone());
            assert!(matches!(outcome, Outcome::Failed(_)), "{error:?}");
        }
    }
}
