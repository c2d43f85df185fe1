//! Mail of this server: who takes letters, what they say, and one attempt at sending one
//! of the outbox. How letters are kept until they are sent is the service's
//! (`coglex_services::outbox`), how they are made and handed over `coglex-mail`'s; who
//! calls in here is `crate::jobs`.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use coglex_mail::{Letter, Mailer, SmtpSettings, Templates, TlsMode};
use coglex_services::Outbox;
use coglex_services::jobs::{Job, JobError, Outcome};
use coglex_services::outbox::Posting;
use serde_json::{Map, Value};

use crate::app::AppState;
use crate::config::{Config, MailConfig, MailTls};

/// Letters that are handed over at a time.
pub(crate) const CONCURRENCY: usize = 4;
/// Who sends what is only printed.
const NOBODY: &str = "coglex@localhost.invalid";

/// What is needed to send.
pub struct Mail {
    mailer: Mailer,
    templates: Templates,
    /// What letters call the app.
    app: String,
}

impl Mail {
    /// What the configuration says. Nothing where no SMTP server is set, unless this is
    /// for development: then letters are printed. Fails, naming the setting or the file
    /// and line, if something cannot be used.
    pub fn open(config: &Config, development: bool) -> anyhow::Result<Option<Self>> {
        let mail = &config.mail;
        let mailer = match &mail.host {
            Some(host) => smtp(mail, host)?,
            None if development => Mailer::log(NOBODY).map_err(anyhow::Error::msg)?,
            None => return Ok(None),
        };
        Ok(Some(Self {
            mailer,
            templates: templates(config)?,
            app: app_name(config),
        }))
    }

    /// The letters that there are.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    /// Sends a letter now, outside of the outbox.
    pub async fn send(&self, letter: &Letter, to: &str) -> anyhow::Result<()> {
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).context("there is no randomness")?;
        let id = hex::encode(id);
        let sent = self.mailer.send(letter, to, None, &id);
        sent.await.map_err(anyhow::Error::from)
    }
}

/// The letters of the configured folder and the built-in ones.
pub fn templates(config: &Config) -> anyhow::Result<Templates> {
    Templates::load(Some(&config.mail.templates_dir))
        .context("the mail templates cannot be used (setting mail.templates_dir)")
}

/// What letters call the app.
pub fn app_name(config: &Config) -> String {
    if let Some(name) = &config.mail.app_name {
        return name.clone();
    }
    let host = config.server.public_url.split("://").nth(1);
    let host = host.and_then(|rest| rest.split(['/', ':']).next());
    match host.filter(|host| !host.is_empty()) {
        Some(host) => host.to_owned(),
        None => "Coglex".to_owned(),
    }
}

fn smtp(mail: &MailConfig, host: &str) -> anyhow::Result<Mailer> {
    let from = match (&mail.from, &mail.username) {
        (Some(from), _) => from,
        (None, Some(username)) if coglex_mail::is_address(username) => username,
        (None, _) => bail!("the setting mail.from is missing: the address that letters are from"),
    };
    let tls = match mail.tls {
        MailTls::Auto if mail.port == 465 => TlsMode::Tls,
        MailTls::Auto | MailTls::Starttls => TlsMode::Starttls,
        MailTls::Tls => TlsMode::Tls,
        MailTls::None if is_loopback(host) || mail.insecure => TlsMode::Plain,
        MailTls::None => bail!(
            "the setting mail.tls is none, and {host} is another machine: letters and the password would travel in the clear; mail.insecure = true allows it"
        ),
    };
    let credentials = match (&mail.username, &mail.password) {
        (Some(username), Some(password)) => Some((username.clone(), password.expose().to_owned())),
        (None, None) => None,
        _ => bail!("of the settings mail.username and mail.password one is missing"),
    };
    let settings = SmtpSettings {
        host: host.to_owned(),
        port: mail.port,
        tls,
        credentials,
        authorities: mail.authorities.clone(),
        timeout: mail.timeout,
    };
    Mailer::smtp(from, &settings)
        .map_err(|sentence| anyhow::anyhow!("the settings of mail cannot be used: {sentence}"))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// One attempt at a letter of the outbox.
pub(crate) async fn attempt(state: &AppState, job: &Job) -> Outcome {
    let Some(mail) = &state.mail else {
        // Another host may be able to.
        return Outcome::Retry(JobError::new(
            "mail_not_configured",
            "There is no SMTP server.",
        ));
    };
    let Some(posting) = Outbox::posting(job) else {
        return failed("invalid_letter", "The letter cannot be read.");
    };
    let (to, reply_to, letter) = match posting {
        Posting::Text {
            to,
            subject,
            text,
            html,
            reply_to,
        } => {
            let letter = Letter {
                subject,
                text,
                html,
            };
            (to, reply_to, Ok(letter))
        }
        Posting::Template {
            to,
            template,
            values,
            reply_to,
        } => (to, reply_to, mail.render(&template, values)),
        Posting::Flow(flow) => match state.services.accounts.letter(&flow, &job.id).await {
            Ok(Some(letter)) => {
                let rendered = mail.render(letter.template, letter.values);
                (letter.to, None, rendered)
            }
            // Nobody to send it to, or no use in it any more.
            Ok(None) => return Outcome::Succeeded("false".to_owned()),
            Err(error) => return Outcome::Retry(JobError::new("unavailable", error.to_string())),
        },
    };
    let letter = match letter {
        Ok(letter) => letter,
        Err(error) => return failed("template", &error.to_string()),
    };
    let sent = mail.mailer.send(&letter, &to, reply_to.as_deref(), &job.id);
    match sent.await {
        Ok(()) => Outcome::Succeeded("true".to_owned()),
        Err(error) if error.permanent => failed("refused", &error.to_string()),
        Err(error) => Outcome::Retry(JobError::new("smtp", error.to_string())),
    }
}

impl Mail {
    /// A letter, in which the app's name can be used.
    fn render(
        &self,
        template: &str,
        mut values: Map<String, Value>,
    ) -> Result<Letter, coglex_mail::TemplateError> {
        values.insert("app".to_owned(), self.app.clone().into());
        self.templates.render(template, &Value::Object(values))
    }
}

fn failed(code: &str, message: &str) -> Outcome {
    Outcome::Failed(JobError::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "mail.example.org",
            "localhost.example.org",
            "10.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
