//! `coglex:mail`: letters of a plugin, into the server's outbox.

use coglex_services::Error as ServiceError;
use coglex_services::outbox::{PostError, Posting};
use serde_json::{Map, Value};

use crate::bindings::mail::outbox::{Error, Host, Letter, Options};
use crate::state::InstanceState;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for InstanceState {
    async fn send(&mut self, to: String, letter: Letter, options: Options) -> Answer<String> {
        let html = letter.html.as_ref().map_or(0, String::len);
        self.charge(to.len() + letter.subject.len() + letter.text.len() + html)?;
        let posting = Posting::Text {
            to,
            subject: letter.subject,
            text: letter.text,
            html: letter.html,
            reply_to: options.reply_to,
        };
        Ok(self.post(posting, options.key.as_deref()).await)
    }

    async fn send_template(
        &mut self,
        to: String,
        template: String,
        values: String,
        options: Options,
    ) -> Answer<String> {
        self.charge(to.len() + template.len() + values.len())?;
        let Ok(values) = serde_json::from_str::<Map<String, Value>>(&values) else {
            return Ok(Err(Error::Invalid(
                "the values are no JSON object".to_owned(),
            )));
        };
        let posting = Posting::Template {
            to,
            template,
            values,
            reply_to: options.reply_to,
        };
        Ok(self.post(posting, options.key.as_deref()).await)
    }
}

impl InstanceState {
    async fn post(&mut self, posting: Posting, key: Option<&str>) -> Result<String, Error> {
        let outbox = &self.shared.services.outbox;
        let posted = outbox.post_for(&self.shared.caller, posting, key).await;
        posted.map_err(|error| match error {
            PostError::Invalid(why) => Error::Invalid(why),
            PostError::Denied => Error::AccessDenied(error.to_string()),
            PostError::NoTemplate => Error::NotFound(error.to_string()),
            PostError::TooLarge => Error::TooLarge(error.to_string()),
            PostError::Quota => Error::Quota,
            PostError::NotConfigured => Error::NotConfigured,
            PostError::Service(ServiceError::Overloaded { .. }) => Error::Overloaded,
            PostError::Service(error) => {
                self.log_failure(&error);
                Error::Unavailable
            }
        })
    }
}
