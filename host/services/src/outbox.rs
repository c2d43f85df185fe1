//! What is to be sent by mail, kept until it is. Account flows and plugins put letters
//! in; the host's worker takes them out, makes them of templates and hands them to an
//! SMTP server (`coglex-mail`), of which nothing is known here.
//!
//! A letter in the outbox is a job ([`Jobs`], in a collection of its own): many hosts
//! send it once between them, it is tried again while the server is away, and what can
//! never be sent is kept for a while to be looked at. At least once is what that gives.
//!
//! Letters with links and codes are kept as the wish for one alone: who it is for, and
//! whether there is such a user at all, is found out when it is sent. So a request costs
//! the same whether or not there is, and no link or code is ever at rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::DateTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::accounts::{FlowLetter, is_address};
use crate::caller::{Caller, PluginCaller};
use crate::error::{Error, Result};
use crate::jobs::{Job, JobSettings, Jobs, NewJob, Source};
use crate::storage::DocumentStore;

/// Where letters are kept.
const COLLECTION: &str = "_coglex_mail";
/// Letters that are not sent yet; past it no more are taken in.
const MAX_WAITING: u64 = 10_000;
/// Tries of a letter: with the waits between them some six hours.
const ATTEMPTS: u32 = 30;
/// Tries of a letter that is of use for minutes only.
const URGENT_ATTEMPTS: u32 = 8;

/// Letters of one plugin within an hour, unless the operator says.
const PLUGIN_QUOTA: u64 = 100;
/// Bytes of a plugin's letter, or of the values of one.
const MAX_LETTER: usize = 256 * 1024;
/// Bytes of a subject, as `coglex-mail` takes them.
const MAX_SUBJECT: usize = 500;
/// Bytes of a letter's key.
const MAX_KEY: usize = 256;
/// Templates that only the server itself fills in: their letters look official.
const OWN_TEMPLATES: [&str; 7] = [
    "layout",
    "verify",
    "reset",
    "password-changed",
    "email-change",
    "email-changed",
    "code",
];

const HOUR_MS: i64 = 3_600_000;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A letter that is to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Posting {
    /// What an account flow wants sent, if there is such a user.
    Flow(FlowLetter),
    /// A template, with values.
    Template {
        /// The reader's address.
        to: String,
        /// The template's name.
        template: String,
        /// What is filled in.
        values: Map<String, Value>,
        /// Who gets the answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<String>,
    },
    /// A letter that is written already.
    Text {
        /// The reader's address.
        to: String,
        /// One line.
        subject: String,
        /// The plain text.
        text: String,
        /// The same as HTML.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        html: Option<String>,
        /// Who gets the answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<String>,
    },
}

/// Why a plugin's letter was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Something of it is not good.
    #[error("{0}")]
    Invalid(String),
    /// Nobody has granted the address.
    #[error("the plugin was not granted mail to this address")]
    Denied,
    /// There is no such template for plugins.
    #[error("there is no mail template of this name for plugins")]
    NoTemplate,
    /// It is too large.
    #[error("a letter has at most {MAX_LETTER} bytes")]
    TooLarge,
    /// The plugin has sent enough for an hour.
    #[error("the plugin has sent as many letters as it may within an hour")]
    Quota,
    /// Mail cannot be sent here.
    #[error("the server has no mail server")]
    NotConfigured,
    /// The outbox did not take it.
    #[error(transparent)]
    Service(#[from] Error),
}

/// The service, cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    jobs: Jobs,
    is_on: bool,
    templates: Arc<BTreeSet<String>>,
    quota: u64,
}

impl Outbox {
    /// The outbox of this store. One that is not on takes nothing in.
    pub fn new(store: Arc<dyn DocumentStore>, lease: Duration, is_on: bool) -> Self {
        let settings = JobSettings {
            queue: MAX_WAITING,
            lease,
            max_attempts: ATTEMPTS,
            retry_base: Duration::from_secs(5),
            retry_max: 15 * MINUTE,
            function_wait: Duration::ZERO,
            retention: DAY,
            dead_retention: 7 * DAY,
            result_bytes: 1024,
        };
        Self {
            jobs: Jobs::in_collection(store, settings, COLLECTION),
            is_on,
            templates: Arc::default(),
            quota: PLUGIN_QUOTA,
        }
    }

