//! `coglex:execution`: calling functions that were granted.

use coglex_services::Caller;

use crate::bindings::execution::calls::{Error, Failure, Host};
use crate::error::CallError;
use crate::nested::{MAX_DEPTH, NestedError};
use crate::state::InstanceState;

impl Host for InstanceState {
    async fn call(
        &mut self,
        function: String,
        args: String,
        kwargs: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        self.charge(function.len() + args.len() + kwargs.len())?;
        let granted = match &self.shared.caller {
            Caller::Plugin(plugin) => plugin.grants.allows_function(&function),
            Caller::ApiKey | Caller::Key(_) | Caller::User(_) => false,
        };
        if !granted {
            return Ok(Err(Error::AccessDenied(format!(
                "the plugin `{}` was not granted the function `{}`",
                self.shared.name,
                function.get(..64).unwrap_or(&function)
            ))));
        }
        let answer = self.call_function(function, args, kwargs).await;
        Ok(match answer {
            Ok(Ok(json)) => {
                self.carry(json.len())?;
                Ok(json)
            }
            Ok(Err(failure)) => {
                self.carry(failure.code.len() + failure.message.len())?;
                Err(Error::Failure(Failure {
                    code: failure.code,
                    message: failure.message,
                }))
            }
            Err(NestedError::TooDeep) => Err(Error::AccessDenied(format!(
                "calls nest at most {MAX_DEPTH} deep"
            ))),
            Err(NestedError::NotFound) => {
                Err(Error::NotFound("there is no function of this name".into()))
            }
            Err(NestedError::Invalid(why)) => Err(Error::Invalid(why.to_owned())),
            Err(NestedError::Call(error)) => Err(refusal(error)),
        })
    }
}

fn refusal(error: CallError) -> Error {
    match error {
        CallError::Trapped | CallError::InvalidResponse(_) => Error::Trapped,
        CallError::Deadline => Error::Deadline,
        CallError::Overloaded { .. } => Error::Overloaded,
        CallError::InvalidRequest(why) | CallError::NotJson(why) => Error::Invalid(why),
        CallError::Mismatch(mismatches) => Error::Invalid(match mismatches.first() {
            Some(first) => format!("the call does not fit at {}: {}", first.path, first.detail),
            None => "the call does not fit".to_owned(),
        }),
        CallError::PayloadTooLarge => Error::Invalid("the arguments are too large".to_owned()),
        CallError::Unavailable => Error::Unavailable,
    }
}
