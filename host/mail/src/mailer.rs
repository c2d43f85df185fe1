//! Who takes letters: an SMTP server, or the log while somebody develops.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::response::Severity;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::letter::Letter;

/// Connections that are kept to the server.
const CONNECTIONS: u32 = 4;
/// For how long an idle one is.
const IDLE: Duration = Duration::from_secs(30);
/// Answers that speak of how we signed in (RFC 4954, section 6): permanent for the
/// connection, but not the letter's fault. An operator will mend it.
const AUTHENTICATION: [&str; 4] = ["530", "534", "535", "538"];

/// How the connection is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Begins in the clear and must change to TLS (RFC 3207); usually port 587.
    Starttls,
    /// TLS from the first byte (RFC 8314); usually port 465.
    Tls,
    /// None at all.
    Plain,
}

/// How an SMTP server is reached.
#[derive(Clone)]
pub struct SmtpSettings {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from others.
    pub tls: TlsMode,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// A PEM file of authorities that are believed besides those of browsers.
    pub authorities: Option<PathBuf>,
    /// How long the server may take for each step.
    pub timeout: Duration,
}

impl std::fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("credentials", &self.credentials.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct SendError {
    sentence: String,
    /// Whether the same letter will be refused again.
    pub permanent: bool,
}

impl SendError {
    pub(crate) fn refused(sentence: &str) -> Self {
        Self {
            sentence: sentence.to_owned(),
            permanent: true,
        }
    }
}

impl From<lettre::transport::smtp::Error> for SendError {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        let status = error.status();
        let ours = status.is_some_and(|code| AUTHENTICATION.contains(&&*code.to_string()));
        let permanent = status
            .is_some_and(|code| code.severity == Severity::PermanentNegativeCompletion && !ours);
        // The cause says what the server has answered.
        let mut sentence = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            sentence = format!("{sentence}: {next}");
            cause = next.source();
        }
        Self {
            sentence,
            permanent,
        }
    }
}

/// Takes letters.
pub struct Mailer {
    from: Mailbox,
    transport: Transport,
}

enum Transport {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Log,
}

impl Mailer {
    /// Hands letters to an SMTP server, over connections that are kept. Nothing is
    /// connected yet. The sentence of an error names what cannot be used.
    pub fn smtp(from: &str, settings: &SmtpSettings) -> Result<Self, String> {
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(settings.host.clone())
                .port(settings.port)
                .timeout(Some(settings.timeout))
                .pool_config(PoolConfig::new().max_size(CONNECTIONS).idle_timeout(IDLE));
        builder = match settings.tls {
            TlsMode::Plain => builder.tls(Tls::None),
            TlsMode::Starttls => builder.tls(Tls::Required(parameters(settings)?)),
            TlsMode::Tls => builder.tls(Tls::Wrapper(parameters(settings)?)),
        };
        if let Some((user, password)) = &settings.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self {
            from: sender(from)?,
            transport: Transport::Smtp(builder.build()),
        })
    }

    /// Writes letters into the log, whole.
    pub fn log(from: &str) -> Result<Self, String> {
        Ok(Self {
            from: sender(from)?,
            transport: Transport::Log,
        })
    }

    /// Hands a letter over. `id` makes its `Message-ID`, the same at each try, by which
    /// readers' servers know copies.
    pub async fn send(
        &self,
        letter: &Letter,
        to: &str,
        reply_to: Option<&str>,
        id: &str,
    ) -> Result<(), SendError> {
        let message = letter.message(&self.from, to, reply_to, Some(id))?;
        match &self.transport {
            Transport::Smtp(transport) => {
                transport.send(message).await?;
            }
            Transport::Log => tracing::info!(
                mail.to = to,
                mail.subject = letter.subject,
                "mail is not sent, as there is no SMTP server:\n{}",
                letter.text
            ),
        }
        Ok(())
    }
}

fn sender(from: &str) -> Result<Mailbox, String> {
    from.parse()
        .map_err(|_| format!("{from:?} is no address such as \"Acme <acme@example.org>\""))
}

fn parameters(settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(settings.host.clone())
        .certificate_store(CertificateStore::WebpkiRoots);
    if let Some(path) = &settings.authorities {
        let pem = std::fs::read(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let authority = Certificate::from_pem(&pem)
            .map_err(|error| format!("{} holds no certificate: {error}", path.display()))?;
        builder = builder.add_root_certificate(authority);
    }
    builder
        .build_rustls()
        .map_err(|error| format!("TLS for {} cannot be set up: {error}", settings.host))
}