    /// The same for plugins: the templates that there are, and how many letters one of
    /// them sends within an hour.
    #[must_use]
    pub fn for_plugins(self, templates: impl IntoIterator<Item = String>, quota: u64) -> Self {
        Self {
            templates: Arc::new(templates.into_iter().collect()),
            quota,
            ..self
        }
    }

    /// Takes in a letter of a plugin's code. Answers with its id.
    pub async fn post_for(
        &self,
        caller: &Caller,
        posting: Posting,
        key: Option<&str>,
    ) -> Result<String, PostError> {
        let Caller::Plugin(plugin) = caller else {
            return Err(PostError::Denied);
        };
        if !self.is_on {
            return Err(PostError::NotConfigured);
        }
        self.check(plugin, &posting)?;
        let unique = match key {
            Some(key) if key.is_empty() || key.len() > MAX_KEY => {
                return Err(PostError::Invalid(format!(
                    "a key has 1 to {MAX_KEY} bytes"
                )));
            }
            Some(key) => Some(vec!["mail".to_owned(), plugin.name.clone(), key.to_owned()]),
            None => None,
        };
        let since = DateTime::from_millis(DateTime::now().timestamp_millis() - HOUR_MS);
        if self.jobs.enqueued_since(&plugin.name, since).await? >= self.quota {
            return Err(PostError::Quota);
        }
        let kwargs =
            serde_json::to_string(&posting).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let new = NewJob {
            kwargs,
            owner: Some(plugin.name.clone()),
            unique,
            ..NewJob::new(format!("plugin {}", plugin.name), Source::Plugin)
        };
        Ok(self.jobs.enqueue(new).await?.id)
    }

    fn check(&self, plugin: &PluginCaller, posting: &Posting) -> Result<(), PostError> {
        let invalid = |why: &str| Err(PostError::Invalid(why.to_owned()));
        let (to, reply_to, bytes) = match posting {
            Posting::Flow(_) => return invalid("the letter is the server's own"),
            Posting::Template {
                to,
                template,
                values,
                reply_to,
            } => {
                let is_own = OWN_TEMPLATES.contains(&template.as_str());
                if is_own || !self.templates.contains(template) {
                    return Err(PostError::NoTemplate);
                }
                let values = serde_json::to_vec(values).map_or(usize::MAX, |text| text.len());
                (to, reply_to, values)
            }
            Posting::Text {
                to,
                subject,
                text,
                html,
                reply_to,
            } => {
                if subject.len() > MAX_SUBJECT || subject.contains(char::is_control) {
                    return invalid("the subject is not one short line");
                }
                let html = html.as_ref().map_or(0, String::len);
                (to, reply_to, text.len().saturating_add(html))
            }
        };
        if bytes > MAX_LETTER {
            return Err(PostError::TooLarge);
        }
        if !is_address(to) {
            return invalid("there is no such address");
        }
        if reply_to
            .as_deref()
            .is_some_and(|address| !is_address(address))
        {
            return invalid("the address for answers is none");
        }
        match plugin.grants.allows_mail(to) {
            true => Ok(()),
            // The address is the plugin's to know, not the log's.
            false => Err(PostError::Denied),
        }
    }

    /// Whether letters are taken in.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The letters, for those who send them and for operators.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Takes a letter in. It is kept when this answers. Letters of one `line` are sent
    /// in their order, and lines take turns; `owner` is the plugin that wants it.
    pub(crate) async fn post(
        &self,
        line: &str,
        owner: Option<&str>,
        posting: &Posting,
    ) -> Result<String> {
        self.check_on()?;
        let kwargs =
            serde_json::to_string(posting).map_err(|error| Error::Unavailable(Box::new(error)))?;
        let urgent = matches!(posting, Posting::Flow(letter) if letter.is_urgent());
        let new = NewJob {
            kwargs,
            owner: owner.map(str::to_owned),
            max_attempts: Some(if urgent { URGENT_ATTEMPTS } else { ATTEMPTS }),
            ..NewJob::new(line, Source::Plugin)
        };
        Ok(self.jobs.enqueue(new).await?.id)
    }

    /// `MailUnavailable` where no mail can be sent.
    pub(crate) fn check_on(&self) -> Result<()> {
        match self.is_on {
            true => Ok(()),
            false => Err(Error::MailUnavailable),
        }
    }

    /// The letter that a job is; nothing if it is none.
    pub fn posting(job: &Job) -> Option<Posting> {
        serde_json::from_str(&job.kwargs).ok()
    }
}
